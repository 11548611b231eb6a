"""Weight files like the published ones, filled by the rule of the golden files: to try every model without downloads.

    python -m tests.golden_weights FOLDER [NAME ...]

writes ``FOLDER/<name>.pth`` for each model (all small ones without names; ``sam-vit-l`` and ``sam-vit-h`` take
gigabytes and are written only when named). Then ``NAPARI_SAMMED_WEIGHTS=FOLDER napari-sammed ...`` finds them. Their
masks mean nothing, and they are called "own file", since their sums are not the published ones.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from napari_sammed import networks
from napari_sammed.networks.official_files import to_lora_file
from tests.golden import golden_value

SMALL = ("litemedsam", "sam-vit-b", "medsam", "sam-med2d", "sam-med2d-plain", "samed", "samed_s")
"""``sam-med2d-plain`` is the one without adapters; ``samed`` and ``samed_s`` are LoRA files for ``sam-vit-b``."""
NAMES = (*SMALL, "sam-vit-l", "sam-vit-h", "samed_h")
_LORA = ("samed", "samed_s", "samed_h")
_SAMED_ONLY = ("num_classes", "rank", "base_image_size", "pixel_mean", "pixel_std")


def golden_tensors(name: str, config: Mapping[str, Any] | None = None) -> dict[str, Tensor]:
    """The tensors of a file of `NAMES`, by its own names; `config` as in `networks.create`."""
    return {key: _filled(key, value) for key, value in _empty(name, config).items()}


def golden_shapes(name: str, config: Mapping[str, Any] | None = None) -> dict[str, tuple[int, ...]]:
    """The shapes of a file of `NAMES`."""
    return {key: tuple(value.shape) for key, value in _empty(name, config).items()}


def _empty(name: str, config: Mapping[str, Any] | None) -> dict[str, Tensor]:
    """Tensors without memory."""
    changed = dict(config or {})
    if name == "sam-med2d-plain":
        name, changed = "sam-med2d", {**changed, "adapter": False}
    with torch.device("meta"):
        state = networks.create(name, changed).state_dict()
    return to_lora_file(state) if name in _LORA else state


def base_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Configuration of the SAM file that a SAMed of this configuration adds to."""
    plain = {key: value for key, value in config.items() if key not in _SAMED_ONLY}
    return {**plain, "image_size": config["base_image_size"]}


def write(folder: Path, name: str, config: Mapping[str, Any] | None = None) -> Path:
    """Write ``folder/<name>.pth`` as ``torch.save`` does, SAM-Med2D's under ``model`` as its training script does."""
    tensors: dict[str, Any] = golden_tensors(name, config)
    path = folder / f"{name}.pth"
    torch.save({"model": tensors} if name.startswith("sam-med2d") else tensors, path)
    return path


def _filled(key: str, value: Tensor) -> Tensor:
    if not value.is_floating_point():
        return torch.zeros(value.shape, dtype=value.dtype)
    return torch.as_tensor(golden_value(key, tuple(value.shape)), dtype=value.dtype)


def main() -> None:
    """The command of this file."""
    parser = argparse.ArgumentParser(description="Write golden-filled weight files.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    for name in chosen.names or SMALL:
        path = write(chosen.folder, name)
        print(f"{path}  {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
