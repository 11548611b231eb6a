"""What the answer to one more prompt would be: asked beside everything else, written down nowhere.

A preview asks the very question that the prompt would ask, of a history that has it already, so a click gives the mask
that was previewed. Real questions never wait for one: it has the lowest priority, does nothing heavy, and whatever
happens in the session calls it off.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from napari_sammed.backend.base import Prediction
from napari_sammed.backend.latest import LatestWins
from napari_sammed.backend.masks import apply, cut
from napari_sammed.errors import Cancelled
from napari_sammed.prompts import MaskPrompt, Prompt
from napari_sammed.session.actions import Action
from napari_sammed.session.asking import Asker
from napari_sammed.session.constraints import Constraint, enforced
from napari_sammed.session.prompting import SessionPrompts


class SessionPreviews(SessionPrompts):
    """A session that says what a prompt would do; see `napari_sammed.session.session.Session`."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._previews = LatestWins("napari-sammed-preview")
        self.on_change(lambda _: self._previews.cancel())

    def preview(self, prompt: Prompt, *, model: str | None = None, axis: int | None = None) -> Future[Prediction]:
        """What `add` would make of the current object, without adding anything.

        Parameters
        ----------
        prompt, model, axis
            As for `add`.

        Returns
        -------
        Future of Prediction
            The answer that `add` would get, and so the object's mask inside the answer's scope. Cancelled, or raises
            `napari_sammed.errors.Cancelled`, when a newer preview or anything else in the session makes it needless,
            and while a question is being answered; raises `napari_sammed.errors.NotReady` where a model would have to
            be loaded or a part of the image encoded first, and what the backend raises.

        Raises
        ------
        InputError
            The prompt does not fit the image.
        """
        asked = self._asked(prompt, model, axis)
        if self.busy:
            dropped: Future[Prediction] = Future()
            dropped.cancel()
            return dropped
        with self._lock:
            label = self._free_label() if self.current is None else self.current
            action = Action(self.history.next_id, **self._informed(label=label, **asked))
            supposed = self.history.supposing(action)
        asker = Asker(self.backend, self.image_id, supposed, self._lock, idle=True)

        def work(cancel: threading.Event) -> Prediction:
            answer, _ = asker.ask(action, cancel, None)
            with self._lock:
                decided = supposed.constraints(label)
            found = _kept(answer if action.zoom else self._beside_closer(answer, label), decided)
            if cancel.is_set():
                raise Cancelled
            return found

        return self._previews.submit("preview", work)

    def cancel_preview(self) -> None:
        """Call a preview off."""
        self._previews.cancel()

    def close(self) -> None:
        """Stop what is running, close the journal, let the backend forget the image."""
        self._previews.close()
        super().close()

    def _beside_closer(self, answer: Prediction, label: int) -> Prediction:
        """An answer with those parts of the object as they are that were looked at closer: it leaves them alone."""
        with self._lock:
            kept = self.history.closer(label)
            mask = self.history.mask(label) if kept else None
        if not kept:
            return answer
        return _with_mask(answer, cut(apply(mask, answer, kept), answer.scope))


def _kept(answer: Prediction, decided: Sequence[Constraint]) -> Prediction:
    """An answer with what brush and eraser decided."""
    if not decided:
        return answer
    mask = MaskPrompt(answer.mask, answer.box.low) if answer.mask.any() else None
    return _with_mask(answer, cut(enforced(mask, decided), answer.scope))


def _with_mask(answer: Prediction, mask: MaskPrompt | None) -> Prediction:
    if mask is not None:
        return replace(answer, mask=mask.mask, box=mask.extent)
    nothing = Prediction.empty(answer.scope, score=answer.score, model=answer.model)
    return replace(answer, mask=nothing.mask, box=nothing.box)
