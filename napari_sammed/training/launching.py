"""Learning in this process, or in several: one a device of this machine or of a Ray cluster.

    from functools import partial
    from napari_sammed.training import launching

    standing = launching.run(partial(make_task, "some", "plain", arguments), Run(out, steps=1000, devices=2))
    weights = launching.best_of(out)  # wherever it was learnt

`make_task` is a function of a module, or a `functools.partial` of one, whose arguments can be pickled (paths, names,
settings): each process calls it to make its own `Task`. In the process of rank 0 it is called first, and in the others
when that one is through, so that what it prepares in files is there for them. With one device it is called here.
Scripts that use several need ``if __name__ == "__main__":``, since the processes import them.

Devices multiply the batch: two of them learn as one does that accumulates twice as much (`Run.accumulate`). Gradients
are averaged at each step; rank 0 alone measures, writes and tells. To cancel is to have the state kept at the same step
by all; a process that fails ends all others, and its error is raised here; where this process ends, they do too.

Processes are spawned by torch and connected for Fabric, which itself would run the command a second time ("ddp"): that
begins everything anew that the command does before it learns, opens napari twice where napari started it, and needs
``sys.argv`` to say how it was started, which it does not of a console script on Windows.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch
import torch.distributed
import torch.multiprocessing
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from napari_sammed.backend.base import Cancel, Progress
from napari_sammed.errors import Cancelled, InputError
from napari_sammed.training.fitting import Run, Standing, Task, Told, best_of, fit

__all__ = ["best_of", "run"]

MakeTask = Callable[[], Task]

PATIENCE = timedelta(hours=2)
"""For which processes wait for each other: rank 0 may measure for long."""

_LOOK = 0.2  # s between two looks at `cancel`
_GRACE = 30.0  # s for processes to keep their state
_LOOPBACK = {"linux": "lo", "darwin": "lo0"}


def run(
    make_task: MakeTask,
    run: Run,
    *,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
    told: Told | None = None,
) -> Standing:
    """Learn on as many devices as the run says, where it says.

    Parameters
    ----------
    make_task : callable
        See above.
    run : Run
    progress, cancel, told
        As those of `napari_sammed.training.fitting.fit`; called in this process.

    Returns
    -------
    Standing

    Raises
    ------
    InputError
        If there are too few devices, or whatever `fit` refuses; where a process ended, as of too little memory.
    Cancelled
    """
    run.check()
    if run.cluster is not None:
        from napari_sammed.training.on_ray import run_on_ray

        return run_on_ray(make_task, run, progress=progress, cancel=cancel, told=told)
    if run.devices == 1:
        return fit(make_task(), run, progress=progress, cancel=cancel, told=told)
    check_picklable(make_task)
    on_gpus = _on_gpus(run)
    if progress is not None:
        progress(f"starting {run.devices} processes", 0.0)
    tell = Teller(progress, told)
    with _started(make_task, run, on_gpus) as (context, every):
        lines = list(every)
        stopped = False
        try:
            while not context.join(timeout=0):
                for line in wait(lines, _LOOK):
                    with contextlib.suppress(EOFError, OSError):
                        tell.take(line.recv())
                        continue
                    lines.remove(line)
                if not lines:
                    time.sleep(_LOOK / 10)  # they have said all, and end
                if not stopped and cancel is not None and cancel.is_set():
                    stopped = True
                    with contextlib.suppress(OSError):  # it has ended meanwhile
                        every[0].send("stop")
        except (ProcessRaisedException, ProcessExitedException) as error:
            tell.take_rest(lines)
            raise tell.error(run, _killed(context.processes), str(error)) from None
        tell.take_rest(lines)
    return tell.end(run)


def check_picklable(make_task: MakeTask) -> None:
    """TypeError if it cannot be given to other processes."""
    try:
        pickle.dumps(make_task)
    except Exception as error:
        raise TypeError(f"make_task is a function of a module with plain arguments, not {make_task!r}.") from error


class Teller:
    """What processes say, taken to whoever wants to know.

    Messages are tuples: ("progress", text, share), ("told", Standing), ("done", Standing), ("cancelled",),
    ("refused", sentence) and ("failed", traceback, when).
    """

    def __init__(self, progress: Progress | None, told: Told | None) -> None:
        self._progress, self._told = progress, told
        self._last: dict[str, tuple[Any, ...]] = {}

    def take(self, said: tuple[Any, ...]) -> None:
        match said:
            case ("progress", text, share):
                if self._progress is not None:
                    self._progress(text, share)
            case ("told", standing):
                if self._told is not None:
                    self._told(standing)
            case ("failed", _, when):
                if "failed" not in self._last or when < self._last["failed"][1]:
                    self._last["failed"] = said[1:]
            case (what, *rest):
                self._last[what] = tuple(rest)

    def take_rest(self, lines: list[Connection]) -> None:
        """What lies in lines whose other ends are gone."""
        for line in lines:
            with contextlib.suppress(EOFError, OSError):
                while line.poll():
                    self.take(line.recv())

    def end(self, run: Run) -> Standing:
        """How the run ended: its standing, or the error."""
        if "done" in self._last:
            return self._last["done"][0]
        if "cancelled" in self._last:
            raise Cancelled
        raise self.error(run)

    def error(self, run: Run, killed: str = "", otherwise: str = "it said nothing") -> Exception:
        """Why it has failed: others fail because of the first one.

        Parameters
        ----------
        run : Run
        killed : str
            What ended a process from outside.
        otherwise : str
            For want of a better reason.
        """
        if "refused" in self._last:
            return InputError(self._last["refused"][0])
        if "failed" in self._last and not killed:
            return RuntimeError(f"A process that learns has failed:\n{self._last['failed'][0]}")
        return InputError(
            f"A process that learns has ended ({killed or otherwise}), as of too little memory. What was learnt before "
            f"is in {run.out}: the same again goes on from there."
        )


class Speaker:
    """In a process that learns: the way to `Teller`, in place of the callables and the event of `fit`.

    Parameters
    ----------
    send : callable
        Sends a message.
    stop : callable
        Whether to stop.
    """

    def __init__(self, send: Callable[[tuple[Any, ...]], None], stop: Callable[[], bool]) -> None:
        self._send, self.is_set = send, stop

    def say(self, *what: Any) -> None:
        with contextlib.suppress(OSError):  # nobody is there any more, which `is_set` tells
            self._send(what)

    def progress(self, text: str, share: float) -> None:
        self.say("progress", text, share)

    def told(self, standing: Standing) -> None:
        self.say("told", standing)

    def learn(self, make_task: MakeTask, run: Run) -> bool:
        """Take part in a run, whose processes are connected; whether all went well."""
        try:
            task = make_in_turn(make_task)
            standing = fit(task, run, progress=self.progress, cancel=self, told=self.told)  # type: ignore[arg-type]
        except Cancelled:
            self.say("cancelled")
        except InputError as error:
            self.say("refused", str(error))
            return False
        except BaseException:
            self.say("failed", traceback.format_exc(), time.time())
            return False
        else:
            if torch.distributed.get_rank() == 0:  # which alone has all that was measured
                self.say("done", standing)
        return True


def make_in_turn(make_task: MakeTask) -> Task:
    """Rank 0 first."""
    first = torch.distributed.get_rank() == 0
    task = make_task() if first else None
    torch.distributed.barrier()
    return make_task() if task is None else task


def _on_gpus(run: Run) -> bool:
    count = torch.cuda.device_count() if run.accelerator in ("auto", "gpu", "cuda") else 0
    if not count and run.accelerator in ("auto", "cpu"):
        return False
    if count < run.devices:
        raise InputError(f"{run.devices} devices are wanted, but there are {count} that several processes can use.")
    return True


@contextlib.contextmanager
def _started(make_task: MakeTask, run: Run, on_gpus: bool) -> Iterator[tuple[Any, list[Connection]]]:
    """Processes, and lines to them, rank 0 first; they are ended with the block, those that are well by themselves."""
    folder = tempfile.TemporaryDirectory(prefix="sammed-learning-", ignore_cleanup_errors=True)
    pairs = [multiprocessing.Pipe() for _ in range(run.devices)]
    context = None
    try:
        context = torch.multiprocessing.spawn(
            _learn,
            (make_task, run, on_gpus, folder.name, PATIENCE, [there for _, there in pairs]),
            run.devices,
            join=False,
        )
        for _, there in pairs:
            there.close()
        yield context, [here for here, _ in pairs]
    finally:
        for here, _ in pairs:
            here.close()  # for them a reason to stop
        if context is not None:
            _end(context.processes)
        folder.cleanup()


def _end(processes: list[Any]) -> None:
    until = time.monotonic() + _GRACE
    for process in processes:
        process.join(max(0.0, until - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()


def _learn(
    rank: int,
    make_task: MakeTask,
    run: Run,
    on_gpus: bool,
    folder: str,
    patience: timedelta,
    lines: list[Connection],
) -> None:
    """One of the processes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's goes to all; this one is told by the one that began it
    line = lines[rank]
    for other in lines:
        if other is not line:
            other.close()
    if sys.platform in _LOOPBACK:
        for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
            os.environ.setdefault(name, _LOOPBACK[sys.platform])
    if on_gpus:
        torch.cuda.set_device(rank)
    else:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // run.devices))
    torch.distributed.init_process_group(
        "nccl" if on_gpus else "gloo",
        store=torch.distributed.FileStore(str(Path(folder) / "meeting"), run.devices),
        rank=rank,
        world_size=run.devices,
        timeout=patience,
    )
    run = replace(run, accelerator="cuda" if on_gpus else "cpu")
    well = Speaker(line.send, lambda: rank == 0 and line.poll()).learn(make_task, run)
    if not well:
        os._exit(1)  # at once: what torch would clean up waits for the others
    torch.distributed.destroy_process_group()


def _killed(processes: list[Any]) -> str:
    """The signal that ended one of them, but for the one by which the others are ended then."""
    for process in processes:
        if process.exitcode is not None and process.exitcode < 0 and -process.exitcode != signal.SIGTERM:
            return f"by the signal {signal.Signals(-process.exitcode).name}"
    return ""
