"""From every frame's candidates to the one bounded visual sequence of the clip."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import starmap

import numpy as np
import torch

from pruner import FrameLayout, Novelty, water_fill
from pruner.evs import evs
from pruner.tome import tome
from pruner.vidcom2 import vidcom2
from workers.arrays import unpack
from workers.llm.prompt import time_mark
from workers.llm.sequence import VisualSequence
from workers.messages import (
    BudgetOptions,
    Candidates,
    Float64Array,
    FrameSelection,
    Int64Array,
)


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

    Methods that choose inside a frame share one rule for the shares: the weight of a frame is its
    informativeness (the sum of MR-Pruner's mean norms over the resolutions) or 1, times its
    novelty where that is asked for; shares are water-filled between one token and the candidates
    sent, and a frame keeps the first of its ranking. EVS and VidCom2 share the budget out their own
    way; FastV is handed every token, and chooses in the language model.

    Args:
        candidates: in any order; of no frame twice, all of one clip.
        options: the method, the budget and how it is shared.
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
    weights = novelty * (informativeness.sum(1) if options.shares == "informative" else 1.0)
    budget = options.budget - sum(marker_tokens)
    chosen = _choose(frames, options, weights, budget)
    kept = [keep_indices for _, keep_indices in chosen]
    sequence = VisualSequence(
        features=tuple(features for features, _ in chosen),
        keep_indices=tuple(map(torch.from_numpy, kept)),
        marks=tuple(time_mark(f.pts_seconds) if options.time_marks else "" for f in frames),
        frame_length=_layout(frames).num_tokens,
        compact_positions=options.compact_positions,
        fastv_keep=budget if options.pruner == "fastv" else None,
        fastv_layer=options.fastv_layer,
    )
    columns = zip(frames, kept, marker_tokens, informativeness, novelty, strict=True)
    return sequence, tuple(starmap(_record, columns))


def _choose(
    frames: Sequence[_Frame], options: BudgetOptions, weights: Float64Array, budget: int
) -> list[tuple[torch.Tensor, Int64Array]]:
    """Return every frame's features, and which of its tokens they stand for, in source order."""
    caps = [frame.tokens.stop - frame.tokens.start for frame in frames]
    if options.pruner in ("none", "fastv"):
        return [_first(*each) for each in zip(frames, caps, strict=True)]
    if options.pruner in ("evs", "vidcom2"):
        base, grid, _ = _unpruned(frames)
        choose = evs if options.pruner == "evs" else vidcom2
        kept = [indices.numpy() for indices in choose(base, grid, budget)]
        return [(f.features(indices), indices) for f, indices in zip(frames, kept, strict=True)]
    floors = [1] * len(frames)
    shares = water_fill(torch.from_numpy(weights), budget, floors=floors, caps=caps).tolist()
    if options.pruner == "tome":
        merged = tome(*_unpruned(frames), shares)
        return [(features, indices.numpy()) for features, indices in merged]
    return [_first(*each) for each in zip(frames, shares, strict=True)]


def _first(frame: _Frame, share: int) -> tuple[torch.Tensor, Int64Array]:
    """Return the first tokens of a frame's ranking, in source order."""
    bought = frame.source.order[frame.tokens][:share]
    picked = np.argsort(bought)
    return frame.features(picked), bought[picked]


def _unpruned(frames: Sequence[_Frame]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return base (T, N1, D), grid (T, rows, columns, D) and newline (D,) of unranked frames."""
    layout = _layout(frames)
    flat = torch.stack([frame.features(np.arange(layout.num_tokens)) for frame in frames])
    lines = flat[:, layout.num_base :].unflatten(1, (layout.rows, layout.columns + 1))
    newline = lines[0, 0, -1] if layout.rows else flat.new_zeros(flat.shape[-1])
    return flat[:, : layout.num_base], lines[:, :, :-1], newline


def _layout(frames: Sequence[_Frame]) -> FrameLayout:
    source = frames[0].source
    return FrameLayout(num_base=source.num_base, rows=source.rows, columns=source.columns)


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
        prune_seconds=source.prune_seconds / len(source.frame_indices),
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
