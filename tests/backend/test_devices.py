"""Which device and precision are chosen, and that models get them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_sammed import networks
from napari_sammed.backend.devices import PRECISIONS, choose, choose_precision
from napari_sammed.backend.loading import Models
from napari_sammed.errors import InputError
from napari_sammed.geometry import Box
from napari_sammed.intensity import Window
from napari_sammed.models import registry
from napari_sammed.models.sam import SAM
from napari_sammed.prompts import Prompts
from tests.golden import fill
from tests.phantoms import two_balls
from tests.tiny_models import tiny_config


def test_names_are_checked():
    assert choose("cpu") == "cpu"
    assert [choose_precision(name, "cpu") for name in PRECISIONS[1:]] == list(PRECISIONS[1:])
    assert choose_precision("auto", "cpu") in ("float32", "bfloat16")  # the latter on processors with AMX
    with pytest.raises(InputError, match="no precision 'half'"):
        choose_precision("half", "cpu")
    with pytest.raises(InputError, match="no device 'tpu'"):
        choose("tpu")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_model_is_loaded_with_the_chosen_precision(precision, monkeypatch):
    asked = []
    monkeypatch.setattr(registry, "load", lambda *args: asked.append(args) or object())
    models = Models("cpu", precision, {}, {})
    models.promptable("sam-vit-b", None, None)
    models.promptable("random-walker", None, None)
    assert [(name, device, last) for name, _, device, *_, last in asked] == [
        ("sam-vit-b", "cpu", precision),
        ("random-walker", "cpu", "float32"),
    ]


def test_half_precision_changes_little():
    image = two_balls((40, 50))[0]
    answers = []
    for dtype in (torch.float32, torch.bfloat16):
        model = SAM(fill(networks.create("sam-vit-b", tiny_config("sam-vit-b"))), dtype=dtype)
        embedding = model.embed(image, model.plan(image.grid, Prompts(), None), Window.preset("as-is"))
        answers.append(model.decode_boxes(embedding, [Box((5, 4), (30, 22))])[0].values)
    assert 0 < np.abs(answers[0] - answers[1]).max() < 0.05 * np.ptp(answers[0])
