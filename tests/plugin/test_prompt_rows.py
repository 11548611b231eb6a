"""Rows of the prompt layers, and what changed in them."""

from __future__ import annotations

import numpy as np

from napari_sammed.geometry import Box
from napari_sammed.plugin.layers.edits import painted
from napari_sammed.plugin.layers.prompt_rows import NEW, Rows, box_rows, click_rows, difference, numbers_from
from napari_sammed.prompts import MaskPrompt, Point, Prompts, Stroke
from napari_sammed.session.history import ObjectState

PROMPTS = Prompts(
    (
        Point((1, 2, 3)),
        Box((2, 0, 0), (3, 4, 4)),
        Point((4, 5, 6), False),
        Stroke(((1, 1, 1), (2, 2, 2))),
        Box((1, 0, 0), (4, 5, 6)),
    )
)


def test_rows_know_which_prompt_they_show():
    clicks = click_rows(PROMPTS)
    assert clicks.numbers == (0, 2) and clicks.positive == (True, False)
    np.testing.assert_array_equal(clicks.coordinates, [(1, 2, 3), (4, 5, 6)])


def test_boxes_have_a_rectangle_on_each_of_their_slices():
    boxes = box_rows(PROMPTS, 1)
    assert boxes.numbers == (1, 4, 4, 4, 4, 4)
    assert {float(r[0, 0]) for r in boxes.coordinates[:1]} == {2.0}, "a flat box stays on its own slice"
    assert [float(r[0, 1]) for r in boxes.coordinates[1:]] == [0, 1, 2, 3, 4]


def rows(*items: tuple[int, tuple[float, ...], bool]) -> Rows:
    return Rows(tuple(i[0] for i in items), tuple(np.array(i[1], float) for i in items), tuple(i[2] for i in items))


def test_what_a_user_did_is_found():
    shown = rows((0, (1, 1), True), (2, (5, 5), False))
    assert not difference(shown, shown)
    assert difference(shown, rows((0, (1, 1), True), (2, (5, 5), False), (NEW, (7, 7), True))).added == (2,)
    assert difference(shown, rows((0, (1, 1), True), (2, (5, 6), False))).changed == (1,)
    assert difference(shown, rows((0, (1, 1), False), (2, (5, 5), False))).changed == (0,)
    assert difference(shown, rows((2, (5, 5), False))).removed == (0,)
    pasted = difference(shown, rows((0, (1, 1), True), (2, (5, 5), False), (2, (8, 8), False)))
    assert pasted.added == (2,) and not pasted.changed


def test_numbers_survive_what_tables_make_of_them():
    assert numbers_from([0, 2.0, float("nan"), None, np.int64(3), "x"]) == (0, 2, NEW, NEW, 3, NEW)


def state(label: int, mask: np.ndarray) -> ObjectState:
    return ObjectState(label, f"Object {label}", Prompts(), MaskPrompt(mask, (0,) * mask.ndim))


def test_painting_changes_the_objects_under_the_brush():
    one, two = np.zeros((8, 8), bool), np.zeros((8, 8), bool)
    one[1:5, 1:5] = two[3:7, 3:7] = True
    before = np.where(two, 2, one.astype(int))
    after = before.copy()
    after[3, 3] = 1  # over object 2
    after[6, 6] = 0  # erased
    after[0, 0] = 9  # a label of nobody
    where, masks = painted({1: state(1, one), 2: state(2, two)}, Box.of_shape((8, 8)), before, after)
    assert where == Box((0, 0), (7, 7))
    assert set(masks) == {1, 2}
    np.testing.assert_array_equal(masks[1], one[:7, :7], err_msg="what lies under the other object stays")
    expected = two[:7, :7].copy()
    expected[3, 3] = expected[6, 6] = False
    np.testing.assert_array_equal(masks[2], expected)


def test_no_painting_is_no_edit():
    labels = np.zeros((4, 4), int)
    assert painted({}, Box.of_shape((4, 4)), labels, labels.copy()) is None
