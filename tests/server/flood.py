"""Many clients that ask without a pause, in one process that takes little of the machine: what floods a server."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
from urllib.parse import urlsplit

from napari_sammed.backend.protocol import FRAMES
from napari_sammed.volume import Volume
from tests.server.serving import Client, ask


class Flood:
    """Clients of one key, each with a session of its own, that ask as soon as they are answered.

    Parameters
    ----------
    url : str
    key : str or None
    image : Volume
    clicks : list of tuple of int
        Clicks, taken in turn.
    count : int
    model : str
    """

    def __init__(
        self, url: str, key: str | None, image: Volume, clicks: list[tuple[int, ...]], count: int, model: str
    ) -> None:
        fork = multiprocessing.get_context("fork")
        self._answered = fork.Value("i", 0)
        self._process = fork.Process(target=self._run, args=(url, key, image, clicks, count, model), daemon=True)
        self._process.start()

    @property
    def answered(self) -> int:
        """Questions that were answered."""
        return self._answered.value

    def end(self) -> None:
        self._process.kill()
        self._process.join()

    def _run(self, url: str, key: str | None, image: Volume, clicks: list, count: int, model: str) -> None:
        client = Client(url, key, timeout=600)
        client.send(image)
        client.close()

        async def work() -> None:
            await asyncio.gather(*(self._ask(url, key, image.hash, clicks, number, model) for number in range(count)))

        asyncio.run(work())

    async def _ask(self, url: str, key: str | None, image: str, clicks: list, number: int, model: str) -> None:
        parts = urlsplit(url)
        lines = await asyncio.open_connection(parts.hostname, parts.port)
        _, body = await _posted(lines, key, "/v1/sessions", "application/json", json.dumps({"image": image}).encode())
        session, revision = json.loads(body)["session"], 0
        while True:
            question = ask(clicks[(number + revision) % len(clicks)], revision=revision, model=model)
            path = f"/v1/sessions/{session}/predict"
            status, _ = await _posted(lines, key, path, FRAMES, question.to_frame().encode())
            assert status == 200, status
            revision += 1
            with self._answered.get_lock():
                self._answered.value += 1


async def _posted(
    lines: tuple[asyncio.StreamReader, asyncio.StreamWriter], key: str | None, path: str, kind: str, body: bytes
) -> tuple[int, bytes]:
    """Post something; status and body of the reply."""
    reader, writer = lines
    known = "" if key is None else f"Authorization: Bearer {key}\r\n"
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{known}Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    start, *fields = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
    status = int(start.split()[1])
    sizes = [int(field.split(b":")[1]) for field in fields if field.startswith(b"content-length:")]
    if sizes:
        return status, await reader.readexactly(sizes[0])
    found = b""
    while size := int(await reader.readline(), 16):  # in chunks
        found += (await reader.readexactly(size + 2))[:-2]
    await reader.readline()
    return status, found
