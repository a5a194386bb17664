"""Edge weights of the token graph, E_ij = exp((S_ij - 1) / temperature) for S_ij >= similarity.

A symmetric E is held as *strips* of its upper triangle: a strip that starts at row r holds its
rows against the columns r..N, so its left square is the diagonal block.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

Strips = list[tuple[int, Tensor]]

# exp(-70) / N is a normal float32 for every N we meet. Non-edges are put at exp(-80), normal too,
# and then cut at exp(-75): exp of far more negative numbers is about ten times slower on CPUs.
_MAX_EXPONENT, _CUT_EXPONENT, _NON_EDGE_EXPONENT = 70.0, 75.0, 80.0
# A strip of rows should stay in the cache of a CPU core, and should fill a GPU.
_CPU_ROWS, _GPU_ROWS = 192, 768


def rows_per_strip(device: torch.device) -> int:
    """Rows of a strip: what suits the device."""
    return _CPU_ROWS if device.type == "cpu" else _GPU_ROWS


def underflows(similarity: float, temperature: float) -> bool:
    """Whether the weight of the weakest edge comes near the smallest float32."""
    return (1.0 - similarity) / temperature > _MAX_EXPONENT


def weigh_edges(
    cosines: Tensor, similarity: float, temperature: float, shift: float | Tensor = 1.0
) -> Tensor:
    """Turn cosines into edge weights, in place; `shift` is the largest cosine of a row.

    A shift other than 1 is needed only where `underflows`; it must be at least `similarity`.
    """
    least = torch.tensor(similarity, dtype=cosines.dtype)
    below = float(torch.nextafter(least, torch.tensor(-math.inf, dtype=cosines.dtype)))
    if underflows(similarity, temperature):
        absent = cosines <= below
        cosines.sub_(shift).div_(temperature).exp_()
        return cosines.masked_fill_(absent, 0.0)
    non_edge = 1.0 - _NON_EDGE_EXPONENT * temperature
    torch.threshold_(cosines, below, non_edge)  # x > below is x >= similarity
    cosines.sub_(1.0).mul_(1.0 / temperature).exp_()
    return torch.threshold_(cosines, math.exp(-_CUT_EXPONENT), 0.0)


def upper_strips(units: Tensor, similarity: float, temperature: float) -> Strips:
    """Upper triangle of E for unit vectors (f, N, D), as strips (f, rows, N - start)."""
    num_rows, num_nodes = rows_per_strip(units.device), units.shape[1]
    strips = []
    for start in range(0, num_nodes, num_rows):
        rows = units[:, start : start + num_rows]
        cosines = rows @ units[:, start:].transpose(1, 2)  # (f, rows, N - start)
        strips.append((start, weigh_edges(cosines, similarity, temperature)))
    return strips


def multiply(strips: Strips, values: Tensor) -> Tensor:
    """E v for values (f, N): each strip serves its rows and, transposed, the columns after them."""
    product = torch.zeros_like(values)
    for start, weights in strips:
        stop = start + weights.shape[1]
        product[:, start:stop] += (weights @ values[:, start:, None]).squeeze(2)
        after = weights[:, :, weights.shape[1] :]  # (f, rows, N - stop)
        product[:, stop:] += (values[:, None, start:stop] @ after).squeeze(1)
    return product


def count_edges(strips: Strips, row_sums: Tensor, limit: float) -> Tensor:
    """Number of j with E_ij / Z_i > limit, (f, N) int64, for row sums Z (f, N).

    Booleans are summed as int32: several times faster on CPUs than the default int64.
    """
    counts = torch.zeros_like(row_sums, dtype=torch.int64)
    for start, weights in strips:
        stop = start + weights.shape[1]
        in_row = weights / row_sums[:, start:stop, None] > limit
        counts[:, start:stop] += in_row.sum(dim=2, dtype=torch.int32)
        after = weights[:, :, weights.shape[1] :]
        in_column = after / row_sums[:, None, stop:] > limit
        counts[:, stop:] += in_column.sum(dim=1, dtype=torch.int32)
    return counts
