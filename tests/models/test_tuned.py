"""Tuned files: written, taken in, used by name like any other model; whatever is wrong with one is said."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_sammed import networks
from napari_sammed.cli import main
from napari_sammed.doctor import _weights as findings
from napari_sammed.errors import InputError, WeightsError
from napari_sammed.geometry import Box, Grid
from napari_sammed.intensity import Window
from napari_sammed.models import registry, tuned, tuned_store
from napari_sammed.models.identify import identify_file
from napari_sammed.models.litemedsam import LiteMedSAM
from napari_sammed.models.storage import file_sha256
from napari_sammed.models.tuned import KEY, TunedCard
from napari_sammed.models.tuned_assembly import add_updates, assemble_tuned, samed_network
from napari_sammed.networks.lora import LoraQKV
from napari_sammed.networks.official_files import from_sam_file
from napari_sammed.prompts import Prompts
from napari_sammed.volume import Volume
from tests.golden import fill
from tests.models.files import SENTINEL, Evil
from tests.tiny_models import tiny_config

CARD = TunedCard(
    name="discs",
    title="Discs (LiteMedSAM)",
    summary="Discs in pictures of discs.",
    model="litemedsam",
    base="litemedsam",
    base_sha256="0" * 64,
    recipe="litemedsam",
    settings={"rate": 0.001, "steps": 20},
    classes=("disc", "ring"),
    data={"cases": 12, "patients": 4},
    before={"score": 0.5, "disc": 0.4},
    after={"score": 0.75, "disc": 0.7},
    seed=3,
    version="0.1",
    date="2026-11-29",
)


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A machine with no weights."""
    monkeypatch.setenv("NAPARI_SAMMED_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("NAPARI_SAMMED_WEIGHTS", raising=False)
    return tmp_path


@pytest.fixture
def here(home, weights, monkeypatch) -> Path:
    """A machine with the weights of LiteMedSAM, and nothing in its cache."""
    monkeypatch.setenv("NAPARI_SAMMED_WEIGHTS", str(weights.parent))
    return home


def decoder_of(path: Path, scale: float = 1.0) -> dict[str, torch.Tensor]:
    from napari_sammed.models.checkpoints import open_checkpoint

    file = open_checkpoint(path)
    names = [name for name in file.shapes if name.startswith("mask_decoder.")]
    return {name: value * scale for name, value in file.read(names).items()}


@pytest.fixture
def discs(here, weights) -> Path:
    """A tuned file of LiteMedSAM's decoder, a little changed."""
    path = here / "discs.safetensors"
    tuned.write(path, decoder_of(weights, 1.01), replace(CARD, base_sha256=file_sha256(weights)))
    return path


def small_lite() -> dict[str, torch.Tensor]:
    """Tensors that have a place in LiteMedSAM."""
    return {"mask_decoder.mask_tokens.weight": torch.randn(4, 256)}


def asked(model) -> np.ndarray:
    pixels = (np.add.outer(np.arange(60), np.arange(80)) % 40 * 6).astype(np.uint8)
    image = Volume(pixels, Grid.plain(pixels.shape))
    prompts = Prompts((Box((10, 20), (40, 60)),))
    region = model.plan(image.grid, prompts, None)
    return model.restore(model.decode(model.embed(image, region, Window.preset("as-is")), prompts, None))


def run(capsys, *arguments) -> tuple[int, str, str]:
    status = main(["models", *map(str, arguments)])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_a_tuned_model_is_a_model_like_any_other(discs, weights, capsys):
    status, out, _ = run(capsys, "add", discs)
    assert status == 0 and "discs: Discs (LiteMedSAM)" in out and "segment IMAGE --model discs" in out
    assert registry.names()[-1] == "discs" and registry.names()[0] == "litemedsam"
    card, row = registry.card("discs"), registry.row("discs", verify=True)
    assert (card.title, card.summary, card.base) == (CARD.title, CARD.summary, "litemedsam")
    assert (card.prompts, card.dimensions) == (registry.card("litemedsam").prompts, frozenset({2}))
    assert card.intended_use == (
        "Tuned on 12 cases of 4 patients with the recipe litemedsam: disc, ring. "
        "Mean Dice on what was kept to measure with: 0.750, before 0.500."
    )
    assert (row.status, row.licence, row.size) == ("tuned", "Apache-2.0", discs.stat().st_size)
    model = registry.load("discs")
    assert isinstance(model, LiteMedSAM) and model.card == card
    base = registry.load("litemedsam")
    assert len({model.weights_hash, base.weights_hash, file_sha256(discs)}) == 3
    assert np.abs(asked(model) - asked(base)).max() > 0.01
    network = registry._assembled(card, [], None, None).network.state_dict()
    changed = decoder_of(weights, 1.01)
    assert all(torch.equal(network[name], value) for name, value in changed.items())
    assert all(torch.equal(network[k], v) for k, v in _all(weights).items() if k not in changed)


def _all(path: Path) -> dict[str, torch.Tensor]:
    from napari_sammed.models.checkpoints import read_tensors

    return read_tensors(path)


def test_a_fresh_process_gives_the_same_numbers_and_the_same_sum(discs, here):
    tuned_store.add(discs, None, registry.names())
    model = registry.load("discs")
    code = (
        "import sys, numpy as np; from tests.models.test_tuned import asked; "
        "from napari_sammed.models import registry; model = registry.load('discs'); "
        "np.save(sys.argv[1], asked(model)); print(model.weights_hash)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(here / "out.npy")], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == model.weights_hash
    assert np.array_equal(np.load(here / "out.npy"), asked(model))


def test_the_registry_looks_anew_each_time_and_stays_light(home, tmp_path):
    code = """
import json, sys
from napari_sammed.models import registry
print(len(registry.names()), 'torch' in sys.modules, [row.name for row in registry.rows() if row.status == 'tuned'])
"""
    tuned.write(home / "cache" / "tuned" / "one.safetensors", small_lite(), CARD)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(len(registry.names())), "False", "['one']"]
    count = len(registry.names())
    tuned.write(home / "cache" / "tuned" / "two.safetensors", small_lite(), CARD)
    assert len(registry.names()) == count + 1 and registry.card("two").title == CARD.title
    tuned.write(home / "cache" / "tuned" / "two.safetensors", small_lite(), replace(CARD, title="Other"))
    assert registry.card("two").title == "Other"
    tuned_store.remove("two")
    with pytest.raises(InputError, match=r"there is no model 'two'; Known models: .*one"):
        registry.card("two")


def test_a_shared_folder_of_weights_is_looked_into_and_never_written(home, monkeypatch):
    tuned.write(home / "lab" / "tuned" / "labs.safetensors", small_lite(), CARD)
    monkeypatch.setenv("NAPARI_SAMMED_WEIGHTS", str(home / "lab"))
    assert registry.card("labs").title == CARD.title
    with pytest.raises(WeightsError, match="may be others' as well: delete"):
        tuned_store.remove("labs")


def test_list_show_identify_path_verify_and_doctor_know_it(discs, capsys):
    assert "Take it in with `napari-sammed models add discs.safetensors`" in identify_file(discs).remark
    run(capsys, "add", discs, "--name", "my-discs")
    listed = json.loads(run(capsys, "list", "--json")[1])["models"][-1]
    assert (listed["name"], listed["status"]) == ("my-discs", "tuned")
    assert " tuned" in next(line for line in run(capsys, "list")[1].splitlines() if line.startswith("my-discs"))
    shown = json.loads(run(capsys, "show", "my-discs", "--json")[1])
    assert shown["Dice_after"] == "score 0.750, disc 0.700" and shown["learnt_from"] == "cases 12, patients 4"
    assert shown["licence_of_the_weights"] == "Apache-2.0" and "LiteMedSAM" in shown["remark"]
    assert shown["structures"] == "disc, ring" and shown["recipe"] == "litemedsam" and shown["seed"] == "3"
    _, out, _ = run(capsys, "identify", discs)
    assert "a tuned litemedsam; use it with --model my-discs" in out
    assert run(capsys, "path", "my-discs")[1].strip() == str(tuned_store.folder() / "my-discs.safetensors")
    assert run(capsys, "verify", "my-discs")[1].startswith("my-discs: whole, a tuned model")
    assert run(capsys, "pull", "my-discs")[0] == 0
    found = {each.about: each for each in findings()}
    assert found["weights of my-discs"].text.startswith("tuned, ")
    (tuned_store.folder() / "bad.safetensors").write_bytes(b"nothing")
    assert not next(each for each in findings() if each.about == "tuned model").good


def test_removing_asks_first_and_moves_nothing_else(discs, here, capsys):
    run(capsys, "add", discs)
    run(capsys, "add", discs, "--name", "other")
    status, _, err = run(capsys, "remove", "discs")
    assert status == 2 and "say --yes" in err
    assert run(capsys, "remove", "discs", "--yes")[0] == 0
    assert "discs" not in registry.names() and "other" in registry.names() and discs.exists()
    for name in ("discs", "litemedsam"):
        status, _, err = run(capsys, "remove", name, "--yes")
        assert status == 2 and f"there is no tuned model '{name}'" in err and "here: other" in err


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("litemedsam", "name of another model: give another with --name, such as litemedsam-2"),
        ("random-walker", "name of another model"),
        ("auto", "a word of its own"),
        ("NUL", "such as nul-tuned"),
        ("Liver CT", "such as liver-ct"),
        ("../up", "such as up"),
        ("a" * 80, "up to 64"),
        ("", "such as tuned"),
        ("a+propagation", "such as a-propagation"),
    ],
)
def test_a_name_that_cannot_be_is_refused_with_one_that_can(home, name, message):
    path = home / "file.safetensors"
    tuned.write(path, small_lite(), CARD)
    with pytest.raises(WeightsError, match=message):
        tuned_store.add(path, name, registry.names())
    assert not tuned_store.folder().exists() or not any(tuned_store.folder().glob("*.safetensors"))


def test_the_same_file_twice_is_one_model_and_another_of_its_name_is_refused(home):
    path, other = home / "file.safetensors", home / "other.safetensors"
    tuned.write(path, small_lite(), CARD)
    tuned.write(other, small_lite(), CARD)
    first = tuned_store.add(path, None, registry.names())
    assert tuned_store.add(path, None, registry.names()) == first
    with pytest.raises(
        WeightsError, match="tuned model discs already: give another with --name, such as discs-2, or run"
    ):
        tuned_store.add(other, None, registry.names())


# ---- what it adds to -------------------------------------------------------------------------------------------------


def test_without_its_base_it_says_what_is_missing(home, monkeypatch):
    path = home / "file.safetensors"
    tuned.write(
        path, {"mask_decoder.mask_tokens.weight": torch.randn(4, 256)}, replace(CARD, model="medsam", base="medsam")
    )
    tuned_store.add(path, None, registry.names())
    with pytest.raises(WeightsError, match="models pull medsam --accept-licence"):
        registry.load("discs")


def test_another_base_is_refused_by_its_sum(here, weights):
    path = here / "file.safetensors"
    tuned.write(path, small_lite(), CARD)
    tuned_store.add(path, None, registry.names())
    message = f"adds to the file of LiteMedSAM with the sha256 {'0' * 64}, but .* has {file_sha256(weights)}: name the"
    with pytest.raises(WeightsError, match=message):
        registry.load("discs")


def test_the_base_may_be_a_file_of_the_users_own(here, weights):
    own, path = here / "own.pth", here / "file.safetensors"
    torch.save(_all(weights), own)
    tuned.write(path, small_lite(), replace(CARD, base_sha256=file_sha256(own)))
    tuned_store.add(path, None, registry.names())
    with pytest.raises(WeightsError, match="name the right one with --weights"):
        registry.load("discs")
    assert registry.load("discs", own).card.name == "discs"
    with pytest.raises(WeightsError, match="takes one weight file"):
        registry.load("discs", [own, weights])


def test_as_weights_of_a_model_it_is_refused_with_what_to_do(discs):
    with pytest.raises(WeightsError, match="is a tuned model, of litemedsam: take it in with"):
        registry.load("litemedsam", discs)


def test_low_rank_updates_of_a_plain_network_are_merged(home):
    config = tiny_config("medsam")
    base = home / "medsam.pth"
    plain = fill(networks.create("medsam", config))
    torch.save(plain.state_dict(), base)
    attention = plain.image_encoder.blocks[0].attn
    attention.qkv = LoraQKV(attention.qkv, 2)
    torch.nn.init.normal_(attention.qkv.linear_b_q.weight, std=0.1)
    learnt = {name: value for name, value in plain.state_dict().items() if ".linear_" in name}
    assert len(learnt) == 4
    path = home / "file.safetensors"
    tuned.write(path, learnt, replace(CARD, model="medsam", base="medsam", base_sha256=file_sha256(base)))
    network = assemble_tuned(path, base, config=config).network
    assert isinstance(network.image_encoder.blocks[0].attn.qkv, torch.nn.Linear)
    size = config["image_size"]
    image = torch.rand(1, 3, size, size)
    with torch.inference_mode():
        torch.testing.assert_close(network.image_encoder(image), plain.image_encoder(image))
    with pytest.raises(WeightsError, match="does not fit its network"):
        tuned.write(path, {"image_encoder.blocks.99.attn.qkv.linear_a_q.weight": torch.ones(2, 2)},
                    replace(CARD, model="medsam", base="medsam", base_sha256=file_sha256(base)))  # fmt: skip
        assemble_tuned(path, base, config=config)


@pytest.mark.parametrize("name", ["samed", "samed_s"])
def test_samed_has_its_classes_and_rank_from_the_file(home, name):
    from napari_sammed.models.samed import SAMed
    from napari_sammed.training.samed_recipe import mark

    small = tiny_config("samed")
    base = home / "sam.pth"
    torch.save(fill(networks.create("sam-vit-b", small)).state_dict(), base)
    config = {"num_classes": 2, "rank": 2}
    network = fill(networks.create(name, {**small, **config}))
    sam_file = torch.load(base, weights_only=True)
    network.load_state_dict(from_sam_file(sam_file, network.state_dict()).tensors, strict=False)
    mark(network)
    own = _learnt(network)
    card = replace(
        CARD, model="samed", base="sam-vit-b", network=name, config=config, classes=("a", "b"),
        base_sha256=file_sha256(base),
    )  # fmt: skip
    path = home / "file.safetensors"
    tuned.write(path, own, card)
    parts = assemble_tuned(path, base, config=small)
    model = SAMed(parts.network, parts.sha256, **parts.options)
    assert model.classes == ("a", "b")
    assert all(torch.equal(value, parts.network.state_dict()[key]) for key, value in network.state_dict().items())
    pixels = [np.random.default_rng(0).random((40, 50), np.float32)]
    assert np.array_equal(model.label(pixels)[0], SAMed(network, "", classes=("a", "b")).label(pixels)[0])
    del own["mask_decoder.mask_tokens.weight"]
    tuned.write(path, own, card)
    with pytest.raises(WeightsError, match="do not make a whole"):
        assemble_tuned(path, base, config=small)


def _learnt(network) -> dict[str, torch.Tensor]:
    from napari_sammed.training.fitting import learnt

    return learnt(network)


def test_the_published_samed_fits_without_weights(home):
    from napari_sammed.training.samed_recipe import mark

    network = samed_network("sam-vit-b", "samed", {"num_classes": 2, "rank": 4})
    mark(network)
    card = replace(CARD, model="samed", base="sam-vit-b", config={"num_classes": 2, "rank": 4})
    path = home / "file.safetensors"
    tuned.write(path, {key: torch.zeros_like(value) for key, value in _learnt(network).items()}, card)
    assert path.stat().st_size < 22e6
    tuned_store.add(path, "organs", registry.names())
    shown = registry.card("organs")
    assert not shown.prompts and shown.base == "sam-vit-b" and shown.weights.licence == "Apache-2.0"


# ---- bad files -------------------------------------------------------------------------------------------------------


def with_header(path: Path, header: bytes | dict, data: bytes = b"") -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def with_card(path: Path, **changes) -> Path:
    """A file of one number whose card says something else."""
    item = {**asdict(CARD), "format": 1, "sum": "0" * 64, **changes}
    tensor = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    return with_header(path, {"__metadata__": {KEY: json.dumps(item)}, "x": tensor}, bytes(4))


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "1"},
        {"format": None},
        {"model": "yolo"},
        {"model": "random-walker", "base": "random-walker"},
        {"base": "medsam"},
        {"model": "samed", "base": "litemedsam"},
        {"model": "samed", "base": "sam-vit-b"},  # classes, but not how many
        {"network": "samed"},
        {"config": {"embed_dim": 10**9}},
        {"config": {"rank": 10**9}},
        {"config": ["rank"]},
        {"title": "<b>Discs</b>"},
        {"title": "Discs\x1b[31m"},
        {"title": 3},
        {"summary": "x" * 1000},
        {"classes": 7},
        {"classes": ["a\nb"]},
        {"classes": ["a"] * 5000},
        {"base_sha256": "../../etc"},
        {"sum": None},
        {"before": {"score": "much"}},
        {"after": {"score": 1e999}},
        {"after": [1]},
        {"settings": {"x": [[[[[[1]]]]]]}},
        {"settings": {"x": {"<": 1}}},
        {"data": {"cases": 1e999}},
        {"data": {"cases\x00": 1}},
        {"seed": "x"},
    ],
    ids=str,
)
def test_cards_that_lie_are_refused(tmp_path, changes):
    path = with_card(tmp_path / "file.safetensors", **changes)
    with pytest.raises(WeightsError) as error:
        tuned.read_card(path)
    assert str(path) in str(error.value) and str(error.value).isprintable() and len(str(error.value)) < 700


def test_a_file_of_a_newer_version_says_so(tmp_path):
    with pytest.raises(WeightsError, match="newer version of napari-sammed: update"):
        tuned.read_card(with_card(tmp_path / "file.safetensors", format=2))


def hostile() -> dict[str, bytes]:
    import pickle

    return {
        "empty": b"",
        "text": b"weights",
        "pickle": pickle.dumps(Evil()),
        "endless header": struct.pack("<Q", 1 << 62) + b"{}",
        "no card": struct.pack("<Q", 2) + b"{}",
        "card is no text": struct.pack("<Q", 40) + json.dumps({"__metadata__": {KEY: 1}}).encode().ljust(40),
        "deep": _packed({KEY: "[" * 100_000}),
        "card is a list": _packed({KEY: "[]"}),
        "card is nonsense": _packed({KEY: "{"}),
        "card is huge": _packed({KEY: "x" * 1_100_000}),
    }


def _packed(metadata: dict) -> bytes:
    text = json.dumps({"__metadata__": metadata}).encode()
    return struct.pack("<Q", len(text)) + text


@pytest.mark.parametrize("kind", hostile())
def test_hostile_files_are_refused_and_left_out(home, kind, monkeypatch):
    monkeypatch.chdir(home)
    path = home / "cache" / "tuned" / "bad.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(hostile()[kind])
    assert "bad" not in registry.names() and not Path(SENTINEL).exists()
    for act in (tuned.read_card, lambda p: tuned_store.add(p, "x", registry.names()), lambda p: registry.card("bad")):
        with pytest.raises(WeightsError) as error:
            act(path)
        assert str(error.value).isprintable() and len(str(error.value)) < 700
    assert len(tuned_store.damaged()) == 1
    tuned_store.remove("bad")


def test_every_flipped_bit_and_every_cut_is_noticed(home):
    path, good = home / "file.safetensors", home / "good.safetensors"
    tuned.write(good, {"mask_decoder.iou_token.weight": torch.randn(1, 256)}, CARD)
    content, random = good.read_bytes(), np.random.default_rng(0)
    for where in random.integers(len(content) - 1024, len(content), 20):
        path.write_bytes(content[:where] + bytes([content[where] ^ 4]) + content[where + 1 :])
        with pytest.raises(WeightsError, match=r"damaged|no numbers"):
            tuned_store.add(path, None, registry.names())
    for end in random.integers(0, len(content), 20):
        path.write_bytes(content[:end])
        with pytest.raises(WeightsError):
            tuned_store.add(path, None, registry.names())


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({}, "no tensor"),
        ({"x": torch.ones(2)}, "does not fit its network: x"),
        ({"mask_decoder.mask_tokens.weight": torch.ones(4, 255)}, r"\(4, 255\), which there has the shape \(4, 256\)"),
        ({"mask_decoder.mask_tokens.weight": torch.full((4, 256), torch.nan)}, "no numbers"),
        ({"mask_decoder.mask_tokens.weight": torch.ones(4, 256, dtype=torch.complex64)}, "complex64"),
        ({"mask_decoder.qkv.linear_a_q.weight": torch.ones(4, 256)}, "does not fit its network"),
    ],
)
def test_tensors_without_a_place(home, tensors, message):
    path = home / "file.safetensors"
    with pytest.raises(WeightsError, match=message):
        tuned.write(path, tensors, CARD)
        tuned_store.add(path, None, registry.names())


def test_a_full_disk_or_a_folder_in_the_way_is_told(home):
    (home / "file").touch()
    with pytest.raises(InputError, match="in the way"):
        tuned.write(home / "file" / "inside.safetensors", small_lite(), CARD)


def test_updates_for_what_is_no_layer_are_left_to_the_refusal():
    network = networks.create("litemedsam")
    add_updates(network, {"nowhere.linear_a_q.weight": (4, 4), "mask_decoder.linear_a_q.weight": (4, 4)})
