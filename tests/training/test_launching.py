"""Learning in several processes: as one that accumulates, and nobody is left waiting."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
import torch

pytest.importorskip("lightning_fabric", reason="needs the extra [train]")

from napari_sammed.errors import Cancelled, InputError
from napari_sammed.training import launching
from napari_sammed.training.fitting import STATE, Run, fit
from tests.training.learners import Plane, refused

ROOT = Path(__file__).resolve().parents[2]


def cpu(out, **how):
    return Run(out, **{"steps": 12, "measure_every": 4, "keep_every": 5, "accelerator": "cpu", "devices": 2, **how})


def test_one_device_learns_here(tmp_path):
    note = tmp_path / "note"
    launching.run(partial(Plane, note=note), cpu(tmp_path / "run", devices=1))
    assert note.read_text().split() == [str(os.getpid())]


@pytest.mark.full
def test_two_devices_learn_as_one_that_accumulates(tmp_path):
    """And go on as it does, from a state of either, with weights that each process drew for itself, and draws that have
    more losses here than there."""
    note, said, told = tmp_path / "note", [], []
    make = partial(Plane, "apart", note=note, uneven=True)
    standing = launching.run(
        make,
        cpu(tmp_path / "two", clip=1.0, average=0.9),
        progress=lambda text, share: said.append(text),
        told=lambda standing: told.append((standing.step, len(standing.curve))),
    )
    assert len({*note.read_text().split(), str(os.getpid())}) == 3
    assert standing.step == 12 and told == [(4, 1), (8, 2), (12, 3)]
    assert [row["rank"] for row in standing.curve] == [0, 0, 0]
    assert said[0] == "starting 2 processes" and said[-1].startswith("step 12 of 12, loss ")
    state = torch.load(tmp_path / "two" / STATE, weights_only=True)
    # the same from the same weights, which are unknown here: those of a state at the first step
    launching.run(make, cpu(tmp_path / "begun", steps=1, clip=1.0, average=0.9))
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / STATE).write_bytes((tmp_path / "begun" / STATE).read_bytes())
    alone = fit(Plane(uneven=True), cpu(tmp_path / "one", devices=1, accumulate=2, clip=1.0, average=0.9))
    both = launching.run(make, cpu(tmp_path / "other", clip=1.0, average=0.9))
    assert both.loss == pytest.approx(alone.loss, rel=1e-5) and both.best == pytest.approx(alone.best, rel=1e-4)
    one, other = (torch.load(tmp_path / name / STATE, weights_only=True) for name in ("one", "other"))
    for part in ("network", "average", "best"):
        torch.testing.assert_close(one[part], other[part], rtol=1e-4, atol=1e-6)
        assert not torch.equal(one[part]["0.weight"], state[part]["0.weight"]), "it began with others"
    torch.testing.assert_close(launching.best_of(tmp_path / "other"), other["best"], rtol=0, atol=0)


@pytest.mark.full
def test_what_has_no_gradient_anywhere_is_not_moved(tmp_path):
    launching.run(partial(Plane, resting=True), cpu(tmp_path / "two"))
    fit(Plane(resting=True), cpu(tmp_path / "one", devices=1, accumulate=2))
    one, two = (torch.load(tmp_path / name / STATE, weights_only=True)["network"] for name in ("one", "two"))
    torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("trouble", "error", "message"),
    [
        ("refuse", InputError, "^The image 7 cannot be read.$"),
        pytest.param("fail", RuntimeError, "ZeroDivisionError: a defect", marks=pytest.mark.full),
        pytest.param("die", InputError, "ended .*SIGKILL.*goes on from there", marks=pytest.mark.full),
        pytest.param("nan", InputError, "At step 6 the loss is nan", marks=pytest.mark.full),
    ],
)
def test_a_process_in_trouble_ends_all(tmp_path, trouble, error, message):
    note = tmp_path / "note"
    with pytest.raises(error, match=message):
        launching.run(partial(Plane, trouble=trouble, note=note), cpu(tmp_path / "run"))
    assert gone(note)
    assert torch.load(tmp_path / "run" / STATE, weights_only=True)["standing"]["step"] == 5


@pytest.mark.full
def test_a_process_that_others_wait_for_too_long_ends_all(tmp_path, monkeypatch):
    monkeypatch.setattr(launching, "PATIENCE", timedelta(seconds=10))
    note = tmp_path / "note"
    with pytest.raises(RuntimeError, match=r"(?i)timed out|timeout"):
        launching.run(partial(Plane, trouble="wait", note=note), cpu(tmp_path / "run"))
    assert gone(note)


@pytest.mark.full
def test_what_cannot_be_made_is_told(tmp_path):
    with pytest.raises(InputError, match="nothing labelled"):
        launching.run(refused, cpu(tmp_path))


def test_to_cancel_keeps_the_state(tmp_path):
    note, cancel = tmp_path / "note", threading.Event()
    run = cpu(tmp_path / "run", steps=10_000)
    with pytest.raises(Cancelled):
        launching.run(
            partial(Plane, note=note, slow=0.02),
            run,
            cancel=cancel,
            progress=lambda text, share: text.startswith("step 7 ") and cancel.set(),
        )
    assert gone(note)
    assert torch.load(run.out / STATE, weights_only=True)["standing"]["step"] >= 7


SCRIPT = """
import sys
from functools import partial
from pathlib import Path
from napari_sammed.training import launching
from tests.training.learners import Plane
from tests.training.test_launching import cpu

if __name__ == "__main__":
    out = Path(sys.argv[1])
    make = partial(Plane, slow=0.02, note=out / "note")
    launching.run(make, cpu(out / "run", steps=10_000), progress=lambda *what: print(*what, flush=True))
"""


@pytest.mark.full
@pytest.mark.parametrize("how", ["kill -9", "Ctrl-C", "SIGTERM"])
def test_where_the_program_ends_its_processes_do(tmp_path, how):
    (tmp_path / "script.py").write_text(SCRIPT)
    program = subprocess.Popen(
        [sys.executable, str(tmp_path / "script.py"), str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )
    for line in program.stdout:
        if line.startswith("step 8 "):
            break
    if how == "Ctrl-C":
        os.killpg(program.pid, signal.SIGINT)  # a terminal's goes to all
    else:
        os.kill(program.pid, signal.SIGKILL if how == "kill -9" else signal.SIGTERM)
    program.stdout.close()
    program.wait(60)
    assert gone(tmp_path / "note")
    assert torch.load(tmp_path / "run" / STATE, weights_only=True)["standing"]["step"] >= 7


def test_what_cannot_be(tmp_path):
    with pytest.raises(TypeError, match="function of a module"):
        launching.run(lambda: Plane(), cpu(tmp_path))
    with pytest.raises(InputError, match="need a process each"):
        fit(Plane(), cpu(tmp_path))
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="2 devices are wanted, but there are 0"):
            launching.run(Plane, cpu(tmp_path, accelerator="cuda"))


def gone(note: Path) -> bool:
    """Whether all processes end within some seconds."""
    pids = {int(pid) for pid in note.read_text().split()} - {os.getpid()}
    assert len(pids) == 2
    until = time.monotonic() + 30
    while pids and time.monotonic() < until:
        pids = {pid for pid in pids if alive(pid)}
        time.sleep(0.05)
    return not pids


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return not Path(f"/proc/{pid}/stat").exists() or Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
