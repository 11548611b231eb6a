"""Adapters of SAM-Med2D, beside the MLPs of the image encoder."""

from __future__ import annotations

from torch import Tensor, nn

from napari_sammed.networks.image_encoder import ImageEncoder


class Adapter(nn.Module):
    """A gate on channels, then a convolution down and up again, added to the input and normed.

    SAM-Med2D paper (Cheng et al. 2023), figure 3; ``Adapter_Layer`` of the official code.

    Parameters
    ----------
    embed_dim
        Channels C.
    ratio
        Width of the channel gate as a part of ``embed_dim``.
    """

    def __init__(self, embed_dim: int, ratio: float = 0.25) -> None:
        super().__init__()
        hidden = int(embed_dim * ratio)
        self.norm = nn.LayerNorm(embed_dim)
        self.channel = nn.Sequential(
            nn.Linear(embed_dim, hidden, bias=False),
            nn.ReLU(),
            nn.Linear(hidden, embed_dim, bias=False),
            nn.Sigmoid(),
        )
        self.spatial = nn.Sequential(
            nn.Conv2d(embed_dim, embed_dim, kernel_size=3, stride=2, padding=1, bias=False),
            nn.ReLU(),
            nn.ConvTranspose2d(embed_dim, embed_dim, kernel_size=4, stride=2, padding=1, bias=False),
            nn.ReLU(),
        )
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, C), H and W even, to the same shape."""
        gate = self.channel(x.mean((1, 2), keepdim=True))
        branch = self.spatial((x * gate).permute(0, 3, 1, 2))
        return self.norm(x + branch.permute(0, 2, 3, 1))


def add_adapters(encoder: ImageEncoder, ratio: float = 0.25) -> None:
    """Give every block of ``encoder`` a new adapter.

    Raises
    ------
    ValueError
        The grid is odd, so that halving and doubling would not give it back.
    """
    if encoder.grid_size % 2:
        raise ValueError(f"adapters need an even grid, not {encoder.grid_size} by {encoder.grid_size} patches")
    for block in encoder.blocks:
        block.Adapter = Adapter(block.norm2.normalized_shape[0], ratio)


def remove_adapters(encoder: ImageEncoder) -> None:
    """Take the adapters out of ``encoder``, which leaves SAM's own encoder."""
    for block in encoder.blocks:
        block.Adapter = None
