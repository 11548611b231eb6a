"""What the server does with connections, beside closing them."""

from __future__ import annotations

import socket
from dataclasses import replace
from urllib.parse import urlsplit

from napari_sammed.server.connections import PatientProtocol
from napari_sammed.server.settings import Settings
from tests.server.serving import Client, in_thread


def test_replies_do_not_wait_until_clients_confirm_their_first_part(tmp_path, backend, monkeypatch):
    options, made = [], PatientProtocol.connection_made

    def connection_made(self, transport) -> None:
        made(self, transport)
        options.append(transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    monkeypatch.setattr(PatientProtocol, "connection_made", connection_made)
    with in_thread(Settings(tmp_path), backend) as url:
        client = Client(url)
        assert client.http.get("/v1/health").status_code == 200
        client.close()
    assert options and all(options)


def test_connections_that_never_asked_anything_are_closed_before_those_that_did(tmp_path, backend):
    settings = Settings(tmp_path)
    question = b"GET /v1/health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    with in_thread(replace(settings, limits=replace(settings.limits, connections=4)), backend) as url:
        place = (urlsplit(url).hostname, urlsplit(url).port)

        def ask(line: socket.socket) -> bytes:
            line.sendall(question)
            return line.recv(1 << 16)

        with socket.create_connection(place, 10) as mine:
            assert b" 200 " in ask(mine)
            silent = [socket.create_connection(place, 10) for _ in range(12)]
            with socket.create_connection(place, 10) as last:
                assert b" 200 " in ask(last), "there is room for those who come"
            assert silent[0].recv(1) == b""
            assert b" 200 " in ask(mine)
            for line in silent:
                line.close()
