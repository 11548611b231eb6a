"""What comes back of a question: a stream of events, of which the last is the result or an error.

    {"event": "alive"}                                        nothing new; sent while nothing else is, so that both
                                                              sides know of each other
    {"event": "progress", "what": text, "share": 0..1}
    {"event": "partial", "answer": {...}}                     of a propagation
    {"event": "result", "revision": n, "answers": [...]}      predict, predict_boxes, propagate, refine
    {"event": "result", "revision": n, "labels": {...}}       automatic
    {"event": "error", "error": {"code", "message", ...}}

Events of jobs have a "number", counted from 1, by which a stream goes on that was cut off; "alive" has none. An error
that is known before the stream begins is the JSON body ``{"error": {...}}`` of a reply with the status of its code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from napari_sammed.backend.base import ClassMap, Prediction
from napari_sammed.backend.protocol import answers, values
from napari_sammed.backend.protocol.frames import Frame
from napari_sammed.backend.protocol.values import LogitsReference
from napari_sammed.errors import Cancelled, InputError, NotReady, ProtocolError, WeightsError

STATUSES = {
    "bad_request": 400,  # no frame, no question
    "unauthorized": 401,
    "forbidden_origin": 403,
    "not_found": 404,  # no such session or job, or not of this key
    "no_image": 404,  # has to be sent first
    "stale": 409,  # the session is at another revision, which "revision" says
    "rehydrate": 409,  # the session or an earlier answer is lost: the client has to open and ask again
    "cancelled": 409,
    "too_large": 413,
    "invalid": 422,  # the message is for the user
    "weights": 424,
    "not_ready": 425,
    "busy": 429,  # "retry_after" says how many seconds to wait
    "internal": 500,
    "unavailable": 503,  # shutting down or starting; "retry_after" as well
}
"""Codes of errors, and the status of a reply that says one."""


@dataclass(frozen=True)
class Failure:
    """Why a question has no answer.

    Parameters
    ----------
    code : str
        One of `STATUSES`.
    message : str
        A plain sentence.
    extras : dict
        More for some codes: "revision", "retry_after".
    """

    code: str
    message: str
    extras: dict[str, Any] = field(default_factory=dict)

    @property
    def status(self) -> int:
        """Of a reply that says it."""
        return STATUSES.get(self.code, 500)

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """What to tell the other side of an exception; of those that are not meant for users nothing."""
        match error:
            case ProtocolError():
                return cls("bad_request", str(error))
            case WeightsError():
                return cls("weights", str(error))
            case InputError():
                return cls("invalid", str(error))
            case NotReady():
                return cls("not_ready", "This is not ready yet.")
            case Cancelled():
                return cls("cancelled", "This was called off.")
        return cls("internal", "The server failed at this; its log says more.")

    def to_json(self) -> dict[str, Any]:
        return {"code": self.code, "message": self.message, **self.extras}

    @classmethod
    def from_json(cls, item: Any) -> Failure:
        """The inverse of `to_json`; ProtocolError for anything that is not one."""
        if not isinstance(item, dict):
            raise ProtocolError(f"Not an error: {str(item)[:80]}.")
        extras = {key: value for key, value in item.items() if key not in ("code", "message")}
        return cls(values.text(item.get("code"), 100), values.text(item.get("message"), 10_000), extras)


def alive() -> Frame:
    return Frame({"event": "alive"})


def progress(what: str, share: float) -> Frame:
    return Frame({"event": "progress", "what": what, "share": min(max(float(share), 0.0), 1.0)})


def partial(answer: Prediction) -> Frame:
    arrays: list[np.ndarray] = []
    return Frame({"event": "partial", "answer": answers.pack_prediction(answer, arrays)}, tuple(arrays))


def result(
    found: Prediction | Sequence[Prediction] | ClassMap, revision: int | None = None, base: Prediction | None = None
) -> Frame:
    """What a backend's method returned; `base` as for `answers.pack_prediction`, for a single answer."""
    arrays: list[np.ndarray] = []
    header: dict[str, Any] = {"event": "result", **({} if revision is None else {"revision": revision})}
    if isinstance(found, ClassMap):
        header["labels"] = answers.pack_class_map(found, arrays)
    else:
        several = [found] if isinstance(found, Prediction) else found
        header["answers"] = [answers.pack_prediction(answer, arrays, base) for answer in several]
    return Frame(header, tuple(arrays))


def error(failure: Failure) -> Frame:
    return Frame({"event": "error", "error": failure.to_json()})


def numbered(frame: Frame, number: int) -> Frame:
    """The event as one of a job."""
    return Frame(frame.header | {"number": number}, frame.arrays)


def read_progress(frame: Frame) -> tuple[str, float]:
    """What is being done, and the fraction done."""
    share = frame.header.get("share")
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
        raise ProtocolError(f"Not a fraction: {str(share)[:80]}.")
    return values.text(frame.header.get("what")), float(share)


def read_partial(frame: Frame) -> Prediction:
    """A part of an answer."""
    return answers.unpack_prediction(frame.header.get("answer"), frame.arrays)


def read_answers(frame: Frame, request_id: str, base: Prediction | None = None) -> list[Prediction]:
    """The answers of a result; their logits refer to the request."""
    items = frame.header.get("answers")
    if not isinstance(items, list):
        raise ProtocolError(f"Not a list of answers: {str(items)[:80]}.")
    return [
        answers.unpack_prediction(item, frame.arrays, LogitsReference(request_id, number), base)
        for number, item in enumerate(items)
    ]


def read_labels(frame: Frame) -> ClassMap:
    """The label map of a result."""
    return answers.unpack_class_map(frame.header.get("labels"), frame.arrays)


def read_revision(frame: Frame) -> int | None:
    """The revision of the session after a result, where it is said."""
    revision = frame.header.get("revision")
    return None if revision is None else values.whole(revision)
