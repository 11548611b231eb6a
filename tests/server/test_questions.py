"""What is asked of a server, and what it answers: the same as the backend itself, once, in order."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from napari_sammed.backend.local import LocalBackend
from napari_sammed.backend.protocol import cards, events
from napari_sammed.backend.protocol.frames import Frame
from napari_sammed.backend.protocol.questions import Question
from napari_sammed.backend.protocol.values import LogitsReference
from napari_sammed.geometry import Box
from napari_sammed.prompts import MaskPrompt, Point, Prompts
from napari_sammed.server.jobs import Jobs
from napari_sammed.server.keys import Client as Owner
from napari_sammed.server.refusals import Refusal, refusal_of
from napari_sammed.server.settings import Settings
from tests.server.serving import Client, answer_of, ask, code, in_thread, volume
from tests.thresholder import Ambiguous, Thresholder

INSIDE, BESIDE = (5, 12, 14), (5, 14, 12)


@pytest.fixture(scope="module")
def local():
    models = {"thresholder": Thresholder(), "planar": Thresholder(planar=True), "ambiguous": Ambiguous()}
    backend = LocalBackend("cpu", models=models)
    backend.open(volume())
    yield backend
    backend.shutdown()


def same(one, other):
    assert (one.box, one.scope, one.model) == (other.box, other.scope, other.model)
    assert one.weights_hash == other.weights_hash
    assert np.array_equal(one.mask, other.mask)


@pytest.mark.parametrize("model", ["random-walker", "thresholder", "planar", "ambiguous"])
def test_a_click_is_answered_as_by_the_backend_itself(client, image, local, model):
    client.open(image)
    found, _ = client.click(INSIDE, model=model)
    expected = local.predict(image.hash, model, Prompts((Point(INSIDE),)))
    same(found, expected)
    assert found.mask.any() and client.revision == 1
    assert [r.score for r in found.readings] == pytest.approx([r.score for r in expected.readings])


def test_a_question_may_start_from_any_reading_of_an_earlier_answer(client, image, local):
    client.open(image)
    first, question = client.click(INSIDE, model="ambiguous")
    assert len(first.readings) == 3
    mine = local.predict(image.hash, "ambiguous", Prompts((Point(INSIDE),)))
    for reading in (0, 2):
        prompts = Prompts((Point(INSIDE), Point(BESIDE)))
        reference = LogitsReference(question.request_id, 0, reading)
        asked = Question("predict", "ambiguous", {"prompts": prompts}, revision=client.revision, previous=reference)
        found, client.revision = client.predict(asked)
        same(found, local.predict(image.hash, "ambiguous", prompts, previous=mine.readings[reading].logits))


def test_another_revision_is_refused_and_named(client, image):
    client.open(image)
    client.click(INSIDE)
    late = client.post("predict", ask(INSIDE, revision=0))
    assert (late.status_code, code(late), late.json()["error"]["revision"]) == (409, "stale", 1)
    assert client.http.get(f"/v1/sessions/{client.session}").json()["revision"] == 1


def test_a_question_asked_again_is_answered_again_and_counted_once(client, image):
    client.open(image)
    question = ask(INSIDE, revision=0)
    first, revision = client.predict(question)
    again, same_revision = client.predict(question)
    same(again, first)
    assert revision == same_revision == 1
    (entry,) = client.journal()
    assert entry.header["revision"] == 1 and Question.from_frame(entry).request_id == question.request_id
    assert client.journal(after=1) == []


def test_one_request_id_stands_for_one_question(client, image):
    client.open(image)
    _, question = client.click(INSIDE)
    other = Question("predict", "random-walker", {"prompts": Prompts((Point(BESIDE),))}, question.request_id, 0)
    assert code(client.post("predict", other)) == "bad_request"


def test_only_the_difference_to_a_base_is_sent(client, image):
    client.open(image)
    first, question = client.click(INSIDE)
    asked = ask(INSIDE, BESIDE, revision=1).at(1, question.request_id)
    reply = client.post("predict", asked)
    frame = Frame.decode(reply.content, 1 << 28)
    assert "changed" in frame.header["answers"][0]
    found = events.read_answers(frame, asked.request_id, first)[0]
    whole, _ = answer_of(client.post("predict", asked.at(1)), asked.request_id)
    same(found, whole)


def test_a_preview_changes_nothing(client, image):
    client.open(image)
    found, _ = answer_of(client.post("preview", ask(INSIDE)), "0" * 16)
    assert found.mask.any()
    assert client.http.get(f"/v1/sessions/{client.session}").json()["revision"] == 0
    unknown = client.post("preview", ask(INSIDE, previous="f" * 16))
    assert (unknown.status_code, code(unknown)) == (425, "not_ready")


def test_what_is_lost_is_said_to_be_and_never_begun_anew(client, image):
    client.open(image)
    gone = client.post("predict", ask(INSIDE), session="0" * 48)
    assert (gone.status_code, code(gone)) == (409, "rehydrate")
    lost = client.post("predict", ask(INSIDE, previous="f" * 16))
    assert (lost.status_code, code(lost)) == (409, "rehydrate")
    assert code(client.http.post("/v1/sessions", json={"image": "0" * 64})) == "no_image"


@pytest.mark.parametrize(
    ("arguments", "model", "status"),
    [
        ({"prompts": Prompts((Point((5, 12, 99)),))}, "random-walker", 422),
        ({"prompts": Prompts((Point((5, 12)),))}, "random-walker", 422),
        ({"prompts": Prompts((Point(INSIDE),))}, "no-such", 422),
        ({"prompts": Prompts((Point(INSIDE),))}, "medsam", 424),
        ({"prompts": Prompts((Point(INSIDE),)), "region": Box((0, 0, 0), (99, 1, 1))}, "random-walker", 422),
        ({"prompts": Prompts()}, "random-walker", 422),
    ],
)
def test_what_cannot_be_asked_is_refused_with_a_sentence(client, image, arguments, model, status):
    client.open(image)
    reply = client.post("predict", Question("predict", model, arguments, revision=0))
    assert reply.status_code == status
    assert len(reply.json()["error"]["message"]) > 20
    assert client.http.get(f"/v1/sessions/{client.session}").json()["revision"] == 0


def test_jobs_tell_and_end_with_the_answer_of_the_backend(client, image, local):
    client.open(image)
    anchor = local.predict(image.hash, "planar", Prompts((Point(INSIDE),)))
    known = MaskPrompt(anchor.mask, anchor.box.low)
    question = Question("propagate", "planar", {"anchors": [known], "axis": 0})
    reply = client.post("jobs", question)
    assert reply.status_code == 202, reply.text
    told = client.events(reply.json()["job"])
    assert [frame.header["number"] for frame in told] == list(range(1, len(told) + 1))
    assert {"partial", "result"} <= {frame.header["event"] for frame in told}
    same(events.read_answers(told[-1], question.request_id)[0], local.propagate(image.hash, "planar", [known], 0))
    again = client.post("jobs", question).json()["job"]
    assert again == reply.json()["job"]
    assert [f.header for f in client.events(again, after=len(told) - 1)] == [told[-1].header]


def test_clicks_go_on_from_boxes_that_were_asked_together(client, image, local):
    client.open(image)
    boxes = [Box((5, 6, 7), (6, 18, 21)), Box((4, 6, 7), (5, 18, 21))]
    question = Question("predict_boxes", "planar", {"boxes": boxes})
    told = client.events(client.post("jobs", question).json()["job"])
    answers = events.read_answers(told[-1], question.request_id)
    for mine, found in zip(local.predict_boxes(image.hash, "planar", boxes), answers, strict=True):
        same(found, mine)
    reference = LogitsReference(question.request_id, 1)
    asked = Question("predict", "planar", {"prompts": Prompts((boxes[1],))}, revision=0, previous=reference)
    assert client.predict(asked)[1] == 1


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("refine", {"region": Box((2, 4, 4), (8, 20, 24)), "prompts": Prompts((Point(INSIDE),))}),
        ("refine", {"region": Box((50, 4, 4), (58, 20, 24))}),
        ("automatic", {}),
        ("propagate", {"anchors": [MaskPrompt(np.ones((2, 2, 2), bool), (0, 0, 0))], "axis": 0}),
        ("propagate", {"anchors": [MaskPrompt(np.ones((1, 2, 2), bool), (0, 0, 0))], "axis": 7}),
        ("propagate", {"anchors": [MaskPrompt(np.ones((1, 2, 2), bool), (0, 0, 0))], "axis": 0, "only": [99]}),
    ],
)
def test_jobs_end_with_an_answer_or_a_sentence(client, image, kind, arguments):
    client.open(image)
    reply = client.post("jobs", Question(kind, "planar", arguments))
    if reply.status_code != 202:
        assert code(reply) == "invalid"
        return
    last = client.events(reply.json()["job"])[-1].header
    assert last["event"] == "result" or last["error"]["code"] == "invalid", last


def test_logits_come_back_on_the_image_grid(client, image, local):
    client.open(image)
    _, question = client.click(INSIDE)
    reply = client.http.post(f"/v1/sessions/{client.session}/restore", json={"logits": [question.request_id, 0, 0]})
    mine = local.predict(image.hash, "random-walker", Prompts((Point(INSIDE),)))
    expected = local.restore("random-walker", mine.logits)
    (found,) = Frame.decode(reply.content, 1 << 28).arrays
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)
    assert (expected != expected.astype(np.float16)).any()
    wrong = client.http.post(f"/v1/sessions/{client.session}/restore", json={"logits": [question.request_id, 3, 0]})
    assert code(wrong) == "bad_request"


def test_images_are_kept_once_and_refused_when_they_are_not_what_they_say(client):
    image = volume(3)
    assert client.http.head(f"/v1/images/{image.hash}").status_code == 404
    assert client.send(image).status_code == 201
    assert client.http.head(f"/v1/images/{image.hash}").status_code == 200
    assert client.send(image).status_code == 200
    other = volume(1)
    vars(other)["hash"] = "0" * 64
    reply = client.send(other)
    assert (reply.status_code, code(reply)) == (400, "bad_request")
    assert client.http.head(f"/v1/images/{'0' * 64}").status_code == 404


def test_a_hint_is_taken_and_a_session_ends(client, image):
    client.open(image)
    hint = {"model": "planar", "regions": [[[3, 0, 0], [4, 24, 28]]], "window": {"kind": "soft-tissue", "values": []}}
    assert client.http.post(f"/v1/sessions/{client.session}/prefetch", json=hint).status_code == 202
    hint["regions"] = [[[3, 0, 0], [4, 24, 99]]]
    assert client.http.post(f"/v1/sessions/{client.session}/prefetch", json=hint).status_code == 422
    assert client.http.delete(f"/v1/sessions/{client.session}").status_code == 204
    assert code(client.post("predict", ask(INSIDE))) == "rehydrate"


def test_models_that_can_answer_are_listed(client):
    said = client.http.get("/v1/models").json()
    found = [cards.card_from_json(item) for item in said["models"]]
    assert {"random-walker", "thresholder", "planar"} <= {card.name for card in found} & set(said["installed"])


def test_models_that_were_handed_over_are_listed_also_those_without_prompts(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_SAMMED_CACHE", str(tmp_path / "none"))
    backend = LocalBackend("cpu", weights={"samed": [tmp_path / "epoch_159.pth"], "medsam": [tmp_path / "medsam.pth"]})
    with in_thread(Settings(tmp_path), backend) as address:
        said = Client(address).http.get("/v1/models").json()
    names = [item["name"] for item in said["models"]]
    assert {"samed", "medsam", "random-walker"} <= set(names) and "sam-vit-b" not in names
    assert "samed" not in said["installed"], "that list is of models for prompts"


def test_a_job_that_was_called_off_is_not_begun_by_a_request_that_comes_late(client, image):
    client.open(image)
    region = {"region": image.grid.box, "prompts": Prompts((Point(INSIDE),))}
    question = Question("refine", "thresholder", region)
    job = client.post("jobs", question).json()["job"]
    client.events(job)
    assert client.post("jobs", question).json()["job"] == job, "the same request is the same job"
    slow = Question("propagate", "planar", {"anchors": [anchor(image)], "axis": 0})
    started = client.post("jobs", slow).json()["job"]
    assert client.http.delete(f"/v1/jobs/{started}").status_code == 204
    last = client.events(started)[-1].header
    late = client.post("jobs", slow)
    if last["event"] == "result":  # it was faster
        assert late.status_code == 202
    else:
        assert last["error"]["code"] == "cancelled" and (late.status_code, code(late)) == (409, "cancelled")
    again = client.post("jobs", Question("propagate", "planar", slow.arguments))
    assert client.events(again.json()["job"])[-1].header["event"] == "result"


def anchor(image) -> MaskPrompt:
    return MaskPrompt(image.array[5:6] > 350, (5, 0, 0))


def test_a_request_that_was_called_off_is_remembered_when_its_job_is_forgotten():
    async def run() -> None:
        jobs, owner, begun = Jobs(0.0, 1000, refusal_of), Owner("me", "1"), []

        async def work(job) -> Frame:
            begun.append(job)
            await asyncio.sleep(60)

        jobs.cancel(jobs.start(owner, "s", "request", work))
        for _ in range(3):
            await asyncio.sleep(0.01)
            jobs.sweep()
        assert jobs.running == 0
        with pytest.raises(Refusal, match="ask again under a new request id") as refused:
            jobs.start(owner, "s", "request", work)
        assert refused.value.failure.code == "cancelled"
        count = len(begun)
        jobs.start(Owner("other", "2"), "s", "request", work)
        await asyncio.sleep(0.01)
        assert len(begun) == count + 1, "that of somebody else is another one"
        await jobs.close()

    asyncio.run(run())
