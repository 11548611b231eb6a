"""One process at a time works in the folder of a run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from napari_sammed.errors import InputError
from napari_sammed.training import alone as module
from napari_sammed.training.alone import alone, at_work


def test_a_folder_is_taken_until_its_process_ends_however_that_is(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_PATIENCE", 0.1)
    assert not at_work(tmp_path)
    code = f"""
import pathlib, time
from napari_sammed.training.alone import alone
with alone(pathlib.Path({str(tmp_path)!r})):
    print("in", flush=True)
    time.sleep(60)
"""
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout.readline() == "in\n"
        assert at_work(tmp_path)
        with pytest.raises(InputError, match="Another run is at work in"), alone(tmp_path):
            pass
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.communicate()
    assert not at_work(tmp_path)
    with alone(tmp_path):
        pass
