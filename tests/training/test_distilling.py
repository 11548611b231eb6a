"""A small encoder learns a large one's embeddings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("lightning_fabric", reason="needs the extra [train]")

from napari_sammed import networks
from napari_sammed.errors import InputError
from napari_sammed.intensity import Window
from napari_sammed.models.sam import SAM
from napari_sammed.prompts import Prompts
from napari_sammed.training.distilling import DistillingSettings, DistillingTask
from napari_sammed.training.fitting import Run, fit, learnt
from tests.training.planar_material import NAMES, material
from tests.training.test_medsam_recipe import PARTS, SMALL

CPU = torch.device("cpu")
LARGE = {
    **{"image_size": 512, "patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2, "mlp_ratio": 1},
    **{"global_attn_indexes": (), "window_size": 8, **PARTS},
}
FEW = DistillingSettings(rate=2e-3, batch=1, measured=1)


def task(name: str = "medsam", settings: DistillingSettings = FEW, **config) -> DistillingTask:
    torch.manual_seed(0)
    teacher = networks.create("medsam", {**LARGE, **config})
    pupil = networks.create("litemedsam", SMALL["litemedsam"])
    return DistillingTask(pupil, material(), replace(settings, teacher=name), teacher)


def test_the_encoder_alone_learns_and_is_kept_with_what_it_needs(tmp_path):
    ends = []
    for number in range(2):
        one = task()
        before = {key: value.clone() for key, value in one.network.state_dict().items()}
        fit(one, Run(tmp_path / str(number), 2, measure_every=2, accelerator="cpu"))
        ends.append(learnt(one.network))
        assert ends[-1].keys() == before.keys()
        changed = {key for key, value in ends[-1].items() if not torch.equal(value, before[key])}
        weights = {key for key, _ in one.network.named_parameters() if key.startswith("image_encoder.")}
        assert weights <= changed and all(key.startswith("image_encoder.") for key in changed)
    assert all(torch.equal(value, ends[1][key]) for key, value in ends[0].items())
    fit(task(), Run(tmp_path / "apart", 1, measure_every=1, accelerator="cpu"))
    fit(again := task(), Run(tmp_path / "apart", 2, measure_every=2, accelerator="cpu"))
    assert all(torch.equal(value, learnt(again.network)[key]) for key, value in ends[0].items())


def test_the_teacher_sees_what_the_pupil_sees_only_finer():
    one = task("sam-vit-b")
    piece, _ = one.drawn(np.random.default_rng(0))
    model, image = SAM(one._teacher), piece.example.image
    region = model.plan(image.grid, Prompts(), piece.box)
    assert torch.equal(one.taught(piece, CPU), model.embed(image, region, Window.auto(image)).features[0])
    medsam = task("medsam")
    seen, frame = medsam.seen(piece), medsam.frame(piece)
    large = []
    medsam._teaching.network.image_encoder.register_forward_pre_hook(lambda _, args: large.append(args[0]))
    medsam.taught(piece, CPU)
    small = torch.nn.functional.interpolate(large[0], 256, mode="area")[0]
    inside = (slice(None), *(slice(part.start + 2, part.stop - 2) for part in frame.slices))
    assert (small[inside] - seen[inside]).abs().mean() < 0.03 and (small[:, :, frame.shape[1] + 1 :] == 0).all()


def test_measures_are_those_of_the_pupil():
    assert set(task().measure(CPU)) == {"score", *NAMES.values()}


@pytest.mark.full
def test_embeddings_come_near(tmp_path):
    one = task()
    first = next(one.losses(np.random.default_rng(1), CPU)).parts["error"]
    fit(one, Run(tmp_path, 120, measure_every=120, accelerator="cpu"))
    assert next(one.losses(np.random.default_rng(1), CPU)).parts["error"] < 0.5 * first


def test_what_cannot_teach_is_refused():
    with pytest.raises(InputError, match=r"grid of \(64, 64\), the teacher's of \(32, 32\)"):
        task(image_size=256)
    with pytest.raises(InputError, match="can teach, not 'segvol'"):
        task("segvol")
    with pytest.raises(InputError, match="above 0"):
        task(settings=DistillingSettings(rate=0))
