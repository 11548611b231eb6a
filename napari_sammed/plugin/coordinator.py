"""Connects panel, viewer and the image that is being segmented."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from napari_sammed.backend.base import Backend
from napari_sammed.intensity import Window
from napari_sammed.plugin.features.model_offers import ModelOffers
from napari_sammed.plugin.features.place import PlaceChoice
from napari_sammed.plugin.features.preference_page import PreferencePage
from napari_sammed.plugin.features.shortcut_list import ShortcutList
from napari_sammed.plugin.features.welcome import Welcome
from napari_sammed.plugin.image.coordinates import current_slice, obstacle
from napari_sammed.plugin.image_choice import ImageChoice
from napari_sammed.plugin.layers.layer_writer import Mode
from napari_sammed.plugin.segmentation import Segmentation
from napari_sammed.plugin.settings.keys import Keyboard
from napari_sammed.plugin.settings.memory import Memory
from napari_sammed.plugin.settings.preferences import Preferences
from napari_sammed.plugin.views.panel import Panel

if TYPE_CHECKING:
    from napari.components import ViewerModel

_SECTIONS = "sections"
_SAVING = "saving"


class Coordinator(ImageChoice):
    """What the panel's signals lead to, and what the viewer's events do to the panel.

    Parameters
    ----------
    viewer : napari viewer
    panel : Panel
    backend : Backend, optional
        Default: a `napari_sammed.backend.local.LocalBackend` of its own, which ends with the coordinator.

    Attributes
    ----------
    current : Segmentation or None
        Of the image that is being segmented.
    closed : bool
        Whether the panel has been closed.
    """

    def __init__(self, viewer: ViewerModel, panel: Panel, backend: Backend | None = None) -> None:
        self._memory = Memory()
        self._preferences = Preferences(self._memory)
        self._own_backend = _local_backend(self._preferences) if backend is None else None
        self._backend = backend or self._own_backend
        self.closed = False
        actions = {
            "new": lambda: self._with(Segmentation.new_object),
            "undo": lambda: self._with(Segmentation.undo),
            "redo": lambda: self._with(Segmentation.redo),
            "propagate": lambda: self._with(Segmentation.propagate),
            "worst": lambda: self._with(lambda current: current.cockpit.go_to_worst()),
            "next": lambda: self._with(lambda current: current.cockpit.where_next()),
            "closer": lambda: self._with(Segmentation.look_closer),
            "compare": lambda: self._with(Segmentation.compare),
            "clear": lambda: self._with(Segmentation.clear),
            "toggle": self._toggle_sign,
            "box": lambda: self._set_mode("box"),
            "brush": lambda: self._with(Segmentation.brush_or_erase),
            "flip": lambda: self._with(Segmentation.flip),
            "reading": lambda: self._with(Segmentation.show_reading, 1),
            "reading back": lambda: self._with(Segmentation.show_reading, -1),
        }
        keyboard = Keyboard(actions, self._memory, self._on_keys)
        super().__init__(viewer, panel, self._backend, keyboard, self._preferences)
        self._offers = ModelOffers(panel, self._backend, self._gui, self._memory)
        self._preference_page = PreferencePage(panel, self._preferences, self._offers, self._gui)
        self._shortcut_list = ShortcutList(panel, self._keyboard)
        self._place = PlaceChoice(
            panel,
            self._gui,
            self._offers,
            self._backend,
            self.segment_with,
            lambda: self._with(lambda current: current.when_open(lambda session: session.cancel())),
            remembered=self._own_backend is not None,
        )
        self._welcome = Welcome(viewer, panel, self._gui)
        self._use_preferences()
        self._connect_panel(actions)
        self._on_keys()
        panel.image_section.window_.set_presets(Window.presets())
        self._offers.show()
        self._connect_viewer()
        self._on_layers()

    def close(self, wait: bool = False) -> None:
        """End session and threads; `wait` until they have ended."""
        if self.closed:
            return
        self.closed = True
        self._place.close()
        self._welcome.close(wait)
        self._shortcut_list.close()
        self._preference_page.close()
        self._preferences.close()
        self._disconnect_viewer()
        writer = self._let_go()
        if writer is not None:
            writer.close()
        self._frames.close()
        self._all_frames.close(wait)
        self._gui.close()
        if self._own_backend is not None:
            self._background.run(self._own_backend.shutdown)
        self._offers.close(wait)
        self._background.close(wait)

    def use_model(self, name: str) -> str:
        """Have a model that the registry has just come to know chosen, and say what that means."""
        return self._offers.choose(name)

    # ---- panel ---------------------------------------------------------------------------------------------------

    def _connect_panel(self, actions: dict[str, Callable[[], None]]) -> None:
        panel = self.panel
        panel.image_section.image.chosen.connect(self._on_image_chosen)
        panel.frames.copy_wanted.connect(self.copy_to_next)
        panel.modes.chosen.connect(self._set_mode)
        panel.slices.here.connect(self._take_slice)
        panel.objects.added.connect(actions["new"])
        panel.objects.chosen.connect(lambda label: self._with(Segmentation.choose_object, label))
        panel.objects.wanted.connect(lambda *wish: self._with(Segmentation.arrange, *wish))
        panel.objects.exported.connect(lambda path: panel.status.say(f"Saved the table to {path}."))
        panel.objects.failed.connect(panel.status.say)
        panel.propagate_menu.wanted.connect(lambda part: self._with(Segmentation.propagate, part))
        panel.cockpit.strip.chosen.connect(lambda index: self._with(lambda current: current.cockpit.go_to(index)))
        panel.cockpit.wanted.connect(lambda name: actions[name]())
        panel.closer.wanted.connect(actions["closer"])
        panel.readings.stepped.connect(lambda step: self._with(Segmentation.show_reading, step))
        panel.classes.wanted.connect(lambda: self._with(Segmentation.segment_everything))
        panel.classes.taken.connect(lambda name: self._with(Segmentation.take_class, name))
        panel.wanted.connect(lambda name: actions[name]())
        panel.shortcuts_wanted.connect(self._shortcut_list.show)
        panel.preferences_wanted.connect(self._preference_page.show)
        panel.section_toggled.connect(self._on_section)
        panel.set_open(self._sections())
        panel.session_button.learn_wanted.connect(self._learn)
        panel.save_wanted.connect(self.save)
        panel.save_options.set_chosen(self._memory.get(_SAVING, {}))
        panel.save_options.changed.connect(lambda chosen: self._memory.note(_SAVING, chosen))
        panel.status.cancelled.connect(lambda: self._with(Segmentation.cancel))
        panel.status.retried.connect(lambda: self._with(Segmentation.retry))

    def _learn(self) -> None:
        from napari_sammed.plugin.learning.widget import show  # which knows the panel

        show(self.viewer)

    def _use_preferences(self) -> None:
        """Begin with what the user prefers."""
        self.panel.brush.show_size(self._preferences["brush_size"])
        self.panel.preview.setChecked(self._preferences["preview"])

    def _on_keys(self) -> None:
        """Name the shortcuts as they are now."""
        keys = self._keyboard.shortcuts
        self.panel.set_keys({**keys, "positive": keys["toggle"], "negative": keys["toggle"], "eraser": keys["brush"]})
        self._shortcut_list.refresh()

    def _on_section(self, key: str, opened: bool) -> None:
        self._memory.note(_SECTIONS, {**self._sections(), key: opened})

    def _sections(self) -> dict[str, bool]:
        """Which sections of the panel the user left open."""
        kept = self._memory.get(_SECTIONS, {})
        return {str(key): bool(opened) for key, opened in kept.items()} if isinstance(kept, dict) else {}

    def _set_mode(self, mode: str) -> None:
        self._with(Segmentation.set_mode, Mode(mode))

    def _toggle_sign(self) -> None:
        if self.current is not None:
            positive = self.current.writer.mode is Mode.POSITIVE
            self.current.set_mode(Mode.NEGATIVE if positive else Mode.POSITIVE)

    def _take_slice(self, which: str) -> None:
        index = None if self.current is None else current_slice(self.current.view, self.viewer.dims)
        if index is not None:
            self.panel.slices.set_slice(which, index)

    # ---- viewer --------------------------------------------------------------------------------------------------

    def _connect_viewer(self) -> None:
        layers, dims = self.viewer.layers.events, self.viewer.dims.events
        layers.inserted.connect(self._on_layers)
        layers.removed.connect(self._on_layers)
        dims.ndisplay.connect(self._on_display)
        dims.order.connect(self._on_display)
        self._keyboard.bind(self.viewer, layer=False)

    def _disconnect_viewer(self) -> None:
        layers, dims = self.viewer.layers.events, self.viewer.dims.events
        layers.inserted.disconnect(self._on_layers)
        layers.removed.disconnect(self._on_layers)
        dims.ndisplay.disconnect(self._on_display)
        dims.order.disconnect(self._on_display)
        self._keyboard.release(self.viewer)

    def _on_display(self, event: Any = None) -> None:
        """The viewer shows other axes than before."""
        self._show_slices()
        if self.current is None:
            return
        why_not = obstacle(self.viewer.dims, self.current.view.ndim)
        if why_not:
            self.current.writer.set_mode(Mode.NAVIGATE)
            self.panel.status.say(why_not)
        self._gui.post(self.current.collect_prompts)


def _local_backend(preferences: Preferences) -> Any:
    from napari_sammed.backend.local import LocalBackend

    return LocalBackend(preferences["device"], cache_bytes=round(preferences["cache"] * 2**30))
