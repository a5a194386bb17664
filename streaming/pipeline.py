"""The whole flow on one screen: clips are watched, then asked; one or a hundred take this path."""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TypeVar

from streaming.clip_plan import ClipPlan
from streaming.flags import flat
from streaming.form import check_form
from streaming.recall import open_stored, recall_or_encode
from streaming.result import Answer, BankUse
from workers.disk.store import TokenStore
from workers.errors import StreamError, VideoDecodeError
from workers.llm.answer import MOST_TOGETHER, GeneratedAnswer, SamplingOptions
from workers.process import peak_memory_bytes
from workers.run.clip_job import Progress
from workers.run.clips import EncodedClip, Visual
from workers.run.engine import Engine
from workers.video.entry_source import EntrySource

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WatchedClip:
    """A clip whose bounded visual sequence stands ready to be asked about."""

    plan: ClipPlan
    visual: Visual


def watch(
    engine: Engine,
    plan: ClipPlan,
    show: Callable[[Progress], None] = lambda progress: None,
    *,
    store: TokenStore | None = None,
    need_thumbnails: bool = True,
) -> WatchedClip:
    """Read, encode and prune a clip, and share its budget out.

    Args:
        engine: with workers.
        plan: of the clip.
        show: told what has been done.
        store: looked in first, and given what was not there; any number of clips may share it.
        need_thumbnails: stored tokens without the pictures that the plan makes will not do.

    Raises:
        VideoDecodeError: not one of the sampled frames could be used.
        StreamError: see :meth:`workers.run.engine.Engine.encode`.
    """
    encoded = encode(engine, plan, show, store=store, need_thumbnails=need_thumbnails)
    return allocate(engine, plan, encoded)


def encode(
    engine: Engine,
    plan: ClipPlan,
    show: Callable[[Progress], None] = lambda progress: None,
    *,
    store: TokenStore | None = None,
    need_thumbnails: bool = True,
) -> EncodedClip:
    """Read and encode a clip once, whatever it is pruned by; with a store perhaps not even once.

    A clip that is an entry of a store is never encoded. For ``need_thumbnails`` see :func:`watch`.
    """
    if isinstance(plan.source, EntrySource):
        encoded = open_stored(engine, plan, store)
    elif store is not None:
        encoded = recall_or_encode(engine, plan, store, show, need_thumbnails=need_thumbnails)
    else:
        encoded = engine.encode(plan.clip, show)
    if not encoded.bank:
        reason = encoded.warnings[-1] if encoded.warnings else "the decoder gave no pictures"
        raise VideoDecodeError(f"{plan.clip.name}: no frame could be used ({reason})")
    return encoded


def allocate(engine: Engine, plan: ClipPlan, encoded: EncodedClip) -> WatchedClip:
    """Share the budget out among the frames that could be encoded."""
    visual = engine.allocate(encoded, plan.allocation(list(encoded.pts_seconds.values())))
    return WatchedClip(plan=plan, visual=visual)


def ask(
    engine: Engine,
    watched: WatchedClip,
    question: str,
    sampling: SamplingOptions | None = None,
    choices: Sequence[str] = (),
    check: Callable[[], object] | None = None,
) -> Generator[str | Answer, None, None]:
    """Queue a question and return its answer: the text as it comes, then the whole with its record.

    Any number of threads may ask at the same time, about any clips that were watched. Questions
    about a clip that are asked before the answers of others are read are answered together, and
    the same (see :func:`ahead`). ``sampling`` is that of the clip's options unless given. With
    ``choices``, two or more texts, the answer is exactly one of them, whatever the model would
    rather say, and is said whole, whatever ``max_new_tokens``. With ``sampling.json_schema`` it is
    JSON that follows the schema, complete unless ``is_cut``. ``check`` is called at each piece, and
    now and then while none comes; it raises to give the answer up.

    Raises:
        InputError: one choice only, a blank one, or two that are the same to the model; a schema
            that no answer can follow, or one beside choices.
        ContextError: the question does not fit the model's context.
        StreamError: the model or a worker failed.
    """
    plan, visual = watched.plan, watched.visual
    started = time.perf_counter()
    sampling = sampling or plan.options.generation
    check_form(sampling, choices)
    prompt = plan.prompt(question, visual.frames, choices)
    pieces = engine.generate(visual, prompt, sampling, check)
    return _recorded(engine, watched, question, pieces, started, check)


def _recorded(
    engine: Engine,
    watched: WatchedClip,
    question: str,
    pieces: Generator[str | GeneratedAnswer, None, None],
    started: float,
    check: Callable[[], object] | None,
) -> Generator[str | Answer, None, None]:
    with closing(pieces):
        for piece in pieces:
            if check is not None:
                check()
            if isinstance(piece, GeneratedAnswer):
                yield _record(engine, watched, question, piece, time.perf_counter() - started)
            else:
                yield piece


def ahead(items: Iterable[T], num_ahead: int = 2 * MOST_TOGETHER) -> Iterator[T]:
    """Yield items in order, but make some before they are asked for.

    ``ahead(ask(engine, clip, question) for question in questions)`` has questions queued while
    answers are read: as many as a language model answers together, and as many more that wait.
    """
    made: deque[T] = deque()
    for item in items:
        made.append(item)
        if len(made) > num_ahead:
            yield made.popleft()
    yield from made


def answer_clip(
    engine: Engine, plan: ClipPlan, questions: Sequence[str], *, store: TokenStore | None = None
) -> list[Answer]:
    """Watch a clip and answer all questions about it."""
    watched = watch(engine, plan, store=store)
    answers = ahead(ask(engine, watched, question) for question in questions)
    return [piece for pieces in answers for piece in pieces if isinstance(piece, Answer)]


def in_flight(
    work: Callable[[T], R], items: Iterable[T], *, limit: int
) -> Iterator[tuple[T, R | StreamError]]:
    """Do something for many items, each in a thread of its own; yield each as it ends.

    Args:
        work: for example :func:`answer_clip`.
        items: taken one by one as others end, never all at once.
        limit: most items worked on at a time.

    Yields:
        The item with the value, or with the error that ended it, in any order.
    """
    threads = ThreadPoolExecutor(limit, thread_name_prefix="clip")
    running: dict[Future[R], T] = {}
    try:
        for item in items:
            running[threads.submit(work, item)] = item
            if len(running) == limit:
                yield from _ended(running)
        while running:
            yield from _ended(running)
    finally:  # who has closed the engine, or is about to, does not wait for the rest
        threads.shutdown(wait=False, cancel_futures=True)


def _ended(running: dict[Future[R], T]) -> Iterator[tuple[T, R | StreamError]]:
    for future in wait(running, return_when=FIRST_COMPLETED).done:
        item, error = running.pop(future), future.exception()
        if error is not None and not isinstance(error, StreamError):
            raise error
        yield item, error or future.result()


def _record(
    engine: Engine,
    watched: WatchedClip,
    question: str,
    answer: GeneratedAnswer,
    elapsed_seconds: float,
) -> Answer:
    plan, visual = watched.plan, watched.visual
    encoded = visual.encoded
    frames = visual.frames
    if answer.keep_indices is not None:
        chosen = zip(frames, answer.keep_indices, strict=True)
        frames = tuple(replace(frame, keep_indices=kept) for frame, kept in chosen)
    frames = tuple(
        replace(frame, thumbnail_jpeg=encoded.thumbnails.get(frame.frame_index, b""))
        for frame in frames
    )
    memory = {"local": peak_memory_bytes()}
    if plan.options.run.resolved_executor == "ray":
        memory = {"driver": peak_memory_bytes(), **engine.peak_memory_bytes}
    return Answer(
        video=plan.clip.name,
        question=question,
        answer=answer.text,
        model=plan.options.model.model,
        budget=plan.budget,
        num_unpruned_tokens=plan.num_unpruned_tokens,
        num_entering_tokens=sum(frame.num_visual_tokens for frame in visual.frames),
        num_text_tokens=answer.num_text_tokens - sum(f.num_timestamp_tokens for f in frames),
        num_answer_tokens=len(answer.token_ids),
        is_cut=answer.is_cut,
        num_tiles=plan.num_tiles,
        num_encoded_tiles=encoded.num_encoded_tiles,
        frames=frames,
        seconds=_sum(encoded.seconds, visual.seconds, answer.seconds),
        elapsed_seconds=encoded.elapsed_seconds + visual.elapsed_seconds + elapsed_seconds,
        peak_memory_bytes=memory,
        warnings=(*plan.warnings, *encoded.warnings),
        config=flat(plan.options),
        bank=_bank_use(encoded),
        fit=plan.clip.tiles.fit,
    )


def _sum(*parts: Mapping[str, float]) -> Mapping[str, float]:
    """Add seconds up by stage, the stages in the order in which they come."""
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: sum(part.get(name, 0.0) for part in parts) for name in names}


def _bank_use(encoded: EncodedClip) -> BankUse | None:
    if encoded.made_for_budget is None:
        return None
    return BankUse(hit=encoded.origin is not None, made_for_budget=encoded.made_for_budget)
