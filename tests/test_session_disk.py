"""A disk that is full, read-only or over its quota, at every write of a session: what is there stays."""

from __future__ import annotations

import errno
import os

import numpy as np
import pytest

from napari_sammed.backend.local import LocalBackend
from napari_sammed.errors import InputError
from napari_sammed.prompts import MaskPrompt
from napari_sammed.session import Session
from napari_sammed.session.journal import read_journal
from napari_sammed.session.records import replay
from napari_sammed.volume import read_volume
from tests.killing import image

REASONS = {"full": errno.ENOSPC, "read-only": errno.EROFS, "quota": errno.EDQUOT}
ENDINGS = (".nii.gz", ".nrrd", ".seg.nrrd", ".tif", ".ome.zarr")


class Faults:
    """Lets the so-many-th flush or rename of files fail, and all after it, while it is on."""

    def __init__(self, patch: pytest.MonkeyPatch, number: int, reason: int):
        self.left, self.on, self.reason = number, True, reason
        for name in ("fsync", "replace"):
            real = getattr(os, name)
            patch.setattr(os, name, lambda *a, real=real: self._count() or real(*a))

    def _count(self) -> None:
        self.left -= self.on
        if self.on and self.left < 0:
            raise OSError(self.reason, os.strerror(self.reason))


def take(session: Session, number: int) -> None:
    session.take(MaskPrompt(np.ones((1, 2, 3), bool), (number % 4, number % 9, number % 11)), f"object {number}")


@pytest.fixture(scope="module")
def backend():
    backend = LocalBackend("cpu", models={})
    yield backend
    backend.shutdown()


@pytest.mark.parametrize("reason", REASONS.values(), ids=REASONS)
def test_every_write_of_a_session_may_fail(tmp_path, monkeypatch, backend, reason):
    refused = 0
    for number in range(40):
        path = tmp_path / f"{number}.jsonl"
        with Session(image(), backend, journal=path) as session, monkeypatch.context() as patch:
            take(session, 0)
            faults = Faults(patch, number, reason)
            for step in range(1, 8):
                before, lines = path.read_bytes(), len(session.history.done)
                try:
                    take(session, step)
                except InputError as error:
                    assert "cannot be written" in str(error) and "\n" not in str(error)
                    refused += 1
                    assert path.read_bytes().startswith(before), "what was there stays"
                    assert len(session.history.done) - lines in (0, 1), "1: done, but its mask could not be written"
                    break
            faults.on = False
            take(session, 20)  # goes on as soon as there is room
            masks = {label: state.mask for label, state in session.objects.items()}
        read_journal(path)
        assert {label: state.mask for label, state in replay(path, image(), backend).objects.items()} == masks
        if faults.left >= 0:
            break
    assert refused >= 5


@pytest.mark.parametrize("reason", REASONS.values(), ids=REASONS)
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_file_that_cannot_be_replaced_stays(tmp_path, monkeypatch, backend, reason, ending):
    path = tmp_path / f"mask{ending}"
    with Session(image(), backend) as session:
        take(session, 0)
        session.save(path)
        old = read_volume(path)
        old = np.array(old.part(old.grid.box))
        take(session, 5)
        failed = 0
        for number in range(10):
            with monkeypatch.context() as patch:
                Faults(patch, number, reason)
                try:
                    session.save(path)
                    break
                except InputError as error:
                    assert "cannot be written" in str(error)
                    failed += 1
                    if not path.exists():  # a disk on which the first rename works, and none after it
                        hidden = next(tmp_path.glob("*.old"))
                        assert ending == ".ome.zarr" and hidden.name in str(error)
                        hidden.rename(path)
            # zarr goes on writing chunks of what is given up, after it has been deleted
            assert [p.name for p in tmp_path.iterdir() if p.suffix != ".part"] == [path.name]
            kept = read_volume(path)
            np.testing.assert_array_equal(kept.part(kept.grid.box), old)
        else:
            pytest.fail("it was never written")
    assert failed >= 1
