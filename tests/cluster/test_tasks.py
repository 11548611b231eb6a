"""Items done by the workers of a real cluster: all of them, in order, once, whatever happens to a worker."""

from __future__ import annotations

import os
import signal
import threading
from functools import partial
from pathlib import Path

import pytest

from napari_sammed.errors import Cancelled, InputError
from napari_sammed.tasks import Crew, check_here, through
from tests.cluster import working

ITEMS = (0, 1, 2, 3, 4)
EXPECTED = [[(item * factor) ** 2 for factor in (1, 2, 3)] for item in ITEMS]


def done(found):
    return [[value for value, _ in parts] for parts in found]


def test_all_are_done_in_order_by_workers_that_get_ready_once(member, tmp_path):
    came = []
    found = through(
        ITEMS, partial(working.make, tmp_path), working.squares, Crew(), came=lambda *part: came.append(part)
    )
    assert done(found) == EXPECTED
    workers = {own for parts in found for _, own in parts}
    assert {f"made-{own}" for own in workers} <= {path.name for path in tmp_path.iterdir()}
    assert len(list(tmp_path.iterdir())) <= 2 and os.getpid() not in workers
    assert sorted(came) == sorted((number, part) for number, parts in enumerate(found) for part in parts)


def test_what_a_killed_worker_was_at_is_done_again_and_nothing_twice(member, tmp_path):
    came = []
    do = partial(working.dies_once, tmp_path)
    found = through(ITEMS, partial(working.make, tmp_path), do, Crew(workers=1), came=lambda *part: came.append(part))
    assert (tmp_path / "died").exists() and done(found) == EXPECTED
    assert len(came) == 15 and len({own for parts in found for _, own in parts}) == 2
    assert len({own for _, own in found[2]}) == 2, "what had come before was kept"


@pytest.mark.full
def test_a_worker_that_somebody_kills_is_replaced(member, tmp_path):
    killed = threading.Event()

    def came(number, part):
        if number == 1 and not killed.is_set():
            killed.set()
            os.kill(part[1], signal.SIGKILL)
            (tmp_path / "go-on").touch()

    found = through(ITEMS, partial(working.make, tmp_path), partial(working.waits, tmp_path), Crew(), came=came)
    assert killed.is_set() and done(found) == EXPECTED


@pytest.mark.full
def test_an_item_that_ends_every_worker_is_named_and_the_others_go_on(member, tmp_path):
    failed = {}
    found = through(
        ITEMS,
        partial(working.make, tmp_path),
        working.dies_always,
        Crew(),
        failed=lambda n, why: failed.update({n: why}),
    )
    assert list(failed) == [2] and "3 workers ended over it" in failed[2]
    assert done(found) == [EXPECTED[n] if n != 2 else [] for n in ITEMS]


def test_what_cannot_be_done_is_named_with_the_reason(member, tmp_path):
    failed = {}
    found = through(
        ITEMS, partial(working.make, tmp_path), working.fails, Crew(), failed=lambda n, why: failed.update({n: why})
    )
    assert failed == {1: "It is one.", 2: "KeyError: 'two'"}
    assert done(found) == [EXPECTED[n] if n not in (1, 2) else EXPECTED[n][:1] for n in ITEMS]


def test_cancelled_work_ends_and_what_has_come_stays(member, tmp_path):
    cancel, came = threading.Event(), []

    def note(number, part):
        came.append(part)
        if len(came) == 4:  # both workers wait now
            cancel.set()

    with pytest.raises(Cancelled):
        through(
            ITEMS, partial(working.make, tmp_path), partial(working.waits, tmp_path), Crew(), came=note, cancel=cancel
        )
    assert 4 <= len(came) < 15
    workers = {own for _, own in came}
    for _ in range(100):
        if not [own for own in workers if Path(f"/proc/{own}").exists()]:
            break
        threading.Event().wait(0.1)
    else:
        pytest.fail("a worker works on for nobody")


@pytest.mark.parametrize(
    ("make", "crew", "words"),
    [
        (working.cannot_begin, Crew(), "A worker cannot begin: There are no weights."),
        (working.cannot_begin, Crew(gpus=1), "The cluster has 0 GPUs"),
    ],
)
def test_a_crew_that_cannot_work_is_refused(member, make, crew, words):
    with pytest.raises(InputError, match=words):
        through(ITEMS, make, working.squares, crew)


def test_nothing_to_do(member):
    assert through([], working.cannot_begin, working.squares, Crew()) == []


@pytest.mark.parametrize(
    ("crew", "resources", "most", "count", "reserved"),
    [
        (Crew(), {"CPU": 8}, 100, 8, (1, 0)),
        (Crew(), {"CPU": 8}, 3, 3, (2, 0)),
        (Crew(workers=2), {"CPU": 8}, 100, 2, (4, 0)),
        (Crew(), {"CPU": 16, "GPU": 4}, 100, 4, (1, 1)),
        (Crew(gpus=0.5), {"CPU": 16, "GPU": 4}, 100, 8, (1, 0.5)),
        (Crew(gpus=0.3), {"CPU": 16, "GPU": 2}, 100, 6, (1, 0.3)),
        (Crew(gpus=2), {"CPU": 16, "GPU": 4}, 100, 2, (1, 2)),
        (Crew(device="cpu"), {"CPU": 16, "GPU": 4}, 100, 16, (1, 0)),
        (Crew(gpus=0), {"CPU": 4, "GPU": 4}, 100, 4, (1, 0)),
        (Crew(), {}, 100, 1, (1, 0)),
    ],
)
def test_the_cluster_decides_how_many_there_are(crew, resources, most, count, reserved):
    assert crew.among(resources, most) == (count, dict(zip(("num_cpus", "num_gpus"), reserved, strict=True)))


@pytest.mark.parametrize("crew", [Crew(workers=0), Crew(gpus=-1), Crew(gpus=1.5), Crew(gpus=float("nan"))])
def test_numbers_that_cannot_be_are_refused(crew):
    with pytest.raises(InputError):
        crew.check()


def test_a_machine_without_the_data_is_named(tmp_path):
    with pytest.raises(
        InputError, match=r"The worker on .* cannot read .*scan.nii.gz \(No such file .*\): the data has"
    ):
        check_here([tmp_path / "scan.nii.gz"])
