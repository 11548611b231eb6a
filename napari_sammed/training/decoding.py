"""One case made ready: read, checked, its labels brought onto the image's grid, cleaned, and kept in the cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from napari_sammed.backend.base import Cancel
from napari_sammed.errors import Cancelled
from napari_sammed.geometry import Grid
from napari_sammed.training.array_cache import ArrayCache, Kept, state_of
from napari_sammed.training.checking import read_case
from napari_sammed.training.choosing import alike, merged, relabelled
from napari_sammed.training.cleaning import Rules, clean
from napari_sammed.training.problems import Problem
from napari_sammed.training.sources import Source
from napari_sammed.volume import Volume, resample_labels

_TOLD = 3  # masks that are named where none is left


@dataclass(frozen=True, eq=False)
class Decoded:
    """A case with values of its own.

    Parameters
    ----------
    case : Source
    image : Volume
        Its array lies in the cache.
    labels : ndarray of uint8 or uint16
        On the image's grid, in the cache.
    structures : mapping of int to str
        What label values are called.
    known : mapping of int to str
        All structures of the case before some were chosen and cleaned.
    places : mapping of int to ndarray of int
        Label value to the indices along axis 0 at which it is.
    voxels : mapping of int to int
        How many a label value has.
    image_hash : str
    made_of : str
        Sum over its files and the options.
    problems : tuple of Problem
        None of them fatal.
    remarks : tuple of str
        What cleaning did.
    """

    case: Source
    image: Volume
    labels: np.ndarray
    structures: Mapping[int, str]
    known: Mapping[int, str]
    places: Mapping[int, np.ndarray]
    voxels: Mapping[int, int]
    image_hash: str
    made_of: str
    problems: tuple[Problem, ...]
    remarks: tuple[str, ...]


def decode(
    case: Source, wanted: Sequence[str], rules: Rules | None, cache: ArrayCache, cancel: Cancel | None = None
) -> Decoded | tuple[Problem, ...]:
    """A case from the cache, or else from its files.

    Parameters
    ----------
    case : Source
    wanted : sequence of str
        Names or label values of structures; empty for all.
    rules : Rules, optional
        Cleans masks of volumes.
    cache : ArrayCache
    cancel : Event, optional

    Returns
    -------
    Decoded
        Or all problems of a case that nothing can be learnt from.

    Raises
    ------
    InputError
        If the cache cannot be written.
    Cancelled
    """
    files = (case.image, case.labels, *case.more)
    about = {"names": {str(value): name for value, name in case.names.items()}, "ignored": case.ignored}
    about |= {"frame": case.frame, "series": case.series, "hash": case.image_hash, "wanted": [*wanted]}
    about |= {"modality": case.modality, "rules": None if rules is None else asdict(rules)}
    try:
        made_of = state_of(files, about)
    except OSError as error:
        return (Problem("unreadable image", case.image, f"it cannot be read: {error.strerror or error}."),)
    kept = cache.find(case.name, made_of)
    if kept is None:
        read = read_case(case, wanted, cancel)
        if read.image is None or read.labels is None or not read.usable:
            return read.problems
        check(cancel)
        labels, structures = _on_grid(read.labels, read.image.grid, read.structures)
        remarks: list[str] = []
        if rules is not None and labels.ndim == 3:
            labels, structures, remarks = _cleaned(case.name, labels, structures, read.image.grid, rules, cancel)
        problems = list(read.problems)
        noted, structures = _noted(read.image, labels, structures)
        if not structures:
            why = " ".join(remarks[:_TOLD]) or "None of its labels has a voxel on the image's grid."
            more = f" And {len(remarks) - _TOLD} more." if len(remarks) > _TOLD else ""
            return (*problems, Problem("nothing left", case.labels, f"nothing is left to learn from. {why}{more}"))
        noted |= {"problems": [(p.kind, files.index(p.file), p.message) for p in problems], "remarks": remarks}
        noted |= {"known": {str(value): name for value, name in read.known.items()}}
        noted |= {"modality": case.modality or read.image.modality}
        check(cancel)
        kept = cache.keep(case.name, made_of, {"image": read.image.array, "labels": labels}, noted)
    return _decoded(case, kept, made_of)


def check(cancel: Cancel | None) -> None:
    """Stop if that is wished."""
    if cancel is not None and cancel.is_set():
        raise Cancelled


def _on_grid(labels: Volume, grid: Grid, structures: Mapping[int, str]) -> tuple[np.ndarray, dict[int, str]]:
    """Labels on the image's grid, one value for each name, everything else background."""
    whole = labels if labels.dtype.kind == "u" else Volume(labels.array.astype(np.uint16), labels.grid)
    array = whole.array if grid.ndim == 2 else resample_labels(whole, grid)  # pictures lie on each other as they are
    names, values = merged(structures)
    return relabelled(array, values), names


def _cleaned(
    case: str, labels: np.ndarray, structures: Mapping[int, str], grid: Grid, rules: Rules, cancel: Cancel | None
) -> tuple[np.ndarray, dict[int, str], list[str]]:
    """Masks that went through the four steps; of two halves the second one gets a value of its own."""
    found = np.zeros(labels.shape, np.uint16)
    names: dict[int, str] = {}
    remarks = []
    free = max(structures) + 1
    for value, name in structures.items():
        check(cancel)
        for number, one in enumerate(clean(labels == value, name, grid, rules)):
            if one.remark:
                what = "is left out, since " if one.mask is None else ""
                remarks.append(f"{case}: {one.name} {what or 'was cleaned: '}{one.remark}.")
            if one.mask is not None:
                own = value if number == 0 else free
                free += number > 0
                found[one.mask] = own
                names[own] = one.name
    return found if free > 256 else found.astype(np.uint8), names, remarks


def _noted(image: Volume, labels: np.ndarray, structures: Mapping[int, str]) -> tuple[dict[str, Any], dict[int, str]]:
    """What the cache has to know beside the arrays, and the structures that have a voxel."""
    flat = labels.ndim == 2
    counts = np.stack([np.bincount(part.ravel(), minlength=max(structures, default=0) + 1) for part in labels])
    there = {value: name for value, name in structures.items() if counts[:, value].any()}
    grid = image.grid
    noted = {
        "shape": grid.shape,
        "spacing": grid.spacing,
        "origin": grid.origin,
        "direction": grid.direction,
        "hash": image.hash,
        "structures": {str(value): name for value, name in there.items()},
        "voxels": {str(value): int(counts[:, value].sum()) for value in there},
        "places": {} if flat else {str(value): np.flatnonzero(counts[:, value]).tolist() for value in there},
    }
    return noted, there


def _decoded(case: Source, kept: Kept, made_of: str) -> Decoded:
    about = kept.about
    grid = Grid(*(about[name] for name in ("shape", "spacing", "origin", "direction")), mirrored=True)
    files = (case.image, case.labels, *case.more)
    return Decoded(
        case,
        Volume(kept.arrays["image"], grid, case.name, about["modality"]),
        kept.arrays["labels"],
        {int(value): name for value, name in about["structures"].items()},
        {int(value): name for value, name in about["known"].items()},
        {int(value): np.array(places) for value, places in about["places"].items()},
        {int(value): count for value, count in about["voxels"].items()},
        about["hash"],
        made_of,
        tuple(Problem(kind, files[number], message) for kind, number, message in about["problems"]),
        tuple(about["remarks"]),
    )


def values_in(one: Decoded, common: Mapping[int, str]) -> dict[int, int]:
    """Each label value of a case, and the one that its structure has in all cases."""
    by_name = {alike(name): value for value, name in common.items()}
    return {value: by_name[alike(name)] for value, name in one.structures.items()}


def with_values(one: Decoded, common: Mapping[int, str], cache: ArrayCache) -> tuple[np.ndarray, dict[int, int]]:
    """The labels of a case with the values that all cases share, from the cache or made and kept there.

    Parameters
    ----------
    one : Decoded
    common : mapping of int to str
        See `napari_sammed.training.choosing.common_values`.
    cache : ArrayCache

    Returns
    -------
    labels : ndarray of uint8 or uint16
    values : dict of int to int
        Own value to common value.

    Raises
    ------
    InputError
        If the cache cannot be written.
    """
    values = values_in(one, common)
    if all(value == own for own, value in values.items()):
        return one.labels, values
    name = f"{one.case.name}/common values"
    made_of = state_of((), [one.made_of, sorted(values.items())])
    kept = cache.find(name, made_of)
    if kept is None:
        kept = cache.keep(name, made_of, {"labels": relabelled(one.labels, values)}, {})
    return kept.arrays["labels"], values
