"""What each ranked frame of a clip keeps of a budget, by any method."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch

from pruner import (
    METHODS,
    Candidates,
    choose,
    choose_candidates,
    prefix_sizes,
    token_sizes,
    water_fill,
)
from workers.arrays import Float64Array, Int64Array, unpack
from workers.errors import InputError
from workers.frame_text import BoolArray, FrameText
from workers.frames import RankedFrames

Kept = tuple[torch.Tensor, Int64Array]
"""Features (k, hidden) of a frame's kept tokens, and their ascending flat indices (k,)."""
Frames = Sequence[RankedFrames]
"""One frame each, in source order."""
Whole = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Base (T, N1, D), grid (T, rows, columns, D) and newline (D,) of whole frames."""


def keep(
    frames: Frames, name: str, budget: int, weights: Float64Array, text: FrameText
) -> list[Kept]:
    """Return what a method keeps of each frame.

    Args:
        frames: of one clip.
        name: of the method.
        budget: tokens to keep and timestamps to pay; of no meaning where every token enters.
        weights: (frames,) of methods whose shares go by weight.
        text: of the frames.

    Raises:
        InputError: the method needs frames of one size.
        ValueError: the budget is smaller than one token and one timestamp for every frame.
    """
    method = METHODS[name]
    caps = [int(frame.counts[0]) for frame in frames]
    if method.enters_unpruned:
        return [_first(*each) for each in zip(frames, caps, strict=True)]
    if method.scope == "bank":
        return _choose_candidates(frames, name, budget, text)
    floors = [1] * len(caps)
    share = partial(water_fill, torch.from_numpy(weights), floors=floors, caps=caps)
    if method.scope == "frame":
        shares = share(budget - text.total).tolist()
        return [_first(*each) for each in zip(frames, shares, strict=True)]
    whole = _unpruned(frames, name)
    return _fill(lambda n: _chosen(frames, name, whole, share(n).tolist()), budget, text)


def keep_some(kept: Sequence[Kept]) -> BoolArray:
    """Return which frames keep any token (frames,)."""
    return np.array([len(indices) > 0 for _, indices in kept])


def features_of(frame: RankedFrames, places: Int64Array) -> torch.Tensor:
    """Copy the features at these places of one frame's ranking."""
    return unpack(frame.features[places], frame.dtype)


def sizes_of(frames: Frames, kept: Sequence[Kept]) -> Int64Array:
    """Return how many tokens of all frames each kept one stands for, one frame's behind another's.

    Tokens that were not sent on count for one of their frame that was (:func:`pruner.stand_ins`),
    and this for a kept one of any frame (:func:`pruner.token_sizes`).
    """
    ranks = [frame.order.argsort() for frame in frames]  # source order
    counts = [len(own) for own in ranks]
    starts = np.cumsum(counts) - counts
    places = [
        start + np.searchsorted(frame.order[own], indices)
        for start, own, frame, (_, indices) in zip(starts, ranks, frames, kept, strict=True)
    ]
    times = np.repeat([int(frame.frame_indices[0]) for frame in frames], counts)
    sizes = token_sizes(
        torch.cat([features_of(*each) for each in zip(frames, ranks, strict=True)]),
        torch.from_numpy(times),
        torch.from_numpy(np.concatenate(places)),
        torch.cat([_sizes(*each) for each in zip(frames, ranks, strict=True)]),
    )
    return np.asarray(sizes.numpy())


def _sizes(frame: RankedFrames, ranks: Int64Array) -> torch.Tensor:
    """Return how many tokens of a frame those at some places of its ranking stand for."""
    if frame.stand_ins is None:
        return torch.ones(len(ranks), dtype=torch.int64)
    return prefix_sizes(torch.tensor(frame.stand_ins), len(frame.order))[ranks]


def _choose_candidates(frames: Frames, name: str, budget: int, text: FrameText) -> list[Kept]:
    counts = [len(frame.order) for frame in frames]
    candidates = Candidates(
        features=torch.cat([features_of(f, np.arange(len(f.order))) for f in frames]),
        order=torch.from_numpy(np.concatenate([frame.order for frame in frames])),
        counts=counts,
        frame_indices=[int(frame.frame_indices[0]) for frame in frames],
        layouts=[frame.layouts[0] for frame in frames],
        frame_costs=text.most.tolist(),
    )
    chosen = choose_candidates(name, candidates, budget).numpy()
    if not len(chosen):
        raise ValueError(f"the budget pays for no token and its timestamp: {budget = }")
    ends = np.cumsum(counts)
    parts = np.split(chosen, np.searchsorted(chosen, ends[:-1]))
    places = [own - start for own, start in zip(parts, ends - counts, strict=True)]
    return [_at(*each) for each in zip(frames, places, strict=True)]


def _fill(choose_tokens: Callable[[int], list[Kept]], budget: int, text: FrameText) -> list[Kept]:
    """Return the most tokens that fit beside the timestamps of the frames that keep any.

    At least those that fit beside all timestamps; where these leave no frame out they are all.
    As more tokens leave no more frames out, what one number leaves room for bounds the others:
    above if it fits itself, else below. Few are tried, for each is a choice of the whole clip's.
    """
    low = budget - text.total
    kept = choose_tokens(low)
    high = middle = budget - _paid(kept, text)
    while low < high:
        more = choose_tokens(middle)
        room = budget - _paid(more, text)
        if middle <= room:
            low, kept, high = middle, more, min(high, room)
        else:
            high = middle - 1
        middle = room if low < room < high else (low + high + 1) // 2
    return kept


def _paid(kept: Sequence[Kept], text: FrameText) -> int:
    return int(text.paid(keep_some(kept)).sum())


def _chosen(frames: Frames, name: str, whole: Whole, shares: Sequence[int]) -> list[Kept]:
    chosen = choose(name, *whole, shares)
    return [
        (features_of(frame, kept.numpy()) if features is None else features, kept.numpy())
        for frame, (features, kept) in zip(frames, chosen, strict=True)
    ]


def _unpruned(frames: Frames, method: str) -> Whole:
    layouts = {frame.layouts[0] for frame in frames}
    if len(layouts) > 1:
        raise InputError(
            f"--pruner {method} compares frames place by place and needs them all of one size; "
            "choose another pruner"
        )
    (layout,) = layouts
    every = np.arange(layout.num_tokens)
    flat = torch.stack([features_of(frame, every) for frame in frames])
    lines = flat[:, layout.num_base :].unflatten(1, (layout.rows, layout.columns + 1))
    newline = lines[0, 0, -1] if layout.rows else flat.new_zeros(flat.shape[-1])
    return flat[:, : layout.num_base], lines[:, :, :-1], newline


def _first(frame: RankedFrames, share: int) -> Kept:
    """Return the first tokens of a frame's ranking, in source order."""
    return _at(frame, np.arange(share))


def _at(frame: RankedFrames, places: Int64Array) -> Kept:
    """Return the tokens at these places of a frame's ranking, in source order."""
    places = places[np.argsort(frame.order[places])]
    return features_of(frame, places), frame.order[places]
