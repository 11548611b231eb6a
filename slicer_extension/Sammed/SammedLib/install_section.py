"""The top of the panel: what is missing, and buttons that install it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import slicer
from slicer.i18n import tr as _

from .installing import Installer, InstallError


class InstallSection:
    """Shown while something is missing.

    Parameters
    ----------
    ui : namespace
        Widgets of the panel by name.
    installer : Installer
    say : callable
        Shows a sentence.
    on_end : callable
        Called after something was, or should have been, installed.
    """

    def __init__(self, ui: Any, installer: Installer, say: Callable[[str], None], on_end: Callable[[], None]) -> None:
        self._ui = ui
        self._installer = installer
        self._say = say
        self._on_end = on_end
        ui.installButton.clicked.connect(lambda *_: self._install(for_server=False))
        ui.installLightButton.clicked.connect(lambda *_: self._install(for_server=True))

    def show(self) -> str:
        """Show what would be installed, and return it; empty if nothing is missing."""
        explained = self._installer.explain()
        self._ui.installLabel.setText(explained)
        self._ui.installSection.setVisible(bool(explained))
        self._ui.installLightButton.setVisible(bool(self._installer.missing_packages))
        return explained

    def _install(self, *, for_server: bool) -> None:
        explained = self._installer.explain(for_server=for_server)
        if not explained or not slicer.util.confirmOkCancelDisplay(explained, _("Install?")):
            return
        try:
            self._installer.install(for_server=for_server)
        except InstallError as error:
            self._say(str(error))
        else:
            server = _("Everything for a server is installed: choose it under Where to segment.")
            self._say(server if for_server else _("Everything is installed."))
        self._on_end()
        if for_server:
            self._ui.placeSection.setCollapsed(False)
