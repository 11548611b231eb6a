"""What several processes that learn the same agree on; in a process by itself all of it is nothing.

Not by a wrapped network, whose parts could not be called one by one. All goes by tensors, and nothing by pickles, since
the connections between the processes ask nobody who they are.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import ClusterEnvironment
from lightning_fabric.strategies import DDPStrategy
from torch import Tensor, nn

from napari_sammed.errors import InputError


class _Launched(ClusterEnvironment):
    """For Fabric: this is one of several processes, with one device each, that are connected already."""

    creates_processes_externally = True
    main_address, main_port = "", 0  # nobody connects any more

    @staticmethod
    def detect() -> bool:
        return False

    def world_size(self) -> int:
        return torch.distributed.get_world_size()

    def set_world_size(self, size: int) -> None:
        pass

    def global_rank(self) -> int:
        return torch.distributed.get_rank()

    def set_global_rank(self, rank: int) -> None:
        pass

    def local_rank(self) -> int:
        return 0

    def node_rank(self) -> int:
        return 0


def are_several() -> bool:
    """Whether this process is one of several."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def begin(accelerator: str, devices: int, precision: str) -> Fabric:
    """Fabric on this process's device, which for a GPU is torch's current one if there are several processes.

    Raises
    ------
    InputError
        If several devices are wanted of a process that is by itself.
    """
    if are_several():
        gpu = torch.distributed.get_backend() == "nccl"
        fabric = Fabric(
            accelerator="cuda" if gpu else "cpu",
            devices=[torch.cuda.current_device()] if gpu else 1,
            strategy=DDPStrategy(cluster_environment=_Launched()),
            precision=precision,
        )
    elif devices > 1:
        raise InputError("Several devices need a process each: napari_sammed.training.launching.run starts them.")
    else:
        fabric = Fabric(accelerator=accelerator, devices=1, precision=precision)
    fabric.launch()
    return fabric


def have_same(fabric: Fabric, network: nn.Module) -> None:
    """Give all processes the weights of the first one, of which some may have been drawn at random."""
    if fabric.world_size > 1:
        for value in network.state_dict().values():
            whole = value.contiguous()
            torch.distributed.broadcast(whole, 0)
            value.copy_(whole)


def total(fabric: Fabric, *values: float) -> list[float]:
    """Sums over all processes."""
    if fabric.world_size == 1:
        return list(values)
    exact = torch.float32 if fabric.device.type == "mps" else torch.float64
    return fabric.all_reduce(torch.tensor(values, dtype=exact, device=fabric.device), reduce_op="sum").tolist()


def have_mean_gradients(fabric: Fabric, parameters: Sequence[nn.Parameter]) -> None:
    """The mean of gradients over all processes, in one go, as many small messages take long.

    A parameter that no process has a gradient of gets none: with one of zeros, optimizers would move it on.
    """
    if fabric.world_size == 1:
        return
    counts = total(fabric, *(float(parameter.grad is not None) for parameter in parameters))
    moved = [parameter for parameter, count in zip(parameters, counts, strict=True) if count]
    for parameter in moved:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    if not moved:
        return
    together: Tensor = torch.cat([parameter.grad.flatten() for parameter in moved])
    together = fabric.all_reduce(together, reduce_op="mean")
    parts = together.split([parameter.numel() for parameter in moved])
    for parameter, part in zip(moved, parts, strict=True):
        parameter.grad.copy_(part.view_as(parameter))
