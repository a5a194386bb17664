"""From every frame's candidates to the one bounded visual sequence of the clip."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import starmap

import numpy as np
import torch

from pruner import Novelty, water_fill
from workers.arrays import unpack
from workers.language import VisualSequence
from workers.messages import (
    BudgetOptions,
    Candidates,
    Float64Array,
    FrameSelection,
    Int64Array,
)
from workers.prompt import time_mark


@dataclass(frozen=True, slots=True, kw_only=True)
class _Frame:
    """One frame's part of its ``Candidates``."""

    source: Candidates
    row: int
    tokens: slice

    @property
    def index(self) -> int:
        return int(self.source.frame_indices[self.row])

    @property
    def pts_seconds(self) -> float:
        return float(self.source.pts_seconds[self.row])

    def features(self, picked: Int64Array) -> torch.Tensor:
        """Copy the features at these places of the frame's buying order."""
        return unpack(self.source.features[self.tokens.start + picked], self.source.dtype)


def select(
    candidates: Sequence[Candidates], options: BudgetOptions, marker_tokens: Sequence[int]
) -> tuple[VisualSequence, tuple[FrameSelection, ...]]:
    """Share the clip's budget out and keep each frame's best tokens.

    The weight of a frame is its informativeness, the sum of MR-Pruner's mean norms over the
    resolutions, times its novelty where that is asked for; shares are water-filled between one
    token and the candidates sent. Inside a frame MR-Pruner's own ratio splits base from grid, as
    :func:`pruner.rank_frames` ordered them.

    Args:
        candidates: in any order; of no frame twice, all of one clip.
        options: the budget and how it is shared.
        marker_tokens: per frame of ``candidates`` in source order, what its time mark costs; the
            sum is paid from the budget.

    Returns:
        The sequence for the language model and the record of it, both in source order.

    Raises:
        ValueError: the budget is smaller than one token and one mark for every frame.
    """
    frames = sorted(_frames(candidates), key=lambda frame: frame.index)
    informativeness = np.stack([frame.source.informativeness[frame.row] for frame in frames])
    novelty = _novelty(frames) if options.novelty else np.ones(len(frames))
    caps = [frame.tokens.stop - frame.tokens.start for frame in frames]
    shares = water_fill(
        torch.from_numpy(informativeness.sum(1) * novelty),
        options.budget - sum(marker_tokens),
        floors=[1] * len(frames),
        caps=caps,
    ).tolist()
    bought = [frame.source.order[frame.tokens][:n] for frame, n in zip(frames, shares, strict=True)]
    picked = [np.argsort(order) for order in bought]  # back to source order
    kept = [order[places] for order, places in zip(bought, picked, strict=True)]
    first = frames[0].source
    sequence = VisualSequence(
        features=tuple(f.features(places) for f, places in zip(frames, picked, strict=True)),
        keep_indices=tuple(map(torch.from_numpy, kept)),
        marks=tuple(time_mark(f.pts_seconds) if options.time_marks else "" for f in frames),
        frame_length=first.num_base + first.rows * (first.columns + 1),
    )
    columns = zip(frames, kept, marker_tokens, informativeness, novelty, strict=True)
    return sequence, tuple(starmap(_record, columns))


def _record(
    frame: _Frame,
    keep_indices: Int64Array,
    num_marker_tokens: int,
    informativeness: Float64Array,
    novelty: float,
) -> FrameSelection:
    source = frame.source
    return FrameSelection(
        frame_index=frame.index,
        pts_seconds=frame.pts_seconds,
        num_base=source.num_base,
        rows=source.rows,
        columns=source.columns,
        keep_indices=keep_indices,
        num_marker_tokens=num_marker_tokens,
        base_informativeness=float(informativeness[0]),
        grid_informativeness=float(informativeness[1]),
        novelty=float(novelty),
        thumbnail_jpeg=source.thumbnails[frame.row] if source.thumbnails else b"",
    )


def _frames(candidates: Sequence[Candidates]) -> list[_Frame]:
    frames = []
    for source in candidates:
        stops = np.cumsum(source.counts)
        for row, (count, stop) in enumerate(zip(source.counts, stops, strict=True)):
            frames.append(
                _Frame(source=source, row=row, tokens=slice(int(stop - count), int(stop)))
            )
    return frames


def _novelty(frames: Sequence[_Frame]) -> Float64Array:
    """Return what each frame's base candidates add to those of the frames before it."""
    state: Novelty | None = None
    values = []
    for frame in frames:
        order = frame.source.order[frame.tokens]
        picked = np.flatnonzero(order < frame.source.num_base)
        features = frame.features(picked)
        state = state or Novelty(frame.source.num_base, features.shape[1])
        values.append(state.add(torch.from_numpy(order[picked]), features))
    return np.array(values)
