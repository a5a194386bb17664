"""Token graph of MR-Pruner and G-Prune: who resembles whom, and what a token inherits.

Notation of the docstrings: u_i is the unit vector of token i, w_i its L2 norm, S = u u^T,
E_ij = exp((S_ij - 1) / temperature) on the edges S_ij >= similarity and 0 elsewhere, Z = E 1, and
P = E / Z (rows) the matrix that the papers write as a softmax over each thresholded row.

On CPUs that multiply bytes fast, pairs that cannot be neighbours are found by `pruner.coarse`
before any cosine is computed: the sums are the same, the work follows the number of neighbours.

Cosines near the threshold decide who is a neighbour, so matrix products must be true float32: call
this outside of `torch.autocast`, and leave TF32 off (as torch does).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from pruner.batches import frame_batches
from pruner.edges import (
    Index,
    count_edges,
    multiply,
    rows_per_strip,
    take,
    underflows,
    upper_strips,
    weigh_edges,
)
from pruner.nodes import Nodes
from pruner.settings import PUBLISHED, Settings

# The largest number that float16 rounds to zero.
_HALF_PRECISION_ZERO = 2.0**-25


@torch.no_grad()
def propagate(
    nodes: Nodes, *, settings: Settings = PUBLISHED, reference: bool = False
) -> tuple[Tensor, Tensor]:
    """Score tokens inside one resolution: weight gathered by walking the graph, over degree.

    G-Prune (any number of steps n) and the intra-resolution scoring of MR-Pruner: score =
    (w P^n) / d, d_i = #{j : P_ij > 0}, counted before the power. Same result, other arithmetic: the
    diagonal is the row maximum, so a constant shift makes E symmetric, only its upper triangle is
    computed, and v <- E (v / Z) repeats n times without P, its transpose or a matrix power.

    Departure: a node without any edge (a zero vector, or similarity > 1) keeps its weight and has
    degree 1, so a zero vector scores 0. The published row is uniform there, which hands its weight
    to unrelated tokens and divides by N; `reference` restores that.

    Args:
        nodes: F frames of N tokens.
        settings: of the graph; those across resolutions play no part.
        reference: uniform rows and degree N for nodes without edges, as published.

    Returns:
        scores (F, N) in the dtype of the nodes and degrees (F, N) int64.

    Cost: O(F N^2 D) for half of a matrix product, on 8 bits where `pruner.coarse` looks ahead and
    in float32 for what it leaves; O(F N^2) beyond it. Memory beyond the nodes: at most the upper
    triangle of E, about 2 N (N + strip) bytes in float32, for one frame at a time on CPUs (12 MB
    for N = 2304) and for up to 16 together on GPUs; with a look ahead N D bytes and two strips.
    """
    limit = _least_weight(settings)
    scores, degrees = [], []
    for batch in nodes.batches():
        norms = batch.norms
        strips = upper_strips(batch, settings.similarity, settings.temperature)
        row_sums = multiply(strips, torch.ones_like(norms))  # Z = E 1, (f, N)
        isolated = row_sums == 0
        row_sums.masked_fill_(isolated, 1.0)
        degree = count_edges(strips, row_sums, limit)
        values = norms
        for _ in range(settings.num_steps):
            alone = values * isolated  # (f, N)
            stays = alone.mean(dim=1, keepdim=True) if reference else alone
            values = multiply(strips, values / row_sums) + stays
        degree.masked_fill_(isolated, norms.shape[1] if reference else 1)
        scores.append(values / degree)
        degrees.append(degree)
    return torch.cat(scores), torch.cat(degrees)


@torch.no_grad()
def cross_scores(
    base: Nodes,
    grid: Nodes,
    pruned: Tensor,
    *,
    settings: Settings = PUBLISHED,
    reference: bool = False,
) -> tuple[Tensor, Tensor]:
    """Hand the weight of pruned grid tokens to the base tokens that look like them.

    Cross-resolution scoring of MR-Pruner: c_i = (1 / d_i) sum over pruned j of P_ij w_j, where the
    row i of P is a softmax over the pruned neighbours of base token i and d_i their number. No
    gather: with the 0/1 mask m of pruned tokens, Z = E m, c = E (m w) / (Z d), d = [E > 0] m.

    Departures: a base token without a pruned neighbour gets 0; the published uniform row gives it
    mean(w[pruned]) / |pruned|, weight of tokens it does not resemble, and `reference` restores
    that. Where nothing was pruned c = 0 in both modes; the published 0/0 is NaN.

    Args:
        base: F frames of N1 base tokens.
        grid: the same frames, N2 grid tokens.
        pruned: (F, N2) bool, the grid tokens that are not kept.
        settings: of the graph; `cross_similarity` is its threshold.
        reference: the published constant for base tokens without a pruned neighbour.

    Returns:
        c (F, N1) in the dtype of the nodes and degrees d (F, N1) int64: pruned neighbours, or
        |pruned| in the published uniform rows.

    Raises:
        ValueError: a mask of another shape or type.

    Cost: O(F N1 N2 D). Memory: one strip, 4 * 192 * N2 bytes on CPUs.
    """
    if pruned.shape != grid.norms.shape or pruned.dtype != torch.bool:
        shape, expected = tuple(pruned.shape), tuple(grid.norms.shape)
        raise ValueError(f"the mask must be bool: {shape = }, {expected = }, {pruned.dtype = }")
    scores, degrees = [], []
    together = min(base.frames_per_batch, grid.frames_per_batch)
    masks = frame_batches(pruned, num_frames=together)
    batches = zip(base.batches(together), grid.batches(together), masks, strict=True)
    for base_batch, grid_batch, (mask,) in batches:
        sums, degree = _cross_sums(base_batch, grid_batch, mask, settings)
        row_sums, inherited = sums.unbind(dim=2)  # E m and E (m w), (f, N1)
        alone = degree == 0
        score = inherited / (row_sums * degree).masked_fill_(alone, 1.0)
        num_pruned = mask.sum(dim=1, keepdim=True)  # (f, 1)
        if reference:
            weight = (mask * grid_batch.norms).sum(dim=1, keepdim=True)  # (f, 1)
            constant = weight / num_pruned.square().clamp_min(1)
            score = torch.where(alone, constant, score)
            degree = torch.where(alone, num_pruned, degree)
        scores.append(score)
        degrees.append(degree)
    return torch.cat(scores), torch.cat(degrees)


def _least_weight(settings: Settings) -> float:
    """What P must exceed to count as an edge."""
    return _HALF_PRECISION_ZERO if settings.half_precision_degree else 0.0


def _cross_sums(
    base: Nodes, grid: Nodes, mask: Tensor, settings: Settings
) -> tuple[Tensor, Tensor]:
    """E m and E (m w) side by side, (f, N1, 2), and the degrees, (f, N1)."""
    similarity, temperature = settings.cross_similarity, settings.temperature
    limit = _least_weight(settings)
    summands = torch.stack((mask.to(grid.norms), mask * grid.norms), dim=2)  # (f, N2, 2)
    sums = base.norms.new_empty(*base.norms.shape, 2)
    counts = torch.empty_like(base.norms, dtype=torch.int64)
    for rows, columns in _cross_indices(base, grid, mask, settings):
        cosines = take(base.units, rows) @ take(grid.units, columns).mT  # (f, rows, columns)
        own_mask = take(mask, columns)[:, None]
        shift: float | Tensor = 1.0
        if underflows(similarity, temperature):  # the largest cosine of a row can be far below 1
            cosines.masked_fill_(~own_mask, -1.0)
            shift = cosines.amax(dim=2, keepdim=True).clamp_min_(similarity)
        weights = weigh_edges(cosines, similarity, temperature, shift)
        own = weights @ take(summands, columns)
        neighbours = (weights / own[..., :1] > limit) & own_mask
        sums[:, rows] = own
        counts[:, rows] = neighbours.sum(dim=2, dtype=torch.int32).long()
    return sums, counts


def _cross_indices(
    base: Nodes, grid: Nodes, mask: Tensor, settings: Settings
) -> Iterator[tuple[Index, Index]]:
    """Base tokens in strips, and the grid tokens that can be their pruned neighbours."""
    similarity, num_base = settings.cross_similarity, base.norms.shape[1]
    step = rows_per_strip(base.units.device)
    all_of_them = underflows(similarity, settings.temperature)  # a shift needs a column
    for start in range(0, num_base, step):
        rows = slice(start, min(start + step, num_base))
        if all_of_them or base.coarse is None or grid.coarse is None:
            yield rows, slice(None)
        else:
            near = base.coarse.reach(rows, grid.coarse, slice(None), similarity)
            yield base.coarse.order[rows], near[mask[0, near]]
