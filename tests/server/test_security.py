"""Who may come in: keys, names, origins; what belongs to whom; and what the log knows."""

from __future__ import annotations

import ast
import asyncio
import re
import stat
from pathlib import Path

import numpy as np
import pytest

import napari_sammed.server
from napari_sammed.backend.protocol.questions import Question
from napari_sammed.cli import main
from napari_sammed.errors import InputError
from napari_sammed.prompts import MaskPrompt
from napari_sammed.server import images, keys, sessions
from napari_sammed.server.guard import Guard
from napari_sammed.server.keys import Client as Owner
from napari_sammed.server.keys import Doorkeeper, KeyRing, add_key
from napari_sammed.server.refusals import refusal_of
from napari_sammed.server.settings import Settings
from tests.server.serving import Client, ask, code, in_thread, process, volume

INSIDE = (5, 12, 14)
CODE = Path(napari_sammed.server.__file__).parent


@pytest.fixture(scope="module")
def locked(tmp_path_factory, backend):
    """The address of a server with keys, and the keys of two people."""
    folder = tmp_path_factory.mktemp("locked")
    mine, other = add_key(folder / "keys", "me"), add_key(folder / "keys", "other")
    with in_thread(Settings(folder / "data", key_file=folder / "keys"), backend) as address:
        yield address, mine, other, folder


ROUTES = [
    ("GET", "/v1/health"),
    ("GET", "/v1/info"),
    ("GET", "/v1/metrics"),
    ("GET", "/v1/models"),
    ("GET", "/v1/openapi.json"),
    ("HEAD", "/v1/images/{image}"),
    ("PUT", "/v1/images/{image}"),
    ("POST", "/v1/sessions"),
    ("GET", "/v1/sessions/{session}"),
    ("DELETE", "/v1/sessions/{session}"),
    ("GET", "/v1/sessions/{session}/journal"),
    ("POST", "/v1/sessions/{session}/predict"),
    ("POST", "/v1/sessions/{session}/preview"),
    ("POST", "/v1/sessions/{session}/jobs"),
    ("POST", "/v1/sessions/{session}/prefetch"),
    ("POST", "/v1/sessions/{session}/restore"),
    ("GET", "/v1/jobs/{session}/events"),
    ("POST", "/v1/jobs/{session}/stop"),
    ("DELETE", "/v1/jobs/{session}"),
    ("DELETE", "/v1/requests/{session}"),
]


def test_these_are_all_the_routes(locked):
    address, mine, _, _ = locked
    client = Client(address, mine)
    described = client.http.get("/v1/openapi.json").json()["paths"]
    found = {(method.upper(), re.sub(r"{\w+}", "*", path)) for path, item in described.items() for method in item}
    assert found == {(m, re.sub(r"{\w+}", "*", path)) for m, path in ROUTES} - {("GET", "/v1/openapi.json")}


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "127.0.0.1.evil.example"},
        {"host": "evil.example:8765"},
        {"host": "192.168.0.7"},
        {"host": ""},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost:3000"},
        {"origin": "https://127.0.0.1"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
    ids=lambda headers: " ".join(f"{k} {v}" for k, v in headers.items()),
)
def test_web_pages_are_kept_out_of_every_route(locked, headers):
    address, mine, _, _ = locked
    client = Client(address, mine)
    session = client.open(volume())
    for method, path in ROUTES:
        path = path.format(image=volume(9).hash, session=session)
        reply = client.http.request(method, path, headers=headers, json={} if method == "POST" else None)
        assert reply.status_code == 403, (method, path)
        assert not [name for name in reply.headers if name.startswith("access-control")]
    assert client.http.get(f"/v1/sessions/{session}").json()["revision"] == 0


def test_no_page_is_told_that_it_may(locked):
    address, mine, _, _ = locked
    ask_first = {"origin": "http://evil.example", "access-control-request-method": "POST"}
    reply = Client(address, mine).http.options("/v1/sessions", headers=ask_first)
    assert reply.status_code == 403 and not [name for name in reply.headers if name.startswith("access-control")]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_what_pages_may_send_unasked_is_not_taken(locked, kind):
    address, mine, _, _ = locked
    reply = Client(address, mine).http.post("/v1/sessions", content=b'{"image": "00"}', headers={"content-type": kind})
    assert reply.status_code == 415


def test_without_a_key_nothing_is_told_but_that_the_server_works(locked):
    address, mine, _, _ = locked
    said = set()
    for wrong in (None, "x", mine[:-1], mine + "x", mine.upper()):
        client = Client(address, wrong)
        assert client.http.get("/v1/health").json() == {"status": "ok"}
        reply = client.http.get("/v1/info")
        assert reply.status_code in (401, 429)
        said.add(reply.text)
    assert len(said) == 1, "no hint of what was wrong"
    for header in ({"authorization": mine}, {"authorization": f"Basic {mine}"}):
        assert Client(address).http.get("/v1/info", headers=header).status_code == 401
    assert Client(address, mine).http.get("/v1/info").status_code == 200


def test_what_belongs_to_one_key_is_not_there_for_another(locked):
    address, mine, other, _ = locked
    owner, thief = Client(address, mine), Client(address, other)
    thief.session = owner.open(volume())
    _, question = owner.click(INSIDE)
    assert len(owner.session) * 4 >= 128
    for method, path in ROUTES:
        if "/sessions/{session}" in path:
            path = path.format(session=owner.session)
            if method == "POST":
                continue
            assert thief.http.request(method, path).status_code == 404, path
    for what in ("predict", "preview"):
        reply = thief.post(what, ask(INSIDE, revision=1))
        assert (reply.status_code, code(reply)) == (404, "not_found")
    start = Question(
        "propagate", "planar", {"anchors": [MaskPrompt(np.ones((1, 2, 2), bool), INSIDE)], "axis": 0}, revision=1
    )
    assert thief.post("jobs", start).status_code == 404
    hint = {"model": "planar", "regions": [[[3, 0, 0], [4, 24, 28]]], "window": {"kind": "soft-tissue", "values": []}}
    assert thief.http.post(f"/v1/sessions/{owner.session}/prefetch", json=hint).status_code == 404
    reference = {"logits": [question.request_id, 0, 0]}
    assert thief.http.post(f"/v1/sessions/{owner.session}/restore", json=reference).status_code == 404
    assert thief.http.delete(f"/v1/requests/{question.request_id}").status_code == 404
    assert owner.http.get(f"/v1/sessions/{owner.session}").json()["revision"] == 1


def test_ids_are_random_and_long(locked):
    address, mine, _, _ = locked
    client = Client(address, mine)
    ids = {client.open(volume()) for _ in range(10)}
    assert len(ids) == 10 and all(re.fullmatch("[0-9a-f]{48}", id) for id in ids)


def test_a_thousand_wrong_keys_wait_from_the_twentieth_and_others_are_not_locked_out(tmp_path):
    mine, new = add_key(tmp_path / "keys", "me"), add_key(tmp_path / "keys", "new")

    async def works(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b""})

    door = Guard(works, Settings(tmp_path, key_file=tmp_path / "keys"), KeyRing(tmp_path / "keys"), refusal_of)

    def knock(key: str, path: str = "/v1/info") -> tuple[int, dict]:
        sent = []
        headers = [(b"host", b"localhost"), (b"authorization", f"Bearer {key}".encode())]
        scope = {"type": "http", "method": "GET", "path": path, "scheme": "http", "headers": headers}
        scope |= {"query_string": b""}

        async def send(message):
            sent.append(message)

        asyncio.run(door(scope | {"client": ("10.0.0.1", 5)}, lambda: None, send))
        return sent[0]["status"], dict(sent[0]["headers"])

    assert knock(mine)[0] == 200
    assert [knock(f"guess-{n}")[0] for n in range(1000)] == [401] * 19 + [429] * 981
    assert knock(mine)[0] == 200, "a key that is known from there goes on working"
    status, headers = knock(new)
    assert status == 429 and int(headers[b"retry-after"]) > 0, "or the one right guess would show"
    assert knock("", "/v1/health")[0] == 200


def test_the_doorkeeper_forgets_in_time():
    now = [0.0]
    keeper = Doorkeeper(20, 60, clock=lambda: now[0])
    assert not any(keeper.wait("a", None) for _ in range(19))
    assert keeper.wait("a", None) > 50 and not keeper.wait("b", None)
    assert keeper.wait("a", Owner("x", "1")) > 0
    now[0] = 61
    assert not keeper.wait("a", None) and not keeper.wait("a", Owner("x", "1"))


def test_a_key_that_is_taken_out_of_the_file_is_of_no_use(locked):
    address, mine, _, folder = locked
    gone = add_key(folder / "keys", "gone")
    client = Client(address, gone)
    assert client.http.get("/v1/info").status_code == 200
    lines = (folder / "keys").read_text().splitlines(keepends=True)
    (folder / "keys").write_text("".join(line for line in lines if not line.startswith("gone ")))
    assert client.http.get("/v1/info").status_code == 401
    assert Client(address, mine).http.get("/v1/info").status_code == 200


def test_keys_are_kept_as_hashes_that_only_their_owner_can_read(tmp_path):
    key = add_key(tmp_path / "new" / "keys", "somebody")
    text = (tmp_path / "new" / "keys").read_text()
    assert key not in text and len(key) > 40
    assert stat.S_IMODE((tmp_path / "new" / "keys").stat().st_mode) == 0o600
    assert KeyRing(tmp_path / "new" / "keys").owner(key).name == "somebody"
    for name in ("somebody", "", "a b", "x" * 65, "../x", "a\nb sha256:" + "0" * 64):
        with pytest.raises(InputError):
            add_key(tmp_path / "new" / "keys", name)


def test_keys_and_owners_are_compared_in_constant_time():
    for module in (keys, sessions):
        tree = ast.parse(Path(module.__file__).read_text())
        compared = [ast.unparse(n) for n in ast.walk(tree) if isinstance(n, ast.Call)]
        assert any(call.startswith("hmac.compare_digest(") for call in compared)
    for node in ast.walk(ast.parse(Path(keys.__file__).read_text())):
        if isinstance(node, ast.Compare) and any(isinstance(op, ast.Eq | ast.NotEq) for op in node.ops):
            assert "digest" not in ast.unparse(node) and "key" not in ast.unparse(node).split()


def test_nothing_is_unpickled_here():
    for path in CODE.rglob("*.py"):
        assert not re.search(r"pickle|allow_pickle|torch\.load|yaml\.load|\beval\(|\bexec\(", path.read_text()), path


@pytest.mark.parametrize(
    "options",
    [
        ["--host", "0.0.0.0"],
        ["--host", "::"],
        ["--host", "192.168.1.5"],
        ["--tls-cert", "absent.pem"],
        ["--tls-cert", "absent.pem", "--tls-key", "absent.pem"],
        ["--port", "99999"],
        ["--model-weights", "medsam"],
        ["--keep", "0"],
        ["--host", "300.1.1.1", "--insecure"],
    ],
)
def test_an_unsafe_or_impossible_server_does_not_start(tmp_path, options, capsys):
    assert main(["serve", "--data", str(tmp_path / "data"), "--port", "0", *options]) == 2
    assert capsys.readouterr().err.startswith("napari-sammed: ")


def test_an_empty_key_file_lets_nobody_start(tmp_path, capsys):
    (tmp_path / "keys").write_text("# nobody\n")
    assert main(["serve", "--data", str(tmp_path / "data"), "--port", "0", "--key-file", str(tmp_path / "keys")]) == 2
    assert "no key" in capsys.readouterr().err


def test_where_others_can_reach_it_a_key_is_made_and_shown_once(tmp_path):
    with process(tmp_path / "data", "--host", "0.0.0.0", "--insecure", "--device", "cpu") as server:
        address = server.url.replace("0.0.0.0", "127.0.0.1")
        assert Client(address).http.get("/v1/info").status_code == 401
        status, printed = server.stop()
        key = printed.strip()
        assert status == 0 and key.startswith("nsk_") and key not in server.text and "INSECURE" in server.text
    assert stat.S_IMODE((tmp_path / "data" / "keys").stat().st_mode) == 0o600
    with process(tmp_path / "data", "--host", "0.0.0.0", "--insecure", "--device", "cpu") as server:
        address = server.url.replace("0.0.0.0", "127.0.0.1")
        assert Client(address, key).http.get("/v1/info").status_code == 200
        known = {"host": "10.1.2.3:80"}, {"host": "some.name"}
        assert [Client(address, key).http.get("/v1/health", headers=h).status_code for h in known] == [200, 403]
        assert server.stop()[1] == "", "it is not shown again"


def test_nothing_of_patients_or_requests_is_in_logs_or_on_disk(tmp_path):
    canaries = ["DOE^JANE", "1.2.840.113619.2.55", "19570331", "/home/jane/scans"]
    with process(tmp_path / "data", "--device", "cpu") as server:
        client = Client(server.url)
        session = client.open(volume())
        _, question = client.click(INSIDE)
        for canary in canaries:
            client.http.get(f"/v1/images/{canary}", headers={"user-agent": canary, "x-patient": canary})
            client.http.get(f"/v1/{canary}?name={canary}", headers={"referer": canary})
            client.http.post("/v1/sessions", json={"image": canary, "patient": canary})
            client.http.post(f"/v1/sessions/{session}/predict", json={canary: canary})
            client.http.post(f"/v1/sessions/{session}/predict", json={"kind": canary, "model": canary})
            client.http.request(canary.replace("/", "").upper().replace("^", "")[:9] or "X", "/v1/info")
        assert server.stop()[0] == 0
        log = server.text
    written = b"".join(path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file())
    for canary in canaries:
        assert canary not in log and canary.encode() not in written
    assert session not in log and question.request_id not in log and volume().hash not in log
    assert "127.0.0.1" not in log.split("Ctrl-C", 1)[1]
    assert len(re.findall(r"INFO \w+ /v1/sessions/{session}/predict 200 \d+ ms", log)) == 1


def test_names_of_files_are_made_of_checked_ids_only(locked):
    address, mine, _, folder = locked
    client = Client(address, mine)
    hostile = [
        f"{start}{middle}{end}"
        for start in ("..", "../..", "..\\", "%2e%2e", "/", "//server/share/", "C:\\", ".", "~", "\u202e", "")
        for middle in ("/etc/passwd", "%2f", "%00", "CON", "NUL.txt", "a" * 4096)
        for end in ("", "/", ".jsonl")
    ]
    assert len(hostile) >= 198
    before = sorted(path.relative_to(folder) for path in folder.rglob("*"))
    for name in hostile:
        reply = client.http.get(f"/v1/sessions/{name}")
        assert 400 <= reply.status_code < 500, (name, reply.status_code)
        reply = client.http.post("/v1/sessions", json={"image": name})
        assert 400 <= reply.status_code < 500, (name, reply.status_code)
    assert sorted(path.relative_to(folder) for path in folder.rglob("*")) == before
    for pattern in (images._ID, sessions._ID):
        assert not any(pattern.fullmatch(name) for name in hostile)
