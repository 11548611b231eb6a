"""The dock for learning: real sessions are counted, a real process is started, followed, stopped, gone on with."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from napari_sammed.models import registry
from napari_sammed.plugin.image.images import READ_KEY
from napari_sammed.plugin.learning import offers
from napari_sammed.plugin.learning.curves import draw
from napari_sammed.plugin.learning.log import RunLog
from napari_sammed.plugin.learning.runs import LearningRun, runs_folder
from napari_sammed.plugin.learning.widget import LearnWidget, show
from napari_sammed.plugin.learning.wish import Wish
from napari_sammed.plugin.views.learning_data import FOLDER
from napari_sammed.training.alone import at_work
from tests.phantoms import two_balls
from tests.training import folders

CHILD = (sys.executable, "-m", "tests.plugin.learning_child")


class Learner:
    """Who works with the dock."""

    def __init__(self, hands, dock: LearnWidget) -> None:
        self.hands, self.dock, self.view, self.work = hands, dock, dock.view, dock.work

    def wait(self, until, seconds: float = 30) -> None:
        self.hands.qtbot.waitUntil(until, timeout=round(1000 * seconds))

    def looked(self) -> str:
        """What was found, once somebody has looked."""
        self.wait(lambda: self.view.data.found.text() not in ("", "Looking …"))
        return self.view.data.found.text()

    def press(self, button) -> None:
        assert not button.isHidden() and button.isEnabled()
        QTest.mouseClick(button, Qt.MouseButton.LeftButton)

    def start(self, name: str = "balls") -> None:
        self.view.how.name.setText(name)
        self.view.how.name.textEdited.emit(name)
        self.press(self.view.start_button)
        self.wait(lambda: self.work.run is not None)

    def at_step(self, step: int) -> None:
        self.wait(lambda: step in self.work.run.log.curve)

    def ended(self) -> str:
        self.wait(lambda: self.work.run is not None and not self.work._alive)
        return self.view.run.text.text()


@pytest.fixture
def learner(open_plugin):
    """Opens docks, beside a panel whose model thresholds."""
    made: list[Learner] = []

    def make(hands=None, **options) -> Learner:
        hands = hands or open_plugin(**options)
        made.append(Learner(hands, LearnWidget(hands.viewer, hands.widget, CHILD)))
        return made[-1]

    yield make
    for one in made:
        if one.work.run is not None and one.work.run.alive:
            one.work.run.stop()
        one.work.close(wait=True)
        one.dock.deleteLater()


@pytest.fixture
def corrected(open_plugin, tmp_path):
    """A viewer in which two objects of an image were segmented and named."""
    volume, first, second = two_balls()
    path = folders.write(tmp_path / "images" / "one.nii.gz", volume.array, spacing=(1.0, 1.0, 1.0))
    hands = open_plugin(volume.array.copy(), metadata={READ_KEY: {"path": str(path)}})
    for label, (name, mask) in enumerate((("liver", first), ("spleen", second)), 1):
        if label > 1:
            hands.press(hands.panel.objects.new_button)
        hands.session.rename(label, name) if label in hands.session.objects else hands.session.new_object(name)
        hands.mode("positive")
        hands.writer.points.add(tuple(np.argwhere(mask).mean(0)))
        hands.settle()
    return hands


def test_what_was_corrected_is_counted_and_can_be_chosen(learner, corrected):
    one = learner(corrected)
    assert one.looked().startswith("1 session of 1 patient.")
    rows = [one.view.data.structures.item(row) for row in range(one.view.data.structures.count())]
    assert [row.text() for row in rows] == ["liver  (1 session)", "spleen  (1 session)"]
    assert one.work.wish().structures == () and one.view.how.name.text() == "liver-spleen"
    rows[0].setCheckState(Qt.CheckState.Unchecked)
    wish = one.work.wish()
    assert wish.structures == ("spleen",) and wish.name == "spleen"
    assert Path(wish.out) == runs_folder() / "spleen"
    rows[1].setCheckState(Qt.CheckState.Unchecked)
    one.press(one.view.start_button)
    assert "at least one structure" in one.view.message.text() and one.work.run is None


def test_nothing_corrected_yet_and_other_folders(learner, tmp_path):
    one = learner()
    assert one.looked().startswith("Nothing has been segmented in napari yet.")
    data = one.view.data
    data.source.set_key(FOLDER)
    data.source.chosen.emit(FOLDER)
    one.press(one.view.start_button)
    assert "Choose a folder" in one.view.message.text()
    for folder, said in (
        (tmp_path / "gone", "gone"),
        (folders.nnunet(tmp_path / "raw", 3), "3 cases of 3 patients (nnU-Net"),
    ):
        data.folder.setText(str(folder))
        data.folder.editingFinished.emit()
        one.wait(lambda said=said: said in data.found.text())
    assert data.names == ("liver", "spleen") and one.work.wish().data == str(tmp_path / "raw")


def test_a_run_is_followed_to_its_end_and_its_model_is_used(learner, corrected, monkeypatch, tmp_path):
    monkeypatch.setenv("NAPARI_SAMMED_CACHE", str(tmp_path / "cache"))
    one = learner(corrected)
    one.looked()
    one.start()
    view = one.view
    assert not view.stop_button.isHidden() and view.start_button.isHidden() and view.data.isHidden()
    one.at_step(2)
    one.wait(lambda: view.run.text.text().startswith("Step"))
    assert not view.run.bar.isHidden() and view.run.bar.value() > 0
    assert one.ended() == "Done. Mean Dice on what was held out: 0.750, before 0.400."
    assert view.run.problems.texts == ["Left out: b.nii.gz: nothing is labelled.", "a.nii.gz: 9 mm is much."]
    assert view.run.figures() == [
        ("liver", "0.500", "0.600", "+0.100"),
        ("spleen", "0.300", "0.900", "+0.600"),
        ("Mean", "0.400", "0.750", "+0.350"),
    ]
    assert sorted(one.work.run.log.curve) == list(range(7)) and one.work.run.log.steps == 6
    one.wait(lambda: view.run.curves._pixmap is not None)
    one.press(view.run.use_button)
    one.wait(lambda: "balls" in registry.names() and "balls" in view.message.text())
    assert one.hands.panel.image_section.model.key == "balls"
    one.press(view.run.use_button)
    one.wait(lambda: view.run.use_button.isEnabled())
    assert [name for name in registry.names() if name.startswith("balls")] == ["balls"]


def test_a_run_is_stopped_found_again_and_gone_on_with(learner):
    one = learner()
    one.looked()
    one.start("other")
    one.at_step(1)
    one.press(one.view.stop_button)
    assert one.ended().startswith("Stopped. What was learnt is kept")
    steps = max(one.work.run.log.curve)
    assert steps < 6 and not at_work(one.work.run.out)
    again = learner(one.hands)
    again.looked()
    assert again.work.run is None
    again.view.run.runs.set_key(str(runs_folder() / "other"))
    again.view.run.runs.chosen.emit(again.view.run.runs.key)
    assert again.ended().startswith("Stopped.") and max(again.work.run.log.curve) == steps
    assert again.view.start_button.text() == "Go on"
    again.press(again.view.start_button)
    again.wait(lambda: again.work.run.log.done is not None)
    assert again.ended().startswith("Done.") and sorted(again.work.run.log.curve) == list(range(7))


def test_a_run_goes_on_without_napari_unless_the_user_wants_otherwise(learner):
    one = learner()
    one.looked()
    one.start("slow")
    one.at_step(2)
    one.dock.close()
    assert at_work(runs_folder() / "slow")
    again = learner(one.hands)
    again.wait(lambda: again.work.run is not None)
    assert again.work.run.out == runs_folder() / "slow" and again.work._alive
    again.at_step(2)
    again.view.run.goes_on.setChecked(False)
    again.dock.close()
    again.wait(lambda: not at_work(runs_folder() / "slow"))


def test_the_data_can_be_checked_before_anything_is_learnt(learner):
    one = learner()
    one.looked()
    one.press(one.view.check_button)
    one.wait(lambda: one.work.run is not None)
    assert one.ended().startswith("3 cases of 2 patients to learn from, 1 held out to measure with; 2 problems below.")
    assert one.view.run.problems.is_open and not one.work.run.log.curve
    one.press(one.view.start_button)
    one.wait(lambda: one.work.run.log.done is not None)


def test_an_error_is_said_in_the_runs_own_words(learner):
    one = learner()
    one.looked()
    one.start("bad")
    assert one.ended() == "At step 1 the loss is nan: learning has gone wrong."
    assert one.view.start_button.text() == "Go on"


def test_a_program_that_cannot_be_started_is_said(learner, tmp_path):
    one = learner()
    one.looked()
    one.work._program = (str(tmp_path / "no python"),)
    one.press(one.view.start_button)
    one.wait(lambda: "cannot be started" in one.view.message.text())
    assert one.work.run is None and not one.view.start_button.isHidden()


def test_without_the_libraries_the_dock_says_what_to_install(learner, monkeypatch):
    monkeypatch.setattr(offers, "find_spec", lambda name: None if name == "monai" else name)
    one = learner()
    assert "Learning needs monai: run pip install 'napari-sammed[train]'" in one.view.message.text()
    assert not one.view.start_button.isEnabled() and not one.view.check_button.isEnabled()


def test_the_session_menu_opens_the_dock(open_plugin, qtbot):
    hands = open_plugin(two_balls()[0].array.copy(), show=True)
    hands.panel.session_button.entries["learn"].trigger()
    docks = [each for each in hands.viewer.window.dock_widgets.values() if isinstance(each, LearnWidget)]
    show(hands.viewer)
    assert len(docks) == 1 and docks[0].isVisible()
    assert not docks[0].visibleRegion().isEmpty(), "it is behind the panel"
    qtbot.waitUntil(lambda: docks[0].view.data.found.text() not in ("", "Looking …"), timeout=10_000)
    docks[0].work.close(wait=True)


def test_arguments_are_values_whatever_is_in_them(tmp_path):
    wish = Wish("-rf", str(tmp_path), "samed", "sam-vit-b", "a; b", ("x; y", "--json"), steps=3, rate=0.001)
    assert wish.arguments()[-2:] == ["--", "-rf"]
    assert {"--name=a; b", "--structures=x; y", "--structures=--json", "--steps=3"} < set(wish.arguments())
    assert Wish.from_json(wish.to_json()) == wish


def test_torn_lines_lose_nothing_and_time_left_is_that_of_the_learning(tmp_path):
    now = [0.0]
    log = RunLog(tmp_path / "events.jsonl", clock=lambda: now[0])
    assert not log.read() and log.seconds_left is None
    with log.path.open("ab", 0) as file:
        file.write(b'{"event": "started"}\n{"event": "progress", "text": "step 1 of 100", "sh')
        log.read()
        assert log.text == ""
        file.write(b'are": 0.0}\n[1]\n\xff\n')
        log.read()
        assert log.text == "step 1 of 100" and log.seconds_left is None
        now[0] = 20.0
        file.write(b'{"event": "progress", "text": "step 21 of 100", "share": 0.2}\n')
        log.read()
    assert log.seconds_left == pytest.approx(80)
    assert offers.time_left(80) == " About 80\u00a0s left." and offers.time_left(7200) == " About 2.0\u00a0h left."


def test_curves_are_drawn_in_the_size_and_colour_that_is_wanted():
    rows = [{"step": 0, "loss": float("nan"), "score": 0.2}, {"step": 5, "loss": 0.5, "score": 0.7}]
    pixels = draw(rows, (300, 200), "#ff0000", 2.0)
    assert pixels.shape == (400, 600, 4) and pixels.dtype == np.uint8
    inked = pixels[pixels[..., 3] > 200]
    assert len(inked) > 500 and (inked[:, 0] > 200).all() and (inked[:, 1:3] < 50).all()


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_told_twice_a_run_ends_at_once(tmp_path):
    run = LearningRun(tmp_path / "slow", CHILD)
    run.start(Wish(str(tmp_path), str(tmp_path / "slow"), "samed", "sam-vit-b", "slow"))
    end = time.monotonic() + 60
    while 2 not in run.log.curve and time.monotonic() < end:
        run.log.read()
        time.sleep(0.05)
    assert max(run.log.curve) == 2
    run.stop()
    run.stop()
    while run.alive and time.monotonic() < end:
        time.sleep(0.05)
    assert not run.alive and run.complaint() == ""
