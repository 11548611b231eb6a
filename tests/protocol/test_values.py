"""Prompts, answers, questions and events go through frames and come back as they were; nonsense is refused."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_sammed.backend.base import ClassMap, Prediction
from napari_sammed.backend.protocol import cards, events
from napari_sammed.backend.protocol.frames import Frame
from napari_sammed.backend.protocol.questions import KINDS, Question
from napari_sammed.backend.protocol.values import LogitsReference
from napari_sammed.errors import Cancelled, InputError, NotReady, ProtocolError, WeightsError
from napari_sammed.geometry import Box, Grid, Region
from napari_sammed.intensity import Window
from napari_sammed.models import registry
from napari_sammed.models.base import Logits
from napari_sammed.prompts import MaskPrompt, Point, Prompts, Stroke

ID = "0123456789abcdef-0123"
GRID = Grid.from_affine(
    (9, 20, 30), np.array([[0.1, 0.0, 0.7, 1 / 3], [0.2, 0.9, -0.1, -7.1], [2.2, 0.1, 0.0, 1e-9], [0, 0, 0, 1]])
)
BLOB = np.random.default_rng(0).random((3, 20, 30)) < 0.5
PROMPTS = Prompts(
    (
        Point((1.25, 2.0, 1 / 3), positive=False),
        Box((-3, 0, 0), (9, 90, 1)),
        MaskPrompt(BLOB, (2, 0, 0)),
        Stroke(((1, 2, 3), (4, 5.5, 6))),
        Stroke(((1, 2, 3), (1, 5.5, 6)), positive=False, radius=2.5, axis=0),
    )
)


def answer(mask=BLOB, low=(2, 0, 0), scope=GRID.box, **rest) -> Prediction:
    box = Box.of_shape(mask.shape).shift(low)
    whole = {"score": 0.25, "model": "click", "weights_hash": "ab", "reductions": ("A box: a click.",)} | rest
    return Prediction(mask, box, scope, **whole)


def through(frame: Frame) -> Frame:
    return Frame.decode(frame.encode(), 1 << 24)


def assert_same(found: Prediction, expected: Prediction) -> None:
    assert found.mask.dtype == bool
    np.testing.assert_array_equal(found.mask, expected.mask)
    left_out = {"mask": None, "logits": None, "alternatives": ()}
    assert repr(dataclasses.replace(found, **left_out)) == repr(dataclasses.replace(expected, **left_out))  # NaN too
    for one, other in zip(found.alternatives, expected.alternatives, strict=True):
        assert_same(one, other)


def test_questions_come_back_as_they_were():
    boxes = [Box((0, 0, 0), (9, 9, 9)), Box((1, 2, 3), (2, 9, 9))]
    arguments = {
        "predict": {"prompts": PROMPTS, "window": Window.custom(40, 400.5), "region": boxes[1]},
        "predict_boxes": {"boxes": boxes, "regions": [None, boxes[1]], "window": Window.preset("lung")},
        "automatic": {"region": boxes[0]},
        "propagate": {"anchors": [MaskPrompt(BLOB[:1], (4, 0, 0))], "axis": 0, "within": boxes[0], "only": [3, 7]},
        "refine": {"region": boxes[0], "coarse": MaskPrompt(BLOB, (1, 0, 0)), "prompts": PROMPTS, "axis": 2},
    }
    assert arguments.keys() == KINDS.keys()
    for kind, given_ in arguments.items():
        previous = LogitsReference(ID, 2, 1) if kind == "predict" else None
        question = Question(kind, "litemedsam", given_, ID, 7, previous, ID)
        assert Question.from_frame(through(question.to_frame())) == question


def test_the_arguments_of_questions_are_those_of_a_backend():
    import inspect

    from napari_sammed.backend.base import Backend

    said_otherwise = {"self", "image", "model", "previous", "idle", "cancel", "stop", "progress", "partial"}
    for kind, (required, optional) in KINDS.items():
        signature = inspect.signature(getattr(Backend, kind)).parameters
        assert signature.keys() - said_otherwise == required | optional
        empty = inspect.Parameter.empty
        assert {n for n in signature.keys() - said_otherwise if signature[n].default is empty} == required


def test_none_and_left_out_are_the_same():
    question = Question("predict", "click", {"prompts": PROMPTS, "window": None, "region": None})
    assert question == dataclasses.replace(question, arguments={"prompts": PROMPTS})
    assert len(question.request_id) == 36 and question.request_id != Question("automatic", "samed", {}).request_id


def damaged(**changes):
    frame = Question("predict", "click", {"prompts": Prompts((Point((1, 2)),))}, ID).to_frame()
    return Frame({**frame.header, **changes}, frame.arrays)


@pytest.mark.parametrize(
    "frame",
    [
        damaged(kind="shutdown"),
        damaged(kind=["predict"]),
        damaged(arguments=None),
        damaged(arguments={}),
        damaged(arguments={"prompts": [], "idle": True}),
        damaged(arguments={"prompts": 5}),
        damaged(arguments={"prompts": [5]}),
        damaged(arguments={"prompts": [{"kind": "mask", "offset": [0, 0], "array": 3}]}),
        damaged(arguments={"prompts": [{"kind": "mask", "offset": [0, 0], "shape": [9, 9], "bits": "eJw="}]}),
        damaged(arguments={"prompts": [{"kind": "stroke", "points": [[1, 2]], "positive": True}]}),
        damaged(arguments={"prompts": [{"kind": "point", "index": [1, 1e308], "positive": True}]}),
        damaged(arguments={"prompts": [{"kind": "point", "index": [1, 10**400], "positive": True}]}),
        damaged(arguments={"prompts": [{"kind": "box", "low": [0, 0], "high": [1, 10**400]}]}),
        damaged(arguments={"prompts": [], "region": [[0, 0], [True, 5]]}),
        damaged(arguments={"prompts": [], "region": [0, 5]}),
        damaged(arguments={"prompts": [], "window": "bone"}),
        damaged(arguments={"prompts": [], "window": {"kind": "custom", "values": 3}}),
        damaged(request_id="../../etc"),
        damaged(request_id=None),
        damaged(revision=-1),
        damaged(revision=True),
        damaged(previous=[ID, 0]),
        damaged(previous=ID),
        damaged(base="x"),
        damaged(model="m" * 101),
        damaged(model=None),
    ],
)
def test_what_is_no_question_is_refused(frame):
    with pytest.raises(InputError) as caught:
        Question.from_frame(through(frame))
    assert 10 < len(str(caught.value)) < 400


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_questions_give_nothing_but_input_errors(data):
    full = Question("refine", "click", {"region": PROMPTS.items[1], "coarse": PROMPTS.items[2], "prompts": PROMPTS})
    frame = full.to_frame()
    place = data.draw(st.sampled_from([place for place, _ in places(frame.header)]))
    other = data.draw(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False)
        | st.text(max_size=9)
        | st.lists(st.none())
    )
    header = json.loads(json.dumps(frame.header))
    inner = header
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = other
    try:
        Question.from_frame(Frame(header, frame.arrays))
    except InputError as error:
        assert 5 < len(str(error)) < 1000


def places(value, path=()):
    """All entries of nested JSON, by their paths."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield (*path, key), item
        yield from places(item, (*path, key))


def test_answers_come_back_as_they_were():
    logits = Logits(
        np.zeros((1, 64, 64), np.float32), Region.of_box(GRID, Box((2, 0, 0), (3, 20, 30)), (1, 64, 64)), 0.5
    )
    other = answer(BLOB[:1], (5, 0, 0), score=float("nan"), logits=logits, reductions=())
    full = answer(
        logits=logits,
        slice_scores={4: 0.5, 3: float("nan")},
        axis=0,
        silent=(Box((0, 0, 0), (1, 20, 30)),),
        seconds={"embed": 0.1, "total": 1 / 3},
        alternatives=(other, answer()),
    )
    frame = through(events.result([full, answer()], revision=3))
    assert events.read_revision(frame) == 3
    first, second = events.read_answers(frame, ID)
    assert_same(first, full)
    assert_same(second, answer())
    assert second.logits is None and first.alternatives[1].logits is None
    assert first.logits.reference == LogitsReference(ID, 0, 0)
    assert first.alternatives[0].logits.reference == LogitsReference(ID, 0, 1)
    assert first.logits.region == logits.region and first.logits.score == 0.5
    assert first.logits.values.shape == (1, 64, 64) and first.logits.values.base.nbytes == 4
    assert events.read_partial(through(events.partial(full))).logits is None


shifts = st.tuples(*[st.integers(0, 12)] * 3)


@settings(max_examples=100, deadline=None)
@given(shifts, shifts, st.lists(st.tuples(shifts, st.booleans()), max_size=5), st.booleans())
def test_differences_give_the_whole_answer(low, away, changes, empty):
    base = Prediction.tight(np.pad(BLOB, 2), Box.of_shape((7, 24, 34)).shift(low), score=1.0, model="click")
    mask = np.pad(BLOB, 16)
    for place, value in changes:
        mask[place] = value
    scope = Box.of_shape(mask.shape).shift(low).shift([-14] * 3).shift(away)
    new = (
        Prediction.empty(scope, score=1.0, model="click")
        if empty
        else Prediction.tight(mask, scope, score=1.0, model="c")
    )
    frame = through(events.result(new, base=base))
    assert_same(events.read_answers(frame, ID, base)[0], new)


def test_small_differences_are_small():
    rng = np.random.default_rng(0)
    noisy = answer(rng.random((40, 100, 100)) < 0.5, (0, 0, 0))
    mask = noisy.mask.copy()
    mask[20:22, 50:60, 50:55] ^= True
    new = dataclasses.replace(noisy, mask=mask)
    assert len(events.result(new).encode()) > 40_000 and len(events.result(new, base=noisy).encode()) < 1_000
    assert len(events.result(noisy, base=noisy).encode()) < 1_000
    with pytest.raises(ProtocolError, match="only where it differs"):
        events.read_answers(events.result(new, base=noisy), ID)
    with pytest.raises(ProtocolError, match="cannot be told by its difference"):
        events.read_answers(events.result(new, base=noisy), ID, answer(BLOB, (4000, 4000, 4000)))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_answers_give_nothing_but_input_errors(data):
    logits = Logits(
        np.zeros((1, 64, 64), np.float32), Region.of_box(GRID, Box((2, 0, 0), (3, 20, 30)), (1, 64, 64)), 0.5
    )
    frame = events.result(answer(logits=logits, slice_scores={4: 0.5}, axis=0, alternatives=(answer(),)))
    place = data.draw(st.sampled_from([place for place, _ in places(frame.header)]))
    other = data.draw(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.lists(st.none())
    )
    header = json.loads(json.dumps(frame.header))
    inner = header
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = other
    try:
        events.read_answers(Frame(header, frame.arrays), ID)
    except InputError as error:
        assert 5 < len(str(error)) < 1000


def test_label_maps_come_back_as_they_were():
    labels = np.random.default_rng(0).integers(0, 3, (4, 5, 6)).astype(np.uint8)
    found = ClassMap(labels, Box((1, 0, 0), (5, 5, 6)), ("liver", "spleen"), "samed", "ab", ("Note.",), {"total": 1.5})
    frame = through(events.result(found))
    again = events.read_labels(frame)
    np.testing.assert_array_equal(again.labels, labels)
    assert dataclasses.replace(again, labels=None) == dataclasses.replace(found, labels=None)
    with pytest.raises(ProtocolError, match="label map"):
        events.read_labels(Frame(frame.header, (labels + 1,)))


def test_events():
    assert events.alive().header == {"event": "alive"}
    frame = through(events.numbered(events.progress("encoding slice 12", 0.5), 4))
    assert events.read_progress(frame) == ("encoding slice 12", 0.5) and frame.header["number"] == 4
    with pytest.raises(ProtocolError, match="fraction"):
        events.read_progress(Frame({"event": "progress", "what": "", "share": 2}))


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (InputError("The box is empty."), "invalid", 422),
        (WeightsError("The box is empty."), "weights", 424),
        (ProtocolError("The box is empty."), "bad_request", 400),
        (NotReady(), "not_ready", 425),
        (Cancelled(), "cancelled", 409),
        (RuntimeError("/home/anna/patient.nii"), "internal", 500),
    ],
)
def test_errors_say_what_a_user_may_know(error, code, status):
    failure = events.Failure.of(error)
    assert (failure.code, failure.status) == (code, status)
    assert "anna" not in failure.message and failure.message.endswith(".")
    assert events.Failure.from_json(through(events.error(failure)).header["error"]) == failure


def test_errors_carry_more_where_there_is_more():
    failure = events.Failure("stale", "The session is at revision 4.", {"revision": 4})
    assert events.Failure.from_json(failure.to_json()) == failure and failure.status == 409
    with pytest.raises(ProtocolError):
        events.Failure.from_json({"code": 3})


def test_cards_come_back_as_they_were():
    for card in map(registry.card, registry.names()):
        again = cards.card_from_json(json.loads(json.dumps(cards.card_to_json(card))))
        assert again == dataclasses.replace(card, implementation="")
        assert card.implementation not in json.dumps(cards.card_to_json(card))
    with pytest.raises(ProtocolError):
        cards.card_from_json({"name": "x"})
    with pytest.raises(ProtocolError):
        cards.card_from_json([])
