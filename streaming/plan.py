"""The arithmetic of a run: which frames, how many tokens each, cut into which segments.

All of it is done before any worker is asked anything, so that a wrong path, option or model name
fails at once and reading can start at once.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pruner import METHODS
from streaming.budget import are_compact, count_entering, count_prompt, settle_budget
from streaming.clip_plan import ClipPlan
from streaming.form import check_form
from streaming.options import Options
from streaming.rankings import make_pruning, merge_prunings, ranking_of
from streaming.sample import SampledClip, seconds_of
from streaming.served import check_pruning
from workers.arrays import Int64Array
from workers.frames import Pruning
from workers.messages import Clip
from workers.video.entry_source import EntrySource
from workers.video.segments import Segment, cut_segments
from workers.vision.anchors import FRAMES_PER_ANCHOR, chunk_in_group

FRAMES_PER_CHUNK = 8
_CHUNK_BYTES = 64 * 1024**2
CHUNKS_PER_SEGMENT = 8
"""A decoder turns to another clip after so many chunks, or where the next cut costs little."""
MIN_CHUNKS_PER_SEGMENT = 2
"""After so many another decoder goes on where it need decode hardly anything again for that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """Options that a clip is planned for, and the questions asked under them.

    What of the model's context is left to the budget is reckoned with the longest question, and
    with ``choices`` offered with each.
    """

    options: Options
    questions: tuple[str, ...]
    choices: tuple[str, ...] = ()


def plan_clip(
    sampled: SampledClip,
    options: Options,
    questions: Sequence[str],
    *,
    choices: Sequence[str] = (),
    thumbnail_width: int = 0,
) -> ClipPlan:
    """Settle the budget and how every frame is pruned.

    A budget that does not pay for one token (and one timestamp) of every frame is spent on fewer
    frames, evenly spread. A frame's nominal share, on which MR-Pruner's cross-resolution term is
    computed, is an equal share; ``headroom`` times that, rounded up, is what a frame sends on, so
    that all ranked tokens together come to ``headroom`` budgets and less than one token a frame
    more. What of the model's context is left to the budget is reckoned with the longest question,
    and with ``choices`` offered with each.

    Raises:
        InputError: the choices are none, or no answer can follow the schema.
        ContextError: text, budget and answer do not fit the model's context.
    """
    variant = Variant(options=options, questions=tuple(questions), choices=tuple(choices))
    return plan_clips(sampled, [variant], thumbnail_width=thumbnail_width)[0]


def plan_clips(
    sampled: SampledClip,
    variants: Sequence[Variant],
    *,
    thumbnail_width: int = 0,
) -> list[ClipPlan]:
    """Plan one clip for several options; those that look at the same frames share one ``Clip``.

    Args:
        sampled: the clip.
        variants: of the options, with what is asked under each.
        thumbnail_width: see :class:`workers.messages.Clip`.

    Raises:
        ContextError: see :func:`plan_clip`.
    """
    settled = [_settle(sampled, variant) for variant in variants]
    groups: dict[object, list[_Settled]] = {}
    for each in settled:
        groups.setdefault(each.reading, []).append(each)
    plans: dict[int, ClipPlan] = {}
    for group in groups.values():
        prunings = _prunings(sampled, group)
        clip = _clip(sampled, group[0], prunings, thumbnail_width)
        for each in group:
            plans[id(each)] = ClipPlan(
                clip=clip,
                source=sampled.source,
                frames=group[0].frames,
                template=sampled.checkpoint.template,
                budget=each.budget,
                num_entering=each.num_entering,
                pruning=_place(each.pruning, prunings),
                max_keep=each.pruning.max_keep,
                num_unpruned_tokens=int(each.lengths.sum()),
                source_seconds=seconds_of(sampled.source),
                compact_positions=each.compact_positions,
                options=each.options,
                warnings=sampled.source.warnings,
            )
            _check_fits(plans[id(each)], sampled, each)
    return [plans[id(each)] for each in settled]


def _prunings(sampled: SampledClip, group: "Sequence[_Settled]") -> list[Pruning]:
    """Return the rankings that a clip is given; an entry has been given its one, which serves."""
    if isinstance(sampled.source, EntrySource):
        return [sampled.source.manifest.pruning]
    return merge_prunings([each.pruning for each in group])


def _place(pruning: Pruning, prunings: Sequence[Pruning]) -> int:
    if len(prunings) == 1:
        return 0
    return [ranking_of(each) for each in prunings].index(ranking_of(pruning))


def _check_fits(plan: ClipPlan, sampled: SampledClip, settled: "_Settled") -> None:
    """Refuse before any work what the longest question would find not to fit after all of it."""
    stamps = plan.timestamps(sampled.source.pts_seconds(settled.frames).tolist())
    prompt = plan.template.build(settled.question, stamps, settled.choices)
    plain = prompt
    if any(stamps):
        plain = plan.template.build(settled.question, [""] * len(stamps), settled.choices)
    entering = plan.num_entering - (prompt.num_text_tokens - plain.num_text_tokens)
    unpruned = plan.num_unpruned_tokens
    plan.check(prompt, min(entering, unpruned), unpruned)


def _clip(
    sampled: SampledClip, settled: "_Settled", prunings: Sequence[Pruning], thumbnail_width: int
) -> Clip:
    source, options, frames = sampled.source, settled.options, settled.frames
    height, width = (max(side) for side in zip(*map(source.size_of, frames.tolist()), strict=True))
    gated = options.frames.high_resolution == "gated"
    wanted = options.run.frames_per_chunk or (FRAMES_PER_ANCHOR if gated else FRAMES_PER_CHUNK)
    per_chunk = max(1, min(wanted, _CHUNK_BYTES // (height * width * 3)))
    read = (options.frames.decoder, options.frames.resize, sampled.tiles, gated)
    clip_id = _clip_id(source.identity, frames, prunings, read)
    segments: list[Segment] = []
    if not isinstance(source, EntrySource):  # of which there is nothing to read
        segments = cut_segments(
            clip_id,
            source,
            frames,
            decoder=options.frames.decoder,
            frames_per_chunk=chunk_in_group(per_chunk) if gated else per_chunk,
            max_chunks=CHUNKS_PER_SEGMENT,
            min_chunks=MIN_CHUNKS_PER_SEGMENT,
        )
    return Clip(
        clip_id=clip_id,
        name=source.name,
        segments=tuple(segments),
        num_frames=len(frames),
        tiles=sampled.tiles,
        prunings=tuple(prunings),
        resize=options.frames.resize,
        gated=gated,
        thumbnail_width=thumbnail_width,
    )


def _clip_id(*parts: object) -> str:
    texts = [part.tolist() if isinstance(part, np.ndarray) else part for part in parts]
    return hashlib.blake2b(repr(texts).encode(errors="backslashreplace")).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Settled:
    """What options come to for one clip."""

    options: Options
    question: str
    """The longest one."""
    choices: Sequence[str]
    frames: Int64Array
    lengths: Int64Array
    budget: int
    num_entering: int
    pruning: Pruning
    compact_positions: bool

    @property
    def reading(self) -> tuple[object, ...]:
        """What decides which pixels are encoded."""
        frames = self.options.frames
        return self.frames.tobytes(), frames.decoder, frames.resize, frames.high_resolution


def _settle(sampled: SampledClip, variant: Variant) -> _Settled:
    options = variant.options
    check_form(options.generation, variant.choices)
    cost = count_prompt(sampled, options, variant.questions, variant.choices)
    places, budget = settle_budget(sampled, options, cost)
    lengths = sampled.lengths[places]

    def pruning_for(budget: int) -> Pruning:
        left_out = METHODS[options.pruning.pruner].may_leave_frames_out
        paid = 0 if left_out else cost.timestamp * len(places)
        share = max(budget - paid, len(places)) / len(places)
        return make_pruning(options, share, int(lengths.max()))

    if isinstance(sampled.source, EntrySource):
        check_pruning(sampled.source, options, pruning_for(budget), pruning_for)
    compact_positions = are_compact(options, cost, lengths)
    return _Settled(
        options=options,
        question=cost.question,
        choices=variant.choices,
        frames=sampled.frame_indices[places],
        lengths=lengths,
        budget=budget,
        num_entering=count_entering(options, cost, lengths, budget, compact_positions),
        pruning=pruning_for(budget),
        compact_positions=compact_positions,
    )
