"""The dialog "Where to segment": what it says of servers, where keys go, and what is forgotten."""

# ruff: noqa: F811, fixtures from elsewhere

from __future__ import annotations

import http.server
import shutil
import socket
import subprocess
import threading

import pytest

pytest.importorskip("fastapi", reason="needs the extra [server]")

from napari_sammed.backend.remote_choice import Place, Servers
from napari_sammed.backend.remote_keys import keep_key
from napari_sammed.server.keys import add_key
from napari_sammed.server.settings import Settings
from tests.plugin.at_server import (  # noqa: F401, some are fixtures
    MIDDLE,
    VOLUME,
    answer,
    choice,
    fill,
    go_to,
    hands,
    local,
    mask_of,
    prompt,
    server,
    trial,
)
from tests.plugin.test_welcome import INTERACTIVE
from tests.remote.test_keys import keys  # noqa: F401, a fixture
from tests.server.serving import in_thread, process


def test_what_is_wrong_with_a_server_is_said_in_a_sentence(hands, tmp_path, server):
    key = add_key(tmp_path / "keys", "me")
    with in_thread(Settings(tmp_path / "locked", key_file=tmp_path / "keys", device="cpu")) as locked:
        assert "wants a key" in trial(hands, locked)[0]
        assert "does not accept the key" in trial(hands, locked, "nsk_wrong")[0]
        assert trial(hands, locked, key)[0] == ""
        gone = locked
    problem, result = trial(hands, gone)
    assert "does not answer (no connection)" in problem and not result
    pages = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    threading.Thread(target=pages.serve_forever, daemon=True).start()
    try:
        assert "no server of napari-sammed" in trial(hands, f"http://127.0.0.1:{pages.server_port}")[0]
    finally:
        pages.shutdown()
        pages.server_close()
    assert "does not speak https" in trial(hands, server.url.replace("http:", "https:"))[0]
    fill(hands, "gpu.lab")
    controls = [w for kind in INTERACTIVE for w in choice(hands).dialog.findChildren(kind)]
    assert len(controls) > 9 and all(control.toolTip() for control in controls)
    hands.press(choice(hands).dialog.ok_button)
    assert "no address of a server" in choice(hands).dialog.problem.text() and not choice(hands).dialog.isHidden()
    fill(hands, "http://gpu.lab:8765")
    dialog = choice(hands).dialog
    assert not dialog.insecure.isHidden()
    hands.press(dialog.test_button)
    assert "can read the images and the key" in dialog.problem.text()
    dialog.insecure.setChecked(True)
    assert dialog.wish().place == Place("http://gpu.lab:8765", insecure=True)
    assert Servers().known() == ()  # nothing of all this was chosen


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
def test_a_certificate_of_its_own_has_to_be_given(hands, tmp_path):
    certificate, private = tmp_path / "cert.pem", tmp_path / "key.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    files = ["-keyout", str(private), "-out", str(certificate)]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", *subject, *files],
        check=True,
        capture_output=True,
    )
    options = ["--tls-cert", str(certificate), "--tls-key", str(private), "--device", "cpu"]
    with process(tmp_path / "secure", *options) as running:
        assert running.url.startswith("https:")
        assert "certificate that is not trusted" in trial(hands, running.url)[0]
        dialog = choice(hands).dialog
        hands.qtbot.keyClicks(dialog.certificate, str(certificate))
        hands.press(dialog.test_button)
        hands.qtbot.waitUntil(lambda: dialog.test_button.isEnabled(), timeout=15000)
        assert "answers in" in dialog.result_.text()


def test_waiting_for_a_silent_server_can_be_stopped(hands):
    with socket.create_server(("127.0.0.1", 0)) as listening:  # takes connections, and says nothing
        fill(hands, f"http://127.0.0.1:{listening.getsockname()[1]}")
        dialog = choice(hands).dialog
        hands.press(dialog.test_button)
        assert not dialog.test_button.isEnabled() and not dialog.stop_button.isHidden()
        hands.press(dialog.stop_button)
        hands.qtbot.waitUntil(dialog.test_button.isEnabled, timeout=5000)
        assert dialog.problem.text() == "Stopped." and dialog.stop_button.isHidden()


def test_keys_go_to_the_keyring_and_forgetting_takes_all_along(hands, tmp_path, keys):
    key = add_key(tmp_path / "keys", "me")
    with in_thread(Settings(tmp_path / "locked", key_file=tmp_path / "keys", device="cpu")) as locked:
        hands.press(hands.panel.place)
        dialog = choice(hands).dialog
        hands.qtbot.waitUntil(dialog.keep.isEnabled)
        assert dialog.keep.isChecked()
        go_to(hands, locked, key)
        hands.qtbot.waitUntil(lambda: keys == {("napari-sammed", locked): key})
        prompt(hands, MIDDLE)
        answer(hands, send=True)
        hands.settle()
        assert mask_of(hands)[MIDDLE]
        assert key not in "".join(file.read_text() for file in Servers().path.parent.glob("*") if file.is_file())
        hands.press(hands.panel.place)
        hands.qtbot.waitUntil(lambda: "there is one" in dialog.key.placeholderText())
        assert dialog.where.currentData() == locked and dialog.address.isReadOnly()
        assert not dialog.ask_button.isHidden()
        hands.press(dialog.ask_button)
        hands.qtbot.waitUntil(lambda: dialog.ask_button.isHidden() and not Servers().agreed(locked))
        hands.press(dialog.forget_button)
        hands.qtbot.waitUntil(lambda: dialog.where.count() == 2)
        hands.settle()
        assert keys == {} and Servers().known() == () and Servers().chosen() is None
        assert hands.panel.place.place == "This computer" and mask_of(hands)[MIDDLE]


def test_without_a_keyring_the_key_is_for_this_run_and_that_is_said(hands, tmp_path):
    keyring = pytest.importorskip("keyring", reason="needs the extra [keyring]")
    from keyring.backends.fail import Keyring

    before = keyring.get_keyring()
    keyring.set_keyring(Keyring())
    try:
        key = add_key(tmp_path / "keys", "me")
        with in_thread(Settings(tmp_path / "locked", key_file=tmp_path / "keys", device="cpu")) as locked:
            go_to(hands, locked, key)
            dialog = choice(hands).dialog
            hands.qtbot.waitUntil(lambda: not dialog.no_keyring.isHidden())
            assert "no keyring" in dialog.no_keyring.text() and dialog.keep.isHidden() and not dialog.keep.isChecked()
            prompt(hands, MIDDLE)
            answer(hands, send=True)
            hands.settle()
            assert mask_of(hands)[MIDDLE]
    finally:
        keyring.set_keyring(before)


def test_a_key_from_before_comes_from_the_keyring(open_plugin, tmp_path, keys):
    key = add_key(tmp_path / "keys", "me")
    with in_thread(Settings(tmp_path / "locked", key_file=tmp_path / "keys", device="cpu")) as locked:
        keep_key(locked, key)
        Servers().choose(Place(locked))
        Servers().agree(locked)
        hands = open_plugin(VOLUME.array, model=None, own_backend=True)
        prompt(hands, MIDDLE)
        hands.settle()
        assert mask_of(hands)[MIDDLE]
        hands.qtbot.waitUntil(lambda: "answers in" in hands.panel.place.toolTip())
