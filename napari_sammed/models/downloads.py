"""Plain downloads: an address, or a file of a model hub's repository. A broken one goes on where it stopped.

The bytes gather in ``<name>.part`` beside the target, which stays there when a download breaks off, is
cancelled or killed. A file gets its name only when its sha256 is the expected one, so it does not matter who
served which part.
"""

from __future__ import annotations

import logging
import re
from http import HTTPStatus
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from napari_sammed.errors import FetchError
from napari_sammed.models.addresses import check_address, redirects_of
from napari_sammed.models.storage import (
    Progress,
    check_cancelled,
    file_sha256,
    flush_to_disk,
    holds,
    megabytes,
    one_at_a_time,
    pause,
    put_in_place,
    storing,
)

if TYPE_CHECKING:
    import requests

logger = logging.getLogger(__name__)

_TRIES = 4  # without a single new byte
_RETRY_SECONDS = 1.0
_PIECE = 1 << 16  # small, so that slow lines show progress and a broken one loses little
_TIMEOUT = (10.0, 20.0)  # seconds to connect, seconds without a byte
_TEMPORARY = frozenset({408, 429, 500, 502, 503, 504})


class _Broken(Exception):
    """The connection ended early; what has arrived is kept."""


def fetch_hub(
    location: str,
    target: Path,
    sha256: str,
    size: int,
    progress: Progress | None = None,
    cancel: Event | None = None,
) -> Path:
    """Download ``owner/name/path`` from the model hub, with the user's login and mirror if there are any.

    The parameters and errors are those of `fetch_url`.
    """
    from huggingface_hub import get_token, hf_hub_url

    owner, name, filename = location.split("/", 2)
    token = get_token()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    url = hf_hub_url(f"{owner}/{name}", filename)
    return fetch_url(url, target, sha256, size, progress, cancel, headers=headers)


def fetch_url(
    url: str,
    target: Path,
    sha256: str,
    size: int,
    progress: Progress | None = None,
    cancel: Event | None = None,
    *,
    headers: dict[str, str] | None = None,
) -> Path:
    """Download a file of known size and sum.

    Parameters
    ----------
    url : str
        https, or http to this machine; where it redirects to is looked at, see `napari_sammed.models.addresses`.
    target : Path
        Its folder is made if it is not there. A file with the right sum is left alone.
    sha256 : str
    size : int
        Bytes; a server that sends more is cut off.
    progress : callable, optional
        Called with bytes done and bytes in all.
    cancel : threading.Event, optional
        Looked at after every piece of 64 KiB.
    headers : dict, optional
        Sent to the first host only.

    Returns
    -------
    Path
        `target`.

    Raises
    ------
    FetchError
        No network, refused, wrong size or sum, no room.
    Cancelled
        If `cancel` was set; the part stays.
    """
    check_address(url)
    part = target.with_name(f"{target.name}.part")
    with storing(target.parent), one_at_a_time(target.parent, target.name, cancel):
        if holds(target, sha256):
            return target
        resumed = _size(part) > 0
        with storing(target.parent, size - _size(part)):
            _gather(url, part, size, progress, cancel, headers or {})
            found = file_sha256(part, cancel)
            if found != sha256 and resumed:  # an older download may have been of another file
                logger.info("The continued download of %s does not fit together; starting anew", target.name)
                part.unlink()
                _gather(url, part, size, progress, cancel, headers or {})
                found = file_sha256(part, cancel)
            if found != sha256:
                part.unlink()
                raise FetchError(f"{url} gave a file with the sha256 {found} instead of {sha256}")
            put_in_place(part, target)
    return target


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _gather(
    url: str, part: Path, size: int, progress: Progress | None, cancel: Event | None, headers: dict[str, str]
) -> None:
    """Ask again, from where the last answer broke off, until the part is as long as the file."""
    import requests

    tries = 0
    while _size(part) != size:
        if _size(part) > size:
            part.unlink()
        before = _size(part)
        try:
            _continue(url, part, size, progress, cancel, headers)
        except (_Broken, requests.RequestException) as error:
            tries = 1 if _size(part) > before else tries + 1
            if tries >= _TRIES:
                raise FetchError(_complaint(url, part, size, error)) from error
            logger.info("The download of %s broke off at %s; trying again", url, megabytes(_size(part)))
            pause(_RETRY_SECONDS, cancel)


def _continue(
    url: str, part: Path, size: int, progress: Progress | None, cancel: Event | None, headers: dict[str, str]
) -> None:
    """One request for the bytes that are still missing."""
    import requests

    done = _size(part)
    asked = {**headers, "Accept-Encoding": "identity"}  # ranges count bytes of the file, not of a packed form
    if done:
        asked["Range"] = f"bytes={done}-"
    check_cancelled(cancel)
    hooks = {"response": redirects_of(url)}
    with requests.get(url, headers=asked, stream=True, timeout=_TIMEOUT, hooks=hooks) as response:
        if not _accepted(response, url, done):
            done = 0  # the server sends everything from the start
        with open(part, "ab" if done else "wb") as file:
            for chunk in response.iter_content(_PIECE):
                done += len(chunk)
                if done > size:
                    raise FetchError(f"{url} sends more than the expected {size:,} bytes")
                file.write(chunk)
                if progress is not None:
                    progress(done, size)
                check_cancelled(cancel)
            flush_to_disk(file)
    if done < size:
        raise _Broken(f"the server stopped after {done:,} bytes")


def _accepted(response: requests.Response, url: str, offset: int) -> bool:
    """Whether the answer goes on at `offset` (True) or begins at the start (False); otherwise an error."""
    status = response.status_code
    if status == HTTPStatus.PARTIAL_CONTENT:
        start = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
        if start is None or int(start[1]) != offset:
            raise FetchError(f"{url} answered with other bytes than were asked for")
        return True
    if status == HTTPStatus.OK:
        return offset == 0
    if status in _TEMPORARY:
        raise _Broken(f"the server answered {status}")
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        raise FetchError(f"{url} wants a login, or its terms accepted there first (answer {status})")
    raise FetchError(f"{url} cannot be downloaded (the server answered {status} {response.reason})")


def _complaint(url: str, part: Path, size: int, error: Exception) -> str:
    host = urlsplit(url).hostname
    if _size(part):
        return (
            f"the download from {host} broke off at {megabytes(_size(part))} of {megabytes(size)}; "
            "what has arrived is kept, so try again later"
        )
    reason = str(error) if isinstance(error, _Broken) else type(error).__name__
    return f"no network: {host} does not answer ({reason})"
