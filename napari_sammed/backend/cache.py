"""A cache bounded in bytes: what was used longest ago goes first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, Protocol, TypeVar


class Sized(Protocol):
    @property
    def nbytes(self) -> int: ...


V = TypeVar("V", bound=Sized)


class ByteCache(Generic[V]):
    """Keeps values up to a total of ``limit`` bytes (their ``nbytes``); safe to use from several threads.

    A value larger than the limit is not kept at all.

    Attributes
    ----------
    nbytes : int
        Of what is kept.
    hits, misses : int
        How often `get` found something, and how often nothing.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.nbytes = 0
        self.hits = self.misses = 0
        self._items: OrderedDict[Hashable, V] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._items

    def get(self, key: Hashable) -> V | None:
        """The value, which now counts as just used; None if it is not (or no longer) here."""
        with self._lock:
            if key not in self._items:
                self.misses += 1
                return None
            self.hits += 1
            self._items.move_to_end(key)
            return self._items[key]

    def put(self, key: Hashable, value: V) -> None:
        """Keep a value, dropping the longest unused ones until it fits."""
        with self._lock:
            self._drop(key)
            if value.nbytes > self.limit:
                return
            self._items[key] = value
            self.nbytes += value.nbytes
            while self.nbytes > self.limit:
                self._drop(next(iter(self._items)))

    def discard(self, prefix: Hashable) -> None:
        """Drop every value whose key is a tuple that starts with ``prefix``."""
        with self._lock:
            for key in [k for k in self._items if isinstance(k, tuple) and k[0] == prefix]:
                self._drop(key)

    def clear(self) -> None:
        """Drop every value."""
        with self._lock:
            self._items.clear()
            self.nbytes = 0

    def _drop(self, key: Hashable) -> None:
        value = self._items.pop(key, None)
        if value is not None:
            self.nbytes -= value.nbytes
