"""Replicas come with sessions, and go when there are none; nobody's session moves for that."""

from __future__ import annotations

import pytest

pytest.importorskip("ray", reason="needs the extra [cluster]")
pytest.importorskip("psutil", reason="looks at processes with psutil")

from tests.server.serving import Client, until, volume
from tests.server_cluster.clusters import cluster

pytestmark = pytest.mark.full


def test_a_second_replica_comes_and_goes(tmp_path):
    with cluster(tmp_path / "data", 1, most=2) as running:
        assert len(running.replicas) == 1
        clients = [Client(running.url) for _ in range(5)]
        for client in clients:
            client.open(volume())
            client.click((5, 12, 14))
        before = {client.session: running.owners(client.session) for client in clients}
        until(lambda: len(running.replicas) == 2, 120)
        newcomer = Client(running.url)

        def elsewhere() -> bool:
            newcomer.open(volume())
            return running.owners(newcomer.session) not in before.values()

        until(elsewhere, 60)
        for client in clients:
            client.click((5, 12, 14))
        assert {client.session: running.owners(client.session) for client in clients} == before
        for path in (running.data / "sessions").glob("*.jsonl"):
            newcomer.http.delete(f"/v1/sessions/{path.stem}")
        until(lambda: len(running.replicas) == 1, 120)
        newcomer.open(volume())
        newcomer.click((5, 12, 14))
