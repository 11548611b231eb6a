"""Clicks on an image that another network has encoded: a small U-Net between the embedding and the mask.

The embedding says what lies where; the clicks say which of it is meant. Beside where the clicks are, the network is
told how much every place looks like the clicked ones, in grey values or colours and in the embedding, and where
random walks from the clicks come home, which spares it from learning to compare and to follow edges. Clicks, their
distances and the earlier answer are maps, after RITM (Sofiiuk, Petrov, Konushin, IEEE ICIP 2022, arXiv:2102.06583);
several readings of one click, with their expected IoU, after Segment Anything (Kirillov et al. 2023, section 3).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SQUASHED = 3.0
"""Logit of the answer mended by a walk that is 0.76 on its map."""

_FAR = 1.0  # of a frame: the distance to a click where there is none
_SURE = 3.0  # a logit at which the earlier answer is rather sure
_SPREAD = 2.5  # pixels of the fine maps that a click covers
_MOST = 10.0  # logits of an answer that is taken over
_TRUST = (0.0, -5.0, -0.85)  # at first, in what is drawn, in the earlier answer and in the one that a walk mended


class ClickHead(nn.Module):
    """Embedding, pixels, clicks and the earlier answer become mask logits and their expected IoU.

    Parameters
    ----------
    embed_dim
        Channels of the embedding.
    widths
        Channels at half, a quarter, an eighth and a sixteenth of the frame.
    readings
        Masks of one click; mask 0 is an extra one, for clicks that leave no doubt.
    heads, head_dim
        Ways of comparing embeddings, and their length.
    walks
        Maps of random walks from the clicks.

    Notes
    -----
    The frame is square and four times as large as the embedding's grid; masks have half its size.
    """

    def __init__(
        self,
        embed_dim: int = 256,
        widths: tuple[int, int, int, int] = (16, 48, 96, 128),
        readings: int = 3,
        heads: int = 4,
        head_dim: int = 16,
        walks: int = 3,
    ) -> None:
        super().__init__()
        half, quarter, eighth, sixteenth = widths
        self.heads = heads
        self.masks = readings + 1
        self.walks = walks
        self.place = nn.Conv2d(embed_dim, quarter, 1)
        self.compare = nn.Conv2d(embed_dim, heads * head_dim, 1)
        self.stem = _convolution(10 + walks, half)
        self.down_2 = _convolution(half, quarter, stride=2)
        self.merge = nn.Sequential(nn.Conv2d(2 * quarter + 2 * heads, quarter, 1), Residual(quarter))
        self.down_4 = _convolution(quarter, eighth, stride=2)
        self.middle_8 = Residual(eighth)
        self.down_8 = _convolution(eighth, sixteenth, stride=2)
        self.middle_16 = nn.Sequential(Residual(sixteenth), Everywhere(sixteenth), Residual(sixteenth))
        self.up_8 = Joint(sixteenth, eighth)
        self.up_4 = Joint(eighth, quarter)
        self.up_2 = Joint(quarter, half)
        self.draw = nn.Conv2d(half, self.masks, 1)
        self.trust = nn.Conv2d(half, len(_TRUST), 1)
        nn.init.zeros_(self.trust.weight)
        self.trust.bias = nn.Parameter(torch.tensor(_TRUST))
        self.judge = nn.Sequential(nn.Linear(2 * quarter + sixteenth + 1, 64), nn.GELU(), nn.Linear(64, 1))

    def forward(
        self,
        features: Tensor,
        pixels: Tensor,
        points: Tensor,
        labels: Tensor,
        previous: Tensor | None = None,
        walked: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Answer B sets of clicks on one image.

        Parameters
        ----------
        features
            (1, C, h, w), from the image encoder.
        pixels
            (1, 3, 4 h, 4 w), 0..1: the encoder's input.
        points
            (B, N, 2), x and y in pixels of the frame, the centre of the first pixel being 0.
        labels
            (B, N): 1 inside of the object, 0 outside, -1 no click.
        previous
            Logits (B, 1, 2 h, 2 w) of the answer to the clicks before; zeros or None where there is none.
        walked
            (B, walks, 2 h, 2 w), -1..1: how much likelier than usual random walkers come home to the object; the last
            one the earlier answer, mended by a walk, ``tanh(logits / SQUASHED)``. Zeros or None where there was none.

        Returns
        -------
        masks : Tensor
            Logits, (B, 1 + readings, 2 h, 2 w).
        iou : Tensor
            Expected IoU, (B, 1 + readings).
        """
        fine = F.avg_pool2d(pixels, 2)
        side = fine.shape[-1]
        places = (points + 0.5) / (4 * features.shape[-1])  # of the frame, 0..1
        if previous is None:
            previous = fine.new_zeros(len(points), 1, side, side)
        if walked is None:
            walked = fine.new_zeros(len(points), self.walks, side, side)
        maps = [
            fine.expand(len(points), -1, -1, -1),
            *_click_maps(places, labels, side),
            *_differences(fine, places, labels),
            (previous / _SURE).tanh(),
            walked,
        ]
        x2 = self.stem(torch.cat(maps, dim=1))
        known = self.place(features).expand(len(points), -1, -1, -1)
        alike = _likeness(self.compare(features), places, labels, self.heads)
        x4 = self.merge(torch.cat([known, self.down_2(x2), *alike], dim=1))
        x8 = self.middle_8(self.down_4(x4))
        x16 = self.middle_16(self.down_8(x8))
        y4 = self.up_4(self.up_8(x16, x8), x4)
        masks = self._merged(self.up_2(y4, x2), previous, walked[:, -1:])
        return masks, self._expected(masks, y4, x16)

    def _merged(self, y2: Tensor, previous: Tensor, mended: Tensor) -> Tensor:
        """The masks; mask 0 is at each place a mean of what is drawn, of the earlier answer and of the mended one."""
        drawn = self.draw(y2)
        ways = [drawn[:, :1], previous.clamp(-_MOST, _MOST), SQUASHED * mended.clamp(-0.997, 0.997).atanh()]
        shares = self.trust(y2).softmax(1)
        return torch.cat([(shares * torch.cat(ways, dim=1)).sum(1, keepdim=True), drawn[:, 1:]], dim=1)

    def _expected(self, masks: Tensor, y4: Tensor, x16: Tensor) -> Tensor:
        """IoU from what lies inside and outside of each mask; does not teach the masks."""
        inside = F.avg_pool2d(masks.detach().sigmoid(), 2).flatten(2)  # (B, M, n)
        local = y4.detach().flatten(2).transpose(1, 2)  # (B, n, C)
        size = inside.sum(-1, keepdim=True)
        within = inside @ local / (size + 1e-3)
        beyond = (1 - inside) @ local / (inside.shape[-1] - size + 1e-3)
        everywhere = x16.detach().mean((2, 3))[:, None].expand(-1, self.masks, -1)
        share = (size / inside.shape[-1]).clamp_min(1e-5).log()
        return self.judge(torch.cat([within, beyond, everywhere, share], dim=-1))[..., 0].sigmoid()


class Residual(nn.Module):
    """Two convolutions beside the identity, norms first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.GroupNorm(8, width),
            nn.GELU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.GroupNorm(8, width),
            nn.GELU(),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to the same."""
        return x + self.body(x)


class Everywhere(nn.Module):
    """Self attention of all places: what lies far away has a say."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, width)
        self.heads = heads
        self.ask = nn.Linear(width, 3 * width)
        self.answer = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to the same."""
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        q, k, v = self.ask(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        found = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return x + self.answer(found).transpose(1, 2).unflatten(2, x.shape[2:])


class Joint(nn.Module):
    """The coarser map enlarged and added to the finer one."""

    def __init__(self, coarse: int, fine: int) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(coarse, fine, 1)
        self.mend = _convolution(fine, fine)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """(B, coarse, h, w) and (B, fine, 2 h, 2 w) to the latter."""
        enlarged = F.interpolate(self.narrow(coarse), scale_factor=2, mode="bilinear", align_corners=False)
        return self.mend(fine + enlarged) + enlarged


def _convolution(width: int, to: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(width, to, 3, stride, padding=1), nn.GroupNorm(8, to), nn.GELU())


def _click_maps(places: Tensor, labels: Tensor, side: int) -> list[Tensor]:
    """Nearness to the clicks of either kind, sharp and wide; each (B, 1, side, side)."""
    axis = (torch.arange(side, device=places.device) + 0.5) / side
    x, y = places[..., 0, None] - axis, places[..., 1, None] - axis  # (B, N, side)
    distance = (y.square()[..., :, None] + x.square()[..., None, :]).sqrt()
    maps = []
    for kind in (1, 0):
        nearest = distance.masked_fill((labels != kind)[..., None, None], _FAR).amin(1, keepdim=True)
        maps += [torch.exp(-((nearest * side / _SPREAD) ** 2)), (nearest + 0.01).log() / 4.6 + 1]
    return maps


def _differences(pixels: Tensor, places: Tensor, labels: Tensor) -> list[Tensor]:
    """How much each pixel differs from the most similar clicked one of either kind; each (B, 1, h, w)."""
    clicked = _at(pixels, places)  # (B, N, 3)
    difference = (pixels[:, None] - clicked[..., None, None]).abs().mean(2)  # (B, N, h, w)
    return [
        difference.masked_fill((labels != kind)[..., None, None], 1.0).amin(1, keepdim=True).sqrt() for kind in (1, 0)
    ]


def _likeness(keys: Tensor, places: Tensor, labels: Tensor, heads: int) -> list[Tensor]:
    """Cosine of each place's key and the most similar clicked one of either kind, per head; each (B, heads, h, w)."""
    keys = F.normalize(keys.unflatten(1, (heads, -1)), dim=2)  # (1, heads, d, h, w)
    clicked = _at(keys.flatten(1, 2), places).unflatten(2, (heads, -1))  # (B, N, heads, d)
    cosine = torch.einsum("bnkd,kdp->bnkp", clicked, keys[0].flatten(2)).unflatten(-1, keys.shape[-2:])
    return [cosine.masked_fill((labels != kind)[:, :, None, None, None], -1.0).amax(1) for kind in (1, 0)]


def _at(maps: Tensor, places: Tensor) -> Tensor:
    """Entries (B, N, C) of a map (1, C, h, w) under places (B, N, 2) of the frame."""
    grid = (2 * places - 1).reshape(1, 1, -1, 2)
    found = F.grid_sample(maps, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return found[0, :, 0].T.unflatten(0, places.shape[:2])
