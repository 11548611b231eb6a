"""A whole cluster answers as this machine does, a key is needed, and a killed replica costs nobody a click."""

from __future__ import annotations

import os
import signal

import httpx
import numpy as np
import pytest

pytest.importorskip("ray", reason="needs the extra [cluster]")
pytest.importorskip("psutil", reason="looks at processes with psutil")

from napari_sammed.backend.local import LocalBackend
from napari_sammed.backend.remote import RemoteBackend
from napari_sammed.server.keys import add_key
from napari_sammed.session import Session
from tests.remote.test_failures import conversation
from tests.server.serving import volume
from tests.server_cluster.clusters import cluster


@pytest.mark.parametrize("replicas", [1, pytest.param(2, marks=pytest.mark.full)])
def test_a_session_goes_on_at_another_replica_if_there_is_one(tmp_path, replicas):
    image, here = volume(), LocalBackend("cpu")
    plain = Session(image, here)
    expected = conversation(plain)
    plain.close()
    here.shutdown()
    key = add_key(tmp_path / "keys", "me")
    with cluster(tmp_path / "data", replicas, tmp_path / "keys") as running:
        for headers in ({}, {"authorization": "Bearer nsk_wrong"}):
            assert httpx.get(f"{running.url}/v1/models", headers=headers).status_code == 401
        assert httpx.get(f"{running.url}/v1/health").json() == {"status": "ok"}
        page = {"authorization": f"Bearer {key}", "origin": "https://elsewhere.example"}
        assert httpx.get(f"{running.url}/v1/models", headers=page).status_code == 403
        backend = RemoteBackend(running.url, key, consent=True)
        session, steps, victims = Session(image, backend), [], []

        def kill() -> None:
            steps.append(1)
            if len(steps) == 3 and replicas > 1:
                (journal,) = (running.data / "sessions").glob("*.jsonl")
                victims.extend(running.owners(journal.stem))
                os.kill(victims[0], signal.SIGKILL)

        for found, mask in zip(conversation(session, kill), expected, strict=True):
            np.testing.assert_array_equal(found, mask)
        (journal,) = (running.data / "sessions").glob("*.jsonl")
        (owner,) = running.owners(journal.stem)
        assert owner not in victims and len(victims) == replicas - 1
        session.close()
        backend.shutdown()
        assert running.end() == 0
        assert not list((running.data / "sessions").glob("*.lock")), "all journals were closed in order"
