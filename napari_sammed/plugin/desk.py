"""What the parts of one image's segmentation share: its layers, the panel, the session once it is open, the answers."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sammed import messages
from napari_sammed.backend.base import Prediction
from napari_sammed.errors import InputError
from napari_sammed.plugin.gui_thread import Background, GuiThread
from napari_sammed.plugin.layers.layer_writer import LayerWriter
from napari_sammed.plugin.layers.mode import Mode
from napari_sammed.plugin.prompt_intake import PromptIntake
from napari_sammed.plugin.settings.keys import Keyboard
from napari_sammed.plugin.settings.preferences import Preferences
from napari_sammed.plugin.views.panel import Panel
from napari_sammed.plugin.waiting import Waiting
from napari_sammed.prompts import MaskPrompt
from napari_sammed.session import Session

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_sammed.plugin.image.image_view import ImageView


class Desk:
    """The desk at which one image layer is segmented. All of it belongs to the GUI thread.

    Parameters
    ----------
    viewer : napari viewer
    image : ImageView
        Only ever read.
    panel : Panel
    gui : GuiThread
    background : Background
    keys : Keyboard
        Binds keys on the layers.
    preferences : Preferences
    on_prompts, on_paint : callable
        Called when the user may have changed prompts, and has painted in the labels.
    writer : LayerWriter, optional
        Of another frame, or let go by another image, whose layers this one goes on with.

    Attributes
    ----------
    session : Session or None
        None until it has been opened.
    closed : bool
        Whether the user has turned to another image.
    writer : LayerWriter
    answers : Waiting
    intake : PromptIntake
    """

    def __init__(
        self,
        viewer: ViewerModel,
        image: ImageView,
        panel: Panel,
        gui: GuiThread,
        background: Background,
        keys: Keyboard,
        preferences: Preferences,
        *,
        on_prompts: Callable[[], None],
        on_paint: Callable[[], None],
        writer: LayerWriter | None = None,
    ) -> None:
        self.viewer = viewer
        self.image = image
        self.panel = panel
        self.gui = gui
        self.background = background
        self.keys = keys
        self.preferences = preferences
        self.session: Session | None = None
        self.closed = False
        self._followers: list[Callable[[], None]] = []  # told of other tools
        told: dict[str, Callable[..., None]] = {
            "on_prompts": lambda: gui.post(on_prompts),
            "on_paint": lambda: gui.post(on_paint),
            "on_mode": self._on_mode,
        }
        if writer is None:
            writer = LayerWriter(viewer, image, **told, keys=keys)
        else:
            writer.turn_to(image, **told)
        self.writer = writer
        self.answers = Waiting(panel.status, gui, lambda: self.session is not None and self.session.busy)
        self.intake = PromptIntake(self.writer, panel, self.expect, self.answers.progress, preferences)
        self._waiting: list[Callable[[Session], Any]] = []  # for the session to be open
        self._sizes: dict[int, tuple[MaskPrompt | None, int]] = {}

    def open(self, session: Session) -> None:
        """The session is there: do what has waited for it."""
        self.session = session
        waiting, self._waiting = self._waiting, []
        for action in waiting:
            self.attempt(action)

    def close(self) -> None:
        """Answer no more; the layers stay, for another image to go on with."""
        self.closed = True
        self.answers.close()

    def on_mode(self, follower: Callable[[], None]) -> None:
        """Call ``follower`` when the user may have chosen another tool; see `LayerWriter.mode`."""
        self._followers.append(follower)

    def when_open(self, action: Callable[[Session], Any]) -> None:
        """Do it now, or when the session has been opened."""
        if self.session is None:
            self._waiting.append(action)
        else:
            self.attempt(action)

    def attempt(self, action: Callable[[Session], Any]) -> None:
        """Do something that may be refused; the refusal is shown."""
        try:
            action(self.session)
        except InputError as error:
            self.say(messages.failure(error) or "")

    def say(self, text: str, remark: str = "") -> None:
        """Show a sentence, and a remark below it."""
        self.panel.status.say(text, remark)

    def expect(self, future: Future[Prediction], tell: Callable[..., str] = messages.answered, *known: Any) -> None:
        """Say of the answer about the current object what `tell` makes of it, when it is there; what failed, too.

        Parameters
        ----------
        future : Future of Prediction
        tell : callable
            Given the object, its voxels, the image's grid, the answer, and what is `known`; see `messages`.
        *known
        """
        label = self.session.current

        def arrived(answer: Prediction) -> None:
            if self.session is not None:
                state = self.session.objects.get(label)
                text = tell(state, self.size(label), self.session.image.grid, answer, *known)
                self.say(text, " ".join(answer.reductions))

        self.answers.expect(future, arrived)

    def size(self, label: int) -> int:
        """Voxels of an object; counted once for each mask."""
        state = self.session.objects.get(label)
        mask = None if state is None else state.mask
        known = self._sizes.get(label)
        if known is None or known[0] is not mask:
            known = self._sizes[label] = (mask, 0 if mask is None else int(np.count_nonzero(mask.mask)))
        return known[1]

    def _on_mode(self, mode: Mode) -> None:
        self.panel.modes.show_mode(mode.value)
        for follower in self._followers:
            follower()
