"""The question about overlaps, asked and answered in the panel."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sammed.plugin.settings.preferences import Preferences
from napari_sammed.prompts import MaskPrompt
from tests.phantoms import two_balls


@pytest.fixture
def hands(open_plugin):
    Preferences().set("overlap", "ask")
    return open_plugin(two_balls()[0].array.copy(), scale=(2, 1, 1))


def block(low: int, high: int) -> MaskPrompt:
    mask = np.ones((3, 10, high - low), bool)
    mask[0, 5:] = mask[2, 5:] = False  # most voxels in the middle slice
    return MaskPrompt(mask, (5, 10, low))


def take(hands, low: int, high: int, name: str) -> None:
    hands.session.take(block(low, high), name)
    hands.settle()


def test_the_bar_asks_and_each_answer_is_one_step_of_undo(hands):
    bar = hands.panel.overlaps
    assert hands.session.overlap == "ask" and bar.isHidden()
    take(hands, 10, 20, "Spleen")
    assert bar.isHidden()
    take(hands, 15, 30, "Liver")
    assert not bar.isHidden()
    assert bar.text.text() == "Liver overlaps Spleen in 100 voxels (0.2 ml)."
    assert (bar.give_button.text(), bar.leave_button.text()) == ("Give to Liver", "Leave with Spleen")
    assert hands.labels[6, 15, 17] == 1
    hands.press(bar.give_button)
    hands.settle()
    assert bar.isHidden() and hands.labels[6, 15, 17] == 2 and "voxels are Liver's now" in hands.message
    hands.act("undo")
    assert not bar.isHidden() and hands.labels[6, 15, 17] == 1
    hands.press(bar.leave_button)
    hands.settle()
    assert bar.isHidden() and hands.labels[6, 15, 17] == 1
    assert hands.session.history.done[-1].do == "settle" and hands.session.history.done[-1].label == 2


def test_several_neighbours_are_asked_about_one_after_the_other(hands):
    for low, high, name in ((10, 16, "A"), (24, 30, "B"), (14, 26, "Newest")):
        take(hands, low, high, name)
    bar = hands.panel.overlaps
    assert bar.text.text() == "Newest overlaps A in 40 voxels (80.0 mm³). 1 more after this."
    hands.press(bar.leave_button)
    hands.settle()
    assert bar.text.text() == "Newest overlaps B in 40 voxels (80.0 mm³)."


def test_show_goes_to_the_slice_with_most_of_it(hands):
    take(hands, 10, 20, "Spleen")
    take(hands, 15, 30, "Liver")
    hands.viewer.dims.set_point(0, 0)
    hands.press(hands.panel.overlaps.look_button)
    assert hands.viewer.dims.point[0] == 12  # slice 6, 2 mm thick


def test_always_has_a_rule_decide_from_now_on(hands):
    take(hands, 10, 20, "Spleen")
    take(hands, 15, 30, "Liver")
    bar = hands.panel.overlaps
    replace, _ = bar.menu().actions()
    replace.trigger()
    hands.settle()
    assert bar.isHidden() and hands.session.overlap == "replace" and hands.labels[6, 15, 17] == 2
    hands.act("undo")
    assert not bar.isHidden() and hands.labels[6, 15, 17] == 1
    hands.segmentation.arrange("overlap", [], "keep")
    hands.settle()
    assert bar.isHidden() and hands.labels[6, 15, 17] == 1


def test_the_measures_are_of_the_voxels_that_an_object_has(hands):
    take(hands, 10, 20, "Spleen")
    take(hands, 15, 30, "Liver")
    rows = hands.panel.objects.model
    hands.qtbot.waitUntil(lambda: all(row.measures is not None for row in rows.rows))
    assert [row.measures.voxels for row in rows.rows] == [200, 200]


def test_painting_over_voxels_that_are_withheld_decides_about_those_alone(hands):
    take(hands, 10, 20, "Spleen")
    take(hands, 15, 30, "Liver")
    hands.viewer.dims.set_point(0, 12)
    hands.writer.labels.data_setitem(tuple(map(np.array, ([6, 6], [15, 15], [17, 18]))), 2)
    hands.settle()
    assert hands.session.labels()[6, 15, 15:20].tolist() == [1, 1, 2, 2, 1]
    assert [contest.voxels for contest in hands.session.contests] == [98]
    hands.qtbot.waitUntil(lambda: hands.panel.overlaps.text.text().startswith("Liver overlaps Spleen in 98 voxels"))
