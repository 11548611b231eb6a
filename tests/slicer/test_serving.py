"""Segmenting at a server from a real scene: the same masks as here, after a yes only, and nothing is lost by it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed: pip install 'napari-sammed[slicer]'")
pytest.importorskip("fastapi", reason="needs the extra [server]")

import slicer
from SammedLib import serving, volumes

from napari_sammed.backend.local import LocalBackend
from napari_sammed.backend.remote_choice import Servers
from napari_sammed.geometry import Grid
from napari_sammed.models.random_walker import RandomWalker
from napari_sammed.prompts import Box, MaskPrompt, Point, Stroke
from napari_sammed.server.keys import add_key
from napari_sammed.server.settings import Settings
from napari_sammed.session import Session
from napari_sammed.volume import Volume
from tests.remote.lines import line
from tests.server.serving import in_thread, process, until
from tests.slicer.desks import Desk, same
from tests.slicer.scenes import CLICKS, OBLIQUE, add_volume, blobs, matrix, phantom
from tests.thresholder import Thresholder

LEFT, MIDDLE, BELOW = ((blobs() == value) for value in (300, 500, 700))
IN_LEFT, IN_MIDDLE, IN_BELOW = ((4, 5, 6), (4, 5, 8), (4, 8, 6))
NOTHING = np.zeros(LEFT.shape, bool)


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """Of a server at loopback, without keys."""
    models = {"thresholder": Thresholder(), "planar": Thresholder(planar=True), "random-walker": RandomWalker()}
    with in_thread(Settings(tmp_path_factory.mktemp("server")), LocalBackend("cpu", models=models)) as address:
        yield address


@pytest.fixture
def desk(scene):
    desk = Desk()
    yield desk
    desk.close()


@pytest.fixture
def volume(scene):
    return add_volume(blobs(), matrix(OBLIQUE))


@pytest.fixture(autouse=True)
def no_keys_left():
    yield
    serving._KEYS.clear()


def everything(desk: Desk, volume) -> list[list[np.ndarray]]:
    """What a user does to a volume, and how the segments look after each of it."""
    story = []
    desk.open(volume)

    def after(action) -> None:
        desk.do(action)
        story.append(desk.masks())

    presenter = desk.presenter
    after(lambda: desk.click((7, 22, 20)))
    after(lambda: desk.click((7, 20, 36), positive=False))
    after(lambda: desk.click((5, 30, 30)))
    after(lambda: presenter.next_segment("lesion"))
    after(lambda: presenter.add(Box((7, 6, 10), (8, 38, 50)), axis=0))
    after(lambda: presenter.add(Stroke(((7.0, 20.0, 14.0), (7.0, 28.0, 20.0)))))
    after(presenter.undo)
    after(presenter.undo)
    after(presenter.redo)
    after(presenter.look_closer)
    after(lambda: presenter.add(MaskPrompt(np.ones((1, 6, 5), bool), (6, 18, 20))))
    desk.logic.model = "planar"
    after(lambda: presenter.next_segment("slices"))
    after(lambda: presenter.add(Box((7, 10, 12), (8, 34, 46)), axis=0))
    after(presenter.propagate)
    after(presenter.undo)
    after(presenter.redo)
    return story


@pytest.mark.parametrize("model", ["random-walker", "thresholder"])
def test_the_same_as_here_voxel_for_voxel(desk, scene, url, model):
    """On an oblique and anisotropic volume, after each of many steps."""
    array = phantom()
    desk.logic.model = model
    expected = everything(desk, add_volume(array, matrix(OBLIQUE), "Here"))
    desk.yes = True
    desk.go(url)
    desk.logic.model = model
    found = everything(desk, add_volume(array, matrix(OBLIQUE), "There"))
    assert len(desk.asked) == 1
    for count, (one, two) in enumerate(zip(expected, found, strict=True)):
        assert same(two, *one), f"step {count}"
    assert sum(mask.any() for mask in expected[-1]) == 3


def test_without_a_yes_no_byte_is_sent_and_nothing_is_lost(desk, volume, url):
    desk.open(volume)
    desk.click(IN_LEFT)
    with line(url) as relay:
        desk.go(relay.url)
        desk.wait()
        before = relay.sent  # the question what the server is
        desk.click(IN_BELOW)
        host = relay.url.removeprefix("http://")
        ((question, meaning),) = desk.asked
        assert question == f"Send images to {host}?"
        assert "no names" in meaning and "0.0 MiB" in meaning
        assert f"not sent to {host}" in desk.said[-1]
        assert relay.sent == before
        assert same(desk.masks(), LEFT) and len(desk.logic.prompts()) == 2
        desk.click(IN_MIDDLE)  # asks again
        assert len(desk.asked) == 2 and relay.sent == before
        desk.do(desk.presenter.undo)
        assert same(desk.masks(), LEFT) and len(desk.logic.prompts()) == 2
        desk.go(None)
        desk.wait()
        assert same(desk.masks(), LEFT | BELOW)  # what was asked there is answered here
        assert relay.sent == before
        assert not Servers().agreed(relay.url)


def test_a_yes_is_remembered_for_this_server_and_can_be_taken_back(desk, volume, scene, url):
    desk.yes = True
    desk.go(url)
    desk.open(volume)
    desk.click(IN_LEFT)
    desk.open(add_volume(blobs()[::-1].copy(), matrix(np.eye(3)), "Other"))
    desk.click((4, 8, 6))
    assert len(desk.asked) == 1 and Servers().agreed(url)
    other = Desk()  # the effect, say
    other.presenter.serving.follow()
    other.open(add_volume(blobs()[:, ::-1].copy(), matrix(np.eye(3)), "Third"))
    other.click((4, 6, 6))
    assert other.asked == [] and other.masks()[0].any()
    other.close()
    desk.presenter.serving.withdraw(url)
    desk.yes = False
    desk.wait()
    desk.click(IN_LEFT)
    assert len(desk.asked) == 2 and "not sent" in desk.said[-1]


def test_an_image_that_may_be_sent_is_on_its_way_before_it_is_asked_about(desk, volume, url):
    Servers().agree(url)
    with line(url) as relay:
        Servers().agree(relay.url)
        desk.go(relay.url)
        desk.wait()
        before = relay.sent
        desk.open(volume)
        until(lambda: relay.sent > before + 1000)
        desk.click(IN_LEFT)
        assert same(desk.masks(), LEFT) and desk.asked == []


def test_sending_is_shown(desk, scene, url):
    desk.yes = True
    desk.go(url)
    desk.open(add_volume(np.random.default_rng(0).integers(0, 900, (40, 160, 160)).astype(np.int16), matrix(OBLIQUE)))
    desk.click((20, 80, 80))
    sending = [text for text in desk.progress if text.startswith("sending the image to 127.0.0.1")]
    assert sending and sending[-1].endswith("2 of 2 MiB")


def test_to_the_server_and_back_in_mid_scene(desk, volume, url):
    desk.yes = True
    desk.open(volume)
    desk.click(IN_LEFT)
    desk.go(url)
    desk.wait()
    desk.click(IN_BELOW)
    assert same(desk.masks(), LEFT | BELOW)
    desk.go(None)
    desk.wait()
    desk.click(IN_MIDDLE)
    assert same(desk.masks(), LEFT | BELOW | MIDDLE) and len(desk.logic.prompts()) == 3
    desk.go(url)
    desk.wait()
    for expected in (LEFT | BELOW, LEFT, NOTHING):
        desk.do(desk.presenter.undo)
        assert same(desk.masks(), expected)
    desk.do(desk.presenter.redo)
    assert same(desk.masks(), LEFT)
    assert len(desk.asked) == 1


def test_switching_in_mid_question_asks_it_at_the_new_place(desk, volume, url):
    desk.yes = True
    with line(url) as relay:
        desk.go(relay.url)
        desk.open(volume)
        desk.click(IN_LEFT)
        relay.open = False
        relay.cut()
        desk.click(IN_BELOW, wait=False)
        desk.wait(lambda: any("trying again" in text for text in desk.progress))
        desk.go(None)
        desk.wait()
        assert same(desk.masks(), LEFT | BELOW) and len(desk.logic.prompts()) == 2


def test_a_killed_server_goes_on_and_no_click_is_repeated(desk, scene, tmp_path):
    array = phantom()
    desk.logic.model = "random-walker"
    clicks = [*CLICKS, ((8, 16, 22), True)]
    desk.open(add_volume(array, matrix(OBLIQUE), "Here"))
    for index, positive in clicks:
        desk.click(index, positive)
    expected = desk.masks()
    desk.yes = True
    data = tmp_path / "data"
    with process(data) as first, line(first.url) as relay:
        desk.go(relay.url)
        desk.logic.model = "random-walker"
        desk.open(add_volume(array, matrix(OBLIQUE), "There"))
        for index, positive in clicks[:2]:
            desk.click(index, positive)
        first.kill()
        relay.cut()
        desk.click(*clicks[2], wait=False)
        desk.wait(lambda: any("trying again" in text for text in desk.progress))
        with process(data) as second:
            relay.server = second.url
            desk.wait()
            desk.click(*clicks[3])
            assert same(desk.masks(), *expected)
            assert len(desk.logic.prompts()) == len(clicks) and len(desk.asked) == 1
            for _ in clicks:
                desk.do(desk.presenter.undo)
            assert not desk.masks()[0].any()
            desk.go(None)  # while the server is there


def test_a_saved_scene_goes_on_at_the_server(application, desk, scene, volume, url, tmp_path):
    desk.yes = True
    desk.go(url)
    desk.open(volume)
    desk.click(IN_LEFT)
    desk.do(lambda: desk.presenter.next_segment("lesion"))
    desk.click(IN_MIDDLE)
    assert application.io_manager.save_scene(tmp_path / "scene.mrb")
    with zipfile.ZipFile(tmp_path / "scene.mrb") as bundle:
        texts = [bundle.read(name) for name in bundle.namelist() if name.endswith(".mrml")]
    assert texts and not any(url.removeprefix("http://").encode() in text for text in texts)
    assert b"random-walker" in texts[0] or b"thresholder" in texts[0]  # the journal is in there
    desk.close()
    scene.Clear(False)
    assert application.io_manager.load_scene(tmp_path / "scene.mrb")
    again = Desk()
    again.presenter.serving.follow()
    again.open(
        slicer.mrmlScene.GetFirstNodeByName("CT"), slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSegmentationNode")
    )
    assert same(again.masks(), LEFT, MIDDLE) and len(again.logic.prompts()) == 1
    again.click(IN_BELOW)
    assert same(again.masks(), LEFT, MIDDLE | BELOW)
    again.do(again.presenter.undo)
    assert same(again.masks(), LEFT, MIDDLE) and again.asked == []
    again.close()


# ---- what a server says ----------------------------------------------------------------------------------------------


def test_the_models_are_the_servers(desk, url):
    assert "medsam" in [offer.key for offer in desk.presenter.models()]
    desk.go(url)
    desk.wait()
    keys = [offer.key for offer in desk.presenter.models()]
    assert keys[0] == "auto" and {"thresholder", "planar", "random-walker"} < set(keys) and "medsam" not in keys
    assert not any(offer.fetch for offer in desk.presenter.models())
    desk.logic.model = "medsam"
    missing = desk.presenter.models()[-1]
    assert missing.key == "medsam" and "does not have this model" in missing.note


def answer_to_test(desk: Desk, url: str, key: str = "") -> str:
    from napari_sammed.backend.remote_choice import Place

    found: list[str] = []
    desk.presenter.serving.test(Place(url), key, found.append)
    assert desk.presenter.serving.testing
    desk.wait()
    assert not desk.presenter.serving.testing
    return found[0]


def test_what_a_server_is(desk, url):
    said = answer_to_test(desk, url)
    assert " answers in " in said and " ms (napari-sammed " in said and "Random walker" in said
    assert desk.presenter.serving.place is None  # nothing was chosen by that


def test_what_is_wrong_with_a_server(desk, tmp_path):
    assert "check the address, the network, and whether the server runs" in answer_to_test(desk, "http://127.0.0.1:9")
    keys = tmp_path / "keys"
    key = add_key(keys, "jane")
    with in_thread(Settings(tmp_path / "data", key_file=keys), LocalBackend("cpu", models={})) as locked:
        assert "wants a key" in answer_to_test(desk, locked)
        assert "does not accept the key" in answer_to_test(desk, locked, "x" * 43)
        assert " answers in " in answer_to_test(desk, locked, key)


def test_a_test_can_be_stopped(desk):
    import socket

    from napari_sammed.backend.remote_choice import Place

    found: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = Place(f"http://127.0.0.1:{silent.getsockname()[1]}")
        desk.presenter.serving.test(place, "", found.append)
        desk.presenter.mailbox.run(0.2)
        assert found == []
        desk.presenter.cancel()
        desk.wait(seconds=15)
    assert found == ["Stopped."]


def test_keys_without_a_keyring_last_until_the_end(desk, volume, tmp_path):
    keys = tmp_path / "keys"
    key = add_key(keys, "jane")
    models = {"thresholder": Thresholder()}
    with in_thread(Settings(tmp_path / "data", key_file=keys), LocalBackend("cpu", models=models)) as locked:
        desk.yes = True
        desk.go(locked, key)
        desk.wait()
        assert any("kept until Slicer ends" in text for text in desk.said)
        desk.open(volume)
        desk.click(IN_LEFT)
        assert same(desk.masks(), LEFT)
        other = Desk()  # module and effect share it
        other.presenter.serving.follow()
        other.open(volume, desk.logic.segmentation)
        assert other.presenter.serving.check is not None
        other.close()
        assert key not in Servers().path.read_text()


def test_keys_are_in_the_keyring_from_start_to_start(desk, volume, tmp_path, monkeypatch):
    kept: dict[tuple[str, str], str] = {}
    ring = types.SimpleNamespace(
        get_password=lambda service, name: kept.get((service, name)),
        set_password=lambda service, name, key: kept.update({(service, name): key}),
        delete_password=lambda service, name: kept.pop((service, name)),
    )
    monkeypatch.setitem(sys.modules, "keyring", ring)
    key = add_key(tmp_path / "keys", "jane")
    models = {"thresholder": Thresholder()}
    with in_thread(Settings(tmp_path / "data", key_file=tmp_path / "keys"), LocalBackend("cpu", models=models)) as url:
        desk.yes = True
        desk.go(url, key)
        desk.wait()
        assert kept == {("napari-sammed", url): key} and not any("keyring" in text for text in desk.said)
        serving._KEYS.clear()  # as after a restart
        again = Desk()
        again.yes = True
        again.presenter.serving.follow()
        again.open(volume)
        again.click(IN_LEFT)
        assert same(again.masks(), LEFT)
        again.presenter.serving.forget(url, lambda problem: None)
        again.wait()
        assert kept == {}
        again.close()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
def test_a_server_that_made_its_own_certificate(desk, volume, tmp_path):
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    )
    subprocess.run([*command.split(), "-out", certificate, "-keyout", key], check=True, capture_output=True)
    settings = Settings(tmp_path / "data", tls_cert=certificate, tls_key=key)
    with in_thread(settings, LocalBackend("cpu", models={"thresholder": Thresholder()})) as url:
        assert url.startswith("https://")
        assert "certificate that is not trusted here" in answer_to_test(desk, url)
        desk.yes = True
        desk.go(url, certificate=certificate)
        desk.wait()
        desk.open(volume)
        desk.click(IN_LEFT)
        assert same(desk.masks(), LEFT)
        assert Servers().chosen().certificate == certificate


def test_a_forgotten_server_is_left(desk, volume, url):
    desk.yes = True
    desk.go(url)
    desk.open(volume)
    desk.click(IN_LEFT)
    problems: list[str] = []
    desk.presenter.serving.forget(url, problems.append)
    desk.wait()
    assert problems == [""] and Servers().known() == () and desk.presenter.serving.place is None
    desk.click(IN_BELOW)
    assert same(desk.masks(), LEFT | BELOW)


def test_a_click_at_a_dead_server_is_said_and_can_be_answered_later(desk, volume, url, monkeypatch):
    from napari_sammed.backend import remote_connection

    monkeypatch.setattr(remote_connection, "_FIRST_PATIENCE", 0.5)
    desk.yes = True
    desk.go("http://127.0.0.1:9")
    desk.wait()
    assert "does not answer" in desk.presenter.serving.problem
    desk.open(volume)
    desk.logic.model = "random-walker"
    desk.click(IN_LEFT)
    assert "cannot be used" in desk.said[-1]
    assert len(desk.logic.prompts()) == 1 and not desk.masks()[0].any()
    desk.go(url)
    desk.wait()
    assert desk.masks()[0][IN_LEFT]


def test_a_server_that_was_lost_for_long_is_asked_again_when_it_is_chosen_again(desk, volume, url, monkeypatch):
    from napari_sammed.backend.remote import RemoteBackend

    monkeypatch.setitem(RemoteBackend.__init__.__kwdefaults__, "patience", 0.5)
    desk.yes = True
    with line(url) as relay:
        desk.go(relay.url)
        desk.open(volume)
        desk.click(IN_LEFT)
        relay.open = False
        relay.cut()
        desk.click(IN_BELOW)
        assert "Nothing that you did is lost" in desk.said[-1]
        assert same(desk.masks(), LEFT) and len(desk.logic.prompts()) == 2
        relay.open = True
        desk.go(relay.url)
        desk.wait()
        assert same(desk.masks(), LEFT | BELOW) and len(desk.asked) == 1


def test_volumes_are_placed_as_here(desk, volume, url):
    """The click in the scene is the voxel at the server."""
    desk.yes = True
    desk.go(url)
    desk.open(volume)
    desk.click(IN_MIDDLE)
    (prompt,) = desk.logic.prompts()
    assert np.allclose(prompt.index, IN_MIDDLE)
    assert np.allclose(volumes.to_index(volume, volumes.to_world(volume, [IN_MIDDLE])), [IN_MIDDLE])


def test_without_pytorch(tmp_path):
    """In a fresh interpreter in which torch cannot be imported: logic, presenter and backend, at a real server."""
    script = Path(__file__).with_name("without_torch.py")
    environment = {**os.environ, "NAPARI_SAMMED_CONFIG": str(tmp_path / "config")}
    with process(tmp_path / "data") as server:
        command = [sys.executable, str(script), server.url]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert found["imported"] == [] and found["there"] == []
    assert "random-walker" in found["models"]
    backend = LocalBackend("cpu")
    grid = Grid.from_affine(phantom().shape, volumes.RAS_TO_LPS @ matrix(OBLIQUE)[:, [2, 1, 0, 3]])
    with Session(Volume(phantom(), grid), backend) as session:
        session.model = "random-walker"
        expected = []
        for index, positive in CLICKS:
            session.add(Point(tuple(map(float, index)), positive)).result(timeout=60)
            expected.append(int((session.labels() > 0).sum()))
        session.undo()
        session.refine().result(timeout=60)
        expected.append(int((session.labels() > 0).sum()))
    backend.shutdown()
    assert found["voxels"] == expected


def test_sending_can_be_cancelled_and_goes_on_with_the_next_prompt(desk, scene, url):
    desk.yes = True
    noise = np.random.default_rng(1).integers(0, 900, (40, 160, 160)).astype(np.int16)
    with line(url) as relay:
        desk.go(relay.url)
        desk.wait()
        desk.open(add_volume(noise, matrix(OBLIQUE)))
        relay.delay = 0.5
        desk.click((20, 80, 80), wait=False)
        desk.wait(lambda: any(text.startswith("sending the image") for text in desk.progress))
        desk.presenter.cancel()
        desk.wait(seconds=5)
        assert len(desk.logic.prompts()) == 1 and not desk.masks()[0].any()
        relay.delay = 0.0
        desk.click((20, 81, 80))
        assert desk.masks()[0][20, 81, 80] and len(desk.logic.prompts()) == 2


def test_a_server_that_hangs_is_left_at_once(desk, volume, url, monkeypatch):
    """Whatever it takes to say goodbye to it."""
    from napari_sammed.backend.remote import RemoteBackend

    let, end = threading.Event(), RemoteBackend.shutdown

    def at_length(self) -> None:
        assert let.wait(60)
        end(self)

    desk.yes = True
    with line(url) as relay:
        desk.go(relay.url)
        desk.open(volume)
        desk.click(IN_LEFT)
        monkeypatch.setattr(RemoteBackend, "shutdown", at_length)
        relay.delay = 5.0
        desk.click(IN_BELOW, wait=False)
        desk.presenter.mailbox.run(0.3)
        desk.go(None)
        desk.wait()
        assert same(desk.masks(), LEFT | BELOW) and not let.is_set()
        let.set()
