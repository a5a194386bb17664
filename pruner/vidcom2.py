"""VidCom2: frames and tokens unlike the rest of the clip (arXiv 2505.14454)."""

from __future__ import annotations

import torch
from torch import Tensor

from pruner.budget import water_fill
from pruner.layout import frame_layout
from pruner.nodes import make_nodes
from pruner.order import joint_order
from pruner.rounding import snap

_TEMPERATURE = 0.01
# The widths 2^k of the Gaussians, k = -3..1.
_WIDTHS = tuple(2.0**k for k in range(-3, 2))
# Channels whose variance is taken at a time, to hold no float64 copy of a clip.
_CHANNELS = 64


@torch.no_grad()
def vidcom2_scores(tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Score tokens and frames by how little they resemble the mean of clip and frame.

    Of each token x only the half of the channels with the lowest variance over all tokens of the
    clip is used, as a unit vector. G(x, c) = sum over k = -3..1 of exp(-||x - c||^2 / (2 * 2^k));
    v = G(x, mean of the clip), f = G(x, mean of the frame), u_t = -mean_p v,
    sigma = softmax((u - max u) / 0.01), and a frame has weight 1 + sigma_t - mean sigma.

    Token scores are 10 - (v + f), at least 0: the published order, lowest v + f first. Departures:
    scores are rounded to multiples of 2^-20; of channels of one variance the first is taken; a zero
    vector stays zero (as published); one channel is used as it is, not dropped.

    Args:
        tokens: (T, P, D) floating point, T, P and D at least 1.

    Returns:
        token_scores (T, P) float32 (float64 for float64 tokens) in [0, 10], larger = keep, and
        frame_weights (T,) float64, > 0, mean 1.

    Raises:
        ValueError: not three axes, no tokens, or features not finite.

    Cost: O(T P D); memory: about one float32 copy of the tokens.
    """
    shape = tuple(tokens.shape)
    if tokens.ndim != 3 or 0 in shape:
        raise ValueError(f"tokens are (T, P, D), none of them 0: {shape = }")
    units = make_nodes(tokens[:, :, _steady_channels(tokens)]).units  # (T, P, D / 2)
    frame_means = units.mean(dim=1, dtype=torch.float64)  # (T, D / 2)
    clip_mean = frame_means.mean(dim=0).to(units.dtype)
    to_clip = torch.stack([_unlikeness(frame, clip_mean) for frame in units])  # 5 - v, (T, P)
    own_means = frame_means.to(units.dtype)
    to_frame = torch.stack([_unlikeness(*pair) for pair in zip(units, own_means, strict=True)])

    # u_t and 5 + u_t have the same softmax.
    uniqueness = to_clip.mean(dim=1, dtype=torch.float64)  # (T,)
    sigma = torch.softmax((uniqueness - uniqueness.max()) / _TEMPERATURE, dim=0)
    return snap(to_clip + to_frame), 1 + sigma - sigma.mean()


def vidcom2_shares(frame_weights: Tensor, *, keep_ratio: float, num_tokens: int) -> Tensor:
    """Tokens of each frame as published: k_t = max(1, round(min(1, R weight_t) P)).

    They sum to about R T P only. Half to even, in float64.

    Args:
        frame_weights: (T,), from `vidcom2_scores`.
        keep_ratio: R, fraction kept, in (0, 1].
        num_tokens: P, tokens of a frame.

    Returns:
        (T,) int64.

    Raises:
        ValueError: a fraction out of range.
    """
    if not 0 < keep_ratio <= 1:
        raise ValueError(f"the fraction kept lies in (0, 1]: {keep_ratio = }")
    ratios = (keep_ratio * frame_weights.double()).clamp_max(1.0)
    return (ratios * num_tokens).round().long().clamp_min(1)


def vidcom2(base: Tensor, grid: Tensor, budget: int) -> list[Tensor]:
    """Choose the tokens that a clip keeps: more in unusual frames, unusual tokens in each.

    Departures, for a cap that holds: the budget is shared out by `water_fill` in proportion to the
    published frame weights, between 1 and all tokens of a frame, where `vidcom2_shares` rounds each
    frame for itself and loses what exceeds a frame; and the budget counts newlines, each kept with
    the first token of its row, see `joint_order`, where the published code keeps all on top.
    Base and grid tokens are scored and ranked together; a frame has N1 + N2 positions.

    Args:
        base: (T, N1, D) base tokens, floating point, un-normalised.
        grid: (T, rows, columns, D) grid tokens without newlines; rows = 0 for a single tile.
        budget: tokens of the clip, newlines included, at least T.

    Returns:
        T tensors `keep_indices`: int64 flat indices, ascending, unique; in all exactly
        min(budget, all tokens), and at least one in each frame.

    Raises:
        ValueError: shapes that do not fit, a budget below one token for each frame, features not
            finite.

    Cost: O(T N D + T N log N).
    """
    layout, num_frames = frame_layout(base, grid), len(base)
    scores, weights = vidcom2_scores(torch.cat((base, grid.flatten(1, 2)), dim=1))
    caps = [layout.num_tokens] * num_frames
    shares = water_fill(weights, budget, floors=[1] * num_frames, caps=caps).tolist()
    order = joint_order(scores, layout)
    return [own[:share].sort().values for own, share in zip(order, shares, strict=True)]


def _steady_channels(tokens: Tensor) -> Tensor:
    """Return the half of the channels with the lowest variance, by variance, int64."""
    channels = tokens.flatten(0, 1).split(_CHANNELS, dim=1)
    variance = torch.cat([part.double().var(dim=0, correction=0) for part in channels])
    if not bool(variance.isfinite().all()):
        raise ValueError("features hold NaN or infinite tokens")
    return variance.argsort(stable=True)[: max(len(variance) // 2, 1)]


def _unlikeness(tokens: Tensor, mean: Tensor) -> Tensor:
    """5 - G(x, mean) of tokens (P, C), (P,): the sum of 1 - exp(-||x - mean||^2 / (2 * 2^k))."""
    squares = (tokens - mean).square().sum(dim=1)
    return torch.stack([-torch.expm1(-squares / (2 * width)) for width in _WIDTHS]).sum(dim=0)
