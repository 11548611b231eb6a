"""Sessions on four replicas: each at one, which stays, and goes on at another one when its own is killed."""

from __future__ import annotations

import os
import signal
import threading
import time

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from napari_sammed.backend.local import LocalBackend
from napari_sammed.backend.remote import RemoteBackend
from napari_sammed.prompts import MaskPrompt, Point, Prompts
from napari_sammed.session import Session
from tests.remote.test_failures import conversation
from tests.server.serving import Client, answer_of, ask, code, until, volume

pytestmark = pytest.mark.full

CLICK = (5, 12, 14)


def together(count: int, work) -> list:
    """What several threads give, in order."""
    found: list = [None] * count
    start = threading.Barrier(count)

    def one(number: int) -> None:
        start.wait()
        try:
            found[number] = work(number)
        except BaseException as error:
            found[number] = error

    threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors := [item for item in found if isinstance(item, BaseException)]:
        raise errors[0]
    return found


def opened(url: str, number: int = 0) -> Client:
    client = Client(url)
    client.open(volume(number % 3))
    client.click(CLICK)
    return client


def test_eight_who_open_one_image_at_once_have_a_session_at_one_replica_each(running, client, image):
    client.send(image)
    clients = together(8, lambda number: opened(running.url))
    owners = [running.owners(client.session) for client in clients]
    assert all(len(found) == 1 for found in owners), owners
    counts = {pid: sum(o == [pid] for o in owners) for (pid,) in owners}
    assert len(counts) == 4 and max(counts.values()) - min(counts.values()) <= 2, counts


def test_sixty_sessions_stay_where_they_are(running):
    clients = [opened(running.url, number) for number in range(60)]
    before = {client.session: running.owners(client.session) for client in clients}
    assert all(len(found) == 1 for found in before.values())
    spread = [sum(found == [p.pid] for found in before.values()) for p in running.replicas]
    assert max(spread) - min(spread) <= 4, spread
    for _ in range(2):
        for client in clients:
            client.click(CLICK)
    assert {client.session: running.owners(client.session) for client in clients} == before
    assert all(client.revision == 3 and len(client.journal()) == 3 for client in clients)


def test_a_busy_replica_keeps_its_session(running):
    """Slow questions of one session, and quick ones of it and of others meanwhile."""
    client = opened(running.url)
    before = running.owners(client.session)
    slow = [(n, ask(CLICK, model="slow")) for n in range(6)]

    def work(number: int):
        if number < 6:
            other = Client(running.url)
            other.session = client.session
            return other.post("preview", slow[number][1]).status_code
        opened(running.url, number)
        return running.owners(client.session)

    found = together(8, work)
    assert set(found[:6]) <= {200, 409, 425} and found[6:] == [before, before]
    assert running.owners(client.session) == before


def test_what_is_unknown_is_never_begun_anew(running, client):
    client.open(volume())
    for unknown in ("0" * 48, "x" * 20, "%2e%2e"):
        reply = client.post("predict", ask(CLICK), unknown)
        assert (reply.status_code, code(reply)) == (409, "rehydrate")
    for path in ("/v1/jobs/" + "0" * 48 + "/events", "/v1/jobs/.."):
        assert client.http.get(path).status_code in (404, 405)
    assert code(client.http.delete("/v1/requests/" + "0" * 32)) == "not_found"
    assert code(client.http.post("/v1/sessions", json={"image": "0" * 64})) == "no_image"


def test_metrics_of_all_replicas_and_of_the_ingress_are_told_apart(running, client):
    client.open(volume())
    client.click(CLICK)
    families = {f.name: f for f in text_string_to_metric_families(client.http.get("/v1/metrics").text)}
    sessions = {s.labels["replica"]: s.value for s in families["napari_sammed_sessions"].samples}
    assert len(sessions) == 4 and sum(sessions.values()) >= 1 and "ingress" not in sessions
    served = [s for s in families["napari_sammed_requests"].samples if s.labels["replica"] == "ingress"]
    assert any(s.labels["route"] == "/v1/sessions/{session}/predict" and s.value >= 1 for s in served)


def test_replicas_answer_nobody_but_the_ingress(running):
    ports = {c.laddr.port for p in running.replicas for c in p.net_connections("tcp") if c.status == "LISTEN"}
    asked = 0
    for port in ports:
        try:
            reply = httpx.get(f"http://127.0.0.1:{port}/v1/models", headers={"x-sammed-cluster": "0" * 64}, timeout=3)
        except httpx.HTTPError:  # one of Ray's own ports
            continue
        assert reply.status_code == 403
        asked += 1
    assert asked == 4


def test_a_replica_that_is_killed_costs_nobody_anything(running):
    """Others lose nothing; its own sessions go on elsewhere, with the same masks; and nobody moves after that."""
    image, here = volume(), LocalBackend("cpu")
    plain = Session(image, here)
    expected = conversation(plain)
    plain.close()
    here.shutdown()
    others = [opened(running.url, number) for number in range(12)]
    before = {client.session: running.owners(client.session) for client in others}
    journals = {path.stem for path in (running.data / "sessions").glob("*.jsonl")}
    backend = RemoteBackend(running.url, consent=True)
    mine = Session(image, backend)
    steps, waits, victims = [0], [], []

    def kill() -> None:
        """Before the third of the questions, the replica of this session."""
        steps[0] += 1
        if steps[0] == 3:
            (session,) = {path.stem for path in (running.data / "sessions").glob("*.jsonl")} - journals
            (victim,) = running.owners(session)
            victims.append(victim)
            os.kill(victim, signal.SIGKILL)
            waits.append(time.monotonic())
        elif steps[0] == 4:
            waits.append(time.monotonic())

    for found, mask in zip(conversation(mine, kill), expected, strict=True):
        np.testing.assert_array_equal(found, mask)
    assert waits[1] - waits[0] < 10, "the next mask after the kill"
    mine.close()
    backend.shutdown()

    lost = [client for client in others if before[client.session] == victims]
    kept = [client for client in others if before[client.session] != victims]
    assert lost and kept
    for client in kept:  # without a single retry
        client.click(CLICK)
        assert running.owners(client.session) == before[client.session]
    for client in lost:
        client.click(CLICK)
        (owner,) = running.owners(client.session)
        assert owner != victims[0]
    for client in others:
        assert client.revision == 2 and [f.header["revision"] for f in client.journal()] == [1, 2]

    until(lambda: len(running.replicas) == 4, 60)  # the replacement joins
    time.sleep(4)
    settled = {client.session: running.owners(client.session) for client in others}
    assert all(settled[client.session] == before[client.session] for client in kept)
    for client in others:
        client.click(CLICK)
    assert {client.session: running.owners(client.session) for client in others} == settled
    newest = opened(running.url)
    assert running.owners(newest.session)[0] not in {pid for found in settled.values() for pid in found}


def test_a_propagation_comes_to_its_end_when_its_replica_is_killed(running, remote, local, image):
    journals = {path.stem for path in (running.data / "sessions").glob("*.jsonl")}
    opened_image = remote.open(image)
    anchor = local.predict(image.hash, "planar", Prompts((Point(CLICK),)))
    known = MaskPrompt(anchor.mask, anchor.box.low)
    victims = []

    def partial(_: object) -> None:
        if not victims:
            (session,) = {path.stem for path in (running.data / "sessions").glob("*.jsonl")} - journals
            victims.extend(running.owners(session))
            os.kill(victims[0], signal.SIGKILL)

    found = remote.propagate(opened_image, "slow", [known], 0, partial=partial)
    expected = local.propagate(image.hash, "slow", [known], 0)
    assert victims and found.box == expected.box and np.array_equal(found.mask, expected.mask)
    remote.close(opened_image)
    until(lambda: len(running.replicas) == 4, 60)


def insist(client: Client, question):
    """Prediction and revision, asked for again for as long as the server says to come back."""
    while (reply := client.post("predict", question)).status_code in (429, 503):
        time.sleep(float(reply.headers["retry-after"]))
    return answer_of(reply, question.request_id)


def test_a_question_that_was_under_way_is_answered_once(running):
    """The replica is killed while it computes: the same request id is asked again, and counts once."""
    client = opened(running.url)
    for number in range(3):
        (victim,) = running.owners(client.session)
        question = ask(CLICK, revision=client.revision)
        killing = threading.Timer(0.01 * number, os.kill, (victim, signal.SIGKILL))
        killing.start()
        insist(client, question)
        killing.join()  # perhaps only after the answer: then it is the same question again that meets nobody
        assert insist(client, question)[1] == client.revision + 1
        client.revision += 1
        until(lambda: len(running.replicas) == 4, 60)
    assert [f.header["revision"] for f in client.journal()] == [1, 2, 3, 4]


def test_the_ingress_that_is_killed_finds_the_sessions_again(running):
    clients = [opened(running.url, number) for number in range(8)]
    before = {client.session: running.owners(client.session) for client in clients}
    (ingress,) = [p for p in running.processes if "napari-sammed:ingress" in " ".join(p.cmdline())]
    ingress.kill()

    def works() -> bool:
        try:
            return httpx.get(f"{running.url}/v1/health", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    until(lambda: not works(), 10)
    until(works, 60)
    for client in clients:
        later = Client(running.url)
        later.session, later.revision = client.session, 1
        later.click(CLICK)
    assert {client.session: running.owners(client.session) for client in clients} == before
    image = volume()
    with RemoteSession(running.url, image) as session:
        session.add(Point(CLICK), model="random-walker").result(60)
        assert session.labels().any()


class RemoteSession:
    """A session at a server, as users have it."""

    def __init__(self, url: str, image) -> None:
        self._backend = RemoteBackend(url, consent=True)
        self._session = Session(image, self._backend)

    def __enter__(self) -> Session:
        return self._session

    def __exit__(self, *_: object) -> None:
        self._session.close()
        self._backend.shutdown()
