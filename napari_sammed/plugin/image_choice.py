"""Which image of a viewer is segmented: the layer that the user chose, and the frame of it that is shown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sammed import messages
from napari_sammed.backend.base import Backend
from napari_sammed.errors import InputError
from napari_sammed.plugin.features.all_frames import AllFrames
from napari_sammed.plugin.features.frames import Frames
from napari_sammed.plugin.features.session_files import SessionFiles
from napari_sammed.plugin.gui_thread import Background, GuiThread
from napari_sammed.plugin.image import images
from napari_sammed.plugin.image.coordinates import current_slice, hidden_axis
from napari_sammed.plugin.image.image_view import ImageView
from napari_sammed.plugin.image.images import by_region, check, spatial_shape
from napari_sammed.plugin.layers.layer_writer import LayerWriter
from napari_sammed.plugin.segmentation import Segmentation
from napari_sammed.plugin.sessions.open_sessions import Sessions
from napari_sammed.plugin.sessions.opening import Opener, move_over, open_session
from napari_sammed.plugin.settings.keys import Keyboard
from napari_sammed.plugin.settings.preferences import Preferences
from napari_sammed.plugin.views.choosers import Choice
from napari_sammed.plugin.views.panel import Panel
from napari_sammed.plugin.views.session_files import SUFFIX

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image

    from napari_sammed.session import Session

_IMAGE_KEPT = "Choose the image again to take this over; until then masks are saved on the grid that it had before."


class ImageChoice:
    """Follows the image layers of a viewer; see `napari_sammed.plugin.coordinator.Coordinator`."""

    def __init__(
        self, viewer: ViewerModel, panel: Panel, backend: Backend, keys: Keyboard, preferences: Preferences
    ) -> None:
        self.viewer = viewer
        self.panel = panel
        self.current: Segmentation | None = None
        self._keyboard = keys
        self._preferences = preferences
        self._gui = GuiThread()
        self._background = Background(self._gui)
        self._sessions = Sessions(backend, self._background)
        self._files = SessionFiles(panel, self._gui, self._background, lambda: self.current, self._reopen)
        self._frames = Frames(
            viewer,
            panel.frames,
            on_leave=lambda: self._with(Segmentation.leave),
            on_back=lambda: self._with(Segmentation.come_back),
            on_turn=self._turn,
            on_axes=self.choose_image,
        )
        self._all_frames = AllFrames(panel, self._gui, self._sessions, self._frames)

    def save(self, path: Path) -> None:
        """Write the objects of this frame, or of all of them, as the panel says."""
        if self.current is not None and self.panel.save_options.frames != "this":
            self._all_frames.save(self.current, path)
        else:
            self._with(Segmentation.save, path)

    def choose_image(self, layer: Image | None, *, asked: bool = True) -> None:
        """Segment this layer from now on; None for no layer.

        Large ones that have to be read first wait until the user has `asked` for them.
        """
        writer = self._let_go()
        self._choose(layer, asked, writer)
        if writer is not None and (self.current is None or self.current.writer is not writer):
            writer.close()

    def _choose(self, layer: Image | None, asked: bool, writer: LayerWriter | None) -> None:
        self.panel.objects.set_objects([], None)
        self.panel.status.warn("")
        view = self._frames.of(layer)
        self.panel.set_empty(view is None)
        if view is None:
            self.panel.set_usable(False)
            self.panel.status.say("Open an image, or drop one on the canvas.")
            self._show_slices()
            return
        try:
            check(view)
        except InputError as error:
            self.panel.set_usable(False)
            self.panel.status.say(messages.failure(error) or "")
            return
        self.panel.image_section.image.set_key(str(layer.unique_id))
        size = images.bytes_to_read(view)
        if size > self._preferences["ask_above"] * 2**30 and not asked:
            self.panel.set_usable(False)
            self.panel.status.say(
                f"{layer.name} has to be read first, {size / 2**30:.1f} GiB: choose it in the list of images to do so."
            )
            return
        self._segment(view, writer if writer is not None and writer.fits(view) else None)
        self._all_frames.offer(view)
        layer.events.data.connect(self._on_data)
        layer.events.affine.connect(self._on_transform)
        layer.events.scale.connect(self._on_transform)
        self._suggest_file(layer)

    def _let_go(self) -> LayerWriter | None:
        """Segment nothing any more; what was there leaves its layers to the next image, or they are to be closed."""
        writer = None
        self._files.forget()
        if self.current is not None:
            self.current.image.events.data.disconnect(self._on_data)
            self.current.image.events.affine.disconnect(self._on_transform)
            self.current.image.events.scale.disconnect(self._on_transform)
            writer = self.current.let_go()
            self.current = None
        self._sessions.clear()
        return writer

    def _segment(self, view: ImageView, writer: LayerWriter | None = None, opener: Opener = open_session) -> None:
        self._files.forget()
        self.panel.set_usable(True, stack=view.ndim == 3)
        self.panel.objects.set_flat(view.ndim == 2)
        self.panel.image_section.window_.setEnabled(not view.rgb)
        self.current = Segmentation(
            self.viewer,
            view,
            self.panel,
            self._sessions,
            self._gui,
            self._background,
            self._keyboard,
            self._preferences,
            turn=self._frames.turn,
            on_opened=self._files.show,
            writer=writer,
            opener=opener,
        )
        self._show_slices()

    def _turn(self, view: ImageView) -> None:
        """Segment another frame of the same layer."""
        if self.current is not None:
            self.panel.objects.set_objects([], None)
            self._all_frames.turn(self.current, view)
            self._segment(view, self.current.hand_over())

    def _reopen(self, opener: Opener) -> None:
        """Another session of the same image, in the same layers."""
        if self.current is not None:
            self.panel.objects.set_objects([], None)
            self.panel.status.warn("")
            self._segment(self.current.view, self.current.hand_over(keep_session=False), opener)

    def segment_with(self, backend: Backend, text: str, then: Callable[[], None]) -> None:
        """Have another backend answer from now on; objects and all steps back stay, open questions are asked there.

        ``text`` is said when it does; ``then`` is called beside the GUI thread, when the one before is used no more.
        """
        self._sessions.backend = backend
        self._sessions.clear()

        def move(segmentation: Segmentation, session: Session) -> None:
            if self.current is segmentation and session.backend is not self._sessions.backend:
                label, away = session.current, segmentation.away
                self._reopen(move_over(session))
                if away:
                    self.current.leave()
                self.current.go_on(label, text)
            self._background.run(then)

        if self.current is None or self.current.refused:
            self.panel.status.say(text)
            self._background.run(then)
        else:
            current = self.current
            current.when_open(lambda session: self._gui.post(move, current, session))

    def copy_to_next(self) -> None:
        """Go to the next frame and take the objects of this one along."""
        if self.current is None or self.current.session is None:
            return
        objects, origin = list(self.current.session.objects.values()), self.current.view.frame
        if self._frames.go(1):
            self.current.carry_over(objects, origin)

    def _with(self, do: Callable[..., None], *arguments: Any) -> None:
        """Do something to the image that is being segmented."""
        if self.current is not None:
            do(self.current, *arguments)

    def _on_image_chosen(self, key: str) -> None:
        self.choose_image(next((layer for layer in self._images() if str(layer.unique_id) == key), None))

    def _suggest_file(self, layer: Image) -> None:
        folder = Path(layer.source.path).parent if layer.source.path else Path.home()
        name = layer.name.split(".")[0].replace("/", "_") or "image"
        ending = "ome.zarr" if by_region(layer) else "nii.gz"
        self.panel.suggested_file = folder / f"{name}_objects.{ending}"
        self.panel.objects.suggested_file = folder / f"{name}_objects.csv"
        self.panel.session_button.suggested_file = folder / f"{name}{SUFFIX}"

    # ---- viewer --------------------------------------------------------------------------------------------------

    def _images(self) -> list[Image]:
        from napari.layers import Image

        layers = (layer for layer in self.viewer.layers if isinstance(layer, Image))
        return [layer for layer in layers if not layer.metadata.get(images.OWN_KEY)]

    def _on_layers(self, event: Any = None) -> None:
        images = self._images()
        for layer in images:
            layer.events.name.disconnect(self._on_name)
            layer.events.name.connect(self._on_name)
        self._show_images(images)
        if self.current is None or self.current.image not in images:
            # Later, because napari may be in the middle of removing several layers.
            self._gui.post(self._follow_layers)

    def _follow_layers(self) -> None:
        layers = self._images()
        if self.current is not None and self.current.image in layers:
            return
        active = self.viewer.layers.selection.active
        self.choose_image(active if active in layers else next(iter(layers), None), asked=False)

    def _show_images(self, images: list[Image]) -> None:
        self.panel.image_section.image.set_choices([Choice(str(layer.unique_id), layer.name) for layer in images])
        if self.current is not None:
            self.panel.image_section.image.set_key(str(self.current.image.unique_id))

    def _on_name(self, event: Any = None) -> None:
        self._show_images(self._images())

    def _on_data(self, event: Any = None) -> None:
        """The image has other voxels now, so it is another image."""
        if self.current is not None:
            self._gui.post(self.choose_image, self.current.image)

    def _on_transform(self, event: Any = None) -> None:
        self.panel.status.warn(f"The image's place or scale has been changed. {_IMAGE_KEPT}")

    def _show_slices(self) -> None:
        """Offer the slices of the displayed plane for boxes across slices."""
        view = None if self.current is None else self.current.view
        axis = None if view is None else hidden_axis(self.viewer.dims, view.ndim)
        if view is None or axis is None:
            self.panel.slices.set_limits(None)
        else:
            count = spatial_shape(view)[axis]
            here = current_slice(view, self.viewer.dims) or 0
            self.panel.slices.set_limits(count, min(max(here, 0), count - 1))
