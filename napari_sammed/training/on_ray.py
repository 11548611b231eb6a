"""Learning on a Ray cluster: Ray Train places and connects the processes, each of which takes part in a run.

All machines have the data and the folder of the run at the same place, and the same napari-sammed; the first process
writes there.
"""

from __future__ import annotations

import importlib.util
import threading
from dataclasses import replace
from typing import Any

from napari_sammed.backend.base import Cancel, Progress
from napari_sammed.errors import InputError
from napari_sammed.training.fitting import Run, Standing, Told
from napari_sammed.training.launching import MakeTask, Speaker, Teller, check_picklable

_LOOK = 0.3  # s between two looks at what was said
_NEEDED = ("ray", "pyarrow", "pandas", "fsspec")  # of Ray Train, which says no more than that some are missing


class _Line:
    """An actor through which the processes and the one that began them talk."""

    def __init__(self) -> None:
        self._said: list[tuple[Any, ...]] = []
        self._stopped = False

    def say(self, what: tuple[Any, ...]) -> None:
        self._said.append(what)

    def said(self) -> list[tuple[Any, ...]]:
        said, self._said = self._said, []
        return said

    def stop(self) -> None:
        self._stopped = True

    def stopped(self) -> bool:
        return self._stopped


def run_on_ray(
    make_task: MakeTask,
    run: Run,
    *,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
    told: Told | None = None,
) -> Standing:
    """See `napari_sammed.training.launching.run`."""
    from napari_sammed.cluster import joined

    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"Learning on a cluster needs Ray Train, but {missing[0]} is missing: pip install 'napari-sammed[cluster]'."
        )
    check_picklable(make_task)
    if progress is not None:
        progress(f"starting {run.devices} processes on the cluster", 0.0)
    with joined(None if run.cluster == "here" else run.cluster, logs=False):
        import ray
        from ray.train import RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer

        gpus = run.accelerator in ("auto", "gpu", "cuda") and ray.cluster_resources().get("GPU", 0) >= run.devices
        line = ray.remote(num_cpus=0)(_Line).remote()
        trainer = TorchTrainer(
            _learn,
            train_loop_config={"make_task": make_task, "run": run, "line": line},
            scaling_config=ScalingConfig(num_workers=run.devices, use_gpu=gpus),
            run_config=RunConfig(storage_path=str((run.out / "ray").absolute())),
        )
        failed: list[Exception] = []
        thread = threading.Thread(target=_fit, args=(trainer, failed), daemon=True)
        tell, stopped = Teller(progress, told), False
        thread.start()
        while thread.is_alive():
            thread.join(_LOOK)
            for what in ray.get(line.said.remote()):
                tell.take(what)
            if not stopped and cancel is not None and cancel.is_set():
                stopped = True
                ray.get(line.stop.remote())
        for what in ray.get(line.said.remote()):
            tell.take(what)
        if failed:
            reason = str(failed[0]).strip().splitlines()[0]
            raise tell.error(run, _lost(failed[0]), otherwise=reason) from None
        return tell.end(run)


def _fit(trainer: Any, failed: list[Exception]) -> None:
    try:
        trainer.fit()
    except Exception as error:
        failed.append(error)


def _lost(error: Exception) -> str:
    """Whether a process was lost, of which the others tell no more than that a connection broke."""
    every = getattr(error, "worker_failures", {}).values()
    return (
        "" if all(isinstance(each, RuntimeError) for each in every) else "the cluster has lost it"
    )  # as `_learn` ends


def _learn(config: dict[str, Any]) -> None:
    """On a worker, whose processes Ray Train has connected."""
    import ray
    import ray.train.torch
    import torch

    device = ray.train.torch.get_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    line, first = config["line"], torch.distributed.get_rank() == 0
    speaker = Speaker(lambda what: ray.get(line.say.remote(what)), lambda: first and ray.get(line.stopped.remote()))
    run = replace(config["run"], accelerator=device.type)
    if not speaker.learn(config["make_task"], run):
        raise RuntimeError("This process has said why it has failed.")
