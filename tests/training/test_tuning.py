"""From a folder to a tuned file and a report, with a small SAMed; killed and gone on with."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("lightning_fabric", reason="needs the extra [train]")
pytest.importorskip("matplotlib", reason="needs the extra [train]")

from napari_sammed import networks
from napari_sammed.errors import Cancelled, InputError
from napari_sammed.models import registry, tuned
from napari_sammed.models.storage import file_sha256
from napari_sammed.training import orders, recipes
from napari_sammed.training.orders import Order
from napari_sammed.training.preparing import Options
from napari_sammed.training.runs import Run
from napari_sammed.training.samed_recipe import SamedSettings
from napari_sammed.training.showing import write_report
from napari_sammed.training.tuning import BEFORE, tune
from napari_sammed.volume import Volume
from tests.training.discs import write_discs

CONFIG = {
    "image_size": 64,
    "patch_size": 8,
    "embed_dim": 48,
    "depth": 2,
    "num_heads": 3,
    "global_attn_indexes": (1,),
    "window_size": 4,
    "prompt_embed_dim": 32,
    "decoder_mlp_dim": 64,
    "decoder_num_heads": 4,
    "iou_head_hidden_dim": 32,
}
SETTINGS = SamedSettings(rate=0.01, warm_up=5, steps=500, batch=4, sampled_size=64, augmented=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """With data, and the weights of a small SAM."""
    folder = tmp_path_factory.mktemp("tuning")
    write_discs(folder / "data")
    torch.manual_seed(0)
    torch.save(networks.create("sam-vit-b", CONFIG).state_dict(), folder / "sam.pth")
    return folder


def order_in(folder: Path, out: Path, recipe: str = "samed", steps: int = 8, **how) -> Order:
    run = Run(out, steps, **{"measure_every": 4, "keep_every": 2, "accelerator": "cpu", **how})
    options = Options((), 0.34, r"(p\d+)_", 0)
    return Order(folder / "data", recipe, "sam-vit-b", folder / "sam.pth", "discs", options, SETTINGS, run, CONFIG)


def done(order: Order, **how):
    found = orders.prepared(order)
    return found, tune(order, found, **how)


def test_from_a_folder_to_a_model(folder, tmp_path):
    order = order_in(folder, tmp_path / "run", steps=60, measure_every=20)
    told = []
    found, outcome = done(order, told=lambda standing: told.append(dict(standing.curve[-1])))
    assert [row["step"] for row in told] == [0, 20, 40, 60]
    card = tuned.read_card(outcome.path)
    assert card == outcome.card and outcome.path.name == "discs.safetensors"
    assert card.after["score"] > 0.3 > card.before["score"] + 0.1 and set(card.after) == {"score", "bright", "dark"}
    assert card.after["score"] == pytest.approx(max(row["score"] for row in told[1:]), abs=1e-6)
    assert (card.classes, card.config) == (("bright", "dark"), {"num_classes": 2, "rank": 4})
    assert card.base_sha256 == file_sha256(folder / "sam.pth") and card.settings["rate"] == 0.01
    assert card.title == "Bright, dark (SAMed)" and card.recipe == "samed"
    assert not any(
        name in outcome.path.read_bytes()[:20000].decode("latin1") for name in ("p0_a", "p1_", str(tmp_path))
    )
    model = registry.load_tuned(outcome.path, order.weights, config=CONFIG)
    example = found.material.held_out[0]
    labels = model.segment(example.image).labels
    dice = [2 * ((labels == v) & (example.labels == v)).sum() / ((labels == v).sum() + (example.labels == v).sum())
            for v in (1, 2)]  # fmt: skip
    assert np.mean(dice) > 0.3 and model.classes == ("bright", "dark")
    page = write_report(order, found, outcome).read_text()
    assert page.count("<img") >= 4 and "Bright, dark (SAMed)" in page and f"{card.after['bright']:.3f}" in page
    assert "http" not in page.replace("http-equiv", "")


@pytest.mark.parametrize("recipe", ["samed_s"])
def test_a_fresh_process_gives_the_same_labels(folder, tmp_path, recipe):
    order = order_in(folder, tmp_path / "run", recipe)
    found, outcome = done(order)
    code = (
        "import sys, numpy as np; from pathlib import Path; from tests.training.test_tuning import *; "
        "model = registry.load_tuned(Path(sys.argv[1]), Path(sys.argv[2]), config=CONFIG); "
        "image = Volume.from_array(np.load(sys.argv[3])); print(model.weights_hash); "
        "np.save(sys.argv[4], model.segment(image).labels)"
    )
    image = found.material.held_out[0].image
    np.save(tmp_path / "image.npy", image.array)
    names = [outcome.path, order.weights, tmp_path / "image.npy", tmp_path / "labels.npy"]
    said = subprocess.run([sys.executable, "-c", code, *map(str, names)], capture_output=True, text=True, check=True)
    model = registry.load_tuned(outcome.path, order.weights, config=CONFIG)
    assert said.stdout.strip() == model.weights_hash
    assert np.array_equal(np.load(names[-1]), model.segment(Volume.from_array(image.array)).labels)


@pytest.mark.full
def test_a_tuning_that_was_killed_ends_as_one_that_was_not(folder, tmp_path):
    script = (
        "import sys; from pathlib import Path; from tests.training.test_tuning import *\n"
        "torch.set_num_threads(1)\n"
        "done(order_in(Path(sys.argv[1]), Path(sys.argv[2])), progress=lambda *what: print(*what, flush=True))"
    )
    arguments = [sys.executable, "-c", script, str(folder), str(tmp_path / "killed")]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line.startswith("step 6 "):
            os.kill(process.pid, signal.SIGKILL)
            break
    assert process.wait() == -signal.SIGKILL
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for name in ("killed", "whole"):
            done(order_in(folder, tmp_path / name))
    finally:
        torch.set_num_threads(threads)
    killed, whole = ((tmp_path / name / "discs.safetensors").read_bytes() for name in ("killed", "whole"))
    assert killed == whole


def test_to_stop_keeps_what_was_learnt(folder, tmp_path):
    cancel = threading.Event()
    order = order_in(folder, tmp_path / "run")

    def progress(what: str, share: float) -> None:
        if what.startswith("step 4 "):
            cancel.set()

    with pytest.raises(Cancelled):
        done(order, progress=progress, cancel=cancel)
    assert not list(order.out.glob("*.safetensors")) and (order.out / "state.pt").exists()
    before = (order.out / BEFORE).read_text()
    steps = []
    _, outcome = done(order, progress=lambda what, share: steps.append(what))
    assert next(step for step in steps if step.startswith("step")).startswith("step 5 ")
    assert outcome.card.before == json.loads(before)
    _, whole = done(replace(order, run=replace(order.run, out=tmp_path / "whole")))
    assert whole.card.sum == outcome.card.sum


def test_what_was_done_is_not_done_again_and_a_longer_run_goes_on(folder, tmp_path):
    order = order_in(folder, tmp_path / "run")
    _, first = done(order)
    steps = []
    _, again = done(order, progress=lambda what, share: steps.append(what))
    assert again.card == first.card and not any(step.startswith("step") for step in steps)
    longer = replace(order, settings=replace(SETTINGS, steps=600), run=replace(order.run, steps=12))
    _, more = done(longer)
    assert more.standing.step == 12


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": replace(SETTINGS, rate=0.1)}, "other settings .rate: 0.01 there, 0.1 now"),
        ({"recipe": "samed_s"}, "other recipes .samed there, samed_s now"),
        ({"options": Options(("bright",), 0.34, r"(p\d+)_", 0)}, "other options of the data .structures"),
    ],
)
def test_a_folder_of_another_tuning_is_refused(folder, tmp_path, change, message):
    order = order_in(folder, tmp_path / "run")
    orders.begin(order)
    orders.begin(order)
    with pytest.raises(InputError, match=message):
        orders.begin(replace(order, **change))
    (order.out / orders.FILE).write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        orders.begin(order)


def test_what_was_learnt_from_is_never_measured_with(folder, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(folder / "data", data)
    order = replace(order_in(folder, tmp_path / "run", steps=2), data=data)
    found, _ = done(order)
    learnt, kept = ([example.name for example in part] for part in (found.material.train, found.material.held_out))
    (data / "splits.json").write_text(json.dumps({"train": kept, "held_out": learnt}))
    with pytest.raises(InputError, match=f"have changed since .*: {min(learnt)} was learnt from"):
        done(replace(order, run=replace(order.run, steps=4)))
    (data / "splits.json").write_text(json.dumps({"train": learnt[1:], "held_out": kept}))
    assert done(replace(order, run=replace(order.run, steps=4)))[1].standing.step == 4


def test_a_base_that_does_not_fit_is_refused(folder, tmp_path):
    order = order_in(folder, tmp_path / "run")
    found = orders.prepared(order)
    torch.save({"weight": torch.ones(2)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match="is no file of SAM ViT-B"):
        tune(replace(order, weights=tmp_path / "other.pth"), found)


def test_recipes_by_name():
    assert len(recipes.names()) == len(recipes.RECIPES)
    for name in recipes.names():
        each = recipes.recipe(name)
        assert set(each.bases) <= set(registry.names()) and each.learns and each.title and each.steps > 0
        assert each.settings() != each.settings(published=True)
        card = registry.card(each.makes or each.bases[0])
        assert card.weights is not None
    with pytest.raises(InputError, match="did you mean samed"):
        recipes.recipe("sammed")
    with pytest.raises(InputError, match=r"tunes sam-vit-b, .* not litemedsam"):
        recipes.base_of(recipes.recipe("samed"), "litemedsam")
    with pytest.raises(InputError, match="no model"):
        recipes.base_of(recipes.recipe("samed"), "random")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [("batch", "3", 3), ("rate", "1e-4", 1e-4), ("augmented", "false", False), ("batch", 3.0, 3)],
)
def test_settings_are_read_from_text(name, value, expected):
    found = getattr(recipes.recipe("samed").settings(changes={name: value}), name)
    assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize(
    ("name", "value"), [("batch", "3.5"), ("rate", "fast"), ("augmented", "maybe"), ("depth", "1")]
)
def test_settings_that_make_no_sense(name, value):
    with pytest.raises(InputError, match=name):
        recipes.recipe("samed").settings(changes={name: value})
