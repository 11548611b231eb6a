"""Strokes of a brush and an eraser: which voxels they mark, and that these are kept whatever else happens."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_sammed.backend.local import LocalBackend
from napari_sammed.backend.slicing import in_region
from napari_sammed.errors import InputError
from napari_sammed.geometry import Box
from napari_sammed.models.random_walker import RandomWalker
from napari_sammed.prompts import MaskPrompt, Point, Prompts, Stroke
from napari_sammed.session import Session
from napari_sammed.session.records import replay
from napari_sammed.session.slices import anchors
from napari_sammed.volume import Volume, read_volume, write_volume
from tests.phantoms import ball, two_balls
from tests.thresholder import Thresholder

MODEL = "thresholder"


# ---- which voxels a stroke marks ---------------------------------------------------------------------------------


def swept(stroke: Stroke, shape: tuple[int, ...]) -> np.ndarray:
    """Voxels within the radius of a densely sampled line, and those under it, found the slow way."""
    mask = np.zeros(shape, bool)
    mask[tuple(stroke.voxels().T)] = True
    vertices = np.array(stroke.points)
    pairs = itertools.pairwise(vertices)
    line = [vertices[:1], *(start + (stop - start) * np.linspace(0, 1, 200)[:, None] for start, stop in pairs)]
    centres = np.indices(shape).reshape(len(shape), -1).T.astype(float)
    plane = [axis for axis in range(len(shape)) if axis != stroke.axis]
    near = np.zeros(len(centres), bool)
    for place in np.concatenate(line):
        near |= ((centres[:, plane] - place[plane]) ** 2).sum(1) <= (stroke.radius + 0.01) ** 2
    if stroke.axis is not None:
        near &= centres[:, stroke.axis] == np.floor(vertices[0, stroke.axis] + 0.5)
    return mask | near.reshape(shape)


def marked(stroke: Stroke, shape: tuple[int, ...]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    found = stroke.footprint(Box.of_shape(shape))
    if found is not None:
        mask[found[0].slices] = found[1]
    return mask


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 56), st.integers(0, 56)), min_size=1, max_size=4),
    st.sampled_from([0.4, 1, 2.5, 6]),
    st.sampled_from([None, 0, 1, 2]),
)
def test_a_disc_is_swept_along_the_line(quarters, radius, axis):
    points = [(y / 4, x / 4) for y, x in quarters]
    shape = (15, 15) if axis is None else tuple(3 if a == axis else 15 for a in range(3))
    if axis is not None:
        points = [tuple(np.insert(point, axis, 1.2)) for point in points]
    stroke = Stroke(tuple(points), True, radius, axis)
    found, expected = marked(stroke, shape), swept(stroke, shape)
    exact = Stroke(tuple(points), True, max(radius - 0.02, 0.01), axis)
    assert not (found & ~expected).any() and not (marked(exact, shape) & ~found).any()
    assert (swept(exact, shape) & ~found).sum() == 0
    inside = Box.of_mask(found)
    assert stroke.extent.intersect(Box.of_shape(shape)).union(inside) == stroke.extent.intersect(Box.of_shape(shape))


def test_a_dab_is_a_disc_and_a_thin_stroke_a_line():
    dab = Stroke(((2, 10, 10),), True, 3, axis=0)
    volume = np.zeros((5, 21, 21), bool)
    volume[2] = ball((21, 21), (10, 10), 3)
    np.testing.assert_array_equal(marked(dab, volume.shape), volume)
    assert dab.extent == Box((2, 7, 7), (3, 14, 14)) and dab.line == Box((2, 10, 10), (3, 11, 11))
    assert dab.marks((2, 13.4, 10)) and not dab.marks((3, 10, 10)) and not dab.marks((2, 14, 10))
    thin = Stroke(((1, 1), (1, 5), (4, 5)))
    assert marked(thin, (8, 8)).sum() == 8 and thin.extent == thin.line


def test_a_stroke_is_clipped_to_the_image():
    stroke = Stroke(((0, 0), (0, 19)), True, 4)
    found = marked(stroke, (20, 20))
    assert found[:5].all() and not found[5:].any()
    assert stroke.extent == Box((-4, -4), (5, 24))
    Prompts((stroke,)).check_inside(Volume.from_array(np.zeros((20, 20))).grid)
    assert stroke.footprint(Box((10, 0), (12, 20))) is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"radius": -1}, "0 to 10000 voxels, not -1"),
        ({"radius": float("nan")}, "not nan"),
        ({"radius": float("inf")}, "not inf"),
        ({"radius": 10_001}, "not 10001"),
        ({"radius": "wide"}, "a number of voxels, not 'wide'"),
        ({"radius": None}, "a number of voxels"),
        ({"radius": 2, "points": ((0, 0, 0), (1, 1, 1))}, "stays in one slice, but this one reaches from"),
        ({"radius": 2, "axis": 1}, "one slice across axis 1"),
        ({"radius": 2, "axis": "z"}, "one slice across axis z"),
        ({"radius": 2, "points": ((1, 1),), "axis": 0}, "across no axis"),
        ({"points": ((float("nan"), 0, 0),)}, "finite"),
    ],
)
def test_bad_strokes_are_refused(values, message):
    with pytest.raises(InputError, match=message):
        Stroke(**{"points": ((0, 0, 0), (0, 1, 1)), **values})


def test_old_strokes_are_read_and_written_as_before():
    old = {"kind": "stroke", "points": [[1.0, 2.0], [3.0, 4.0]], "positive": False}
    (stroke,) = Prompts.from_json([old])
    assert stroke == Stroke(((1, 2), (3, 4)), False) and Prompts((stroke,)).to_json() == [old]
    new = Stroke(((1, 2, 3), (1, 2, 5)), False, 2.5, axis=1)
    assert Prompts.from_json(json.loads(json.dumps(Prompts((new,)).to_json()))) == Prompts((new,))
    with pytest.raises(InputError):
        Prompts.from_json([old | {"radius": -2}])


def test_points_along_a_brush_do_not_crowd():
    to_and_fro = Stroke(tuple((10.0 + row, 10.0 if row % 2 else 30.0) for row in range(12)), True, 6)
    places = to_and_fro.spread(5)
    distances = np.linalg.norm(places[:, None] - places[None], axis=-1)[np.triu_indices(len(places), 1)]
    assert 1 <= len(places) <= 5 and (distances > 6).all()
    assert len(Stroke(((5, 5),), True, 4).spread(5)) == 1


def test_a_stroke_in_a_part_of_the_image():
    stroke = Stroke(((5, 0, 5), (5, 20, 5), (5, 20, 15), (5, 0, 15)), False, 2, axis=0)
    whole_slice = Box((5, 0, 0), (6, 30, 30))
    assert in_region(Prompts((stroke,)), whole_slice).items == (stroke,)
    pieces = in_region(Prompts((stroke,)), Box((5, 0, 0), (6, 10, 30))).items
    assert [(p.radius, p.axis, p.positive) for p in pieces] == [(2, 0, False)] * 2, "the line leaves and comes back"
    assert not in_region(Prompts((stroke,)), Box((5, 0, 17), (6, 30, 30))), "only its width reaches there"


# ---- what a session makes of them --------------------------------------------------------------------------------


@pytest.fixture
def backend():
    models = {MODEL: Thresholder(), "planar": Thresholder(planar=True), "random-walker": RandomWalker()}
    backend = LocalBackend(models=models)
    yield backend
    backend.shutdown()


@pytest.fixture
def scene():
    return two_balls()


@pytest.fixture
def journal(tmp_path):
    return tmp_path / "session.jsonl"


@pytest.fixture
def session(scene, backend, journal):
    with Session(scene[0], backend, journal=journal) as session:
        session.model = MODEL
        yield session


def centre(mask: np.ndarray) -> tuple[float, ...]:
    return tuple(float(round(c)) for c in np.argwhere(mask).mean(0))


def shown(session: Session) -> np.ndarray:
    return session.labels() > 0


def brush(place, radius: float = 9, positive: bool = True) -> Stroke:
    """A short stroke through a place of a volume, within its slice."""
    z, y, x = place
    return Stroke(((z, y - 1, x), (z, y + 1, x)), positive, radius, axis=0)


def add(session: Session, prompt, **rest):
    return session.add(prompt, **rest).result(10)


def check_kept(session: Session, scene, backend, journal) -> None:
    """What is shown now comes back from the disk, and from asking everything again."""
    expected, prompts = shown(session), session.objects[1].prompts
    session.close()
    with Session(scene[0], backend, journal=journal) as again:
        np.testing.assert_array_equal(shown(again), expected)
        assert again.objects[1].prompts == prompts
    history = replay(journal, scene[0], backend)
    np.testing.assert_array_equal(history.labels(scene[0].grid.box) > 0, expected)


def test_a_stroke_starts_an_object_and_the_model_goes_on_around_it(session, scene, backend, journal):
    _, first, _ = scene
    stroke = brush(centre(first))
    painted = marked(stroke, first.shape)
    assert (painted & ~first).any() and (first & ~painted).any()
    add(session, stroke)
    np.testing.assert_array_equal(shown(session), first | painted)
    session.undo()
    assert not shown(session).any()
    session.redo()
    np.testing.assert_array_equal(shown(session), first | painted)
    check_kept(session, scene, backend, journal)


def test_a_stroke_holds_before_and_without_an_answer(session, scene, backend, journal):
    _, first, _ = scene
    heard = []
    session.on_change(heard.append)
    stroke = brush(centre(first))
    painted = marked(stroke, first.shape)
    session.new_object()
    with session._lock:  # the answer cannot be kept yet
        session.add(stroke)
        np.testing.assert_array_equal(shown(session), painted)
        assert any(change.box == Box.of_mask(painted) for change in heard)
        session.cancel()
    np.testing.assert_array_equal(shown(session), painted)
    for answer in session.resume():
        answer.result(10)
    np.testing.assert_array_equal(shown(session), first | painted)
    check_kept(session, scene, backend, journal)


def test_an_eraser_takes_away_what_it_covers(session, scene, backend, journal):
    _, first, second = scene
    add(session, Point(centre(first)))
    add(session, Point(centre(second)))
    eraser = brush(centre(second), 22, False)  # its line in the second ball, its width reaches into the first
    gone = marked(eraser, first.shape)
    assert (gone & first).any()
    add(session, eraser)
    np.testing.assert_array_equal(shown(session), first & ~gone)
    session.remove(2)
    np.testing.assert_array_equal(shown(session), first | second)
    session.undo()
    check_kept(session, scene, backend, journal)


@pytest.mark.parametrize("positive", [True, False])
def test_a_stroke_on_an_object_changes_it_near_the_stroke_only(session, scene, backend, journal, positive):
    """Models that look at slices are given a few points, and may make anything of them."""
    _, first, second = scene
    z, y, x = centre(first)
    before = add(session, Point((z, y, x)), model="planar")
    stroke = brush(centre(second), 2) if positive else brush((z, y + 3, x), 2, False)
    painted = marked(stroke, first.shape)
    add(session, stroke, model="planar")
    changed = shown(session)[int(z)] ^ first[int(z)]
    reach = marked(brush(stroke.points[0], 5), first.shape)[int(z)]
    assert (changed & ~painted[int(z)]).any() and not (changed & ~reach).any()
    assert shown(session)[painted].all() == positive and before.logits is not None
    check_kept(session, scene, backend, journal)


def test_later_answers_respect_a_stroke(session, scene, backend, journal):
    _, first, second = scene
    stroke = brush(centre(first))
    erased = brush(np.add(centre(first), (1, 0, 0)), 3, False)
    kept, gone = marked(stroke, first.shape), marked(erased, first.shape)
    add(session, stroke, model="planar")
    add(session, Point(centre(second)))
    np.testing.assert_array_equal(shown(session), first | second | kept)
    add(session, erased, model="planar")
    assert not (shown(session) & gone).any() and shown(session)[kept].all()
    session.refine(Box((5, 5, 2), (16, 35, 30))).result(10)
    assert not (shown(session) & gone).any() and shown(session)[kept].all()
    check_kept(session, scene, backend, journal)


def test_the_later_stroke_wins_and_an_opposite_click_sets_free(session, scene, backend, journal):
    _, first, _ = scene
    z, y, x = centre(first)
    one, other = brush((z, y, x)), brush((z, y + 6, x + 2), 5, False)
    kept, gone = marked(one, first.shape), marked(other, first.shape)
    assert (kept & gone).any()
    add(session, one)
    add(session, other)
    assert shown(session)[kept & ~gone].all() and not shown(session)[gone].any()
    outside = np.argwhere(kept & ~gone & ~first)[0]
    add(session, Point(tuple(outside), False))  # the model says that nothing of the ground belongs to it
    assert not shown(session)[tuple(outside)] and not shown(session)[gone].any()
    assert not shown(session)[kept & ~first].any(), "the whole stroke is free"
    session.undo()
    assert shown(session)[kept & ~gone].all()
    session.redo()
    session.remove(2)
    assert shown(session)[kept & ~gone].all(), "as if the click had never been given"
    add(session, Point(tuple(outside), True))
    assert shown(session)[kept & ~gone].all(), "a click of its own kind changes nothing"
    check_kept(session, scene, backend, journal)


def test_what_was_moved_or_turned_last_wins(session, scene, backend, journal):
    _, first, second = scene
    z, y, x = centre(first)
    add(session, Point((z, y, x)))
    one, other = brush((z, y, x), 4), brush((z, y + 3, x), 4, False)
    add(session, one)
    add(session, other)
    both = marked(one, first.shape) & marked(other, first.shape)
    assert both.any() and not shown(session)[both].any()
    moved = brush((z, y + 1, x), 4)
    session.replace(1, moved).result(10)
    assert shown(session)[marked(moved, first.shape)].all(), "moved over the eraser, it lies on top"
    turned = Stroke(moved.points, False, moved.radius, moved.axis)
    session.replace(1, turned).result(10)
    assert not shown(session)[marked(moved, first.shape)].any()
    session.replace(0, Point(centre(second))).result(10)
    session.undo()
    session.undo()
    assert shown(session)[marked(moved, first.shape)].all()
    check_kept(session, scene, backend, journal)


def test_painting_by_hand_wins_over_earlier_strokes_only(session, scene, backend, journal):
    _, first, _ = scene
    stroke = brush(centre(first))
    kept = marked(stroke, first.shape)
    add(session, stroke)
    z, y, x = (int(c) for c in centre(first))
    box = Box((z, y - 2, x - 2), (z + 1, y, x + 3))
    session.edit(np.zeros(box.shape, bool), box)
    assert not shown(session)[box.slices].any()
    add(session, Point((0.0, 0.0, 0.0), False))
    cut = np.zeros_like(first)
    cut[box.slices] = True
    assert shown(session)[kept & ~cut].all()
    session.replace(0, brush((z, y + 1, x), 9)).result(10)
    assert shown(session)[marked(brush((z, y + 1, x), 9), first.shape)].all(), "drawn anew, it holds as a whole"
    session.clear()
    assert not shown(session).any()
    add(session, Point(centre(first)))
    np.testing.assert_array_equal(shown(session), first)
    session.undo()
    session.undo()
    check_kept(session, scene, backend, journal)


def test_propagation_starts_from_the_slice_of_a_stroke_and_keeps_it(session, scene, backend, journal):
    _, first, _ = scene
    z, y, x = centre(first)
    eraser = brush((z + 2, y, x), 3, False)
    stroke, gone = brush((z, y, x)), marked(eraser, first.shape)
    kept = marked(stroke, first.shape)
    add(session, stroke, model="planar")
    session.propagate(axis=0).result(20)
    assert shown(session)[kept].all() and shown(session)[first].mean() > 0.5
    (anchor,) = anchors(session.history, 1, 0, session.history.done[-1])
    assert anchor.extent.low[0] == z and anchor.mask.sum() == (kept | first)[int(z)].sum()
    add(session, eraser, model="planar")
    assert not shown(session)[gone].any() and shown(session)[kept].all()
    session.propagate(axis=0).result(20)
    assert not shown(session)[gone].any() and shown(session)[kept].all()
    check_kept(session, scene, backend, journal)


def test_a_copy_has_what_was_painted_and_a_merger_keeps_what_comes_in(session, scene, backend, journal):
    _, first, second = scene
    eraser = brush(centre(second), 6, False)
    gone = marked(eraser, first.shape)
    add(session, brush(centre(first)))
    add(session, eraser)
    before = session.objects[1].mask
    session.duplicate()
    assert session.objects[2].mask == before
    session.take(MaskPrompt(second, (0, 0, 0)))
    session.merge([1, 3])
    assert shown(session)[second].all() and (gone & second).any()
    session.undo()
    assert not ((session.labels() == 1) & gone).any()
    check_kept(session, scene, backend, journal)


def test_a_preview_shows_what_was_painted(session, scene):
    _, first, second = scene
    erased, stroke = brush(np.add(centre(first), (1, 0, 0)), 3, False), brush(centre(first))
    add(session, stroke)
    add(session, erased)
    point = Point(centre(second))
    preview = session.preview(point).result(10)
    add(session, point)
    found = np.zeros_like(first)
    found[preview.box.slices] = preview.mask
    np.testing.assert_array_equal(found, shown(session))
    assert found[marked(stroke, first.shape)].all() and not found[marked(erased, first.shape)].any()


@pytest.mark.parametrize("model", [MODEL, "planar", "random-walker"])
@pytest.mark.parametrize("painted", [True, False])
def test_an_eraser_on_a_mask_by_hand(session, scene, backend, journal, model, painted):
    """Whichever model is asked: what was erased is gone, and the mask far from it stays."""
    _, first, second = scene
    both = first | second
    if painted:
        session.new_object()
        session.edit(both, scene[0].grid.box)
    else:
        session.take(MaskPrompt(both, (0, 0, 0)))
    z, y, x = centre(second)
    eraser = brush((z, y, x), 2, False)
    gone = marked(eraser, first.shape)
    session.add(eraser, model=model).result(20)
    assert not shown(session)[gone].any()
    assert (shown(session) & first).sum() > 0.95 * first.sum()
    session.undo()
    np.testing.assert_array_equal(shown(session), both)
    session.redo()
    check_kept(session, scene, backend, journal)


def test_an_eraser_on_nothing_is_refused_kindly_and_holds(session, scene):
    _, first, _ = scene
    eraser = brush(centre(first), 3, False)
    with pytest.raises(InputError, match="needs a positive click or stroke"):
        session.add(eraser, model="random-walker").result(10)
    assert not shown(session).any()
    add(session, Point(np.add(centre(first), (3, 3, 0))))
    assert not shown(session)[marked(eraser, first.shape)].any()


def test_replay_in_a_fresh_process(scene, backend, tmp_path, journal):
    """With a model that needs no weights, by the command that users have."""
    path = tmp_path / "image.nii.gz"
    write_volume(scene[0], path)
    image = read_volume(path)
    with Session(image, backend, journal=journal, source={"path": str(path)}) as own:
        own.model = "random-walker"
        z, y, x = centre(scene[1])
        add(own, brush((z, y, x)))
        add(own, brush((z, y + 4, x), 3, False))
        expected = shown(own)
    out = tmp_path / "mask.nii.gz"
    command = [sys.executable, "-m", "napari_sammed.cli", "replay", str(journal), "-o", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and "identical to the stored answers" in done.stdout, done.stderr
    np.testing.assert_array_equal(read_volume(out).array > 0, expected)


def test_seeds_of_the_random_walker_are_all_that_was_painted(session, scene):
    _, first, _ = scene
    z, y, x = centre(first)
    wide = brush((z, y, x), 5)
    answer = session.add(wide, model="random-walker").result(20)
    mask = np.zeros_like(first)
    mask[answer.box.slices] = answer.mask
    inside = marked(wide, first.shape) & first
    assert mask[inside].mean() > 0.98, "of its own accord"
    assert answer.reductions == () or "stroke" not in " ".join(answer.reductions)


def test_what_was_painted_by_hand_stays_under_later_clicks_if_it_is_held(session, scene, backend, journal):
    _, first, _ = scene
    add(session, Point(centre(first)))
    z, y, x = (int(c) for c in centre(first))
    added, removed = Box((z, 0, 0), (z + 1, 2, 3)), Box((z, y - 1, x - 1), (z + 1, y + 1, x + 1))
    for box, value in ((added, True), (removed, False)):
        session.edit(np.full(box.shape, value), box, held=True)
    add(session, Point((z + 1, y, x)))
    assert shown(session)[added.slices].all() and not shown(session)[removed.slices].any()
    expected = first.copy()
    expected[added.slices], expected[removed.slices] = True, False
    np.testing.assert_array_equal(shown(session), expected)
    session.undo()
    session.undo()
    assert shown(session)[removed.slices].all() and shown(session)[added.slices].all()
    session.redo()
    session.redo()
    np.testing.assert_array_equal(shown(session), expected)
    add(session, Point((z, y - 1, x - 1)))
    assert shown(session)[removed.slices].all(), "a click of the other kind there takes the painting back"
    check_kept(session, scene, backend, journal)


def test_an_edit_that_is_not_held_gives_way_to_the_next_answer(session, scene):
    _, first, _ = scene
    add(session, Point(centre(first)))
    z = int(centre(first)[0])
    box = Box((z, 0, 0), (z + 1, 2, 3))
    session.edit(np.ones(box.shape, bool), box)
    add(session, Point((z + 1, *centre(first)[1:])))
    np.testing.assert_array_equal(shown(session), first)
