"""ToMe: tokens that resemble each other become one (ICLR 2023, arXiv 2210.09461)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pruner.batches import frames_per_batch
from pruner.layout import FrameLayout, frame_layout
from pruner.nodes import make_nodes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Matching:
    """One step of merging, decided once and applied to any features of the tokens.

    Attributes:
        rows: (B, num_out) int64, the token that each output row stands for: the destination of a
            merge, or a token left alone.
        row_of: (B, N) int64, the output row that each token ends in.
    """

    rows: Tensor
    row_of: Tensor


@torch.no_grad()
def match_tokens(
    metric: Tensor, num_merged: int, *, class_token: bool = False, distill_token: bool = False
) -> Matching:
    """Match the tokens at even places with their nearest neighbours at odd places.

    Bipartite soft matching (section 3): set A has the even places and B the odd ones, each token of
    A points to the token of B of the highest cosine, and the `num_merged` best pairs merge.

    Departure: a zero vector has similarity 0 to everything; the published normalisation divides by
    zero, and one such token in B makes every similarity NaN. Ties, which the paper leaves open, go
    to the lower place, for destinations and for pairs.

    Args:
        metric: (B, N, M) floating point, what tokens are compared by.
        num_merged: r, at least 0; as published, no more than half of the unprotected tokens merge.
        class_token: the token at place 0 merges with none, and rows left alone are ascending.
        distill_token: no token merges into the one at place 1, which is the second output row.

    Returns:
        The matching, rows in the published order: what is left of A by descending similarity, then
        B; source order where nothing merges.

    Raises:
        ValueError: a metric without three axes or not finite, or a negative count.

    Cost: O(B N^2 M / 4); memory O(B (N^2 / 4 + N M)).
    """
    if num_merged < 0:
        raise ValueError(f"the number of merges is at least 0: {num_merged = }")
    units = make_nodes(metric).units
    num_frames, num_tokens = units.shape[:2]
    places = torch.arange(num_tokens, device=units.device).expand(num_frames, -1)
    num_merged = min(num_merged, (num_tokens - class_token - distill_token) // 2)
    if num_merged <= 0:
        return Matching(rows=places, row_of=places)
    similarity = units[:, ::2] @ units[:, 1::2].mT  # (B, |A|, |B|)
    if class_token:
        similarity[:, 0] = -torch.inf
    if distill_token:
        similarity[:, :, 0] = -torch.inf
    best, partner = similarity.max(dim=2)  # (B, |A|)
    pairs = best.argsort(dim=1, descending=True, stable=True)
    merged, alone = pairs[:, :num_merged], pairs[:, num_merged:]
    if class_token:
        alone = alone.sort(dim=1).values

    parts = [2 * alone, places[:, 1::2]]  # places left of A, and of B
    if distill_token:  # the two protected tokens lead
        parts = [part[:, :1] for part in parts] + [part[:, 1:] for part in parts]
    rows = torch.cat(parts, dim=1)  # (B, N - r)
    into = places.scatter(1, 2 * merged, 2 * partner.gather(1, merged) + 1)  # (B, N)
    row_of_place = torch.zeros_like(into).scatter_(1, rows, places[:, : rows.shape[1]])
    return Matching(rows=rows, row_of=row_of_place.gather(1, into))


def merge_tokens(
    tokens: Tensor, matching: Matching, sizes: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Average the tokens that a matching brings together.

    With sizes sum(size x) / sum(size), the weighted mode of section 3; without, every token counts
    once, the plain mean. On GPUs the sum of three tokens or more may differ in its last bits from
    run to run, unless torch is told to be deterministic.

    Args:
        tokens: (B, N, C) floating point.
        matching: of these tokens.
        sizes: (B, N), > 0, how many tokens each already stands for; 1 if None.

    Returns:
        Merged tokens (B, num_out, C) and their sizes (B, num_out), both in the dtype of the tokens
        and the order of `matching.rows`. Cost: O(B N C).

    Raises:
        ValueError: shapes that do not fit.
    """
    shape, expected = tuple(tokens.shape), tuple(matching.row_of.shape)
    is_first = sizes is None
    sizes = tokens.new_ones(expected) if sizes is None else sizes.to(tokens.dtype)
    if tokens.ndim != 3 or not shape[:2] == expected == tuple(sizes.shape):
        raise ValueError(f"tokens and matching differ: {shape = }, {expected = }, {sizes.shape = }")
    num_out = matching.rows.shape[1]
    total = sizes.new_zeros(shape[0], num_out).scatter_add_(1, matching.row_of, sizes)
    row_of = matching.row_of[:, :, None].expand(shape)
    sums = tokens.new_zeros(shape[0], num_out, shape[2])
    sums.scatter_add_(1, row_of, tokens if is_first else tokens * sizes[:, :, None])
    return sums.div_(total[:, :, None]), total


@torch.no_grad()
def tome(
    base: Tensor, grid: Tensor, newline: Tensor, shares: Sequence[int] | Tensor
) -> list[tuple[Tensor, Tensor]]:
    """Merge the tokens of F frames, each frame for itself, until exactly its share is left.

    The paper merges r tokens in every block of a ViT and compares attention keys. It leaves open
    how projected features of two resolutions are merged for a language model; what is done here:

    - The metric is the features themselves; each resolution merges for itself, by the published
      step with sizes, at most half of its tokens at a time, rows kept in the published order
      between steps. A final token is thus the mean of all its sources. No proportional attention.
    - Both resolutions keep the same fraction: of n content tokens floor(n N1 / (N1 + N2)) base, the
      rest grid. A resolution left without any is dropped, not merged into the other.
    - A merged token takes the flat index of its destination: that of the odd token which its last
      merge went into.
    - Merged tokens form no rows. A share beyond all content tokens keeps newlines as well, first
      rows first; a share of `num_tokens` changes nothing.

    Departures from the published step: see `match_tokens`.

    Args:
        base: (F, N1, D) base tokens, floating point, un-normalised.
        grid: (F, rows, columns, D) grid tokens without newlines; rows = 0 for a single tile.
        newline: (D,), the newline token.
        shares: F numbers in [0, num_tokens].

    Returns:
        F pairs: features (share, D) in the dtype of the base, computed in float32 or float64, and
        `keep_indices` (share,) int64 flat indices, ascending, unique.

    Raises:
        ValueError: shapes that do not fit, a share out of range, features not finite.

    Cost: O(F (N1^2 + N2^2) D / 3). Frames of one share are merged together, up to 16 on GPUs, one
    at a time on CPUs; memory beyond the result is about four float32 copies of those.
    """
    layout = frame_layout(base, grid)
    counts = torch.as_tensor(shares).tolist()
    expected, shape = tuple(base.shape[2:]), tuple(newline.shape)
    if shape != expected:
        raise ValueError(f"the newline is one token: {shape = }, {expected = }")
    if len(counts) != len(base) or not all(0 <= n <= layout.num_tokens for n in counts):
        raise ValueError(f"a share per frame, up to {layout.num_tokens = }: {shares = }")
    merged: dict[int, tuple[Tensor, Tensor]] = {}
    for share, frames in _same_share(
        counts, frames_per_batch(base.device, base.shape[1] + grid.shape[1] * grid.shape[2])
    ):
        own = slice(frames[0], frames[0] + 1) if len(frames) == 1 else frames  # a view, or a copy
        features, indices = _merge_frames(base[own], grid[own], newline, share, layout)
        merged.update(zip(frames, zip(features, indices, strict=True), strict=True))
    return [merged[frame] for frame in range(len(base))]


def _same_share(shares: list[int], at_most: int) -> Iterator[tuple[int, list[int]]]:
    """Each share with frames that have it, in lists of bounded length."""
    for share in sorted(set(shares)):
        frames = [frame for frame, own in enumerate(shares) if own == share]
        for start in range(0, len(frames), at_most):
            yield share, frames[start : start + at_most]


def _merge_frames(
    base: Tensor, grid: Tensor, newline: Tensor, share: int, layout: FrameLayout
) -> tuple[Tensor, Tensor]:
    """Features (f, share, D) and flat indices (f, share) of frames that have the same share."""
    num_content = layout.num_base + layout.num_grid
    content = min(share, num_content)
    num_base, num_newlines = content * layout.num_base // num_content, share - content
    base_tokens, base_places = _merge_to(base, num_base)
    grid_tokens, grid_places = _merge_to(grid.flatten(1, 2), content - num_base)
    newlines = newline.to(base).expand(len(base), num_newlines, -1)
    features = torch.cat((base_tokens, grid_tokens, newlines), dim=1)
    grid_indices = layout.grid_indices().to(base.device)[grid_places]
    newline_indices = layout.newline_indices()[:num_newlines].to(base.device)
    parts = base_places, grid_indices, newline_indices.expand(len(base), -1)
    indices, order = torch.cat(parts, dim=1).sort(dim=1)
    return features.gather(1, order[:, :, None].expand_as(features)), indices


def _merge_to(tokens: Tensor, target: int) -> tuple[Tensor, Tensor]:
    """Merge (f, N, D) until `target` tokens are left, and say from which places (f, target)."""
    num_frames, num_tokens = tokens.shape[:2]
    places = torch.arange(num_tokens, device=tokens.device).expand(num_frames, -1)
    if target == 0:
        return tokens[:, :0], places[:, :0]
    merged = tokens if tokens.dtype == torch.float64 else tokens.float()
    sizes: Tensor | None = None
    while places.shape[1] > target:
        matching = match_tokens(merged, places.shape[1] - target)  # takes no more than half
        merged, sizes = merge_tokens(merged, matching, sizes)
        places = places.gather(1, matching.rows)
    return merged.to(tokens.dtype), places
