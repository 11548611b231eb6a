"""Preferences: declared once, kept by napari or by us, on one page, and followed by what they are about."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from npe2 import PluginManifest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog

import napari_sammed
from napari_sammed.errors import InputError
from napari_sammed.models import weights as store
from napari_sammed.models.cards import CARDS
from napari_sammed.plugin.settings import memory, own_weights
from napari_sammed.plugin.settings.memory import Memory
from napari_sammed.plugin.settings.preferences import Preferences, declared
from napari_sammed.plugin.views import weights as dialogs
from napari_sammed.prompts import Box, Point
from tests.golden_weights import golden_shapes
from tests.phantoms import two_balls

MANIFEST = Path(napari_sammed.__file__).with_name("napari.yaml")
IMAGE = np.pad(np.full((12, 12), 200.0), 20)


@pytest.fixture
def by_napari(request, monkeypatch) -> None:
    """Preferences as napari keeps them since 0.9."""
    pytest.importorskip("napari", minversion="0.9", reason="napari keeps no preferences of plugins before 0.9")
    monkeypatch.delenv(memory.FOLDER_VARIABLE)
    request.getfixturevalue("plugin_settings")
    request.getfixturevalue("npe2pm").register(PluginManifest.from_file(MANIFEST))


@pytest.fixture(params=["by us", "by napari"])
def keeper(request) -> str:
    if request.param == "by napari":
        request.getfixturevalue("by_napari")
    return request.param


def test_every_preference_says_what_it_does_and_from_when_on():
    known = [card.name for card in CARDS if card.prompts]
    for name, preference in declared().items():
        assert preference.check(preference.default) == preference.default
        last = preference.description.rstrip(".").split(". ")[-1]
        assert last in ("At once", "From the next start") or last.startswith("For images "), name
        if name.endswith("_model"):
            assert set(preference.choices) == {"auto", *known}
    assert {section for section in (p.section for p in declared().values())} == {"segmenting", "computing", "folders"}


def test_what_was_chosen_is_kept_and_told(keeper, config):
    preferences, said = Preferences(), []
    preferences.on_change(said.append)
    assert preferences["device"] == "auto" and preferences["cache"] == 2.0
    preferences.set("device", "cpu")
    preferences.set("cache", 3)
    preferences.set("cache", 3.0)
    assert said == ["device", "cache"]
    assert (Preferences()["device"], Preferences()["cache"]) == ("cpu", 3.0)
    assert (config / "memory.json").exists() == (keeper == "by us")
    preferences.close()
    preferences.set("device", "auto")
    assert said == ["device", "cache"]


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("device", "abacus", "“Device” cannot be 'abacus': it takes one of auto, cpu"),
        ("brush_size", 0, "it takes a int, 1 to 400"),
        ("brush_size", 2.5, "cannot be 2.5"),
        ("preview", "yes", "cannot be 'yes'"),
    ],
)
def test_what_cannot_be_is_refused(keeper, name, value, why):
    before = Preferences()[name]
    with pytest.raises(InputError, match=why):
        Preferences().set(name, value)
    assert Preferences()[name] == before


def test_kept_values_that_make_no_sense_are_left_out_with_a_warning(caplog):
    Memory().note("preferences", {"device": "abacus", "cache": "much", "brush_size": 20})
    preferences = Preferences()
    assert (preferences["device"], preferences["cache"], preferences["brush_size"]) == ("auto", 2.0, 20)
    assert "abacus" in caplog.text and "much" in caplog.text
    Memory().note("preferences", ["device"])
    assert Preferences()["device"] == "auto"


def test_a_change_on_the_page_of_napari_is_heard(by_napari, open_plugin, tmp_path):
    from napari.settings import get_plugin_settings

    hands = open_plugin(IMAGE)
    hands.panel.preferences_button.click()
    dialog = hands.widget.coordinator._preference_page.dialog
    get_plugin_settings("napari-sammed").computing.device = "cpu"
    hands.settle()
    assert dialog.editors["device"].currentData() == "cpu"
    assert dialog.message.text() == "“Device” counts from the next start."
    assert "device: cpu" in get_plugin_settings("napari-sammed").config_path.read_text()


def test_the_page_shows_and_changes_everything(open_plugin, monkeypatch, tmp_path):
    hands = open_plugin(IMAGE)
    hands.press(hands.panel.preferences_button)
    dialog = hands.widget.coordinator._preference_page.dialog
    assert dialog.isVisible() and set(dialog.editors) == set(declared())
    assert all(editor.toolTip() for editor in dialog.editors.values())
    box = dialog.editors["click_model"]
    hands.qtbot.keyClick(box, Qt.Key.Key_Down)
    hands.settle()
    assert Preferences()["click_model"] == "litemedsam" and "counts at once" in dialog.message.text()
    hands.qtbot.keyClick(dialog.editors["hints"], Qt.Key.Key_Space)
    assert Preferences()["hints"] is False
    dialog.editors["brush_size"].setValue(25)
    assert Preferences()["brush_size"] == 25
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(tmp_path / "elsewhere"))
    line = dialog.editors["sessions"]
    hands.press(line.parent().findChildren(type(hands.panel.preferences_button))[0])
    assert Preferences()["sessions"] == str(tmp_path / "elsewhere") == line.text()


def test_sessions_go_to_the_preferred_folder_from_the_next_image_on(open_plugin, monkeypatch, tmp_path):
    monkeypatch.delenv("NAPARI_SAMMED_SESSIONS")
    Preferences().set("sessions", str(tmp_path / "here"))
    hands = open_plugin(IMAGE)
    assert hands.session.journal.parent == tmp_path / "here"
    Preferences().set("sessions", str(tmp_path / "there"))
    hands.viewer.layers.clear()
    hands.settle()
    layer = hands.viewer.add_image(IMAGE + 1)
    hands.widget.coordinator.choose_image(layer)
    hands.settle()
    hands.session.new_object()
    assert hands.session.journal.parent == tmp_path / "there" and hands.session.journal.exists()


def test_the_device_and_the_memory_count_from_the_next_start(open_plugin):
    Preferences().set("device", "cpu")
    Preferences().set("cache", 0.5)
    backend = open_plugin(own_backend=True).widget.coordinator._backend
    assert backend.device == "cpu" and backend._embeddings.cache.limit == 2**29


def test_a_kind_of_prompt_goes_to_the_preferred_model_and_an_object_stays_with_its_own(open_plugin):
    Preferences().set("click_model", "sam-vit-b")
    Preferences().set("box_model", "sam-med3d")
    hands = open_plugin(IMAGE, model=None)
    intake = hands.segmentation._desk.intake
    click, box = Point((26, 26)), Box((20, 20), (32, 32))
    assert intake.model_for(hands.session, click) == "sam-vit-b"
    assert intake.model_for(hands.session, box) == "auto", "a model of volumes cannot look at a flat image"
    hands.session.add(click, model="thresholder").result()
    assert intake.model_for(hands.session, click) == "auto"
    hands.session.new_object()
    assert intake.model_for(hands.session, click) == "sam-vit-b"
    hands.panel.image_section.model.box.set_key("litemedsam")
    assert intake.model_for(hands.session, click) == "litemedsam"
    volume = open_plugin(np.zeros((4, 20, 20)) + np.arange(20.0), model=None)
    assert volume.segmentation._desk.intake.model_for(volume.session, Box((0, 2, 2), (3, 9, 9))) == "sam-med3d"


# ---- weight files of the user's own ------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path, monkeypatch) -> Path:
    """A weight file of MedSAM's system, on a machine without any other."""
    monkeypatch.setattr(store, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.delenv(store.FOLDER_VARIABLE, raising=False)
    path = tmp_path / "mine.pth"
    torch.save({key: torch.zeros(()).expand(shape) for key, shape in golden_shapes("litemedsam").items()}, path)
    return path


def choose(open_plugin, monkeypatch, file):
    hands = open_plugin(two_balls()[0].array.copy(), model=None)
    monkeypatch.setattr(dialogs, "pick_files", lambda *_, **__: (file,))
    hands.panel.image_section.model.files_wanted.emit("litemedsam")
    hands.qtbot.waitUntil(lambda: "from now on" in hands.message)
    hands.qtbot.waitUntil(lambda: bool(hands.session.backend._models._weights))
    return hands


def note_of(hands) -> str:
    hands.panel.image_section.model.box.set_key("litemedsam")
    hands.panel.image_section.model._show_note()
    return hands.panel.image_section.model.note.text()


def test_chosen_files_are_used_again_after_a_restart(open_plugin, monkeypatch, file, backend):
    choose(open_plugin, monkeypatch, file)
    backend._models._weights.clear()
    hands = open_plugin(model=None)
    hands.qtbot.waitUntil(lambda: "Its weights: mine.pth" in note_of(hands))
    hands.qtbot.waitUntil(lambda: backend._models._weights == {"litemedsam": (file,)})


@pytest.mark.parametrize(("harm", "why"), [("gone", "no longer there"), ("other", "another one than you chose")])
def test_files_that_are_gone_or_others_are_named_and_not_used(open_plugin, monkeypatch, file, backend, harm, why):
    choose(open_plugin, monkeypatch, file)
    backend._models._weights.clear()
    file.unlink() if harm == "gone" else file.write_bytes(b"something else")
    hands = open_plugin(model=None)
    hands.qtbot.waitUntil(lambda: why in hands.panel.status.warning.text())
    assert str(file) in note_of(hands) and why in note_of(hands)
    assert not backend._models._weights
    hands.press(hands.panel.preferences_button)
    dialog = hands.widget.coordinator._preference_page.dialog
    assert dialog.files_box.isVisible() and dialog.files.count() == 1
    hands.press(dialog.files.itemAt(0).widget().findChild(type(hands.panel.preferences_button)))
    assert not dialog.files_box.isVisible() and not own_weights.remembered(Memory())
    assert why not in note_of(hands)


def test_forgotten_files_are_used_no_more(open_plugin, monkeypatch, file, backend):
    hands = choose(open_plugin, monkeypatch, file)
    hands.widget.coordinator._offers.forget_files("litemedsam")
    hands.qtbot.waitUntil(lambda: not backend._models._weights)
    assert "mine.pth" not in note_of(hands) and not own_weights.remembered(Memory())


def test_a_damaged_note_of_files_is_no_trouble(open_plugin):
    Memory().note("weights", {"litemedsam": [["only a path"]], "medsam": 7, "no such model": [["a", "b"]]})
    open_plugin(IMAGE)
    assert own_weights.remembered(Memory()) == {"no such model": (Path("a"),)}


def test_the_preferred_folder_of_weights_is_looked_at_at_once(open_plugin, file, tmp_path, qtbot):
    folder = tmp_path / "weights"
    folder.mkdir()
    file.rename(folder / "lite_medsam.pth")
    hands = open_plugin(IMAGE, model=None)
    chooser = hands.panel.image_section.model
    note_of(hands)
    assert not chooser.fetch_button.isHidden()
    hands.widget.coordinator._preferences.set("weights", str(folder))
    qtbot.waitUntil(lambda: chooser.fetch_button.isHidden())
    hands.widget.coordinator._preferences.set("weights", str(tmp_path / "nowhere"))
    qtbot.waitUntil(lambda: "is not there" in hands.panel.status.warning.text())
    assert not chooser.fetch_button.isHidden() and store.FOLDER_VARIABLE not in os.environ
