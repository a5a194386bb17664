"""Token graph of MR-Pruner and G-Prune: who resembles whom, and what a token inherits.

Notation of the docstrings: u_i is the unit vector of token i, w_i its L2 norm, S = u u^T,
E_ij = exp((S_ij - 1) / temperature) on the edges S_ij >= similarity and 0 elsewhere, Z = E 1, and
P = E / Z (rows) the matrix that the papers write as a softmax over each thresholded row.

Cosines near the threshold decide who is a neighbour, so matrix products must be true float32: call
this outside of `torch.autocast`, and leave TF32 off (as torch does).
"""

from __future__ import annotations

import torch
from torch import Tensor

from pruner.batches import frame_batches
from pruner.edges import (
    count_edges,
    multiply,
    rows_per_strip,
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

    Cost: O(F N^2 D) for half of a matrix product, O(F N^2) beyond it. Memory beyond the nodes: the
    upper triangle of E, about 2 N (N + strip) bytes in float32, for one frame at a time on CPUs
    (12 MB for N = 2304) and for up to 16 together on GPUs.
    """
    limit = _least_weight(settings)
    scores, degrees = [], []
    for units, norms in frame_batches(nodes.units, nodes.norms):
        strips = upper_strips(units, settings.similarity, settings.temperature)
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
    for batch in frame_batches(base.units, grid.units, grid.norms, pruned):
        units, grid_units, norms, mask = batch
        sums, degree = _cross_sums(units, grid_units, norms, mask, settings)
        row_sums, inherited = sums.unbind(dim=2)  # E m and E (m w), (f, N1)
        alone = degree == 0
        score = inherited / (row_sums * degree).masked_fill_(alone, 1.0)
        num_pruned = mask.sum(dim=1, keepdim=True)  # (f, 1)
        if reference:
            constant = (mask * norms).sum(dim=1, keepdim=True) / num_pruned.square().clamp_min(1)
            score = torch.where(alone, constant, score)
            degree = torch.where(alone, num_pruned, degree)
        scores.append(score)
        degrees.append(degree)
    return torch.cat(scores), torch.cat(degrees)


def _least_weight(settings: Settings) -> float:
    """What P must exceed to count as an edge."""
    return _HALF_PRECISION_ZERO if settings.half_precision_degree else 0.0


def _cross_sums(
    units: Tensor, grid_units: Tensor, norms: Tensor, mask: Tensor, settings: Settings
) -> tuple[Tensor, Tensor]:
    """E m and E (m w) side by side, (f, N1, 2), and the degrees, (f, N1)."""
    similarity, temperature = settings.cross_similarity, settings.temperature
    limit = _least_weight(settings)
    summands = torch.stack((mask.to(norms), mask * norms), dim=2)  # (f, N2, 2)
    sums, counts = [], []
    for rows in torch.split(units, rows_per_strip(units.device), dim=1):
        cosines = rows @ grid_units.transpose(1, 2)  # (f, rows, N2)
        shift: float | Tensor = 1.0
        if underflows(similarity, temperature):  # the largest cosine of a row can be far below 1
            cosines.masked_fill_(~mask[:, None], -1.0)
            shift = cosines.amax(dim=2, keepdim=True).clamp_min_(similarity)
        weights = weigh_edges(cosines, similarity, temperature, shift)
        sums.append(weights @ summands)
        row_sums = sums[-1][..., :1]
        neighbours = (weights / row_sums > limit) & mask[:, None]
        counts.append(neighbours.sum(dim=2, dtype=torch.int32).long())
    return torch.cat(sums, dim=1), torch.cat(counts, dim=1)
