"""Models are offered with what there is to know of them, and their weights can be fetched or chosen."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from napari_sammed.errors import Cancelled, WeightsError
from napari_sammed.models import registry
from napari_sammed.models import weights as store
from napari_sammed.models.cards import CARDS
from napari_sammed.plugin.features.model_offers import check
from napari_sammed.plugin.views import weights as dialogs
from tests.golden_weights import golden_shapes
from tests.phantoms import two_balls


@pytest.fixture(autouse=True)
def no_weights(tmp_path, monkeypatch) -> Path:
    """A machine without any weights."""
    monkeypatch.setattr(store, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.delenv(store.FOLDER_VARIABLE, raising=False)
    return tmp_path


@pytest.fixture
def hands(open_plugin):
    return open_plugin(two_balls()[0].array.copy(), model=None)


def empty_file(folder: Path, name: str) -> Path:
    """A weight file with the names and shapes of a model, and nothing in it: each tensor is one number, repeated."""
    path = folder / f"{name}.pth"
    torch.save({key: torch.zeros(()).expand(shape) for key, shape in golden_shapes(name).items()}, path)
    return path


def offered(chooser) -> list[str]:
    return [chooser.box.itemData(row) for row in range(chooser.box.count())]


def test_every_model_of_the_registry_is_offered(hands):
    prompted, classes = hands.panel.image_section.model, hands.panel.classes.model
    assert set(offered(prompted)) | set(offered(classes)) == {"auto", *registry.names()}
    assert "samed" in offered(classes) and "samed" not in offered(prompted)


@pytest.mark.parametrize("name", [card.name for card in CARDS if card.weights is not None])
def test_a_model_without_weights_says_how_to_get_them(hands, name):
    chooser = hands.panel.classes.model if not registry.card(name).prompts else hands.panel.image_section.model
    chooser.box.set_key(name)
    chooser._show_note()
    card = registry.card(name)
    assert card.summary in chooser.note.text() and not chooser.files_button.isHidden()
    by_hand = card.weights.source == "file"
    assert chooser.fetch_button.isHidden() == by_hand
    address = re.search(r"https://\S+", card.weights.location)
    assert (address is not None and f'href="{address[0]}"' in chooser.note.text()) == by_hand
    assert card.weights.licence in chooser.box.toolTip() or by_hand


def test_a_model_that_needs_no_weights_offers_none(hands):
    chooser = hands.panel.image_section.model
    chooser.box.set_key("random-walker")
    chooser._show_note()
    assert chooser.files_button.isHidden() and chooser.fetch_button.isHidden()


@pytest.mark.parametrize("agrees", [True, False])
def test_nothing_is_fetched_before_the_licence_is_agreed_to(hands, monkeypatch, agrees, qtbot):
    asked, pulled = [], []
    monkeypatch.setattr(dialogs, "agrees", lambda parent, title, text: asked.append(text) or agrees)
    monkeypatch.setattr(store, "pull", lambda card, progress, cancel, accept_licence: pulled.append(card.name))
    hands.panel.image_section.model.fetch_wanted.emit("medsam")
    qtbot.wait(100)
    assert "Licence of the weights: not stated" in asked[0] and "zenodo.org" in asked[0]
    assert pulled == (["medsam"] if agrees else [])
    assert ("are here now" in hands.message) == agrees


def test_a_download_shows_how_far_it_is_and_can_be_stopped(hands, monkeypatch, qtbot):
    def pull(card, progress, cancel, accept_licence):
        progress(30, 100)
        assert cancel.wait(10)
        raise Cancelled

    monkeypatch.setattr(dialogs, "agrees", lambda *_: True)
    monkeypatch.setattr(store, "pull", pull)
    chooser = hands.panel.image_section.model
    chooser.box.set_key("medsam")
    chooser.fetch_wanted.emit("medsam")
    qtbot.waitUntil(lambda: "30 %" in hands.panel.status.aside.text())
    assert chooser.fetch_button.text() == "Stop fetching"
    chooser.fetch_wanted.emit("medsam")
    qtbot.waitUntil(lambda: hands.message == "Stopped fetching.")
    assert chooser.fetch_button.text().startswith("Fetch 375 MB")


def test_a_chosen_file_is_used_from_now_on(hands, monkeypatch, no_weights, qtbot):
    used = []
    path = empty_file(no_weights, "litemedsam")
    monkeypatch.setattr(dialogs, "pick_files", lambda *_, **__: (path,))
    monkeypatch.setattr(hands.session.backend, "use_weights", lambda name, files: used.append((name, files)))
    chooser = hands.panel.image_section.model
    chooser.box.set_key("litemedsam")
    chooser.files_wanted.emit("litemedsam")
    qtbot.waitUntil(lambda: "from now on" in hands.message)
    assert used == [("litemedsam", (path,))]
    assert "Its weights: litemedsam.pth" in chooser.note.text() and chooser.fetch_button.isHidden()


def test_a_file_of_another_system_is_refused_by_name(no_weights):
    path = empty_file(no_weights, "litemedsam")
    with pytest.raises(
        WeightsError, match=r"litemedsam\.pth is a file of LiteMedSAM .*, not of MedSAM: choose the model"
    ):
        check(registry.card("medsam"), [path])
    check(registry.card("litemedsam"), [path])
