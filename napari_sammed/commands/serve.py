"""``napari-sammed serve``: answer the prompts of others, with this machine's GPU."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from napari_sammed.backend.loading import Files
from napari_sammed.commands.options import NEW_CLUSTER
from napari_sammed.commands.terminal import note, say
from napari_sammed.errors import InputError
from napari_sammed.server.settings import GIB, Limits, Settings

_NEEDED = ("fastapi", "uvicorn", "prometheus_client")


@dataclass(frozen=True)
class Request:
    """The options of the command; see `napari_sammed.server.settings.Settings`."""

    data: Path | None
    host: str
    port: int
    key_file: Path | None
    new_key: str | None
    tls_cert: Path | None
    tls_key: Path | None
    insecure: bool
    names: tuple[str, ...]
    device: str
    precision: str
    weights: tuple[str, ...]
    max_image_gib: float
    max_disk_gib: float
    answers_gib: float
    embeddings_gib: float
    idle_minutes: float
    keep_days: float
    jobs: int
    cluster: str | None = None
    replicas: int | None = None
    min_replicas: int | None = None
    max_replicas: int | None = None
    gpus_per_replica: float | None = None
    sessions_per_replica: int | None = None


def run(request: Request) -> int:
    """Run a server until it is told to end, or make a key for one; the exit status."""
    settings = _settings(request)
    if request.new_key is not None:
        _make_key(settings, request.new_key)
        return 0
    if missing := [name for name in _NEEDED if importlib.util.find_spec(name) is None]:
        raise InputError(f'The server needs {" and ".join(missing)}: pip install "napari-sammed[server]".')
    if _on_cluster(request):
        return _serve_on_cluster(settings, request)
    from napari_sammed.server.running import serve

    return serve(settings, announce)


def _on_cluster(request: Request) -> bool:
    given = {
        "--replicas": request.replicas,
        "--min-replicas": request.min_replicas,
        "--max-replicas": request.max_replicas,
        "--gpus-per-replica": request.gpus_per_replica,
        "--sessions-per-replica": request.sessions_per_replica,
    }
    others = [option for option, value in given.items() if value is not None]
    if others and request.cluster is None:
        raise InputError(f"{others[0]} belongs to --cluster.")
    if request.replicas is not None and (request.min_replicas, request.max_replicas) != (None, None):
        raise InputError("Give either --replicas, or --min-replicas and --max-replicas.")
    return request.cluster is not None


def _serve_on_cluster(settings: Settings, request: Request) -> int:
    if importlib.util.find_spec("ray") is None:
        raise InputError('A server on a cluster needs Ray: pip install "napari-sammed[cluster]".')
    from napari_sammed.server.cluster.running import serve_on_cluster

    return serve_on_cluster(
        settings,
        None if request.cluster == NEW_CLUSTER else request.cluster,
        announce,
        low=request.replicas or request.min_replicas,
        high=request.replicas or request.max_replicas,
        gpus=request.gpus_per_replica,
        sessions=request.sessions_per_replica,
    )


def _settings(request: Request) -> Settings:
    limits = Limits()
    sizes = {
        "image": request.max_image_gib,
        "disk": request.max_disk_gib,
        "answers": request.answers_gib,
        "embeddings": request.embeddings_gib,
    }
    for option, value in (*sizes.items(), ("idle", request.idle_minutes), ("keep", request.keep_days)):
        if not value > 0:
            raise InputError(f"Limits are above 0, not {value:g} ({option}).")
    limits = replace(
        limits,
        **{name: int(size * GIB) for name, size in sizes.items()},
        idle=request.idle_minutes * 60,
        keep=request.keep_days * 24 * 3600,
        jobs=request.jobs,
    )
    return Settings(
        data=(request.data or _data_folder()).expanduser().absolute(),
        host=request.host,
        port=request.port,
        key_file=request.key_file,
        tls_cert=request.tls_cert,
        tls_key=request.tls_key,
        insecure=request.insecure,
        names=request.names,
        device=request.device,
        precision=request.precision,
        weights=_weights(request.weights),
        limits=limits,
    )


def _data_folder() -> Path:
    import platformdirs

    return Path(platformdirs.user_data_dir("napari-sammed", appauthor=False)) / "server"


def _weights(items: Sequence[str]) -> dict[str, Files]:
    found: dict[str, list[Path]] = {}
    for item in items:
        name, sign, file = item.partition("=")
        if not sign or not name or not file:
            raise InputError(f"Weights are given as NAME=FILE, not {item!r}.")
        found.setdefault(name, []).append(Path(file))
    return {name: files[0] if len(files) == 1 else files for name, files in found.items()}


def _make_key(settings: Settings, name: str) -> None:
    from napari_sammed.server.keys import add_key

    path = settings.key_file or settings.data / "keys"
    key = add_key(path, name)
    note(f"The key of {name}, which is not shown again (its hash is in {path}):")
    say(key)


def announce(started) -> None:
    """Tell the operator what has started."""
    settings = started.settings
    note(f"napari-sammed serves at {settings.url}")
    note(f"  models: {', '.join(started.models)} (more: napari-sammed models pull NAME)")
    note(f"  device: {settings.device}; data: {settings.data}")
    if settings.keys is None:
        note("  no key is needed: every program and every user of this machine can reach it, nobody else")
    else:
        note(f"  keys: {settings.keys} (one more: napari-sammed serve --new-key NAME)")
    if started.new_key is not None:
        note("  the first key, made now, which is not shown again:")
        say(started.new_key)
    if not settings.loopback and not settings.tls:
        note("  INSECURE: without TLS, anybody on the way can read keys and images")
    note("Ctrl-C stops it.")
