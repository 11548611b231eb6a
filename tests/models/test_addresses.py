"""Addresses that a download does not go to, wherever the redirects come from: nobody there is ever connected to."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import ipaddress
import socket
import threading
from collections.abc import Iterator

import pytest
import requests

from napari_sammed import samples
from napari_sammed.errors import FetchError
from napari_sammed.models import addresses, downloads
from napari_sammed.models.addresses import Reach, check_address, reach, redirects_of

INSIDE = [
    "127.0.0.1",
    "127.8.8.8",
    "2130706433",  # 127.0.0.1 as one number, in hexadecimals, in part, in octal
    "0x7f000001",
    "127.1",
    "0177.0.0.1",
    "0.0.0.0",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]",
    "localhost",
    "10.0.0.1",
    "172.16.3.4",
    "192.168.1.1",
    "100.64.0.1",
    "[fd00::1]",
    "[::ffff:10.0.0.1]",
    "169.254.169.254",  # where clouds tell their machines secrets
    "[::ffff:169.254.169.254]",
    "[::ffff:a9fe:a9fe]",
    "[64:ff9b::a9fe:a9fe]",
    "[fe80::1]",
    "[fe80::a9fe:a9fe%25eth0]",
    "224.0.0.1",
    "[ff02::1]",
    "inside.example",  # a name of the world for an address of the house
]
OTHER_KINDS = ["file:///etc/passwd", "ftp://mirror.example/w", "gopher://mirror.example/w", "data:,x"]


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Where sockets were connected to. Names are those of an internet of the test's own."""
    went: list[object] = []
    connect, look_up = socket.socket.connect, socket.getaddrinfo

    def connecting(self: socket.socket, address: tuple) -> None:
        went.append(address)
        connect(self, address)

    def named(host: str, *rest: object, **more: object) -> list:
        known = {"inside.example": "10.1.2.3", "mirror.example": "93.184.215.14"}
        return look_up(known.get(host, host), *rest, **more)

    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(socket.socket, "connect", connecting)
    monkeypatch.setattr(socket, "getaddrinfo", named)
    monkeypatch.setattr(downloads, "_RETRY_SECONDS", 0.01)
    return went


def fetch(url: str, folder) -> None:
    downloads.fetch_url(url, folder / "w.pth", "0" * 64, 10)


def redirect(source: str, target: str) -> requests.Response:
    response = requests.Response()
    response.status_code, response.url, response.headers["location"] = 302, source, target
    return response


@pytest.mark.parametrize("url", [*OTHER_KINDS, "http://mirror.example/w"])
def test_nothing_is_fetched_but_by_https(url, connected, tmp_path):
    with pytest.raises(FetchError, match="is not an https address"):
        fetch(url, tmp_path)
    with pytest.raises(FetchError, match="is not an https address"):
        redirects_of("https://mirror.example/w")(redirect("https://mirror.example/w", url))
    assert connected == [] and not list(tmp_path.iterdir())


@pytest.mark.parametrize("host", INSIDE)
def test_somebody_in_the_world_has_nothing_fetched_in_here(host, connected):
    look = redirects_of("https://mirror.example/w")
    for target in (f"https://{host}/secret", f"https://user@{host}:8443/", f"//{host}/x"):
        with pytest.raises(FetchError, match="in a network that it is not in itself"):
            look(redirect("https://mirror.example/w", target))
    with pytest.raises(FetchError, match="not an https address"):
        look(redirect("https://mirror.example/w", f"http://{host}/"))
    look(redirect("https://mirror.example/w", "https://mirror.example/other"))
    look(redirect("https://mirror.example/w", "/other"))
    assert connected == []


@pytest.mark.parametrize("host", ["169.254.169.254", "[::ffff:169.254.169.254]", "[fe80::1]", "224.0.0.1"])
def test_what_machines_tell_themselves_is_not_asked_for_at_all(host, connected, tmp_path):
    with pytest.raises(FetchError, match="not downloaded from"):
        fetch(f"https://{host}/latest/meta-data", tmp_path)
    with pytest.raises(FetchError, match="not an https address"):
        fetch(f"http://{host}/latest/meta-data", tmp_path)
    assert connected == []


def test_a_mirror_in_the_house_may_lead_about_the_house_and_out(connected):
    look = redirects_of("https://inside.example/w")
    for target in ("https://10.9.9.9/w", "https://mirror.example/w"):
        look(redirect("https://inside.example/w", target))
    for target in ("https://127.0.0.1/w", "https://169.254.169.254/", "http://10.9.9.9/w"):
        with pytest.raises(FetchError):
            look(redirect("https://inside.example/w", target))
    assert connected == []


def test_reach_of_names_and_numbers(connected):
    assert reach("https://mirror.example/") == reach("https://8.8.8.8/") == Reach.WORLD
    assert reach("https://192.168.0.1/") == Reach.NETWORK and reach("https://127.3.2.1/") == Reach.MACHINE
    assert reach("https://no-such-name.invalid/") == Reach.WORLD
    check_address("http://localhost:8000/w")
    assert addresses._inside(ipaddress.ip_address("2001:db8::1")) == ipaddress.ip_address("2001:db8::1")


class Leading(http.server.BaseHTTPRequestHandler):
    """Redirects along a chain of three, and then to where the path says."""

    def do_GET(self) -> None:
        left, _, target = self.path[1:].partition("/")
        here = f"http://127.0.0.1:{self.server.server_port}"
        self.send_response(302)
        self.send_header("Location", f"{here}/{int(left) - 1}/{target}" if int(left) else target)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def leading() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Leading) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Somebody who should never be connected to."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        yield listening


def test_a_chain_of_redirects_is_looked_at_link_by_link(leading, listener, connected, tmp_path, monkeypatch):
    """With real sockets. In the end the servers here count as ones of the world, all but the last."""
    secret = listener.getsockname()[1]
    monkeypatch.setenv("NAPARI_SAMMED_CACHE", str(tmp_path / "cache"))
    for target in (f"http://10.0.0.1:{secret}/", f"https://169.254.169.254:{secret}/", "file:///etc/passwd"):
        with pytest.raises(FetchError, match="redirects to"):
            fetch(f"{leading}/3/{target}", tmp_path)
        with pytest.raises(FetchError, match="redirects to"):
            samples._fetch_checked(f"{leading}/3/{target}", "0" * 64, "x.bin", None, None)
    monkeypatch.setattr(addresses, "reach", lambda url: Reach.MACHINE if f":{secret}" in url else Reach.WORLD)
    look = addresses.redirects_of(leading)
    with pytest.raises(FetchError, match="that it is not in"):
        requests.get(f"{leading}/0/https://127.0.0.1:{secret}/", hooks={"response": look}, timeout=10)
    with contextlib.suppress(BlockingIOError):
        listener.accept()
        pytest.fail("somebody connected")
    assert all(address[0] == "127.0.0.1" and address[1] != secret for address in connected) and connected
    assert not list(tmp_path.glob("w.pth*"))


def test_a_mirror_on_this_machine_may_redirect_on_it(tmp_path):
    """A redirect that leads somewhere good is followed, and the sum of what comes is looked at."""
    content = b"0123456789"

    class Other(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302 if self.path == "/old" else 200)
            self.send_header("Location", "/new")
            self.send_header("Content-Length", "0" if self.path == "/old" else "10")
            self.end_headers()
            self.wfile.write(b"" if self.path == "/old" else content)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Other) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/old"
        path = downloads.fetch_url(url, tmp_path / "w", hashlib.sha256(content).hexdigest(), 10)
        assert path.read_bytes() == content
        with pytest.raises(FetchError, match="sha256"):
            fetch(url, tmp_path)
        server.shutdown()
