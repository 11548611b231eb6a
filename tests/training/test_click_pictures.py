"""The click network's pictures from the real sources, and targets without labels, with the real LiteMedSAM."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sammed.intensity import Window
from napari_sammed.models.litemedsam import LiteMedSAM
from napari_sammed.models.registry import load
from napari_sammed.prompts import Prompts
from napari_sammed.training.click_pictures import FLAT, FLAT_IMAGES, ODD, VOLUMES, Painter
from napari_sammed.training.stable_masks import stable_masks
from napari_sammed.volume import Volume
from tests.parameters import few


@pytest.fixture(scope="module")
def model(weights) -> LiteMedSAM:
    return load("litemedsam", weights)


def test_what_is_found_steadily_is_an_object(model):
    rows, columns = np.indices((256, 256))
    disc = np.hypot(rows - 100, columns - 140) < 45
    random = np.random.default_rng(0)
    pixels = (np.where(disc, 180, 60) + random.normal(0, 6, disc.shape)).clip(0, 255).astype(np.uint8)
    image = Volume.from_array(pixels)
    embedding = model.embed(image, model.plan(image.grid, Prompts(), None), Window("as-is"))
    masks = stable_masks(model, embedding, pixels, random)
    shares = [(mask & disc).sum() / (mask | disc).sum() for mask in masks]
    assert max(shares) > 0.9
    alike = [(a & b).sum() / (a | b).sum() for i, a in enumerate(masks) for b in masks[:i]]
    assert all(share < 0.75 for share in alike)


@pytest.mark.parametrize("number", few([0, ODD + 1, FLAT + 2], tried=[2]))
def test_a_picture_is_the_same_each_time(model, shared, number):
    if not all((shared / "data" / name).exists() for name in (*(name for name, _, _ in VOLUMES), *FLAT_IMAGES)):
        pytest.skip("not all images of the recipe are here")
    painter = Painter(shared / "data", model)
    once, again = painter.encoded(number), painter.encoded(number)
    np.testing.assert_array_equal(once.pixels, again.pixels)
    np.testing.assert_array_equal(once.masks, again.masks)
    assert once.features.shape == (256, 64, 64)
    assert once.masks.any(axis=(1, 2)).all()


def test_what_the_figures_are_for_is_not_learnt_from():
    learnt = {name for name, _, _ in VOLUMES} | set(FLAT_IMAGES)
    kept = {
        "2d_ct_abdomen_amos",
        "2d_ct_thorax",
        "2d_dermoscopy_lesion_a",
        "2d_dermoscopy_lesion_b",
        "2d_endoscopy_polyp_b",
        "2d_mr_cardiac_myocardium",
        "2d_octa_retina_vessels",
        "2d_xray_chest_projected_lung",
        "2d_xray_dental_mandible",
        "3d_ct_dicom_series_20slices",
        "3d_mr_cord_t2s_aniso_oblique",
        "3d_mr_torso_multiorgan",
    }
    assert not learnt & kept
