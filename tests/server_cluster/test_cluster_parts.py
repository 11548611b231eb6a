"""The parts of a cluster that need no Ray: directory, share, door, scaling, pulse; and its configuration file."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from napari_sammed.cli import main
from napari_sammed.errors import InputError
from napari_sammed.server.cluster import share
from napari_sammed.server.cluster.directory import Directory, Report
from napari_sammed.server.cluster.health import Pulse
from napari_sammed.server.cluster.scaling import BySessions
from napari_sammed.server.refusals import Refusal

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "server" / "cluster.yaml"


def report(replica: str, *sessions: str, **changes) -> Report:
    return Report(replica, "127.0.0.1", 1, sessions, **changes)


def known(*replicas: str) -> Directory:
    directory = Directory(settle=0, starting=0.2)
    for replica in replicas:
        directory.hear(report(replica))
    return directory


def test_a_session_is_given_once_and_stays():
    async def run():
        directory = known("a", "b")
        owners = await asyncio.gather(*(directory.of_session(f"s{n % 4}") for n in range(40)))
        assert len({(n % 4, owner.id) for n, owner in enumerate(owners)}) == 4
        assert sorted(len(replica.sessions) for replica in directory.replicas) == [2, 2]
        before = [owner.id for owner in owners[:4]]
        directory.hear(report("c"))  # which joins, and has none
        assert [(await directory.of_session(f"s{n}")).id for n in range(4)] == before
        assert (await directory.fewest()).id == "c"

    asyncio.run(run())


def test_what_a_replica_has_open_is_its_own():
    async def run():
        directory = known("a", "b")
        directory.hear(report("b", "s"))
        assert (await directory.of_session("s")).id == "b"
        directory.hear(report("b"))  # put aside: it stays all the same
        directory.hear(report("b", *(f"t{n}" for n in range(9))))
        assert (await directory.of_session("s")).id == "b"
        directory.lost(await directory.of_session("s"))
        assert (await directory.of_session("s")).id == "a"

    asyncio.run(run())


def test_an_ingress_that_has_just_started_waits_for_claims():
    async def run():
        directory = Directory(settle=0.3)
        directory.hear(report("a"))
        asked = asyncio.create_task(directory.of_session("s"))
        await asyncio.sleep(0.1)
        assert not asked.done()
        directory.hear(report("b", "s"))
        assert (await asked).id == "b"
        assert (await directory.of_session("t")).id == "a"

    asyncio.run(run())


def test_a_replica_that_leaves_is_given_nothing_and_claims_nothing():
    async def run():
        directory = known("a", "b")
        directory.hear(report("a", "s", leaving=True))
        assert {(await directory.of_session(f"s{n}")).id for n in range(5)} == {"b"}
        directory.lost(next(replica for replica in directory.replicas if replica.id == "b"))
        with pytest.raises(Refusal, match="No GPU") as caught:
            await directory.of_session("new")
        assert caught.value.status == 503 and caught.value.headers == {"retry-after": "2"}

    asyncio.run(run())


def test_jobs_are_found_where_they_run_and_forgotten_sessions_are_not_kept():
    async def run():
        directory = known("a", "b")
        replica = await directory.of_session("s")
        replica.start("job")
        directory.hear(report(replica.id))  # which was said before
        assert directory.of_job("job") is replica and directory.of_job("other") is None
        directory.opened("gone", replica)
        directory.ended("gone")
        directory.hear(report(replica.id, "s"))
        directory.tidy(lambda session: False)
        assert directory.in_use == {"s"} and await directory.of_session("s") is replica

    asyncio.run(run())


def test_the_folder_shows_whether_it_is_shared(tmp_path):
    with pytest.raises(InputError, match="all machines"):
        share.secret(tmp_path)
    share.prepare(tmp_path / "data")
    secret = share.secret(tmp_path / "data")
    share.prepare(tmp_path / "data")
    assert share.secret(tmp_path / "data") == secret and len(secret) == 64
    (path,) = (tmp_path / "data").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("told", "running", "target", "wanted"),
    [
        ({}, ["a"], 1, 1),
        ({"a": 8.0}, ["a"], 1, 1),
        ({"a": 8.1}, ["a"], 1, 2),
        ({"a": 90.0}, ["a"], 1, 4),
        ({"a": 1.0, "b": 0.0, "c": 0.0}, ["a", "b", "c"], 3, 3),  # somebody works: none is ended
        ({"a": 0.0, "b": 0.0}, ["a", "b", "c"], 3, 3),  # one has not said yet
        ({"a": 0.0, "b": 0.0, "c": 0.0}, ["a", "b", "c"], 3, 1),
    ],
)
def test_replicas_come_with_sessions_and_go_when_there_are_none(told, running, target, wanted):
    context = SimpleNamespace(
        aggregated_metrics={"sessions": told} if told else {},
        running_replicas=running,
        target_num_replicas=target,
        capacity_adjusted_min_replicas=1,
        capacity_adjusted_max_replicas=4,
    )
    assert BySessions(8)(context)[0] == wanted


def test_the_pulse_of_a_device_is_taken():
    asyncio.run(Pulse("cpu").take())
    with pytest.raises((RuntimeError, AssertionError)):
        asyncio.run(Pulse("cuda:99").take())


def test_a_device_that_hangs_fails_again_and_again(monkeypatch):
    import threading

    from napari_sammed.server.cluster import health

    hanging = threading.Event()
    monkeypatch.setattr(health, "_beat", lambda device: hanging.wait(10) and 6.0)

    async def run():
        pulse = Pulse("cpu", patience=0.05)
        for _ in range(2):
            with pytest.raises(RuntimeError, match="does not answer"):
                await pulse.take()
        hanging.set()

    asyncio.run(run())


def test_the_configuration_file_is_one_of_serve_and_ours(tmp_path):
    schema = pytest.importorskip("ray.serve.schema", reason="ray is not installed")
    from ray.serve import Application

    from napari_sammed.server.cluster.application import NAME, Arguments, build

    content = yaml.safe_load(EXAMPLE.read_text())
    config = schema.ServeDeploySchema.model_validate(content)
    assert config.proxy_location == "Disabled"
    (described,) = config.applications
    assert described.name == NAME and described.route_prefix is None
    assert described.import_path == f"{build.__module__}:{build.__name__}"
    arguments = Arguments.model_validate(described.args)
    assert arguments.scale.high > 1 and arguments.scale.gpus > 0
    without_tls = {name: value for name, value in described.args.items() if not name.startswith("tls")}
    with pytest.raises(InputError, match="new-key"):
        build(without_tls | {"data": str(tmp_path)})
    here = without_tls | {"data": str(tmp_path), "host": "127.0.0.1", "names": []}
    assert isinstance(build(here), Application) and share.secret(tmp_path)


def test_what_a_configuration_file_says_wrongly_is_refused(tmp_path):
    pytest.importorskip("ray.serve", reason="ray is not installed")
    from pydantic import ValidationError

    from napari_sammed.server.cluster.application import Arguments, Scale

    with pytest.raises(ValidationError, match="replica_count"):
        Arguments.model_validate({"data": tmp_path, "replica_count": 3})
    with pytest.raises(InputError, match="imagee"):
        _ = Arguments.model_validate({"data": tmp_path, "limits": {"imagee": 3}}).settings
    given = Arguments.model_validate({"data": tmp_path, "limits": {"image": 3e9, "idle": 60}}).settings.limits
    assert (given.image, given.idle) == (3_000_000_000, 60.0) and isinstance(given.image, int)
    for wrong in (Scale(2, 1), Scale(0, 1), Scale(gpus=1.5), Scale(gpus=-1), Scale(cpus=0), Scale(sessions=0)):
        with pytest.raises(InputError):
            wrong.check()
    Scale(1, 4, gpus=0.25).check()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--replicas", "2"], "--replicas belongs to --cluster"),
        (["--cluster", "--replicas", "2", "--max-replicas", "3"], "either"),
        (["--cluster", "127.0.0.1:1"], "no Ray cluster at 127.0.0.1:1"),
        (["--cluster", "--host", "0.0.0.0"], "--insecure"),
    ],
)
def test_options_are_checked_before_anything_starts(tmp_path, capsys, options, said):
    pytest.importorskip("ray", reason="ray is not installed")
    assert main(["serve", "--data", str(tmp_path), "--port", "0", *options]) == 2
    assert said in capsys.readouterr().err
