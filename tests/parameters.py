"""Many parameters of a test, of which few are tried each time."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def few(parameters: Iterable[Any], *, tried: Collection[int]) -> list[Any]:
    """Parameters of which the default run tries those at some places, and ``-m full`` the others.

    Parameters
    ----------
    parameters : iterable
        Each a value, or a tuple of them for a test that takes several.
    tried : collection of int
        The places, from 0 on: fixed, and such that what they have differs in as much as possible.
    """

    def param(place: int, values: Any) -> Any:
        marks = () if place in tried else (pytest.mark.full,)
        return pytest.param(*(values if isinstance(values, tuple) else (values,)), marks=marks)

    return [param(place, values) for place, values in enumerate(parameters)]
