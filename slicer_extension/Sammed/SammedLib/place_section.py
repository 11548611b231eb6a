"""The panel's section "Where to segment"."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import qt
from slicer.i18n import tr as _

from .serving import Serving

if TYPE_CHECKING:
    from napari_sammed.backend.remote_choice import Place

_HERE, _ANOTHER = "", "another"


class PlaceSection:
    """The choice between this computer and servers, and the form about the chosen one.

    Parameters
    ----------
    ui : namespace
        Widgets of the panel by name.
    serving : Serving
    attempt : callable
        Does something that may be refused, and says the refusal.
    on_choice : callable
        Called when the user has chosen.
    """

    def __init__(
        self,
        ui: Any,
        serving: Serving,
        attempt: Callable[[Callable[[], Any]], Any],
        on_choice: Callable[[], None],
    ) -> None:
        self._ui = ui
        self._serving = serving
        self._attempt = attempt
        self._on_choice = on_choice
        self._filling = False
        self._open_to_all = False
        self._said = ""  # about what was done last
        self._shown: object = None  # what the list was filled with
        for name, action in (
            ("testButton", self._on_test),
            ("useButton", self._on_use),
            ("withdrawButton", self._on_withdraw),
            ("forgetButton", self._on_forget),
            ("certificateButton", self._on_certificate),
        ):
            getattr(ui, name).clicked.connect(lambda *_, action=action: self._attempt(action))
        ui.placeBox.currentIndexChanged.connect(lambda *_: self._attempt(self._on_place))
        ui.addressEdit.textChanged.connect(lambda *_: self._show_insecure())

    def show(self, ready: bool = True) -> None:
        """Show the servers that are known, and what is to be known of the chosen one.

        Parameters
        ----------
        ready : bool
            Whether the package is installed; nothing can be chosen before.
        """
        self._ui.placeSection.setEnabled(ready)
        if ready:
            self._fill()
            self._show_state()

    # ---- shown ---------------------------------------------------------------------------------------------------

    def _fill(self) -> None:
        """The list of places; an address that is being written is left alone."""
        serving, box = self._serving, self._ui.placeBox
        known = serving.servers.known()
        shown = (known, serving.place)
        if shown == self._shown:
            return
        self._shown, self._filling = shown, True
        box.clear()
        box.addItem(_("This computer"), _HERE)
        for place in known:
            box.addItem(place.host if place.url.startswith("https") else place.url, place.url)
        box.addItem(_("Another server…"), _ANOTHER)
        box.setCurrentIndex(max(box.findData(_HERE if serving.place is None else serving.place.url), 0))
        self._filling = False
        self._show_form()

    def _show_form(self) -> None:
        """The fields about the chosen server."""
        ui, place = self._ui, self._listed()
        ui.serverForm.setVisible(self._key() != _HERE)
        ui.addressEdit.setText("" if place is None else place.url)
        ui.certificateEdit.setText("" if place is None or place.certificate is None else str(place.certificate))
        ui.insecureBox.setChecked(place is not None and place.insecure)
        ui.keyEdit.setText("")
        self._show_insecure()

    def _show_insecure(self) -> None:
        """What is to be accepted over http to other machines, and only there."""
        address = self._ui.addressEdit.text
        self._open_to_all = _is_address(address, insecure=True) and not _is_address(address, insecure=False)
        self._ui.insecureBox.setVisible(self._open_to_all)

    def _show_state(self) -> None:
        ui, serving, place = self._ui, self._serving, self._listed()
        chosen = serving.place
        where = _("this computer") if chosen is None else chosen.host
        ui.placeSection.setText(_("Where to segment: {where}").format(where=where))
        ui.testButton.setText(_("Stop testing") if serving.testing else _("Test connection"))
        ui.forgetButton.setVisible(place is not None)
        ui.withdrawButton.setVisible(place is not None and serving.servers.agreed(place.url))
        text = self._said
        if not text and place is not None and place == chosen:
            text = serving.problem if serving.check is None or serving.problem else serving.check.sentence
            text = text or _("Asking {host} what it has …").format(host=place.host)
        if not text and self._key() == _HERE:
            text = _("Volumes stay on this computer.")
        ui.placeLabel.setText(text)

    def _key(self) -> str:
        return self._ui.placeBox.itemData(self._ui.placeBox.currentIndex) or _HERE

    def _listed(self) -> Place | None:
        """The known server that the list shows."""
        key = self._key()
        return next((place for place in self._serving.servers.known() if place.url == key), None)

    # ---- done ----------------------------------------------------------------------------------------------------

    def _wish(self) -> Place:
        """What the form says; InputError for an address that is none."""
        from napari_sammed.backend.remote_choice import Place

        ui = self._ui
        certificate = ui.certificateEdit.text.strip()
        file = Path(certificate).expanduser() if certificate else None
        return Place(ui.addressEdit.text, file, self._open_to_all and ui.insecureBox.checked)

    def _say(self, text: str) -> None:
        self._said = text
        self._show_state()

    def _on_place(self) -> None:
        if self._filling:
            return
        self._said = ""
        self._show_form()
        if self._key() != _ANOTHER:
            self._serving.choose(self._listed())
            self._on_choice()
        self._show_state()

    def _on_test(self) -> None:
        if self._serving.testing:
            self._serving.stop_test()
            return
        self._refusable(lambda: self._serving.test(self._wish(), self._ui.keyEdit.text, self._say))
        if self._serving.testing:
            self._say(_("Asking …"))

    def _on_use(self) -> None:
        def use() -> None:
            self._serving.choose(self._wish(), self._ui.keyEdit.text)
            self._ui.keyEdit.setText("")
            self._on_choice()

        self._said = ""
        self._refusable(use)

    def _on_withdraw(self) -> None:
        place = self._listed()
        if place is not None:
            self._serving.withdraw(place.url)
            self._say(_("You are asked again before an image is sent there."))

    def _on_forget(self) -> None:
        place = self._listed()
        if place is not None:
            self._serving.forget(place.url, self._on_forgotten)

    def _on_forgotten(self, problem: str) -> None:
        self._said = problem or _("Forgotten, with its key.")
        self._on_choice()

    def _on_certificate(self) -> None:
        chosen = qt.QFileDialog.getOpenFileName(self._ui.serverForm.window(), _("Certificate of the server"))
        path = chosen if isinstance(chosen, str) else chosen[0]  # as the binding has it
        if path:
            self._ui.certificateEdit.setText(path)

    def _refusable(self, action: Callable[[], None]) -> None:
        """Do something; a refusal is said here, where its cause is."""
        from napari_sammed.errors import InputError

        try:
            action()
        except InputError as error:
            self._say(str(error))
        else:
            self._show_state()


def _is_address(text: str, insecure: bool) -> bool:
    from napari_sammed.backend.remote_keys import checked_url
    from napari_sammed.errors import InputError

    try:
        checked_url(text, insecure)
    except InputError:
        return False
    return True
