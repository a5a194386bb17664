"""From a question about a clip to its answer, over clips that are kept warm. Knows nothing of HTTP.

Every call is made in a thread of its own; what they share is safe to share.
"""

import os
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pruner import METHODS
from streaming.budget import DEFAULT_BUDGET
from streaming.clip_plan import ClipPlan
from streaming.flags import change
from streaming.options import Options
from streaming.pipeline import ask, encode
from streaming.plan import plan_clip
from streaming.result import Answer
from streaming.sample import DEFAULT_NUM_FRAMES, SampledClip, open_checkpoint, sample_source
from streaming.serve.ceilings import check_clip, too_many_frames
from streaming.serve.chat import Chat
from streaming.serve.failures import explain
from streaming.serve.lengths import check_length, texts_of
from streaming.serve.media import Located, Media
from streaming.serve.options import ServerOptions
from streaming.serve.patience import Patience
from streaming.serve.progress import EncodeProgress, Teller
from streaming.serve.schemas import check_served_form
from streaming.serve.served import Served, as_served
from streaming.serve.sources import Sources
from streaming.serve.warm import WarmClips
from streaming.serve.warm_clip import MOST_VISUALS, WarmClip
from workers.checkpoint import EMBEDDED, locate, read_config
from workers.disk.store import TokenStore
from workers.errors import ContextError, StreamError
from workers.run.engine import Engine
from workers.video.thumbnail import most_thumbnail_bytes

_THUMBNAIL_WIDTH = 320
_BYTES_PER_FEATURE = 4
_EMBEDDED_NOTE = "tiny, knows drawn clips of shapes and numbers, no real ones"


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
        self.model = model_name(options.model.model)
        self.options = with_budget(options.asking())
        self._limits = options.media
        self._most_letters = options.load.max_text_letters
        self._media = media
        self._sources = Sources(engine)
        self._warm = warm
        self._store = store

    def offer(self) -> dict[str, Any]:
        """Return what is asked with where a request says nothing, and what it may choose from.

        ``note`` is what whoever asks should know of the model.
        """
        options = self.options
        by_rate = options.frames.fps is not None
        return {
            "note": _EMBEDDED_NOTE if options.model.model == EMBEDDED else "",
            "budget": options.budget.budget,
            "num_frames": None if by_rate else options.frames.num_frames or DEFAULT_NUM_FRAMES,
            "pruner": options.pruning.pruner,
            "pruners": list(METHODS),
            "max_num_frames": self._limits.max_frames,
        }

    def picture(self, clip_id: str, frame: int) -> bytes:
        """Return the picture of a frame of a clip that is warm, a JPEG.

        Raises:
            RequestError: it is not held, or not any more.
        """
        return self._warm.picture(clip_id, frame)

    def answer(
        self, chat: Chat, patience: Patience, tell: Callable[[EncodeProgress], object]
    ) -> Generator[str | Served, None, None]:
        """Yield the answer's text as it comes, then the whole with its record.

        Args:
            chat: what is asked of which clip.
            patience: of whoever asks.
            tell: called while the clip is encoded, if the question asks for that.

        Raises:
            RequestError: the clip is refused or cannot be read, or the question does not fit.
            StreamError: a worker failed.
            ClientLeftError: nobody waits any more.
        """
        started = time.perf_counter()
        check_length(texts_of(chat), chat.options.model.model, self._most_letters)
        check_served_form(chat.options.generation, chat.choices)
        with self._media.located(chat.clip) as located, _told(located):
            sampled = self._sample(located, chat.options, patience)
            plan = _plan(sampled, chat.options, chat)
            made = self._encoded_plan(sampled, plan)
            clip, warm = self._encode(made, located, patience, tell if chat.progress else _nobody)
            watched = clip.watch(self.engine, replace(plan, clip=made.clip, pruning=made.pruning))
            pieces = ask(
                self.engine, watched, chat.question, choices=chat.choices, check=patience.check
            )
            with closing(pieces):
                for piece in pieces:
                    if not isinstance(piece, Answer):
                        yield piece
                        continue
                    seconds = time.perf_counter() - started
                    yield Served(
                        answer=as_served(
                            piece, located, self.model, made.budget, warm=warm, seconds=seconds
                        ),
                        warm=warm,
                        pictures=clip.pictures if chat.evidence else {},
                    )

    def _sample(self, located: Located, options: Options, patience: Patience) -> SampledClip:
        source = self._sources.open(located)
        patience.check()
        check_clip(source, options.frames, self._limits)
        sampled = sample_source(source, options)
        if len(sampled.frame_indices) > self._limits.max_frames:
            raise too_many_frames(self._limits.max_frames)
        return sampled

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
            roomy = _plan(sampled, options)
            if roomy.frames.tobytes() == plan.frames.tobytes():
                return roomy
        return plan

    def _encode(
        self,
        plan: ClipPlan,
        located: Located,
        patience: Patience,
        tell: Callable[[EncodeProgress], object],
    ) -> tuple[WarmClip, bool]:
        clip, size = plan.clip, _num_bytes(plan)
        make = partial(encode, self.engine, plan, store=self._store)
        show = Teller(clip.num_frames, tell)
        return self._warm.get(clip.clip_id, size, located.paths, make, patience, show)


def _nobody(progress: EncodeProgress) -> None:
    """Hear of no progress."""


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


def _plan(sampled: SampledClip, options: Options, chat: Chat | None = None) -> ClipPlan:
    question, choices = ("?", ()) if chat is None else (chat.question, chat.choices)
    return plan_clip(
        sampled, options, [question], choices=choices, thumbnail_width=_THUMBNAIL_WIDTH
    )


@contextmanager
def _told(located: Located) -> Iterator[None]:
    """Turn what goes wrong with a clip into what its client is told."""
    try:
        yield
    except StreamError as error:
        raise explain(error, located.shown) from None


def _num_bytes(plan: ClipPlan) -> int:
    """Return the most that is held of a clip: ranked tokens, sequences made of them, pictures."""
    config = read_config(locate(plan.options.model.model))
    hidden: int = (config.get("text_config") or {}).get("hidden_size", 4096)
    ranked = plan.clip.num_frames * sum(pruning.max_keep for pruning in plan.clip.prunings)
    num_tokens = ranked + MOST_VISUALS * plan.num_entering
    return num_tokens * hidden * _BYTES_PER_FEATURE + sum(
        most_thumbnail_bytes(size, _THUMBNAIL_WIDTH)
        for size in map(plan.source.size_of, plan.frames.tolist())
    )
