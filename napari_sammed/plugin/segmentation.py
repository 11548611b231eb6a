"""What a user can wish for, of the image that is being segmented."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from napari_sammed import messages
from napari_sammed.plugin.features.arranging import arrange
from napari_sammed.plugin.features.carrying import carry_over
from napari_sammed.plugin.image.coordinates import obstacle
from napari_sammed.plugin.layers.layer_writer import Mode
from napari_sammed.plugin.showing import Showing
from napari_sammed.plugin.views.choosers import AUTO
from napari_sammed.prompts import Prompt
from napari_sammed.session import Session
from napari_sammed.session.actions import ObjectState
from napari_sammed.session.slices import Part


class Segmentation(Showing):
    """One image being segmented; all methods belong to the GUI thread. Parameters are those of `Showing`."""

    def set_mode(self, mode: Mode) -> None:
        """Choose the tool."""
        why_not = obstacle(self.viewer.dims, self.view.ndim)
        if mode is not Mode.NAVIGATE and why_not:
            self._desk.say(why_not)
            mode = Mode.NAVIGATE
        self.writer.set_mode(mode)
        if self.writer.labels_due:
            self._later.start()
        self._show_prompts()
        if mode is not Mode.NAVIGATE:
            self._desk.when_open(lambda session: self._ahead.get_ready(session, mode))
            self._ahead.start()

    def brush_or_erase(self) -> None:
        """Choose the brush; the eraser if that is the brush already."""
        self.set_mode(self._brush.next_mode())

    def flip(self) -> None:
        """Turn the selected clicks and strokes into the other kind."""
        self._brush.flip()

    def new_object(self) -> None:
        self._desk.when_open(lambda session: session.new_object())

    def start(self, name: str, prompts: Sequence[Prompt], model: str) -> None:
        """Segment a first object from prompts that nobody drew; nothing if the session has objects already."""

        def first(session: Session) -> None:
            if session.objects:
                return
            session.new_object(name)
            for prompt in prompts:
                self._desk.expect(session.add(prompt, model=model, progress=self._desk.answers.progress))

        self._desk.when_open(first)

    def carry_over(self, objects: Sequence[ObjectState], origin: str) -> None:
        """Take over the objects of another frame."""
        self._desk.when_open(lambda session: self._desk.say(carry_over(session, objects, origin)))
        self._later.start()

    def when_open(self, action: Callable[[Session], Any]) -> None:
        """Do something now, or when the session has been opened."""
        self._desk.when_open(action)

    def go_on(self, label: int | None, text: str) -> None:
        """Go on where the session was left a moment ago: at an object, and with what has no answer yet; say that."""

        def again(session: Session) -> None:
            if label in session.objects:
                session.select(label)
            self._desk.say(text)
            if not session.read_only:
                self.retry()

        self._desk.when_open(again)

    def choose_object(self, label: int) -> None:
        self._desk.when_open(lambda session: session.select(label))
        self._preview.clear()
        self._show_current()

    def arrange(self, deed: str, labels: Sequence[int], value: Any) -> None:
        """Do something with objects in the list; see `napari_sammed.plugin.views.objects.ObjectList.wanted`."""
        self._desk.when_open(lambda session: self._desk.say(arrange(session, deed, labels, value)))
        self._later.start()  # what was refused is shown as it was

    def clear(self) -> None:
        self._desk.when_open(lambda session: session.clear())

    def undo(self) -> None:
        self._desk.when_open(lambda session: self._step(session.undo, "undo"))

    def redo(self) -> None:
        self._desk.when_open(lambda session: self._step(session.redo, "redo"))

    def propagate(self, part: Part = "changed") -> None:
        """Carry the current object through the stack, with the chosen model if that one looks at slices.

        `part` says through which slices; the first time, what has changed is all of them.
        """

        def start(session: Session) -> None:
            chosen = self._panel.image_section.model.key
            planar = chosen != AUTO and 2 in session.backend.card(chosen).dimensions
            session.window = self._desk.intake.window(session)
            model = chosen if planar else None
            self._desk.expect(session.propagate(model=model, part=part, progress=self._desk.answers.progress))

        self._desk.when_open(start)

    def look_closer(self) -> None:
        """Segment a part of the current object again, magnified."""
        self._desk.when_open(self._closer.start)

    def compare(self) -> None:
        """Ask all models that are on this machine about the current object."""
        self._desk.when_open(self.comparison.start)

    def show_reading(self, step: int) -> None:
        """Show the next reading of an ambiguous answer, or with -1 the one before."""

        def show(session: Session) -> None:
            session.next_reading(step)
            state = session.objects[session.current]
            self._desk.say(messages.read(state, self._desk.size(state.label), session.image.grid))

        self._desk.when_open(show)

    def segment_everything(self) -> None:
        """Have the chosen model without prompts label the whole image."""
        self._desk.when_open(self._classes.ask)

    def take_class(self, name: str) -> None:
        """Make one of the classes that were found an object."""
        self._desk.when_open(lambda session: self._classes.take(session, name))

    def cancel(self) -> None:
        """Stop what is running."""
        self._saving.cancel()
        self._desk.answers.cancelled()
        self._desk.when_open(lambda session: session.cancel())

    def save(self, path: Path) -> None:
        """Write all objects to a file, or to one each, as the panel says."""
        self._desk.when_open(lambda session: self._saving.save(session, path))

    def _step(self, step: Callable[[], Any], verb: str) -> None:
        done = step()
        self._desk.say(messages.stepped(None if done is None else done.action, verb))
        for answer in () if done is None else done.answers:
            self._desk.expect(answer)
