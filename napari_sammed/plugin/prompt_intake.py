"""What the user did in the prompt layers, taken over into the session."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING

from napari_sammed.backend.base import Prediction, Progress
from napari_sammed.intensity import Window
from napari_sammed.plugin.image.coordinates import hidden_axis
from napari_sammed.plugin.image.in_view import part_seen
from napari_sammed.plugin.layers.edits import as_thick
from napari_sammed.plugin.views.choosers import AUTO, CUSTOM, DISPLAYED
from napari_sammed.prompts import Box, Point, Prompt, Stroke
from napari_sammed.session import Session

if TYPE_CHECKING:
    from napari_sammed.plugin.layers.layer_writer import LayerWriter
    from napari_sammed.plugin.settings.preferences import Preferences
    from napari_sammed.plugin.views.panel import Panel

_PREFERRED = {"click_model": Point, "box_model": Box, "stroke_model": Stroke}


class PromptIntake:
    """Adds, replaces and removes prompts as the user does in the layers of one image, with the settings of the panel.

    Parameters
    ----------
    writer : LayerWriter
    panel : Panel
    expect : callable
        Told of every answer to come.
    progress : callable
    preferences : Preferences
    """

    def __init__(
        self,
        writer: LayerWriter,
        panel: Panel,
        expect: Callable[[Future[Prediction]], None],
        progress: Progress,
        preferences: Preferences,
    ) -> None:
        self._writer = writer
        self._panel = panel
        self._expect = expect
        self._progress = progress
        self._preferences = preferences

    def take(self, session: Session) -> None:
        """Take everything over that has changed since the prompts were shown.

        Raises
        ------
        InputError
            For a prompt that does not fit; those after it are not taken.
        """
        session.neighbours = self._preferences["neighbours"]
        added, altered = self._writer.changes(self._panel.slices.span)
        for number in sorted(altered, reverse=True):  # a removal moves those behind it
            self._alter(session, number, altered[number])
        self.give(session, added)

    def give(self, session: Session, prompts: Sequence[Prompt]) -> None:
        """Add prompts that are no longer in the layers.

        Raises
        ------
        InputError
            For a prompt that does not fit; those after it are not added.
        """
        axis = self._axis
        for prompt in prompts:
            self.use_settings(session)
            model = self.model_for(session, prompt)
            self._expect(session.add(prompt, model=model, axis=axis, progress=self._progress))

    def preview(self, session: Session, prompt: Prompt) -> Future[Prediction]:
        """What `give` would get for a prompt, without giving it."""
        self.use_settings(session)
        return session.preview(prompt, model=self.model_for(session, prompt), axis=self._axis)

    def use_settings(self, session: Session) -> None:
        """Have the session use the model and the mapping of grey values that the panel shows."""
        session.model = self._panel.image_section.model.key or AUTO
        session.window = self.window(session)
        if not session.image.in_memory:
            session.look_at(part_seen(self._writer.viewer, self._writer.image, self._writer.labels))

    def looked_at(self, session: Session, model: str, slab: Box) -> Box:
        """What of a slice a prompt to come would be answered in."""
        if not session.image.in_memory:
            session.look_at(part_seen(self._writer.viewer, self._writer.image, self._writer.labels))
        return session.part_of(model, slab)

    def model_for(self, session: Session, prompt: Prompt) -> str:
        """The model that the panel shows for a prompt of the current object.

        While that is "auto", an object without prompts goes to the model that the user prefers for this kind, and
        stays with it; "auto" where the user prefers none, or one that cannot look at this image.
        """
        chosen = self._panel.image_section.model.key or AUTO
        state = session.objects.get(session.current)
        kind = next((name for name, kinds in _PREFERRED.items() if isinstance(prompt, kinds)), None)
        if chosen != AUTO or kind is None or (state is not None and state.prompts):
            return chosen
        preferred = self._preferences[kind]
        if preferred == AUTO or session.image.grid.ndim in session.backend.card(preferred).dimensions:
            return preferred
        return preferred if 2 in session.backend.card(preferred).dimensions else AUTO

    def window(self, session: Session) -> Window:
        """The mapping of grey values that the panel shows."""
        chooser = self._panel.image_section.window_
        if chooser.key in ("", AUTO):
            return Window.auto(session.image)
        if chooser.key == DISPLAYED:
            return Window.displayed(*map(float, self._writer.image.contrast_limits))
        return Window.custom(*chooser.custom) if chooser.key == CUSTOM else Window.preset(chooser.key)

    @property
    def _axis(self) -> int | None:
        return hidden_axis(self._writer.viewer.dims, self._writer.image.ndim)

    def _alter(self, session: Session, number: int, prompt: Prompt | None) -> None:
        if prompt is None:
            answer = session.remove(number, progress=self._progress)
            if answer is None:
                self._panel.status.say("Removed the prompt; undo brings it back.")
            else:
                self._expect(answer)
            return
        old = session.objects[session.current].prompts.items[number]
        new = as_thick(prompt, old)
        self._expect(session.replace(number, new, axis=self._axis, progress=self._progress))
