"""Protocols by name: what a simulated user begins with, how mistakes are corrected, how often, and what is reported.

Beside those of publications, any beginning goes with any correction: ``random+middle``, ``jittered-box+anywhere:10``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

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
    skipped : int
        Rounds at the beginning that the areas under the curves leave out.
    undivided : bool
        Whether these areas are as large as they are, instead of means over their rounds.
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
    skipped: int = 0
    undivided: bool = False
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
        users.challenge_mistake,
        6,
        skipped=1,
        undivided=True,
        source=(
            "The box spans all slices, as large as the structure on its middle slice; clicks are deepest inside of "
            "the largest connected mistake of either kind, in voxels. Areas are over the five clicks, undivided: 4 at "
            "most. Means are over structures, the challenge's over cases; it also counts a surface Dice as 0 where "
            "the Dice of a case is 0.2 or less."
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

BEGINNINGS: Mapping[str, tuple[str, Rule]] = {
    "innermost": ("a click on the innermost voxel", users.innermost_point),
    "random": ("a click anywhere in the structure", users.uniform_point),
    "box": ("a tight box", users.box()),
    "jittered-box": ("a box moved by up to 5 voxels", users.box(shift=5)),
    "stroke": ("a stroke along the middle", users.centre_line),
}
CORRECTIONS: Mapping[str, tuple[str, Rule]] = {
    "middle": ("a click in the middle of the largest mistake", users.largest_mistake),
    "anywhere": ("a click anywhere in the mistakes", users.any_mistake),
    "deep": ("a click deep inside of the larger kind of mistake", users.deep_mistake),
    "stroke": ("a stroke along the largest mistake", users.stroke_mistake),
}
_COMPOSED = re.compile(r"(?P<begin>[a-z-]+)\+(?P<correct>[a-z-]+)(?::(?P<rounds>[1-9]\d?))?")


def protocol(name: str, tolerance: float | None = None) -> Protocol:
    """A protocol by name, or one composed of a beginning and a correction.

    Parameters
    ----------
    name : str
        A key of `PROTOCOLS`, or ``BEGINNING+CORRECTION`` with keys of `BEGINNINGS` and `CORRECTIONS`; ``:N`` after it
        asks for N prompts (1 to 99) instead of five.
    tolerance : float, optional
        mm, of the surface Dice, if it is to be another one than the protocol's; its name then says so.

    Raises
    ------
    InputError
        If there is none of that name, or for a tolerance that is no distance.
    """
    chosen = PROTOCOLS.get(name) or _composed(name)
    if tolerance is None or tolerance == chosen.tolerance:
        return chosen
    if not 0 < tolerance < float("inf"):
        raise InputError(f"The tolerance of the surface Dice has to be more than 0 mm, not {tolerance:g}.")
    return replace(chosen, name=f"{chosen.name}, {tolerance:g} mm", tolerance=tolerance)


def _composed(name: str) -> Protocol:
    match = _COMPOSED.fullmatch(name)
    if match is None or match["begin"] not in BEGINNINGS or match["correct"] not in CORRECTIONS:
        raise InputError(
            f"There is no protocol {name!r}: choose one of {', '.join(PROTOCOLS)}, or compose one, as in "
            f"random+middle:7, of {', '.join(BEGINNINGS)} and {', '.join(CORRECTIONS)}."
        )
    rounds = int(match["rounds"] or 5)
    begin, correct = BEGINNINGS[match["begin"]], CORRECTIONS[match["correct"]]
    title = f"{begin[0][0].upper()}{begin[0][1:]}, then {correct[0]}; {rounds} prompts"
    return Protocol(name, title, begin[1], correct[1], rounds, source="Composed of a beginning and a correction.")
