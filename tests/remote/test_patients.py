"""Nobody's name leaves this machine: DICOM series full of identifiers, segmented here and at a server."""

from __future__ import annotations

import logging
import os
import socket
import tempfile
import threading
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest

from napari_sammed.cli import main
from napari_sammed.volume import read_volume
from tests.dicom_files import write_series
from tests.server.serving import process, volume


class Wire:
    """Passes bytes on to a server, and keeps those of both ways."""

    def __init__(self, port: int) -> None:
        self._port, self.sent, self.received = port, bytearray(), bytearray()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                here, _ = self._listening.accept()
            except OSError:
                return
            there = socket.create_connection(("127.0.0.1", self._port))
            for source, target, kept in ((here, there, self.sent), (there, here, self.received)):
                threading.Thread(target=self._pass_on, args=(source, target, kept), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, kept: bytearray) -> None:
        try:
            while data := source.recv(1 << 16):
                kept += data
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def close(self) -> None:
        self._listening.close()


def identified(folder: Path, number: int) -> list[str]:
    """A series with identifiers of one person everywhere, and what they are."""
    birth, taken = f"19{40 + number}0{1 + number % 9}17", f"200{number % 9}1{number % 3}23"
    said = {
        "PatientName": f"CANARY{number:02d}^JANE",
        "PatientID": f"PATID{number:02d}XQZ",
        "PatientBirthDate": birth,
        "StudyDate": taken,
        "AcquisitionDateTime": f"{taken}112233",
        "AccessionNumber": f"ACCNR{number:02d}XQZ",
        "InstitutionName": f"HOSPITAL{number:02d}XQZ",
        "ReferringPhysicianName": f"DOCTOR{number:02d}XQZ",
        "StudyDescription": f"STUDY{number:02d}XQZ",
        "SeriesDescription": f"SERIES{number:02d}XQZ",
        "ImageComments": f"COMMENT{number:02d}XQZ",
        "DeviceSerialNumber": f"SERIAL{number:02d}XQZ",
        "StudyInstanceUID": f"1.2.840.99999.{number}.77.1",
        "SeriesInstanceUID": f"1.2.840.99999.{number}.77.2",
        "FrameOfReferenceUID": f"1.2.840.99999.{number}.77.3",
    }
    series = folder / f"CANARYPATH{number:02d}_{said['PatientID']}"
    write_series(series, (volume(number, (4, 20, 24)).array + 1024).astype(np.uint16), np.arange(4) * 2.5)
    for file in sorted(series.iterdir()):
        header = pydicom.dcmread(file)
        for keyword, value in said.items():
            setattr(header, keyword, value)
        header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = (
            f"1.2.840.99999.{number}.78.{file.stem[-1]}"
        )
        block = header.private_block(0x0099, "CANARYPRIVATE", create=True)
        block.add_new(1, "LO", said["PatientName"])
        header.save_as(file)
    return [*said.values(), f"1.2.840.99999.{number}.78", f"CANARYPATH{number:02d}", "CANARYPRIVATE"]


def found(canaries: list[str], content: bytes) -> list[str]:
    """Those that stand in some bytes, as text of one or two bytes a letter."""
    return [c for c in canaries if c.encode() in content or c.encode("utf-16-le") in content]


def files_of(*folders: Path) -> bytes:
    """Names and contents of everything under some folders."""
    return b"".join(
        str(path.relative_to(folder)).encode() + (path.read_bytes() if path.is_file() else b"")
        for folder in folders
        for path in folder.rglob("*")
    )


@pytest.fixture
def surroundings(tmp_path, monkeypatch):
    """Folders for all that a program writes beside its results."""
    folders = {name: tmp_path / name for name in ("temporary", "cache", "config", "home")}
    for folder in folders.values():
        folder.mkdir()
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.setenv(name, str(folders["temporary"]))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("NAPARI_SAMMED_CACHE", str(folders["cache"]))
    monkeypatch.setenv("NAPARI_SAMMED_CONFIG", str(folders["config"]))
    for name in ("HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(folders["home"]))
    return tuple(folders.values())


@pytest.mark.parametrize("count", [10, pytest.param(20, marks=pytest.mark.full)])
def test_no_identifier_is_sent_logged_or_left_behind(tmp_path, surroundings, monkeypatch, caplog, capfd, count):
    caplog.set_level(logging.DEBUG)
    canaries, masks = [], 0
    with process(tmp_path / "data", "--device", "cpu") as server, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        wire = Wire(int(server.url.rpartition(":")[2]))
        os.mkdir(tmp_path / "results")
        for number in range(count):
            canaries += identified(tmp_path / "scans", number)
            scan = next((tmp_path / "scans").glob(f"CANARYPATH{number:02d}*"))
            monkeypatch.chdir(scan)  # so that neither messages nor results have reason to name the folder
            result = tmp_path / "results" / f"{number}.nii.gz"
            how = ["--model", "random-walker", "--point", "12,10,2"]
            if number % 5 == 3:
                how = ["--model", "sam-vit-h", "--point", "12,10,2"]  # whose weights are not there
            if number % 5 == 4:
                how = ["--model", "random-walker", "--point", "900,10,2"]
            at = ["--server", wire.url, "--yes-upload"] if number % 4 else []
            status = main(["segment", ".", "-o", str(result), *how, *at, "--json"])
            assert status == (0 if number % 5 < 3 else 2)
            if status == 0:
                masks += 1
                assert read_volume(result).array.any()
        assert server.stop()[0] == 0
        log = server.text.encode()
        wire.close()
    assert masks == count * 3 / 5 and len(canaries) == 18 * count
    assert len(wire.sent) > 1000 * count and b"POST /v1/sessions" in wire.sent
    places = {
        "what was sent": bytes(wire.sent),
        "what came back": bytes(wire.received),
        "the server's log": log,
        "the server's folder": files_of(tmp_path / "data"),
        "temporary files, caches, settings": files_of(*surroundings),
        "results": files_of(tmp_path / "results"),
        "the log here": caplog.text.encode(),
        "warnings": " ".join(str(item.message) for item in warned).encode(),
        "the terminal": "".join(capfd.readouterr()).encode(),
    }
    assert {place: found(canaries, content) for place, content in places.items()} == {place: [] for place in places}
    inside = files_of(tmp_path / "scans")
    assert len(found(canaries, inside)) == len(canaries), "they were there to be found"
