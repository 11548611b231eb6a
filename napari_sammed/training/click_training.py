"""Training of the click network on encoded pictures.

    python -m napari_sammed.training.click_training PICTURES OUT --steps 2000

`PICTURES` is the folder of `napari_sammed.training.click_pictures`; every tenth picture is kept for validation. `OUT`
holds the state of the training, from which the same command goes on after a stop, the curve (`curve.csv`) and, at the
end, the weights (`click.safetensors`, a moving average in half precision).
"""

from __future__ import annotations

import argparse
import csv
import logging
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from napari_sammed.models.click import near
from napari_sammed.networks import PromptableNetwork
from napari_sammed.networks.click_head import ClickHead
from napari_sammed.training.click_draws import Drawn, draw
from napari_sammed.training.click_users import Clicker, boxed, mistaken

logger = logging.getLogger(__name__)

PICTURES = 3
"""Pictures in one step."""

ROUNDS = 4
"""Clicks at most in training; their number is drawn anew for each picture."""

_BOXED, _HANDED = 0.65, 0.1
"""How often the second click corrects what the box network says, and how often the first a mask of somebody else."""

_KEEP = 2.0  # what undoing what was right costs, beside what any mistake costs
_AVERAGE = 0.997  # of the weights kept per step
_TENTH = 10  # every tenth picture is for validation


def losses(logits: Tensor, targets: Tensor, before: Tensor | None = None) -> Tensor:
    """Focal loss and Dice loss (SAM's, 20 to 1) of each mask.

    Parameters
    ----------
    logits : Tensor
        (B, M, h, w).
    targets : Tensor
        (B, h, w), 0..1.
    before : Tensor, optional
        Logits (B, 1, h, w) of the answer so far: what was right there counts more, and so does a worse Dice.

    Returns
    -------
    Tensor
        (B, M).
    """
    targets = targets[:, None].expand_as(logits)
    cross = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    chance = logits.sigmoid()
    focal = (chance - targets).abs() ** 2 * cross
    dice = _dice_loss(chance, targets)
    if before is None:
        return 20 * focal.mean((2, 3)) + dice
    right = (before > 0) == (targets > 0.5)
    worse = (dice - _dice_loss((before > 0).float(), targets)).relu()
    return 20 * (focal * (1 + _KEEP * right)).mean((2, 3)) + dice + worse


def _dice_loss(chance: Tensor, targets: Tensor) -> Tensor:
    overlap = 2 * (chance * targets).sum((2, 3)) + 1
    return 1 - overlap / (chance.sum((2, 3)) + targets.sum((2, 3)) + 1)


def overlaps(logits: Tensor, targets: Tensor) -> Tensor:
    """IoU of each mask, (B, M)."""
    masks, wanted = logits > 0, targets[:, None] > 0.5
    common = (masks & wanted).sum((2, 3))
    return common / (masks | wanted).sum((2, 3)).clamp_min(1)


def learn(
    net: ClickHead, boxes: PromptableNetwork, drawn: Drawn, random: np.random.Generator, scale: float
) -> list[float]:
    """Click through the objects of a picture and add up gradients; the mean Dice after each click."""
    clicker = Clicker(drawn.targets.numpy() > 0.5, random)
    previous, kind = None, random.random()
    if kind < _BOXED:
        points, _ = clicker.click(np.zeros(drawn.targets.shape, bool))
        previous = boxed(boxes, drawn.features, clicker.targets, points[:, 0].numpy(), random)
    elif kind < _BOXED + _HANDED:
        masks = np.stack([mistaken(mask, clicker.targets, random) for mask in clicker.targets])
        previous = random.uniform(3, 10) * (2 * torch.from_numpy(masks).float()[:, None] - 1)
    begun = previous is not None
    masks = (previous[:, 0] > 0).numpy() if begun else np.zeros(drawn.targets.shape, bool)
    rounds = int(random.integers(1, ROUNDS + 1))
    scores = []
    for number in range(rounds):
        points, labels = clicker.click(masks)
        logits, expected = net(
            drawn.features, drawn.pixels, points, labels, previous, drawn.walks(points, labels, previous)
        )
        every = losses(logits, drawn.targets, previous)
        if number or begun:
            loss = every[:, 0].mean()
        else:  # the best reading learns; the others a little, so that none is forgotten
            loss = 0.5 * every[:, 0].mean() + every[:, 1:].amin(1).mean() + 0.05 * every[:, 1:].mean()
        right = overlaps(logits.detach(), drawn.targets)
        loss = loss + F.mse_loss(expected, right)
        (loss * scale / rounds).backward()
        previous, masks = following(logits, expected, None if number == 0 and not begun else previous, points)
        scores.append(_dice(masks, clicker.targets))
    return [] if begun else scores


def _answered(
    net: ClickHead, drawn: Drawn, points: Tensor, labels: Tensor, before: Tensor | None
) -> tuple[Tensor, Tensor]:
    return net(drawn.features, drawn.pixels, points, labels, before, drawn.walks(points, labels, before))


def following(logits: Tensor, expected: Tensor, before: Tensor | None, points: Tensor) -> tuple[Tensor, np.ndarray]:
    """What the user sees, and what the next click refines.

    That is the likeliest reading of a first click, else mask 0 about the last of the points (B, N, 2) and the answer
    before elsewhere.
    """
    logits = logits.detach()
    if before is None:
        best = 1 + expected[:, 1:].argmax(1)
        shown = logits[torch.arange(len(logits)), best]
    else:
        places = ((points[:, -1] + 0.5) / 2).long().tolist()
        pairs = zip(before[:, 0].numpy(), logits[:, 0].numpy(), places, strict=True)
        shown = torch.from_numpy(np.stack([near(old, new, (y, x)) for old, new, (x, y) in pairs]))
    return shown[:, None], (shown > 0).numpy()


def _dice(masks: np.ndarray, targets: np.ndarray) -> float:
    common = (masks & targets).sum((1, 2))
    return float((2 * common / (masks.sum((1, 2)) + targets.sum((1, 2)))).mean())


@torch.no_grad()
def validate(net: ClickHead, paths: list[Path], clicks: int = 5) -> list[float]:
    """Mean Dice after each click in the middle of the largest mistake, on pictures that were not learnt from."""
    scores = []
    for index, path in enumerate(paths):
        drawn = draw(path, np.random.default_rng(index), plain=True)
        if drawn is None:
            continue
        clicker = Clicker(drawn.targets.numpy() > 0.5, None)
        masks, previous = np.zeros(drawn.targets.shape, bool), None
        row = []
        for _ in range(clicks):
            points, labels = clicker.click(masks)
            logits, expected = net(
                drawn.features, drawn.pixels, points, labels, previous, drawn.walks(points, labels, previous)
            )
            previous, masks = following(logits, expected, previous, points)
            row.append(_dice(masks, clicker.targets))
        scores.append(row)
    return np.mean(scores, axis=0).tolist()


def begin_with(net: ClickHead, weights: dict[str, Tensor]) -> None:
    """Take over weights; those of a head without walks will do, too."""
    mine = net.state_dict()
    first = "stem.0.weight"
    known = {key: value.float() for key, value in weights.items()}
    taken = torch.zeros_like(mine[first])
    taken[:, : known[first].shape[1]] = known[first]
    net.load_state_dict({**mine, **known, first: taken})


def train(
    pictures: Path,
    out: Path,
    boxes: PromptableNetwork,
    steps: int,
    rate: float,
    seed: int,
    every: int,
    begin: Path | None = None,
) -> None:
    """Train, or go on training, and keep the state every so many steps.

    Parameters
    ----------
    pictures, out : Path
        Folders of the encoded pictures, and of what becomes of them.
    boxes : PromptableNetwork
        LiteMedSAM, whose answers to boxes are to be corrected.
    steps, rate, seed, every : int, float, int, int
        Steps in all, learning rate, seed of everything that is drawn, steps between two looks at the validation.
    begin : Path, optional
        Weights to begin with.
    """
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    net, average = ClickHead(), ClickHead()
    if begin is not None:
        begin_with(net, load_file(begin))
    average.load_state_dict(net.state_dict())
    optimizer = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=1e-2)
    begun, kept = 0, out / "state.pt"
    if kept.exists():
        state = torch.load(kept, weights_only=True)
        net.load_state_dict(state["net"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        begun = state["step"]
    seen: list[list[float]] = []
    started = time.process_time()
    for step in range(begun, steps):
        random = np.random.default_rng([seed, step])
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (step + 1) / 50) * (0.5 * (1 + math.cos(math.pi * step / steps)) + 0.01)
        paths = [path for path in sorted(pictures.glob("*.npz")) if int(path.stem) % _TENTH]
        for index in random.choice(len(paths), PICTURES, replace=False):
            drawn = draw(paths[int(index)], random)
            if drawn is not None:
                seen.append(learn(net, boxes, drawn, random, 1 / PICTURES))
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        weight = min(_AVERAGE, (step + 1) / (step + 10))
        with torch.no_grad():
            for mean, value in zip(average.parameters(), net.parameters(), strict=True):
                mean.lerp_(value, 1 - weight)
        if (step + 1) % every == 0 or step + 1 == steps:
            held = [path for path in sorted(pictures.glob("*.npz")) if not int(path.stem) % _TENTH][:30]
            firsts = [row[0] for row in seen if row]
            first = float(np.mean(firsts)) if firsts else math.nan
            scores = validate(average, held)
            seen.clear()
            row = [step + 1, round(time.process_time() - started), len(paths), first, *scores]
            with (out / "curve.csv").open("a", newline="") as file:
                csv.writer(file).writerow([f"{v:.4f}" if isinstance(v, float) else v for v in row])
            logger.info(" ".join(f"{v:.3f}" if isinstance(v, float) else str(v) for v in row))
            state = {"net": net.state_dict(), "average": average.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save({**state, "step": step + 1}, kept.with_suffix(".part"))
            kept.with_suffix(".part").replace(kept)
    weights = {key: value.half().contiguous() for key, value in average.state_dict().items()}
    save_file(weights, out / "click.safetensors")


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
    boxes = load("litemedsam").network
    train(options.pictures, options.out, boxes, options.steps, options.rate, options.seed, options.every, options.begin)


if __name__ == "__main__":
    main()
