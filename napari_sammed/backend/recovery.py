"""What to do when memory runs out in a model: make room and try once more, with less at a time where possible."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from typing import TypeVar

from napari_sammed.backend.guards import is_out_of_memory, out_of_memory

T = TypeVar("T")


def with_room(name: str, work: Callable[[], T], make_room: Callable[[], None]) -> T:
    """Do what may run out of memory; if it does, make room and do it again.

    Parameters
    ----------
    name : str
        The model's, for the sentence.
    work : callable
        Can be done twice.
    make_room : callable
        Lets go of what can be computed again.

    Raises
    ------
    InputError
        If memory runs out again.
    """
    try:
        return work()
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
    # Behind the handler: until here, the frames of the error held what had been allocated.
    make_room()
    give_back()
    with out_of_memory(name):
        return work()


def give_back() -> None:
    """Collect what nobody holds, and give the memory that torch keeps for later back to the device."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
