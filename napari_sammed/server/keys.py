"""Keys of clients: made here, shown once, kept as hashes.

A key is 256 random bits, so that a plain SHA-256 of it gives nothing away; a line of the key file is a name and that
hash. Taking a line out of the file ends the key, without a restart.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from napari_sammed.errors import InputError

_PREFIX = "nsk_"  # so that a key in the wrong place is known for one
_NAME = re.compile(r"[\w.@+-]{1,64}", re.ASCII)
_LINE = re.compile(r"([\w.@+-]{1,64}) sha256:([0-9a-f]{64})", re.ASCII)
_ADDRESSES = 10_000  # that are remembered for their wrong keys


@dataclass(frozen=True)
class Client:
    """Whoever holds a key.

    Parameters
    ----------
    name : str
        For the operator.
    id : str
        The key's hash; sessions belong to it.
    """

    name: str
    id: str

    @property
    def short(self) -> str:
        """For logs."""
        return self.id[:8]


LOCAL = Client("local", "local")
"""Everybody, on a server at loopback without keys."""


class KeyRing:
    """The keys in a file; read again when the file has changed.

    Parameters
    ----------
    path : Path
        Must exist and hold at least one key.

    Raises
    ------
    InputError
        If there is no key in the file, or it cannot be read or understood.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp: tuple[int, int] | None = None
        self._clients: tuple[Client, ...] = ()
        self._read()
        if not self._clients:
            raise InputError(f"There is no key in {path}: make one with `napari-sammed serve --new-key NAME`.")

    def owner(self, key: str) -> Client | None:
        """Whose key this is; takes as long for any wrong key."""
        self._read()
        digest = _digest(key)
        found = None
        for client in self._clients:
            if hmac.compare_digest(client.id, digest):
                found = client
        return found

    def _read(self) -> None:
        try:
            status = self.path.stat()
            stamp = (status.st_mtime_ns, status.st_size)
            if stamp == self._stamp:
                return
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            self._stamp, self._clients = None, ()  # taken away: nobody may in
            return
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"The key file {self.path} cannot be read: {error}.") from None
        clients = []
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip() or line.startswith("#"):
                continue
            match = _LINE.fullmatch(line.strip())
            if match is None:
                raise InputError(f"Line {number} of the key file {self.path} is no name with the hash of a key.")
            clients.append(Client(*match.groups()))
        self._stamp, self._clients = stamp, tuple(clients)


def add_key(path: Path, name: str) -> str:
    """Make a key, add its hash to a file (readable for its owner only), and return it: it is not kept anywhere.

    Raises
    ------
    InputError
        For a name that is taken or has other letters than A-Z, a-z, 0-9 and ``._@+-``; a file that cannot be written.
    """
    if _NAME.fullmatch(name) is None:
        raise InputError(f"The name of a key has up to 64 of A-Z, a-z, 0-9, ., _, @, + and -, not {name!r}.")
    key = _PREFIX + secrets.token_urlsafe(32)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        if any(line.split(" ")[0] == name for line in before.splitlines()):
            raise InputError(f"There is a key for {name} in {path} already: choose another name, or take its line out.")
        temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(before + ("\n" if before and not before.endswith("\n") else ""))
            file.write(f"{name} sha256:{_digest(key)}\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"The key file {path} cannot be written: {error.strerror}.") from None
    return key


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass
class Doorkeeper:
    """Makes addresses wait that try wrong keys.

    A key that has been used from the address before goes on working meanwhile, so that nobody can lock out
    colleagues behind the same proxy.

    Parameters
    ----------
    most : int
        The so many-th wrong key within `within` seconds has to wait, and every unknown key after it.
    within : float
    clock : callable
    """

    most: int
    within: float
    clock: Callable[[], float] = time.monotonic
    _wrong: OrderedDict[str, deque[float]] = field(default_factory=OrderedDict)
    _known: OrderedDict[tuple[str, str], None] = field(default_factory=OrderedDict)

    def wait(self, address: str, client: Client | None) -> float:
        """Seconds that a request must wait whose key has this owner (None for a wrong key); 0 if it may go on."""
        now = self.clock()
        times = self._wrong.get(address)
        while times and times[0] <= now - self.within:
            times.popleft()
        if client is not None:
            if (address, client.id) not in self._known and times is not None and len(times) >= self.most - 1:
                return self._rest(times, now)
            self._remember(self._known, (address, client.id), None)
            return 0.0
        if times is None:
            times = deque(maxlen=self.most - 1)
            self._remember(self._wrong, address, times)
        if len(times) >= self.most - 1:
            return self._rest(times, now)
        times.append(now)
        return 0.0

    def _rest(self, times: deque[float], now: float) -> float:
        return max(1.0, times[0] + self.within - now) if times else self.within

    @staticmethod
    def _remember(where: OrderedDict, key: object, value: object) -> None:
        where[key] = value
        where.move_to_end(key)
        while len(where) > _ADDRESSES:
            where.popitem(last=False)
