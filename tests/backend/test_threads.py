"""The inference thread, the latest-wins queue and the embedding cache."""

from __future__ import annotations

import threading
import time
from concurrent.futures import CancelledError, wait
from dataclasses import dataclass

import pytest

from napari_sammed.backend.cache import ByteCache
from napari_sammed.backend.inference import InferenceThread, Priority
from napari_sammed.backend.latest import LatestWins
from napari_sammed.errors import Cancelled


def test_clicks_go_before_slices_and_those_before_what_may_be_wanted():
    inference = InferenceThread()
    gate, order = threading.Event(), []
    inference.submit(lambda: gate.wait(5), Priority.CLICK)
    futures = [
        inference.submit(lambda name=name: order.append(name), priority)
        for name, priority in [
            ("ahead", Priority.AHEAD),
            ("slice 1", Priority.STEP),
            ("slice 2", Priority.STEP),
            ("click", Priority.CLICK),
        ]
    ]
    gate.set()
    for future in futures:
        future.result(5)
    assert order == ["click", "slice 1", "slice 2", "ahead"]
    inference.stop()


def test_all_work_runs_on_the_same_thread():
    inference = InferenceThread("napari-sammed-of-this-test")
    threads = {inference.run(threading.get_ident, Priority.CLICK) for _ in range(5)}
    nested = inference.run(lambda: inference.run(threading.get_ident, Priority.CLICK), Priority.CLICK)
    assert threads == {nested} != {threading.get_ident()}
    inference.stop()
    assert "napari-sammed-of-this-test" not in {t.name for t in threading.enumerate()}


def test_errors_and_cancelling_reach_the_caller():
    inference = InferenceThread()
    with pytest.raises(ZeroDivisionError):
        inference.run(lambda: 1 / 0, Priority.CLICK)
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        inference.run(lambda: 1, Priority.CLICK, cancel)
    assert inference.run(lambda: 2, Priority.CLICK) == 2
    inference.stop()


def test_newer_work_supersedes_older_of_its_key_only():
    queue = LatestWins("test-latest")
    gate, done = threading.Event(), []

    def work(name):
        def run(cancel):
            if name == "a1":
                gate.wait(5)
            if cancel.is_set():
                raise Cancelled
            done.append(name)
            return name

        return run

    first = queue.submit("a", work("a1"))
    while not first.running():
        time.sleep(0.005)
    a2, b1, a3 = queue.submit("a", work("a2")), queue.submit("b", work("b1")), queue.submit("a", work("a3"))
    gate.set()
    assert (a3.result(5), b1.result(5)) == ("a3", "b1")
    with pytest.raises(Cancelled):
        first.result(5)
    with pytest.raises(CancelledError):
        a2.result(5)
    assert sorted(done) == ["a3", "b1"]
    queue.close()
    assert not queue.busy


@dataclass
class Thing:
    nbytes: int


def test_the_cache_stays_within_its_bytes_and_drops_the_longest_unused():
    cache: ByteCache[Thing] = ByteCache(100)
    for name in "abcd":
        cache.put((name,), Thing(30))
        cache.get(("b",))
    assert [name for name in "abcd" if (name,) in cache] == ["b", "c", "d"]
    assert cache.nbytes == 90
    cache.put(("big",), Thing(101))
    assert ("big",) not in cache and cache.nbytes == 90
    cache.put(("b",), Thing(10))
    assert cache.nbytes == 70
    cache.discard("b")
    assert ("b",) not in cache and cache.nbytes == 60


def test_nobody_waits_for_ever_for_what_was_dropped_before_its_turn():
    queue, gate = LatestWins("test-latest"), threading.Event()
    queue.submit("first", lambda _: gate.wait(5))
    dropped = [queue.submit(key, lambda _: None) for key in ("superseded", "cancelled", "stopped")]
    queue.submit("superseded", lambda _: None)
    queue.cancel("cancelled")
    queue.stop_all()
    try:
        assert not wait(dropped, 0).not_done
        assert all(future.cancelled() for future in dropped)
    finally:
        gate.set()
        queue.close()
