"""A look at a folder counts what is in it, and decodes nothing."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from napari_sammed.backend.local import LocalBackend
from napari_sammed.errors import Cancelled, InputError
from napari_sammed.session import Session
from napari_sammed.training.looking import look
from napari_sammed.volume import read_volume
from tests.thresholder import Thresholder
from tests.training import folders


@pytest.fixture
def sessions(tmp_path) -> Path:
    """Two images that were segmented, one of them without its image any more."""
    folder = tmp_path / "sessions"
    backend = LocalBackend(models={"thresholder": Thresholder()})
    for number, names in enumerate((("Liver", "spleen"), ("liver",), ("aorta",))):
        path = folders.write(tmp_path / "images" / f"{number}.nii.gz", folders.image(number))
        source = {"path": str(path)}
        with Session(read_volume(path), backend, journal=folder / f"{number}.jsonl", source=source) as session:
            for name in names:
                label = session.new_object(name)
                session.classify(label, name)
        if number == 2:
            path.unlink()
    backend.shutdown()
    return folder


def test_sessions_are_counted_by_structure_and_what_is_wrong_is_named(sessions):
    for path in sessions.parent.glob("images/*"):
        path.write_bytes(b"")  # what is never read
    seen: list[float] = []
    found = look(sessions, progress=lambda text, share: seen.append(share))
    assert (found.kind, found.cases, found.patients) == ("sessions", 2, 2)
    assert dict(found.structures) == {"Liver": 2, "spleen": 1}
    assert [(one.kind, one.file.name) for one in found.problems] == [("image missing", "2.jsonl")]
    assert seen and seen == sorted(seen)


def test_a_damaged_session_is_a_problem_of_its_own(sessions):
    path = sessions / "0.jsonl"
    path.write_bytes(path.read_bytes() + b'{"do": "object"}\n{"do": nonsense}\n{"do": "undo"}\n')
    found = look(sessions)
    assert [one.file.name for one in found.problems if one.kind == "unreadable labels"] == ["0.jsonl"]
    assert found.structures == {"liver": 1}


def test_names_of_label_images_come_without_counts(tmp_path):
    found = look(folders.nnunet(tmp_path, 3))
    assert (found.kind, found.cases, found.patients) == ("nnU-Net raw data", 3, 3)
    assert found.structures == {"liver": 0, "spleen": 0}


def test_what_is_none_of_the_known_folders_is_said(tmp_path):
    with pytest.raises(InputError, match="holds no images with labels"):
        look(tmp_path)
    with pytest.raises(InputError, match="gone"):
        look(tmp_path / "gone")


def test_a_look_can_be_called_off(sessions):
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        look(sessions, cancel=cancel)
