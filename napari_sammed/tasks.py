"""Work on a Ray cluster: many items, each done by one of several worker processes that get ready once.

A worker that dies is replaced, and its item done again; an item that cannot be done is named, and the others go on.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from napari_sammed import __version__
from napari_sammed.errors import Cancelled, InputError

Item = TypeVar("Item")
Made = TypeVar("Made")
Part = TypeVar("Part")

logger = logging.getLogger(__name__)

_POLL = 0.2  # s between looks at `cancel`
_TRIES = 3  # workers that may die over one item, or one after the other before any is ready
_PATIENCE = 20.0  # s without a worker after which the user is told so


@dataclass(frozen=True)
class Crew:
    """The workers that are wanted.

    Parameters
    ----------
    address : str or None
        See `napari_sammed.cluster.joined`.
    workers : int, optional
        At most. Default: as many as the cluster has GPUs, or processors, for.
    gpus : float, optional
        For each, 0.5 for two workers on a GPU. Default: one where the cluster has any, unless the device is another.
    device : str
        That the work is for, "auto", "cpu" or "cuda".
    """

    address: str | None = None
    workers: int | None = None
    gpus: float | None = None
    device: str = "auto"

    def check(self) -> None:
        """Refuse numbers that cannot be; InputError."""
        if self.workers is not None and self.workers < 1:
            raise InputError(f"There has to be 1 worker or more, not {self.workers}.")
        if self.gpus is not None and not (0 <= self.gpus < float("inf") and (self.gpus < 1 or self.gpus % 1 == 0)):
            raise InputError(
                f"A worker has a part of a GPU, such as 0.5, or a whole number of them, not {self.gpus:g}."
            )

    def among(self, resources: dict[str, float], most: int) -> tuple[int, dict[str, float]]:
        """How many workers there are on a cluster, and what Ray is to reserve for each.

        Parameters
        ----------
        resources : dict of str to float
            Of the cluster, as Ray names them.
        most : int
            That have something to do.

        Raises
        ------
        InputError
            If the cluster does not have what is wanted.
        """
        self.check()
        processors, here = resources.get("CPU", 0.0), resources.get("GPU", 0.0)
        gpus = self.gpus
        if gpus is None:
            gpus = 1.0 if here >= 1 and self.device in ("auto", "cuda") else 0.0
        if gpus > here:
            raise InputError(f"The cluster has {here:g} GPUs, so that no worker can have {gpus:g} of them.")
        room = int(processors if not gpus else min(here // gpus if gpus >= 1 else here * (1 // gpus), processors))
        count = max(min(room, most, self.workers or room), 1)
        return count, {"num_cpus": max(int(processors // count), 1) if not gpus else 1, "num_gpus": gpus}


@dataclass(frozen=True)
class _Failed:
    """Why a worker could not do what it was to do."""

    sentence: str


class _Worker(Generic[Made]):
    """A process of the cluster; makes what it works with once."""

    def __init__(self, make: Callable[[], Made]) -> None:
        self._make = make

    def begin(self) -> str | _Failed:
        """Get ready; the version of the package here."""
        try:
            self._made = self._make()
        except Exception as error:
            return _failed(error)
        return __version__

    def work(
        self, do: Callable[[Made, Item, Sequence[Part]], Iterator[Part]], item: Item, done: Sequence[Part]
    ) -> Iterator[Part | _Failed]:
        """The parts of an item that are not done yet."""
        try:
            for part in do(self._made, item, done):  # noqa: UP028 (Ray sends values, which not every iterator takes)
                yield part
        except Exception as error:
            yield _failed(error)


class _Going(Generic[Item, Part]):
    """What is done and what is to do; see `through`."""

    def __init__(self, items: Sequence[Item], came: Callable[[int, Part], None], failed: Callable[[int, str], None]):
        self.items = items
        self.parts: list[list[Part]] = [[] for _ in items]
        self.waiting = deque(range(len(items)))
        self.through = 0
        self._tries = [0] * len(items)
        self._came, self._failed = came, failed

    def take(self, number: int, part: Part | _Failed) -> None:
        if isinstance(part, _Failed):
            self._failed(number, part.sentence)
            return
        self._came(number, part)
        self.parts[number].append(part)

    def lost(self, number: int, reason: str) -> None:
        """A worker died over an item."""
        self._tries[number] += 1
        if self._tries[number] < _TRIES:
            self.waiting.appendleft(number)
            return
        self.through += 1
        self._failed(number, f"{_TRIES} workers ended over it, one after the other, as of too little memory ({reason})")


def through(
    items: Sequence[Item],
    make: Callable[[], Made],
    do: Callable[[Made, Item, Sequence[Part]], Iterator[Part]],
    crew: Crew,
    *,
    came: Callable[[int, Part], None] = lambda number, part: None,
    failed: Callable[[int, str], None] = lambda number, sentence: None,
    cancel: threading.Event | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> list[list[Part]]:
    """Have all items done on the cluster that this process has joined.

    Parameters
    ----------
    items : sequence
    make : callable
        Makes what a worker needs for all items, such as models; once in each.
    do : callable
        Does an item with it, and yields the parts of the result as they come. Is given those that are there already
        from a worker that died, and yields the others. A function of a module, or a partial of one, like `make`.
    crew : Crew
    came : callable
        Is told of each part, with the item's number, at once.
    failed : callable
        Is told why an item cannot be done; the others go on.
    cancel : threading.Event, optional
        Set it to end the workers; the parts that are there have come.
    progress : callable, optional

    Returns
    -------
    list of lists
        The parts of each item, in order.

    Raises
    ------
    InputError
        If no worker gets ready, or the cluster does not have what is wanted.
    Cancelled
    """
    import ray
    from ray.exceptions import RayError

    count, reserved = crew.among(ray.cluster_resources(), len(items))
    remote = ray.remote(**reserved)(_Worker)
    going: _Going[Item, Part] = _Going(items, came, failed)
    starting: dict[Any, Any] = {}  # actors by what tells that they are ready
    busy: dict[Any, tuple[int, Any]] = {}  # items and actors by what their parts come from
    died, since, told = 0, time.monotonic(), False

    def hire() -> None:
        actor = remote.remote(make)
        starting[actor.begin.remote()] = actor

    def employ(actor: Any) -> None:
        if not going.waiting:
            ray.kill(actor)
            return
        number = going.waiting.popleft()
        parts = actor.work.options(num_returns="streaming").remote(do, items[number], tuple(going.parts[number]))
        busy[parts] = (number, actor)

    try:
        for _ in range(count):
            hire()
        while going.through < len(items):
            ready, _ = ray.wait([*starting, *busy], num_returns=1, timeout=_POLL)
            for source in ready:
                if source in starting:
                    actor = starting.pop(source)
                    try:
                        _check_ready(ray.get(source))
                    except RayError as error:
                        died = _died(died, error)
                        hire()
                        continue
                    died = 0
                    employ(actor)
                    continue
                number, actor = busy[source]
                try:
                    going.take(number, ray.get(next(source)))
                except StopIteration:
                    del busy[source]
                    going.through += 1
                    employ(actor)
                except RayError as error:
                    del busy[source]
                    going.lost(number, type(error).__name__)
                    ray.kill(actor)
                    hire()
            if cancel is not None and cancel.is_set():
                raise Cancelled
            if not busy and starting and not told and time.monotonic() - since > _PATIENCE:
                told = True
                logger.warning("Waiting for the cluster to have room for a worker (%s).", _words(reserved))
            if progress is not None:
                progress(f"{going.through} of {len(items)}, {len(busy)} workers", going.through / max(len(items), 1))
        return going.parts
    finally:
        for actor in [*starting.values(), *(actor for _, actor in busy.values())]:
            ray.kill(actor)


def check_here(paths: Sequence[Path]) -> None:
    """On a worker: refuse what its machine cannot read, and say which one that is; InputError."""
    for path in paths:
        try:
            path.stat()
        except OSError as error:
            raise InputError(
                f"The worker on {socket.gethostname()} cannot read {path} ({error.strerror}): the data has to lie in a "
                "folder that all machines of the cluster have at the same place."
            ) from None


def _check_ready(said: str | _Failed) -> None:
    if isinstance(said, _Failed):
        raise InputError(f"A worker cannot begin: {said.sentence}")
    if said != __version__:
        raise InputError(
            f"The cluster has napari-sammed {said}, this machine {__version__}: install the same version on all."
        )


def _died(before: int, error: Exception) -> int:
    """One more worker that did not get ready; InputError if it is one too many, or it cannot be otherwise."""
    if "No module named" in str(error):
        raise InputError(
            "A machine of the cluster does not have napari-sammed: install the same version on all of them."
        ) from None
    if before + 1 >= _TRIES:
        raise InputError(f"The workers of the cluster end before they are ready ({type(error).__name__}).") from None
    return before + 1


def _failed(error: Exception) -> _Failed:
    words = " ".join(str(error).split())
    return _Failed(words if isinstance(error, InputError) else f"{type(error).__name__}: {words}")


def _words(reserved: dict[str, float]) -> str:
    return ", ".join(f"{value:g} {name.removeprefix('num_').upper()}" for name, value in reserved.items() if value)
