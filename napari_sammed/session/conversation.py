"""What the user did, what the backend answered, and the journal of both: the machinery under a session.

Every action is in the journal before it takes effect, every answer before it is shown. Questions are answered beside
the caller; a newer one of the same key supersedes one that is not answered yet.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_sammed.backend.base import Backend, ImageId, Prediction, Progress
from napari_sammed.backend.latest import LatestWins
from napari_sammed.errors import Cancelled
from napari_sammed.geometry import Box
from napari_sammed.session.actions import Action, Change
from napari_sammed.session.asking import Asker
from napari_sammed.session.history import History, Origin, span_of
from napari_sammed.session.journal import Journal
from napari_sammed.session.records import action_to_json, answer_to_json, refill


@dataclass(frozen=True)
class Step:
    """What an undo or a redo did.

    Parameters
    ----------
    action : Action
        That was taken back, or done again.
    answers : tuple of Future of Prediction
        Questions that it opened again; empty if all answers were there.
    """

    action: Action
    answers: tuple[Future[Prediction], ...]


class Conversation:
    """History, journal and open questions about one image.

    Parameters
    ----------
    backend : Backend
    image : ImageId
    path : Path or None
        The journal's file; None keeps nothing.
    header : dict
        Its first line, if it is new.

    Attributes
    ----------
    history : History
    lock : threading.RLock
        Held while the history is read or changed.
    """

    def __init__(self, backend: Backend, image: ImageId, path: Path | None, header: dict[str, Any]) -> None:
        self.history = History()
        self.lock = threading.RLock()
        self._asker = Asker(backend, image, self.history, self.lock)
        self._requests = LatestWins("napari-sammed-session")
        self._listeners: list[Callable[[Change], None]] = []
        self._journal = None if path is None else Journal(path, header)
        if self._journal is not None:
            refill(self.history, self._journal.entries)

    @property
    def busy(self) -> bool:
        """Whether an answer is on its way."""
        return self._requests.busy

    def listen(self, listener: Callable[[Change], None]) -> None:
        """Call ``listener`` after every change."""
        self._listeners.append(listener)

    def notify(self, labels: tuple[int, ...], box: Box | None) -> None:
        """Tell the listeners."""
        for listener in self._listeners:
            listener(Change(labels, box))

    def record(self, **what: Any) -> Action:
        """A new action. Journal first: what cannot be written down does not happen."""
        action = Action(self.history.next_id, **what)
        if self._journal is not None:
            self._journal.append(action_to_json(action), wait=not action.asks)  # else waited for beside the caller
        self.history.push(action)
        return action

    def keep(self, action: Action, answer: Prediction) -> None:
        """The answer to an action that came with it: painted, or taken over from elsewhere."""
        self._keep(action.id, answer, Origin(), answer_to_json(action.id, answer, Origin()))

    def step(self, name: str) -> tuple[Action, Box | None] | None:
        """Undo or redo, by name: the action, and where masks may have changed; None if there is nothing."""
        with self.lock:
            if not (self.history.done if name == "undo" else self.history.undone):
                return None
            before = self.history.objects
            if self._journal is not None:
                self._journal.append({"do": name})
            action = self.history.undo() if name == "undo" else self.history.redo()
            after = self.history.objects
            if name == "undo" and action.asks:
                self.drop(action)
        concerned = {*before, *after} if action.do == "overlap" else {action.label, *action.sources}
        states = (o.get(label) for o in (before, after) for label in concerned)
        return action, span_of(state.mask for state in states if state is not None)

    def ask(self, action: Action, progress: Progress | None) -> Future[Prediction]:
        """Have an action answered beside the caller."""

        def work(cancel: threading.Event) -> Prediction:
            answers = self._answered([action], lambda asked: [self._asker.ask(asked[0], cancel, progress)], cancel)
            return answers[0]

        return self._requests.submit(action.key, work)

    def ask_together(self, actions: Sequence[Action], progress: Progress | None) -> Future[list[Prediction]]:
        """Have the first prompts of several objects, all boxes for one model, answered in one pass.

        Those that are undone meanwhile are left out.
        """

        def work(cancel: threading.Event) -> list[Prediction]:
            return self._answered(actions, lambda asked: self._asker.ask_together(asked, cancel, progress), cancel)

        return self._requests.submit(("together", *(action.id for action in actions)), work)

    def ask_open(self, labels: Sequence[int], progress: Progress | None = None) -> list[Future[Prediction]]:
        """Ask what stands unanswered about some objects, unless they are locked."""
        with self.lock:
            free = [label for label in labels if label not in self.history.locked]
            actions = [a for label in free for a in self.history.open_questions(label)]
        return [self.ask(action, progress) for action in actions]

    def drop(self, action: Action) -> None:
        """Stop what is asked under an action's key."""
        self._requests.cancel(action.key)

    def cancel(self) -> None:
        """Stop everything that is on its way."""
        self._requests.cancel()

    def close(self) -> None:
        """Stop what is running and close the journal."""
        self._requests.close()
        if self._journal is not None:
            self._journal.close()

    def _answered(
        self,
        actions: Sequence[Action],
        ask: Callable[[Sequence[Action]], list[tuple[Prediction, Origin]]],
        cancel: threading.Event,
    ) -> list[Prediction]:
        """Ask, keep the answers, and tell where they changed something."""
        changes = None
        try:
            if self._journal is not None:
                self._journal.sync()
            while changes is None:
                found = ask(actions)
                entries = [answer_to_json(a.id, *f) for a, f in zip(actions, found, strict=True)]  # before the lock
                with self.lock:
                    standing = self._standing(actions, cancel)
                    if standing == list(actions):
                        changes = self._arrived(actions, found, entries)
                    actions = standing
        except BaseException as error:
            self.notify(tuple(action.label for action in actions), None)
            if cancel.is_set():  # whatever went wrong, the question no longer stands (undone: it has no prompts)
                raise Cancelled from error
            raise
        for change in changes:
            self.notify(*change)
        return [answer for answer, _ in found]

    def _standing(self, actions: Sequence[Action], cancel: threading.Event) -> list[Action]:
        """Those that have not been undone, nor their objects locked, since they were asked; Cancelled if none is."""
        done, locked = {action.id for action in self.history.done}, self.history.locked
        standing = [action for action in actions if action.id in done and action.label not in locked]
        if cancel.is_set() or not standing:
            raise Cancelled
        return standing

    def _arrived(
        self,
        actions: Sequence[Action],
        found: Sequence[tuple[Prediction, Origin]],
        entries: Sequence[dict[str, Any]],
    ) -> list[tuple[tuple[int, ...], Box]]:
        """Keep answers and say where they changed what."""
        changes = []
        for action, (answer, origin), entry in zip(actions, found, entries, strict=True):
            before = self.history.mask(action.label)
            self._keep(action.id, answer, origin, entry)
            if action.do in ("remove", "replace"):
                changed = span_of((before, self.history.mask(action.label))) or answer.box
            else:
                touched = None if before is None else before.extent.intersect(answer.scope)
                changed = answer.box if touched is None else answer.box.union(touched)
            changes.append(((action.label,), changed))
        return changes

    def _keep(self, action_id: int, answer: Prediction, origin: Origin, entry: dict[str, Any]) -> None:
        """Write an answer down, then let it count."""
        if self._journal is not None:
            self._journal.append(entry)
        self.history.answer(action_id, answer, origin)
