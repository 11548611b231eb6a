"""An encoder while another program computes: how PyTorch's threads wait for each other decides.

    python tests/benchmarks/beside_others.py [--network litemedsam] [--rounds 5]

Prints seconds of one encoding (median), with libgomp's own waiting and with the one that importing `napari_sammed`
sets, on the quiet machine and beside one other busy process. Weights are random.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time

UNSET = "unset"


def encode(network: str, rounds: int) -> float:
    """Median seconds of one encoding, in this process."""
    from napari_sammed import networks  # before torch, as in the command and the plugin

    import torch  # isort: skip

    encoder = networks.optimized(networks.create(network).eval()).image_encoder
    side = networks.BUILDERS[network][0]["image_size"]
    image = torch.zeros(1, 3, side, side)
    seconds = []
    with torch.inference_mode():
        encoder(image)
        for _ in range(rounds):
            begun = time.perf_counter()
            encoder(image)
            seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds)


def measured(spins: str, network: str, rounds: int) -> float:
    """`encode` in a fresh process, since libgomp reads its setting once."""
    environment = {key: value for key, value in os.environ.items() if key != "GOMP_SPINCOUNT"}
    command = [sys.executable, __file__, "--network", network, "--rounds", str(rounds), "--child", spins]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="litemedsam")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--child", choices=(UNSET, "ours"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        if options.child == UNSET:
            import torch  # noqa: F401  (loads libgomp before our setting)
        print(encode(options.network, options.rounds))
        return
    print(f"| {options.network}, s | libgomp's own waiting | ours | ratio |\n|---|---:|---:|---:|")
    for label, others in (("quiet", 0), ("beside a busy process", 1)):
        busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(others)]
        try:
            own, ours = (measured(spins, options.network, options.rounds) for spins in (UNSET, "ours"))
        finally:
            for process in busy:
                process.kill()
        print(f"| {label} | {own:.2f} | {ours:.2f} | {own / ours:.2f} |", flush=True)


if __name__ == "__main__":
    main()
