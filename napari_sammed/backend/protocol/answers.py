"""Answers of a backend as JSON and arrays; logits stay at the server, and are spoken of by reference."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_sammed.backend.base import ClassMap, Prediction
from napari_sammed.backend.protocol import values
from napari_sammed.backend.protocol.values import Arrays, LogitsReference
from napari_sammed.errors import ProtocolError
from napari_sammed.geometry import Box, Region
from napari_sammed.models.base import Logits


@dataclass(frozen=True)
class RemoteLogits(Logits):
    """Logits that stay at the server: everything but their values, which are NaN here and take no memory.

    Parameters
    ----------
    values, region, score, alternatives
        See `napari_sammed.models.base.Logits`; the shape of `values` is true.
    reference : LogitsReference
    """

    reference: LogitsReference = dataclasses.field(default=LogitsReference(""), kw_only=True)


def pack_prediction(answer: Prediction, arrays: list[np.ndarray], base: Prediction | None = None) -> dict[str, Any]:
    """An answer without the values of its logits.

    Parameters
    ----------
    answer : Prediction
    arrays : list of ndarray
        The mask is appended to it.
    base : Prediction or None
        An answer that the other side has: where they differ in a smaller part than the object only that is sent.
    """
    logits = answer.logits
    return {
        **_pack_found(answer, arrays, base),
        "box": values.box_to_json(answer.box),
        "scope": values.box_to_json(answer.scope),
        "score": values.number_to_json(answer.score),
        "model": answer.model,
        "weights_hash": answer.weights_hash,
        "reductions": list(answer.reductions),
        "slice_scores": [[index, values.number_to_json(score)] for index, score in answer.slice_scores.items()],
        "axis": answer.axis,
        "silent": [values.box_to_json(box) for box in answer.silent],
        "seconds": {step: values.number_to_json(seconds) for step, seconds in answer.seconds.items()},
        "logits": None
        if logits is None
        else {
            "box": values.box_to_json(logits.region.box),
            "grid": values.grid_to_json(logits.region.grid),
            "shape": list(logits.values.shape),
            "score": values.number_to_json(logits.score),
        },
        "alternatives": [pack_prediction(other, arrays) for other in answer.alternatives],
    }


@values.checked
def unpack_prediction(
    item: Any, arrays: Arrays, reference: LogitsReference | None = None, base: Prediction | None = None
) -> Prediction:
    """The inverse of `pack_prediction`.

    Parameters
    ----------
    item : dict
    arrays : sequence of ndarray
    reference : LogitsReference or None
        Of the first reading, for logits, which become `RemoteLogits`; None leaves them out.
    base : Prediction or None
        As it was packed with.
    """
    logits = item["logits"]
    if logits is not None and reference is not None:
        shape = tuple(values.whole(size) for size in logits["shape"])
        logits = RemoteLogits(
            np.broadcast_to(np.float32(np.nan), shape),
            Region(values.box_from_json(logits["box"]), values.grid_from_json(logits["grid"])),
            values.number_from_json(logits["score"]),
            reference=reference,
        )
    box, axis = values.box_from_json(item["box"]), item["axis"]
    return Prediction(
        _unpack_found(item, box, arrays, base),
        box,
        values.box_from_json(item["scope"]),
        values.number_from_json(item["score"]),
        values.text(item["model"]),
        values.text(item["weights_hash"]),
        tuple(values.text(sentence, 10_000) for sentence in item["reductions"]),
        logits if reference is not None else None,
        {values.whole(index): values.number_from_json(score) for index, score in item["slice_scores"]},
        None if axis is None else values.whole(axis),
        tuple(values.box_from_json(silent) for silent in item["silent"]),
        {values.text(step): values.number_from_json(seconds) for step, seconds in item["seconds"].items()},
        tuple(
            unpack_prediction(
                other, arrays, None if reference is None else dataclasses.replace(reference, reading=number)
            )
            for number, other in enumerate(item["alternatives"], 1)
        ),
    )


def pack_class_map(found: ClassMap, arrays: list[np.ndarray]) -> dict[str, Any]:
    arrays.append(found.labels)
    return {
        "array": len(arrays) - 1,
        "box": values.box_to_json(found.box),
        "classes": list(found.classes),
        "model": found.model,
        "weights_hash": found.weights_hash,
        "notes": list(found.notes),
        "seconds": {step: values.number_to_json(seconds) for step, seconds in found.seconds.items()},
    }


@values.checked
def unpack_class_map(item: Any, arrays: Arrays) -> ClassMap:
    box, labels = values.box_from_json(item["box"]), values.array_at(item["array"], arrays)
    classes = tuple(values.text(name) for name in item["classes"])
    if labels.dtype != np.uint8 or labels.shape != box.shape or labels.max() > len(classes):
        raise ProtocolError(f"A label map of {len(classes)} classes does not fit {labels.dtype} of {labels.shape}.")
    seconds = {values.text(step): values.number_from_json(value) for step, value in item["seconds"].items()}
    notes = tuple(values.text(sentence, 10_000) for sentence in item["notes"])
    return ClassMap(labels, box, classes, values.text(item["model"]), values.text(item["weights_hash"]), notes, seconds)


def _pack_found(answer: Prediction, arrays: list[np.ndarray], base: Prediction | None) -> dict[str, Any]:
    """The mask: all of it, or the part in which it differs from the base."""
    if base is not None and base.box.ndim == answer.box.ndim:
        frame = answer.box.union(base.box)
        if math.prod(frame.shape) <= 4 * math.prod(answer.box.shape):  # else they are far apart
            mask = _placed(answer.mask, answer.box, frame)
            changed = Box.of_mask(mask != _placed(base.mask, base.box, frame))
            if changed is None:
                return {"changed": None}
            if math.prod(changed.shape) < math.prod(answer.box.shape):
                arrays.append(mask[changed.slices])
                return {"changed": values.box_to_json(changed.shift(frame.low)), "array": len(arrays) - 1}
    arrays.append(answer.mask)
    return {"array": len(arrays) - 1}


def _unpack_found(item: dict[str, Any], box: Box, arrays: Arrays, base: Prediction | None) -> np.ndarray:
    part = values.array_at(item["array"], arrays) if "array" in item else None
    if "changed" in item:
        if base is None:
            raise ProtocolError("An answer says only where it differs from one that is not known here.")
        frame = box.union(base.box)
        if math.prod(frame.shape) > 4 * math.prod(box.shape):
            raise ProtocolError(f"An answer in {box} cannot be told by its difference from one in {base.box}.")
        mask = _placed(base.mask, base.box, frame)
        if item["changed"] is not None:
            where = values.box_from_json(item["changed"])
            if part is None or where.intersect(frame) != where or part.shape != where.shape:
                raise ProtocolError(f"The difference of an answer does not fit its box {where}.")
            mask[where.shift([-lo for lo in frame.low]).slices] = part
        part = mask[box.shift([-lo for lo in frame.low]).slices].copy()
    if part is None or part.dtype != bool or part.shape != box.shape:
        raise ProtocolError(f"The mask of an answer does not fit its box from {box.low} to {box.high}.")
    return part


def _placed(mask: np.ndarray, box: Box, frame: Box) -> np.ndarray:
    placed = np.zeros(frame.shape, bool)
    placed[box.shift([-lo for lo in frame.low]).slices] = mask
    return placed
