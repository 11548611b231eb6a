"""Learning rates, step by step."""

from __future__ import annotations

import math
from collections.abc import Sequence


def polynomial(
    step: int, base: float, steps: int, *, warm_up: int = 0, exponent: float = 0.9, late: bool = False
) -> float:
    """A rate that rises in a straight line, and then falls as a power of what is left.

    Parameters
    ----------
    step : int
        0-based.
    base : float
        The highest rate.
    steps : int
        After which it would be 0, counted from the end of the rise.
    warm_up : int
        Steps of the rise.
    exponent : float
        Of the fall; SAMed 0.9, with ViT-H 7.
    late : bool
        As the published code of SAMed does it, where a step uses the rate that was set after the one before it
        (reference sheet ``samed``, section 5).

    Returns
    -------
    float
    """
    if late:
        if step == 0:
            return base / warm_up if warm_up else base
        step -= 1
    if step < warm_up:
        return base * (step + 1) / warm_up
    return base * max(0.0, 1 - (step - warm_up) / steps) ** exponent


def cosine(step: int, base: float, steps: int, *, warm_up: int = 0, least: float = 0.01) -> float:
    """A rate that falls as half a cosine, and rises in a straight line meanwhile.

    Parameters
    ----------
    step : int
        0-based.
    base : float
        What it falls from.
    steps : int
        Of the fall, from the first step on; later ones have the lowest rate.
    warm_up : int
        Steps of the rise.
    least : float
        Share of `base` that is added throughout.
    """
    fall = 0.5 * (1 + math.cos(math.pi * min(step / steps, 1))) + least
    return base * min(1.0, (step + 1) / max(warm_up, 1)) * fall


def stepped(step: int, base: float, steps: int, *, falls: Sequence[float], times: float = 0.1) -> float:
    """A rate that falls at once, and again, as SAM-Med3D's does (reference sheet ``sam_med3d``, section 8).

    Parameters
    ----------
    step : int
        0-based.
    base : float
        The first rate.
    steps : int
        Of the whole run.
    falls : sequence of float
        When it falls, as shares of the run.
    times : float
        What it is multiplied with each time.

    Returns
    -------
    float
    """
    return base * times ** sum(step >= round(share * steps) for share in falls)


def warmed_cosine(step: int, base: float, steps: int, *, warm_up: int = 0) -> float:
    """A rate that rises in a straight line, and then falls to 0 as half a cosine, as SegVol's does (sheet, section 7).

    Parameters
    ----------
    step : int
        0-based.
    base : float
        The highest rate.
    steps : int
        After which it would be 0, those of the rise among them.
    warm_up : int
        Steps of the rise.

    Returns
    -------
    float
    """
    if step < warm_up:
        return base * (step + 1) / warm_up
    return base * (1 + math.cos(math.pi * min(1.0, (step - warm_up) / max(steps - warm_up, 1)))) / 2
