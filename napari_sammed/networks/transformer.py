"""Two-way transformer of SAM's mask decoder: prompt tokens and image tokens attend to each other."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head attention whose inner width may be smaller than that of its tokens.

    Parameters
    ----------
    embed_dim
        Width of the tokens.
    num_heads
        Number of heads; heads are consecutive blocks of channels.
    downsample_rate
        The inner width is ``embed_dim // downsample_rate``.
    """

    def __init__(self, embed_dim: int, num_heads: int, downsample_rate: int = 1) -> None:
        super().__init__()
        inner_dim = embed_dim // downsample_rate
        if inner_dim % num_heads:
            raise ValueError(f"inner width {inner_dim} is not a multiple of {num_heads} heads")
        self.num_heads = num_heads
        self.q_proj = nn.Linear(embed_dim, inner_dim)
        self.k_proj = nn.Linear(embed_dim, inner_dim)
        self.v_proj = nn.Linear(embed_dim, inner_dim)
        self.out_proj = nn.Linear(inner_dim, embed_dim)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend from q (B, Nq, C) to k and v (B, Nk, C); a batch of one is shared by all others."""
        q, k, v = (self._split(x) for x in (self.q_proj(q), self.k_proj(k), self.v_proj(v)))
        batch = max(q.shape[0], k.shape[0])
        q, k, v = (x.expand(batch, -1, -1, -1) for x in (q, k, v))
        out = F.scaled_dot_product_attention(q, k, v)
        return self.out_proj(out.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class MLPBlock(nn.Module):
    """Two linear layers with an activation between them."""

    def __init__(self, embed_dim: int, mlp_dim: int, activation: type[nn.Module] = nn.GELU) -> None:
        super().__init__()
        self.lin1 = nn.Linear(embed_dim, mlp_dim)
        self.lin2 = nn.Linear(mlp_dim, embed_dim)
        self.act = activation()

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., C) to (..., C)."""
        return self.lin2(self.act(self.lin1(x)))


class TwoWayBlock(nn.Module):
    """Self attention of the tokens, tokens to image, MLP of the tokens, image to tokens; norms after sums.

    Parameters
    ----------
    embed_dim, num_heads, mlp_dim
        Widths and heads.
    downsample_rate
        Of the two cross attentions.
    skip_first_layer_pe
        The first block's self attention has neither position nor residual.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        mlp_dim: int = 2048,
        downsample_rate: int = 2,
        skip_first_layer_pe: bool = False,
    ) -> None:
        super().__init__()
        self.self_attn = Attention(embed_dim, num_heads)
        self.norm1 = nn.LayerNorm(embed_dim)
        self.cross_attn_token_to_image = Attention(embed_dim, num_heads, downsample_rate)
        self.norm2 = nn.LayerNorm(embed_dim)
        self.mlp = MLPBlock(embed_dim, mlp_dim, nn.ReLU)
        self.norm3 = nn.LayerNorm(embed_dim)
        self.norm4 = nn.LayerNorm(embed_dim)
        self.cross_attn_image_to_token = Attention(embed_dim, num_heads, downsample_rate)
        self.skip_first_layer_pe = skip_first_layer_pe

    def forward(self, queries: Tensor, keys: Tensor, query_pe: Tensor, key_pe: Tensor) -> tuple[Tensor, Tensor]:
        """Update tokens ``queries`` (B, T, C) and image ``keys`` (B or 1, N, C), each with its code."""
        queries = self.attend_to_themselves(queries, query_pe)

        placed_keys = keys + key_pe
        queries = queries + self.cross_attn_token_to_image(queries + query_pe, placed_keys, keys)
        queries = self.norm2(queries)

        queries = self.norm3(queries + self.mlp(queries))

        keys = keys + self.cross_attn_image_to_token(placed_keys, queries + query_pe, queries)
        return queries, self.norm4(keys)

    def attend_to_themselves(self, queries: Tensor, query_pe: Tensor) -> Tensor:
        """The block's first step, which concerns the tokens only."""
        if self.skip_first_layer_pe:
            return self.norm1(self.self_attn(queries, queries, queries))
        q = queries + query_pe
        return self.norm1(queries + self.self_attn(q, q, queries))


class TwoWayTransformer(nn.Module):
    """Transformer decoder between prompt tokens and an image (SAM paper, appendix A, mask decoder).

    Parameters
    ----------
    depth
        Number of blocks.
    embed_dim, num_heads, mlp_dim
        Widths and heads.
    downsample_rate
        Of the cross attentions.
    """

    def __init__(
        self, depth: int, embed_dim: int, num_heads: int, mlp_dim: int = 2048, downsample_rate: int = 2
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            TwoWayBlock(embed_dim, num_heads, mlp_dim, downsample_rate, skip_first_layer_pe=i == 0)
            for i in range(depth)
        )
        self.final_attn_token_to_image = Attention(embed_dim, num_heads, downsample_rate)
        self.norm_final_attn = nn.LayerNorm(embed_dim)

    def forward(self, image: Tensor, image_pe: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Run all blocks.

        Parameters
        ----------
        image
            (B or 1, C, *grid); one image is shared by all token sets and repeated only where they differ.
        image_pe
            Position code of the grid, (1, C, *grid).
        tokens
            (B, T, C); they are their own position code in every block.

        Returns
        -------
        tokens : Tensor
            (B, T, C).
        image : Tensor
            Tokens of the grid in row-major order, (B, N, C).
        """
        keys = image.flatten(2).transpose(1, 2)
        key_pe = image_pe.flatten(2).transpose(1, 2)
        queries = tokens
        for layer in self.layers:
            queries, keys = layer(queries, keys, query_pe=tokens, key_pe=key_pe)
        attended = self.final_attn_token_to_image(queries + tokens, keys + key_pe, keys)
        return self.norm_final_attn(queries + attended), keys
