"""Which device torch computes on, and how precisely."""

from __future__ import annotations

import torch

from napari_sammed.errors import InputError

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "float32", "bfloat16", "float16")


def available() -> tuple[str, ...]:
    """The devices that this machine has, the fastest first."""
    found = []
    if torch.cuda.is_available():
        found.append("cuda")
    if torch.backends.mps.is_available():
        found.append("mps")
    return (*found, "cpu")


def choose(device: str = "auto") -> str:
    """A device by name; "auto" takes the fastest. InputError if this machine does not have it."""
    here = available()
    if device == "auto":
        return here[0]
    if device.split(":")[0] not in here:
        raise InputError(f"There is no device {device!r} on this machine: choose one of auto, {', '.join(here)}.")
    return device


def choose_precision(precision: str, device: str) -> str:
    """In what image encoders multiply matrices: "auto" takes what the device is fastest in without harm to masks.

    Raises
    ------
    InputError
        For a name that is none of `PRECISIONS`.
    """
    if precision not in PRECISIONS:
        raise InputError(f"There is no precision {precision!r}: choose one of {', '.join(PRECISIONS)}.")
    if precision != "auto":
        return precision
    from napari_sammed.networks import fastest_dtype

    return str(fastest_dtype(device)).removeprefix("torch.")
