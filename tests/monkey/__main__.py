"""Let the monkey loose; see the package."""

from __future__ import annotations

import argparse
import faulthandler
import os
import sys
import tempfile
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.monkey")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--minutes", type=float, default=None, help="instead of a number of steps")
    parser.add_argument("--round", type=int, default=150, help="steps with the same images")
    parser.add_argument("--after", type=int, default=0, help="as many steps, to repeat the rounds after them")
    parser.add_argument("--verbose", action="store_true", help="say every step")
    arguments = parser.parse_args()
    faulthandler.enable()
    if arguments.steps is None and arguments.minutes is None:
        arguments.steps = 150
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NAPARI_SAMMED_SESSIONS"] = f"{folder}/sessions"
        os.environ["NAPARI_CONFIG"] = f"{folder}/napari.yaml"  # else it would change the user's own settings
        os.environ["NAPARI_SAMMED_CONFIG"] = f"{folder}/config"
        from tests.monkey.monkey import Monkey

        monkey = Monkey(arguments.seed, Path(folder), arguments.round, arguments.verbose)
        monkey.steps = arguments.after
        try:
            monkey.run(None if arguments.steps is None else arguments.after + arguments.steps, arguments.minutes)
        finally:
            report(monkey)
        monkey.heart.stop()
        monkey.viewer.close()
    return 1 if monkey.faults.found else 0


def report(monkey) -> None:
    """What was done, and what went wrong."""
    done = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in monkey.counts.most_common())
    memory = monkey.memory
    print(f"seed {monkey.seed}: {monkey.steps} steps ({done})")
    print(monkey.heart.report())
    if memory.points:
        print(f"resident memory at the ends of rounds: {' '.join(f'{used:.0f}' for _, used in memory.points)} MiB")
        print(f"of it given out by malloc: {' '.join(f'{used:.0f}' for used in memory.in_use)} MiB")
        slopes = memory.slopes()
        if slopes is not None:
            print(f"after the first third: {', '.join(f'{slope:+.2f}' for slope in slopes)} MiB a minute")
        print(f"widgets at the ends of rounds: {' '.join(map(str, monkey.widget_counts))}")
    print(
        f"{len(monkey.faults.found)} faults"
        + (f"; the first:\n{monkey.faults.found[0]}" if monkey.faults.found else "")
    )


if __name__ == "__main__":
    sys.exit(main())
