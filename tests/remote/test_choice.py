"""Where the user wants to segment, and which servers may be sent images, from one start to the next."""

from __future__ import annotations

import json
import logging
import os
import stat
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from napari_sammed.backend.remote_choice import Place, Servers, connect
from napari_sammed.backend.remote_keys import forget_key, keep_key, keeps_keys
from napari_sammed.errors import InputError
from napari_sammed.geometry import Grid
from napari_sammed.prompts import Point, Prompts
from napari_sammed.volume import Volume
from tests.remote.test_keys import keys  # noqa: F401, a fixture

LAB = Place("https://GPU.lab/", Path("/certificates/lab.pem"))
TUNNEL = Place("http://localhost:8765")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "config" / "servers.json"


def test_places_are_good_addresses():
    assert LAB.url == "https://gpu.lab" and LAB.host == "gpu.lab" and TUNNEL.host == "localhost:8765"
    assert Place("http://gpu.lab", insecure=True).url == "http://gpu.lab"
    with pytest.raises(InputError, match="https"):
        Place("http://gpu.lab")


def test_what_is_chosen_is_remembered(path):
    assert Servers(path).chosen() is None and Servers(path).known() == ()
    Servers(path).choose(LAB)
    Servers(path).choose(TUNNEL)
    assert Servers(path).chosen() == TUNNEL and Servers(path).known() == (LAB, TUNNEL)
    Servers(path).choose(Place("https://gpu.lab"))  # without its certificate now
    assert Servers(path).chosen() == Place("https://gpu.lab") and len(Servers(path).known()) == 2
    Servers(path).choose(None)
    assert Servers(path).chosen() is None and len(Servers(path).known()) == 2


def test_agreements_are_for_one_server_and_can_be_taken_back(path):
    servers = Servers(path)
    servers.choose(LAB)
    servers.choose(TUNNEL)
    assert not servers.agreed(LAB.url)
    servers.agree("https://GPU.lab/")
    assert Servers(path).agreed(LAB.url) and not Servers(path).agreed(TUNNEL.url)
    assert not Servers(path).agreed("https://gpu.lab:8443") and not Servers(path).agreed("http://gpu.lab")
    assert Servers(path).known()[0] == LAB  # with its certificate
    servers.withdraw(LAB.url)
    assert not Servers(path).agreed(LAB.url) and len(Servers(path).known()) == 2
    servers.agree("http://other.lab")
    assert Servers(path).agreed("http://other.lab")


def test_forgetting_takes_key_and_agreement_along(path, keys):  # noqa: F811
    servers = Servers(path)
    for place in (LAB, TUNNEL):
        servers.choose(place)
        servers.agree(place.url)
        keep_key(place.url, "secret")
    servers.forget(TUNNEL.url)
    assert Servers(path).known() == (LAB,) and Servers(path).chosen() is None
    assert not Servers(path).agreed(TUNNEL.url) and Servers(path).agreed(LAB.url)
    assert keys == {("napari-sammed", LAB.url): "secret"}
    forget_key(TUNNEL.url)  # once more harms nothing
    assert keeps_keys() and "secret" not in path.read_text()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_only_the_owner_reads_the_file(path):
    Servers(path).choose(LAB)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert {file.name for file in path.parent.iterdir()} <= {"servers.json", ".servers.json.lock"}


@pytest.mark.parametrize("content", ["", "{", "[]", '{"servers": 3}', "\x00", '{"servers": null}', "[" * 100_000])
def test_a_damaged_file_is_put_aside(path, content, caplog):
    path.parent.mkdir()
    path.write_text(content)
    with caplog.at_level(logging.WARNING):
        assert Servers(path).chosen() is None
    assert "cannot be read" in caplog.text and path.with_suffix(".broken").read_text() == content
    Servers(path).choose(LAB)
    assert Servers(path).chosen() == LAB


def test_damaged_entries_are_left_out(path):
    path.parent.mkdir()
    entries = [
        {"url": "https://gpu.lab", "agreed": "yes"},
        *({"url": "http://gpu.lab"}, {}, 7, {"url": 3}, {"url": "https://a.lab", "certificate": 7}),
    ]
    path.write_text(json.dumps({"chosen": "https://gone.lab", "servers": entries}))
    servers = Servers(path)
    assert servers.known() == (Place("https://gpu.lab"),) and servers.chosen() is None
    assert not servers.agreed("https://gpu.lab")


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="needs a folder that cannot be written to")
def test_where_nothing_can_be_written(path):
    _without_writing(path)


def test_where_a_folder_is_in_the_way(tmp_path, caplog):
    path = tmp_path / "file" / "servers.json"
    path.parent.write_text("")
    _without_writing(path)
    assert "cannot be written" in caplog.text


def _without_writing(path):
    if not path.parent.exists():
        path.parent.mkdir(mode=0o500)
    servers = Servers(path)
    servers.choose(LAB)
    servers.agree(LAB.url)
    assert servers.chosen() == LAB and servers.agreed(LAB.url)  # until the program ends
    with pytest.raises(InputError, match="next start"):
        servers.withdraw(LAB.url)
    assert not servers.agreed(LAB.url) and servers.chosen() == LAB


def test_many_programs_at_once_lose_nothing(path):
    def work(number):
        for count in range(5):
            Servers(path).agree(f"https://gpu{number}.lab:{count + 1}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(Servers(path).known()) == 20


def test_the_folder_is_that_of_the_settings(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_SAMMED_CONFIG", str(tmp_path / "here"))
    assert Servers().path == tmp_path / "here" / "servers.json"


def test_asked_once_a_server_and_nothing_is_sent_before(path, tmp_path):
    pytest.importorskip("fastapi", reason="needs the extra [server]")
    from napari_sammed.backend.local import LocalBackend
    from napari_sammed.server.settings import Settings
    from tests.server.serving import in_thread
    from tests.thresholder import Thresholder

    ramp = np.arange(128, dtype=np.float32).reshape(2, 8, 8)
    images = [Volume(ramp + value, Grid.plain((2, 8, 8))) for value in range(3)]
    models = {"thresholder": Thresholder()}
    asked, answers = [], [False, True]

    def ask(host, size):
        asked.append((host, size))
        return answers.pop(0)

    data = tmp_path / "server"
    with in_thread(Settings(data), LocalBackend("cpu", models=models)) as url:
        backend = connect(Place(url), ask, servers=Servers(path))
        with pytest.raises(InputError, match="not sent"):
            backend.open(images[0])
        assert not list((data / "images").iterdir()) and not Servers(path).agreed(url)
        for image in images:
            image_id = backend.open(image)
            backend.predict(image_id, "thresholder", Prompts((Point((0, 1, 1)),)))
        backend.shutdown()
        assert asked == [(Place(url).host, 512)] * 2 and Servers(path).agreed(url)
        backend = connect(Place(url), ask, servers=Servers(path))  # at the next start
        backend.open(images[0])
        backend.shutdown()
        assert len(asked) == 2
