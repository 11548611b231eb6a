"""The dock for series: through a folder of real files, saved as one goes, resumed another day."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from napari.components import ViewerModel
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_sammed.plugin.series.widget import SeriesWidget
from napari_sammed.plugin.views.series import STEPS, clock
from napari_sammed.plugin.widget import SegmentWidget
from napari_sammed.training.preparing import Options, prepare
from napari_sammed.volume import read_volume, write_volume
from tests.dicom_files import write_series
from tests.phantoms import two_balls


def middle(mask: np.ndarray) -> tuple[int, ...]:
    return tuple(np.argwhere(mask).mean(0).round().astype(int).tolist())


@pytest.fixture
def folder(tmp_path) -> Path:
    """A DICOM series, a broken file, and two volumes, in this order."""
    folder = tmp_path / "images"
    folder.mkdir()
    volume, _, _ = two_balls()
    grey = np.clip(volume.array, 0, 1000).astype(np.uint16)
    write_series(folder / "a ct", grey, np.arange(len(grey)) * 3.0, intercept=0)
    (folder / "b.nii.gz").write_bytes(b"broken")
    for name in ("c2.nii.gz", "c10.nii.gz"):
        write_volume(volume, folder / name)
    return folder


class Annotator:
    """Who works with the dock."""

    def __init__(self, hands) -> None:
        self.hands = hands
        self.dock = SeriesWidget(hands.viewer, hands.widget)
        self.view, self.work = self.dock.view, self.dock.work

    def wait(self, until) -> None:
        self.hands.qtbot.waitUntil(until, timeout=20_000)

    def open(self, folder: Path, classes: str = "") -> None:
        self.view.folder.setText(str(folder))
        self.view.classes.setText(classes)
        self.view.open_button.click()

    def at(self, name: str) -> None:
        """Wait until an image is open, with its session and its objects."""

        def there() -> bool:
            work = self.work
            return (
                work.current is not None
                and work.current.path == name
                and work._session is not None
                and not work._soon.isActive()
            )

        self.wait(there)
        self.hands.settle()

    def step(self, which: str) -> None:
        self.view.buttons[which].click()

    def mark(self, label: int, mask: np.ndarray) -> None:
        """A click into an object."""
        self.hands.segmentation.choose_object(label)
        self.hands.mode("positive")
        self.hands.writer.points.add(middle(mask))
        self.hands.settle()

    @property
    def rows(self) -> list[str]:
        return [self.view.images.item(row).text() for row in range(self.view.images.count())]


@pytest.fixture
def annotator(open_plugin):
    made: list[Annotator] = []

    def make(**options) -> Annotator:
        made.append(Annotator(open_plugin(**options)))
        return made[-1]

    yield make
    for one in made:
        one.work.close(wait=True)
        if type(one.hands.viewer) is ViewerModel:  # no window that has taken the dock
            one.dock.deleteLater()


def test_a_folder_is_annotated_and_gone_on_with_another_day(annotator, folder):
    _, first, second = two_balls()
    one = annotator()
    one.open(folder, "spleen #ff8000, 7: liver")
    one.at("a ct")
    objects = one.hands.session.objects
    assert [(s.name, s.kind) for s in objects.values()] == [("spleen", "spleen"), ("liver", "liver")]
    assert objects[1].colour == "#ff8000" and one.hands.session.current == 1
    one.mark(1, first)
    one.mark(2, second)
    one.step("done")

    one.wait(lambda: one.rows[1].startswith("!"))
    assert "is not a NIfTI file" in one.view.message.text() and one.work.layer is None
    one.step("next")
    one.at("c2.nii.gz")
    results = folder / "sammed_results"
    saved = read_volume(results / "a ct_sammed.nii.gz")
    np.testing.assert_array_equal(saved.array, first + 7 * second.astype(int))
    assert saved.grid.same_place(read_volume(folder / "a ct").grid)
    one.wait(lambda: [layer.name for layer in one.hands.viewer.layers] == ["c2.nii.gz"])  # what was before is gone
    one.mark(1, second)
    state = json.loads((results / "series.json").read_text())
    assert [entry["state"] for entry in state["images"]] == ["done", "open", "open", "open"]
    assert one.view.progress.format() == "1 of 4 done"
    one.work.close(wait=True)  # the window is closed: what was done is saved
    one.hands.widget.coordinator.close(wait=True)
    np.testing.assert_array_equal(read_volume(results / "c2_sammed.nii.gz").array, second)

    moved = folder.rename(folder.with_name("elsewhere"))  # as on another computer
    again = annotator()
    again.open(moved)
    again.wait(lambda: again.rows[1:2] != [] and again.rows[1].startswith("!"))
    again.step("next")
    again.at("c2.nii.gz")
    assert [text[0] for text in again.rows] == ["✓", "!", "○", "○"]
    assert again.view.class_list.count() == 2
    np.testing.assert_array_equal(again.hands.labels == 1, second)
    again.hands.segmentation.choose_object(1)
    again.hands.mode("positive")
    assert len(again.hands.writer.points.data) == 1, "the prompts are there"
    again.step("skip")
    again.at("c10.nii.gz")
    again.step("before")
    again.wait(lambda: again.rows[1].startswith("!") and again.work.current.path == "b.nii.gz")
    again.view.only_open.setChecked(False)
    again.step("before")
    again.at("a ct")
    np.testing.assert_array_equal(again.hands.labels == 2, second)


def test_what_was_annotated_is_learnt_from(annotator, folder, tmp_path):
    _, first, second = two_balls()
    (folder / "b.nii.gz").unlink()
    one = annotator()
    one.open(folder, "spleen, liver")
    for name, mask in (("a ct", first), ("c2.nii.gz", second)):
        one.at(name)
        one.mark(2, mask)
        one.step("done")
    one.at("c10.nii.gz")
    one.work.close(wait=True)
    one.hands.widget.coordinator.close(wait=True)
    found = prepare(folder, Options(held_out=0), tmp_path / "cache")
    assert [(example.name, example.image.modality) for example in found.material.train] == [
        ("a ct", "CT"),
        ("c2", None),
    ]
    assert found.material.names == {1: "liver"}
    for example, mask in zip(found.material.train, (first, second), strict=True):
        np.testing.assert_array_equal(example.labels, mask)
    assert {problem.kind for problem in found.problems} == {"object without mask", "not finished"}


def test_another_object_of_a_class(annotator, folder):
    _, first, second = two_balls()
    one = annotator()
    one.open(folder / "a ct", "3: lesion")
    one.at(".")
    one.mark(1, first)
    one.view.class_list.itemDoubleClicked.emit(one.view.class_list.item(0))
    one.mark(2, second)
    assert [(s.name, s.kind) for s in one.hands.session.objects.values()] == [
        ("lesion", "lesion"),
        ("lesion 2", "lesion"),
    ]
    one.step("done")
    one.wait(lambda: "no further image" in one.view.message.text())
    path = folder / "a ct" / "sammed_results" / "dicom_sammed.nii.gz"
    one.wait(path.exists)
    np.testing.assert_array_equal(read_volume(path).array, 3 * (first | second).astype(int))


def test_objects_without_a_class_are_named(annotator, folder):
    _, first, _ = two_balls()
    one = annotator()
    one.open(folder, "spleen")
    one.at("a ct")
    one.mark(1, first)
    one.hands.session.classify(1, "something else")
    one.step("next")
    one.wait(lambda: "a ct: spleen without a class of the list" in one.view.message.text())


@pytest.mark.parametrize(
    ("classes", "said"), [("liver, liver", "is there twice"), ("x: liver", "no value"), ("", "no image")]
)
def test_what_cannot_be_opened_is_told(annotator, tmp_path, classes, said):
    one = annotator()
    one.open(tmp_path, classes)
    one.wait(lambda: said in one.view.message.text())
    one.view.folder.setText("")
    one.view.open_button.click()
    assert one.view.message.text() == "Choose a folder of images first."


def test_time_pauses_when_nothing_moves(annotator, folder, monkeypatch):
    one = annotator()
    one.open(folder, "liver")
    one.at("a ct")
    one.work._clock.stop()
    before = one.work.current.seconds
    one.work._tick()
    assert one.work.current.seconds == before + 1
    monkeypatch.setattr("napari_sammed.plugin.series.work.IDLE", -1.0)
    one.work._tick()
    assert one.work.current.seconds == before + 1
    assert (clock(65), clock(3700)) == ("1:05", "1 h 01 min")


def test_in_a_window_with_keys(annotator, tmp_path):
    rng = np.random.default_rng(0)
    names = ["1.png", "2.png"]
    spot = np.zeros((60, 80), bool)
    spot[20:40, 30:50] = True
    for name in names:
        grey = rng.integers(10, 30, spot.shape).astype(np.uint8)
        grey[spot] = 200
        sitk.WriteImage(sitk.GetImageFromArray(grey), str(tmp_path / name))
    one = annotator(show=True)
    one.hands.viewer.window.add_dock_widget(one.dock, name="Annotate a folder")
    one.open(tmp_path, "spot")
    key, modifier = Qt.Key.Key_Return, Qt.KeyboardModifier.AltModifier
    for number, name in enumerate(names):
        one.at(name)
        one.hands.viewer.reset_view()
        QApplication.processEvents()
        one.hands.mode("positive")
        one.hands.click((30, 40))
        np.testing.assert_array_equal(one.hands.labels == 1, spot)
        one.hands.canvas.window().activateWindow()
        one.wait(lambda: QApplication.activeWindow() is not None)
        one.hands.canvas.setFocus()
        QTest.keyClick(one.hands.canvas, key, modifier)
        one.wait(lambda number=number: one.view.progress.value() == number + 1)
    one.wait(lambda: "no further image" in one.view.message.text())
    for name in names:
        one.wait((tmp_path / "sammed_results" / f"{name[0]}_sammed.png").exists)
        saved = read_volume(tmp_path / "sammed_results" / f"{name[0]}_sammed.png")
        np.testing.assert_array_equal(saved.array == 1, spot)


def test_a_panel_that_was_closed_is_followed_by_another_one(make_napari_viewer, backend):
    viewer = make_napari_viewer(show=False)
    first = SegmentWidget(viewer, backend)
    dock = SeriesWidget(viewer, first)
    assert dock._coordinator() is first.coordinator
    first.coordinator.close(wait=True)
    second = dock._coordinator()
    assert second is not first.coordinator and not second.closed and dock._coordinator() is second
    second.close(wait=True)
    dock.work.close()


def test_most_of_the_height_is_left_to_the_panel(make_napari_viewer, qtbot, folder):
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1500, 900)
    dock = SeriesWidget(viewer)
    viewer.window.add_dock_widget(dock, name="Annotate a folder")
    dock.view.folder.setText(str(folder))
    dock.view.open_button.click()
    qtbot.waitUntil(lambda: dock.work.layer is not None and not dock._arrange.isActive(), timeout=20_000)
    qtbot.wait(100)
    panel = dock._segment_widget
    assert dock.height() >= dock.view.least_height and panel.height() > 1.5 * dock.height()
    assert not dock.view.where.is_open and dock.view.where.title == "Folder: images"
    dock.work.close(wait=True)
    panel.coordinator.close(wait=True)


def test_every_step_has_a_key_of_its_own():
    keys = [key for _, _, key in STEPS.values()]
    assert len(set(keys)) == len(keys)
