"""Who may use the cluster: programs with its token, at loopback; and nobody else."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys

import pytest

pytestmark = pytest.mark.full

JOIN = """
import sys
from napari_sammed.cluster import joined
with joined(sys.argv[1]):
    import ray
    print("in", sorted(name for name in ray.cluster_resources() if name == "CPU"))
"""


def test_ray_lets_nobody_in_without_the_token(running):
    (gcs,) = [p for p in running.processes if p.name().startswith("gcs_server")]
    (port,) = {c.laddr.port for c in gcs.net_connections("tcp") if c.status == "LISTEN"}

    def join(**changes: str) -> subprocess.CompletedProcess:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | changes
        return subprocess.run(
            [sys.executable, "-c", JOIN, f"127.0.0.1:{port}"], env=environment, capture_output=True, text=True
        )

    assert join(RAY_AUTH_TOKEN=running.token).stdout.startswith("in")
    for changes in ({"RAY_AUTH_TOKEN": "0" * 64}, {"RAY_AUTH_MODE": "disabled"}):
        refused = join(**changes)
        assert refused.returncode != 0 and not refused.stdout and "InputError" in refused.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="looks at the ports of other processes as Linux shows them")
def test_what_listens_elsewhere_than_at_loopback_asks_for_the_token(running, tmp_path):
    """Serve opens one port of each replica at all addresses; it unpickles what comes, so nothing may come unasked."""
    import grpc
    from ray.serve.generated.serve_pb2 import ASGIRequest
    from ray.serve.generated.serve_pb2_grpc import ASGIServiceStub

    listening = [(p, c.laddr) for p in running.processes for c in p.net_connections("tcp") if c.status == "LISTEN"]
    everywhere = [(p, at.port) for p, at in listening if at.ip.removeprefix("::ffff:") != "127.0.0.1"]
    assert len(listening) > 10
    assert all("ray::ServeReplica" in " ".join(process.cmdline()) for process, _ in everywhere)
    executed = tmp_path / "executed"
    request = ASGIRequest(pickled_request_metadata=pickle.dumps(Bomb(str(executed))))
    for _, port in everywhere:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = ASGIServiceStub(channel)
            with pytest.raises(grpc.RpcError) as caught:
                stub.HandleRequest(request)
            assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
            with pytest.raises(grpc.RpcError) as caught:
                list(stub.HandleRequestStreaming(request))
            assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
    assert not executed.exists()


class Bomb:
    """Leaves a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __reduce__(self):
        return open, (self._path, "w")
