"""The table of what a monkey can do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.monkey.monkey import Monkey


@dataclass(frozen=True)
class Act:
    """Something to do: how often, whether an open session is needed, and how; it says what it did, None for nothing."""

    name: str
    weight: float
    session: bool
    do: Callable[[Monkey], str | None]


ACTS: dict[str, Act] = {}


def act(weight: float, *, session: bool = True) -> Callable[[Callable[[Monkey], str | None]], Callable]:
    """Put a function into the table."""

    def register(do: Callable[[Monkey], str | None]) -> Callable:
        ACTS[do.__name__] = Act(do.__name__, weight, session, do)
        return do

    return register
