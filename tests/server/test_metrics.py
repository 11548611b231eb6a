"""What a server tells Prometheus: the numbers move as it is used, and say nothing of who used it."""

from __future__ import annotations

import re
import threading

import pytest
from prometheus_client.parser import text_string_to_metric_families

from napari_sammed.backend.local import LocalBackend
from napari_sammed.backend.protocol.questions import Question
from napari_sammed.server.keys import add_key
from napari_sammed.server.settings import Settings
from tests.server.serving import Client, ask, code, in_thread, until, volume
from tests.thresholder import Thresholder

INSIDE = (5, 12, 14)


class Halting(Thresholder):
    """Answers when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()
        self.go_on.set()

    def decode(self, *asked):
        assert self.go_on.wait(20)
        return super().decode(*asked)


@pytest.fixture(scope="module")
def model():
    return Halting()


@pytest.fixture(scope="module")
def watched(tmp_path_factory, model):
    """The address of a server with keys, and two of them."""
    folder = tmp_path_factory.mktemp("watched")
    keys = add_key(folder / "keys", "jane.doe"), add_key(folder / "keys", "other")
    backend = LocalBackend("cpu", models={"thresholder": model})
    with in_thread(Settings(folder / "data", key_file=folder / "keys"), backend) as address:
        yield address, *keys


@pytest.fixture
def jane(watched):
    client = Client(watched[0], watched[1])
    yield client
    client.close()


def numbers(client: Client) -> dict[str, float]:
    """By name and labels, as in ``cache_hits_total cache=answers``, without the package's name in front."""
    reply = client.http.get("/v1/metrics")
    assert reply.status_code == 200 and reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = {}
    for family in text_string_to_metric_families(reply.text):
        for sample in family.samples:
            labels = [f"{key}={value}" for key, value in sorted(sample.labels.items())]
            found[" ".join([sample.name.removeprefix("napari_sammed_"), *labels])] = sample.value
    return found


def moved(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    return {name: value - before.get(name, 0) for name, value in after.items() if value != before.get(name, 0)}


def test_they_need_a_key(watched):
    assert Client(watched[0]).http.get("/v1/metrics").status_code == 401


def test_requests_bytes_work_and_caches_are_counted(jane):
    before, image = numbers(jane), volume(1)
    jane.open(image)
    _, question = jane.click(INSIDE, model="thresholder")
    jane.click(INSIDE, (1, 1, 1), previous=question.request_id, model="thresholder")
    steps = moved(before, numbers(jane))
    session = "/v1/sessions/{session}"
    assert steps[f"requests_total method=POST route={session}/predict status=200"] == 2
    assert steps["requests_total method=PUT route=/v1/images/{image} status=201"] == 1
    assert steps["requests_total method=GET route=/v1/metrics status=200"] == 1
    assert steps["received_bytes_total"] > 0 and steps["sent_bytes_total"] > 0
    assert (steps["images"], steps["images_bytes"], steps["sessions"]) == (1, image.nbytes, 1)
    assert steps["waiting_seconds_count kind=predict"] == steps["computing_seconds_count kind=predict"] == 2
    assert steps["computing_seconds_sum kind=predict"] > 0
    assert steps["cache_hits_total cache=answers"] == 1, "the second click started from the first one's logits"
    assert steps["cache_hits_total cache=embeddings"] == 1 and steps["cache_misses_total cache=embeddings"] == 1
    assert steps["cache_bytes cache=embeddings"] > 0 and steps["cache_bytes cache=answers"] > 0
    jane.http.delete(f"/v1/sessions/{jane.session}")
    steps = moved(before, numbers(jane))
    assert "sessions" not in steps and "cache_bytes cache=answers" not in steps


def test_queues_and_jobs_stand_as_they_are(jane, model):
    jane.open(volume(2))
    other = Client(jane.url, jane.http.headers["authorization"].removeprefix("Bearer "))
    other.open(volume(2))
    model.go_on.clear()
    clicks = [
        threading.Thread(target=who.click, args=(INSIDE,), kwargs={"model": "thresholder"}) for who in (jane, other)
    ]
    try:
        for click in clicks:
            click.start()
        watching = Client(jane.url, jane.http.headers["authorization"].removeprefix("Bearer "))
        until(lambda: numbers(watching)["waiting lane=clicks"] == 1)
        assert numbers(watching)["working lane=clicks"] == 1
        refine = Question(
            "refine", "thresholder", {"region": volume(2).grid.box, "prompts": ask(INSIDE).arguments["prompts"]}
        )
        reply = watching.post("jobs", refine, jane.session)
        assert reply.status_code == 202
        assert numbers(watching)["jobs_running"] == 1
        until(lambda: numbers(watching)["working lane=jobs"] == 1)
    finally:
        model.go_on.set()
        for click in clicks:
            click.join()
    jane.events(reply.json()["job"])
    found = numbers(watching)
    assert (found["jobs_running"], found["waiting lane=clicks"], found["working lane=clicks"]) == (0, 0, 0)
    assert found["computing_seconds_count kind=refine"] == 1


def test_refusals_are_counted_by_their_code(jane):
    jane.open(volume(1))
    before = numbers(jane)
    assert code(jane.post("predict", ask(INSIDE, revision=7))) == "stale"
    assert jane.http.get("/v1/nothing").status_code == 404
    assert jane.http.get("/v1/info", headers={"host": "evil.example"}).status_code == 403
    steps = moved(before, numbers(jane))
    refused = {name: value for name, value in steps.items() if name.startswith("refusals_total")}
    assert refused == {f"refusals_total code={c}": 1 for c in ("stale", "not_found", "forbidden_origin")}


def test_there_are_few_series_and_nobody_is_in_them(watched, jane):
    jane.open(volume(3))
    before = set(numbers(jane))
    for number in range(50):
        jane.http.get(f"/v1/nothing/{number}")
        jane.http.get(f"/v1/sessions/{number:048x}")
        jane.http.request(f"ODD{number}", "/v1/info")
    new = {name for name in set(numbers(jane)) - before if "_created" not in name}
    assert len(new) <= 8, "unknown routes and methods are one series a status"
    text = jane.http.get("/v1/metrics").text
    for secret in ("jane", watched[1], jane.session, volume(3).hash, "127.0.0.1", "nothing/"):
        assert secret not in text
    assert not re.search("[0-9a-f]{32}", text)


def test_servers_in_one_process_count_apart(tmp_path, jane):
    with in_thread(Settings(tmp_path), LocalBackend("cpu")) as address:
        found = numbers(Client(address))
    assert (
        found["images"] == 0 and sum(value for name, value in found.items() if name.startswith("requests_total")) == 0
    )
