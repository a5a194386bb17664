"""FLoC: the tokens that all others resemble most (ICLR 2026, arXiv 2511.00141)."""

from __future__ import annotations

import torch
from torch import Tensor

from pruner.budget import water_fill
from pruner.layout import FrameLayout, frame_layout
from pruner.nodes import make_nodes
from pruner.order import joint_order
from pruner.rounding import significant_bits

# A block of frames is chosen from at a time: the published 32, or as many as have so many tokens,
# whose similarities take 1 GiB. Ranks below 2^15 are also what `joint_order` tells apart.
_BLOCK_FRAMES, _BLOCK_TOKENS = 32, 16_384
# Rows of the similarities that are worked on together, and candidates that are.
_ROWS, _CANDIDATES = 1024, 16


@torch.no_grad()
def representatives(tokens: Tensor, num_keep: int) -> Tensor:
    """Choose tokens one after another, each the one that raises the facility location most.

    f(S) = sum over all tokens v of max over u in S of cos(v, u). It is submodular, so the greedy
    choice reaches (1 - 1/e) of the best, and the gain of a token never grows while others are
    chosen: an old gain is a bound. Lazy greedy (Minoux, 1978) counts anew only tokens whose bound
    is the highest, and takes one whose gain still is.

    Departures: gains are compared on 15 significant bits, ties by index; bounds are renewed some at
    a time. A zero vector has cosine 0. Where the last bits of features differ, as a GPU's do from a
    CPU's, one choice may, and then those that follow.

    Args:
        tokens: (N, D) floating point.
        num_keep: at least 0.

    Returns:
        (min(num_keep, N),) int64, the tokens in the order of choice: what the plain greedy
        algorithm chooses, which counts all gains anew for each token.

    Raises:
        ValueError: not floating point, or features not finite.

    Cost: O(N^2 D) for the similarities, then O(N) for each gain that is counted, at least N of
    them and at most N num_keep; memory: O(N^2 + N D), float32.
    """
    units = make_nodes(tokens[None]).units[0]
    num_keep = min(num_keep, len(units))
    if num_keep == 0:
        return torch.empty(0, dtype=torch.int64, device=tokens.device)
    totals = significant_bits(units @ units.sum(dim=0))  # f of one token
    chosen = [int(totals.argmax())]
    similarity = _cosines(units)  # (N, N)
    covered = similarity[chosen[0]].clone()  # max over S, (N,)
    bounds = torch.cat([_gains(rows, covered) for rows in similarity.split(_ROWS)])
    bounds[chosen[0]] = -1
    while len(chosen) < num_keep:
        best = _best(similarity, covered, bounds)
        torch.maximum(covered, similarity[best], out=covered)
        bounds[best] = -1
        chosen.append(best)
    return torch.tensor(chosen, device=tokens.device)


def floc(base: Tensor, grid: Tensor, budget: int) -> list[Tensor]:
    """Choose the tokens that a clip keeps: in each block of frames those that represent it.

    Written from descriptions of the paper, its code is not public: cosine similarity, facility
    location, lazy greedy and blocks of 32 frames are the authors'. Departures and completions:

    - The budget is shared out to blocks in proportion to their frames.
    - A block has at most 16,384 tokens (or is one frame), which bounds the memory: five frames of
      2,880 tokens, where the published models have some hundred tokens a frame.
    - Base and grid tokens are represented and chosen together, a frame has N1 + N2 positions.
    - The budget counts newlines, each kept with the first token of its row, see `joint_order`; they
      represent nothing.

    Args:
        base: (T, N1, D) base tokens, floating point, un-normalised.
        grid: (T, rows, columns, D) grid tokens without newlines; rows = 0 for a single tile.
        budget: tokens of the clip, newlines included, at least 0.

    Returns:
        T tensors `keep_indices`: int64 flat indices, ascending, unique, some may be empty; in all
        exactly min(budget, all tokens).

    Raises:
        ValueError: shapes that do not fit, a negative budget, features not finite.

    Cost: for each block of n tokens that of `representatives`; memory: O(n^2 + n D).
    """
    layout = frame_layout(base, grid)
    length = max(1, min(_BLOCK_FRAMES, _BLOCK_TOKENS // (layout.num_base + layout.num_grid)))
    blocks = list(zip(base.split(length), grid.split(length), strict=True))
    sizes = torch.tensor([len(own) for own, _ in blocks])
    caps = sizes * layout.num_tokens
    shares = water_fill(sizes, budget, floors=torch.zeros_like(caps), caps=caps).tolist()
    kept: list[Tensor] = []
    for (own_base, own_grid), share in zip(blocks, shares, strict=True):
        tokens = torch.cat((own_base, own_grid.flatten(1, 2)), dim=1)  # (f, N, D)
        chosen = representatives(tokens.flatten(0, 1), share)
        kept += _with_newlines(chosen, share, layout, len(tokens))
    return kept


def _cosines(units: Tensor) -> Tensor:
    """Cosines of unit vectors (N, D), (N, N), each product computed once."""
    cosines = units.new_empty(len(units), len(units))
    for start in range(0, len(units), _ROWS):
        rows = slice(start, start + _ROWS)
        block = units[rows] @ units[start:].T
        cosines[rows, start:], cosines[start:, rows] = block, block.T
    return cosines


def _gains(rows: Tensor, covered: Tensor) -> Tensor:
    """What each of some tokens adds to f, given its similarities (n, N): (n,) int32."""
    return significant_bits((rows - covered).clamp_min_(0).sum(dim=1))


def _best(similarity: Tensor, covered: Tensor, bounds: Tensor) -> int:
    """The token of the highest gain; bounds (N,) are renewed until its own is known to be."""
    stale = bounds.clone()
    while stale[best := int(bounds.argmax())] >= 0:
        some = stale.topk(min(_CANDIDATES, len(stale))).indices
        some = some[stale[some] >= 0]
        bounds[some] = _gains(similarity[some], covered)
        stale[some] = -1
    return best


def _with_newlines(
    chosen: Tensor, share: int, layout: FrameLayout, num_frames: int
) -> list[Tensor]:
    """Flat indices of the first tokens chosen of some frames, newlines among them, by frame."""
    num_content = num_frames * (layout.num_base + layout.num_grid)
    scores = torch.zeros(1, num_content, device=chosen.device)
    scores[0, chosen] = torch.arange(len(chosen), 0, -1, device=chosen.device).to(scores)
    kept = joint_order(scores, layout, num_frames=num_frames)[0, :share].sort().values
    counts = torch.bincount(kept // layout.num_tokens, minlength=num_frames)
    return list((kept % layout.num_tokens).split(counts.tolist()))
