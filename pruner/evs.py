"""EVS: tokens that changed since the last frame (Efficient Video Sampling, arXiv 2510.14624)."""

from __future__ import annotations

import torch
from torch import Tensor

from pruner.layout import frame_layout
from pruner.nodes import inverse_norms, token_norms, tokens_per_block
from pruner.order import joint_order
from pruner.rounding import snap

# What is published for the first frame, which has no frame before: more than any change.
_FIRST_FRAME = 255.0


@torch.no_grad()
def evs_scores(tokens: Tensor) -> Tensor:
    """Score each token of a clip by its change against the same position one frame before.

    d[t, p] = 1 - cos(e[t, p], e[t - 1, p]), and d[0, p] = 255. As published, a zero vector has
    cosine 0 with anything, itself included, and a slow drift is never seen. Departure: cosines are
    clamped to [-1, 1] and scores rounded to multiples of 2^-20, so that repeated tokens tie.

    Args:
        tokens: (T, P, D) floating point, the frames in source order.

    Returns:
        (T, P) float32 (float64 for float64 tokens), in [0, 2] and 255 for the first frame.

    Raises:
        ValueError: not three axes, not floating point, or features not finite.

    Cost: O(T P D); memory beyond the result: two frames on GPUs, a few tokens on CPUs.
    """
    norms = token_norms(tokens)  # checks the whole clip at once
    scale = inverse_norms(norms)[:, :, None]
    cosines = torch.empty_like(norms[1:])
    size = tokens_per_block(tokens)
    for start in range(0, tokens.shape[1], size):
        block = slice(start, start + size)
        before = tokens[:1, block] * scale[:1, block]  # (1, block, D)
        for frame in range(1, len(tokens)):
            units = tokens[frame : frame + 1, block] * scale[frame : frame + 1, block]
            cosines[frame - 1, block] = (before * units).sum(dim=2)[0]
            before = units
    scores = torch.full_like(norms, _FIRST_FRAME)
    scores[1:] = snap(1 - cosines.clamp(-1, 1))
    return scores


def evs(base: Tensor, grid: Tensor, budget: int) -> list[Tensor]:
    """Choose the tokens that a clip keeps, from all its frames together.

    The tokens of the highest scores in the whole clip, ties in source order (base before grid), as
    published for positions of one grid; here a frame has N1 + N2 positions.

    Departures, for a cap that holds: `budget` is not raised to the size of a frame, as the
    published max(P, int(T P (1 - q))) does, so even the first frame may be cut; and it counts
    newlines, each kept with the first token of its row, see `joint_order`.

    Args:
        base: (T, N1, D) base tokens, floating point, un-normalised.
        grid: (T, rows, columns, D) grid tokens without newlines; rows = 0 for a single tile.
        budget: tokens of the clip, newlines included, at least 0.

    Returns:
        T tensors `keep_indices`: int64 flat indices, ascending, unique, some may be empty; in all
        exactly min(budget, all tokens).

    Raises:
        ValueError: shapes that do not fit, a negative budget, features not finite.

    Cost: O(T N D + T N log(T N)).
    """
    layout, num_frames = frame_layout(base, grid), len(base)
    if budget < 0:
        raise ValueError(f"a budget is at least 0: {budget = }")
    scores = torch.cat((evs_scores(base), evs_scores(grid.flatten(1, 2))), dim=1)  # (T, N)
    order = joint_order(scores.flatten()[None], layout, num_frames=num_frames)[0]
    kept = order[:budget].sort().values
    frame, flat = kept // layout.num_tokens, kept % layout.num_tokens
    counts = torch.bincount(frame, minlength=num_frames)
    return list(flat.split(counts.tolist()))
