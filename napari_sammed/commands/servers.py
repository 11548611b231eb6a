"""Where commands have their work done: on this machine, or at a server."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_sammed.backend.base import Backend
from napari_sammed.backend.loading import Files
from napari_sammed.commands.common import local_backend
from napari_sammed.commands.terminal import note
from napari_sammed.errors import InputError
from napari_sammed.volume import Volume

if TYPE_CHECKING:
    from napari_sammed.backend.remote import RemoteBackend


@dataclass(frozen=True)
class Server:
    """A server that was named on the command line; the fields are options.

    Parameters
    ----------
    url : str
    agreed : bool
        Whether images may be sent without asking.
    certificate : Path or None
    insecure : bool
    """

    url: str
    agreed: bool = False
    certificate: Path | None = None
    insecure: bool = False


def told(image: Volume) -> str:
    """What would be sent of an image, for the question whether it may."""
    return f"the image ({' x '.join(map(str, image.grid.shape))} voxels) and its geometry, no names"


@contextmanager
def backend_for(
    images: str, server: Server | None, device: str, weights: Mapping[str, Files], precision: str = "auto"
) -> Iterator[Backend]:
    """A backend that ends with the block, at a server if one is named; asks before anything is sent.

    Parameters
    ----------
    images : str
        What would be sent, a phrase; see `told`.
    server : Server or None
    device, weights, precision
        Of this machine.

    Raises
    ------
    InputError
        Without consent, for an address that is none, for weights and devices of this machine together with a server.
    """
    if server is None:
        with local_backend(device, weights, precision) as backend:
            yield backend
        return
    if weights or device != "auto" or precision != "auto":
        raise InputError("A server has weights and a device of its own: leave out --weights, --device and --precision.")
    from napari_sammed.backend.remote import RemoteBackend

    remote = RemoteBackend(server.url, consent=True, certificate=server.certificate, insecure=server.insecure)
    try:
        if not server.agreed:
            _ask(remote, images)
        yield remote
    finally:
        remote.shutdown()


def _ask(remote: RemoteBackend, images: str) -> None:
    """Have the user agree to sending images, unless that was done for good, as in the plugin.

    Raises
    ------
    InputError
        If that is not wanted, or nobody is there to say so.
    """
    from napari_sammed.backend.remote_choice import Servers

    if Servers().agreed(remote.url):
        return
    if not sys.stdin.isatty():
        raise InputError(
            f"What would be sent to {remote.host}: {images}. Nobody is there to agree: add --yes-upload if it may."
        )
    note(f"What has to be sent to {remote.host}: {images}.")
    sys.stderr.write("Send it? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise InputError("Nothing was sent. Without --server this machine does the work.")
