"""Lists of classes: names, the values that they have in label images, colours; typed, or read from files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_sammed.errors import InputError
from napari_sammed.session.roster import default_colour

_HEX = re.compile(r"#[0-9a-fA-F]{6}")
_MOST = 65535


@dataclass(frozen=True)
class ClassLabel:
    """A class.

    Parameters
    ----------
    value : int
        In label images, from 1.
    name : str
    colour : str
        ``#rrggbb``.
    """

    value: int
    name: str
    colour: str


def parse_classes(text: str) -> list[ClassLabel]:
    """Classes that a user typed: separated by commas or lines, each a name, with a value and a colour if wished.

    ``liver, spleen`` or ``2: spleen #ff8000``. Those without a value get the next one.

    Raises
    ------
    InputError
        For no class, a class or a value that is there twice, a value that label images cannot hold.
    """
    found: list[tuple[int | None, str, str]] = []
    for part in re.split(r"[,;\n]", text):
        colour = _HEX.search(part)
        rest = part.replace(colour[0], "") if colour else part
        value, colon, name = rest.rpartition(":")
        if colon and not value.strip().isdigit():
            raise InputError(f"{value.strip()!r} is no value for the class {name.strip()!r}: give a whole number.")
        if name.strip():
            found.append((int(value) if colon else None, name.strip(), colour[0].lower() if colour else ""))
    return _checked(found)


def read_classes(path: Path) -> list[ClassLabel]:
    """Classes of a file: lines of text, a JSON list of names, ``{"liver": 1}``, or ``dataset.json`` of nnU-Net.

    Raises
    ------
    InputError
        If it cannot be read, or is nothing like it.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The classes in {path} cannot be read: {error}.") from None
    if path.suffix.lower() != ".json":
        lines = (line for line in text.splitlines() if not line.lstrip().startswith("//"))
        return parse_classes("\n".join(lines))
    try:
        content = json.loads(text)
    except ValueError as error:
        raise InputError(f"{path} is no JSON: {error}.") from None
    if isinstance(content, dict) and isinstance(content.get("labels"), dict):
        content = content["labels"]
    return _checked(list(_of_json(content, path)))


def to_json(classes: Sequence[ClassLabel]) -> list[dict[str, Any]]:
    """Classes for a file."""
    return [{"value": one.value, "name": one.name, "colour": one.colour} for one in classes]


def _of_json(content: Any, path: Path) -> Iterable[tuple[int | None, str, str]]:
    if isinstance(content, list):
        for one in content:
            if isinstance(one, str):
                yield None, one, ""
            elif isinstance(one, dict) and isinstance(one.get("name"), str):
                yield one.get("value"), one["name"], one.get("colour") or one.get("color") or ""
            else:
                raise InputError(f"{path}: {one!r} is no class: give a name, or an object with a name.")
        return
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no classes: it should be a list of names, or names with their values.")
    for key, value in content.items():
        name, number = (value, key) if str(key).isdigit() else (key, value)  # both ways are in use
        if isinstance(number, list):
            raise InputError(f"{path}: the class {name!r} is a region of several values; name one for each class.")
        if not str(number).isdigit() or not isinstance(name, str):
            raise InputError(f"{path}: {key!r}: {value!r} is no class and its value.")
        if int(number) != 0:  # background
            yield int(number), name, ""


def _checked(found: Sequence[tuple[int | None, str, str]]) -> list[ClassLabel]:
    classes: list[ClassLabel] = []
    taken = {value for value, _, _ in found if value is not None}
    free = (value for value in range(1, _MOST + 1) if value not in taken)
    for given, name, colour in found:
        value = next(free) if given is None else given
        if not isinstance(value, int) or not 1 <= value <= _MOST:
            raise InputError(f"The class {name} has the value {value!r}; label images hold 1 to {_MOST}.")
        if any(other.value == value for other in classes):
            raise InputError(f"Two classes have the value {value}: give each its own.")
        if any(other.name.casefold() == name.casefold() for other in classes):
            raise InputError(f"The class {name} is there twice.")
        classes.append(ClassLabel(value, name, colour if _HEX.fullmatch(colour) else default_colour(value)))
    if not classes:
        raise InputError("There is no class: name at least one, such as liver.")
    return sorted(classes, key=lambda one: one.value)
