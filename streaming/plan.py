"""The arithmetic of a run: which frames, how many tokens each, cut into which segments."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from streaming.config import Options
from streaming.context import are_compact, check_context
from workers.checkpoint import locate, read_config
from workers.errors import ContextError
from workers.messages import (
    BudgetOptions,
    Int64Array,
    PromptCost,
    PruneOptions,
    Segment,
    VideoIndex,
)
from workers.video.decode import cut_segments, index_video
from workers.video.sampling import sample_frames, thin_frames
from workers.vision.geometry import FrameGeometry, read_geometry

DEFAULT_NUM_FRAMES = 32
DEFAULT_BUDGET = 4096
RANKED = ("uniform", "random", "gprune", "mr_pruner")
"""Methods that choose inside one frame; all others are handed every token of the clip."""
_CHUNK_BYTES = 64 * 1024**2

Measure = Callable[[Sequence[str], Sequence[float]], PromptCost]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Source:
    """A clip, the frames sampled from it and what the checkpoint makes of a frame.

    Made without starting any worker, so that a wrong path, option or model name fails at once.
    """

    index: VideoIndex
    frame_indices: Int64Array
    geometry: FrameGeometry

    def pts_seconds(self, frame_indices: Int64Array) -> list[float]:
        """Return source times of frames."""
        return [float(pts) * self.index.time_base_seconds for pts in self.index.pts[frame_indices]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClipPlan:
    """What the workers are told about one clip."""

    segments: tuple[Segment, ...]
    prune: PruneOptions
    budget: BudgetOptions
    num_frames: int
    num_unpruned_tokens: int


def open_source(video: str, options: Options) -> Source:
    """Index a clip, sample its frames and read the checkpoint's geometry.

    Raises:
        VideoError: the clip cannot be read.
        ModelError: the model cannot be found.
        InputError: the sampling options do not fit the clip, or FastV's layer the model.
    """
    index = index_video(video)
    num_frames = options.num_frames
    if num_frames is None and options.fps is None:
        num_frames = DEFAULT_NUM_FRAMES
    frame_indices = sample_frames(
        index,
        num_frames=num_frames,
        fps=options.fps,
        start_seconds=options.start,
        end_seconds=options.end,
    )
    config = read_config(locate(options.model))
    _check_layers(options, config)
    geometry = read_geometry(config)
    if options.base_only:
        geometry = geometry.without_grid()
    return Source(
        index=index,
        frame_indices=frame_indices,
        geometry=geometry.frame(index.height, index.width),
    )


def _check_layers(options: Options, config: Mapping[str, Any]) -> None:
    """Refuse a layer that FastV cannot prune at, where the checkpoint says how many it has."""
    num_layers = (config.get("text_config") or {}).get("num_hidden_layers")
    if options.pruner == "fastv" and num_layers is not None:
        from workers.llm.fastv import check_layer

        check_layer(options.fastv_layer, num_layers)


def plan_clip(
    source: Source,
    options: Options,
    questions: Sequence[str],
    measure: Measure,
    *,
    num_segments: int,
    thumbnail_width: int,
) -> ClipPlan:
    """Settle the budget and how every frame is pruned.

    A budget that does not pay for one token (and one time mark) of every frame is spent on fewer
    frames, evenly spread. A frame's nominal share, on which MR-Pruner's cross-resolution term is
    computed, is an equal share; ``headroom`` times that is what a frame sends on, so that all
    candidates together stay within ``headroom`` budgets.

    Raises:
        ContextError: text, budget and answer do not fit the model's context.
    """
    length = source.geometry.num_tokens
    frames = source.frame_indices
    if options.keep_ratio is None and options.pruner != "none":
        frames = thin_frames(frames, options.budget or DEFAULT_BUDGET)
    cost = measure(questions, source.pts_seconds(frames) if options.time_marks else [])
    mark = max(cost.num_marker_tokens, default=0)
    frames, budget = _settle_budget(options, frames, cost, length, mark)
    marks = mark * len(frames)
    available = length * len(frames) + marks
    if options.pruner != "fastv":  # its first layers see every token
        available = min(budget, available)
    check_context(cost, options, len(frames), available)
    share = max(budget - marks, len(frames)) / len(frames)
    chunk = max(1, min(options.frames_per_chunk, _CHUNK_BYTES // source.index.frame_bytes))
    return ClipPlan(
        segments=tuple(
            cut_segments(
                source.index,
                frames,
                decoder=options.decoder,
                frames_per_chunk=chunk,
                num_segments=num_segments,
            )
        ),
        prune=PruneOptions(
            num_keep=min(length, int(share)),
            max_keep=_max_keep(options, share, length),
            ranker=options.pruner if options.pruner in RANKED else "none",
            seed=options.seed,
            base_only=options.base_only,
            newlines_last=options.newlines == "last",
            similarity=options.pruner_similarity,
            cross_similarity=options.pruner_cross_similarity,
            temperature=options.pruner_temperature,
            beta=options.pruner_beta,
            num_steps=_num_steps(options),
            cross_resolution=options.cross_resolution,
            half_precision_degree=options.pruner_half_precision_degree,
            thumbnail_width=thumbnail_width,
        ),
        budget=BudgetOptions(
            budget=budget,
            pruner=options.pruner,
            shares=options.shares,
            fastv_layer=options.fastv_layer,
            compact_positions=are_compact(options, cost, len(frames), length, mark),
            novelty=options.novelty,
            time_marks=options.time_marks,
        ),
        num_frames=len(frames),
        num_unpruned_tokens=length * len(frames),
    )


def _max_keep(options: Options, share: float, length: int) -> int:
    """Return how many tokens a frame sends on: all that its final share may come to."""
    if options.pruner not in RANKED:
        return length
    fixed = options.shares == "equal" and not (options.novelty or options.time_marks)
    return min(length, math.ceil(share * (1 if fixed else options.headroom)))


def _num_steps(options: Options) -> int:
    if options.pruner_steps is not None:
        return options.pruner_steps
    return 5 if options.pruner == "gprune" else 1


def _settle_budget(
    options: Options, frames: Int64Array, cost: PromptCost, length: int, mark: int
) -> tuple[Int64Array, int]:
    """Return the budget, and as many of the frames as it pays a token and a mark for."""
    if options.pruner == "none":
        budget = (length + mark) * len(frames)
    elif options.keep_ratio is not None:
        budget = _floor(options.keep_ratio * len(frames) * length) + mark * len(frames)
    elif options.budget is not None:
        budget = options.budget
    else:
        room = cost.context_length - cost.num_text_tokens - options.max_new_tokens
        least = 1 + cost.num_separator_tokens + mark
        frames = thin_frames(frames, _at_least_one(room // least, room))
        budget = min(DEFAULT_BUDGET, room - cost.num_separator_tokens * len(frames))
    return thin_frames(frames, _at_least_one(budget // (1 + mark), budget)), budget


def _floor(value: float) -> int:
    """Round down, but take 0.29 * 100 for 29; at least 1."""
    return max(1, math.floor(round(value, 6)))


def _at_least_one(num_frames: int, tokens: int) -> int:
    if num_frames < 1:
        raise ContextError(
            f"{tokens} tokens do not pay for one frame and its marks: raise --budget, or lower "
            "--max-new-tokens or shorten the question where the context is full"
        )
    return num_frames
