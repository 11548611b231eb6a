"""The page of preferences as a dialog, and what follows at once from a change, wherever it was made."""

from __future__ import annotations

import os
from pathlib import Path

from napari_sammed import messages
from napari_sammed.errors import InputError
from napari_sammed.models import registry
from napari_sammed.models.sources import FOLDER_VARIABLE as WEIGHTS_VARIABLE
from napari_sammed.plugin.features.model_offers import ModelOffers
from napari_sammed.plugin.gui_thread import GuiThread
from napari_sammed.plugin.settings.preferences import Preferences, declared
from napari_sammed.plugin.views.objects import OVERLAPS
from napari_sammed.plugin.views.panel import Panel
from napari_sammed.plugin.views.preferences import PreferencesDialog


class PreferencePage:
    """Opens the page, and keeps the folder of weights and the offered models as it says.

    Parameters
    ----------
    panel : Panel
    preferences : Preferences
    offers : ModelOffers
    gui : GuiThread
    """

    def __init__(self, panel: Panel, preferences: Preferences, offers: ModelOffers, gui: GuiThread) -> None:
        self._panel = panel
        self._preferences = preferences
        self._offers = offers
        self._own_folder = ""  # of weights, as far as it is named by the preferences and not by the environment
        self.dialog: PreferencesDialog | None = None
        preferences.on_change(lambda name: gui.post(self._changed, name))
        offers.on_own_weights(self._show_files)
        self._use_folder()

    def show(self) -> None:
        """Open the page, or bring it to the front."""
        if self.dialog is None:
            names = registry.names()
            titles = {name: registry.card(name).title for name in names} | OVERLAPS | {"auto": "Auto"}
            self.dialog = PreferencesDialog(declared(), titles, self._panel)
            self.dialog.wanted.connect(self._set)
            self.dialog.forget_wanted.connect(self._offers.forget_files)
        self.dialog.say("")
        self.dialog.set_values({name: self._preferences[name] for name in declared()})
        self._show_files()
        self.dialog.show()
        self.dialog.raise_()
        self.dialog.activateWindow()

    def close(self) -> None:
        """Close it, and name no folder of weights any more."""
        if self.dialog is not None:
            self.dialog.close()
        self._leave_folder()

    # ---- inside --------------------------------------------------------------------------------------------------

    def _set(self, name: str, value: object) -> None:
        try:
            self._preferences.set(name, value)
        except InputError as error:
            self.dialog.say(messages.failure(error) or "")
            self.dialog.set_values({name: self._preferences[name]})

    def _changed(self, name: str) -> None:
        if name == "weights":
            self._use_folder()
            self._offers.show()
        if self.dialog is not None:
            self.dialog.set_values({name: self._preferences[name]})
            *_, since = declared()[name].description.rstrip(".").split(". ")
            self.dialog.say(f"“{declared()[name].title}” counts {since[:1].lower()}{since[1:]}.")

    def _show_files(self) -> None:
        if self.dialog is not None:
            self.dialog.set_files(self._offers.own_weights)

    def _use_folder(self) -> None:
        """Have weights looked for in the folder of the preferences; one that the environment names goes before."""
        self._leave_folder()
        self._panel.status.warn("", "folder of weights")
        wanted = self._preferences["weights"]
        if not wanted or os.environ.get(WEIGHTS_VARIABLE):
            return
        if Path(wanted).expanduser().is_dir():
            self._own_folder = os.environ[WEIGHTS_VARIABLE] = wanted
        else:
            text = f"The folder of weights in the preferences is not there: {wanted}."
            self._panel.status.warn(text, "folder of weights")

    def _leave_folder(self) -> None:
        if self._own_folder and os.environ.get(WEIGHTS_VARIABLE) == self._own_folder:
            del os.environ[WEIGHTS_VARIABLE]
        self._own_folder = ""
