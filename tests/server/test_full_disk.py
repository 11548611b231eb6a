"""A disk that is full, or that may not be written to: what is there stays, and the client is told."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest

from napari_sammed.backend.local import LocalBackend
from napari_sammed.server import images
from napari_sammed.server.settings import Limits, Settings
from tests.parameters import few
from tests.server.serving import Client, ask, code, in_thread, volume
from tests.thresholder import Thresholder

CLICK = (5, 12, 14)
MODEL = "thresholder"


def backend():
    return LocalBackend("cpu", models={MODEL: Thresholder()})


class Faults:
    """Lets the so many-th write or flush to the disk fail, and all after it."""

    def __init__(self, monkeypatch, number: int, reason: int):
        self.left, self.on, self.reason = number, False, reason
        real = os.fsync
        monkeypatch.setattr(os, "fsync", lambda handle: self.count() or real(handle))
        rename = os.replace
        monkeypatch.setattr(os, "replace", lambda source, target: self.count() or rename(source, target))
        add = images.Upload.add
        monkeypatch.setattr(images.Upload, "add", lambda upload, frame: self.count() or add(upload, frame))

    def count(self) -> None:
        if self.on:
            self.left -= 1
            if self.left < 0:
                raise OSError(self.reason, os.strerror(self.reason))


@pytest.mark.parametrize(
    "reason", few([errno.ENOSPC, errno.EROFS, errno.EDQUOT], tried=[0]), ids=["full", "read-only", "quota"]
)
def test_every_write_may_fail_and_nothing_is_lost(tmp_path, monkeypatch, reason):
    for number in range(12):
        with monkeypatch.context() as patch:
            faults = Faults(patch, number, reason)
            with in_thread(Settings(tmp_path / str(number)), backend()) as url:
                client = Client(url)
                client.open(volume())
                client.click(CLICK, model=MODEL)
                before = contents(tmp_path / str(number))
                faults.on = True
                replies = [client.post("predict", ask(CLICK, revision=1, model=MODEL)), client.send(volume(1))]
                replies.append(client.http.post("/v1/sessions", json={"image": volume().hash}))
                faults.on = False
                said = [code(reply) for reply in replies if reply.status_code >= 300]
                assert set(said) <= {"no_room"} and (faults.left >= 0 or said), (number, said)
                assert client.http.head(f"/v1/images/{volume().hash}").status_code == 200
                for path, data in before.items():
                    assert path.read_bytes()[: len(data)] == data
                client.open(volume(1))  # and it goes on, with no restart, once there is room
                client.click(CLICK, model=MODEL)
                assert not list((tmp_path / str(number) / "images").glob(".new-*"))
            done = faults.left >= 0
            if done:
                return
    pytest.fail("not every write has failed")


def test_images_nobody_has_open_make_room_for_new_ones_and_others_do_not(tmp_path):
    one = volume().nbytes
    with in_thread(Settings(tmp_path, limits=replace(Limits(), disk=2 * one + 100)), backend()) as url:
        client = Client(url)
        client.open(volume(0))
        assert client.send(volume(1)).status_code == 201
        assert client.send(volume(2)).status_code == 201
        assert [client.http.head(f"/v1/images/{volume(n).hash}").status_code for n in range(3)] == [200, 404, 200]
        other = Client(url)
        other.open(volume(2))
        reply = client.send(volume(3))
        assert (reply.status_code, code(reply)) == (507, "no_room")
        client.click(CLICK, model=MODEL)
        other.click(CLICK, model=MODEL)
        client.http.delete(f"/v1/sessions/{client.session}")
        assert client.send(volume(3)).status_code == 201


def test_what_a_killed_server_left_half_done_is_swept_up(tmp_path):
    half = tmp_path / "images" / ".new-abc"
    half.mkdir(parents=True)
    (half / "voxels").write_bytes(b"half")
    with in_thread(Settings(tmp_path), backend()) as url:
        assert not half.exists()
        assert Client(url).send(volume()).status_code == 201


def test_what_nobody_used_for_days_is_deleted(tmp_path):
    with in_thread(Settings(tmp_path), backend()) as url:
        client = Client(url)
        session = client.open(volume())
        client.click(CLICK, model=MODEL)
    for path in tmp_path.rglob("*"):
        os.utime(path, (0, 0))
    with in_thread(Settings(tmp_path), backend()) as url:
        later = Client(url)
        for _ in range(200):
            if not list((tmp_path / "sessions").glob("*.jsonl")):
                break
            later.http.get("/v1/health")
        assert not list((tmp_path / "images").iterdir()) and not list((tmp_path / "sessions").glob("*.jsonl"))
        assert code(later.post("predict", ask(CLICK, model=MODEL), session)) == "rehydrate"


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"}
