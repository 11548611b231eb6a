"""The data folder that ingress and replicas share, on one machine or on several.

A secret in it shows two things: that a replica sees the same folder as the ingress, and that a request to a replica
comes from the ingress. It is in no settings and no messages of Ray.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from napari_sammed.errors import InputError

_NAME = "cluster"


def prepare(data: Path) -> None:
    """Make the folder, with a secret, if that is not done yet.

    Raises
    ------
    InputError
    """
    path = data / _NAME
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = path.with_name(f".{_NAME}.{os.getpid()}.new")
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(secrets.token_hex(32))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)  # whole, or not at all, and never over one that is there
        except FileExistsError:
            pass
        finally:
            temporary.unlink()
    except OSError as error:
        raise InputError(f"The folder {data} cannot be used: {error.strerror}.") from None


def secret(data: Path) -> str:
    """What `prepare` has made.

    Raises
    ------
    InputError
        Where the folder is not the one that was prepared.
    """
    try:
        return (data / _NAME).read_text(encoding="ascii")
    except (OSError, ValueError):
        raise InputError(
            f"The folder {data} is not the server's on this machine: all machines of the cluster need it, at the same "
            "path, with the right to write."
        ) from None
