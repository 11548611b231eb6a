"""Tensors that are costly to make, kept in memory up to a budget."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from torch import Tensor


class Kept:
    """What came first stays: of what is drawn at random, dropping the oldest would keep no more.

    Parameters
    ----------
    budget : int
        Bytes.

    Attributes
    ----------
    nbytes : int
        Of what is kept.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self.nbytes = 0
        self._tensors: dict[Hashable, Tensor] = {}

    def __len__(self) -> int:
        return len(self._tensors)

    def get(self, key: Hashable, make: Callable[[], Tensor]) -> Tensor:
        """The tensor of a key, made if it is not here."""
        if key in self._tensors:
            return self._tensors[key]
        tensor = make()
        size = tensor.numel() * tensor.element_size()
        if self.nbytes + size <= self._budget:
            self.nbytes += size
            self._tensors[key] = tensor
        return tensor
