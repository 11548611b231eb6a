"""The backend at a server gives what the one on this machine gives, call by call."""

from __future__ import annotations

import dataclasses
import threading

import numpy as np
import pytest

from napari_sammed.backend.base import Prediction
from napari_sammed.backend.remote import RemoteBackend
from napari_sammed.errors import Cancelled, InputError, NotReady, ServerError, WeightsError
from napari_sammed.geometry import Box
from napari_sammed.intensity import Window
from napari_sammed.prompts import MaskPrompt, Point, Prompts, Stroke
from napari_sammed.session import Session
from tests.server.serving import volume

MIDDLE = Point((5, 12, 14))
CLICKS = Prompts((MIDDLE, Point((5, 2, 2), positive=False)))


def assert_same(found: Prediction, expected: Prediction) -> None:
    left_out = {"mask": None, "logits": None, "alternatives": (), "seconds": {}}
    assert repr(dataclasses.replace(found, **left_out)) == repr(dataclasses.replace(expected, **left_out))
    np.testing.assert_array_equal(found.mask, expected.mask)
    assert (found.logits is None) == (expected.logits is None)
    for one, other in zip(found.alternatives, expected.alternatives, strict=True):
        assert_same(one, other)


def asked(backend, image, ask):
    opened = backend.open(image)
    try:
        return ask(backend, opened)
    finally:
        backend.close(opened)


@pytest.mark.parametrize("model", ["thresholder", "ambiguous", "random-walker", "planar"])
def test_clicks(remote, local, image, model):
    prompts = Prompts((MIDDLE,)) if model == "ambiguous" else CLICKS
    found, expected = (asked(b, image, lambda b, i: b.predict(i, model, prompts)) for b in (remote, local))
    assert found.mask.any()
    assert_same(found, expected)


def test_a_conversation(remote, local, image):
    """Each prompt starts from the logits of the one before."""

    def talk(backend, opened):
        answers, previous = [], None
        for count in range(1, len(CLICKS) + 1):
            prompts = Prompts(CLICKS.items[:count])
            answers.append(backend.predict(opened, "ambiguous", prompts, previous=previous))
            previous = answers[-1].readings[-1].logits
        return answers

    for found, expected in zip(*(asked(b, image, talk) for b in (remote, local)), strict=True):
        assert_same(found, expected)


def test_every_kind_of_prompt(remote, local, image):
    mask = np.zeros(image.grid.shape, bool)
    mask[5, 9:15, 10:18] = True
    kinds = [
        Box((2, 6, 6), (8, 18, 20)),
        MaskPrompt(mask, (0, 0, 0)),
        Stroke(((5, 10, 11), (5, 13, 15))),
        Stroke(((5, 10, 11), (5, 13, 15)), radius=2, axis=0),
    ]
    for prompt in kinds:
        found, expected = (
            asked(b, image, lambda b, i, p=prompt: b.predict(i, "thresholder", Prompts((p,)))) for b in (remote, local)
        )
        assert_same(found, expected)


def test_windows_and_regions(remote, local, image):
    how = {"window": Window.displayed(250, 450), "region": Box((5, 0, 0), (6, 24, 28))}
    found, expected = (
        asked(b, image, lambda b, i: b.predict(i, "planar", Prompts((MIDDLE,)), **how)) for b in (remote, local)
    )
    assert_same(found, expected)


def test_boxes_together(remote, local, image):
    boxes = [Box((5, 6, 6), (6, 18, 20)), Box((4, 8, 8), (5, 15, 18))]
    regions = [Box((5, 0, 0), (6, 24, 28)), None]
    both = [asked(b, image, lambda b, i: b.predict_boxes(i, "planar", boxes, regions=regions)) for b in (remote, local)]
    for found, expected in zip(*both, strict=True):
        assert_same(found, expected)


def test_prompts_start_from_boxes_asked_together(remote, local, image):
    boxes = [Box((5, 6, 6), (6, 18, 20)), Box((4, 8, 8), (5, 15, 18))]

    def talk(backend, opened):
        second = backend.predict_boxes(opened, "planar", boxes)[1]
        prompts = Prompts((boxes[1], Point((4, 12, 14))))
        return backend.predict(opened, "planar", prompts, region=second.scope, previous=second.logits)

    found, expected = (asked(b, image, talk) for b in (remote, local))
    assert_same(found, expected)


def anchor(image):
    mask = np.zeros(image.grid.shape, bool)
    mask[5, 9:15, 10:18] = True
    return MaskPrompt(mask, (0, 0, 0))


def test_propagation(remote, local, image):
    for how in ({}, {"only": (6, 4, 7)}, {"within": Box((3, 0, 0), (7, 24, 28))}):
        parts, steps = [], []

        def walk(backend, opened, how=how, parts=parts, steps=steps):
            parts.clear(), steps.clear()
            return backend.propagate(
                opened,
                "planar",
                [anchor(image)],
                0,
                partial=parts.append,
                progress=lambda what, share: steps.append((what, share)),
                **how,
            )

        found = asked(remote, image, walk)
        there = {(part.scope, part.mask.tobytes()) for part in parts}
        expected = asked(local, image, walk)
        assert_same(found, expected)
        assert there == {(part.scope, part.mask.tobytes()) for part in parts} and len(there) > 1


def test_a_propagation_is_stopped_with_what_is_there(remote, image):
    stop, parts = threading.Event(), []

    def partial(part):
        parts.append(part)
        stop.set()

    big = volume(shape=(90, 24, 28))
    opened = remote.open(big)
    mask = np.zeros(big.grid.shape, bool)
    mask[45, 9:15, 10:18] = True
    found = remote.propagate(opened, "slow", [MaskPrompt(mask, (0, 0, 0))], 0, stop=stop, partial=partial)
    assert parts and found.silent
    remote.close(opened)


def test_closer_looks(remote, local, image):
    coarse = asked(local, image, lambda b, i: b.predict(i, "thresholder", CLICKS))
    how = {"coarse": MaskPrompt(coarse.mask, coarse.box.low), "prompts": CLICKS}
    for more in ({}, {"axis": 1}):
        found, expected = (
            asked(b, image, lambda b, i, m=more: b.refine(i, "planar", Box((3, 5, 5), (8, 19, 22)), **how, **m))
            for b in (remote, local)
        )
        assert_same(found, expected)


def test_logits_on_the_image(remote, local, image):
    def values(backend, opened):
        logits = backend.predict(opened, "thresholder", CLICKS).logits
        return logits.region, logits.values.shape, backend.restore("thresholder", logits)

    (region, shape, found), (expected_region, expected_shape, expected) = (
        asked(b, image, values) for b in (remote, local)
    )
    assert region == expected_region and shape == expected_shape and found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


def test_previews(remote, local):
    """Answered where the slice is encoded."""
    image = volume(seed=1)

    def look(backend, opened):
        backend.predict(opened, "slow", Prompts((MIDDLE,)))
        with pytest.raises(NotReady):
            backend.predict(opened, "slow", Prompts((Point((4, 12, 14)),)), idle=True)
        return backend.predict(opened, "slow", CLICKS, idle=True)

    assert_same(*(asked(b, image, look) for b in (remote, local)))


def test_previews_wait_for_nothing(remote):
    opened = remote.open(volume(seed=2))
    with pytest.raises(NotReady):
        remote.predict(opened, "slow", CLICKS, idle=True)
    remote.close(opened)


def test_cards(remote, local):
    assert set(remote.installed()) >= {"thresholder", "planar", "random-walker"}
    assert remote.card("planar") == local.card("planar")
    assert remote.card("medsam").title == "MedSAM"  # known here, though it has no weights there
    with pytest.raises(InputError, match="no model"):
        remote.card("nonsense")


def test_cards_of_this_machine_are_known_before_the_server_is_asked():
    backend = RemoteBackend("http://localhost:1")
    assert backend.card("litemedsam").title == "LiteMedSAM"


def test_errors_are_those_of_this_machine(remote, local, image):
    wrong = [
        ("thresholder", Prompts((Point((50, 12, 14)),))),
        ("thresholder", Prompts((Point((5, 12)),))),
        ("thresholder", Prompts()),
        ("nonsense", CLICKS),
    ]
    for model, prompts in wrong:
        texts = []
        for backend in (remote, local):
            with pytest.raises(InputError) as caught:
                asked(backend, image, lambda b, i, m=model, p=prompts: b.predict(i, m, p))
            texts.append(str(caught.value))
        assert texts[0].split(":")[0] == texts[1].split(":")[0]
    with pytest.raises(WeightsError, match="MedSAM"):
        asked(remote, image, lambda b, i: b.predict(i, "medsam", CLICKS))
    with pytest.raises(InputError, match="not open"):
        remote.predict("0" * 64, "thresholder", CLICKS)
    with pytest.raises(InputError, match="NaN"):
        remote.open(dataclasses.replace(image, array=np.full(image.grid.shape, np.nan)))


def test_a_call_is_cancelled_at_once(remote, image):
    opened = remote.open(image)
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        remote.predict(opened, "thresholder", CLICKS, cancel=cancel)
    running = threading.Event()
    with pytest.raises(Cancelled):
        remote.propagate(opened, "slow", [anchor(image)], 0, cancel=running, partial=lambda part: running.set())
    assert remote.predict(opened, "thresholder", CLICKS).mask.any()  # and nothing is in the way
    remote.close(opened)


def test_what_a_callback_raises_ends_the_call(remote, image):
    opened = remote.open(image)

    def partial(part):
        raise RuntimeError("a window was closed")

    with pytest.raises(RuntimeError, match="a window was closed"):
        remote.propagate(opened, "planar", [anchor(image)], 0, partial=partial)
    remote.close(opened)


def test_hints_come_to_an_end(remote, image):
    opened = remote.open(image)
    remote.predict(opened, "planar", Prompts((MIDDLE,)))
    (future,) = remote.prefetch(opened, "planar", [Box((6, 0, 0), (7, 24, 28))], Window.auto(image))
    assert future.result(10) is None
    remote.close(opened)


def test_a_server_says_what_it_is(remote):
    check = remote.check()
    assert check.latency < 5 and check.image_bytes == 4 << 30
    assert "Thresholder" in check.sentence and "4 GiB" in check.sentence and check.host in check.sentence


def test_consent(url, image):
    for consent in (False, lambda host, size: False):
        backend = RemoteBackend(url, consent=consent)
        with pytest.raises(InputError, match="nobody agreed"):
            backend.open(image)
        assert not backend._loop._aside and backend._connection._client is None  # no connection was ever made
        backend.shutdown()
    asked_for = []
    backend = RemoteBackend(url, consent=lambda host, size: asked_for.append((host, size)) or True)
    backend.open(image), backend.open(image)
    assert asked_for == [(backend.host, image.nbytes)]
    backend.shutdown()


def test_a_lazy_backend_waits_until_something_is_asked(url, image, local):
    asked_for = []
    backend = RemoteBackend(url, consent=lambda host, size: asked_for.append(size) or len(asked_for) > 1, lazy=True)
    prompts = Prompts((Point((5, 12, 14)),))
    opened = backend.open(image)
    backend.open(image)
    assert backend.prefetch(opened, "thresholder", [image.grid.box], Window.auto(image)) == []
    with pytest.raises(NotReady):
        backend.predict(opened, "thresholder", prompts, idle=True)
    assert asked_for == [] and backend._connection._client is None
    with pytest.raises(InputError, match="nobody agreed"):
        backend.predict(opened, "thresholder", prompts)
    assert asked_for == [image.nbytes] and backend._connection._client is None
    found = backend.predict(opened, "thresholder", prompts)
    assert_same(found, local.predict(local.open(image), "thresholder", prompts))
    backend.predict(opened, "thresholder", prompts)
    assert len(asked_for) == 2
    backend.close(opened)
    backend.predict(opened, "thresholder", prompts)  # the other one still has it open
    backend.close(opened)
    with pytest.raises(InputError, match="not open"):
        backend.predict(opened, "thresholder", prompts)
    backend.shutdown()


def test_after_the_end(url, image):
    backend = RemoteBackend(url, consent=True)
    opened = backend.open(image)
    backend.shutdown()
    backend.close(opened)
    with pytest.raises(ServerError, match="closed"):
        backend.open(image)


def test_where_to_click_next_is_the_same_place_here_and_there(remote, local):
    """It is found in the logits, which therefore come as they are."""
    places = []
    for backend in (local, remote):
        session = Session(volume(0, (20, 60, 64)), backend)
        session.new_object()
        session.add(Point((10, 30, 16)), model="doubtful").result()
        places.append(session.where_next().result())
        session.close()
    assert places[0] is not None and places[1] == places[0]
