"""The whole flow on one screen: a clip is watched once, then asked any number of questions."""

import dataclasses
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from streaming.config import Options
from streaming.plan import ClipPlan, Source, plan_clip
from streaming.result import Answer
from workers.errors import VideoDecodeError
from workers.messages import FrameSelection, GeneratedAnswer, ModelOptions, SamplingOptions
from workers.process import peak_memory_bytes
from workers.run.pool import LocalPool, Pool, Progress, StageMakers


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EncodedClip:
    """A clip whose candidates the workers hold, pruned in one or several ways.

    ``started`` is ``time.perf_counter()`` when work on it began; ``start_seconds`` how long it took
    from then until the workers were up.
    """

    source: Source
    plans: tuple[ClipPlan, ...]
    warnings: tuple[str, ...]
    started: float
    start_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WatchedClip:
    """A clip whose bounded visual sequence the language model holds; see ``EncodedClip``."""

    source: Source
    plan: ClipPlan
    frames: tuple[FrameSelection, ...]
    warnings: tuple[str, ...]
    started: float
    start_seconds: float


@contextmanager
def open_pool(options: Options, makers: StageMakers | None = None) -> Iterator[Pool]:
    """Start the workers that the options ask for, and stop them whatever happens."""
    model = ModelOptions(
        model=options.model,
        device=options.device,
        dtype=options.dtype,
        num_threads=_num_threads(options),
    )
    pool: Pool
    if options.executor == "local":
        pool = LocalPool(model, makers)
    else:
        from workers.run.actor_pool import ActorPool
        from workers.run.placement import ClusterOptions

        cluster = ClusterOptions(
            num_decoders=options.num_decoders,
            num_encoders=options.num_encoders,
            address=options.address,
        )
        pool = ActorPool(model, cluster, makers)
    try:
        pool.start()
        yield pool
    finally:
        pool.close()


def _num_threads(options: Options) -> int:
    """Share this machine's cores among the encoders; a cluster's actors keep to their one CPU."""
    if options.executor == "local" or options.address is not None:
        return 0
    return max(1, (os.cpu_count() or 1) // options.num_encoders)


def watch(
    pool: Pool,
    source: Source,
    options: Options,
    questions: Sequence[str],
    *,
    started: float,
    show: Callable[[Progress, int], None] = lambda progress, num_frames: None,
    thumbnail_width: int = 0,
) -> WatchedClip:
    """Decode, encode and prune a clip, and hand its bounded visual sequence to the model.

    Args:
        pool: started.
        source: the clip.
        options: of the run.
        questions: that will be asked; the default budget leaves room for the longest.
        started: ``time.perf_counter()`` when work on the clip began.
        show: told of progress and of the number of frames in all.
        thumbnail_width: pixels across of the pictures kept for a report; 0 keeps none.

    Raises:
        VideoDecodeError: not one of the sampled frames could be used.
        ContextError: see :func:`streaming.plan.plan_clip`.
    """
    plan = plan_clip(
        source,
        options,
        questions,
        pool.measure,
        num_segments=num_segments(options),
        thumbnail_width=thumbnail_width,
    )
    return choose(pool, encode(pool, source, [plan], started=started, show=show), 0)


def num_segments(options: Options) -> int:
    """Return into how many parts a clip is cut, each read by one decoder."""
    return options.num_decoders if options.executor == "ray" else 1


def encode(
    pool: Pool,
    source: Source,
    plans: Sequence[ClipPlan],
    *,
    started: float,
    show: Callable[[Progress, int], None] = lambda progress, num_frames: None,
) -> EncodedClip:
    """Decode and encode a clip once, and prune it in every way that was planned.

    Args:
        pool: started.
        source: the clip.
        plans: all of the same frames.
        started: ``time.perf_counter()`` when work on the clip began.
        show: told of progress and of the number of frames in all.

    Raises:
        VideoDecodeError: not one of the sampled frames could be used.
    """
    start_seconds = time.perf_counter() - started
    prunings = list(dict.fromkeys(plan.prune for plan in plans))
    warnings = []
    num_encoded = 0
    for progress in pool.encode(plans[0].segments, prunings):
        show(progress, plans[0].num_frames)
        warnings += [(progress.frame_index, text) for text in progress.warnings]
        num_encoded += progress.num_encoded
    texts = (*source.index.warnings, *(text for _, text in sorted(warnings)))
    if not num_encoded:
        reason = texts[-1] if texts else "the decoder gave no pictures"
        raise VideoDecodeError(f"{source.index.path}: no frame could be used ({reason})")
    pruned = [
        replace(plan, budget=replace(plan.budget, pruning=prunings.index(plan.prune)))
        for plan in plans
    ]
    return EncodedClip(
        source=source,
        plans=tuple(pruned),
        warnings=texts,
        started=started,
        start_seconds=start_seconds,
    )


def choose(pool: Pool, clip: EncodedClip, which: int) -> WatchedClip:
    """Hand the language model the bounded visual sequence of one of the plans."""
    plan = clip.plans[which]
    return WatchedClip(
        source=clip.source,
        plan=plan,
        frames=pool.select(plan.budget),
        warnings=clip.warnings,
        started=clip.started,
        start_seconds=clip.start_seconds,
    )


def ask(pool: Pool, clip: WatchedClip, options: Options, question: str) -> Iterator[str | Answer]:
    """Yield the answer's text as it comes, then the whole answer with its record.

    Args:
        pool: that watched the clip last.
        clip: from :func:`watch`.
        options: of the run.
        question: any text.
    """
    sampling = SamplingOptions(
        max_new_tokens=options.max_new_tokens, temperature=options.temperature, seed=options.seed
    )
    for piece in pool.answer(question, sampling):
        if isinstance(piece, GeneratedAnswer):
            yield _record(pool, clip, options, question, piece)
        else:
            yield piece


def _record(
    pool: Pool,
    clip: WatchedClip,
    options: Options,
    question: str,
    answer: GeneratedAnswer,
) -> Answer:
    usages = pool.usage()
    elapsed_seconds = time.perf_counter() - clip.started
    seconds = {"start": clip.start_seconds}
    for usage in usages.values():
        for stage, value in usage.seconds.items():
            seconds[stage] = seconds.get(stage, 0.0) + value
    seconds |= answer.seconds
    frames = clip.frames
    if answer.keep_indices is not None:
        chosen = zip(frames, answer.keep_indices, strict=True)
        frames = tuple(replace(frame, keep_indices=kept) for frame, kept in chosen)
    memory = {name: usage.peak_memory_bytes for name, usage in usages.items()}
    if options.executor == "ray":
        memory = {"driver": peak_memory_bytes()} | memory
    return Answer(
        video=clip.source.index.path,
        question=question,
        answer=answer.text,
        model=options.model,
        budget=clip.plan.budget.budget,
        num_unpruned_tokens=clip.plan.num_unpruned_tokens,
        num_text_tokens=answer.num_text_tokens - sum(f.num_marker_tokens for f in clip.frames),
        num_answer_tokens=len(answer.token_ids),
        frames=frames,
        seconds=seconds,
        elapsed_seconds=elapsed_seconds,
        peak_memory_bytes=memory,
        warnings=clip.warnings,
        config=dataclasses.asdict(options),
    )
