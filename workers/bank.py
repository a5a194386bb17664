"""The ranked tokens of a clip, and how a budget is spent on them."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from pruner import (
    METHODS,
    Candidates,
    FrameLayout,
    Novelty,
    choose,
    choose_candidates,
    filling_order,
    water_fill,
)
from workers.arrays import Float64Array, Int64Array, pack, unpack
from workers.errors import InputError
from workers.frames import RankedFrames
from workers.visual import Allocation, KeptFrame, VisualSequence

Kept = tuple[torch.Tensor, Int64Array]
"""Features (k, hidden) of a frame's kept tokens, and their ascending flat indices (k,)."""


class TokenBank:
    """Every frame's best tokens, in source order.

    Rankings nest: a smaller share is a prefix of a larger one, so one bank serves every budget up
    to the one that it was made for.

    Args:
        ranked: of one clip, in any order, no frame twice.

    Raises:
        ValueError: no frame, frames of several clips, or one twice.
    """

    def __init__(self, ranked: Iterable[RankedFrames]) -> None:
        chunks = list(ranked)
        frames = [chunk[row : row + 1] for chunk in chunks for row in range(len(chunk))]
        self._frames = sorted(frames, key=lambda frame: int(frame.frame_indices[0]))
        indices = [int(frame.frame_indices[0]) for frame in self._frames]
        if len({chunk.clip_id for chunk in chunks}) != 1 or len(set(indices)) < len(indices):
            clips = sorted({chunk.clip_id for chunk in chunks})
            raise ValueError(f"a bank holds each frame of one clip once: {clips = } {indices = }")

    def __len__(self) -> int:
        return len(self._frames)

    def allocate(self, allocation: Allocation) -> tuple[VisualSequence, tuple[KeptFrame, ...]]:
        """Share a budget out and keep each frame's best tokens.

        Methods that choose inside a frame share one rule: a frame weighs its informativeness (the
        sum of MR-Pruner's mean norms over the resolutions) or 1, times its novelty where that is
        asked for, times its own weight if it has one; shares are water-filled between one token
        and the tokens held, and a frame keeps the first of its ranking. Coverage chooses among the
        first tokens of all rankings, and may leave a frame without any. Methods that choose in the
        clip share the budget out their own way; FastV is handed every token and chooses in the
        language model. What is chosen among there for each question is shared out by the same
        rule, with more than the budget to share.

        Returns:
            The sequence for the language model and the record of it, both in source order: what
            enters the model.

        Raises:
            InputError: the method needs frames of one size.
            ValueError: the budget is smaller than one token and one timestamp for every frame.
        """
        bank = self._up_to(allocation.max_keep)
        timestamps = allocation.num_timestamp_tokens or (0,) * len(self)
        budget = allocation.budget - sum(timestamps)
        entering = budget
        if allocation.question_aware:
            entering = allocation.num_entering - sum(timestamps)
        novelty = bank._novelty() if allocation.novelty else np.ones(len(self))
        norms = np.array([frame.informativeness[0].sum() for frame in bank._frames])
        weights = novelty * (norms if allocation.shares == "informative" else 1.0)
        weights = weights * np.array(allocation.weights or 1.0)
        kept = bank._choose(allocation.method, entering, weights)
        later = bank._pruned_later(kept, allocation, budget, weights)
        return bank._sequence(kept, allocation, later), tuple(
            _record(*each) for each in zip(bank._frames, kept, timestamps, novelty, strict=True)
        )

    def _up_to(self, max_keep: int | None) -> "TokenBank":
        """Return the bank that was made for ``max_keep`` tokens of each frame, None for all.

        What is held beyond them would count in a frame's novelty, and raise its cap.
        """
        if max_keep is None:
            return self
        return TokenBank(frame.shortened(max_keep) for frame in self._frames)

    def _choose(self, name: str, budget: int, weights: Float64Array) -> list[Kept]:
        method = METHODS[name]
        caps = [int(frame.counts[0]) for frame in self._frames]
        if method.enters_unpruned:
            return [_first(*each) for each in zip(self._frames, caps, strict=True)]
        if method.scope == "bank":
            return self._choose_candidates(name, budget)
        floors = [1] * len(caps)
        shares = water_fill(torch.from_numpy(weights), budget, floors=floors, caps=caps).tolist()
        if method.scope == "frame":
            return [_first(*each) for each in zip(self._frames, shares, strict=True)]
        chosen = choose(name, *self._unpruned(name), shares)
        return [
            (_features(frame, kept.numpy()) if features is None else features, kept.numpy())
            for frame, (features, kept) in zip(self._frames, chosen, strict=True)
        ]

    def _choose_candidates(self, name: str, budget: int) -> list[Kept]:
        counts = [len(frame.order) for frame in self._frames]
        candidates = Candidates(
            features=torch.cat([_features(f, np.arange(len(f.order))) for f in self._frames]),
            order=torch.from_numpy(np.concatenate([frame.order for frame in self._frames])),
            counts=counts,
            frame_indices=[int(frame.frame_indices[0]) for frame in self._frames],
            layouts=[frame.layouts[0] for frame in self._frames],
        )
        chosen = choose_candidates(name, candidates, budget).numpy()
        ends = np.cumsum(counts)
        parts = np.split(chosen, np.searchsorted(chosen, ends[:-1]))
        places = [own - start for own, start in zip(parts, ends - counts, strict=True)]
        return [_at(*each) for each in zip(self._frames, places, strict=True)]

    def _pruned_later(
        self,
        kept: Sequence[Kept],
        allocation: Allocation,
        budget: int,
        weights: Float64Array,
    ) -> dict[str, Any]:
        """Return how what is kept here is pruned inside the language model, if it is."""
        in_model = METHODS[allocation.method].scope == "model" or allocation.question_aware
        if not in_model or sum(len(indices) for _, indices in kept) <= budget:
            return {}
        later: dict[str, Any] = {"prune_layer": allocation.fastv_layer, "num_keep": budget}
        if allocation.question_aware:
            later["num_reserved"] = round(allocation.reserve * budget)
            later["priority"] = self._priority(kept, weights)
        return later

    def _priority(self, kept: Sequence[Kept], weights: Float64Array) -> Int64Array:
        """Return the place of each kept token in the order in which a growing budget keeps them."""
        counts = [len(indices) for _, indices in kept]
        by_rank = filling_order(torch.from_numpy(weights), counts).split(counts)
        ranks = [np.argsort(f.order[:n]) for f, n in zip(self._frames, counts, strict=True)]
        return np.concatenate([own.numpy()[r] for own, r in zip(by_rank, ranks, strict=True)])

    def _unpruned(self, method: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return base (T, N1, D), grid (T, rows, columns, D) and newline (D,) of whole frames."""
        layouts = {frame.layouts[0] for frame in self._frames}
        if len(layouts) > 1:
            raise InputError(
                f"--pruner {method} compares frames place by place and needs them all of one size; "
                "choose another pruner"
            )
        (layout,) = layouts
        every = np.arange(layout.num_tokens)
        flat = torch.stack([_features(frame, every) for frame in self._frames])
        lines = flat[:, layout.num_base :].unflatten(1, (layout.rows, layout.columns + 1))
        newline = lines[0, 0, -1] if layout.rows else flat.new_zeros(flat.shape[-1])
        return flat[:, : layout.num_base], lines[:, :, :-1], newline

    def _novelty(self) -> Float64Array:
        """Return what each frame's base tokens add to those of the frames before it."""
        layouts = [frame.layouts[0] for frame in self._frames]
        places = [np.flatnonzero(f.order < f.layouts[0].num_base) for f in self._frames]
        positions = [f.order[own] for f, own in zip(self._frames, places, strict=True)]
        features = [_features(f, own) for f, own in zip(self._frames, places, strict=True)]
        state = Novelty(layouts[0].num_base, features[0].shape[1])
        counts = [len(own) for own in places]
        added = state.add(torch.from_numpy(np.concatenate(positions)), torch.cat(features), counts)
        return np.asarray(added.numpy())

    def _sequence(
        self, kept: Sequence[Kept], allocation: Allocation, later: Mapping[str, Any]
    ) -> VisualSequence:
        features = pack(torch.cat([features for features, _ in kept]))
        keep_indices = np.concatenate([indices for _, indices in kept])
        counts = np.array([len(indices) for _, indices in kept], np.int64)
        lengths = np.array([frame.layouts[0].num_tokens for frame in self._frames], np.int64)
        arrays = [features, keep_indices, counts, lengths]
        arrays += [value for value in later.values() if isinstance(value, np.ndarray)]
        numbers = [value for value in later.values() if isinstance(value, int)]
        how = (allocation.compact_positions, numbers, features.shape, features.dtype)
        digest = hashlib.blake2b(repr(how).encode())
        for array in arrays:
            digest.update(np.ascontiguousarray(array).data)
        return VisualSequence(
            visual_id=digest.hexdigest()[:32],
            features=features,
            dtype=self._frames[0].dtype,
            counts=counts,
            keep_indices=keep_indices,
            frame_lengths=lengths,
            compact_positions=allocation.compact_positions,
            **later,
        )


def _features(frame: RankedFrames, places: Int64Array) -> torch.Tensor:
    """Copy the features at these places of one frame's ranking."""
    return unpack(frame.features[places], frame.dtype)


def _first(frame: RankedFrames, share: int) -> Kept:
    """Return the first tokens of a frame's ranking, in source order."""
    return _at(frame, np.arange(share))


def _at(frame: RankedFrames, places: Int64Array) -> Kept:
    """Return the tokens at these places of a frame's ranking, in source order."""
    places = places[np.argsort(frame.order[places])]
    return _features(frame, places), frame.order[places]


def _record(
    frame: RankedFrames, kept: Kept, num_timestamp_tokens: int, novelty: float
) -> KeptFrame:
    layout: FrameLayout = frame.layouts[0]
    base, grid = frame.informativeness[0].tolist()
    return KeptFrame(
        frame_index=int(frame.frame_indices[0]),
        pts_seconds=float(frame.pts_seconds[0]),
        layout=layout,
        keep_indices=kept[1],
        num_timestamp_tokens=num_timestamp_tokens,
        base_informativeness=base,
        grid_informativeness=grid,
        novelty=float(novelty),
    )
