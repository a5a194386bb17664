"""Each pruning method written down as its paper has it: what the fast forms are measured against.

Whole dense matrices, whole float32 copies and plain loops. Every function takes the features of the
F frames of a clip and the tokens that a frame keeps, and returns the flat indices kept of each:

    (base (F, N1, D), grid (F, rows, columns, D), num_keep) -> F tensors (k,) int64, ascending

with rows of at least 1, and F num_keep tokens in all for methods that choose across the clip.

What makes the cap hold and a choice the same everywhere is that of `pruner`: newlines are paid for
and follow the first token of their row, scores are compared on 15 significant bits with ties by
index, a node without neighbours keeps its weight, and a budget is shared out by `water_fill`. So
the same tokens are kept, but for scores that differ by the rounding of float32.

Not here: `fastv` chooses inside the language model, and `random`, `uniform` and `none` look at no
feature, so that there is no slower way to write them.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn.functional import normalize

from pruner import FrameLayout, frame_layout
from streaming.bench.plain_order import Content, keep, ranked
from streaming.bench.plain_video_pruners import evs, flashvid, floc, vcast, vidcom2

Plain = Callable[[Tensor, Tensor, int], list[Tensor]]
SIMILARITY, TEMPERATURE, BETA = 0.5, 0.03, 0.5


def mr_pruner(base: Tensor, grid: Tensor, num_keep: int) -> list[Tensor]:
    """MR-Pruner: graphs inside both resolutions, then across them (WACV 2026)."""
    layout, kept = frame_layout(base, grid), []
    for low, high in zip(base.float(), grid.flatten(1, 2).float(), strict=True):
        norms = [tokens.norm(dim=1).mean().nan_to_num() for tokens in (low, high)]  # 0 of no grid
        share = float(norms[0] / sum(norms))
        low_scores, high_scores = mr_pruner_scores(low, high, layout, share, num_keep)
        order = _mix(ranked(low_scores), ranked(high_scores), share)
        kept += keep(order, layout, num_keep)
    return kept


def mr_pruner_scores(
    low: Tensor, high: Tensor, layout: FrameLayout, share: float, num_keep: int
) -> tuple[Tensor, Tensor]:
    """Scores of one frame's tokens (N1, D) and (N2, D), `share` of the kept ones being base."""
    low_transition, low_degrees = transition(low, low)
    high_transition, high_degrees = transition(high, high)
    low_scores = low.norm(dim=1) @ low_transition / low_degrees
    high_scores = high.norm(dim=1) @ high_transition / high_degrees
    # The grid tokens that this frame would not keep hand their weight to the base.
    order = _mix(list(range(len(low))), ranked(high_scores), share)
    (first,) = keep(order, layout, num_keep)
    first_grid = torch.isin(layout.grid_indices(), first)
    pruned = high[~first_grid.to(high.device)]
    if not len(pruned):
        return low_scores, high_scores
    cross, cross_degrees = transition(low, pruned)
    return low_scores + BETA * (cross @ pruned.norm(dim=1)) / cross_degrees, high_scores


def gprune(base: Tensor, grid: Tensor, num_keep: int, num_steps: int = 5) -> list[Tensor]:
    """G-Prune: the weights after n steps of the walk, over the degrees (AAAI 2025)."""
    layout, kept = frame_layout(base, grid), []
    share = layout.num_base / (layout.num_base + layout.num_grid)
    for frame in zip(base.float(), grid.flatten(1, 2).float(), strict=True):
        low_rank, high_rank = (ranked(gprune_scores(tokens, num_steps)) for tokens in frame)
        kept += keep(_mix(low_rank, high_rank, share), layout, num_keep)
    return kept


def gprune_scores(tokens: Tensor, num_steps: int) -> Tensor:
    """Scores (N,) of one resolution's tokens (N, D): w P^n / d."""
    matrix, degrees = transition(tokens, tokens)
    walked: Tensor = tokens.norm(dim=1) @ torch.linalg.matrix_power(matrix, num_steps)
    return walked / degrees


def tome(base: Tensor, grid: Tensor, num_keep: int) -> list[Tensor]:
    """ToMe: merge the most similar pairs, at most half at a time (ICLR 2023).

    Returned are the destinations of the merges; what they hold is averaged but not returned.
    """
    layout, kept = frame_layout(base, grid), []
    num_content = layout.num_base + layout.num_grid
    content = min(num_keep, num_content)
    num_base = content * layout.num_base // num_content
    for low, high in zip(base.float(), grid.flatten(1, 2).float(), strict=True):
        base_places = merge_to(low, num_base)
        grid_places = merge_to(high, content - num_base)
        newlines = layout.newline_indices()[: num_keep - content]
        parts = base_places, layout.grid_indices()[grid_places], newlines
        kept.append(torch.cat(parts).sort().values)
    return kept


PLAIN: Mapping[str, Plain] = {
    "mr_pruner": mr_pruner,
    "gprune": gprune,
    "tome": tome,
    "evs": evs,
    "vidcom2": vidcom2,
    "vcast": vcast,
    "floc": floc,
    "flashvid": flashvid,
}
"""The methods by the names of `pruner.METHODS`."""


def transition(rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Row-stochastic softmax over thresholded cosines (n, m), and degrees (n,), at least 1.

    Rows without neighbours are 0, but for a token against itself, which keeps its weight.
    """
    cosines = normalize(rows, dim=1) @ normalize(columns, dim=1).T
    logits = torch.where(cosines < SIMILARITY, -5000.0, cosines / TEMPERATURE)
    alone = (logits == -5000.0).all(dim=1)
    matrix = logits.softmax(dim=1)
    degrees = (matrix > 0).sum(dim=1).masked_fill(alone, 1)
    matrix = matrix.masked_fill(alone[:, None], 0.0)
    if rows is columns:
        matrix = matrix + torch.diag(alone.to(matrix))
    return matrix, degrees


def merge_to(tokens: Tensor, target: int) -> Tensor:
    """Places of the tokens (N, D) that are left once `target` of them are, in merging order."""
    places, sizes = torch.arange(len(tokens)), torch.ones(len(tokens), 1, device=tokens.device)
    if target == 0:
        return places[:0]
    while len(tokens) > target:
        num_merged = min(len(tokens) - target, len(tokens) // 2)
        metric = normalize(tokens, dim=1)
        best, partner = (metric[::2] @ metric[1::2].T).max(dim=1)
        pairs = best.argsort(descending=True, stable=True)
        merged, alone = pairs[:num_merged], pairs[num_merged:]
        total, weight = (tokens * sizes)[1::2].clone(), sizes[1::2].clone()
        for source in merged.tolist():
            total[partner[source]] += tokens[2 * source] * sizes[2 * source]
            weight[partner[source]] += sizes[2 * source]
        tokens = torch.cat((tokens[2 * alone], total / weight))
        sizes = torch.cat((sizes[2 * alone], weight))
        places = torch.cat((places[2 * alone.to(places.device)], places[1::2]))
    return places


def _mix(base_rank: list[int], grid_rank: list[int], share: float) -> Content:
    """Content tokens of one frame in order: of the first n, floor(n share) are base."""
    order: Content = []
    num_base, share = 0, round(share * 2**20) / 2**20
    for n in range(1, len(base_rank) + len(grid_rank) + 1):
        wanted = min(max(int(n * share), n - len(grid_rank)), len(base_rank))
        if wanted > num_base:
            order.append((0, base_rank[num_base]))
            num_base = wanted
        else:
            order.append((0, len(base_rank) + grid_rank[n - 1 - num_base]))
    return order
