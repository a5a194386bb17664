"""From a question about a clip to its answer, over clips that are kept warm. Knows nothing of HTTP.

Every call is made in a thread of its own; what they share is safe to share.
"""

import math
import os
import time
from collections import OrderedDict
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Lock

import numpy as np

from pruner import METHODS
from streaming.budget import DEFAULT_BUDGET
from streaming.clip_plan import ClipPlan
from streaming.flags import change
from streaming.options import Options
from streaming.pipeline import ask, encode
from streaming.plan import plan_clip
from streaming.result import Answer, BankUse
from streaming.sample import SampledClip, open_checkpoint, sample_source
from streaming.serve.chat import Chat
from streaming.serve.failures import RequestError, explain
from streaming.serve.media import Located, Media
from streaming.serve.options import ServerOptions
from streaming.serve.patience import Patience
from streaming.serve.warm import WarmClip, WarmClips
from workers.checkpoint import locate, read_config
from workers.disk.store import TokenStore
from workers.errors import (
    ContextError,
    EntryError,
    StreamError,
    VideoDecodeError,
    WorkerError,
)
from workers.messages import SourceRequest
from workers.run.engine import Engine
from workers.video.entry_source import EntrySource
from workers.video.images import ImageSource
from workers.video.source import Source

_THUMBNAIL_WIDTH = 320
_MOST_SOURCES = 256
_BYTES_PER_FEATURE = 4
_STAGES_OF_A_QUESTION = ("prefill", "generate")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Served:
    """An answer, and whether its clip was warm when it was asked for."""

    answer: Answer
    warm: bool
    is_cut: bool
    """Whether it ended for its length."""


class Service:
    """Answers questions.

    Args:
        engine: that runs.
        options: of the server.
        media: where clips come from.
        warm: clips that are encoded.
        store: of tokens on disk, if any.
    """

    def __init__(
        self,
        engine: Engine,
        options: ServerOptions,
        media: Media,
        warm: WarmClips,
        store: TokenStore | None = None,
    ) -> None:
        self.engine = engine
        self.limits = options.media
        self.model = model_name(options.model.model)
        self.options = with_budget(options.asking())
        self._media = media
        self._warm = warm
        self._store = store
        self._sources: OrderedDict[tuple[object, ...], Source] = OrderedDict()
        self._lock = Lock()

    def answer(self, chat: Chat, patience: Patience) -> Generator[str | Served, None, None]:
        """Yield the answer's text as it comes, then the whole with its record.

        Raises:
            RequestError: the clip is refused.
            StreamError: it cannot be read, the question does not fit, or a worker failed.
            ClientLeftError: nobody waits any more.
        """
        started = time.perf_counter()
        with self._media.located(chat.clip) as located, _told(located):
            sampled = self._sample(located, chat.options, patience)
            plan = plan_clip(
                sampled,
                chat.options,
                [chat.question],
                choices=chat.choices,
                thumbnail_width=_THUMBNAIL_WIDTH,
            )
            made = self._encoded_plan(sampled, plan)
            clip, warm = self._encode(made, located, patience)
            watched = clip.watch(self.engine, replace(plan, clip=made.clip, pruning=made.pruning))
            pieces = ask(self.engine, watched, chat.question, choices=chat.choices)
            with closing(pieces):
                for piece in pieces:
                    patience.check()
                    if isinstance(piece, Answer):
                        elapsed = time.perf_counter() - started
                        yield self._served(piece, chat, made, located, warm, elapsed)
                    else:
                        yield piece

    def _sample(self, located: Located, options: Options, patience: Patience) -> SampledClip:
        source = self._open(located)
        patience.check()
        self._check(source, options)
        sampled = sample_source(source, options)
        if len(sampled.frame_indices) > self.limits.max_frames:
            raise _too_many_frames(self.limits.max_frames)
        return sampled

    def _open(self, located: Located) -> Source:
        """Open a clip where it can be killed for it; one that was opened before is remembered."""
        key = tuple(map(_version, located.paths))
        with self._lock:
            if key in self._sources:
                self._sources.move_to_end(key)
                return self._sources[key]
        request = SourceRequest(paths=located.paths, pictures=located.is_pictures)
        try:
            source = self.engine.open(request, located.name)
        except WorkerError:
            if self.engine.failure is not None:
                raise
            raise VideoDecodeError(
                f"{located.name}: opening it took too long or too much memory"
            ) from None
        if isinstance(source, EntrySource):
            raise EntryError(f"{located.name}: is an entry of a store")
        with self._lock:
            self._sources[key] = source
            while len(self._sources) > _MOST_SOURCES:
                self._sources.popitem(last=False)
        return source

    def _check(self, source: Source, options: Options) -> None:
        """Refuse a clip beyond the server's ceilings, and more frames than it may have."""
        limits = self.limits
        height, width = max(_sizes(source), key=math.prod)
        if height * width > limits.max_pixels:
            raise RequestError(
                422,
                "media_too_large",
                f"pictures of {width}x{height} exceed the {limits.max_pixels:,} pixels taken here",
            )
        first, last = source.pts_seconds(np.array([0, source.num_frames - 1])).tolist()
        if last - first > limits.max_seconds:
            raise RequestError(
                422,
                "media_too_long",
                f"the clip has {last - first:.0f} s, and at most {limits.max_seconds:g} are taken",
            )
        frames = options.frames
        wanted = frames.num_frames or 0
        if frames.fps is not None:
            begin = first if frames.start is None else max(first, frames.start)
            end = last if frames.end is None else min(last, frames.end)
            wanted = int((end - begin) * frames.fps)
        if wanted > limits.max_frames:
            raise _too_many_frames(limits.max_frames)

    def _encoded_plan(self, sampled: SampledClip, plan: ClipPlan) -> ClipPlan:
        """Return what the clip is encoded for: the server's budget, which serves smaller ones too.

        So what is answered at a budget does not depend on what was asked before, and any budget up
        to the server's is answered without encoding again. A larger one is encoded for itself.
        """
        most = self.options.budget.budget
        method = METHODS[plan.options.pruning.pruner]
        if most is None or plan.budget >= most or method.enters_unpruned:
            return plan
        options = change(plan.options, {"budget": most, "max_new_tokens": 1}, source="")
        with suppress(ContextError):
            roomy = plan_clip(sampled, options, ["?"], thumbnail_width=_THUMBNAIL_WIDTH)
            if roomy.frames.tobytes() == plan.frames.tobytes():
                return roomy
        return plan

    def _encode(
        self, plan: ClipPlan, located: Located, patience: Patience
    ) -> tuple[WarmClip, bool]:
        make = partial(encode, self.engine, plan, patience.check, store=self._store)
        return self._warm.get(plan.clip.clip_id, _num_bytes(plan), located.paths, make, patience)

    def _served(
        self,
        answer: Answer,
        chat: Chat,
        made: ClipPlan,
        located: Located,
        warm: bool,
        elapsed_seconds: float,
    ) -> Served:
        seconds = answer.seconds
        if warm:
            seconds = {stage: seconds[stage] for stage in _STAGES_OF_A_QUESTION if stage in seconds}
        shown = replace(
            answer,
            video=located.name,
            model=self.model,
            seconds=seconds,
            elapsed_seconds=elapsed_seconds,
            warnings=tuple(located.shown(text) for text in answer.warnings),
            bank=answer.bank or BankUse(hit=warm, made_for_budget=made.budget),
        )
        longest = chat.options.generation.max_new_tokens
        is_cut = not chat.choices and answer.num_answer_tokens >= longest
        return Served(answer=shown, warm=warm, is_cut=is_cut)


def with_budget(options: Options) -> Options:
    """Return options with a budget that does not depend on the question, if they have none."""
    given = options.budget
    if given.budget or given.keep_ratio or options.pruning.pruner == "none":
        return options
    context = open_checkpoint(options.model.model).template.context_length
    return change(options, {"budget": min(DEFAULT_BUDGET, context // 2)}, source="")


def model_name(model: str) -> str:
    """Return what clients call the model: of a folder its last name."""
    return Path(model).resolve().name if os.path.isdir(model) else model


@contextmanager
def _told(located: Located) -> Iterator[None]:
    """Turn what goes wrong with a clip into what its client is told."""
    try:
        yield
    except StreamError as error:
        raise explain(error, located.shown) from None


def _version(path: str) -> tuple[object, ...]:
    try:
        status = os.stat(path)
    except OSError:
        raise RequestError(404, "file_not_found", "the clip is gone") from None
    return path, status.st_size, status.st_mtime_ns


def _sizes(source: Source) -> list[tuple[int, int]]:
    """Return the displayed (height, width) of the pictures; in a video all are of one size."""
    number = source.num_frames if isinstance(source, ImageSource) else 1
    return [source.size_of(place) for place in range(number)]


def _too_many_frames(most: int) -> RequestError:
    return RequestError(
        422, "too_many_frames", f"at most {most} frames are looked at here: lower num_frames or fps"
    )


def _num_bytes(plan: ClipPlan) -> int:
    """Return the most that a clip's ranked tokens take, and the pictures kept for its record."""
    config = read_config(locate(plan.options.model.model))
    hidden: int = (config.get("text_config") or {}).get("hidden_size", 4096)
    kept = sum(pruning.max_keep for pruning in plan.clip.prunings)
    per_frame = kept * hidden * _BYTES_PER_FEATURE + _THUMBNAIL_WIDTH * _THUMBNAIL_WIDTH // 2
    return plan.clip.num_frames * per_frame
