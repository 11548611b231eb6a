"""What was learnt from, in numbers: for the cards of models and for reports. No names of patients or files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from napari_sammed.training.material import Example, Material


def summarise(material: Material, kind: str, left_out: int, voxels: Mapping[str, int]) -> dict[str, Any]:
    """Counts, ready for JSON.

    Parameters
    ----------
    material : Material
    kind : str
        What the folder was recognised as.
    left_out : int
        Cases that are not learnt from.
    voxels : mapping of str to int
        Of each structure, over all cases.

    Returns
    -------
    dict
        "source"; "cases" and "patients", by part; "left out"; "images" by kind ("flat", "volume") and "modalities";
        "voxels" of all images; "structures", a list of dicts with "name", cases by part, "voxels" and "share" of all
        voxels of the images that have it.
    """
    parts = {"train": material.train, "held_out": material.held_out}
    everything = [*material.train, *material.held_out]
    return {
        "source": kind,
        "cases": {part: len(examples) for part, examples in parts.items()},
        "patients": {part: len({example.patient for example in examples}) for part, examples in parts.items()},
        "left out": left_out,
        "images": dict(Counter("flat" if one.image.grid.ndim == 2 else "volume" for one in everything)),
        "modalities": dict(Counter(one.image.modality or "not stated" for one in everything)),
        "voxels": sum(map(_size, everything)),
        "structures": [
            _structure(name, parts, everything, voxels[name]) for name in dict.fromkeys(material.names.values())
        ],
    }


def table(summary: Mapping[str, Any]) -> str:
    """The balance of the structures as text, a line each: how often each is there, and how large it is."""
    rows = [("structure", "learnt from", "to measure with", "share of voxels")]
    rows += [
        (one["name"], str(one["train"]), str(one["held_out"]), f"{one['share']:.2%}") for one in summary["structures"]
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    )


def _structure(
    name: str, parts: Mapping[str, Sequence[Example]], everything: Sequence[Example], voxels: int
) -> dict[str, Any]:
    having = [one for one in everything if name in one.names.values()]
    counts = {part: sum(name in one.names.values() for one in examples) for part, examples in parts.items()}
    return {"name": name, **counts, "voxels": voxels, "share": voxels / max(1, sum(map(_size, having)))}


def _size(example: Example) -> int:
    return int(np.prod(example.image.grid.shape, dtype=np.int64))
