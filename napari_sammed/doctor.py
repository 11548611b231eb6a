"""Is everything here that the program needs, and does it work? Every finding is a sentence that can be sent to others.

Nothing is fetched, and the network is not touched unless that is asked for.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from napari_sammed import __version__
from napari_sammed.errors import InputError
from napari_sammed.models import registry, tuned_store
from napari_sammed.models.sources import by_hand
from napari_sammed.models.storage import cache_folder

_NEEDED = ("numpy", "scipy", "scikit-image", "SimpleITK", "torch", "safetensors", "pip")
_OPTIONAL = ("napari", "PyQt6", "PyQt5", "PySide6", "PySide2", "monai", "fastapi", "ray")
_LITTLE_SPACE = 1 << 30  # bytes
_PROBE = "platformdirs"  # a dependency of ours; its wheel is some 20 kB
_PROBE_SECONDS = 60


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Parameters
    ----------
    about : str
    text : str
        What was found.
    good : bool
    essential : bool
        Whether nothing works without it.
    """

    about: str
    text: str
    good: bool = True
    essential: bool = False


def examine(network: bool = False) -> Iterator[Finding]:
    """Look at everything, one after another; `network` also tries whether pip can fetch a small package."""
    yield Finding("napari-sammed", f"{__version__}, {Path(__file__).parent}")
    yield Finding("Python", f"{platform.python_version()}, {sys.executable}, {platform.platform()}")
    yield from _versions()
    if _works("torch"):
        yield from _devices()
        yield _forward_pass()
    for kind in ("weights", "samples"):
        yield _folder(cache_folder(kind), kind)
    yield from _weights()
    yield Finding("display", *_display())
    if network:
        yield _pip_fetches()


def _versions() -> Iterator[Finding]:
    for name in _NEEDED:
        version = _version(name)
        yield Finding(name, version or "is not installed", version is not None, essential=name != "pip")
    for module, name in (("numpy", "numpy"), ("SimpleITK", "SimpleITK"), ("torch", "torch")):
        if _version(name) is not None and (problem := _import_problem(module)):
            yield Finding(name, f"is installed but cannot be imported: {problem}", False, essential=True)
    for name in _OPTIONAL:
        version = _version(name)
        if version is not None:
            yield Finding(name, version)
    if _version("napari") is None:
        yield Finding("napari", 'is not installed; `pip install "napari-sammed[napari]"` brings it and Qt')


def _devices() -> Iterator[Finding]:
    import torch

    from napari_sammed.backend.devices import available

    for device in available():
        if device == "cuda":
            for number in range(torch.cuda.device_count()):
                properties = torch.cuda.get_device_properties(number)
                bfloat = "with" if torch.cuda.is_bf16_supported() else "without"
                memory = f"{properties.total_memory / 2**30:.0f} GiB, {bfloat} bfloat16"
                yield Finding(f"cuda:{number}", f"{properties.name}, {memory}")
        elif device == "cpu":
            capability = torch.backends.cpu.get_cpu_capability()
            yield Finding("cpu", f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, {capability}")
        else:
            yield Finding(device, "is here")
    if torch.version.cuda and "cuda" not in available():
        yield Finding("cuda", f"torch was built for CUDA {torch.version.cuda}, but finds no GPU", False)


def _forward_pass() -> Finding:
    """Run the whole network once, with random weights, on every kind of input that it takes."""
    about = "LiteMedSAM"
    try:
        import torch

        from napari_sammed.backend.devices import choose

        device = choose("auto")
        network = registry.create_network("litemedsam").eval().to(device)
        start = time.perf_counter()
        with torch.inference_mode():
            embedding = network.image_encoder(torch.zeros(1, 3, 256, 256, device=device))
            sparse, dense = network.prompt_encoder(
                points=None, boxes=torch.tensor([[60.0, 60.0, 200.0, 200.0]], device=device), masks=None
            )
            logits, _ = network.mask_decoder(
                image_embeddings=embedding,
                image_pe=network.prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=False,
            )
        finite = bool(torch.isfinite(logits).all())
        seconds = time.perf_counter() - start
    except Exception as error:  # whatever goes wrong inside torch is a finding
        return Finding(about, f"the network does not run: {type(error).__name__}: {error}", False, essential=True)
    text = f"one forward pass with random weights on {device}: {seconds:.1f} s"
    return Finding(about, text if finite else f"{text}, but the result is not finite", finite, essential=True)


def _folder(folder: Path, kind: str) -> Finding:
    about = f"folder of {kind}"
    existing = next(parent for parent in (folder, *folder.parents) if parent.is_dir())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        return Finding(about, f"{folder} cannot be written to: {error.strerror}", False)
    free = shutil.disk_usage(existing).free
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0
    text = f"{folder}, {size / 1e6:.0f} MB in it, {free / 1e9:.1f} GB free"
    return Finding(about, text, free > _LITTLE_SPACE)


def _weights() -> Iterator[Finding]:
    for name in registry.names():
        try:
            row = registry.row(name, verify=True)
        except InputError as error:
            yield Finding(f"weights of {name}", str(error), False)
            continue
        if row.status == "absent":
            verb = "tells how to get them" if by_hand(registry.card(name)) else "fetches them"
            yield Finding(f"weights of {name}", f"not on this machine; `napari-sammed models pull {name}` {verb}")
        elif row.path is not None:
            yield Finding(f"weights of {name}", f"{row.status}, {row.path}", row.status != "damaged")
    for error in tuned_store.damaged():
        yield Finding("tuned model", str(error), False)


def has_display() -> bool:
    """Whether a window could be opened."""
    if sys.platform.startswith("linux"):
        return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    return True


def _display() -> tuple[str, bool]:
    return ("is here", True) if has_display() else ("none: napari cannot open a window", True)


def _pip_fetches() -> Finding:
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-deps", "--ignore-installed", "--quiet"]
    command += ["--retries", "1", "--no-input", "--disable-pip-version-check", _PROBE]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PROBE_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return Finding("network", f"pip did not reach its package index within {_PROBE_SECONDS} s", False)
    if done.returncode == 0:
        return Finding("network", "pip reaches its package index")
    said = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    return Finding("network", f"pip cannot fetch packages: {said}", False)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _import_problem(module: str) -> str | None:
    try:
        importlib.import_module(module)
    except Exception as error:  # a broken binary raises anything
        return f"{type(error).__name__}: {error}"
    return None


def _works(module: str) -> bool:
    return _import_problem(module) is None
