"""Who may use the cluster: programs with its token, at loopback; and nobody else."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.full, pytest.mark.xdist_group("cluster")]

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
def test_nothing_listens_but_at_loopback(running):
    listening = [
        (p.name(), c.laddr) for p in running.processes for c in p.net_connections("tcp") if c.status == "LISTEN"
    ]
    assert len(listening) > 10
    assert {address.ip.removeprefix("::ffff:") for _, address in listening} == {"127.0.0.1"}
