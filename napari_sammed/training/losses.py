"""The losses that the published systems were trained with, each to its last constant."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Loss:
    """What is to become smaller, and what it is made of.

    Parameters
    ----------
    total : Tensor
        Scalar with a gradient.
    parts : dict of str to float
        For curves, before weighting.
    """

    total: Tensor
    parts: dict[str, float]


def _weighted(**parts: tuple[float, Tensor]) -> Loss:
    total = torch.stack([weight * value for weight, value in parts.values()]).sum()
    return Loss(total, {name: float(value.detach()) for name, (_, value) in parts.items()})


def classes(logits: Tensor, labels: Tensor, *, cross: float = 0.2, dice: float = 0.8) -> Loss:
    """SAMed's loss of a label map: cross entropy and Dice of all classes, the background among them.

    Parameters
    ----------
    logits : Tensor
        (B, 1 + classes, h, w); channel 0 is the background.
    labels : Tensor
        (B, h, w), whole numbers; see `napari_sammed.models.samed.zoom` for how they come to this size.
    cross, dice : float
        Weights of the two.

    Notes
    -----
    Reference sheet ``samed``, section 5. Sums of Dice are over the whole batch.
    """
    labels = labels.long()
    wanted = F.one_hot(labels, logits.shape[1]).movedim(-1, 1).to(logits.dtype)
    chance = logits.softmax(1)
    over = (0, 2, 3)
    squares = chance.square().sum(over) + wanted.square().sum(over)
    apart = 1 - (2 * (chance * wanted).sum(over) + 1e-5) / (squares + 1e-5)
    return _weighted(cross_entropy=(cross, F.cross_entropy(logits, labels)), dice=(dice, apart.mean()))


def box_masks(logits: Tensor, masks: Tensor) -> Loss:
    """MedSAM's loss, and SAM-Med3D's: Dice with squares in the denominator, of each mask, and cross entropy, in equal
    parts.

    Parameters
    ----------
    logits, masks : Tensor
        (B, 1, H, W) or (B, 1, D, H, W), at the size of the network's input; masks 0 or 1.

    Notes
    -----
    Reference sheets ``medsam``, sections 6 and 10, and ``sam_med3d``, section 8.
    """
    masks = masks.to(logits.dtype)
    return _weighted(
        dice=(1.0, _dice_of_squares(logits, masks).mean()),
        cross_entropy=(1.0, F.binary_cross_entropy_with_logits(logits, masks)),
    )


def box_masks_and_scores(logits: Tensor, masks: Tensor, scores: Tensor) -> Loss:
    """LiteMedSAM's loss: that of MedSAM, and how far the network misjudges its own masks.

    Parameters
    ----------
    logits, masks : Tensor
        (B, 1, H, W).
    scores : Tensor
        (B, 1), the IoU that the network expects.

    Notes
    -----
    Reference sheet ``medsam``, section 7.
    """
    masks = masks.to(logits.dtype)
    found, wanted = logits > 0, masks > 0.5
    over = (-2, -1)
    true = (found & wanted).sum(over) / (found | wanted).sum(over).clamp_min(1)
    both = box_masks(logits, masks)
    apart = F.mse_loss(scores, true.to(scores.dtype))
    return Loss(both.total + apart, {**both.parts, "score": float(apart.detach())})


def prompted_masks(logits: Tensor, masks: Tensor, scores: Tensor) -> Loss:
    """SAM-Med2D's loss: focal (20), Dice and the squared error of the expected IoU.

    Parameters
    ----------
    logits, masks : Tensor
        (B, 1, H, W), at the size of the network's input; masks 0 or 1.
    scores : Tensor
        (B, 1), the IoU that the network expects.

    Notes
    -----
    Reference sheet ``sam_med2d``, section 6. Sums are over the whole batch, so that small objects weigh little; the
    foreground weighs a third of the background in the focal part; and the masks learn from the expected IoU as well,
    whose true value is the soft one of the whole batch.
    """
    masks = masks.to(logits.dtype)
    chance = logits.sigmoid()
    hit = 0.25 * masks * (1 - chance).square() * (chance + 1e-12).log()
    spared = 0.75 * (1 - masks) * chance.square() * (1 - chance + 1e-12).log()
    focal = -(hit + spared).sum() / masks.numel()
    common, all_chance, all_masks = (chance * masks).sum(), chance.sum(), masks.sum()
    dice = 1 - (2 * common + 1) / (all_chance + all_masks + 1)
    overlap = (common + 1e-7) / (all_chance + all_masks - common + 1e-7)
    return _weighted(focal=(20.0, focal), dice=(1.0, dice), score=(1.0, (scores - overlap).square().mean()))


def window_masks(logits: Tensor, masks: Tensor) -> Loss:
    """SegVol's loss: cross entropy and the Dice of each mask, in equal parts.

    Parameters
    ----------
    logits, masks : Tensor
        (B, 1, z, y, x), at the size of the window; masks 0 or 1.

    Notes
    -----
    Reference sheet ``segvol``, section 7: 1 is added to the denominator of Dice alone, so that an empty mask costs 1.
    """
    masks = masks.to(logits.dtype)
    chance, over = logits.sigmoid(), tuple(range(1, logits.ndim))
    dice = 1 - 2 * (chance * masks).sum(over) / (chance.sum(over) + masks.sum(over) + 1)
    return _weighted(
        cross_entropy=(1.0, F.binary_cross_entropy_with_logits(logits, masks)),
        dice=(1.0, dice.mean()),
    )


def _dice_of_squares(logits: Tensor, masks: Tensor) -> Tensor:
    """1 - Dice of each mask, with squares in the denominator."""
    chance, over = logits.sigmoid(), tuple(range(1, logits.ndim))
    squares = chance.square().sum(over) + masks.square().sum(over)
    return 1 - (2 * (chance * masks).sum(over) + 1e-5) / (squares + 1e-5)
