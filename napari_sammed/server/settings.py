"""What an operator decides about a server, checked before anything starts."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from napari_sammed.backend.loading import Files
from napari_sammed.backend.local import CACHE_BYTES
from napari_sammed.errors import InputError

PORT = 8765

GIB = 1 << 30
MIB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """What clients may cost; sizes in bytes, times in seconds.

    Parameters
    ----------
    image : int
        Voxels of one image.
    disk : int
        All images kept; those unused for longest are deleted for new ones, never those of open sessions.
    request : int
        Body of any request but an image; masks as prompts are the largest part of one.
    headers : int
        Request line and headers.
    depth : int
        Nesting of JSON.
    answers : int
        Memory for logits and masks of earlier answers; what is dropped is computed again when it is needed.
    embeddings : int
        Memory for encoded slices and parts of images.
    idle : float
        A session nobody uses is put aside after this: its memory is freed, its journal stays.
    keep : float
        Images and journals nobody used for so long are deleted.
    silence : float
        A connection that sends nothing while a request is expected from it is closed after this.
    rate : float
        Bytes a second that a body must bring on average, beyond `silence`.
    connections : int
        Open at once; for a further one, the one that has waited longest without a request is closed, of those first
        that never brought any.
    waiting : int
        Requests of one client that may wait; for further ones it is told to come back later.
    jobs : int
        Propagations, closer looks and the like that run at once.
    job_events : int
        Memory for the partial results of one job that nobody has fetched yet.
    unheard : float
        A job to whose events nobody listens is cancelled after this.
    sessions : int
        Sessions of one client that are not put aside.
    wrong_keys : int
        From the so many-th wrong key within `wrong_keys_within` seconds, an address has to wait.
    """

    image: int = 4 * GIB
    disk: int = 100 * GIB
    request: int = 64 * MIB
    headers: int = 16 << 10
    depth: int = 16
    answers: int = 1 * GIB
    embeddings: int = CACHE_BYTES
    idle: float = 3600.0
    keep: float = 7 * 24 * 3600.0
    silence: float = 20.0
    rate: float = 4096.0
    connections: int = 256
    waiting: int = 256
    jobs: int = 4
    job_events: int = 256 * MIB
    unheard: float = 60.0
    sessions: int = 256
    wrong_keys: int = 20
    wrong_keys_within: float = 60.0


@dataclass(frozen=True)
class Settings:
    """A server as its operator wants it.

    Parameters
    ----------
    data : Path
        Folder for images and journals; made if absent, readable for its owner only.
    host : str
        Address to listen at. Anything but this machine's loopback needs keys, and TLS or `insecure`.
    port : int
        0 for any free one.
    key_file : Path or None
        Keys of the clients, hashed (`napari_sammed.server.keys`); made with one key if absent. None: ``data/keys``
        where keys are needed.
    tls_cert, tls_key : Path or None
        Certificate chain and private key, PEM.
    insecure : bool
        Allow another address than loopback without TLS: keys and images can then be read on the way.
    names : tuple of str
        Names under which clients know the server, beside `host` and addresses in numbers. Requests with any other
        ``Host`` are refused, which keeps web pages from reaching the server under a name of their own.
    device, precision : str
        See `napari_sammed.backend.local.LocalBackend`.
    weights : mapping of str to files
        Weight files of the operator's own, by model.
    limits : Limits
    """

    data: Path
    host: str = "127.0.0.1"
    port: int = PORT
    key_file: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    insecure: bool = False
    names: tuple[str, ...] = ()
    device: str = "auto"
    precision: str = "auto"
    weights: Mapping[str, Files] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)

    @property
    def loopback(self) -> bool:
        """Whether only programs on this machine can reach the server."""
        return is_loopback(self.host)

    @property
    def tls(self) -> bool:
        return self.tls_cert is not None

    @property
    def keys(self) -> Path | None:
        """Where the keys are; None where none are needed.

        With names, somebody passes requests on to the loopback address, so that keys are needed there, too.
        """
        if self.key_file is not None:
            return self.key_file
        return None if self.loopback and not self.names else self.data / "keys"

    @property
    def url(self) -> str:
        """Where clients find it, as far as can be said here."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"

    def check(self) -> None:
        """Refuse what would not be safe or cannot work.

        Raises
        ------
        InputError
        """
        if not 0 <= self.port <= 65535:
            raise InputError(f"A port lies between 0 and 65535, not at {self.port}.")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise InputError("A certificate and its private key belong together: give --tls-cert and --tls-key.")
        for path in (self.tls_cert, self.tls_key):
            if path is not None and not path.is_file():
                raise InputError(f"There is no file {path}.")
        if not self.loopback and not self.tls and not self.insecure:
            raise InputError(
                f"At the address {self.host} other machines can reach the server, and without TLS anybody on the way "
                "can read keys and images: give --tls-cert and --tls-key, or put a proxy with TLS before 127.0.0.1, or "
                "accept that with --insecure."
            )


def is_loopback(host: str) -> bool:
    """Whether an address, or the name "localhost", means this machine only."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
