"""Servers for tests: real HTTP on loopback, in a process of their own or, where that adds nothing, in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np

from napari_sammed.backend.local import LocalBackend
from napari_sammed.backend.protocol import FRAMES, events
from napari_sammed.backend.protocol.frames import Frame, read_frames
from napari_sammed.backend.protocol.images import ImageHeader, image_frames
from napari_sammed.backend.protocol.questions import Question
from napari_sammed.backend.protocol.values import LogitsReference
from napari_sammed.geometry import Grid
from napari_sammed.prompts import Point, Prompts
from napari_sammed.server.core import Core
from napari_sammed.server.keys import KeyRing
from napari_sammed.server.listening import PatientServer, listen
from napari_sammed.server.running import configuration
from napari_sammed.server.settings import Settings
from napari_sammed.volume import Volume

LIMIT = 1 << 28


def volume(seed: int = 0, shape: tuple[int, ...] = (10, 24, 28)) -> Volume:
    """A bright ball in noise, on an anisotropic grid."""
    random = np.random.default_rng(seed)
    centre = np.array(shape)[:, None, None, None] / 2
    away = np.sqrt((((np.indices(shape) - centre) / (np.array(shape)[:, None, None, None] / 3.5)) ** 2).sum(0))
    voxels = (100 * (away < 1) + random.normal(0, 12, shape) + 300).astype(np.int16)
    return Volume(voxels, Grid.plain(shape, (2.5, 0.8, 0.7)))


class Client:
    """Talks to a server as the protocol says, without what `RemoteBackend` adds."""

    def __init__(self, url: str, key: str | None = None, timeout: float = 60) -> None:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        self.http = httpx.Client(base_url=url, headers=headers, timeout=timeout, trust_env=False)
        self.url = url
        self.session = ""
        self.revision = 0

    def send(self, image: Volume) -> httpx.Response:
        header = ImageHeader.of(image)
        content = (data for data, _ in image_frames(image, header))
        return self.http.put(f"/v1/images/{header.id}", content=content, headers={"content-type": FRAMES})

    def open(self, image: Volume) -> str:
        while (sent := self.send(image)).status_code == 429:  # others send theirs just now
            time.sleep(float(sent.headers["retry-after"]))
        assert sent.status_code in (200, 201), sent.text
        reply = self.http.post("/v1/sessions", json={"image": image.hash})
        assert reply.status_code == 201, reply.text
        self.session, self.revision = reply.json()["session"], reply.json()["revision"]
        return self.session

    def post(self, what: str, question: Question, session: str | None = None) -> httpx.Response:
        return self.http.post(
            f"/v1/sessions/{session or self.session}/{what}",
            content=question.to_frame().encode(),
            headers={"content-type": FRAMES},
        )

    def predict(self, question: Question):
        """The prediction, and the revision; the last event if it is an error."""
        return answer_of(self.post("predict", question), question.request_id)

    def click(self, *indices: tuple[int, ...], previous: str | None = None, model: str = "random-walker"):
        """Click at the present revision, and note the new one."""
        question = ask(*indices, revision=self.revision, previous=previous, model=model)
        found, self.revision = self.predict(question)
        return found, question

    def events(self, job: str, after: int = 0) -> list[Frame]:
        return list(read_frames([self.http.get(f"/v1/jobs/{job}/events", params={"after": after}).content], LIMIT))

    def journal(self, after: int = 0) -> list[Frame]:
        reply = self.http.get(f"/v1/sessions/{self.session}/journal", params={"after": after})
        return list(read_frames([reply.content], LIMIT))

    def close(self) -> None:
        self.http.close()


def ask(*indices: tuple[int, ...], revision: int = 0, previous: str | None = None, model: str = "random-walker"):
    """A question of clicks, of which those with a minus sign in front (of the first index) are outside."""
    prompts = Prompts(tuple(Point(index) for index in indices))
    reference = None if previous is None else LogitsReference(previous)
    return Question("predict", model, {"prompts": prompts}, revision=revision, previous=reference)


def answer_of(reply: httpx.Response, request_id: str):
    """Prediction and revision of a reply that is an answer."""
    assert reply.status_code == 200, reply.text
    last = list(read_frames([reply.content], LIMIT))[-1]
    assert last.header["event"] == "result", last.header
    return events.read_answers(last, request_id)[0], events.read_revision(last)


def refusal_of(reply: httpx.Response) -> dict | None:
    """The error that a reply says, at once or as the last event; None for an answer."""
    if reply.status_code != 200:
        return reply.json()["error"]
    return list(read_frames([reply.content], LIMIT))[-1].header.get("error")


def code(reply: httpx.Response) -> str:
    """The code of a refusal."""
    return reply.json()["error"]["code"]


@contextlib.contextmanager
def in_thread(settings: Settings, backend: LocalBackend | None = None) -> Iterator[str]:
    """A server in this process, and its address."""
    listening = listen(settings.host, 0)
    settings = replace(settings, port=listening.getsockname()[1])
    servers: list[PatientServer] = []
    ready = threading.Event()

    async def run() -> None:
        core = Core(settings, backend)
        keys = None if settings.keys is None else KeyRing(settings.keys)
        servers.append(PatientServer(configuration(core, keys), settings.limits))
        ready.set()
        await servers[0].serve([listening])

    def in_loop() -> None:
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            runner.run(run())

    thread = threading.Thread(target=in_loop, daemon=True)
    thread.start()
    assert ready.wait(20)
    until(lambda: servers[0].started)
    try:
        yield settings.url
    finally:
        servers[0].should_exit = True
        thread.join(20)
        assert not thread.is_alive()


class Process:
    """A server in a process of its own, started by its command.

    Attributes
    ----------
    url : str
    printed : str
        On stdout: the key that was made.
    """

    def __init__(self, data: Path, *options: str) -> None:
        self.log = data.parent / f"{data.name}.log"
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with self.log.open("ab") as log:
            start = self.log.stat().st_size
            self.process = subprocess.Popen(
                [sys.executable, "-m", "napari_sammed.cli", "serve", "--port", "0", "--data", str(data), *options],
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                text=True,
            )
        until(lambda: b"Ctrl-C" in self.log.read_bytes()[start:] or self.process.poll() is not None, 60)
        found = re.findall(r"serves at (\S+)", self.text[start:])
        assert found, self.text
        self.url = found[-1]

    @property
    def text(self) -> str:
        return self.log.read_text()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """End it in order; its exit status, and what it printed."""
        self.process.send_signal(number)
        printed, _ = self.process.communicate(timeout=30)
        return self.process.returncode, printed


@contextlib.contextmanager
def process(data: Path, *options: str) -> Iterator[Process]:
    """A server in a process of its own, which ends with the block."""
    server = Process(data, *options)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.kill()


def until(true, seconds: float = 20) -> None:
    """Wait for something."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.02)


def frame_of(header: dict, payload: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return b"NSF1" + struct.pack("<I", len(text)) + text + payload


def image_header(shape, dtype="<i2", **changes) -> dict:
    header = ImageHeader("0" * 64, Grid.plain(shape), np.dtype(dtype)).to_frame().header
    header["image"].update(changes)
    return header


def mutated(rng: random.Random) -> bytes:
    """The header of an image, with something wrong."""
    odd = [
        0,
        -1,
        1,
        2**31,
        2**63,
        2**64,
        1e308,
        -0.5,
        None,
        True,
        "",
        "x" * 3000,
        [],
        {},
        [[]],
        [0],
        [1, 2],
        "<i2",
        "|O",
    ]
    header = image_header((4, 5, 6))["image"]
    for _ in range(rng.randint(1, 3)):
        key = rng.choice([*header, "other"])
        value = header.get(key)
        if isinstance(value, list) and rng.random() < 0.6:
            value = [*value]
            if value and rng.random() < 0.7:
                value[rng.randrange(len(value))] = rng.choice(odd)
            else:
                value = value * rng.choice([0, 2, 86])
            header[key] = value
        else:
            header[key] = rng.choice(odd)
    body = frame_of({"image": header})
    if rng.random() < 0.3:
        place = rng.randrange(len(body))
        body = body[:place] + bytes([rng.randrange(256)]) + body[place + 1 :]
    return body + rng.choice([b"", frame_of({"slab": 0}), body[: rng.randrange(len(body))]])


def connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname, parts.port), timeout=20)


def health(line: socket.socket) -> int | None:
    """The status of a reply on a connection; None if it was closed instead."""
    reply = b""
    with contextlib.suppress(ConnectionError):
        line.sendall(b"GET /v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        while not reply.endswith(b"}") and (piece := line.recv(1 << 16)):
            reply += piece
    return int(reply.split()[1]) if reply else None


def certified(authority, folder: Path) -> tuple[Path, Path]:
    """Files with a certificate for "localhost" by `trustme`'s authority, and with its private key."""
    issued, certificate, private = authority.issue_cert("localhost"), folder / "cert.pem", folder / "key.pem"
    issued.private_key_pem.write_to_path(private)
    for part in issued.cert_chain_pems:
        part.write_to_path(certificate, append=True)
    return certificate, private


def same_connection_again(request) -> httpx.Response:
    """A reply; the request is made again where the server closed the connection just before it."""
    for _ in range(5):
        with contextlib.suppress(httpx.TransportError):
            return request()
    return request()
