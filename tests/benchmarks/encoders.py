"""Speed, memory and accuracy of the fast forms of SAM's family against their plain eager forms.

    python -m tests.benchmarks.encoders [sam-vit-b sam-med2d samed ...] [--threads 2] [--rounds 3] [--cpu-time]
    [--dtype float32]

Prints a Markdown table. Plain and fast take turns; times are medians. Peak memory is the growth of the peak resident
size over one embedding in a fresh process. Operations of matrix products and convolutions are counted while they run.
Weights are random, MedSAM's network is ``sam-vit-b``. "decode" is one click, prompt encoder included.

What to expect, counted by hand, in 10^9 operations (a product and a sum are two):

==================== ====================== ====================== ======================
part                 ViT-B, 1024            SAM-Med2D, 256         SAMed, 512
==================== ====================== ====================== ======================
linear layers        696                    43.5                   174
of padding           30.4 (plain only)      19.9 (plain only)      27.9 (plain only)
global attention     206                    0.8                    12.9
windows              23.6, fast 17.7        3.8, fast 1.0          8.5, fast 5.1
adapters             -                      22.6                   -
patches and neck     11.3                   0.7                    2.8
sum                  967, fast 931          91.3, fast 68.6        226, fast 195
ratio                1.04                   1.33                   1.16
==================== ====================== ====================== ======================

==================== ====================== ======================
part                 SAM-Med3D, 128         SegVol, 32 x 256 x 256
==================== ====================== ======================
linear layers        87.0                   348
of padding           84.3 (plain only)      -
global attention     3.2                    155
windows              185, fast 6.5          -
position terms       1.6, fast 0.4          -
patches and neck     7.6                    3.2
sum                  369, fast 105          506
ratio                3.5                    1.00
==================== ====================== ======================

What is gained beyond these ratios is memory traffic: the plain form writes and reads the logits of a global block about
nine times (product, two sums, softmax, product), at 1024 pixels 805 MB each time and block, all of it outside the
caches. SAM-Med2D's plain form also reorders 60 MB of convolution weights per block in every call. SAM-Med3D's asks the
system for 361 MB five times in each windowed block; on virtual machines the fresh pages can cost more than the
arithmetic, which is why its ratio differs much between machines.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from math import prod

import torch
from torch.utils.flop_counter import FlopCounterMode

from napari_sammed import networks
from napari_sammed.networks import PromptableNetwork
from tests.benchmarks import plain_sam, plain_sam3d
from tests.benchmarks.measuring import peak_growth, take_turns

MODELS = ("sam-vit-b", "sam-med2d", "samed", "sam-med3d", "segvol")
FORMS = ("plain", "fast")
HEADER = ("model", "step", *FORMS, "ratio", "largest difference")


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    if options.memory_of:
        print(_peak_memory(*options.memory_of, options.dtype))
        return
    _row(*HEADER)
    _row(*["---"] * len(HEADER))
    for name in options.models:
        _compare(name, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cpu-time", action="store_true", help="processor time instead of wall time")
    parser.add_argument("--dtype", default="float32", help="of the fast form's matrix products")
    parser.add_argument("--memory-of", nargs=2, metavar=("MODEL", "FORM"), help=argparse.SUPPRESS)
    return parser.parse_args()


def _plain(network: PromptableNetwork) -> PromptableNetwork:
    return (plain_sam if network.prompt_encoder.dims == 2 else plain_sam3d).plain(network)


def _forms(name: str, dtype: str) -> dict[str, Callable[[], PromptableNetwork]]:
    network = _with_random_tables(networks.create(name).eval())
    return {"plain": lambda: _plain(network), "fast": lambda: networks.optimized(network, getattr(torch, dtype))}


def _with_random_tables(network: PromptableNetwork) -> PromptableNetwork:
    """Position tables and updates start as zeros, which would hide differences."""
    generator = torch.Generator().manual_seed(0)
    for key, value in network.image_encoder.named_parameters():
        if "pos" in key or "linear_b" in key:
            torch.nn.init.normal_(value, std=0.1, generator=generator)
    return network


def _image(network: PromptableNetwork) -> torch.Tensor:
    size = network.prompt_encoder.input_size
    channels = 3 if len(size) == 2 else 1
    return torch.rand(1, channels, *size, generator=torch.Generator().manual_seed(0))


def _compare(name: str, options: argparse.Namespace) -> None:
    forms = {form: make() for form, make in _forms(name, options.dtype).items()}
    clock = time.process_time if options.cpu_time else time.perf_counter
    image = _image(forms["plain"])
    with torch.inference_mode():
        counts = {form: _operations(network, image) for form, network in forms.items()}
        calls = {form: lambda network=network: network.image_encoder(image) for form, network in forms.items()}
        seconds, embeddings = take_turns(calls, options.rounds, clock)
        calls = {form: lambda form=form: _decode(forms[form], embeddings[form]) for form in FORMS}
        decoding, masks = take_turns(calls, 3 * options.rounds, clock)
    peaks = {form: _peak_in_fresh_process(name, form, options) for form in FORMS}
    _figures(name, "10^9 operations", counts, "{:.0f}")
    _figures(name, "encode, s", seconds, "{:.2f}", _difference(embeddings))
    _figures(name, "peak memory, MiB", peaks, "{:.0f}")
    _figures(name, "decode, ms", {form: 1e3 * value for form, value in decoding.items()}, "{:.1f}", _difference(masks))


def _operations(network: PromptableNetwork, image: torch.Tensor) -> float:
    def in_place(_out: torch.Size, a: torch.Size, b: torch.Size, **_: object) -> int:
        return 2 * prod(a) * b[-1]

    def attention(q: torch.Size, k: torch.Size, *_: object, **__: object) -> int:
        return 4 * prod(q) * k[-2]

    aten = torch.ops.aten  # operations that the counter does not know
    mapping = {aten.baddbmm_: in_place, aten._scaled_dot_product_flash_attention_for_cpu: attention}
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        network.image_encoder(image)
    return counter.get_total_flops() / 1e9


def _decode(network: PromptableNetwork, embedding: torch.Tensor) -> torch.Tensor:
    centre = torch.tensor([[network.prompt_encoder.input_size]]) / 2
    sparse, dense = network.prompt_encoder(points=(centre, torch.ones(1, 1)), boxes=None, masks=None)
    masks, _ = network.mask_decoder(
        image_embeddings=embedding,
        image_pe=network.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=True,
    )
    return masks[:, -3:]  # SAMed's plain and fast forms answer with different numbers of masks


def _difference(results: dict[str, torch.Tensor]) -> float:
    return (results["plain"] - results["fast"]).abs().max().item()


def _peak_memory(name: str, form: str, dtype: str) -> float:
    network = _forms(name, dtype)[form]()
    image = _image(network)
    return peak_growth(lambda: network.image_encoder(image))


def _peak_in_fresh_process(name: str, form: str, options: argparse.Namespace) -> float:
    command = [sys.executable, "-m", "tests.benchmarks.encoders", "--threads", str(options.threads)]
    command += ["--dtype", options.dtype, "--memory-of", name, form]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _figures(name: str, step: str, values: dict[str, float], shown: str, difference: float | None = None) -> None:
    cells = [shown.format(values[form]) for form in FORMS]
    ratio = values["plain"] / values["fast"]
    _row(name, step, *cells, f"{ratio:.2f}", "" if difference is None else f"{difference:.1e}")


def _row(*cells: str) -> None:
    print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
