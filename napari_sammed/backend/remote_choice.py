"""Where the user wants to segment: this machine or a server, and which servers may be sent images.

Kept in one small file of the user's, for all programs that segment at servers. Keys are not in it: they are in the
system's keyring (`napari_sammed.backend.remote_keys`). Importing this file imports no torch and no Qt.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sammed.backend.remote_keys import checked_url, forget_key, host_of
from napari_sammed.errors import InputError
from napari_sammed.models.storage import config_folder, flush_to_disk, one_at_a_time, put_in_place

if TYPE_CHECKING:
    from napari_sammed.backend.remote import Consent, RemoteBackend

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """A server.

    Parameters
    ----------
    url : str
        Its address, put into the form of `napari_sammed.backend.remote_keys.checked_url`.
    certificate : Path or None
        File with the certificate of a server that made its own.
    insecure : bool
        Take ``http`` to other machines as well.

    Raises
    ------
    InputError
        For an address that is none.
    """

    url: str
    certificate: Path | None = None
    insecure: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", checked_url(self.url, self.insecure))

    @property
    def host(self) -> str:
        """Host and port, for people."""
        return host_of(self.url)


@dataclass
class _Kept:
    """What is in the file."""

    places: dict[str, Place] = field(default_factory=dict)  # by address
    chosen: str | None = None
    agreed: set[str] = field(default_factory=set)

    @classmethod
    def from_json(cls, found: Any) -> _Kept:
        """Entries that are none are left out; ValueError if it is no such file at all."""
        if not isinstance(found, dict) or not isinstance(found.get("servers"), list):
            raise ValueError("it names no servers")
        kept = cls()
        for entry in found["servers"]:
            try:
                certificate = entry.get("certificate")
                place = Place(entry["url"], Path(certificate) if certificate else None, entry.get("insecure") is True)
            except (InputError, KeyError, TypeError, AttributeError):
                logger.warning("An entry in the list of servers is damaged, and left out.")
                continue
            kept.places[place.url] = place
            if entry.get("agreed") is True:
                kept.agreed.add(place.url)
        chosen = found.get("chosen")
        kept.chosen = chosen if isinstance(chosen, str) and chosen in kept.places else None
        return kept

    def to_json(self) -> dict[str, Any]:
        servers = [
            {
                "url": place.url,
                "certificate": None if place.certificate is None else str(place.certificate),
                "insecure": place.insecure,
                "agreed": place.url in self.agreed,
            }
            for place in self.places.values()
        ]
        return {"chosen": self.chosen, "servers": servers}


class Servers:
    """The servers that the user knows, the one that is chosen, and those that may be sent images.

    Several programs may use the file at a time: each look reads it again, each change is written at once. A file that
    cannot be read is put aside with a warning in the log, and there are no servers then; where it cannot be written,
    changes last until the program ends.

    Parameters
    ----------
    path : Path, optional
        Default: ``servers.json`` in `napari_sammed.models.storage.config_folder`.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or config_folder() / "servers.json"
        self._unwritten: _Kept | None = None

    def known(self) -> tuple[Place, ...]:
        """All servers that were ever chosen and not forgotten, the first one first."""
        return tuple(self._read().places.values())

    def chosen(self) -> Place | None:
        """Where to segment; None is this machine."""
        kept = self._read()
        return None if kept.chosen is None else kept.places[kept.chosen]

    def choose(self, place: Place | None) -> None:
        """Segment at a server from now on, or with None on this machine; a known one is known as given from now on."""

        def change(kept: _Kept) -> None:
            kept.chosen = None if place is None else place.url
            if place is not None:
                kept.places[place.url] = place

        self._change(change)

    def forget(self, url: str) -> None:
        """Forget a server, its key in the keyring, and that it may be sent images; this machine if it was chosen.

        Asks the keyring, which may wait for the user.

        Raises
        ------
        InputError
            If the file cannot be written: the server will be back with the next start then.
        """
        url = _address(url)

        def change(kept: _Kept) -> None:
            kept.places.pop(url, None)
            kept.agreed.discard(url)
            if kept.chosen == url:
                kept.chosen = None

        forget_key(url)
        self._change(change, must=True)

    def agreed(self, url: str) -> bool:
        """Whether the user has agreed to images being sent to a server."""
        return _address(url) in self._read().agreed

    def agree(self, url: str) -> None:
        """Remember that images may be sent to a server, which is known from now on."""
        url = _address(url)

        def change(kept: _Kept) -> None:
            kept.places.setdefault(url, Place(url, insecure=url.startswith("http://")))
            kept.agreed.add(url)

        self._change(change)

    def withdraw(self, url: str) -> None:
        """Ask again before images are sent to a server.

        Raises
        ------
        InputError
            If the file cannot be written: the agreement will be back with the next start then.
        """
        self._change(lambda kept: kept.agreed.discard(_address(url)), must=True)

    def _change(self, change: Callable[[_Kept], None], must: bool = False) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with one_at_a_time(self.path.parent, self.path.name):
                kept = self._read()
                change(kept)
                self._write(kept)
            self._unwritten = None
        except OSError as error:
            reason = f"{self.path} cannot be written ({error.strerror or error})"
            logger.warning("%s: what changes about servers is lost when the program ends.", reason)
            kept = self._read()
            change(kept)
            self._unwritten = kept
            if must:
                raise InputError(f"{reason}: what it says of servers will be back with the next start.") from None

    def _write(self, kept: _Kept) -> None:
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.{threading.get_ident()}.new")
        try:
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(json.dumps(kept.to_json(), indent=1).encode())
                flush_to_disk(file)
            put_in_place(temporary, self.path)
        finally:
            temporary.unlink(missing_ok=True)

    def _read(self) -> _Kept:
        if self._unwritten is not None:
            return self._unwritten
        try:
            return _Kept.from_json(json.loads(self.path.read_bytes()))
        except FileNotFoundError:
            return _Kept()
        except (OSError, ValueError, RecursionError) as error:
            logger.warning("%s cannot be read (%s): no servers are known.", self.path, error)
            with contextlib.suppress(OSError):
                os.replace(self.path, self.path.with_suffix(".broken"))
            return _Kept()


def connect(
    place: Place,
    ask: Consent,
    *,
    key: str | None = None,
    servers: Servers | None = None,
    on_use: Callable[[], None] = lambda: None,
    **options: Any,
) -> RemoteBackend:
    """A backend at a server, that asks the user once before any image goes there.

    Looks into the keyring where no key is given, which may wait for the user; the server itself is not contacted yet.

    Parameters
    ----------
    place : Place
    ask : callable
        Given the host and the bytes of the first image, on the thread that opens it; its yes is remembered. A no also
        answers those who waited meanwhile.
    key : str, optional
        Default: what `napari_sammed.backend.remote_keys.find_key` finds.
    servers : Servers, optional
        What is remembered of servers; default: the user's.
    on_use : callable, optional
        Told of each image that is about to go there, or to be asked about, on the same thread.
    **options
        Others of `RemoteBackend`.
    """
    from napari_sammed.backend.remote import RemoteBackend

    kept = Servers() if servers is None else servers
    asking = threading.Lock()  # one question, however many images are opened meanwhile
    refused = [0]

    def consent(host: str, size: int) -> bool:
        before = refused[0]
        with asking:
            if not kept.agreed(place.url):
                if refused[0] != before or not ask(host, size):
                    refused[0] += 1
                    return False
                kept.agree(place.url)
        on_use()
        return True

    return RemoteBackend(
        place.url, key, consent=consent, certificate=place.certificate, insecure=place.insecure, **options
    )


def _address(url: str) -> str:
    return checked_url(url, insecure=True)
