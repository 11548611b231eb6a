"""What a server answers when it does not do what it is asked; each with a code that programs can go by."""

from __future__ import annotations

import logging
import traceback
from typing import Any

from napari_sammed.backend.protocol.events import STATUSES, Failure
from napari_sammed.errors import SessionDamagedError, SessionInUseError, SessionUnwritableError

_log = logging.getLogger(__name__)

STATUS = STATUSES | {
    "method_not_allowed": 405,
    "too_slow": 408,
    "unsupported_media": 415,
    "headers_too_large": 431,
    "no_room": 507,
}
"""HTTP status by code: the protocol's own, and those that only a server of pages knows."""


class Refusal(Exception):
    """A request that is not carried out.

    Parameters
    ----------
    code : str
        A key of `STATUS`.
    message : str
        A sentence for the user; says nothing of the server's files or of other clients.
    extras : Any
        What programs need beside the code, such as the current revision.
    """

    def __init__(self, code: str, message: str, **extras: Any) -> None:
        super().__init__(message)
        self.failure = Failure(code, message, extras)

    @property
    def status(self) -> int:
        return STATUS[self.failure.code]

    @property
    def body(self) -> dict[str, Any]:
        """As clients get it."""
        return {"error": self.failure.to_json()}

    @property
    def headers(self) -> dict[str, str]:
        wait = self.failure.extras.get("retry_after")
        return {} if wait is None else {"retry-after": str(wait)}


def refusal_of(error: BaseException) -> Refusal:
    """What an exception means to a client; "internal" for a defect of ours, and nothing about it."""
    match error:
        case Refusal():
            return error
        case SessionInUseError():
            return Refusal("unavailable", "Another part of the server has the session yet: try again.", retry_after=1)
        case SessionUnwritableError() | OSError():  # whose sentences name files of the server
            return Refusal("no_room", "The server cannot write to its disk: tell whoever runs it. Nothing is lost.")
        case SessionDamagedError():
            return rehydrate()
    failure = Failure.of(error)
    return Refusal(failure.code, failure.message, **failure.extras)


def noted(error: BaseException) -> Refusal:
    """As `refusal_of`; of a defect, type and place are written to the log, and none of the values it speaks of."""
    refusal = refusal_of(error)
    if refusal.failure.code == "internal":
        where = "; ".join(f"{f.filename}:{f.lineno} {f.name}" for f in traceback.extract_tb(error.__traceback__))
        _log.error("A defect: %s at %s", type(error).__name__, where)
    elif refusal.failure.code == "no_room":
        _log.error("No room to write: %s", type(error).__name__)
    return refusal


def rehydrate() -> Refusal:
    """For sessions and answers of which nothing is here (any more)."""
    return Refusal(
        "rehydrate", "The server does not know this session: open a new one and ask again what the answer builds on."
    )


def not_found(what: str) -> Refusal:
    """For what is not here, and for what belongs to somebody else."""
    return Refusal("not_found", f"There is no such {what}.")
