"""Edge weights of the token graph, E_ij = exp((S_ij - 1) / temperature) for S_ij >= similarity.

A symmetric E is held as *strips* of its upper triangle: a strip holds some rows against themselves,
its left square, and against those of the rows after them that can have edges to them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pruner.batches import frames_per_batch
from pruner.nodes import Nodes

Index = slice | Tensor
"""Tokens: a slice, or (k,) int64 without repetitions."""

# exp(-70) / N is a normal float32 for every N we meet. Non-edges are put at exp(-80), normal too,
# and then cut at exp(-75): exp of far more negative numbers is about ten times slower on CPUs.
_MAX_EXPONENT, _CUT_EXPONENT, _NON_EDGE_EXPONENT = 70.0, 75.0, 80.0
# A strip of rows should stay in the cache of a CPU core, and should fill a GPU.
_CPU_ROWS, _GPU_ROWS = 192, 768


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Strip:
    """Edge weights of some rows of a symmetric E.

    Attributes:
        columns: the rows themselves, then other columns, of rows that come in later strips.
        weights: (f, number of rows, number of columns).
    """

    columns: Index
    weights: Tensor

    @property
    def num_rows(self) -> int:
        """Rows of the strip."""
        return self.weights.shape[1]

    @property
    def rows(self) -> Index:
        """The rows, which are the first columns."""
        return _split(self.columns, self.num_rows)[0]

    @property
    def after(self) -> Index:
        """The columns that are no rows of this strip."""
        return _split(self.columns, self.num_rows)[1]

    @property
    def across(self) -> Tensor:
        """Weights of the columns that are no rows of this strip, (f, rows, columns - rows)."""
        return self.weights[:, :, self.num_rows :]


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


def take(tokens: Tensor, index: Index) -> Tensor:
    """Tokens (f, N, ...) of an index, as a view where that is a slice."""
    return tokens[:, index] if isinstance(index, slice) else tokens.index_select(1, index)


def upper_strips(nodes: Nodes, similarity: float, temperature: float) -> list[Strip]:
    """Upper triangle of E of one batch, without pairs that the coarse units rule out."""
    units, coarse = nodes.units, nodes.coarse
    num_nodes, step = units.shape[1], rows_per_strip(units.device)
    strips = []
    for start in range(0, num_nodes, step):
        stop = min(start + step, num_nodes)
        index: Index = slice(start, num_nodes)
        if coarse is not None:
            rows, after = slice(start, stop), slice(stop, num_nodes)
            neighbours = coarse.reach(rows, coarse, after, similarity)
            index = torch.cat((coarse.order[rows], neighbours))
        columns = take(units, index)
        cosines = columns[:, : stop - start] @ columns.mT  # (f, rows, columns)
        weights = weigh_edges(cosines, similarity, temperature)
        strips.append(Strip(columns=index, weights=weights))
    return strips


def multiply(strips: list[Strip], values: Tensor) -> Tensor:
    """E v for values (f, N): each strip serves its rows and, transposed, the columns after them."""
    product = torch.zeros_like(values)
    for strip in strips:
        own = take(values, strip.columns)
        product[:, strip.rows] += _times(strip.weights, own)
        product[:, strip.after] += (own[:, None, : strip.num_rows] @ strip.across).squeeze(1)
    return product


def _times(weights: Tensor, values: Tensor) -> Tensor:
    """Weights (f, rows, columns) times values (f, columns), each frame as if it were alone.

    Small frames are worked on together, and a batch of one is multiplied in another order on some
    CPUs (measured on AMD's, with MKL). So there a sum is taken that is the same in any batch.
    """
    if weights.is_cpu and frames_per_batch(weights.device, weights.shape[2]) > 1:
        return (weights * values[:, None]).sum(dim=2)
    return (weights @ values[:, :, None]).squeeze(2)


def count_edges(strips: list[Strip], row_sums: Tensor, limit: float) -> Tensor:
    """Number of j with E_ij / Z_i > limit, (f, N) int64, for row sums Z (f, N).

    Booleans are summed as int32: several times faster on CPUs than the default int64.
    """
    counts = torch.zeros_like(row_sums, dtype=torch.int64)
    for strip in strips:
        own = take(row_sums, strip.columns)
        in_row = strip.weights / own[:, : strip.num_rows, None] > limit
        counts[:, strip.rows] += in_row.sum(dim=2, dtype=torch.int32)
        in_column = strip.across / own[:, None, strip.num_rows :] > limit
        counts[:, strip.after] += in_column.sum(dim=1, dtype=torch.int32)
    return counts


def _split(index: Index, count: int) -> tuple[Index, Index]:
    """The first tokens of an index, and the rest."""
    if isinstance(index, Tensor):
        return index[:count], index[count:]
    middle = index.start + count
    return slice(index.start, middle), slice(middle, index.stop)
