"""The ranked tokens of a clip, and how a budget is spent on them."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from pruner import METHODS, FrameLayout, Novelty, filling_order
from workers.arrays import Float64Array, Int64Array
from workers.frame_text import FrameText
from workers.frames import RankedFrames
from workers.keeping import Kept, features_of, keep, keep_some, sizes_of
from workers.sequence import join_frames
from workers.visual import Allocation, KeptFrame, VisualSequence


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
        frames = [frame for chunk in chunks for frame in _singly(chunk)]
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
        first tokens of all rankings. Methods that choose in the clip share the budget out their own
        way; FastV is handed every token and chooses in the language model. What is chosen among
        there for each question is shared out by the same rule, with more than the budget to share.

        Coverage and methods that choose in the clip may leave a frame without any token. It is then
        not in the sequence, and its timestamp is not paid for.

        Where asked for, each token that enters the model gets the number of those held that it
        stands for.

        Returns:
            The sequence for the language model, of what enters it, and the record of all frames,
            both in source order.

        Raises:
            InputError: the method needs frames of one size.
            ValueError: the budget is smaller than one token and one timestamp for every frame, or
                where frames may be left out for any.
        """
        bank, text = self._up_to(allocation.max_keep), FrameText.of(allocation, len(self))
        novelty = bank._novelty() if allocation.novelty else np.ones(len(self))
        norms = np.array([frame.informativeness[0].sum() for frame in bank._frames])
        weights = novelty * (norms if allocation.shares == "informative" else 1.0)
        weights = weights * np.array(allocation.weights or 1.0)
        aware = allocation.question_aware
        entering = allocation.num_entering if aware else allocation.budget
        kept = keep(bank._frames, allocation.method, entering, weights, text)
        later = bank._pruned_later(kept, allocation, allocation.budget - text.total, weights)
        sizes = sizes_of(bank._frames, kept) if allocation.proportional else None
        records = bank._records(kept, allocation, text, novelty)
        visual = join_frames(
            [features for features, _ in kept],
            records,
            dtype=self._frames[0].dtype,
            compact_positions=allocation.compact_positions,
            later=later,
            sizes=sizes,
        )
        return visual, records

    def _up_to(self, max_keep: int | None) -> "TokenBank":
        """Return the bank that was made for ``max_keep`` tokens of each frame, None for all.

        What is held beyond them would count in a frame's novelty, and raise its cap.
        """
        if max_keep is None:
            return self
        return TokenBank(frame.shortened(max_keep) for frame in self._frames)

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
            later["reserve"] = allocation.reserve
            later["priority"] = self._priority(kept, weights)
        return later

    def _priority(self, kept: Sequence[Kept], weights: Float64Array) -> Int64Array:
        """Return the place of each kept token in the order in which a growing budget keeps them."""
        counts = [len(indices) for _, indices in kept]
        by_rank = filling_order(torch.from_numpy(weights), counts).split(counts)
        ranks = [np.argsort(f.order[:n]) for f, n in zip(self._frames, counts, strict=True)]
        return np.concatenate([own.numpy()[r] for own, r in zip(by_rank, ranks, strict=True)])

    def _novelty(self) -> Float64Array:
        """Return what each frame's base tokens add to those of the frames before it."""
        layouts = [frame.layouts[0] for frame in self._frames]
        places = [np.flatnonzero(f.order < f.layouts[0].num_base) for f in self._frames]
        positions = [f.order[own] for f, own in zip(self._frames, places, strict=True)]
        features = [features_of(f, own) for f, own in zip(self._frames, places, strict=True)]
        state = Novelty(layouts[0].num_base, features[0].shape[1])
        counts = [len(own) for own in places]
        added = state.add(torch.from_numpy(np.concatenate(positions)), torch.cat(features), counts)
        return np.asarray(added.numpy())

    def _records(
        self,
        kept: Sequence[Kept],
        allocation: Allocation,
        text: FrameText,
        novelty: Float64Array,
    ) -> tuple[KeptFrame, ...]:
        shown = keep_some(kept)
        lengths = np.array([frame.layouts[0].num_tokens for frame in self._frames], np.int64)
        gaps = np.zeros_like(lengths) if allocation.compact_positions else text.gaps(lengths, shown)
        numbers = (text.paid(shown).tolist(), gaps.tolist(), novelty.tolist())
        indices = [own for _, own in kept]
        return tuple(_record(*each) for each in zip(self._frames, indices, *numbers, strict=True))


def _singly(chunk: RankedFrames) -> list[RankedFrames]:
    """Return frames one by one; a lone one as it is."""
    return [chunk] if len(chunk) == 1 else [chunk[row : row + 1] for row in range(len(chunk))]


def _record(
    frame: RankedFrames, indices: Int64Array, num_timestamp_tokens: int, gap: int, novelty: float
) -> KeptFrame:
    layout: FrameLayout = frame.layouts[0]
    base, grid = frame.informativeness[0].tolist()
    return KeptFrame(
        frame_index=int(frame.frame_indices[0]),
        pts_seconds=float(frame.pts_seconds[0]),
        layout=layout,
        keep_indices=indices,
        num_timestamp_tokens=num_timestamp_tokens,
        gap=gap,
        base_informativeness=base,
        grid_informativeness=grid,
        novelty=novelty,
    )
