"""Where a server is and the key to it; the key is in no file of ours."""

from __future__ import annotations

import ipaddress
import os
from urllib.parse import SplitResult, urlsplit

from napari_sammed.errors import InputError

SERVICE = "napari-sammed"
"""Under which the system keeps keys, with the address of the server as user name."""

VARIABLE = "NAPARI_SAMMED_KEY"
"""The environment variable with a key."""


def checked_url(url: str, insecure: bool = False) -> str:
    """The address of a server, without what does not belong to it.

    Parameters
    ----------
    url : str
        ``https://host``, ``http://localhost:8765``, with a path if the server is behind others at one address.
    insecure : bool
        Take ``http`` to other machines as well.

    Raises
    ------
    InputError
    """
    parts = _split(url.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(f"{url!r} is no address of a server: it looks like https://host or http://localhost:8765.")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise InputError("The address of a server has no user, password, query or fragment in it.")
    if parts.scheme == "http" and not insecure and not is_loopback(parts.hostname):
        raise InputError(
            f"Over http everybody between here and {parts.hostname} can read the images and the key: use https, or a "
            "tunnel (ssh -L 8765:localhost:8765), or say that you accept it (insecure)."
        )
    return f"{parts.scheme}://{parts.netloc.lower()}{parts.path.rstrip('/')}"


def host_of(url: str) -> str:
    """Host and port, for people."""
    return _split(url).netloc


def is_loopback(host: str) -> bool:
    """Whether a name means this machine, for sure and without asking anybody."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def find_key(url: str) -> str | None:
    """The key to a server: what the system's keyring has for its address, else the variable `VARIABLE`."""
    return _from_keyring(url) or os.environ.get(VARIABLE) or None


def keep_key(url: str, key: str) -> None:
    """Put a key into the system's keyring; InputError where there is none."""
    try:
        import keyring

        keyring.set_password(SERVICE, url, key)
    except Exception as error:
        raise InputError(
            f"The system has no place for keys ({type(error).__name__}): put the key into the environment variable "
            f"{VARIABLE}."
        ) from None


def forget_key(url: str) -> None:
    """Take a key out of the system's keyring; nothing where there is none."""
    try:
        import keyring

        keyring.delete_password(SERVICE, url)
    except Exception:  # not installed, a system without, or no such key: it is not there any more
        return


def keeps_keys() -> bool:
    """Whether the system has a place for keys; may wait for the system, so not for a thread that must not."""
    try:
        import keyring
        from keyring.backends import fail, null

        return not isinstance(keyring.get_keyring(), fail.Keyring | null.Keyring)
    except Exception:
        return False


def _from_keyring(url: str) -> str | None:
    try:
        import keyring

        return keyring.get_password(SERVICE, url)
    except Exception:  # not installed, or a system without: then there is no key in it
        return None


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018, a number or an error
        return parts
    except ValueError as error:
        raise InputError(f"{url!r} is no address of a server: {error}.") from None
