"""Ray is started for nobody else, and joined by those with its token only. Each cluster in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from napari_sammed.cluster import joined
from napari_sammed.errors import InputError

pytest.importorskip("ray", reason="ray is not installed")

STARTED = """
import os, psutil, re, subprocess, sys
from pathlib import Path
from napari_sammed.cluster import joined

with joined(None, 1):
    import ray
    own = [psutil.Process(), *psutil.Process().children(recursive=True)]
    ports = [c.laddr.ip for p in own for c in p.net_connections("tcp") if c.status == "LISTEN"]
    assert len(ports) > 5
    print("loopback", {ip.removeprefix("::ffff:") for ip in ports} == {"127.0.0.1"})
    told = " ".join(word for p in own for word in p.cmdline())  # others may have clusters, too
    folders = {Path(found) for found in re.findall(r"/tmp/sammed-ray-[a-z0-9_]+", told)}
    print("private", all(f.stat().st_mode & 0o77 == 0 for f in folders) and len(folders) > 0)
    print("token", (Path.home() / ".ray" / "auth_token").stat().st_mode & 0o777 == 0o600)
    join = "import sys; from napari_sammed.cluster import joined\\nwith joined(sys.argv[1]): print('in')"
    address = ray.get_runtime_context().gcs_address
    wrong, without = {"RAY_AUTH_TOKEN": "0" * 64}, {"RAY_AUTH_MODE": "disabled"}
    for name, changes in (("same", {}), ("wrong", wrong), ("none", without)):
        done = subprocess.run(
            [sys.executable, "-c", join, address], env=os.environ | changes, capture_output=True, text=True
        )
        print(name, done.returncode, done.stdout.strip(), "InputError" in done.stderr)
print("gone", not any(f.exists() for f in folders))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks at the ports of other processes as Linux shows them")
@pytest.mark.full
def test_a_cluster_of_this_machine_is_for_its_user_only(tmp_path):
    pytest.importorskip("psutil", reason="psutil is not installed")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | {"HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", STARTED], env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]
    said = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert {name: said[name] for name in ("loopback", "private", "token", "gone")} == dict.fromkeys(
        ("loopback", "private", "token", "gone"), "True"
    )
    assert said["same"] == "0 in False"
    assert said["wrong"].startswith("1") and said["wrong"].endswith("True") and "in" not in said["wrong"]
    assert said["none"].startswith("1") and said["none"].endswith("True")


@pytest.mark.parametrize("address", ["somewhere", "ray://127.0.0.1:10001", "127.0.0.1:x", "127.0.0.1:1"])
def test_what_is_no_cluster_is_said_to_be_none(address):
    with (
        pytest.raises(InputError, match="looks like" if address != "127.0.0.1:1" else "no Ray cluster"),
        joined(address),
    ):
        pass


def test_no_cluster_is_started_without_authentication(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with pytest.raises(InputError, match="unset it"), joined(None):
        pass
