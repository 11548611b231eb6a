"""Getting results from any thread to the main one, without Qt, and what a face hears of them."""

from __future__ import annotations

import queue
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_sammed.backend.base import Prediction


class Mailbox:
    """Functions that any thread posts and the main thread runs, in order.

    Slicer's main thread keeps Python's lock while its event loop waits, so that other Python threads stand still. A
    timer of the GUI that calls `run` with some patience lets them work, besides running what they have posted.
    """

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[tuple[Callable[..., Any], tuple[Any, ...]]] = queue.SimpleQueue()

    def post(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Have the main thread call a function soon; from any thread."""
        self._waiting.put((function, arguments))

    def run(self, patience: float = 0.0) -> int:
        """Call everything that waits; main thread only.

        Parameters
        ----------
        patience : float
            Seconds to wait for the first one, in which other threads run.

        Returns
        -------
        int
            How many functions were called.
        """
        count = 0
        while True:
            try:
                function, arguments = self._waiting.get(timeout=patience) if patience else self._waiting.get_nowait()
            except queue.Empty:
                return count
            patience = 0.0
            count += 1
            function(*arguments)


class Listener:
    """What a face hears, always on the main thread; override what it shows."""

    def progressed(self, what: str, share: float) -> None:
        """Something long goes on: what, and how much of it is done, 0..1."""

    def answered(self, prediction: Prediction) -> None:
        """An answer has been written to its segment."""

    def failed(self, error: BaseException) -> None:
        """Something went wrong beside the main thread. `InputError` has a text for the user; others are defects."""

    def changed(self) -> None:
        """Segments, prompts, what is open or whether something is on its way may have changed."""
