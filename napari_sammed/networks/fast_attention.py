"""Attention with decomposed relative positions that never holds all logits at once.

The logit of a query and the key at (i, j) is ``q·k / sqrt(d) + rows[i] + columns[j]``, where rows and columns are
terms of the query. There may be one more key, with a term of its own: it stands for all padding of a window. Padding
tokens have the same key and value (the biases of their projection) and differ only in their terms, so that the sum of
their weights is the weight of one key whose term is the logarithm of the sum of the exponentials of theirs.

Two ways to the same numbers: `attend_in_parts` is the faster one in float32 on CPUs, `attend_fused` is for everything
else.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_sammed.networks.fast_layers import strips

LOGITS = 1 << 21  # values at a time (8 MB): few enough to stay in the last cache, enough for long parallel steps


def attend_in_parts(q: Tensor, k: Tensor, v: Tensor, rows: Tensor, columns: Tensor, rest: Tensor | None) -> Tensor:
    """Attention of B heads (or heads of windows), some heads or some queries at a time.

    Parameters
    ----------
    q, k, v
        (B, N, d), and (B, H·W, d) or, with ``rest``, (B, H·W + 1, d).
    rows, columns, rest
        The queries' terms: (B, N, H), (B, N, W), and (B, N) for the one more key.

    Returns
    -------
    Tensor
        (B, N, d).
    """
    batch, length, dim = q.shape
    keys = k.shape[1]
    grid = (rows.shape[2], columns.shape[2])
    q, k = q * dim**-0.5, k.transpose(1, 2)
    together = max(1, LOGITS // (length * keys))
    size = max(1, min(length, LOGITS // keys))
    buffer = q.new_empty(min(together, batch), size, keys)
    out = torch.empty_like(q)
    for heads in strips(batch, together):
        for queries in strips(length, size):
            part = (heads, queries)
            logits = buffer[: heads.stop - heads.start, : queries.stop - queries.start]
            on_grid = logits[..., : grid[0] * grid[1]].unflatten(-1, grid)
            torch.add(rows[part].unsqueeze(-1), columns[part].unsqueeze(-2), out=on_grid)
            if rest is not None:
                logits[..., -1] = rest[part]
            logits.baddbmm_(q[part], k[heads])
            out[part] = torch.softmax(logits, -1, out=logits) @ v[heads]
    return out


def attend_fused(q: Tensor, k: Tensor, v: Tensor, rows: Tensor, columns: Tensor, rest: Tensor | None) -> Tensor:
    """See `attend_in_parts`; one fused kernel on longer queries and keys.

    Queries get their terms appended, keys a one for their own row and column (`with_positions` of the trainable
    encoder).
    """
    dim, height, width = q.shape[-1], rows.shape[2], columns.shape[2]
    terms = [q * dim**-0.5, rows, columns]
    if rest is not None:
        terms.append(rest.unsqueeze(-1).to(q.dtype))
    used = dim + height + width + (rest is not None)
    spare = -used % 8  # fused kernels want widths that are multiples of 8, and values as wide as keys
    ones = q.new_zeros(k.shape[1], used - dim + spare)
    on_grid = ones[: height * width].view(height, width, -1)
    on_grid[..., :height] = torch.eye(height, dtype=q.dtype, device=q.device).unsqueeze(1)
    on_grid[..., height : height + width] = torch.eye(width, dtype=q.dtype, device=q.device)
    if rest is not None:
        ones[-1, height + width] = 1
    q = F.pad(torch.cat(terms, dim=-1), (0, spare))
    k = torch.cat([k, ones.expand(len(k), -1, -1)], dim=-1)
    v = F.pad(v, (0, k.shape[-1] - dim))
    return F.scaled_dot_product_attention(q[None], k[None], v[None], scale=1.0)[0, ..., :dim]


def padding_terms(rows: Tensor, columns: Tensor, height: int, width: int) -> Tensor:
    """Logarithm of the sum of exp(term) over the padding of a window.

    Parameters
    ----------
    rows, columns
        The queries' terms for all rows and columns of the window, padding included: (..., window).
    height, width
        Rows and columns of the window that are no padding; one of them at least is smaller than the window.

    Returns
    -------
    Tensor
        float32, of the common shape of ``rows`` and ``columns`` without the last axis.
    """
    rows, columns = rows.float(), columns.float()
    beside = rows.logsumexp(-1) + columns[..., width:].logsumexp(-1)
    below = rows[..., height:].logsumexp(-1) + columns[..., :width].logsumexp(-1)
    return torch.logaddexp(beside, below)  # an empty part is -inf and adds nothing
