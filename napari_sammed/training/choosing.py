"""Which structures are learnt, and one label value for each of them in all cases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

import numpy as np

from napari_sammed.errors import InputError


def alike(name: str) -> str:
    """What names of one structure have in common: neither case, nor blanks or underscores, tell them apart."""
    return " ".join(name.replace("_", " ").split()).casefold()


def named(values: Iterable[int], names: Mapping[int, str], ignored: Sequence[int] = ()) -> dict[int, str]:
    """Structures among the label values of a case: those with a name, or all where the case has no names at all."""
    values = [value for value in values if value and value not in ignored]
    if not names:
        return {value: f"label {value}" for value in values}
    return {value: names[value] for value in values if value in names}


def chosen(structures: Mapping[int, str], wanted: Sequence[str | int]) -> dict[int, str]:
    """The structures of a case that are wanted by name, pattern (``rib_*``) or label value; all if nothing is said."""
    if not wanted:
        return dict(structures)
    keys = {alike(str(one)) for one in wanted}
    by_name = {
        value: name
        for value, name in structures.items()
        if alike(name) in keys or any(fnmatchcase(alike(name), key) for key in keys)
    }
    known = {alike(name) for name in by_name.values()}
    numbers = {int(key) for key in keys - known if key.isdigit()}
    return {value: name for value, name in structures.items() if value in by_name or value in numbers}


def merged(structures: Mapping[int, str]) -> tuple[dict[int, str], dict[int, int]]:
    """Labels of one name become one.

    Returns
    -------
    structures : dict of int to str
        The lowest value of each name, with that value's spelling.
    values : dict of int to int
        Each value to the one that it becomes.
    """
    first: dict[str, int] = {}
    for value in sorted(structures):
        first.setdefault(alike(structures[value]), value)
    values = {value: first[alike(name)] for value, name in structures.items()}
    return {value: structures[value] for value in first.values()}, values


def common_values(cases: Sequence[Mapping[int, str]], wanted: Sequence[str] = ()) -> dict[int, str]:
    """One value a structure, 1, 2, 3 and so on, for all cases.

    Parameters
    ----------
    cases : sequence of mapping of int to str
        The structures of each case.
    wanted : sequence of str
        Decides the order; else the lowest value that a structure has in any case does, and then its name.

    Returns
    -------
    dict of int to str
        Names in the spelling of most cases.
    """
    spelt: dict[str, list[str]] = {}
    places: dict[str, tuple[int, int]] = {}
    for structures in cases:
        for value, name in structures.items():
            key = alike(name)
            asked = (number for number, one in enumerate(wanted) if chosen({value: name}, (one,)))
            place = (next(asked, len(wanted)), value)
            spelt.setdefault(key, []).append(name)
            places[key] = min(place, places.get(key, place))
    keys = sorted(spelt, key=lambda key: (places[key], key))
    return {number: max(dict.fromkeys(spelt[key]), key=spelt[key].count) for number, key in enumerate(keys, 1)}


def relabelled(labels: np.ndarray, values: Mapping[int, int]) -> np.ndarray:
    """Labels with other values, of the least dtype; values that are not among them become background.

    Parameters
    ----------
    labels : ndarray of unsigned int
    values : mapping of int to int
    """
    table = np.zeros(int(labels.max(initial=0)) + 1, np.uint8 if max(values.values(), default=0) < 256 else np.uint16)
    for old, new in values.items():
        if old < len(table):
            table[old] = new
    return table[labels]


def check_known(wanted: Sequence[str], cases: Iterable[Mapping[int, str]]) -> None:
    """Refuse structures that no case has; InputError with those that there are."""
    cases = list(cases)
    for one in wanted:
        if not any(chosen(structures, (one,)) for structures in cases):
            there = sorted({name for structures in cases for name in structures.values()}, key=alike)
            more = f" and {len(there) - 20} more" if len(there) > 20 else ""
            raise InputError(f"No case has a structure {one!r}; there are: {', '.join(there[:20]) or 'none'}{more}.")
