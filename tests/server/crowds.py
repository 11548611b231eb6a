"""Many clients at once, with faults: what default tests do in small numbers, and `soak` in large ones."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence

import httpx
import numpy as np

from napari_sammed.backend.local import LocalBackend
from napari_sammed.backend.protocol.questions import Question
from napari_sammed.server.asking import digest
from tests.server.flood import Flood
from tests.server.serving import Client, answer_of, ask, refusal_of, volume

CENTRE = np.array((5, 12, 14))


def somewhere(rng: random.Random) -> tuple[int, ...]:
    """A voxel in the ball of `volume`."""
    return tuple(int(c + rng.randint(-2, 2)) for c in CENTRE)


def one_session_of_many(url: str, clients: int, prompts: int, model: str, backend: LocalBackend) -> dict[str, int]:
    """Clients that all write to one session; checks that there is one order of what was answered.

    Returns
    -------
    dict of str to int
        How many questions were answered, and how many refused as stale.
    """
    first = Client(url)
    session = first.open(volume())
    seen: dict[str, str] = {}
    counts = {"answered": 0, "stale": 0, "other": 0}
    lock = threading.Lock()

    def work(number: int) -> None:
        rng, client, revision = random.Random(number), Client(url), 0
        for _ in range(prompts):
            while True:
                question = ask(somewhere(rng), revision=revision, model=model)
                reply = client.post("predict", question, session)
                refusal = refusal_of(reply)
                if refusal is not None and refusal["code"] == "stale":
                    revision = refusal["revision"]
                    with lock:
                        counts["stale"] += 1
                    continue
                with lock:
                    if refusal is None:
                        answer, revision = answer_of(reply, question.request_id)
                        seen[question.request_id] = digest(answer)
                        counts["answered"] += 1
                    else:
                        counts["other"] += 1
                break

    _together(clients, work)
    journal = first.journal()
    assert [frame.header["revision"] for frame in journal] == list(range(1, clients * prompts + 1))
    backend.open(volume())
    for frame in journal:
        question = Question.from_frame(frame)
        mine = backend.predict(volume().hash, model, **question.arguments)
        assert digest(mine) == seen[question.request_id], "the journal replays to what was answered"
    assert counts["other"] == 0
    return counts


def retries(url: str, calls: int, share: float, model: str) -> int:
    """Questions of which some are cut off after they were sent, and asked again; the journal has each once.

    Returns
    -------
    int
        How many times a connection was cut off.
    """
    rng, client, cut = random.Random(3), Client(url), 0
    client.open(volume())
    ids = []
    for number in range(calls):
        question = ask(somewhere(rng), revision=number, model=model)
        ids.append(question.request_id)
        while rng.random() < share:
            cut += 1
            hasty = Client(url, timeout=rng.choice([0.002, 0.01, 0.03, 0.1]))
            hasty.session = client.session
            try:
                hasty.post("predict", question)
            except httpx.TransportError:
                pass
            finally:
                hasty.close()
        _, revision = client.predict(question)
        assert revision == number + 1
    assert [frame.header["request_id"] for frame in client.journal()] == ids
    return cut


def neighbours(
    url: str, normal: int, clicks: int, flood: int, model: str, pause: float, keys: Sequence[str | None] = (None,)
) -> dict[str, float]:
    """Seconds of clicks at the 95th percentile, of one client alone and of several beside one that floods.

    Each has its own key, as far as there are some; that of the one that floods is the first.

    Returns
    -------
    dict of str to float
        "alone", "beside", "health" (99th percentile), "flooded" (questions answered), "lost" (of the normal clients).
    """

    def clicking(number: int, times: list[float]) -> None:
        rng, client = random.Random(number), Client(url, keys[(number + 1) % len(keys)])
        client.open(volume(number))
        for _ in range(clicks):
            time.sleep(rng.uniform(0, 2 * pause))
            before = time.perf_counter()
            client.click(somewhere(rng), model=model)
            times.append(time.perf_counter() - before)

    alone: list[float] = []
    clicking(100, alone)
    beside: list[float] = []
    health: list[float] = []
    over = threading.Event()

    def asking() -> None:
        with httpx.Client(base_url=url, trust_env=False) as http:
            while not over.is_set():
                before = time.perf_counter()
                assert http.get("/v1/health").status_code == 200
                health.append(time.perf_counter() - before)
                time.sleep(0.02)

    flooding = Flood(url, keys[0], volume(200), [tuple(map(int, CENTRE))], flood, model)
    while flooding.answered < flood:  # so that all of them ask by now
        time.sleep(0.05)
    watcher = threading.Thread(target=asking)
    watcher.start()
    try:
        _together(normal, lambda number: clicking(number, beside))
    finally:
        over.set()
        watcher.join()
        flooding.end()
    clicking(101, alone)  # before and after, since other programs are on the machine
    return {
        "alone": float(np.percentile(alone, 95)),
        "beside": float(np.percentile(beside, 95)),
        "health": float(np.percentile(health, 99)),
        "flooded": flooding.answered,
        "lost": normal * clicks - len(beside),
    }


def _together(count: int, work) -> None:
    errors: list[BaseException] = []

    def careful(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=careful, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
