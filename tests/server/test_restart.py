"""What is left of sessions when the server is killed, restarted, or puts them aside."""

from __future__ import annotations

import json
import signal
import threading
import time
from dataclasses import replace

import httpx
import numpy as np
import pytest

from napari_sammed.backend.local import LocalBackend
from napari_sammed.backend.protocol.questions import Question
from napari_sammed.backend.protocol.values import LogitsReference
from napari_sammed.prompts import Point, Prompts
from napari_sammed.server.settings import Limits, Settings
from tests.server.serving import Client, answer_of, ask, code, in_thread, process, until, volume
from tests.thresholder import Ambiguous, Thresholder

CLICKS = [(5, 12, 14), (5, 14, 12), (3, 10, 15), (6, 9, 13), (4, 15, 16)]


def uninterrupted(image, model="random-walker", backend=None):
    """The masks of clicks one after the other, each starting from the one before, of the backend itself."""
    backend = backend or LocalBackend("cpu")
    backend.open(image)
    masks, previous = [], None
    for number in range(len(CLICKS)):
        prompts = Prompts(tuple(map(Point, CLICKS[: number + 1])))
        answer = backend.predict(image.hash, model, prompts, previous=previous)
        masks.append((answer.box, answer.mask))
        previous = answer.logits
    backend.shutdown()
    return masks


def same(answer, expected):
    box, mask = expected
    assert answer.box == box and np.array_equal(answer.mask, mask)


def test_a_session_goes_on_after_kill_9_with_the_same_masks(tmp_path):
    image = volume()
    expected = uninterrupted(image)
    with process(tmp_path / "data", "--device", "cpu") as server:
        client = Client(server.url)
        session = client.open(image)
        same(client.click(CLICKS[0])[0], expected[0])
        second, last = client.click(*CLICKS[:2])
        same(second, expected[1])
        server.kill()
    with process(tmp_path / "data", "--device", "cpu") as server:
        client = Client(server.url)
        client.session, client.revision = session, 2
        same(client.click(*CLICKS[:3], previous=last.request_id)[0], expected[2])
        again, revision = client.predict(last)
        same(again, expected[1])
        assert revision == 2 and client.revision == 3
        assert server.stop(signal.SIGINT)[0] == 0


def models():
    return LocalBackend("cpu", models={"ambiguous": Ambiguous(), "thresholder": Thresholder()})


def test_a_restart_computes_again_what_an_answer_builds_on(tmp_path):
    image, settings = volume(), Settings(tmp_path)
    expected = uninterrupted(image, "ambiguous", models())
    previous = session = None
    for number in range(len(CLICKS)):
        with in_thread(settings, models()) as url:
            client = Client(url)
            client.session = session = session or client.open(image)
            client.revision = number
            answer, question = client.click(*CLICKS[: number + 1], previous=previous, model="ambiguous")
            same(answer, expected[number])
            previous = question.request_id


def test_a_torn_last_line_is_dropped(tmp_path):
    with in_thread(Settings(tmp_path), models()) as url:
        client = Client(url)
        client.open(volume())
        client.click(CLICKS[0])
        _, second = client.click(CLICKS[1])
    (journal,) = (tmp_path / "sessions").glob("*.jsonl")
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-7])
    with in_thread(Settings(tmp_path), models()) as url:
        later = Client(url)
        assert later.http.get(f"/v1/sessions/{client.session}").json()["revision"] == 1
        later.session = client.session
        assert later.predict(second)[1] == 2, "the one whose line was torn is asked again, and counts once"
    assert len(journal.read_bytes()) == len(whole) and json.loads(journal.read_bytes().splitlines()[-1])


def test_a_damaged_journal_or_a_lost_image_is_told_and_not_begun_anew(tmp_path):
    with in_thread(Settings(tmp_path), models()) as url:
        client = Client(url)
        first, second = client.open(volume()), client.open(volume(1))
    (tmp_path / "sessions" / f"{first}.jsonl").write_text('{"napari-sammed session": 1, "image": "0"}\nnonsense\n')
    for path in (tmp_path / "images" / volume(1).hash).iterdir():
        path.unlink()
    with in_thread(Settings(tmp_path), models()) as url:
        later = Client(url)
        for session in (first, second):
            assert code(later.post("predict", ask(CLICKS[0]), session)) == "rehydrate"
        assert later.send(volume(1)).status_code == 201
        later.session, later.revision = second, 0
        later.click(CLICKS[0])


def test_other_weights_than_then_are_no_base_for_an_answer(tmp_path):
    with in_thread(Settings(tmp_path), models()) as url:
        client = Client(url)
        client.open(volume())
        _, first = client.click(CLICKS[0], model="ambiguous")
    changed = Ambiguous()
    changed.weights_hash = "others"
    with in_thread(Settings(tmp_path), LocalBackend("cpu", models={"ambiguous": changed})) as url:
        later = Client(url)
        later.session = client.session
        reply = later.post("predict", ask(*CLICKS[:2], revision=1, previous=first.request_id, model="ambiguous"))
        assert (reply.status_code, code(reply)) == (409, "rehydrate")


def test_rehydration_on_another_server_gives_the_same_masks(tmp_path):
    image = volume()
    expected = uninterrupted(image, "ambiguous", models())
    asked = []
    with in_thread(Settings(tmp_path / "one"), models()) as url:
        client = Client(url)
        client.open(image)
        for number in range(3):
            previous = asked[-1].request_id if asked else None
            asked.append(client.click(*CLICKS[: number + 1], previous=previous, model="ambiguous")[1])
    with in_thread(Settings(tmp_path / "two"), models()) as url:
        later = Client(url)
        assert code(later.post("predict", asked[-1], client.session)) == "rehydrate"
        later.open(image)
        for number, question in enumerate(asked):  # with the request ids that they had
            answer, later.revision = later.predict(question.at(number))
            same(answer, expected[number])
        same(later.click(*CLICKS[:4], previous=asked[-1].request_id, model="ambiguous")[0], expected[3])


def test_a_lease_ends_without_losing_anything(tmp_path, monkeypatch):
    monkeypatch.setattr("napari_sammed.server.core._ROUND", 0.05)
    limits = replace(Limits(), idle=0.2)
    backend = models()
    with in_thread(Settings(tmp_path, limits=limits), backend) as url:
        client = Client(url)
        client.open(volume())
        _, first = client.click(CLICKS[0], model="ambiguous")
        until(lambda: not backend._images)
        expected = uninterrupted(volume(), "ambiguous", models())
        same(client.click(*CLICKS[:2], previous=first.request_id, model="ambiguous")[0], expected[1])


def test_answers_are_computed_again_where_memory_for_them_is_short(tmp_path):
    expected = uninterrupted(volume(), "ambiguous", models())
    with in_thread(Settings(tmp_path, limits=replace(Limits(), answers=1)), models()) as url:
        client, previous = Client(url), None
        client.open(volume())
        for number in range(3):
            answer, question = client.click(*CLICKS[: number + 1], previous=previous, model="ambiguous")
            same(answer, expected[number])
            previous = question.request_id
        reading = Question(
            "predict",
            "ambiguous",
            {"prompts": Prompts((Point(CLICKS[0]),))},
            revision=3,
            previous=LogitsReference(previous, 0, 9),
        )
        assert code(client.post("predict", reading)) == "bad_request"


class Slow(Thresholder):
    """Takes a while for a click, and can be told to go on."""

    def __init__(self):
        super().__init__()
        self.begun, self.go_on = threading.Event(), threading.Event()

    def decode(self, embedding, prompts, previous):
        self.begun.set()
        self.go_on.wait(20)
        return super().decode(embedding, prompts, previous)


def test_a_stop_in_order_sends_the_answers_under_way(tmp_path):
    slow = Slow()
    with in_thread(Settings(tmp_path), LocalBackend("cpu", models={"slow": slow})) as url:
        client = Client(url)
        client.open(volume())
        question, replies = ask(CLICKS[0], model="slow"), []
        thread = threading.Thread(target=lambda: replies.append(client.post("predict", question)))
        thread.start()
        assert slow.begun.wait(10)
        time.sleep(1.2)  # until it is a stream
        assert httpx.get(f"{url}/v1/health").json() == {"status": "ok"}
        slow.go_on.set()
    thread.join(10)
    assert answer_of(replies[0], question.request_id)[1] == 1


@pytest.mark.parametrize("how", ["leave", "delete"])
def test_a_click_that_is_called_off_leaves_no_trace(tmp_path, how):
    slow = Slow()
    with in_thread(Settings(tmp_path), LocalBackend("cpu", models={"slow": slow})) as url:
        client, other = Client(url), Client(url)
        client.open(volume())
        question = ask(CLICKS[0], model="slow")
        if how == "leave":
            client.http.timeout = 0.5
            with pytest.raises(httpx.TimeoutException):
                client.post("predict", question)
            until(lambda: "/predict" in other.http.get("/v1/metrics").text)  # the server has noticed, and ended it
        else:
            replies = []
            thread = threading.Thread(target=lambda: replies.append(client.post("predict", question)))
            thread.start()
            assert slow.begun.wait(10)
            assert other.http.delete(f"/v1/requests/{question.request_id}").status_code == 204
            thread.join(10)
            assert replies[0].status_code == 409 and code(replies[0]) == "cancelled"
        slow.go_on.set()
        time.sleep(0.2)
        assert other.http.get(f"/v1/sessions/{client.session}").json()["revision"] == 0
        assert other.http.delete(f"/v1/requests/{question.request_id}").status_code == 404
        other.session = client.session
        assert other.predict(question)[1] == 1
