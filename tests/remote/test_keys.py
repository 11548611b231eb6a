"""Addresses of servers, and where their keys are."""

from __future__ import annotations

import pytest

from napari_sammed.backend.remote import RemoteBackend
from napari_sammed.backend.remote_keys import checked_url, find_key, host_of, keep_key
from napari_sammed.errors import InputError


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("https://GPU.lab/", "https://gpu.lab"),
        (" https://gpu.lab:8443/napari/ ", "https://gpu.lab:8443/napari"),
        ("http://localhost:8765", "http://localhost:8765"),
        ("http://127.0.0.1:8765/", "http://127.0.0.1:8765"),
        ("http://[::1]:8765", "http://[::1]:8765"),
    ],
)
def test_addresses(given, expected):
    assert checked_url(given) == expected


@pytest.mark.parametrize(
    "given",
    [
        *("", "gpu.lab", "ftp://gpu.lab", "file:///etc/passwd", "https://", "https://gpu.lab?x=1", "https://gpu.lab#x"),
        *("https://a@gpu.lab", "http://gpu.lab", "http://127.0.0.1.evil.org", "http://localhost.evil.org"),
        *("http://[::1", "https://gpu.lab:99999"),
    ],
)
def test_what_is_no_address(given):
    with pytest.raises(InputError):
        checked_url(given)
    with pytest.raises(InputError):
        RemoteBackend(given)


def test_http_to_others_only_by_choice():
    assert checked_url("http://gpu.lab:80", insecure=True) == "http://gpu.lab:80"
    assert host_of("https://gpu.lab:8443/x") == "gpu.lab:8443"


@pytest.fixture
def keys(monkeypatch):
    """The system's keyring, in memory."""
    keyring = pytest.importorskip("keyring", reason="needs the extra [keyring]")
    from keyring.backend import KeyringBackend

    class Memory(KeyringBackend):
        priority = 1
        kept: dict[tuple[str, str], str] = {}  # noqa: RUF012

        def get_password(self, service, name):
            return self.kept.get((service, name))

        def set_password(self, service, name, password):
            self.kept[service, name] = password

        def delete_password(self, service, name):
            del self.kept[service, name]

    before = keyring.get_keyring()
    keyring.set_keyring(Memory())
    yield Memory.kept
    keyring.set_keyring(before)
    Memory.kept.clear()


def test_keys_come_from_the_keyring_then_from_the_environment(keys, monkeypatch):
    url = "https://gpu.lab"
    monkeypatch.delenv("NAPARI_SAMMED_KEY", raising=False)
    assert find_key(url) is None
    monkeypatch.setenv("NAPARI_SAMMED_KEY", "from-the-environment")
    assert find_key(url) == "from-the-environment"
    keep_key(url, "from-the-keyring")
    assert keys == {("napari-sammed", url): "from-the-keyring"}
    assert find_key(url) == "from-the-keyring" and find_key("https://other.lab") == "from-the-environment"


def test_a_system_without_a_keyring(monkeypatch):
    keyring = pytest.importorskip("keyring", reason="needs the extra [keyring]")
    from keyring.backends.fail import Keyring

    before = keyring.get_keyring()
    keyring.set_keyring(Keyring())
    try:
        monkeypatch.setenv("NAPARI_SAMMED_KEY", "from-the-environment")
        assert find_key("https://gpu.lab") == "from-the-environment"
        with pytest.raises(InputError, match="NAPARI_SAMMED_KEY"):
            keep_key("https://gpu.lab", "x")
    finally:
        keyring.set_keyring(before)
