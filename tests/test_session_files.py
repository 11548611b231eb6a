"""Session files as files: looked at while another writes, copied, rescued, summed up, brought over to another image."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from napari_sammed.backend.local import LocalBackend
from napari_sammed.errors import InputError, OtherImageError, SessionDamagedError, SessionInUseError
from napari_sammed.prompts import Point
from napari_sammed.session import Session
from napari_sammed.session.journal import read_journal
from napari_sammed.session.journal_files import import_objects, read_header, rescue, summary
from napari_sammed.session.records import replay
from napari_sammed.volume import Volume
from tests.phantoms import two_balls
from tests.thresholder import Thresholder


@pytest.fixture
def scene():
    return two_balls()


@pytest.fixture
def backend() -> Iterator[LocalBackend]:
    backend = LocalBackend(models={"thresholder": Thresholder()})
    yield backend
    backend.shutdown()


def middle(mask: np.ndarray) -> tuple[int, ...]:
    return tuple(np.argwhere(mask).mean(0).round().astype(int).tolist())


def worked(scene, backend, path: Path) -> np.ndarray:
    """Two objects, each from a click; the labels."""
    image, first, second = scene
    with Session(image, backend, journal=path, source={"path": "scan.nii.gz"}) as session:
        session.model = "thresholder"
        for mask, name in ((first, "kidney"), (second, "spleen")):
            session.new_object(name)
            session.add(Point(middle(mask))).result(10)
        session.classify(1, "organ")
        session.recolour(1, "#123456")
        return session.labels()


def test_a_session_that_another_works_on_can_be_looked_at(scene, backend, tmp_path):
    path = tmp_path / "s.jsonl"
    labels = worked(scene, backend, path)
    before = path.read_bytes()
    with (
        Session(scene[0], backend, journal=path) as other,
        Session(scene[0], backend, journal=path, read_only=True) as session,
    ):
        with pytest.raises(SessionInUseError, match="close the other window"):
            Session(scene[0], backend, journal=path)
        np.testing.assert_array_equal(session.labels(), labels)
        for forbidden in (session.undo, session.new_object, session.clear, lambda: session.add(Point((1, 1, 1)))):
            with pytest.raises(InputError, match="looking only"):
                forbidden()
        np.testing.assert_array_equal(session.labels(), labels)
        assert path.read_bytes() == before
        session.save_session(tmp_path / "copy.jsonl")
        other.new_object()
    assert (tmp_path / "copy.jsonl").read_bytes() == before
    with pytest.raises(OtherImageError):
        Session(Volume(scene[0].array + 1, scene[0].grid), backend, journal=path, read_only=True)


def test_a_copy_of_a_running_session_replays_and_goes_on(scene, backend, tmp_path):
    image, first, second = scene
    path, copy = tmp_path / "s.jsonl", tmp_path / "copy.jsonl"
    with Session(image, backend, journal=path) as session:
        session.model = "thresholder"
        session.add(Point(middle(first))).result(10)
        session.save_session(copy)
        with pytest.raises(InputError, match="is kept in already"):
            session.save_session(path)
        with pytest.raises(InputError, match="another place"):
            session.save_session(tmp_path / "absent" / "copy.jsonl")
        session.add(Point(middle(second))).result(10)
    np.testing.assert_array_equal(replay(copy, image, backend).labels(image.grid.box) == 1, first)
    with Session(image, backend, journal=copy) as session:
        np.testing.assert_array_equal(session.labels() == 1, first)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["copy.jsonl", "s.jsonl"]


def test_the_revision_tells_whether_anything_changed(scene, backend):
    with Session(scene[0], backend) as session:
        seen = [session.revision]
        session.new_object()
        seen.append(session.revision)
        session.rename(1, "kidney")
        seen.append(session.revision)
        assert len(set(seen)) == 3
        session.undo()
        assert session.revision == seen[1]
        session.rename(1, "liver")
        assert session.revision not in seen


DAMAGES = {
    "noise": lambda line: b"\x00" * (len(line) - 1) + b"\n",
    "half a line": lambda line: line[: len(line) // 2] + b"\n",
    "no entry": lambda line: b"[1, 2]\n",
    "another thing": lambda line: b'{"do":"prompt","id":"x"}\n',
    "an answer to nothing": lambda line: b'{"answer":"a"}\n',
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_what_stands_before_the_damage_is_rescued(scene, backend, tmp_path, damage):
    path, aside = tmp_path / "s.jsonl", tmp_path / "archive" / "damaged.jsonl"
    worked(scene, backend, path)
    lines = path.read_bytes().splitlines(keepends=True)
    place = next(i for i, line in enumerate(lines) if b'"spleen"' in line)
    lines[place + 1] = damage(lines[place + 1])
    broken = b"".join(lines)
    path.write_bytes(broken)
    with pytest.raises(SessionDamagedError):
        Session(scene[0], backend, journal=path)
    assert rescue(path, aside) == len(lines) - place - 1
    assert aside.read_bytes() == broken
    with Session(scene[0], backend, journal=path) as session:
        assert [state.name for state in session.objects.values()] == ["kidney", "spleen"]
        np.testing.assert_array_equal(session.labels() == 1, scene[1])
        assert session.objects[2].mask is None
    assert sorted(p.name for p in tmp_path.iterdir()) == ["archive", "s.jsonl"]


def test_a_file_without_a_header_is_moved_aside_whole(scene, backend, tmp_path):
    path, aside = tmp_path / "s.jsonl", tmp_path / "archive" / "damaged.jsonl"
    path.write_bytes(b"\x00\x00\nsomething\n")
    assert rescue(path, aside) == 2
    assert not path.exists() and aside.read_bytes() == b"\x00\x00\nsomething\n"


def test_nothing_is_rescued_under_the_hands_of_another(scene, backend, tmp_path):
    path = tmp_path / "s.jsonl"
    worked(scene, backend, path)
    with Session(scene[0], backend, journal=path), pytest.raises(SessionInUseError):
        rescue(path, tmp_path / "aside.jsonl")
    assert not (tmp_path / "aside.jsonl").exists()


def test_a_summary_says_what_is_in_a_file(scene, backend, tmp_path):
    path = tmp_path / "s.jsonl"
    worked(scene, backend, path)
    found = summary(path)
    assert (found.names, found.shape, found.image) == (("kidney", "spleen"), scene[0].grid.shape, scene[0].hash)
    assert found.source == {"path": "scan.nii.gz"} == read_header(path)["source"]
    with pytest.raises(InputError, match="cannot be read"):
        summary(tmp_path / "absent.jsonl")
    with pytest.raises(InputError, match="cannot be read"):
        read_header(tmp_path / "absent.jsonl")


def test_objects_are_brought_over_to_an_image_that_has_changed(scene, backend, tmp_path):
    path = tmp_path / "s.jsonl"
    labels = worked(scene, backend, path)
    changed = Volume(scene[0].array + 1, scene[0].grid)
    with Session(changed, backend, journal=tmp_path / "new.jsonl") as session:
        assert import_objects(session, path) == [1, 2]
        np.testing.assert_array_equal(session.labels(), labels)
        state = session.objects[1]
        assert (state.name, state.kind, state.colour) == ("kidney", "organ", "#123456")
        while session.undo():
            pass
        assert not session.objects
    smaller = Volume(scene[0].array[:-1], scene[0].grid.plain((scene[0].grid.shape[0] - 1, *scene[0].grid.shape[1:])))
    with Session(smaller, backend) as session, pytest.raises(InputError, match="cannot be brought over"):
        import_objects(session, path)
    header, _ = read_journal(path)
    path.write_text(json.dumps(header) + "\n")
    with Session(changed, backend) as session, pytest.raises(InputError, match="nothing to bring over"):
        import_objects(session, path)
