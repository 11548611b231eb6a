"""The list of shortcuts as a dialog, and what the user changes in it."""

from __future__ import annotations

from napari_sammed import messages
from napari_sammed.errors import InputError
from napari_sammed.plugin.settings.keys import SHORTCUTS, Keyboard
from napari_sammed.plugin.views.panel import Panel
from napari_sammed.plugin.views.shortcuts import ShortcutsDialog, menu_keys


class ShortcutList:
    """Opens the list of shortcuts, and changes keys as the user wants.

    Parameters
    ----------
    panel : Panel
    keyboard : Keyboard
    """

    def __init__(self, panel: Panel, keyboard: Keyboard) -> None:
        self._panel = panel
        self._keyboard = keyboard
        self.dialog: ShortcutsDialog | None = None

    def show(self) -> None:
        """Open the list, or bring it to the front."""
        if self.dialog is None:
            titles = {name: SHORTCUTS[name].title for name in self._keyboard.shortcuts}
            self.dialog = ShortcutsDialog(titles, self._panel)
            self.dialog.wanted.connect(self._set)
            self.dialog.reset_wanted.connect(self._reset)
        self.dialog.say("")
        self.refresh()
        self.dialog.show()
        self.dialog.raise_()
        self.dialog.activateWindow()

    def refresh(self) -> None:
        """Show the keys as they are now."""
        if self.dialog is not None:
            self.dialog.set_keys(self._keyboard.shortcuts)

    def close(self) -> None:
        """Close it."""
        if self.dialog is not None:
            self.dialog.close()

    def _set(self, name: str, key: str) -> None:
        title = SHORTCUTS[name].title
        try:
            other = self._keyboard.set(name, key, menu_keys(self._panel.window()))
        except InputError as error:
            self.dialog.say(messages.failure(error) or "")
            return
        keys = self._keyboard.shortcuts
        said = f"“{title}” is {keys[name]} now." if keys[name] else f"“{title}” has no key now."
        if other is not None:
            swapped = f"has {keys[other]} in exchange" if keys[other] else "has none now"
            said += f" “{SHORTCUTS[other].title}” had that key and {swapped}."
        self.dialog.say(said)

    def _reset(self) -> None:
        self._keyboard.reset()
        self.dialog.say("Every action has its first key again.")
