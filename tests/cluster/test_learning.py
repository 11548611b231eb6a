"""Learning on a Ray cluster: as in one process that accumulates, and nobody is left waiting."""

from __future__ import annotations

import threading
from functools import partial

import pytest
import torch

pytest.importorskip("lightning_fabric", reason="needs the extra [train]")
pytest.importorskip("pyarrow", reason="needs Ray Train")

from napari_sammed.errors import Cancelled, InputError
from napari_sammed.training import launching
from napari_sammed.training.fitting import STATE, Run, fit
from tests.training.learners import Plane

pytestmark = pytest.mark.full


def on(cluster, out, **how):
    steps = {"steps": 12, "measure_every": 4, "keep_every": 5}
    return Run(out, **{**steps, "accelerator": "cpu", "devices": 2, "cluster": cluster, **how})


def test_processes_of_a_cluster_learn_as_one_that_accumulates(tmp_path, cluster):
    said, told = [], []
    both = launching.run(
        partial(Plane, uneven=True),
        on(cluster, tmp_path / "both"),
        progress=lambda text, share: said.append(text),
        told=lambda standing: told.append((standing.step, len(standing.curve))),
    )
    assert both.step == 12 and told == [(4, 1), (8, 2), (12, 3)]
    assert said[0].startswith("starting 2 processes") and said[-1].startswith("step 12 of 12, loss ")
    alone = fit(Plane(uneven=True), on(None, tmp_path / "alone", devices=1, accumulate=2))
    assert both.loss == pytest.approx(alone.loss, rel=1e-5)
    one, other = (torch.load(tmp_path / name / STATE, weights_only=True)["best"] for name in ("alone", "both"))
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_a_run_on_a_cluster_is_stopped_and_goes_on(tmp_path, cluster):
    cancel = threading.Event()
    with pytest.raises(Cancelled):
        launching.run(
            partial(Plane, slow=0.05),
            on(cluster, tmp_path, steps=2000),
            cancel=cancel,
            told=lambda standing: cancel.set(),
        )
    kept = torch.load(tmp_path / STATE, weights_only=True)["standing"]["step"]
    assert 4 <= kept < 2000
    standing = launching.run(Plane, on(cluster, tmp_path, steps=kept + 4))
    assert standing.step == kept + 4 and standing.curve[0]["step"] == 4


@pytest.mark.parametrize(("trouble", "message"), [("refuse", "^The image 7 cannot be read.$"), ("die", "ended")])
def test_trouble_in_one_process_ends_all(tmp_path, cluster, trouble, message):
    with pytest.raises(InputError, match=message):
        launching.run(partial(Plane, trouble=trouble), on(cluster, tmp_path))
