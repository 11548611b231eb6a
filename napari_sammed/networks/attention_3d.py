"""Relative positions and padding in SAM-Med3D's attention.

The published network pads its map of G x G x G tokens to windows of W x W x W and attends over them, padding included.
The logit of the query at (d, h, w) and the key at (i, j, l) is

    q·k / sqrt(c)  +  q(d, h, w)·T_d[d - l]  +  q(d, h, w=i)·T_h[h - l]  +  q(d, h, w=j)·T_w[j - l]

instead of q·T_d[d - i] + q·T_h[h - j] + q·T_w[w - l]: all three tables act along the last axis of the keys, and the
last two terms take the queries of other tokens in the same row (d, h). The weights were trained with it, so it is kept
(``add_decomposed_rel_pos`` of the official ``image_encoder3D.py``).

Padding tokens are all alike: query, key and value are the bias of the projection. Only the G^3 real queries are
computed, and one more key stands for all padding: its term is the logarithm of the sum of exp(term) over the padding.
With A[l], B[i, l] and C[j, l] for the three terms of a query, this sum is

    sum over l >= G of  e^A[l] (all of B)(all of C)  +  sum over l < G of  e^A[l] ((padding of B)(all of C) +
    (no padding of B)(padding of C))

where (all of B) is the sum of e^B[i, l] over all i, and so on. Nothing is subtracted, so that nothing cancels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class PositionTerms:
    """What is added to the logits of N heads, in parts that are small.

    Parameters
    ----------
    own
        A of the keys on the map: (N, G², G, G) for query row (d, h), query w and key l.
    shared
        B + C of the keys on the map, the same for all queries of a row: (N, G², G², G) for (d, h), (i, j) and l.
    padding
        Term of the key that stands for the padding, (N, G³) in float32 at least; None if there is no padding.
    """

    own: Tensor
    shared: Tensor
    padding: Tensor | None

    def bias(self) -> Tensor:
        """The terms of all queries and keys, (N, G³, G³) or with padding (N, G³, G³ + 1)."""
        bias = (self.own.unsqueeze(3) + self.shared.unsqueeze(2)).flatten(3, 4).flatten(1, 2)
        return bias if self.padding is None else torch.cat([bias, self.padding.unsqueeze(-1).to(bias.dtype)], dim=-1)

    def write(self, out: Tensor) -> None:
        """Write `bias` to ``out`` without intermediate copies, and without gradients."""
        rows, side = self.own.shape[1:3]
        on_map = out[..., : rows * side].unflatten(1, (rows, side)).unflatten(-1, (rows, side))
        torch.add(self.own.unsqueeze(3), self.shared.unsqueeze(2), out=on_map)
        if self.padding is not None:
            out[..., -1] = self.padding


def attention_inputs(
    qkv: Tensor, bias: Tensor, num_heads: int, tables: tuple[Tensor, Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor, PositionTerms]:
    """Everything that goes into attention.

    Parameters
    ----------
    qkv
        Projected map without padding, (batch, G, G, G, 3·C).
    bias
        Of the projection, (3·C,): the query, key and value of padding.
    num_heads
        Heads are consecutive blocks of channels.
    tables
        T_d, T_h and T_w from `napari_sammed.networks.image_encoder.by_distance`, (W, W, c) each; W is at least G.

    Returns
    -------
    q, k, v : Tensor
        (N, G³, c), k and v with one more row if there is padding; N is batch x heads.
    terms : PositionTerms
        To be added to q·k / sqrt(c).
    """
    batch, side = qkv.shape[:2]
    tokens = side**3
    padded = side < len(tables[0])
    pad = bias.view(3, 1, num_heads, -1)
    together = qkv.new_empty(3, batch, num_heads, tokens + padded, pad.shape[-1])  # no second copy for the padding
    together[..., :tokens, :] = qkv.view(batch, tokens, 3, num_heads, -1).permute(2, 0, 3, 1, 4)
    if padded:
        together[..., tokens, :] = pad
    q, k, v = together.flatten(1, 2)
    q = q[:, :tokens]
    pad_q = pad[0].expand(batch, -1, -1).flatten(0, 1)
    return q, k, v, _position_terms(q.unflatten(1, (side, side, side)), pad_q, tables)


def _position_terms(q: Tensor, pad_q: Tensor, tables: tuple[Tensor, Tensor, Tensor]) -> PositionTerms:
    """Terms of queries (N, G, G, G, c), not scaled; ``pad_q`` (N, c) is the query of padding."""
    side, window = q.shape[1], len(tables[0])
    table_d, table_h, table_w = (table[:side] for table in tables)
    a = torch.einsum("ndhwc,dlc->ndhwl", q, table_d)
    b = torch.einsum("ndhic,hlc->ndhil", q, table_h)
    c = torch.einsum("ndhjc,jlc->ndhjl", q, table_w)
    shared = b[..., :side].unsqueeze(4) + c[..., :side].unsqueeze(3)
    padding = None
    if side < window:
        pad_b = torch.einsum("nc,hlc->nhl", pad_q, table_h).unsqueeze(1)  # the same for all d and all i >= G
        pad_c = torch.einsum("nc,jlc->njl", pad_q, tables[2][side:])[:, None, None]
        dtype = torch.promote_types(q.dtype, torch.float32)  # half precision is too coarse for sums of exponentials
        padding = _padding_term(*(terms.to(dtype) for terms in (a, b, c, pad_b, pad_c))).flatten(1)
    return PositionTerms(a[..., :side].flatten(1, 2), shared.flatten(3, 4).flatten(1, 2), padding)


def _padding_term(a: Tensor, b: Tensor, c: Tensor, pad_b: Tensor, pad_c: Tensor) -> Tensor:
    """Logarithm of the sum of exp(term) over all padding.

    ``a``, ``b`` and ``c`` (N, G, G, G, W) are the terms for real w, i and j, and all l; ``pad_b`` (N, 1, G, W) and
    ``pad_c`` (N, 1, 1, W - G, W) those for padded i and j. The result is (N, G, G, G).
    """
    side, window = a.shape[-2:]
    real_b, padded_b = b.logsumexp(3), pad_b + math.log(window - side)
    real_c, padded_c = c.logsumexp(3), pad_c.logsumexp(3)
    all_b, all_c = torch.logaddexp(real_b, padded_b), torch.logaddexp(real_c, padded_c)
    beside = torch.logaddexp(padded_b + all_c, real_b + padded_c)
    rows = torch.cat([beside[..., :side], (all_b + all_c)[..., side:]], dim=-1)
    return (a + rows.unsqueeze(3)).logsumexp(-1)
