"""V-CAST: more of the frames where a clip turns, and of each its outliers (arXiv 2603.27650)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from pruner.budget import water_fill
from pruner.layout import frame_layout
from pruner.nodes import inverse_norms, token_norms
from pruner.order import joint_order
from pruner.rounding import snap

_TEMPERATURE = 0.7
_EPS = 1e-6


@torch.no_grad()
def vcast_scores(tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Score tokens by how they stand out of their frame, and frames by how the clip turns there.

    f_t is the mean token of a frame as a unit vector. A frame's curvature is
    c_t = 1 - cos(f_t - f_{t-1}, f_{t+1} - f_t), 1 for the first and the last, and its weight
    softmax(c / 0.7)_t: a steady motion is no news, a turn is. A frame that repeats the one before
    has a difference of zero and so, as published, the curvature of a right angle.

    Token scores are 1 - cos(x, f_t) plus the token's norm, scaled to [0, 1] within its frame.
    Departures: cosines are clamped to [-1, 1] and scores rounded to multiples of 2^-20; a zero
    vector has cosine 0.

    Args:
        tokens: (T, P, D) floating point, the frames in source order, T and P at least 1.

    Returns:
        token_scores (T, P) float32 (float64 for float64 tokens) in [0, 3], larger = keep, and
        frame_weights (T,) float64, > 0, which sum to 1.

    Raises:
        ValueError: not three axes, not floating point, no tokens, or features not finite.

    Cost: O(T P D); memory beyond the result: O(P D), one frame in float64.
    """
    shape = tuple(tokens.shape)
    if 0 in shape:
        raise ValueError(f"tokens are (T, P, D), none of them 0: {shape = }")
    norms = token_norms(tokens)
    means = torch.stack([frame.mean(dim=0, dtype=torch.float64) for frame in tokens])  # (T, D)
    centres = normalize(means, dim=1, eps=_EPS)
    scores = map(_standing_out, tokens, centres, norms)
    return snap(torch.stack(list(scores))), torch.softmax(_curvature(centres) / _TEMPERATURE, 0)


def vcast_shares(frame_weights: Tensor, budget: int, num_tokens: int) -> Tensor:
    """Tokens of each frame: one, and of what is left its weight's part, at most the whole frame.

    As published below the cap, but for the remainder: the published loop hands it to one frame, the
    one with the largest fraction, where `water_fill` gives each of the largest fractions one token.
    What exceeds a frame goes to the others by weight. Fewer tokens than frames go by weight alone.

    Args:
        frame_weights: (T,), from `vcast_scores`.
        budget: tokens of the clip, at least 0.
        num_tokens: tokens of a frame.

    Returns:
        (T,) int64, sums to exactly min(budget, T num_tokens).

    Raises:
        ValueError: a negative budget.
    """
    num_frames = len(frame_weights)
    floor = int(budget >= num_frames)
    caps = torch.full((num_frames,), num_tokens - floor)
    rest = budget - floor * num_frames
    return floor + water_fill(frame_weights, rest, floors=torch.zeros_like(caps), caps=caps)


def vcast(base: Tensor, grid: Tensor, budget: int) -> list[Tensor]:
    """Choose the tokens that a clip keeps: more where it turns, what stands out in each frame.

    Departures: base and grid tokens are scored and ranked together, a frame has N1 + N2 positions;
    the budget counts newlines, each kept with the first token of its row, see `joint_order`; a clip
    of one frame is pruned too. The published code keeps 3-D positions, here positions are those of
    the project.

    Args:
        base: (T, N1, D) base tokens, floating point, un-normalised.
        grid: (T, rows, columns, D) grid tokens without newlines; rows = 0 for a single tile.
        budget: tokens of the clip, newlines included, at least 0.

    Returns:
        T tensors `keep_indices`: int64 flat indices, ascending, unique; in all exactly
        min(budget, all tokens), and at least one in each frame if there are as many.

    Raises:
        ValueError: shapes that do not fit, a negative budget, features not finite.

    Cost: O(T N D + T N log N); memory: O(T N D), one copy of the tokens.
    """
    layout = frame_layout(base, grid)
    scores, weights = vcast_scores(torch.cat((base, grid.flatten(1, 2)), dim=1))
    shares = vcast_shares(weights, budget, layout.num_tokens).tolist()
    order = joint_order(scores, layout)
    return [own[:share].sort().values for own, share in zip(order, shares, strict=True)]


def _curvature(centres: Tensor) -> Tensor:
    """How sharply the path of the frames (T, D) turns at each of them, (T,) in [0, 2]."""
    steps = centres.diff(dim=0)
    curvature = torch.ones_like(centres[:, 0])
    curvature[1:-1] = 1 - cosine_similarity(steps[:-1], steps[1:], dim=1, eps=_EPS)
    return curvature


def _standing_out(frame: Tensor, centre: Tensor, norms: Tensor) -> Tensor:
    """Scores of the tokens (P, D) of one frame, given its centre (D,) and their norms: (P,)."""
    cosines = frame.to(norms.dtype) @ centre.to(norms.dtype) * inverse_norms(norms)
    lowest, highest = norms.aminmax()
    return 1 - cosines.clamp(-1, 1) + (norms - lowest) / (highest - lowest + _EPS)
