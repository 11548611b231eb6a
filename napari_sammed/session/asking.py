"""Questions of a session put to a backend: new ones, and ones of before again.

An answer may start from the logits of the one before it. Logits are not kept on disk: after a restart those that are
needed are computed again, by asking what was asked then, which gives the same numbers with the same weights.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from napari_sammed.backend.base import Backend, Cancel, ImageId, Partial, Prediction, Progress
from napari_sammed.backend.nearby import limited
from napari_sammed.errors import NotReady
from napari_sammed.prompts import Prompts
from napari_sammed.session.constraints import thick
from napari_sammed.session.history import Action, History, Origin
from napari_sammed.session.neighbours import told
from napari_sammed.session.roster import roster
from napari_sammed.session.slices import anchors, spoken_of

if TYPE_CHECKING:
    from napari_sammed.models.base import Logits


class Asker:
    """Asks about one image.

    Parameters
    ----------
    backend : Backend
    image : ImageId
    history : History
        What the questions are about; read under the lock.
    lock : threading.RLock
    idle : bool
        Whether nobody waits for the answers: see `napari_sammed.backend.base.Backend.predict`.
    """

    def __init__(
        self, backend: Backend, image: ImageId, history: History, lock: threading.RLock, *, idle: bool = False
    ) -> None:
        self._backend = backend
        self._idle = idle
        self._image = image
        self._history = history
        self._lock = lock

    def ask(
        self,
        action: Action,
        cancel: Cancel | None,
        progress: Progress | None,
        stop: Cancel | None = None,
        partial: Partial | None = None,
    ) -> tuple[Prediction, Origin]:
        """Put an action to the backend as the history stands; `stop` and `partial` are for propagations."""
        if action.do == "propagate":
            wanted = [index for first, end in action.slices for index in range(first, end)]
            return self._propagate(action, wanted or None, cancel, stop, progress, partial), Origin()
        if action.zoom:
            return self._refine(action, cancel, progress), Origin()
        with self._lock:
            previous = self._history.previous(action)
        logits = self._logits(previous, action, cancel)
        answer = self._predict(action, logits, cancel, progress)
        return answer, Origin(None if logits is None else previous, answer.logits is not None)

    def ask_together(
        self, actions: Sequence[Action], cancel: Cancel | None, progress: Progress | None
    ) -> list[tuple[Prediction, Origin]]:
        """Put the first box prompts of several objects to the backend in one pass."""
        if self._idle:
            raise NotReady  # a pass for all of them is more than an idle question is worth
        answers = self._backend.predict_boxes(
            self._image,
            actions[0].model,
            [action.prompt for action in actions],
            window=actions[0].window,
            regions=[action.region for action in actions],
            cancel=cancel,
            progress=progress,
        )
        together = tuple(action.id for action in actions)
        return [(answer, Origin(None, answer.logits is not None, together)) for answer in answers]

    def repeat(
        self, action_id: int, origin: Origin, cancel: Cancel | None, stored: Prediction
    ) -> dict[int, Prediction]:
        """Ask again what was asked before, the same way; also gives the answers that came in the same pass.

        Of a propagation, the slices that the stored answer speaks of are asked for: it may have been stopped.
        """
        with self._lock:
            actions = [self._history.find(number) for number in origin.together or (action_id,)]
        action = actions[0]
        if origin.together:
            answers = [answer for answer, _ in self.ask_together(actions, cancel, None)]
        elif action.do == "propagate":
            answers = [self._propagate(action, spoken_of(stored, action.axis or 0), cancel)]
        elif action.zoom:
            answers = [self._refine(action, cancel, None)]
        else:
            answers = [self._predict(action, self._logits(origin.previous, action, cancel), cancel, None)]
        return {action.id: answer for action, answer in zip(actions, answers, strict=True)}

    def _predict(
        self, action: Action, previous: Logits | None, cancel: Cancel | None, progress: Progress | None
    ) -> Prediction:
        with self._lock:
            own = self._history.question(action)
            sentence = told(action.beside, {label: entry.name for label, entry in roster(self._history.done).items()})
        prompts = Prompts((*(point for _, point in action.beside), *own))  # the last one has a meaning of its own
        answer = self._backend.predict(
            self._image,
            action.model,
            prompts,
            window=action.window,
            region=action.region,
            previous=previous,
            cancel=cancel,
            progress=progress,
            idle=self._idle,
        )
        if sentence:
            answer = replace(answer, reductions=(*answer.reductions, sentence))
        return self._near(action, answer, previous)

    def _near(self, action: Action, answer: Prediction, previous: Logits | None) -> Prediction:
        """The answer to a stroke of brush or eraser on an object that is there already: only near the stroke."""
        if action.do != "prompt" or not thick(action.prompt):
            return answer
        with self._lock:
            earlier = [a for a in self._history.since_clear(action.label, action) if a.id < action.id]
            waiting = any(a.key == action.key and a.id not in self._history.answers for a in earlier if a.asks)
            before = self._history.mask(action.label, before=action)
        return answer if waiting else limited(answer, before, action.prompt, previous)

    def _propagate(
        self,
        action: Action,
        only: Collection[int] | None,
        cancel: Cancel | None,
        stop: Cancel | None = None,
        progress: Progress | None = None,
        partial: Partial | None = None,
    ) -> Prediction:
        axis = action.axis if action.axis is not None else 0
        with self._lock:
            known = anchors(self._history, action.label, axis, action)
        return self._backend.propagate(
            self._image,
            action.model,
            known,
            axis,
            window=action.window,
            within=action.region,
            only=only,
            cancel=cancel,
            stop=stop,
            progress=progress,
            partial=partial,
        )

    def _refine(self, action: Action, cancel: Cancel | None, progress: Progress | None) -> Prediction:
        with self._lock:
            coarse, prompts = (
                self._history.mask(action.label, before=action),
                self._history.prompts(action.label, action),
            )
        return self._backend.refine(
            self._image,
            action.model,
            action.region,
            coarse=coarse,
            prompts=prompts,
            axis=action.axis,
            window=action.window,
            cancel=cancel,
            progress=progress,
            idle=self._idle,
        )

    def _logits(self, action_id: int | None, asking: Action, cancel: Cancel | None) -> Logits | None:
        """Of the reading that stood when `asking` was done; None if other weights than now have answered then."""
        if action_id is None:
            return None
        with self._lock:
            reading = self._history.reading(action_id, asking)
        answer = self.recalled(action_id, cancel)
        return answer.readings[min(reading, len(answer.alternatives))].logits

    def recalled(self, action_id: int, cancel: Cancel | None = None) -> Prediction:
        """The answer to an action, with the logits that it had; without any if other weights are there now."""
        with self._lock:
            answer, origin = self._history.answers[action_id], self._history.origins[action_id]
        if answer.logits is None and origin.carries:
            return self._recall(action_id, answer, origin, cancel)
        return answer

    def _recall(self, action_id: int, stored: Prediction, origin: Origin, cancel: Cancel | None) -> Prediction:
        """A stored answer with its logits, computed again and kept; without any if the weights are others now."""
        again = self.repeat(action_id, origin, cancel, stored)[action_id]
        if (again.model, again.weights_hash) != (stored.model, stored.weights_hash):
            return stored
        if len(again.alternatives) != len(stored.alternatives):
            return stored
        others = zip(stored.alternatives, again.alternatives, strict=True)
        recalled = replace(
            stored, logits=again.logits, alternatives=tuple(replace(s, logits=a.logits) for s, a in others)
        )
        with self._lock:
            self._history.answers[action_id] = recalled
        return recalled
