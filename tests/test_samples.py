"""The samples are what they say, and downloads are checked."""

from __future__ import annotations

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest

from napari_sammed import samples
from napari_sammed.errors import Cancelled, FetchError, InputError
from napari_sammed.models.storage import CACHE_VARIABLE


@pytest.fixture(scope="session")
def brain() -> samples.Sample:
    """The brain sample, fetched into the user's cache once; skips if that needs a network."""
    try:
        return samples.load("brain")
    except FetchError as error:
        if "no network" not in str(error):
            raise
        pytest.skip(str(error))


def test_the_brain_has_its_tissues(brain):
    assert brain.image.array.shape == brain.labels.shape == (189, 233, 197)
    np.testing.assert_allclose(brain.image.grid.to_world((72, 134, 98)), 0)  # the anterior commissure
    grey, white, fluid = (brain.image.array[brain.labels == value].mean() for value in (1, 2, 3))
    assert fluid < grey < white
    litres = np.bincount(brain.labels.ravel())[1:] * brain.image.grid.voxel_volume / 1e6
    np.testing.assert_allclose(litres, [1.08, 0.632, 0.175], atol=0.005)
    assert list(brain.names) == [1, 2, 3] and "McGill" in brain.licence


def test_the_torso_is_always_the_same_and_looks_like_ct():
    torso, again = samples.load("torso"), samples.load("torso")
    np.testing.assert_array_equal(torso.image.array, again.image.array)
    np.testing.assert_array_equal(torso.labels, again.labels)
    assert torso.image.modality == "CT" and torso.image.array.dtype == np.int16
    for name, hounsfield, litres in [
        ("liver", 108, 1.05),
        ("spleen", 128, 0.14),
        ("right kidney", 190, 0.11),
        ("left lung", -840, 0.72),
        ("aorta", 165, 0.11),
    ]:
        label = next(value for value, known in torso.names.items() if known == name)
        mask = torso.labels == label
        assert abs(np.median(torso.image.array[mask]) - hounsfield) < 12, name
        assert mask.sum() * torso.image.grid.voxel_volume / 1e6 == pytest.approx(litres, rel=0.1), name
    left, right = (np.argwhere(torso.labels == value)[:, 2].mean() for value in (4, 3))
    assert torso.image.grid.to_world((0, 0, left))[0] > 20 and torso.image.grid.to_world((0, 0, right))[0] < -20


def test_an_unknown_sample_is_refused():
    with pytest.raises(InputError, match="brain, torso, abdomen"):
        samples.load("knee")


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A file on a server of our own; returns its bytes and address."""
    content = np.random.default_rng(0).bytes(100_000)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path != "/file":
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield content, f"http://127.0.0.1:{server.server_port}/file"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_download_is_checked_and_kept(served, tmp_path):
    content, url = served
    told: list[tuple[int, int | None]] = []
    sha256 = hashlib.sha256(content).hexdigest()
    path = samples._fetch_checked(url, sha256, "x.bin", lambda *numbers: told.append(numbers), None)
    assert path.read_bytes() == content and path.is_relative_to(tmp_path)
    assert told[-1] == (len(content), len(content))
    told.clear()
    assert samples._fetch_checked(url, sha256, "x.bin", lambda *numbers: told.append(numbers), None) == path
    assert not told


def test_another_file_than_expected_is_not_kept(served, tmp_path):
    _, url = served
    with pytest.raises(FetchError, match="another file than expected"):
        samples._fetch_checked(url, "0" * 64, "x.bin", None, None)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_missing_file_and_a_missing_server_are_told(served):
    _, url = served
    with pytest.raises(FetchError, match="cannot be reached"):
        samples._fetch_checked(url + "2", "0" * 64, "x.bin", None, None)
    with pytest.raises(FetchError, match="no network"):
        samples._fetch_checked("http://127.0.0.1:9/file", "0" * 64, "x.bin", None, None)


def test_a_download_can_be_cancelled(served, tmp_path):
    content, url = served
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        samples._fetch_checked(url, hashlib.sha256(content).hexdigest(), "x.bin", None, cancel)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
