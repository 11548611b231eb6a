"""The server as an application of Ray Serve: for the command, and for Serve's own configuration files.

In such a file, ``import_path: napari_sammed.server.cluster.application:build``, with `Arguments` as ``args``.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict
from ray import serve
from ray.serve import Application
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy

from napari_sammed.errors import InputError
from napari_sammed.server.cluster import share
from napari_sammed.server.cluster.ingress import Ingress
from napari_sammed.server.cluster.scaling import BySessions
from napari_sammed.server.cluster.worker import INGRESS, MakeBackend, Worker
from napari_sammed.server.settings import PORT, Limits, Settings

NAME = "napari-sammed"
"""Of the application."""

WORKER = "worker"
"""Name of the deployment of replicas."""

_MOST = 1000  # calls at once; more than there ever are, so that Serve never lets one wait
_REST = 30  # seconds for which fewer replicas have to be enough
_HEALTH = {"health_check_period_s": 2, "health_check_timeout_s": 30, "graceful_shutdown_timeout_s": 30}
_HEAD = "node:__internal_head__"


@dataclass(frozen=True)
class Scale:
    """How much of a cluster the server takes.

    Parameters
    ----------
    low, high : int
        Replicas, at least and at most.
    gpus, cpus : float
        Of one replica, as Ray counts them; parts of a GPU are shared with other replicas.
    sessions : int
        In use at one replica on average, above which there is to be another one.
    threads : int
        Of one replica, for numerical libraries without a GPU.
    ingress : str
        What the machine of the ingress is called among Ray's resources.
    """

    low: int = 1
    high: int = 1
    gpus: float = 0.0
    cpus: float = 1.0
    sessions: int = 8
    threads: int = 1
    ingress: str = _HEAD

    def check(self) -> None:
        """Refuse numbers that make no sense; InputError."""
        if not 1 <= self.low <= self.high:
            raise InputError(
                f"There are at least 1 and at most as many replicas as wanted, not {self.low}-{self.high}."
            )
        if self.gpus < 0 or (self.gpus > 1 and self.gpus % 1):
            raise InputError(f"A replica has a part of a GPU or whole ones, not {self.gpus:g}.")
        if self.cpus <= 0 or self.sessions < 1 or self.threads < 1:
            raise InputError("CPUs, threads and sessions of a replica are above 0.")


def application(settings: Settings, scale: Scale, backend: MakeBackend | None = None) -> Application:
    """A server; its data folder is prepared.

    Parameters
    ----------
    settings : Settings
    scale : Scale
    backend : callable, optional
        See `Worker`.

    Raises
    ------
    InputError
    """
    settings.check()
    scale.check()
    share.prepare(settings.data)
    quiet = {"enable_access_log": False, "log_level": "ERROR"}  # the ingress has a log of its own
    door = serve.deployment(
        Ingress,
        name=INGRESS,
        num_replicas=1,
        max_ongoing_requests=_MOST,
        ray_actor_options={"num_cpus": 0, "resources": {scale.ingress: 0.001}},
        logging_config=quiet,
        **_HEALTH,
    )
    replicas: dict[str, Any] = {"num_replicas": scale.low}
    if scale.high > scale.low:
        policy = AutoscalingPolicy(policy_function=BySessions, policy_kwargs={"sessions": scale.sessions})
        scaling = AutoscalingConfig(
            min_replicas=scale.low, max_replicas=scale.high, policy=policy, upscale_delay_s=5, downscale_delay_s=_REST
        )
        replicas = {"autoscaling_config": scaling}
    worker = serve.deployment(
        Worker,
        name=WORKER,
        max_ongoing_requests=_MOST,
        ray_actor_options={
            "num_cpus": scale.cpus,
            "num_gpus": scale.gpus,
            "runtime_env": {"env_vars": {"OMP_NUM_THREADS": str(scale.threads)}},
        },
        logging_config=quiet,
        **_HEALTH,
        **replicas,
    )
    return door.bind(settings, worker.bind(settings, backend))


class Arguments(BaseModel):
    """What a configuration file says; see `napari_sammed.server.settings` and `Scale` for what it means."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: Path
    host: str = "127.0.0.1"
    port: int = PORT
    key_file: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    insecure: bool = False
    names: tuple[str, ...] = ()
    device: str = "auto"
    precision: str = "auto"
    weights: dict[str, Path | tuple[Path, ...]] = {}
    limits: dict[str, float] = {}
    replicas: int | None = None
    min_replicas: int = 1
    max_replicas: int | None = None
    gpus_per_replica: float = 1.0
    cpus_per_replica: float = 1.0
    threads_per_replica: int = 1
    sessions_per_replica: int = 8
    ingress_on: str = _HEAD

    @property
    def settings(self) -> Settings:
        """Of the server."""
        known = {item.name: item.type for item in fields(Limits)}
        if unknown := sorted(self.limits.keys() - known.keys()):
            raise InputError(f"There is no limit {unknown[0]!r}: there are {', '.join(known)}.")
        limits = {name: value if known[name] == "float" else int(value) for name, value in self.limits.items()}
        own = {item.name for item in fields(Settings)} & set(type(self).model_fields) - {"limits", "weights"}
        values = {name: getattr(self, name) for name in own}
        weights = {name: list(files) if isinstance(files, tuple) else files for name, files in self.weights.items()}
        return Settings(**values, weights=weights, limits=replace(Limits(), **limits))

    @property
    def scale(self) -> Scale:
        """Of the server."""
        low = self.replicas or self.min_replicas
        return Scale(
            low,
            self.replicas or self.max_replicas or low,
            self.gpus_per_replica,
            self.cpus_per_replica,
            self.sessions_per_replica,
            self.threads_per_replica,
            self.ingress_on,
        )


def build(args: dict[str, Any]) -> Application:
    """Called by Ray Serve, with the ``args`` of a configuration file: `Arguments`.

    Raises
    ------
    InputError
        Also where keys are needed and there are none yet.
    """
    arguments = Arguments.model_validate(args)
    settings = arguments.settings
    if settings.keys is not None and not settings.keys.exists():
        raise InputError(
            f"There is no key in {settings.keys}: make one with `napari-sammed serve --data {settings.data} --new-key "
            "NAME`."
        )
    return application(settings, arguments.scale)
