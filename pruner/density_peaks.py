"""Density-peak clustering: centres lie densely and far from anything denser (DPC-kNN)."""

from __future__ import annotations

import torch
from torch import Tensor

from pruner.order import rank_tokens

_NEIGHBOURS = 7


@torch.no_grad()
def density_peaks(tokens: Tensor, num_clusters: int) -> tuple[Tensor, Tensor]:
    """Find the centres of clusters, and the cluster of each token.

    As FlashVID uses it (ICLR 2026, after Rodriguez and Laio, 2014): distances are Euclidean, over
    sqrt(D). The density of a token is exp(-mean square distance to its k nearest tokens, itself
    among them), k = min(7, clusters). Centres have the highest products of density and distance to
    the nearest denser token, for the densest of all the largest distance; a token belongs to the
    nearest centre.

    Departure: where densities are equal on 15 significant bits the lower index counts as denser;
    the published code adds random noise instead. All other ties go to the lower index too.

    Args:
        tokens: (N, D) float32 or float64, finite.
        num_clusters: from 1 to N.

    Returns:
        centres (num_clusters,) int64, ascending, and cluster_of (N,) int64, the place of each
        token's centre among them.

    Raises:
        ValueError: a number of clusters out of range.

    Cost: O(N^2 D); memory: O(N^2).
    """
    num_tokens = len(tokens)
    if not 1 <= num_clusters <= num_tokens:
        raise ValueError(f"clusters have a token each: {num_clusters = }, {num_tokens = }")
    distances = torch.cdist(tokens, tokens) / tokens.shape[1] ** 0.5
    distances.fill_diagonal_(0)
    nearest = distances.topk(min(num_clusters, _NEIGHBOURS), dim=1, largest=False).values
    density = (-nearest.square().mean(dim=1)).exp()
    peaks = density * _to_denser(distances, density)
    centres = rank_tokens(peaks[None])[0, :num_clusters].sort().values
    cluster_of = distances[:, centres].argmin(dim=1)
    cluster_of[centres] = torch.arange(num_clusters, device=tokens.device)
    return centres, cluster_of


def _to_denser(distances: Tensor, density: Tensor) -> Tensor:
    """Distance of each token to the nearest denser one, the largest of all for the densest."""
    order = rank_tokens(density[None])[0]  # (N,), from the densest
    ranks = torch.empty_like(order).scatter_(0, order, torch.arange(len(order)).to(order))
    return distances.where(ranks[None] < ranks[:, None], distances.max()).amin(dim=1)
