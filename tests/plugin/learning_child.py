"""Says what ``napari-sammed finetune --json`` says, in seconds, and learns nothing.

Models named "bad" end with an error, "slow" ones take long steps, and of "balls" there is a file at the end. The state
is the number of the step.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

from napari_sammed.training.alone import alone

STEPS = 6


def event(which: str, **values: object) -> None:
    print(json.dumps({"event": which, **values}), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("command")
    parser.add_argument("data", type=Path)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--name")
    parser.add_argument("--check-only", action="store_true")
    given, _ = parser.parse_known_args()
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    state = given.output / "state"
    print("not an event", flush=True)
    with alone(given.output):
        event("progress", text="Preparing one (1 of 2)", share=0.5)
        event(
            "problem", kind="empty labels", file=str(given.data / "b.nii.gz"), text="nothing is labelled.", fatal=True
        )
        event("problem", kind="odd spacing", file=str(given.data / "a.nii.gz"), text="9 mm is much.", fatal=False)
        event("remark", text="The folder is read as sessions.")
        event("data", cases={"train": 3, "held_out": 1}, patients={"train": 2, "held_out": 1})
        if given.check_only:
            return 0
        event("settings", recipe="samed", base="sam-vit-b", steps=STEPS, settings={})
        if given.name == "bad":
            print("Note: something", file=sys.stderr)
            print("napari-sammed: At step 1 the loss is nan: learning has gone wrong.", file=sys.stderr)
            return 2
        begun = int(state.read_text()) if state.exists() else 0
        if not begun:
            event("measure", step=0, loss=None, score=0.4, liver=0.5, spleen=0.3)
        for step in range(begun, STEPS):
            event("progress", text=f"step {step + 1} of {STEPS}, loss {1 / (step + 1):.3g}", share=step / STEPS)
            for _ in range(600 if given.name == "slow" and step == 2 else 1):
                if not stopped:
                    time.sleep(0.05)
            if stopped:
                print("napari-sammed: interrupted", file=sys.stderr)
                return 130
            state.write_text(str(step + 1))
            event(
                "measure", step=step + 1, loss=1 / (step + 1), score=0.5 + step / 20, liver=0.6, spleen=0.4 + step / 10
            )
        before, after = {"score": 0.4, "liver": 0.5, "spleen": 0.3}, {"score": 0.75, "liver": 0.6, "spleen": 0.9}
        model = given.output / f"{given.name}.safetensors"
        if given.name == "balls":
            from napari_sammed.models import tuned
            from tests.models.test_tuned import CARD, small_lite

            tuned.write(model, small_lite(), replace(CARD, name=given.name, before=before, after=after))
        event("done", model=str(model), before=before, after=after, report=str(given.output / "report.html"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
