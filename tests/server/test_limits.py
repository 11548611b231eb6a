"""What is too large, too deep, too slow or not what it says costs the server nothing, and others go on."""

from __future__ import annotations

import logging
import random
import resource
import socket
import struct
import sys
import threading
import time
import zlib
from dataclasses import replace

import numpy as np
import pytest

from napari_sammed.backend.protocol import FRAMES
from napari_sammed.backend.protocol.frames import Frame
from napari_sammed.backend.protocol.images import ImageHeader, image_frames
from napari_sammed.geometry import Grid
from napari_sammed.server.settings import MIB, Limits, Settings
from napari_sammed.volume import Volume
from tests.server.serving import (
    Client,
    ask,
    code,
    connect,
    frame_of,
    image_header,
    in_thread,
    mutated,
    until,
    volume,
)

SMALL = replace(Limits(), image=8 * MIB, request=2 * MIB, silence=1.5, rate=1e6, connections=40)
CLICK = (5, 12, 14)


@pytest.fixture(scope="module")
def url(tmp_path_factory, backend):
    with in_thread(Settings(tmp_path_factory.mktemp("server"), limits=SMALL), backend) as address:
        yield address


def bombs() -> list[tuple[str, bytes]]:
    zeros = zlib.compress(bytes(200 * MIB), 9)
    entry = {"dtype": "|u1", "shape": [len(zeros)], "encoding": "zlib", "bytes": len(zeros)}
    declared = [
        {**entry, "shape": [200 * MIB]},
        {**entry, "shape": [8]},
        {**entry, "shape": [1 << 40]},
        {**entry, "shape": [1 << 20, 1 << 20, 1 << 20]},
        {**entry, "dtype": "|b1", "encoding": "bits+zlib", "shape": [1600 * MIB]},
        {**entry, "dtype": "<f8", "encoding": "shuffle+zlib", "shape": [25 * MIB]},
    ]
    whole = image_header((64, 128, 256))
    found = [
        (f"slab {n}", frame_of(whole) + frame_of({"slab": 0, "arrays": [e]}, zeros)) for n, e in enumerate(declared)
    ]
    found += [(f"first {n}", frame_of({"arrays": [e]}, zeros)) for n, e in enumerate(declared)]
    many = [{**entry, "shape": [1], "bytes": 0}] * 20_000
    found += [("many arrays", frame_of({"arrays": many})), ("long header", b"NSF1" + struct.pack("<I", 1 << 31))]
    found += [
        (f"image {shape}", frame_of(image_header(shape)))
        for shape in [(1 << 12, 1 << 12, 1 << 12), (9, 1 << 20, 1 << 10)]
    ]
    return found


@pytest.mark.parametrize(("name", "body"), bombs(), ids=lambda value: value if isinstance(value, str) else "")
def test_a_bomb_is_refused_before_it_takes_memory(client, name, body):
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    reply = client.http.put(f"/v1/images/{'0' * 64}", content=body, headers={"content-type": FRAMES})
    assert reply.status_code in (400, 413), reply.text
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak
    assert grown * (1 if sys.platform == "darwin" else 1024) < 64 * MIB
    assert client.http.head(f"/v1/images/{'0' * 64}").status_code == 404


def test_mutated_headers_of_images_are_refused(client, count=150):
    rng = random.Random(7)
    for number in range(count):
        body = mutated(rng)
        reply = client.http.put(f"/v1/images/{'0' * 64}", content=body, headers={"content-type": FRAMES})
        assert 400 <= reply.status_code < 500, (number, body, reply.text)
    client.open(volume())
    client.click(CLICK)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"[" * 500_000, 400),
        (b'{"a":' * 100 + b"1" + b"}" * 100, 400),
        (b'{"image": NaN}', 400),
        (b'{"image": ' + b"9" * 100_000 + b"}", 400),
        (b'{"image": "' + b"x" * (3 * MIB) + b'"}', 413),
        (b'{"image": "' + b"x" * MIB + b'"}', 413),
        (b"\xff\xfe", 400),
        (b"", 400),
        (b'"text"', 400),
        (b'{"image": ["00"]}', 400),
    ],
    ids=[
        "deep list",
        "deep object",
        "nan",
        "long number",
        "too large",
        "large json",
        "no text",
        "empty",
        "text",
        "list",
    ],
)
def test_json_has_bounds(client, body, status):
    reply = client.http.post("/v1/sessions", content=body, headers={"content-type": "application/json"})
    assert reply.status_code == status, reply.text
    assert reply.json()["error"]["code"] in ("bad_request", "too_large")


def test_deep_frames_are_refused(client):
    client.open(volume())
    deep: dict = {}
    for _ in range(40):
        deep = {"a": deep}
    reply = client.http.post(
        f"/v1/sessions/{client.session}/predict",
        content=Frame({**ask(CLICK).to_frame().header, "arguments": deep}).encode(),
        headers={"content-type": FRAMES},
    )
    assert (reply.status_code, code(reply)) == (400, "bad_request")


def test_long_heads_are_refused(url):
    with connect(url) as line:
        line.sendall(b"GET /v1/health HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 40_000 + b"\r\n\r\n")
        assert line.recv(100).split()[1] in (b"400", b"431")


@pytest.mark.parametrize("start", [b"", b"GET /v1/health HTTP/1.1\r\nHost: loc"], ids=["silent", "half a head"])
def test_who_asks_nothing_is_not_waited_for(url, start):
    with connect(url) as line:
        line.sendall(start)
        before = time.monotonic()
        assert line.recv(100) == b""
        assert time.monotonic() - before < 10


@pytest.mark.parametrize("drip", [0, 100], ids=["stopped", "dripping"])
def test_a_slow_body_is_not_waited_for_and_leaves_nothing(url, client, drip):
    header = frame_of(image_header((64, 64, 64)))
    with connect(url) as line:
        line.sendall(
            f"PUT /v1/images/{'0' * 64} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {FRAMES}\r\n"
            "Content-Length: 500000\r\n\r\n".encode()
            + header
        )
        answered: list[bytes] = []
        thread = threading.Thread(target=lambda: answered.append(line.recv(100)))
        thread.start()
        end = time.monotonic() + 10
        while drip and not answered and time.monotonic() < end:
            line.sendall(bytes(drip))
            time.sleep(0.1)
        thread.join(10)
        assert answered[0].split()[1] == b"408"
    assert client.http.get("/v1/health").status_code == 200


@pytest.mark.parametrize("count", [90, pytest.param(300, marks=pytest.mark.full)])
def test_a_flood_of_connections_keeps_nobody_out(url, client, count):
    client.open(volume())
    lines = []
    try:
        for number in range(count):
            lines.append(connect(url))
            if (number + 1) % (count // 3) == 0:
                client.http.close()
                client.http = Client(url).http
                client.click(CLICK)
        until(lambda: sum(_closed(line) for line in lines) >= count - SMALL.connections)
    finally:
        for line in lines:
            line.close()
    assert client.revision == 3


def _closed(line: socket.socket) -> bool:
    line.setblocking(False)
    try:
        return line.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def test_an_image_over_the_limit_is_refused_before_it_is_sent(client):
    large = volume(0, (40, 400, 400))
    reply = client.send(large)
    assert (reply.status_code, code(reply)) == (413, "too_large")
    assert "8388608" in reply.json()["error"]["message"]


@pytest.mark.parametrize("cut", [0, 1, 7, 100, -1])
def test_an_image_that_is_cut_off_leaves_nothing(client, cut):
    image = volume(20 + cut)
    body = b"".join(data for data, _ in image_frames(image, ImageHeader.of(image)))[:cut]
    reply = client.http.put(f"/v1/images/{image.hash}", content=body, headers={"content-type": FRAMES})
    assert reply.status_code == 400
    assert client.http.head(f"/v1/images/{image.hash}").status_code == 404
    assert client.send(image).status_code == 201


def test_who_leaves_in_the_middle_leaves_nothing_and_is_no_defect(url, client, caplog):
    caplog.set_level(logging.INFO)
    image = volume(30, (40, 64, 64))
    body = b"".join(data for data, _ in image_frames(image, ImageHeader.of(image)))
    with connect(url) as line:
        line.sendall(
            f"PUT /v1/images/{image.hash} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {FRAMES}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body[: len(body) // 2]
        )
    until(lambda: any("PUT /v1/images/{image} 409" in record.getMessage() for record in caplog.records))
    assert not any("defect" in record.getMessage() for record in caplog.records)
    assert client.http.head(f"/v1/images/{image.hash}").status_code == 404


@pytest.mark.parametrize("value", [np.nan, np.inf, 5.0])
def test_images_that_no_model_can_use_are_refused_with_the_reason(client, value):
    array = np.full((4, 40, 40), 5, np.float32)
    array[1, 2, 3] = value
    reply = client.send(Volume(array, Grid.plain(array.shape)))
    assert (reply.status_code, code(reply)) == (422, "invalid")
    assert "NaN" in reply.text or "same value" in reply.text
