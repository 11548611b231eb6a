"""What the server does with connections, beside closing them."""

from __future__ import annotations

import socket

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
