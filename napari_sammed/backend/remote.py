"""The backend at a server: the same calls and the same answers as on this machine, over HTTP.

The image is sent once, and only if the user agrees. What the server loses, by a restart or for lack of room, it is told
again: the session here knows every prompt. Importing this file imports no torch.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Collection, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TypeAlias, TypeVar

import httpx
import numpy as np

from napari_sammed.backend.base import Cancel, ClassMap, ImageId, Partial, Prediction, Progress
from napari_sammed.backend.protocol import values
from napari_sammed.backend.protocol.answers import RemoteLogits
from napari_sammed.backend.protocol.questions import Question
from napari_sammed.backend.remote_connection import PATIENCE, Connection, Refused
from napari_sammed.backend.remote_facts import Facts, ServerCheck
from napari_sammed.backend.remote_image import OpenedImage, RemoteImage
from napari_sammed.backend.remote_keys import checked_url, find_key
from napari_sammed.backend.remote_loop import Loop, Tell
from napari_sammed.backend.remote_session import Listening
from napari_sammed.errors import InputError, NotReady, ServerError
from napari_sammed.geometry import Box
from napari_sammed.intensity import Window
from napari_sammed.models import registry
from napari_sammed.models.base import Logits, ModelCard
from napari_sammed.prompts import MaskPrompt, Prompts
from napari_sammed.volume import Volume

T = TypeVar("T")

Consent: TypeAlias = Callable[[str, int], bool]
"""Asked before an image is sent, with the host and the bytes of its voxels: whether that is wanted."""

_PREVIEW = 5.0  # s after which nobody cares for the answer to an idle question


class RemoteBackend:
    """A `napari_sammed.backend.base.Backend` at a server.

    Parameters
    ----------
    url : str
        ``https://host``, or ``http://localhost:8765`` for this machine or a tunnel.
    key : str, optional
        Default: what the system's keyring has for the address, else the environment variable ``NAPARI_SAMMED_KEY``.
    consent : bool or callable
        Whether images may be sent; asked for each image, before anything about it leaves this machine.
    certificate : Path, optional
        File with the certificate of a server that made its own.
    insecure : bool
        Take ``http`` to other machines as well: everybody in between can read images and key.
    patience : float
        Seconds for which a server that does not answer is asked again and again.
    lazy : bool
        Wait with everything, consent too, until something is asked about an image: opening it sends nothing.

    Raises
    ------
    InputError
        For an address that is none.
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        consent: bool | Consent = False,
        certificate: Path | None = None,
        insecure: bool = False,
        patience: float = PATIENCE,
        lazy: bool = False,
    ) -> None:
        self.url = checked_url(url, insecure)
        trusted = None if certificate is None else str(certificate)
        given = key or (lambda: find_key(self.url))
        self._connection = Connection(self.url, given, certificate=trusted, patience=patience)
        self._consent = consent
        self._lazy = lazy
        self._loop = Loop("napari-sammed-remote")
        self._lock = threading.Lock()
        self._images: dict[ImageId, OpenedImage] = {}
        self._facts = Facts(self._connection)

    @property
    def host(self) -> str:
        """Host and port of the server, for people."""
        return self._connection.host

    def check(self, *, cancel: Cancel | None = None) -> ServerCheck:
        """Ask the server what it is, without trying again and again.

        Raises
        ------
        ServerError
            If it cannot be reached, does not accept the key, or is another program.
        Cancelled
        """

        return self._loop.run(lambda tell: self._plainly(self._facts.check()), cancel)

    def open(self, image: Volume) -> ImageId:
        """See `Backend.open`; also refuses images that no model can use, and asks whether this one may be sent.

        The image is on its way when this returns; a question about it waits until it is there.

        Raises
        ------
        InputError
            Without consent; nothing has been sent then.
        """
        image.check_usable()
        if not image.in_memory and not self._lazy:
            image = Volume(image.array, image.grid, image.name, image.modality)
        image_id = ImageId(image.hash)
        with self._lock:
            if image_id in self._images:
                self._images[image_id].users += 1
                return image_id
        remote = None if self._lazy else self._agreed(image)
        with self._lock:
            # If somebody was faster, they have agreed as well.
            entry = self._images.setdefault(image_id, OpenedImage(image))
            entry.users += 1
            entry.remote = entry.remote or remote
        if remote is not None and entry.remote is remote:
            self._loop.start(remote.session.open_ahead())
        return image_id

    def close(self, image: ImageId) -> None:
        """See `Backend.close`; the last one who opened the image ends it, and its session at the server."""
        with self._lock:
            entry = self._images.get(image)
            if entry is None:
                return
            entry.users -= 1
            if entry.users > 0:
                return
            del self._images[image]
        if entry.remote is not None:
            with contextlib.suppress(ServerError):
                self._loop.start(_do(entry.remote.close))

    def shutdown(self) -> None:
        """End all sessions and the connection."""
        with self._lock:
            entries, self._images = list(self._images.values()), {}
        with contextlib.suppress(ServerError):
            for remote in (entry.remote for entry in entries if entry.remote is not None):
                self._loop.start(_do(remote.close)).result(5)
        self._loop.close(self._connection.close)

    def card(self, model: str) -> ModelCard:
        """See `Backend.card`: as the server says, or before it was asked, as is known here."""
        if self._facts.cards is not None:
            if model in self._facts.cards:
                return self._facts.cards[model]
        elif model not in registry.names():
            if self._lazy:
                raise InputError(f"{model} is known neither here nor yet at {self.host}: choose another model.")
            self.installed()
            return self.card(model)
        return registry.card(model)

    def installed(self) -> tuple[str, ...]:
        """See `Backend.installed`; asks the server."""
        found = self._loop.run(lambda tell: self._plainly(self._facts.ask_cards()))
        return tuple(name for name, card in found.items() if card.prompts)

    def predict(
        self,
        image: ImageId,
        model: str,
        prompts: Prompts,
        *,
        window: Window | None = None,
        region: Box | None = None,
        previous: Logits | None = None,
        idle: bool = False,
        cancel: Cancel | None = None,
        progress: Progress | None = None,
    ) -> Prediction:
        """See `Backend.predict`."""
        remote = self._remote(image, idle=idle)
        if not prompts:
            raise InputError("There is no prompt to segment from: click, draw a box or hand over a mask.")
        prompts.check_inside(remote.volume.grid)
        question = Question(
            "predict",
            model,
            {"prompts": prompts, "window": window or Window.auto(remote.volume), "region": region},
            previous=previous.reference if isinstance(previous, RemoteLogits) else None,
        )
        if idle:
            return self._idle(remote, question, cancel)
        return self._run(lambda listening: remote.predict(question, listening), cancel, progress)

    def predict_boxes(
        self,
        image: ImageId,
        model: str,
        boxes: Sequence[Box],
        *,
        window: Window | None = None,
        regions: Sequence[Box | None] = (),
        cancel: Cancel | None = None,
        progress: Progress | None = None,
    ) -> list[Prediction]:
        """See `Backend.predict_boxes`."""
        remote = self._remote(image)
        if not boxes:
            raise InputError("There is no box to segment from.")
        Prompts(tuple(boxes)).check_inside(remote.volume.grid)
        arguments = {"boxes": list(boxes), "window": window or Window.auto(remote.volume)}
        if any(region is not None for region in regions):
            arguments["regions"] = list(regions)
        question = Question("predict_boxes", model, arguments)
        return self._run(lambda listening: remote.job(question, listening), cancel, progress)

    def automatic(
        self,
        image: ImageId,
        model: str,
        *,
        window: Window | None = None,
        region: Box | None = None,
        cancel: Cancel | None = None,
        progress: Progress | None = None,
    ) -> ClassMap:
        """See `Backend.automatic`."""
        remote = self._remote(image)
        question = Question("automatic", model, {"window": window, "region": region})
        return self._run(lambda listening: remote.job(question, listening), cancel, progress)

    def propagate(
        self,
        image: ImageId,
        model: str,
        anchors: Sequence[MaskPrompt],
        axis: int,
        *,
        window: Window | None = None,
        within: Box | None = None,
        only: Collection[int] | None = None,
        cancel: Cancel | None = None,
        stop: Cancel | None = None,
        progress: Progress | None = None,
        partial: Partial | None = None,
    ) -> Prediction:
        """See `Backend.propagate`."""
        remote = self._remote(image)
        Prompts(tuple(anchors)).check_inside(remote.volume.grid)
        arguments = {
            "anchors": list(anchors),
            "axis": axis,
            "window": window or Window.auto(remote.volume),
            "within": within,
            "only": None if only is None else sorted(only),
        }
        question = Question("propagate", model, arguments)
        found = self._run(lambda listening: remote.job(question, listening), cancel, progress, partial, stop)
        return found[0]

    def refine(
        self,
        image: ImageId,
        model: str,
        region: Box,
        *,
        coarse: MaskPrompt | None = None,
        prompts: Prompts | None = None,
        axis: int | None = None,
        window: Window | None = None,
        idle: bool = False,
        cancel: Cancel | None = None,
        progress: Progress | None = None,
    ) -> Prediction:
        """See `Backend.refine`."""
        remote = self._remote(image, idle=idle)
        arguments = {
            "region": region,
            "coarse": coarse,
            "prompts": prompts,
            "axis": axis,
            "window": window or Window.auto(remote.volume),
        }
        question = Question("refine", model, arguments)
        if idle:
            return self._idle(remote, question, cancel)
        return self._run(lambda listening: remote.job(question, listening), cancel, progress)[0]

    def prefetch(self, image: ImageId, model: str, regions: Sequence[Box], window: Window) -> list[Future[None]]:
        """See `Backend.prefetch`; older servers take no hint back, and their futures are done at once."""
        try:
            remote = self._remote(image, idle=True)
        except NotReady:  # nobody has asked anything yet
            return []
        header = {"model": model, "regions": [values.box_to_json(r) for r in regions], "window": window.to_json()}

        async def work() -> None:
            with contextlib.suppress(Refused, httpx.TransportError, InputError):
                await remote.prefetch(header)

        return [self._loop.start(work())]

    def restore(self, model: str, logits: Logits) -> np.ndarray:
        """See `Backend.restore`."""
        reference = getattr(logits, "reference", None)
        with self._lock:
            images = [entry.remote for entry in self._images.values() if entry.remote is not None]
        for remote in images:
            if reference is not None and remote.knows(reference.request):
                return self._run(lambda listening, remote=remote: remote.restore(model, reference, listening))
        raise InputError("These logits are of no image that is open here: ask again.")

    def _run(
        self,
        work: Callable[[Listening], Awaitable[T]],
        cancel: Cancel | None = None,
        progress: Progress | None = None,
        partial: Partial | None = None,
        stop: Cancel | None = None,
    ) -> T:
        stopping = asyncio.Event()

        def begin(tell: Tell) -> Awaitable[T]:
            return self._plainly(work(Listening(tell, progress, partial, None if stop is None else stopping)))

        return self._loop.run(begin, cancel, stop, stopping.set)

    def _idle(self, remote: RemoteImage, question: Question, cancel: Cancel | None) -> Prediction:
        async def work(tell: Tell) -> Prediction:
            try:
                return await asyncio.wait_for(remote.preview(question), _PREVIEW)
            except (TimeoutError, httpx.TransportError):
                raise NotReady from None

        return self._loop.run(lambda tell: self._plainly(work(tell)), cancel)

    async def _plainly(self, work: Awaitable[T]) -> T:
        """Turn refusals that nobody has dealt with into the errors that users of a backend know."""
        try:
            return await work
        except Refused as refused:
            raise self._connection.error(refused.failure) from None
        except httpx.TransportError as error:
            why = self._connection.why(error)
            raise ServerError(
                f"{self.host} does not answer ({why}): check the address, the network, and whether the server runs."
            ) from None

    def _remote(self, image: ImageId, *, idle: bool = False) -> RemoteImage:
        """An open image, which is agreed on now if it was not yet; NotReady instead where nobody waits."""
        with self._lock:
            entry = self._images.get(image)
        if entry is None:
            raise InputError("This image is not open: open it before asking about it.")
        if entry.remote is not None:
            return entry.remote
        if idle:
            raise NotReady
        remote = self._agreed(entry.volume)
        with self._lock:
            entry.remote = entry.remote or remote
            return entry.remote

    def _agreed(self, image: Volume) -> RemoteImage:
        """An image that may be sent; InputError if it may not."""
        agreed = self._consent(self.host, image.nbytes) if callable(self._consent) else self._consent
        if not agreed:
            raise InputError(
                f"The image was not sent to {self.host}, as nobody agreed to that. Only voxels and their geometry "
                "would go there: agree, or segment on this machine."
            )
        if not image.in_memory:
            image = Volume(image.array, image.grid, image.name, image.modality)
        return RemoteImage(self._connection, self._loop, image, self._facts.limits)


async def _do(work: Callable[[], None]) -> None:
    work()
