"""What other models make of an object's prompts, and one of their answers put in the place of the object's mask."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from napari_sammed.backend.base import Prediction, Progress
from napari_sammed.backend.latest import LatestWins
from napari_sammed.errors import Cancelled, InputError
from napari_sammed.session.actions import Action, Change
from napari_sammed.session.asking import Asker
from napari_sammed.session.history import span_of
from napari_sammed.session.previewing import SessionPreviews


@dataclass(frozen=True)
class Comparison:
    """Answers of several models to the standing prompts of one object, each by itself.

    Parameters
    ----------
    label : int
        Of the object.
    questions : dict of str to Action
        By model: what was asked, and what taking its answer over will write down.
    answers : dict of str to Future of Prediction
        By model, in the order in which they come; one fails without the others.
    asked : tuple
        What the object was when the models were asked.
    """

    label: int
    questions: dict[str, Action]
    answers: dict[str, Future[Prediction]]
    asked: tuple[Any, ...]


class SessionComparing(SessionPreviews):
    """A session that asks other models; see `napari_sammed.session.session.Session`."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._comparing = LatestWins("napari-sammed-comparison")
        self._comparison: Comparison | None = None
        self.on_change(self._outdate)

    @property
    def busy(self) -> bool:
        """Whether an answer is on its way."""
        return super().busy or self._comparing.busy

    def compare(self, models: Sequence[str] | None = None, *, progress: Progress | None = None) -> Comparison:
        """Put the current object's standing prompts to several models, one after the other; changes nothing.

        Each is asked where the object was asked last (the slice of its last prompt, the part looked at closer), from
        the prompts alone: without the answers of before. A change of the object ends it.

        Parameters
        ----------
        models : sequence of str, optional
            Registry names; those that need other images are left out. Default: all whose weights are on this machine.
        progress : callable, optional

        Raises
        ------
        InputError
            If the object has no prompts, or if no model is left.
        """
        state = self._changeable(None)
        if not state.prompts:
            raise InputError(f"{state.name} has no prompts to ask other models about: click or draw a box first.")
        names = self.backend.installed() if models is None else tuple(dict.fromkeys(models))
        fitting = [name for name in names if self._fits(name)]
        if not fitting:
            raise InputError("No model for this image has its weights on this machine: fetch some first.")
        self._comparing.cancel()
        questions, answers = {}, {}
        with self._lock:
            asked = self._standing(state.label)
            for place, name in enumerate(fitting):
                where = self._routing.again(name, state.label)
                what = {"do": "adopt", "label": state.label, "model": name, "window": self.window}
                action = questions[name] = Action(self.history.next_id, **self._informed(**what, **where))
                told = None if progress is None else _within(progress, place, len(fitting))
                asker = Asker(self.backend, self.image_id, self.history.supposing(action), self._lock)
                answers[name] = self._comparing.submit(name, _work(asker, action, told))
            self._comparison = Comparison(state.label, questions, answers, asked)
        return self._comparison

    def adopt(self, comparison: Comparison, model: str) -> None:
        """Put a model's answer in the place of an object's mask, and make the object the current one.

        What it says nothing of, other slices for a model of slices, stays as it is. Undo brings back what was there.

        Parameters
        ----------
        comparison : Comparison
        model : str
            Whose answer is there.

        Raises
        ------
        InputError
            If there is no such answer, or if the object is not as it was when the models were asked.
        """
        state = self._changeable(comparison.label)
        future = comparison.answers.get(model)
        if future is None or not future.done() or future.cancelled() or future.exception() is not None:
            raise InputError(f"There is no answer of {model} to take over.")
        answer = future.result()
        with self._lock:
            if not self.is_current(comparison):
                raise InputError(f"{state.name} has changed since the models were asked: compare them again.")
            before = self.history.mask(state.label)
            question = comparison.questions[model]
            what = ("do", "label", "model", "window", "region", "axis", "zoom", "beside")
            action = self._record(**{name: getattr(question, name) for name in what})
            self._conversation.keep(action, answer)
            after = self.history.mask(state.label)
            self.current = state.label
        self._notify(state.label, span_of((before, after)))

    def is_current(self, comparison: Comparison) -> bool:
        """Whether the object is still as it was when the models were asked."""
        with self._lock:
            return self._standing(comparison.label) == comparison.asked

    def cancel_comparison(self) -> None:
        """Ask no further models; the answers that are there stay."""
        self._comparing.cancel()

    def close(self) -> None:
        """Stop what is running, close the journal, let the backend forget the image."""
        self._comparing.close()
        super().close()

    def _fits(self, name: str) -> bool:
        card = self.backend.card(name)
        return bool(card.prompts) and min(card.dimensions) <= self.image.grid.ndim

    def _standing(self, label: int) -> tuple[Any, ...]:
        """What answers about an object depend on: its prompts, and the answer that its mask shows."""
        latest = self.history.latest(label)
        return tuple(self.history.standing(label).items()), None if latest is None else latest[0].id

    def _outdate(self, change: Change) -> None:
        """Ask no further models about an object that has changed."""
        comparison = self._comparison
        if comparison is not None and comparison.label in change.labels and not self.is_current(comparison):
            self._comparison = None
            self._comparing.cancel()


def _work(asker: Asker, action: Action, progress: Progress | None) -> Callable[[threading.Event], Prediction]:
    def work(cancel: threading.Event) -> Prediction:
        answer, _ = asker.ask(action, cancel, progress)
        if cancel.is_set():
            raise Cancelled
        return answer

    return work


def _within(progress: Progress, place: int, count: int) -> Progress:
    """Progress of one of several pieces of work."""
    return lambda what, share: progress(what, (place + share) / count)
