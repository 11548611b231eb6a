"""Choosing a server in the panel, and the Segment Editor effect that goes there too."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed: pip install 'napari-sammed[slicer]'")
pytest.importorskip("PyQt6", reason="no Qt for the panel: pip install 'napari-sammed[napari]'")
pytest.importorskip("fastapi", reason="needs the extra [server]")

import slicer
from PyQt6 import QtWidgets
from SammedLib import serving
from SammedLib.installing import Installer

from napari_sammed.backend.remote_choice import Place, Servers
from tests.slicer.scenes import add_volume, blobs
from tests.slicer.test_effect import hands  # noqa: F401, a fixture
from tests.slicer.test_installing import REQUIREMENTS, Recorder
from tests.slicer.test_panel import (  # noqa: F401, fixtures
    BELOW,
    IN_BELOW,
    IN_LEFT,
    LEFT,
    answers,
    panel,
    same,
    selection,
    volume,
)
from tests.slicer.test_serving import no_keys_left, url  # noqa: F401, fixtures


@pytest.fixture
def section(panel):  # noqa: F811
    """The panel with the section unfolded."""
    panel.ui.placeSection.setCollapsed(False)
    return panel


def pick(panel, text: str) -> None:  # noqa: F811
    """Choose an entry of the list."""
    box = panel.ui.placeBox.widget
    box.setCurrentIndex(box.findText(text))


def fill_in(panel, url: str) -> None:  # noqa: F811
    pick(panel, "Another server…")
    panel.ui.addressEdit.setText(url)


def title(panel) -> str:  # noqa: F811
    return panel.ui.placeSection.widget.title()


def visible(panel, name: str) -> bool:  # noqa: F811
    return getattr(panel.ui, name).widget.isVisibleTo(panel.window)


def test_this_computer_at_first(section):
    assert title(section) == "Where to segment: this computer"
    assert section.ui.placeLabel.text == "Volumes stay on this computer."
    assert not visible(section, "serverForm") and section.ui.deviceBox.enabled


def test_from_an_address_to_a_segment(section, volume, answers, url):  # noqa: F811
    panel = section  # noqa: F811
    panel.choose(volume)
    panel.press("positiveButton")
    panel.place(IN_LEFT)
    panel.settle()
    fill_in(panel, url)
    host = url.removeprefix("http://")
    panel.press("testButton")
    assert panel.ui.testButton.text == "Stop testing"
    panel.settle()
    assert panel.ui.placeLabel.text.startswith(f"{host} answers in ") and "Random walker" in panel.ui.placeLabel.text
    assert title(panel).endswith("this computer") and Servers().chosen() is None
    panel.press("useButton")
    assert title(panel).endswith(host) and not panel.ui.deviceBox.enabled
    panel.settle()
    assert panel.ui.placeLabel.text.startswith(f"{host} answers in ")
    models = panel.ui.modelBox.widget
    assert models.findData("planar") > 0 and models.findData("medsam") < 0
    assert not visible(panel, "withdrawButton") and visible(panel, "forgetButton")
    panel.place(IN_BELOW)  # without a yes
    panel.settle()
    ((question, meaning),) = answers["asked"]
    assert question == f"Send images to {host}?" and "no names" in meaning
    assert "not sent" in panel.message and same(panel.masks(), LEFT)
    assert selection_points() == 2
    answers["Send"] = True
    panel.press("useButton")  # nothing new: says so, and nothing is lost
    panel.place((4, 5, 5))
    panel.settle()
    assert same(panel.masks(), LEFT | BELOW), panel.message
    assert visible(panel, "withdrawButton")
    panel.picture("panel-server")
    panel.press("withdrawButton")
    panel.settle()
    assert not Servers().agreed(url) and not visible(panel, "withdrawButton")
    assert "asked again" in panel.ui.placeLabel.text
    pick(panel, "This computer")
    panel.settle()
    assert title(panel).endswith("this computer") and Servers().chosen() is None
    assert models.findData("medsam") > 0
    panel.press("undoButton")
    panel.settle()
    assert same(panel.masks(), LEFT | BELOW)


def selection_points() -> int:
    return slicer.mrmlScene.GetNodeByID(selection().GetActivePlaceNodeID()).GetNumberOfControlPoints()


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("gpu.lab", "no address of a server"),
        ("http://gpu.lab", "Over http everybody"),
        ("https://user:word@gpu.lab", "no user, password"),
        ("", "no address of a server"),
    ],
)
@pytest.mark.parametrize("button", ["testButton", "useButton"])
def test_what_is_no_address_is_said_beside_it(section, address, said, button):
    fill_in(section, address)
    section.press(button)
    assert said in section.ui.placeLabel.text
    assert Servers().known() == () and title(section).endswith("this computer")
    assert visible(section, "insecureBox") == (address == "http://gpu.lab")


def test_http_to_others_after_it_was_accepted(section):
    fill_in(section, "http://192.0.2.1:9")
    section.ui.insecureBox.widget.setChecked(True)
    section.press("useButton")
    assert Servers().chosen() == Place("http://192.0.2.1:9", insecure=True)
    section.press("cancelButton")  # the test of the connection
    pick(section, "This computer")
    section.settle()
    fill_in(section, "https://192.0.2.1:9")  # the tick is for http only
    assert not visible(section, "insecureBox")


def test_a_server_that_is_chosen_elsewhere_is_gone_to_when_the_module_is_entered(section, url):  # noqa: F811
    Servers().choose(Place(url))
    section.widget.enter()
    section.settle()
    assert title(section).endswith(url.removeprefix("http://"))
    assert section.ui.placeBox.widget.currentData() == url
    assert section.ui.addressEdit.text == url


def test_a_server_is_forgotten(section, url):  # noqa: F811
    fill_in(section, url)
    section.press("useButton")
    section.settle()
    section.press("forgetButton")
    section.settle()
    assert Servers().known() == () and title(section).endswith("this computer")
    assert section.ui.placeBox.widget.count() == 2
    assert section.ui.placeLabel.text == "Forgotten, with its key."


def test_keys_are_hidden_and_not_kept_in_the_panel(section, url):  # noqa: F811
    assert section.ui.keyEdit.widget.echoMode() == QtWidgets.QLineEdit.EchoMode.Password
    fill_in(section, url)
    section.ui.keyEdit.setText("x" * 43)
    section.press("useButton")
    section.settle()
    assert section.ui.keyEdit.text == "" and {url: "x" * 43} == serving._KEYS
    assert "x" * 43 not in Servers().path.read_text()


def test_a_certificate_is_chosen(section, monkeypatch, tmp_path):
    from SammedLib import place_section

    file = tmp_path / "server.pem"
    monkeypatch.setattr(place_section.qt.QFileDialog, "getOpenFileName", lambda *_: (str(file), ""))
    fill_in(section, "https://192.0.2.1:9")
    section.press("certificateButton")
    assert section.ui.certificateEdit.text == str(file)
    section.press("testButton")
    section.settle()
    assert "no certificates that can be read" in section.ui.placeLabel.text


def test_with_a_server_pytorch_is_not_needed(section, monkeypatch):
    """Package there, PyTorch not: all is grey until a server is chosen, and again after this computer is."""
    tools = Recorder()
    tools.versions["napari-sammed"] = "0.1.0"
    installer = section.widget.installer = Installer(REQUIREMENTS, tools)
    section.widget.install_section._installer = installer
    section.widget.look_at_packages()
    assert visible(section, "installSection") and not visible(section, "installLightButton")
    assert not section.ui.promptSection.enabled and section.ui.placeSection.enabled
    assert "needs no PyTorch" in section.ui.installLabel.text
    fill_in(section, "http://127.0.0.1:9")
    section.press("useButton")
    assert not visible(section, "installSection") and section.ui.promptSection.enabled
    pick(section, "This computer")
    assert visible(section, "installSection") and not section.ui.promptSection.enabled
    section.settle()


def test_installing_for_a_server_only(section, answers):  # noqa: F811
    tools = Recorder()
    installer = section.widget.installer = Installer(REQUIREMENTS, tools)
    section.widget.install_section._installer = installer
    section.ui.placeSection.setCollapsed(True)
    section.widget.look_at_packages()
    assert not section.ui.placeSection.enabled
    section.press("installLightButton")
    assert tools.calls == [] and "PyTorch" not in answers["asked"][0][1]
    answers["Install"] = True
    section.press("installLightButton")
    assert [call[0] for call in tools.calls] == ["ensure"]
    assert section.ui.placeSection.enabled and section.ui.placeSection.widget.property("collapsed") is False
    assert "choose it under Where to segment" in section.message


def test_the_effect_segments_at_the_same_server(hands, url):  # noqa: F811
    Servers().choose(Place(url))
    hands.effect.activate()
    assert hands.effect.message.text() == f"Segments at {url.removeprefix('http://')}."
    hands.wait()
    hands.effect._on_timer()
    with mock.patch.object(slicer.util, "confirmOkCancelDisplay", lambda text, title: False):
        hands.drag(IN_LEFT)
        hands.wait()
    assert "not sent" in hands.effect.message.text()
    assert not any(mask.any() for mask in hands.masks())
    with mock.patch.object(slicer.util, "confirmOkCancelDisplay", lambda text, title: True):
        hands.drag(IN_BELOW)
        hands.wait()
    assert np.array_equal(hands.masks()[0], LEFT | BELOW)
    hands.scripted.editor.Undo()
    assert not hands.masks()[0].any()
    Servers().choose(None)
    hands.effect.activate()
    hands.drag(IN_LEFT)
    hands.wait()
    assert np.array_equal(hands.masks()[0], LEFT)


def test_a_slicer_that_tests_itself_agrees_to_nothing(section, volume, answers, url, monkeypatch):  # noqa: F811
    """It answers its own questions with OK."""
    answers["Send"] = True
    monkeypatch.setattr(slicer.app, "testingEnabled", lambda: True, raising=False)
    fill_in(section, url)
    section.press("useButton")
    section.choose(volume)
    section.press("positiveButton")
    section.place(IN_LEFT)
    section.settle()
    assert "not sent" in section.message and "asked" not in answers


def test_other_volumes_of_the_scene_are_not_sent(section, answers, url):  # noqa: F811
    """Only what is asked about."""
    answers["Send"] = True
    fill_in(section, url)
    section.press("useButton")
    one = add_volume(blobs(), np.eye(4), "One")
    add_volume(blobs()[::-1].copy(), np.eye(4), "Two")
    section.choose(one)
    section.press("positiveButton")
    section.place(IN_LEFT)
    section.settle()
    assert len(answers["asked"]) == 1 and same(section.masks(), LEFT)
