"""Answers all questions about one clip; whatever goes wrong with it ends as a row."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from pruner import METHODS
from streaming.batch.clips import ClipTask
from streaming.batch.item import Item
from streaming.batch.record import FAILED, Record
from streaming.clip_plan import ClipPlan
from streaming.flags import change
from streaming.option_groups import FrameOptions
from streaming.options import Options
from streaming.pipeline import WatchedClip, ahead, ask, encode
from streaming.plan import Variant, plan_clips
from streaming.result import Answer, seconds_of_a_question
from streaming.sample import SampledClip, sample_source
from workers.disk.store import TokenStore
from workers.errors import ContextError, InputError, StreamError, VideoError, display_name
from workers.messages import SourceRequest
from workers.run.clips import EncodedClip
from workers.run.engine import Engine
from workers.visual import Allocation


class EngineFailedError(Exception):
    """The workers as a whole have failed, which is no clip's fault; ``error`` says how."""

    def __init__(self, error: StreamError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Asked:
    """A question whose answer comes as ``pieces``, since the clock showed ``started``."""

    item: Item
    watched: WatchedClip
    pieces: Iterator[str | Answer]
    started: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answering:
    """What holds for every clip of a job.

    ``attempts`` are the earlier ones of questions that are asked again; ``write`` takes each row as
    soon as it is known, from any thread. A ``store`` holds one ranking of a clip: with it, rows of
    other budgets do not share an encoding, but may share an entry.
    """

    engine: Engine
    options: Options
    fingerprint: str
    attempts: Mapping[tuple[str, int], int]
    write: Callable[[Record], None]
    store: TokenStore | None = None

    def answer(self, task: ClipTask) -> None:
        """Write a row for every pending question about a clip.

        Clips are sampled, planned and encoded once for all questions that look at the same frames.

        Raises:
            EngineFailedError: nothing can be answered any more; what has no row is still pending.
        """
        with self._failing(task.pending, "open"):
            request = SourceRequest(paths=(task.video,))
            source = self.engine.open(request, display_name(task.video))
            by_frames: dict[FrameOptions, list[Item]] = {}
            for item in task.items:
                by_frames.setdefault(self._options(item).frames, []).append(item)
            for items in by_frames.values():
                pending = [item for item in items if item in task.pending]
                if pending:
                    with self._failing(pending, "sample"):
                        sampled = sample_source(source, self._options(items[0]))
                        self._answer_sampled(sampled, items, pending)

    def _options(self, item: Item) -> Options:
        return change(self.options, item.changes, source="")

    def _answer_sampled(
        self, sampled: SampledClip, items: Sequence[Item], pending: Sequence[Item]
    ) -> None:
        """Encode a clip for each group of questions that needs it otherwise, and answer them."""
        plans = self._plan(sampled, items, pending)
        clips: dict[str, list[Item]] = {}
        for item in pending:
            if item in plans:
                clips.setdefault(plans[item].clip.clip_id, []).append(item)
        for group in sorted(clips.values(), key=lambda group: _rank(plans[group[0]])):
            with self._failing(group, "encode"):
                encoded = encode(self.engine, plans[group[0]], store=self.store)
                self._answer_encoded(encoded, group, plans)

    def _plan(
        self, sampled: SampledClip, items: Sequence[Item], pending: Sequence[Item]
    ) -> dict[Item, ClipPlan]:
        """Plan for all items; one that does not fit even by itself gets its row here."""
        try:
            return self._plan_together(sampled, items)
        except (ContextError, InputError):
            fitting = []
            for item in items:
                with self._failing([item] if item in pending else [], "plan"):
                    self._plan_together(sampled, [item])
                    fitting.append(item)
            return self._plan_together(sampled, fitting)

    def _plan_together(self, sampled: SampledClip, items: Sequence[Item]) -> dict[Item, ClipPlan]:
        groups: dict[tuple[Options, tuple[str, ...]], list[Item]] = {}
        for item in items:
            groups.setdefault((self._options(item), item.choices), []).append(item)
        variants = [
            Variant(
                options=options,
                questions=tuple(item.question for item in group),
                choices=choices,
            )
            for (options, choices), group in groups.items()
        ]
        if self.store is None:
            plans = plan_clips(sampled, variants)
        else:
            plans = [plan for each in variants for plan in plan_clips(sampled, [each])]
        return {
            item: plan for group, plan in zip(groups.values(), plans, strict=True) for item in group
        }

    def _answer_encoded(
        self, encoded: EncodedClip, items: Sequence[Item], plans: Mapping[Item, ClipPlan]
    ) -> None:
        ended = None
        for asked in ahead(self._ask(encoded, items, plans)):
            with self._failing([asked.item], "generate"):
                record = self._answered(asked, ended)
                ended = time.perf_counter()
                self.write(record)

    def _ask(
        self, encoded: EncodedClip, items: Sequence[Item], plans: Mapping[Item, ClipPlan]
    ) -> Iterator[_Asked]:
        """Ask the questions; one that cannot be asked gets its row here.

        Those that are shown the same, whatever else they differ in, are asked one after another, so
        that the language model answers them together.
        """
        times = list(encoded.pts_seconds.values())
        allocations = {plan: plan.allocation(times) for plan in {plans[item] for item in items}}
        shown: dict[Allocation, list[Item]] = {}
        for item in items:
            shown.setdefault(allocations[plans[item]], []).append(item)
        for allocation, group in shown.items():
            visual = None
            with self._failing(group, "allocate"):
                visual = self.engine.allocate(encoded, allocation)
            for item in group if visual is not None else ():
                found = []
                with self._failing([item], "generate"):
                    watched = WatchedClip(plan=plans[item], visual=visual)
                    found.append(self._asked(watched, item))
                yield from found

    def _asked(self, watched: WatchedClip, item: Item) -> _Asked:
        started = time.perf_counter()
        pieces = ask(self.engine, watched, item.question, choices=item.choices)
        return _Asked(item=item, watched=watched, pieces=pieces, started=started)

    def _answered(self, asked: _Asked, ended: float | None) -> Record:
        """Return the row of an answer; ``ended`` is when the one before did, None for the first.

        Questions wait side by side: seconds that were counted for one are not counted for the next,
        so that those of all rows are the clip's.
        """
        item, watched = asked.item, asked.watched
        (answer,) = (piece for piece in asked.pieces if isinstance(piece, Answer))
        elapsed, seconds = answer.elapsed_seconds, answer.seconds
        if ended is not None:  # the clip's own work stands in the first row
            elapsed = time.perf_counter() - max(asked.started, ended)
            seconds = seconds_of_a_question(seconds)
        return replace(
            self._record(item),
            answer=answer.answer,
            finish_reason=answer.finish_reason,
            budget=answer.budget,
            num_frames=answer.num_frames,
            num_unpruned_tokens=answer.num_unpruned_tokens,
            num_visual_tokens=answer.num_visual_tokens,
            num_text_tokens=answer.num_text_tokens,
            num_answer_tokens=answer.num_answer_tokens,
            seconds=dict(seconds),
            elapsed_seconds=round(elapsed, 6),
            video_seconds=watched.plan.source_seconds,
            bank="" if answer.bank is None else "hit" if answer.bank.hit else "made",
            bank_budget=0 if answer.bank is None else answer.bank.made_for_budget,
            warnings=answer.warnings,
        )

    def _record(self, item: Item) -> Record:
        return Record(
            id=item.row_id,
            question_index=item.question_index,
            video=item.video,
            question=item.question,
            attempts=self.attempts.get(item.name, 0) + 1,
            model=self.options.model.model,
            meta=item.meta,
            key=item.key,
            fingerprint=self.fingerprint,
        )

    @contextmanager
    def _failing(self, items: Iterable[Item], stage: str) -> Iterator[None]:
        """Turn what goes wrong into rows of these items."""
        try:
            yield
        except StreamError as error:
            if self.engine.failure is not None:
                raise EngineFailedError(self.engine.failure) from None
            for item in items:
                self.write(self._failed(item, stage, error))

    def _failed(self, item: Item, stage: str, error: StreamError) -> Record:
        if stage == "encode" and isinstance(error, VideoError):
            stage = "decode"
        return replace(
            self._record(item),
            status=FAILED,
            error_stage=stage,
            error_type=type(error).__name__,
            error_message=" ".join(str(error).split()),
        )


def _rank(plan: ClipPlan) -> int:
    """Return which clip goes before others: of those that a larger entry serves, the largest.

    A ranking that depends on its share would come out otherwise, so that those stay in order.
    """
    pruning = plan.clip.prunings[plan.pruning]
    return 0 if METHODS[pruning.method].needs_share else -pruning.max_keep
