"""Names of the classes of an automatic model, from a small text file beside its weights."""

from __future__ import annotations

from pathlib import Path

from napari_sammed.errors import WeightsError

SYNAPSE = ("spleen", "right kidney", "left kidney", "gallbladder", "liver", "stomach", "aorta", "pancreas")
"""The eight organs that SAMed was published for, in the order of its labels."""


def names_file(weights: Path) -> Path:
    """Where the names of a weight file's classes are looked for: ``epoch_159.classes.txt`` beside ``epoch_159.pth``."""
    return weights.with_name(f"{weights.stem}.classes.txt")


def class_names(weights: Path, count: int) -> tuple[str, ...]:
    """Names of classes 1 to `count`; the background has none.

    One name a line, in the order of the labels. Without such a file, eight classes are those of `SYNAPSE`, others are
    numbered.

    Raises
    ------
    WeightsError
        If the file cannot be read, or has another number of names.
    """
    path = names_file(weights)
    try:
        names = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    except FileNotFoundError:
        return SYNAPSE if count == len(SYNAPSE) else tuple(f"class {number}" for number in range(1, count + 1))
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(f"cannot read the class names {path}: {type(error).__name__}") from error
    if len(names) != count:
        raise WeightsError(
            f"{path} has {len(names)} names, but {weights.name} has {count} classes (the background is not counted): "
            "give it one name a line"
        )
    return names
