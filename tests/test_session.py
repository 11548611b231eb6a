"""Sessions over the real backend, with a model that needs no weights."""

from __future__ import annotations

import threading
import time
from concurrent.futures import CancelledError
from pathlib import Path

import numpy as np
import pytest

from napari_sammed.backend.local import LocalBackend
from napari_sammed.errors import Cancelled, InputError
from napari_sammed.geometry import Box
from napari_sammed.prompts import MaskPrompt, Point, Stroke
from napari_sammed.session import Change, Session
from napari_sammed.session.records import replay
from napari_sammed.volume import read_volume
from tests.phantoms import two_balls
from tests.thresholder import Thresholder

MODEL = "thresholder"


@pytest.fixture
def backend():
    backend = LocalBackend(models={MODEL: Thresholder(), "planar": Thresholder(planar=True)})
    yield backend
    backend.shutdown()


@pytest.fixture
def scene():
    return two_balls()


@pytest.fixture
def session(scene, backend, tmp_path):
    with Session(scene[0], backend, journal=tmp_path / "session.jsonl") as session:
        session.model = MODEL
        yield session


def wait_until(condition, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def centre(mask: np.ndarray) -> tuple[int, ...]:
    return tuple(int(c) for c in np.argwhere(mask).mean(0))


def click(session: Session, index, positive: bool = True, **rest):
    return session.add(Point(index, positive), **rest).result(10)


def test_click_marks_the_structure_under_it(session, scene):
    _, first, second = scene
    prediction = click(session, centre(first))
    np.testing.assert_array_equal(session.labels() == 1, first)
    assert prediction.model == MODEL
    session.new_object("second")
    click(session, centre(second))
    np.testing.assert_array_equal(session.labels(), first * 1 + second * 2)
    assert [o.name for o in session.objects.values()] == ["Object 1", "second"]


def test_undo_and_redo_walk_through_every_prompt(session, scene):
    _, first, second = scene
    masks = [session.labels()]
    for index, positive in [(centre(first), True), (centre(second), True), (centre(first), False)]:
        click(session, index, positive)
        masks.append(session.labels())
    assert not np.array_equal(masks[1], masks[3])
    for expected in masks[-2::-1]:
        session.undo()
        np.testing.assert_array_equal(session.labels(), expected)
    assert len(session.objects[1].prompts) == 0
    for expected in masks[1:]:
        session.redo()
        np.testing.assert_array_equal(session.labels(), expected)
    assert session.redo() is None


def test_undo_reaches_the_beginning_and_a_new_prompt_ends_redo(session, scene):
    click(session, centre(scene[1]))
    assert session.undo().action.do == "prompt"
    assert session.undo().action.do == "object"
    assert session.undo() is None
    assert session.current is None
    click(session, centre(scene[2]))
    assert session.redo() is None
    np.testing.assert_array_equal(session.labels() > 0, scene[2])


def test_a_planar_model_answers_slice_by_slice(session, scene):
    _, first, _ = scene
    z, y, x = centre(first)
    click(session, (z, y, x), model="planar")
    click(session, (z + 2, y, x), model="planar")
    expected = np.zeros_like(first)
    expected[[z, z + 2]] = first[[z, z + 2]]
    np.testing.assert_array_equal(session.labels() > 0, expected)
    click(session, (z, y, x), model="planar", axis=2)
    expected[:, :, x] = first[:, :, x]
    np.testing.assert_array_equal(session.labels() > 0, expected)


def test_edit_and_clear_are_actions_like_any_other(session, scene):
    _, first, _ = scene
    click(session, centre(first))
    box = Box((0, 0, 0), (2, 3, 4))
    session.edit(np.ones(box.shape, bool), box)
    assert (session.labels(box) == 1).all()
    session.clear()
    assert not session.labels().any()
    assert len(session.objects[1].prompts) == 0
    session.undo()
    assert (session.labels(box) == 1).all()
    session.undo()
    np.testing.assert_array_equal(session.labels() > 0, first)


def test_delete_comes_back_and_labels_are_not_reused(session, scene):
    click(session, centre(scene[1]))
    session.delete(1)
    assert session.current is None and not session.labels().any()
    session.undo()
    assert session.current == 1
    np.testing.assert_array_equal(session.labels() > 0, scene[1])
    session.redo()
    assert session.new_object() == 2


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (Point((0, 0, 50)), "outside the image"),
        (Point((3, 3)), "2D prompt"),
        (Box((0, 0, 90), (1, 4, 99)), "outside the image"),
        (Stroke(((0, 0, 0), (0, 45, 0))), "outside the image"),
        (MaskPrompt(np.ones((1, 2, 3), bool), (19, 39, 0)), "outside the image"),
    ],
)
def test_a_prompt_that_does_not_fit_changes_nothing(session, prompt, message):
    with pytest.raises(InputError, match=message):
        session.add(prompt)
    assert not session.objects and not session.history.done


def test_what_the_disk_holds_comes_back(session, scene, backend, tmp_path):
    image, first, second = scene
    click(session, centre(first))
    session.rename(1, "left")
    session.new_object()
    click(session, centre(second))
    session.undo()
    session.redo()
    expected, objects = session.labels(), session.objects
    session.close()
    with Session(image, backend, journal=tmp_path / "session.jsonl") as again:
        np.testing.assert_array_equal(again.labels(), expected)
        assert [(o.name, o.prompts) for o in again.objects.values()] == [(o.name, o.prompts) for o in objects.values()]
        assert again.current == 2
        again.undo()
        np.testing.assert_array_equal(again.labels() == 1, first)
        assert not (again.labels() == 2).any()


def test_replay_gives_the_same_masks(session, scene, backend, tmp_path):
    image, first, second = scene
    click(session, centre(first))
    click(session, (*centre(first)[:2], 1), False, model="planar")
    session.propagate(model="planar").result(10)
    session.edit(np.ones((1, 2, 2), bool), Box((0, 0, 0), (1, 2, 2)))
    session.new_object()
    click(session, centre(second))
    session.undo()
    session.redo()
    expected = {label: state.mask for label, state in session.objects.items()}
    session.close()
    history = replay(tmp_path / "session.jsonl", image, backend)
    assert {label: state.mask for label, state in history.objects.items()} == expected


def test_a_torn_last_line_is_dropped_and_the_rest_goes_on(session, scene, backend, tmp_path):
    image, first, second = scene
    path = tmp_path / "session.jsonl"
    click(session, centre(first))
    session.close()
    with path.open("ab") as file:
        file.write(b'{"do":"prompt","id":9,"la')
    with Session(image, backend, journal=path) as again:
        again.model = MODEL
        np.testing.assert_array_equal(again.labels() > 0, first)
        click(again, centre(second))
    with Session(image, backend, journal=path) as again:
        np.testing.assert_array_equal(again.labels() > 0, first | second)


def test_a_prompt_without_an_answer_is_asked_again(session, scene, backend, tmp_path):
    image, first, _ = scene
    path = tmp_path / "session.jsonl"
    click(session, centre(first))
    session.close()
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]))  # killed between the prompt and its answer
    with Session(image, backend, journal=path) as again:
        assert not again.labels().any()
        for future in again.resume():
            future.result(10)
        np.testing.assert_array_equal(again.labels() > 0, first)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"hello\n", "not JSON"),
        (b"[1]\n", "not an entry"),
        (b'{"a":1}\n', "not a session file"),
        (b'{"napari-sammed session":99,"image":"x"}\n', "format 99"),
        (b'{"napari-sammed session":1,"image":"x"}\n', "another image"),
    ],
)
def test_other_files_are_refused_and_left_alone(scene, backend, tmp_path, content, message):
    path = tmp_path / "other.jsonl"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        Session(scene[0], backend, journal=path)
    assert path.read_bytes() == content


def test_two_windows_do_not_write_into_one_journal(session, scene, backend, tmp_path):
    path = tmp_path / "session.jsonl"
    click(session, centre(scene[1]))
    with pytest.raises(InputError, match="in use"):
        Session(scene[0], backend, journal=path)
    session.close()
    Session(scene[0], backend, journal=path).close()
    assert [p.name for p in tmp_path.iterdir()] == ["session.jsonl"]


def test_entries_that_make_no_sense_are_named(session, scene, backend, tmp_path):
    path = tmp_path / "session.jsonl"
    click(session, centre(scene[1]))
    session.close()
    with path.open("ab") as file:
        file.write(b'{"do":"prompt","id":9,"label":1,"prompt":{"kind":"thought"}}\n')
    number = len(path.read_bytes().splitlines())
    with pytest.raises(InputError, match=f"Line {number} .*thought"):
        Session(scene[0], backend, journal=path)


def test_listeners_hear_where_masks_changed(session, scene):
    heard: list[Change] = []
    session.on_change(heard.append)
    click(session, centre(scene[1]))
    boxes = [change.box for change in heard if change.box is not None]
    assert boxes == [Box.of_mask(scene[1])]
    session.undo()
    assert heard[-1] == Change((1,), Box.of_mask(scene[1]))


def test_save_lies_on_the_image(session, scene, tmp_path):
    image, first, _ = scene
    click(session, centre(first))
    session.save(tmp_path / "mask.nii.gz")
    saved = read_volume(tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(saved.array, first)
    assert saved.grid.same_place(image.grid)


class Slow(Thresholder):
    """Waits for permission before every answer."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Semaphore(0)
        self.asked: list[int] = []

    def decode(self, embedding, prompts, previous):
        self.asked.append(len(prompts))
        self.go.acquire(timeout=10)
        return super().decode(embedding, prompts, previous)


def test_the_latest_prompt_wins_and_none_is_lost(scene):
    image, first, second = scene
    slow = Slow()
    backend = LocalBackend(models={MODEL: slow})
    with Session(image, backend) as session:
        session.model = MODEL
        futures = [session.add(Point(centre(first)))]
        wait_until(lambda: slow.asked)
        futures += [session.add(Point(centre(second))), session.add(Point((0, 0, 0))), session.add(Point((1, 0, 0)))]
        slow.go.release(10)
        futures[-1].result(10)
        assert slow.asked == [1, 4]  # the second and third click were superseded before their turn
        for future in futures[1:3]:
            with pytest.raises(CancelledError):
                future.result(1)
        with pytest.raises(Cancelled):
            futures[0].result(1)
        assert len(session.objects[1].prompts) == 4
        session.undo()
        session.undo()  # back to two clicks, whose answer nobody has computed: it is asked for now
        wait_until(lambda: not session.busy)
        np.testing.assert_array_equal(session.labels() > 0, first | second)
    backend.shutdown()


def test_an_undone_prompt_is_not_painted(scene):
    slow = Slow()
    backend = LocalBackend(models={MODEL: slow})
    with Session(scene[0], backend) as session:
        session.model = MODEL
        future = session.add(Point(centre(scene[1])))
        wait_until(lambda: slow.asked)
        session.undo()
        slow.go.release(10)
        with pytest.raises(Cancelled):
            future.result(10)
        assert not session.labels().any()
    backend.shutdown()


def test_closing_while_an_answer_is_on_its_way(scene, tmp_path: Path):
    before = set(threading.enumerate())  # a client of servers keeps a thread for as long as the process lives
    slow = Slow()
    backend = LocalBackend(models={MODEL: slow})
    session = Session(scene[0], backend, journal=tmp_path / "s.jsonl")
    session.model = MODEL
    session.add(Point(centre(scene[1])))
    wait_until(lambda: slow.asked)
    threading.Timer(0.2, slow.go.release).start()
    session.close()
    backend.shutdown()
    left = set(threading.enumerate()) - before
    assert not any(t.name.startswith("napari-sammed") for t in left)


def test_a_click_on_a_propagated_slice_corrects_the_mask_there(session, scene, backend):
    _, first, second = scene
    z, y, x = centre(first)
    click(session, (z, y, x), model="planar")
    session.propagate(model="planar").result(10)
    asked = []
    decode = Thresholder.decode

    class Spy(Thresholder):
        def decode(self, embedding, prompts, previous):
            asked.append(prompts)
            return decode(self, embedding, prompts, previous)

    backend._models._loaded["planar"] = Spy(planar=True)
    there = session.objects[1].mask
    click(session, (z + 2, 0, 0), False, model="planar")
    click(session, (z + 2, *centre(second)[1:]), model="planar")
    (given, negative), (again, *_) = asked
    expected = there.mask[z + 2 - there.offset[0]]
    np.testing.assert_array_equal(given.mask[0], expected[expected.any(1)][:, expected.any(0)])
    assert negative == Point((z + 2, 0, 0), False) and again == given
