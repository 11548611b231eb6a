"""What the click network learns from objects of a picture that are clicked through, and how good it is at that."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from napari_sammed.models.click import near
from napari_sammed.networks import PromptableNetwork
from napari_sammed.networks.click_head import ClickHead
from napari_sammed.training.click_draws import Drawn
from napari_sammed.training.click_users import Clicker, boxed, mistaken
from napari_sammed.training.losses import Loss

ROUNDS = 4
"""Clicks at most in training; their number is drawn anew for each picture."""

_BOXED, _HANDED = 0.65, 0.1
"""How often the second click corrects what the box network says, and how often the first a mask of somebody else."""

_KEEP = 2.0  # what undoing what was right costs, beside what any mistake costs


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


def clicked(net: ClickHead, boxes: PromptableNetwork, drawn: Drawn, random: np.random.Generator) -> Loss:
    """Click through the objects of a picture: the mean loss of all clicks, and the Dice after the last one.

    Parameters
    ----------
    net : ClickHead
    boxes : PromptableNetwork
        LiteMedSAM, whose answers to boxes are to be corrected.
    drawn : Drawn
        All on one device.
    random : Generator
    """
    device = drawn.targets.device
    clicker = Clicker(drawn.targets.cpu().numpy() > 0.5, random)
    previous, kind = None, random.random()
    if kind < _BOXED:
        points, _ = clicker.click(np.zeros(drawn.targets.shape, bool))
        previous = boxed(boxes, drawn.features, clicker.targets, points[:, 0].numpy(), random)
    elif kind < _BOXED + _HANDED:
        masks = np.stack([mistaken(mask, clicker.targets, random) for mask in clicker.targets])
        previous = random.uniform(3, 10) * (2 * torch.from_numpy(masks).float()[:, None].to(device) - 1)
    begun = previous is not None
    masks = (previous[:, 0] > 0).cpu().numpy() if begun else np.zeros(drawn.targets.shape, bool)
    rounds = int(random.integers(1, ROUNDS + 1))
    every = []
    for number in range(rounds):
        points, labels = clicker.click(masks)
        logits, expected = answered(net, drawn, points, labels, previous)
        each = losses(logits, drawn.targets, previous)
        if number or begun:
            loss = each[:, 0].mean()
        else:  # the best reading learns; the others a little, so that none is forgotten
            loss = 0.5 * each[:, 0].mean() + each[:, 1:].amin(1).mean() + 0.05 * each[:, 1:].mean()
        every.append(loss + F.mse_loss(expected, overlaps(logits.detach(), drawn.targets)))
        previous, masks = following(logits, expected, None if number == 0 and not begun else previous, points)
    return Loss(torch.stack(every).mean(), {"Dice": dices(masks, clicker.targets)})


def answered(
    net: ClickHead, drawn: Drawn, points: Tensor, labels: Tensor, before: Tensor | None
) -> tuple[Tensor, Tensor]:
    """What the network says to clicks on the objects of a picture; points and labels as of `Clicker`."""
    walks = drawn.walks(points, labels, None if before is None else before.cpu())
    given = (tensor.to(drawn.features.device) for tensor in (points, labels))
    return net(drawn.features, drawn.pixels, *given, before, walks.to(drawn.features.device))


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
        pairs = zip(before[:, 0].cpu().numpy(), logits[:, 0].cpu().numpy(), places, strict=True)
        shown = torch.from_numpy(np.stack([near(old, new, (y, x)) for old, new, (x, y) in pairs])).to(logits)
    return shown[:, None], (shown > 0).cpu().numpy()


def dices(masks: np.ndarray, targets: np.ndarray) -> float:
    """Mean Dice of masks (B, h, w)."""
    common = (masks & targets).sum((1, 2))
    return float((2 * common / (masks.sum((1, 2)) + targets.sum((1, 2)))).mean())


@torch.no_grad()
def scores(net: ClickHead, drawn: Drawn, clicks: int) -> list[float]:
    """Mean Dice after each click in the middle of the largest mistake; the first is answered by the network itself."""
    clicker = Clicker(drawn.targets.cpu().numpy() > 0.5, None)
    masks, previous, row = np.zeros(drawn.targets.shape, bool), None, []
    for _ in range(clicks):
        points, labels = clicker.click(masks)
        logits, expected = answered(net, drawn, points, labels, previous)
        previous, masks = following(logits, expected, previous, points)
        row.append(dices(masks, clicker.targets))
    return row
