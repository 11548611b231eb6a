"""What the user did, what the backend answered, and the journal of both: the machinery under a session.

Every action is in the journal before it takes effect, every answer before it is shown. Questions are answered beside
the caller; a newer one of the same key supersedes one that is not answered yet.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_sammed.backend.base import Backend, ImageId, Prediction, Progress
from napari_sammed.backend.latest import LatestWins
from napari_sammed.errors import Cancelled
from napari_sammed.geometry import Box
from napari_sammed.session.actions import Action, Change
from napari_sammed.session.asking import Asker
from napari_sammed.session.constraints import enforced
from napari_sammed.session.growth import Growth
from napari_sammed.session.history import History, Origin, span_of
from napari_sammed.session.journal import Journal, ReadOnlyJournal
from napari_sammed.session.overlaps import Withheld, withheld_from
from napari_sammed.session.records import action_to_json, answer_to_json, overlap_of, refill
from napari_sammed.session.roster import painted

_POLL = 0.1  # s between looks at whether a propagation that waits is still wanted


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
    read_only : bool
        Whether the journal is only looked at; what is done is refused then.

    Attributes
    ----------
    path : Path or None
    history : History
    lock : threading.RLock
        Held while the history is read or changed.
    growth : Growth or None
        What has come of the answer to the propagation that is running.
    journal : Journal, ReadOnlyJournal or None
    """

    def __init__(
        self, backend: Backend, image: ImageId, path: Path | None, header: dict[str, Any], read_only: bool = False
    ) -> None:
        self.history = History(Box.of_shape(header["shape"]), overlap_of(header))
        self.lock = threading.RLock()
        self._asker = Asker(backend, image, self.history, self.lock)
        self._requests = LatestWins("napari-sammed-session")
        self._walks = LatestWins("napari-sammed-propagation")  # beside the prompts, which go on meanwhile
        self._listeners: list[Callable[[Change], None]] = []
        self._watchers: list[Callable[[Change], None]] = []  # those of the listeners who want to see objects grow
        self.growth: Growth | None = None
        self.journal = None if path is None else (ReadOnlyJournal if read_only else Journal)(path, header)
        if self.journal is not None:
            try:
                self.history.first_rule = overlap_of(self.journal.header)
                refill(self.history, self.journal.entries)
            except BaseException:
                self.journal.close()
                raise

    @property
    def busy(self) -> bool:
        """Whether an answer is on its way."""
        return self._requests.busy or self._walks.busy

    def listen(self, listener: Callable[[Change], None], growing: bool) -> Callable[[], None]:
        """Call ``listener`` after every change; with `growing` also for pieces of answers on their way.

        Returns
        -------
        callable
            Ends this.
        """
        self._listeners = [*self._listeners, listener]  # a new list, as another thread may be going through it
        if growing:
            self._watchers = [*self._watchers, listener]

        def stop() -> None:
            self._listeners = [other for other in self._listeners if other is not listener]
            self._watchers = [other for other in self._watchers if other is not listener]

        return stop

    def notify(self, labels: tuple[int, ...], box: Box | None) -> None:
        """Tell the listeners."""
        for listener in self._listeners:
            listener(Change(labels, box))

    def record(self, **what: Any) -> Action:
        """A new action. Journal first: what cannot be written down does not happen."""
        action = Action(self.history.next_id, **what)
        if self.journal is not None:
            self.journal.append(action_to_json(action), wait=not action.asks)  # else waited for beside the caller
        self.history.push(action)
        return action

    def keep(self, action: Action, answer: Prediction) -> None:
        """The answer to an action that came with it: painted, taken over from elsewhere, or asked for before."""
        origin = Origin(
            carries=action.asks and answer.logits is not None,
            withheld=self._withheld(action, answer) if action.do in ("adopt", "take", "duplicate", "merge") else (),
        )
        self._keep(action.id, answer, origin, answer_to_json(action.id, answer, origin))

    def recalled(self, action_id: int) -> Prediction:
        """The answer to an action, with its logits: computed again if need be, which takes a while."""
        return self._asker.recalled(action_id)

    def step(self, name: str) -> tuple[Action, Box | None] | None:
        """Undo or redo, by name: the action, and where masks may have changed; None if there is nothing."""
        with self.lock:
            if not (self.history.done if name == "undo" else self.history.undone):
                return None
            before = self.history.objects
            if self.journal is not None:
                self.journal.append({"do": name})
            action = self.history.undo() if name == "undo" else self.history.redo()
            after = self.history.objects
            grown = None
            if name == "undo" and action.asks:
                self.drop(action)
                grown = self._end_growth(action)
        concerned = {*before, *after} if action.do == "overlap" else {action.label, *action.sources}
        states = (o.get(label) for o in (before, after) for label in concerned)
        box = span_of(state.mask for state in states if state is not None)
        return action, _joined(box, grown)

    def ask(self, action: Action, progress: Progress | None) -> Future[Prediction]:
        """Have an action answered beside the caller.

        A propagation waits for the prompts before it, and those after it do not wait for the propagation.
        """
        stop = threading.Event() if action.do == "propagate" else None
        before = [] if stop is None else self._requests.pending

        def work(cancel: threading.Event) -> Prediction:
            while wait(before, _POLL).not_done and not cancel.is_set() and not stop.is_set():
                pass
            growth = Growth(action) if stop is not None and self._watchers else None

            def partial(piece: Prediction) -> None:
                self._grow(growth, piece, cancel)

            def ask(actions: Sequence[Action]) -> list[tuple[Prediction, Origin]]:
                return [self._asker.ask(actions[0], cancel, progress, stop, None if growth is None else partial)]

            return self._answered([action], ask, cancel)[0]

        return self._lane(action).submit(action.key, work, stop)

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
        self._lane(action).cancel(action.key)

    def cancel(self) -> None:
        """Stop everything that is on its way; a propagation keeps the slices that it has answered."""
        self._walks.stop_all()
        self._requests.stop_all()

    def labels(self, box: Box, steps: Sequence[int] | None = None) -> np.ndarray:
        """The label image of all objects inside a box, with what is there of the answer on its way."""
        with self.lock:
            growth, stack = self.growth, self.history.stack
            if growth is not None:
                kept = [*self.history.closer(growth.action.label), *self.history.said_after(growth.action)]
                stack = [growth.shown(s, box, kept) if s.label == growth.action.label else s for s in stack]
                if self.history.overlap == "ask":  # it gets nothing yet that others have
                    stack.sort(key=lambda state: state.label != growth.action.label)
        return painted(stack, box, steps)

    def close(self) -> None:
        """Stop what is running and close the journal."""
        self._walks.close()
        self._requests.close()
        if self.journal is not None:
            self.journal.close()

    def _lane(self, action: Action) -> LatestWins:
        return self._walks if action.do == "propagate" else self._requests

    def _answered(
        self,
        actions: Sequence[Action],
        ask: Callable[[Sequence[Action]], list[tuple[Prediction, Origin]]],
        cancel: threading.Event,
    ) -> list[Prediction]:
        """Ask, keep the answers, and tell where they changed something."""
        changes = None
        try:
            if self.journal is not None:
                self.journal.sync()
            while changes is None:
                found = ask(actions)
                entries = [answer_to_json(a.id, *f) for a, f in zip(actions, found, strict=True)]  # before the lock
                with self.lock:
                    standing = self._standing(actions, cancel)
                    if standing == list(actions):
                        changes = self._arrived(actions, found, entries)
                    actions = standing
        except BaseException as error:
            self.notify(tuple(action.label for action in actions), self._end_growth(*actions))
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
            grown = self._end_growth(action)
            withheld = self._withheld(action, answer)
            if withheld:
                origin = replace(origin, withheld=withheld)
                entry = answer_to_json(action.id, answer, origin)
            self._keep(action.id, answer, origin, entry)
            if action.do in ("remove", "replace"):
                changed = span_of((before, self.history.mask(action.label))) or answer.box
            else:
                touched = None if before is None else before.extent.intersect(answer.scope)
                changed = answer.box if touched is None else answer.box.union(touched)
            changes.append(((action.label,), _joined(changed, grown)))
        return changes

    def _withheld(self, action: Action, answer: Prediction) -> Withheld:
        """What other objects have of an answer that is about to count, under the rule "ask"."""
        if self.history.overlap != "ask":
            return ()
        by_brush = enforced(None, self.history.constraints(action.label))
        return withheld_from(answer, by_brush, action.label, self.history.labels)

    def _grow(self, growth: Growth, piece: Prediction, cancel: threading.Event) -> None:
        """A piece of an answer has come: show it, unless nobody waits for the answer any more."""
        action = growth.action
        with self.lock:
            waited_for = action in self.history.since_clear(action.label) and action.label not in self.history.locked
            if cancel.is_set() or not waited_for:
                box = self._end_growth(action)
            else:
                self.growth = growth
                growth.pieces.append(piece)
                box = piece.scope
        if box is not None:
            for watcher in self._watchers:
                watcher(Change((action.label,), box))

    def _end_growth(self, *actions: Action) -> Box | None:
        """Forget the pieces of an answer, which is there or called off; where they were."""
        with self.lock:
            growth = self.growth
            if growth is None or growth.action not in actions:
                return None
            self.growth = None
            return growth.box

    def _keep(self, action_id: int, answer: Prediction, origin: Origin, entry: dict[str, Any]) -> None:
        """Write an answer down, then let it count."""
        if self.journal is not None:
            self.journal.append(entry)
        self.history.answer(action_id, answer, origin)


def _joined(box: Box | None, other: Box | None) -> Box | None:
    return box if other is None else other if box is None else box.union(other)
