"""Every kind of prompt with every model: answered natively, or translated and said so."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sammed.backend import ladder
from napari_sammed.backend.local import LocalBackend
from napari_sammed.errors import InputError
from napari_sammed.geometry import Box
from napari_sammed.models.cards import CARDS
from napari_sammed.prompts import MaskPrompt, Point, Prompt, Prompts, Stroke
from tests.phantoms import two_balls
from tests.tiny_models import TINY, VOLUMETRIC, tiny_model

KINDS: dict[str, tuple[Prompt, ...]] = {
    "click": (Point((20.0, 12.0)),),
    "clicks": (Point((20.0, 12.0)), Point((20.0, 37.0), False)),
    "box": (Box((6, 3), (34, 22)),),
    "box and click": (Box((6, 3), (34, 22)), Point((20.0, 12.0))),
    "two boxes": (Box((6, 3), (34, 22)), Box((8, 28), (32, 48))),
    "stroke": (Stroke(((18.0, 10.0), (22.0, 16.0))),),
    "lasso": (MaskPrompt(np.ones((20, 14), bool), (10, 5)),),
    "mask and click": (MaskPrompt(np.ones((20, 14), bool), (10, 5)), Point((16.0, 8.0), False)),
}
MODELS = (*TINY, *VOLUMETRIC, "random-walker")
SAYS = {  # what is said, besides nothing
    **dict.fromkeys(
        [(net, kind) for net in ("litemedsam", "medsam") for kind in ("click", "clicks", "box and click")],
        "knows boxes only",
    ),
    **{(net, "stroke"): "does not know strokes" for net in (*TINY, *VOLUMETRIC)},
    **{(net, "lasso"): "does not take a mask" for net in ("litemedsam", "medsam", "random-walker", "segvol")},
    **{("sam-med3d", kind): "does not know boxes" for kind in ("box", "box and click", "two boxes")},
    **{("sam-med3d", kind): "takes masks of whole volumes" for kind in ("lasso", "mask and click")},
    **{(net, "mask and click"): "does not take a mask" for net in ("litemedsam", "medsam")},
    **{(net, "mask and click"): "takes no masks" for net in ("random-walker", "segvol")},
    ("sam-vit-b", "lasso"): "its bounding box went along",
}
SEEN = ("reaches beyond", "Looked closer")
"""In sentences that tell where a model looked, which is no translation of a prompt."""


@pytest.fixture(scope="module")
def backend():
    backend = LocalBackend(models={name: tiny_model(name) for name in (*TINY, *VOLUMETRIC)})
    yield backend
    backend.shutdown()


def on_slice(prompt: Prompt) -> Prompt:
    """A flat prompt on slice 10 of a volume."""
    match prompt:
        case Point():
            return Point((10.0, *prompt.index), prompt.positive)
        case Box():
            return Box((10, *prompt.low), (11, *prompt.high))
        case Stroke():
            return Stroke(tuple((10.0, *p) for p in prompt.points), prompt.positive)
        case MaskPrompt():
            return MaskPrompt(prompt.mask[None], (10, *prompt.offset))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "ndim"), [(name, ndim) for name in MODELS for ndim in (2, 3) if ndim == 3 or name not in VOLUMETRIC]
)
def test_every_kind_is_answered(backend, name, kind, ndim):
    volume, _, _ = two_balls((40, 50) if ndim == 2 else (20, 40, 50))
    prompts = Prompts(tuple(KINDS[kind] if ndim == 2 else map(on_slice, KINDS[kind])))
    planar = 3 not in backend.card(name).dimensions
    region = Box((10, 0, 0), (11, 40, 50)) if ndim == 3 and planar else None
    answer = backend.predict(backend.open(volume), name, prompts, region=region)
    assert answer.scope == (region or volume.grid.box)
    assert answer.box.intersect(answer.scope) == answer.box
    said = SAYS.get((name, kind))
    if said is None:
        assert [sentence for sentence in answer.reductions if not any(seen in sentence for seen in SEEN)] == []
    else:
        assert any(said in sentence for sentence in answer.reductions), answer.reductions


def test_a_box_bounds_the_mask_of_a_network_that_does_not_know_boxes(backend, name="sam-med3d"):
    volume, _, _ = two_balls((12, 28, 30))
    opened = backend.open(volume)
    box = Box((3, 6, 5), (9, 22, 16))
    alone = backend.predict(opened, name, Prompts((Point((5.5, 13.5, 10.0)),)))
    answer = backend.predict(opened, name, Prompts((box,)))
    expected = np.zeros(volume.grid.shape, bool)
    expected[alone.box.slices] = alone.mask
    found = np.zeros_like(expected)
    found[answer.box.slices] = answer.mask
    assert np.array_equal(found[box.slices], expected[box.slices])
    assert found.sum() == found[box.slices].sum() < expected.sum()
    assert any("cut off" in sentence for sentence in answer.reductions)


@pytest.mark.parametrize("name", ["litemedsam", "medsam"])
@pytest.mark.parametrize("kind", ["click", "stroke", "lasso", "mask and click"])
def test_the_ladder_is_for_networks_of_boxes_only(backend, name, kind, monkeypatch):
    climbed = []
    climb = ladder.climb
    monkeypatch.setattr(ladder, "climb", lambda model, *rest: climbed.append(model.card.name) or climb(model, *rest))
    opened = backend.open(two_balls((40, 50))[0])
    for model in (name, "sam-vit-b", "sam-med2d", *(["click"] if kind == "mask and click" else [])):
        backend.predict(opened, model, Prompts(KINDS[kind]))
    assert climbed == ([] if kind == "lasso" else [name])


@pytest.mark.parametrize("name", MODELS)
def test_negative_clicks_alone_are_refused_plainly(backend, name):
    opened = backend.open(two_balls((40, 50))[0])
    with pytest.raises(InputError):
        backend.predict(opened, name, Prompts((Point((20.0, 12.0), False),)))


def test_what_a_model_says_of_its_weights_is_told_with_every_answer():
    model = tiny_model("sam-med2d")
    model.notes = ("It is plain SAM, resized.",)
    backend = LocalBackend(models={"sam-med2d": model})
    volume, _, _ = two_balls((20, 40, 50))
    opened = backend.open(volume)
    box = Box((10, 6, 3), (11, 34, 22))
    answers = [
        backend.predict(opened, "sam-med2d", Prompts((box,))),
        *backend.predict_boxes(opened, "sam-med2d", [box]),
        backend.propagate(opened, "sam-med2d", [MaskPrompt(np.ones((1, 20, 14), bool), (10, 10, 5))], 0),
    ]
    assert all(answer.reductions[0] == "It is plain SAM, resized." for answer in answers)
    backend.shutdown()


def test_every_card_is_tried():
    promptable = {card.name for card in CARDS if card.prompts}
    assert promptable - set(MODELS) == {"sam-vit-l", "sam-vit-h"}  # of the same make as sam-vit-b
