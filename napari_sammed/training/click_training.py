"""Training of the click network on encoded pictures.

    python -m napari_sammed.training.click_training PICTURES OUT --steps 2000

`PICTURES` is the folder of `napari_sammed.training.click_pictures`; every tenth picture is kept for validation. `OUT`
holds the state of the training, from which the same command goes on after a stop, the curve (`curve.csv`) and, at the
end, the weights (`click.safetensors`, the best moving average in half precision).
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from napari_sammed.errors import InputError
from napari_sammed.networks import PromptableNetwork
from napari_sammed.networks.click_head import ClickHead
from napari_sammed.training.click_draws import draw
from napari_sammed.training.click_learning import clicked, scores
from napari_sammed.training.click_pictures import Encoded
from napari_sammed.training.fitting import Run, Standing, fit
from napari_sammed.training.losses import Loss
from napari_sammed.training.schedules import cosine

logger = logging.getLogger(__name__)

PICTURES = 3
"""Pictures in one step."""

_WARM_UP = 50  # steps
_AVERAGE = 0.997  # of the weights kept per step
_TENTH = 10  # every tenth picture is for validation
_HELD, _CLICKS = 30, 5  # pictures to validate with, and clicks on each


class ClickTask:
    """A `napari_sammed.training.fitting.Task`: a picture a draw, so accumulate over `PICTURES` of them.

    Parameters
    ----------
    network : ClickHead
    pictures : Path
        Folder of the encoded pictures, in which there may be more from step to step.
    boxes : PromptableNetwork
        LiteMedSAM, whose answers to boxes are to be corrected.
    steps : int
        After which the rate is low.
    peak : float
        Highest rate.

    Raises
    ------
    InputError
        If there are no pictures to learn from.
    """

    def __init__(
        self, network: ClickHead, pictures: Path, boxes: PromptableNetwork, steps: int, peak: float = 1e-3
    ) -> None:
        self.network = network.requires_grad_(True)
        self._folder, self._boxes, self._steps, self._peak = pictures, boxes, steps, peak
        if not self._paths(held=False):
            raise InputError(f"There are no pictures to learn from in {pictures}.")

    def optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.network.parameters(), lr=self._peak, weight_decay=1e-2)

    def rate(self, step: int) -> float:
        return cosine(step, self._peak, self._steps, warm_up=_WARM_UP)

    def losses(self, random: np.random.Generator, device: torch.device) -> Iterator[Loss]:
        paths = self._paths(held=False)
        drawn = draw(Encoded.read(paths[int(random.integers(len(paths)))]), random)
        if drawn is not None:
            yield clicked(self.network, self._boxes.to(device), drawn.to(device), random)

    def measure(self, device: torch.device) -> Mapping[str, float]:
        """Mean Dice after each click, and of all of them, on pictures that were not learnt from."""
        held = (
            draw(Encoded.read(path), np.random.default_rng(index), plain=True)
            for index, path in enumerate(self._paths(held=True)[:_HELD])
        )
        rows = [scores(self.network, drawn.to(device), _CLICKS) for drawn in held if drawn is not None]
        if not rows:
            return {"score": 0.0}
        means = np.mean(rows, axis=0)
        return {"score": float(means.mean())} | {f"{n} clicks": float(mean) for n, mean in enumerate(means, 1)}

    def _paths(self, *, held: bool) -> list[Path]:
        return [path for path in sorted(self._folder.glob("*.npz")) if (not int(path.stem) % _TENTH) == held]


def begin_with(net: ClickHead, weights: dict[str, Tensor]) -> None:
    """Take over weights; those of a head without walks will do, too."""
    mine = net.state_dict()
    first = "stem.0.weight"
    known = {key: value.float() for key, value in weights.items()}
    taken = torch.zeros_like(mine[first])
    taken[:, : known[first].shape[1]] = known[first]
    net.load_state_dict({**mine, **known, first: taken})


def train(task: ClickTask, run: Run) -> None:
    """Learn, or go on learning, and have the weights in the run's folder."""

    def told(standing: Standing) -> None:
        logger.info(" ".join(f"{name} {value:.4g}" for name, value in standing.curve[-1].items()))

    fit(task, run, told=told)
    weights = {key: value.half().cpu().contiguous() for key, value in task.network.state_dict().items()}
    save_file(weights, run.out / "click.safetensors")


def main() -> None:
    from napari_sammed.models.registry import load

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", type=int, default=100, help="steps between two looks at the validation pictures")
    parser.add_argument("--begin", type=Path, help="weights to begin with, such as those in the package")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.manual_seed(options.seed)
    network = ClickHead()
    if options.begin is not None:
        begin_with(network, load_file(options.begin))
    try:
        task = ClickTask(network, options.pictures, load("litemedsam").network, options.steps, options.rate)
        train(task, settings(options.out, options.steps, options.seed, options.every))
    except InputError as error:
        parser.error(str(error))


def settings(out: Path, steps: int, seed: int = 0, every: int = 100) -> Run:
    """How the network in the package is trained."""
    return Run(
        out,
        steps,
        seed,
        measure_every=every,
        keep_every=every,
        accumulate=PICTURES,
        clip=1.0,
        average=_AVERAGE,
        accelerator="cpu",
    )


if __name__ == "__main__":
    main()
