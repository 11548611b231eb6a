"""Talking to whoever typed the command: results on stdout, everything else on stderr, bars only on a terminal."""

from __future__ import annotations

import json
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeVar

from napari_sammed.backend.base import Progress
from napari_sammed.volume import ImageWarning

T = TypeVar("T")
_POLL_SECONDS = 0.2


def say(line: str) -> None:
    """A line of the result."""
    sys.stdout.write(line + "\n")


def say_json(result: dict[str, Any]) -> None:
    """The whole result as one JSON object, for programs."""
    say(json.dumps(result, allow_nan=False))


def note(line: str) -> None:
    """Something to know that is no result."""
    sys.stderr.write(one_line(line) + "\n")
    sys.stderr.flush()


def one_line(text: object) -> str:
    """A message without line breaks."""
    return " ".join(str(text).split())


@contextmanager
def talking() -> Iterator[None]:
    """Show the package's warnings about images, and what it logs, as plain lines on stderr; hide other warnings."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    package = logging.getLogger("napari_sammed")
    level = package.level

    def show(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
        if issubclass(category, ImageWarning):
            note(f"Note: {message}")

    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.showwarning = show
        package.addHandler(handler)
        package.setLevel(logging.INFO)
        try:
            yield
        finally:
            package.removeHandler(handler)
            package.setLevel(level)


@contextmanager
def bar() -> Iterator[Progress | None]:
    """A progress bar on stderr while a command works; None where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("working", total=1.0)
        yield lambda what, share: progress.update(task, description=what, completed=share)


@contextmanager
def download_bar(what: str) -> Iterator[Callable[[int, int | None], None] | None]:
    """A progress bar in bytes on stderr; None where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def wait(future: Future[T]) -> T:
    """The future's result; unlike `Future.result`, Ctrl-C gets through while it waits on every system."""
    while True:
        try:
            return future.result(_POLL_SECONDS)
        except TimeoutError:
            if future.done():  # the work itself raised a TimeoutError
                raise
