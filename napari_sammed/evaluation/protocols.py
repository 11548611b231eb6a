"""Protocols by name: what a simulated user begins with, how mistakes are corrected, how often, and what is reported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from napari_sammed.errors import InputError
from napari_sammed.evaluation import users
from napari_sammed.evaluation.users import Rule


@dataclass(frozen=True)
class Protocol:
    """A way of measuring an interactive model.

    Parameters
    ----------
    name, title : str
    begin : Rule
        Gives the first prompt.
    correct : Rule
        Gives every further one.
    rounds : int
        Prompts at most, the first one included. A user whose mask is right stops.
    flat : bool
        Of a volume, only the slice with most of a structure is looked at, as a flat image.
    tolerance : float
        mm, of the surface Dice.
    best : bool
        Whether the summary takes the best round instead of the last one.
    source : str
        Where the protocol comes from, and in what it differs from it.
    """

    name: str
    title: str
    begin: Rule
    correct: Rule
    rounds: int
    flat: bool = False
    tolerance: float = 2.0
    best: bool = False
    source: str = ""


_ALL = (
    Protocol(
        "clicks",
        "Five clicks, each in the middle of the largest mistake",
        users.innermost_point,
        users.largest_mistake,
        5,
        source="Deterministic: the first click is on the innermost voxel of the structure.",
    ),
    Protocol(
        "strokes",
        "Five strokes, each along the middle of the largest mistake",
        users.centre_line,
        users.stroke_mistake,
        5,
        source="Deterministic: along the longest way through the skeleton.",
    ),
    Protocol(
        "cvpr2025",
        "Challenge on interactive 3D segmentation (CVPR 2025): a box, then five clicks",
        users.middle_slice_box,
        users.largest_mistake,
        6,
        source=(
            "The box spans all slices, as large as the structure on its middle slice; clicks are on the innermost "
            "voxel of the largest piece of mistake. Tolerance 2 mm. Areas under the curve are over all six answers and "
            "divided by their number less one, the challenge's over the five clicks and undivided."
        ),
    ),
    Protocol(
        "sam-med3d",
        "SAM-Med3D: five clicks anywhere in the mistakes",
        users.uniform_point,
        users.any_mistake,
        5,
        tolerance=1.0,
        best=True,
        source="The authors report the best of all rounds, and surface Dice at 1 mm.",
    ),
    Protocol(
        "ritm",
        "Five clicks deep inside of the larger mistake",
        users.uniform_point,
        users.deep_mistake,
        5,
        source="The other rule of SAM-Med3D's inference module, after RITM.",
    ),
    Protocol(
        "sam-med2d-points",
        "SAM-Med2D: five clicks anywhere in the mistakes, on one slice",
        users.uniform_point,
        users.any_mistake,
        5,
        flat=True,
        source="Clicks accumulate. The authors evaluate every slice, this the one with most of the structure.",
    ),
    Protocol(
        "sam-med2d-box",
        "SAM-Med2D: a box on one slice, then four clicks anywhere in the mistakes",
        users.box(),
        users.any_mistake,
        5,
        flat=True,
        source="The box is not jittered in the authors' evaluation. The slice with most of the structure.",
    ),
    Protocol(
        "medsam",
        "MedSAM: a box on one slice",
        users.box(grow=5),
        users.any_mistake,
        1,
        flat=True,
        source=(
            "Sides moved outwards by 0 to 5 pixels of the image (in training up to 20 of 1024, which is as much for "
            "images of 256). The slice with most of the structure."
        ),
    ),
)
PROTOCOLS: Mapping[str, Protocol] = {protocol.name: protocol for protocol in _ALL}


def protocol(name: str) -> Protocol:
    """A protocol by name; InputError if there is none."""
    if name not in PROTOCOLS:
        raise InputError(f"There is no protocol {name!r}: choose one of {', '.join(PROTOCOLS)}.")
    return PROTOCOLS[name]
