"""Whether a device still computes: one number on it, there and back."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import numpy as np


class Pulse:
    """Asks a device for its pulse; belongs to one event loop.

    Parameters
    ----------
    device : str
        "cpu", "cuda", ... as torch names it.
    patience : float
        Seconds after which a device that says nothing has failed. Long computations beside it are no reason for that.
    """

    def __init__(self, device: str, patience: float = 20.0) -> None:
        self._device = device
        self._patience = patience
        self._thread = ThreadPoolExecutor(1, "napari-sammed-pulse")  # a hanging device keeps it, so that all later fail

    async def take(self) -> None:
        """Return if the device computes.

        Raises
        ------
        RuntimeError
            Of torch, where a fault has spoilt the context; ours, where nothing comes back.
        """
        taking = asyncio.get_running_loop().run_in_executor(self._thread, _beat, self._device)
        try:
            found = await asyncio.wait_for(asyncio.shield(taking), self._patience)
        except TimeoutError:
            raise RuntimeError(f"The device {self._device} does not answer.") from None
        if found != 6.0:
            raise RuntimeError(f"The device {self._device} miscalculates.")


def _beat(device: str) -> float:
    if device == "cpu":
        return float(np.arange(4.0) @ np.ones(4))
    import torch

    if not device.startswith("cuda"):
        return float((torch.arange(4.0, device=device) @ torch.ones(4, device=device)).cpu())
    stream = torch.cuda.Stream(device)  # its own, so that it does not wait behind what others have begun
    with torch.cuda.stream(stream):
        found = torch.arange(4.0, device=device) @ torch.ones(4, device=device)
        stream.synchronize()
        return float(found)
