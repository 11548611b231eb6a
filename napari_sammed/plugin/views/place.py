"""The dialog in which the user says where to segment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLineEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_sammed.backend.remote_choice import Place
from napari_sammed.backend.remote_keys import is_loopback
from napari_sammed.plugin.views.small_print import AMBER, SmallPrint, ThemedLabel

if TYPE_CHECKING:
    from qtpy.QtGui import QCloseEvent

HERE, OTHER = "here", "other"
GREEN = ("#4cc38a", "#1a7f37")
"""What is well, on dark and on light."""

_ABOUT_HERE = "Models run on this computer, and no image leaves it."
_ABOUT_SERVER = (
    "Models run at the server. An image goes there when you first ask about it: voxels and their geometry, no names. "
    "You are asked before that, once a server."
)
_KEY = "The server's operator gives you one; none is needed for a server or a tunnel on this computer"
_CERTIFICATE = "Only for servers that made their own certificate: the file with it, from the server's operator"


@dataclass(frozen=True)
class Wish:
    """What the form says.

    Parameters
    ----------
    place : Place
    key : str
        Empty for the one that is kept, if any.
    keep : bool
        Whether the key is to be kept in the system's keyring.
    """

    place: Place
    key: str = ""
    keep: bool = False


class PlaceDialog(QDialog):
    """This computer, a server that is known, or another one.

    Signals
    -------
    picked : str
        Address of a known server that the form now shows.
    test_wanted
        The user wants to know whether the server of the form answers.
    stop_wanted
        Not any more.
    chosen
        The user wants to segment where the form says.
    forget_wanted : str
        Address of a server that the user wants to see no more.
    ask_wanted : str
        Address of a server, before sending images to which the user wants to be asked again.
    """

    picked = Signal(str)
    test_wanted = Signal()
    stop_wanted = Signal()
    chosen = Signal()
    forget_wanted = Signal(str)
    ask_wanted = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Where to segment")
        self.where = QComboBox(self)
        self.where.setToolTip("Where the models run")
        self.where.activated.connect(lambda _: self._on_where())
        self.about = SmallPrint(self)
        self.about.setWordWrap(True)
        self.address, self.key, self.certificate = QLineEdit(self), QLineEdit(self), QLineEdit(self)
        self.address.setPlaceholderText("https://gpu.lab:8765")
        self.address.setToolTip("https://host:port, or http://localhost:8765 for a tunnel")
        self.address.textEdited.connect(lambda _: self._on_edited())
        self.key.setEchoMode(QLineEdit.EchoMode.Password)
        self.key.setToolTip(_KEY)
        self.key.textEdited.connect(lambda _: self.say(""))
        self.keep = QCheckBox("Keep the key in the system's keyring", self)
        self.keep.setToolTip("Else it is forgotten when napari ends")
        self.no_keyring = SmallPrint(self)
        self.no_keyring.setText("This computer has no keyring: the key is forgotten when napari ends.")
        self.no_keyring.setWordWrap(True)
        self.certificate.setPlaceholderText("the usual authorities")
        self.certificate.setToolTip(_CERTIFICATE)
        self.certificate.textEdited.connect(lambda _: self.say(""))
        self.file_button = self._button("Choose…", "Pick the file with the server's certificate")
        self.file_button.clicked.connect(self._pick_file)
        self.insecure = QCheckBox("Accept http: everybody in between can read images and key", self)
        self.insecure.setToolTip("Better: https, or a tunnel (ssh -L 8765:localhost:8765 server)")
        self.insecure.toggled.connect(lambda _: self.say(""))
        self.form = QWidget(self)
        self._fill_form()
        self.result_, self.problem = ThemedLabel(GREEN, parent=self), ThemedLabel(AMBER, parent=self)
        for label in (self.result_, self.problem):
            label.setWordWrap(True)
            label.setTextFormat(Qt.TextFormat.PlainText)
            label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.buttons = QDialogButtonBox(self)
        self.ok_button = self.buttons.addButton("OK", QDialogButtonBox.ButtonRole.AcceptRole)
        self.ok_button.setToolTip("Segment there from now on; objects and undo stay")
        self.buttons.addButton("Cancel", QDialogButtonBox.ButtonRole.RejectRole).setToolTip("Stay where you are")
        self.buttons.accepted.connect(lambda: self.chosen.emit())
        self.buttons.rejected.connect(self.reject)
        layout = QVBoxLayout(self)
        for widget in (self.where, self.about, self.form, self.result_, self.problem):
            layout.addWidget(widget)
        layout.addStretch(1)
        layout.addWidget(self.buttons)
        self._known: dict[str, Place] = {}
        self._agreed: set[str] = set()
        self.set_places((), None, ())
        self.set_keyring(None)
        self.set_testing(False)
        self.resize(540, 360)

    def set_places(self, known: Sequence[Place], chosen: Place | None, agreed: Sequence[str]) -> None:
        """Offer servers, of which the user has agreed to images going to some (addresses); shows the chosen one."""
        self._known = {place.url: place for place in known}
        self._agreed = set(agreed)
        self.where.clear()
        self.where.addItem("This computer", HERE)
        for place in known:
            self.where.addItem(f"Server {place.host}", place.url)
        self.where.addItem("Another server…", OTHER)
        self.where.setCurrentIndex(0 if chosen is None else max(self.where.findData(chosen.url), 0))
        self._on_where()

    def set_agreed(self, agreed: Sequence[str]) -> None:
        """Say of other servers that the user has agreed."""
        self._agreed = set(agreed)
        self.ask_button.setVisible(self.where.currentData() in self._agreed)

    def set_keyring(self, there: bool | None) -> None:
        """Whether the system has a place for keys; None while that is not known."""
        self.keep.setEnabled(bool(there))
        self.keep.setChecked(bool(there))
        self.keep.setVisible(there is not False)
        self.no_keyring.setVisible(there is False)

    def set_has_key(self, url: str, there: bool) -> None:
        """Say whether there is a key to a server already."""
        if self.where.currentData() == url:
            self.key.setPlaceholderText("there is one; type another one to replace it" if there else "none")

    def set_testing(self, running: bool) -> None:
        """Show whether the server is being asked."""
        self.test_button.setEnabled(not running)
        self.stop_button.setVisible(running)
        if running:
            self.say("Asking the server …")

    def say(self, problem: str, result: str = "") -> None:
        """Show what has come of something: a problem, or a good result."""
        for label, text in ((self.problem, problem), (self.result_, result)):
            label.setText(text)
            label.setVisible(bool(text))

    def wish(self) -> Wish | None:
        """What the form says; None for this computer.

        Raises
        ------
        InputError
            For an address that is none.
        """
        if self.where.currentData() == HERE:
            return None
        certificate = self.certificate.text().strip()
        place = Place(
            self.address.text(),
            Path(certificate).expanduser() if certificate else None,
            self._needs_leave and self.insecure.isChecked(),
        )
        return Wish(place, self.key.text().strip(), self.keep.isChecked())

    def closeEvent(self, event: QCloseEvent) -> None:
        """Ask no further."""
        self.stop_wanted.emit()
        super().closeEvent(event)

    def reject(self) -> None:
        """Ask no further."""
        self.stop_wanted.emit()
        super().reject()

    # ---- inside --------------------------------------------------------------------------------------------------

    def _fill_form(self) -> None:
        form = QFormLayout(self.form)
        form.setContentsMargins(0, 6, 0, 0)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("Address", self.address)
        form.addRow("", self.insecure)
        form.addRow("Key", self.key)
        form.addRow("", self.keep)
        form.addRow("", self.no_keyring)
        form.addRow("Certificate", _beside(self.certificate, self.file_button))
        self.test_button = self._button("Test connection", "Ask the server what it is; no image is sent")
        self.test_button.clicked.connect(lambda: self.test_wanted.emit())
        self.stop_button = self._button("Stop", "Wait for the server no longer")
        self.stop_button.clicked.connect(lambda: self.stop_wanted.emit())
        self.forget_button = self._button("Forget", "Forget this server, its key, and that images may go there")
        self.forget_button.clicked.connect(lambda: self.forget_wanted.emit(self.where.currentData()))
        self.ask_button = self._button("Ask before sending", "You have agreed to images going there: take that back")
        self.ask_button.clicked.connect(lambda: self.ask_wanted.emit(self.where.currentData()))
        row = _beside(self.test_button, self.stop_button, self.ask_button, self.forget_button)
        form.addRow("", row)

    def _button(self, text: str, tooltip: str) -> QPushButton:
        button = QPushButton(text, self)
        button.setToolTip(tooltip)
        button.setAutoDefault(False)
        return button

    def _on_where(self) -> None:
        where = self.where.currentData()
        place = self._known.get(where)
        self.stop_wanted.emit()
        self.form.setVisible(where != HERE)
        self.about.setText(_ABOUT_HERE if where == HERE else _ABOUT_SERVER)
        self.address.setText("" if place is None else place.url)
        self.address.setReadOnly(place is not None)
        self.key.clear()
        self.key.setPlaceholderText("")
        self.certificate.setText(str(place.certificate) if place is not None and place.certificate else "")
        self.insecure.setChecked(place is not None and place.insecure)
        self.forget_button.setVisible(place is not None)
        self.ask_button.setVisible(where in self._agreed)
        self._on_edited()
        if place is not None:
            self.picked.emit(where)
        elif where == OTHER:
            self.address.setFocus()

    def _on_edited(self) -> None:
        self.say("")
        self.insecure.setVisible(self._needs_leave)

    @property
    def _needs_leave(self) -> bool:
        """Whether the address is one of http to another machine."""
        try:
            parts = urlsplit(self.address.text().strip())
        except ValueError:
            return False
        return parts.scheme == "http" and bool(parts.hostname) and not is_loopback(parts.hostname)

    def _pick_file(self) -> None:
        types = "Certificates (*.pem *.crt *.cer);;All files (*)"
        name, _ = QFileDialog.getOpenFileName(self, "Certificate of the server", self.certificate.text(), types)
        if name:
            self.certificate.setText(name)
            self.say("")


def _beside(*widgets: QWidget) -> QWidget:
    row = QWidget()
    layout = QHBoxLayout(row)
    layout.setContentsMargins(0, 0, 0, 0)
    for widget in widgets:
        layout.addWidget(widget, 1 if isinstance(widget, QLineEdit) else 0)
    if not isinstance(widgets[0], QLineEdit):
        layout.addStretch(1)
    return row
