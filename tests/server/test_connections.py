"""Connections: those that ask get their answer at once, however many others ask nothing; those leave."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from napari_sammed.server.connections import PatientProtocol
from napari_sammed.server.settings import Limits, Settings
from tests.server.serving import Client, certified, connect, health, in_thread, process, until

HALF = {"plain": b"GET /v1/health HTTP/1.1\r\nHost: loc", "tls": b"\x16\x03\x01\x02\x00\x01"}
"""Of a request, and of a client's first word in TLS."""


@dataclass
class Way:
    """How to talk to servers: in the open, or through TLS."""

    settings: Callable[..., Settings]
    wrap: Callable[[socket.socket], socket.socket]
    half: bytes

    def speak(self, url: str) -> socket.socket:
        """A connection at which requests can be sent."""
        return self.wrap(connect(url))


@pytest.fixture(params=["plain", "tls"])
def way(request, tmp_path):
    def settings(**limits) -> Settings:
        return Settings(tmp_path / "data", limits=replace(Limits(), **limits), **files)

    files: dict[str, Path] = {}
    if request.param == "plain":
        return Way(settings, lambda line: line, HALF["plain"])
    authority, path = request.getfixturevalue("authority")
    files["tls_cert"], files["tls_key"] = certified(authority, tmp_path)
    client = ssl.create_default_context(cafile=path)
    return Way(settings, lambda line: client.wrap_socket(line, server_hostname="localhost"), HALF["tls"])


def closed(line: socket.socket, seconds: float = 0) -> bool:
    """Whether the server closed a connection."""
    line.settimeout(seconds)
    try:
        return line.recv(1) == b""
    except (BlockingIOError, TimeoutError):
        return False
    except ConnectionError:
        return True


def test_replies_do_not_wait_until_clients_confirm_their_first_part(way, backend, monkeypatch):
    options, made = [], PatientProtocol.connection_made

    def connection_made(self, transport) -> None:
        made(self, transport)
        options.append(transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    monkeypatch.setattr(PatientProtocol, "connection_made", connection_made)
    with in_thread(way.settings(), backend) as url, way.speak(url) as line:
        assert health(line) == 200
    assert options and all(options)


def test_connections_that_never_asked_anything_are_closed_before_those_that_did(way, backend):
    with in_thread(way.settings(connections=4), backend) as url, way.speak(url) as mine:
        assert health(mine) == 200
        silent = [connect(url) for _ in range(12)]
        with way.speak(url) as last:
            assert health(last) == 200, "there is room for those who come"
        assert closed(silent[0], 10)
        assert health(mine) == 200
        for line in silent:
            line.close()


def test_one_too_many_closes_the_longest_silent_only(way, backend):
    with in_thread(way.settings(connections=4), backend) as url, contextlib.ExitStack() as end:
        mine = end.enter_context(way.speak(url))
        assert health(mine) == 200
        half, *silent = [end.enter_context(connect(url)) for _ in range(3)]
        half.sendall(way.half)
        time.sleep(0.3)
        assert not any(closed(line) for line in (half, *silent)), "there was room"
        silent.append(end.enter_context(connect(url)))
        assert closed(silent[0], 10)
        assert not any(closed(line, 0.1) for line in (half, *silent[1:]))
        assert health(mine) == 200


def test_who_begins_late_is_answered(way, backend):
    with in_thread(way.settings(), backend) as url, connect(url) as line:
        time.sleep(0.5)
        with way.wrap(line) as speaking:
            assert [health(speaking) for _ in range(3)] == [200] * 3


def test_who_sends_byte_by_byte_is_answered(backend, tmp_path):
    with in_thread(Settings(tmp_path), backend) as url, connect(url) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"GET /v1/health HTTP/1.1\r\nHost: localhost\r\n":
            line.sendall(bytes([byte]))
            time.sleep(0.002)
        line.sendall(b"\r\n")
        assert line.recv(100).split()[1] == b"200"


def test_who_says_nothing_or_half_of_it_is_closed(way, backend):
    with in_thread(way.settings(silence=1), backend) as url, contextlib.ExitStack() as end:
        silent, half, mine = (end.enter_context(connect(url)) for _ in range(3))
        half.sendall(way.half)
        mine = end.enter_context(way.wrap(mine))
        for _ in range(4):
            assert health(mine) == 200
            time.sleep(0.4)
        assert closed(silent, 10) and closed(half, 10)
        assert closed(mine, 10), "and who says nothing any more"


def test_who_leaves_without_a_word_is_forgotten(way, backend):
    with in_thread(way.settings(connections=20), backend) as url, connect(url) as silent:
        for _ in range(30):
            connect(url).close()
            with connect(url) as half:
                half.sendall(way.half)
            with way.speak(url) as line:
                assert health(line) == 200
        assert not closed(silent), "there was always room"


def test_a_thousand_silent_connections_keep_nobody_out(way, backend):
    with in_thread(way.settings(), backend) as url, contextlib.ExitStack() as end:
        lines = [end.enter_context(connect(url)) for _ in range(1000)]
        with way.speak(url) as line:
            assert health(line) == 200
        until(lambda: sum(closed(line) for line in lines) >= 1000 - Limits().connections)
        assert sum(closed(line) for line in lines) <= 1000 - Limits().connections + 2


def test_nothing_is_open_after_the_end(way, backend):
    before = len(os.listdir("/dev/fd"))
    with contextlib.ExitStack() as end:
        with in_thread(way.settings(), backend) as url:
            silent, half = (end.enter_context(connect(url)) for _ in range(2))
            half.sendall(way.half)
            with way.speak(url) as asked:
                assert health(asked) == 200
        assert closed(silent, 10) and closed(half, 10)
        with pytest.raises(ConnectionRefusedError):
            connect(url)
    assert len(os.listdir("/dev/fd")) <= before


@pytest.mark.skipif(sys.platform != "linux", reason="limits of other processes are set and seen on Linux only")
def test_a_server_that_may_open_no_more_files_goes_on_when_it_can(tmp_path):
    import resource

    head = b"POST /v1/sessions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99"
    with process(tmp_path / "data") as server, contextlib.ExitStack() as end:
        files = Path(f"/proc/{server.process.pid}/fd")
        most = len(list(files.iterdir())) + 30
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (most, most))
        silent = [end.enter_context(connect(server.url)) for _ in range(100)]
        with connect(server.url) as line:
            assert health(line) == 200, "the longest silent ones have left"
        assert any(closed(line) for line in silent)
        slow = []
        for _ in range(200):
            slow.append(end.enter_context(connect(server.url)))
            slow[-1].sendall(head + b"\r\n\r\n{")
            time.sleep(0.002)
        until(lambda: len(list(files.iterdir())) >= most)
        busy = _cpu(server.process.pid)
        with connect(server.url) as line:
            time.sleep(1)
            assert _cpu(server.process.pid) - busy < 0.3, "it does not ask for the impossible all the time"
            for each in slow:
                each.close()
            assert health(line) == 200
        assert "Traceback" not in server.text
        client = Client(server.url)
        assert client.http.get("/v1/health").status_code == 200
        client.close()


def _cpu(process: int) -> float:
    """Seconds that a process has computed."""
    spent = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(map(int, spent)) / os.sysconf("SC_CLK_TCK")
