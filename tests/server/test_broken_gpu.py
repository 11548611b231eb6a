"""A GPU that fails for good: the one who asked is told without details, and the server ends, to be started anew."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
from dataclasses import replace

from napari_sammed.backend.local import LocalBackend
from napari_sammed.server.core import Core
from napari_sammed.server.running import CoreServer, configuration
from napari_sammed.server.settings import Settings
from tests.server.serving import Client, ask, refusal_of, until, volume
from tests.thresholder import Thresholder

CLICK = (5, 12, 14)


class Server(CoreServer):
    """As it is run, but in a thread, where no signal arrives."""

    def capture_signals(self):
        return contextlib.nullcontext()


class Broken(Thresholder):
    """Works until it is told to fail as CUDA does after an access that was not allowed, from then on always."""

    error: str | None = None

    def embed(self, image, region, window):
        if self.error:
            raise RuntimeError(self.error)
        return super().embed(image, region, window)


def test_the_server_ends_where_the_gpu_does_not_answer(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    model, ended, cores = Broken(), [], []
    listening = socket.create_server(("127.0.0.1", 0))
    settings = Settings(tmp_path, port=listening.getsockname()[1])
    started = threading.Event()

    async def run() -> None:
        core = Core(settings, LocalBackend("cpu", models={"thresholder": model}))
        cores.append(core)
        await Server(configuration(core, None), core, started.set).serve([listening])

    thread = threading.Thread(target=lambda: (asyncio.run(run()), ended.append(True)), daemon=True)
    thread.start()
    assert started.wait(20)
    client = Client(replace(settings).url)
    client.open(volume())
    client.click(CLICK, model="thresholder")
    model.error = "CUDA out of memory. Tried to allocate 2 GiB"
    client.open(volume(1))
    said = refusal_of(client.post("predict", ask(CLICK, model="thresholder")))
    assert "Memory ran out" in said["message"] and not cores[0].failed.is_set(), "for lack of memory it goes on"
    model.error = "CUDA error: an illegal memory access was encountered at 0x7f secret"
    said = refusal_of(client.post("predict", ask(CLICK, model="thresholder")))
    assert said["code"] == "internal" and "secret" not in str(said) and "0x7f" not in str(said)
    until(lambda: ended, 30)
    assert cores[0].failed.is_set(), "from which the exit status 1 is made, for service managers"
    assert "does not answer any more" in caplog.text and "secret" not in caplog.text
