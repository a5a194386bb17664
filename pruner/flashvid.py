"""FlashVID: diverse tokens, the rest merged along trees in time (ICLR 2026, arXiv 2602.08024)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from pruner.budget import water_fill
from pruner.density_peaks import density_peaks
from pruner.layout import FrameLayout, frame_layout
from pruner.nodes import make_nodes
from pruner.rounding import significant_bits, snap
from pruner.trees import merge_trees, tree_parents

_SAME_SEGMENT, _LEAST_SEGMENTS = 0.9, 8
_TENTHS_DIVERSE = 7  # alpha = 0.7
Kept = tuple[Tensor, Tensor]
"""Features (k, D) of a frame's tokens and their places (k,) among its N content tokens."""


def segment_lengths(frames: Tensor) -> list[int]:
    """Cut a clip into segments: where neighbouring frames differ, and into eight at least.

    A cut is where the cosine of the mean tokens of two frames is below 0.9; if those make fewer
    than eight segments, also where it is lowest. Ties by index.

    Args:
        frames: (T, D) floating point, the mean token of each frame.

    Returns:
        How many frames each segment has, at least 1.
    """
    cosines = snap(cosine_similarity(frames[1:], frames[:-1], dim=1))
    num_cuts = max(int((cosines < _SAME_SEGMENT).sum()), _LEAST_SEGMENTS - 1)
    cuts = cosines.argsort(stable=True)[:num_cuts].sort().values + 1
    return [end - start for start, end in pairwise([0, *cuts.tolist(), len(frames)])]


def diverse_tokens(units: Tensor, relevance: Tensor, num_keep: int) -> Tensor:
    """Choose tokens of a frame one after another, each the farthest from those chosen (ADTS).

    The distance to token j is (1 - cos) times its relevance; first comes the token whose nearest
    neighbour is farthest. Departures: a token is chosen once, also where all distances are 0;
    relevance below 0, which the published product turns into a preference for likeness, counts as
    0; distances are compared on 15 significant bits, ties by index.

    Args:
        units: (N, D) float32 or float64, unit vectors.
        relevance: (N,), of the same type.
        num_keep: at most N.

    Returns:
        (num_keep,) int64, in the order of choice. Cost: O(N^2 D + N num_keep); memory: O(N^2).
    """
    distances = snap(1 - units @ units.T).fill_diagonal_(2)
    gaps, chosen = distances.amin(dim=0), []
    taken = torch.zeros_like(relevance, dtype=torch.bool)
    for step in range(num_keep):
        best = significant_bits(gaps * relevance).masked_fill_(taken, -1).argmax()
        gaps = torch.minimum(gaps, distances[best]) if step else distances[best]
        taken[best] = True
        chosen.append(best)
    return torch.stack(chosen) if chosen else relevance.new_empty(0, dtype=torch.int64)


@torch.no_grad()
def flashvid(
    base: Tensor, grid: Tensor, newline: Tensor, shares: Sequence[int] | Tensor
) -> list[tuple[Tensor, Tensor]]:
    """Choose diverse tokens of each frame of a clip, and merge the others over time and place.

    In each segment (`segment_lengths`) every frame keeps 0.7 of its tokens as they are
    (`diverse_tokens`); the others form trees (`tree_parents`), of which each becomes the mean of
    its tokens, at the place of its root, its earliest token. What are still too many are clustered
    in each frame (`density_peaks`), and a cluster becomes the mean of its tokens at the place of
    its centre.

    This is what the method does before the language model, with all tokens that enter it: the
    published "10 %" are an average over layers, 12.5 % enter, and 30 % of those go on after layer
    20. That inner step is left out here, so equal budgets are equal *entering* tokens.

    Departures and completions:

    - The published relevance of a token is its [CLS] attention times its dot product with the mean
      token of its segment. Here it is the latter alone: attention stays in the vision tower, and
      tiles have one [CLS] each.
    - Base and grid tokens take part together, a frame has N1 + N2 places; so a tree may join both
      resolutions.
    - The budget is met exactly: every frame gets the same part of it, only the sum of the shares
      is read; links are given up by similarity until enough tokens are left, and clusters are
      shared out to frames in proportion to what is left there, where published counts round up.
    - As with `tome`, merged tokens form no rows: newlines are kept beyond all other tokens only,
      first rows first.
    - A segment of one frame merges nothing but clusters, and no token twice.

    Args:
        base: (T, N1, D) base tokens, floating point, un-normalised.
        grid: (T, rows, columns, D) grid tokens without newlines; rows = 0 for a single tile.
        newline: (D,), the newline token.
        shares: T numbers in [0, num_tokens], of which the sum is the budget.

    Returns:
        T pairs: features (k, D) in the dtype of the base, computed in float32 or float64, and
        `keep_indices` (k,) int64 flat indices, ascending, unique; k sums to the budget.

    Raises:
        ValueError: shapes that do not fit, a sum out of range, features not finite.

    Cost: O(T N^2 D); memory: O(T N D), one copy of the tokens, and O(N^2).
    """
    layout, num_frames = frame_layout(base, grid), len(base)
    budget, most = int(torch.as_tensor(shares).sum()), num_frames * layout.num_tokens
    if not 0 <= budget <= most:
        raise ValueError(f"shares sum to at most all tokens of a clip: {budget = }, {most = }")
    caps = torch.full((num_frames,), layout.num_tokens)
    counts = water_fill(torch.ones(num_frames), budget, floors=torch.zeros_like(caps), caps=caps)
    num_content = layout.num_base + layout.num_grid
    tokens = torch.cat((base, grid.flatten(1, 2)), dim=1)  # (T, N, D)
    kept = _merge(tokens, counts.clamp_max(num_content))
    rows = (counts - num_content).clamp_min(0).tolist()
    return [_with_newlines(*own, newline, n, layout) for own, n in zip(kept, rows, strict=True)]


def _merge(tokens: Tensor, counts: Tensor) -> list[Kept]:
    """Merge the tokens (T, N, D) of a clip, segment by segment, to the sum of the counts (T,)."""
    means = torch.stack([frame.mean(dim=0, dtype=torch.float64) for frame in tokens])  # (T, D)
    lengths = segment_lengths(means)
    segments = zip(*(each.split(lengths) for each in (tokens, means, counts)), strict=True)
    return [kept for segment in segments for kept in _merge_segment(*segment)]


def _merge_segment(segment: Tensor, means: Tensor, counts: Tensor) -> list[Kept]:
    """Merge the tokens (F, N, D) of a segment, given the mean token of each frame (F, D)."""
    mean = means.mean(dim=0)
    num_diverse = (counts * _TENTHS_DIVERSE + 9) // 10
    diverse = [_diverse(*each, mean) for each in zip(segment, num_diverse.tolist(), strict=True)]
    free = torch.ones(segment.shape[:2], dtype=torch.bool, device=segment.device)
    for own, chosen in zip(free, diverse, strict=True):
        own[chosen] = False
    parents = tree_parents(segment, free, at_most=free.numel() - int(counts.sum()))
    roots = free & (parents < 0)
    caps, rest = roots.sum(dim=1).cpu(), int((counts - num_diverse).sum())
    shares = water_fill(caps, rest, floors=torch.zeros_like(caps), caps=caps).tolist()
    per_frame = list(zip(segment, diverse, roots, shares, strict=True))[::-1]
    merged = zip(merge_trees(segment, parents), per_frame, strict=True)
    return [_clustered(trees, *frame) for trees, frame in merged][::-1]


def _diverse(frame: Tensor, num_keep: int, mean: Tensor) -> Tensor:
    nodes = make_nodes(frame[None])
    units = nodes.units[0]
    relevance = units @ mean.to(units) * nodes.norms[0]
    return diverse_tokens(units, relevance.clamp_min(0), num_keep)


def _clustered(trees: Tensor, frame: Tensor, diverse: Tensor, roots: Tensor, share: int) -> Kept:
    """The diverse tokens of one frame as they are, and its roots in so many clusters."""
    places, tokens = roots.nonzero()[:, 0], trees[roots]
    if share < len(places):
        places, tokens = _clusters(places, tokens, share)
    places, order = torch.cat((diverse, places)).sort()
    return torch.cat((frame[diverse], tokens.to(frame.dtype)))[order], places


def _clusters(places: Tensor, tokens: Tensor, num_clusters: int) -> tuple[Tensor, Tensor]:
    if num_clusters == 0:
        return places[:0], tokens[:0]
    centres, cluster_of = density_peaks(tokens, num_clusters)
    sums = tokens.new_zeros(num_clusters, tokens.shape[1]).index_add_(0, cluster_of, tokens)
    return places[centres], sums / cluster_of.bincount(minlength=num_clusters)[:, None]


def _with_newlines(
    features: Tensor, places: Tensor, newline: Tensor, num_rows: int, layout: FrameLayout
) -> Kept:
    """Features and flat indices of one frame, with the newlines of its first rows."""
    content = torch.cat((torch.arange(layout.num_base), layout.grid_indices())).to(places.device)
    newlines = layout.newline_indices()[:num_rows].to(places.device)
    indices, order = torch.cat((content[places], newlines)).sort()
    return torch.cat((features, newline.to(features).expand(num_rows, -1)))[order], indices
