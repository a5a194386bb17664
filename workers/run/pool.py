"""Where the stages run: in this process, or in Ray actors.

Both pools do the same work in the same order of meaning: which frames are encoded together, what
is kept and what is answered depend on neither the pool nor its number of workers.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from workers.messages import (
    BudgetOptions,
    FrameSelection,
    GeneratedAnswer,
    ModelOptions,
    PromptCost,
    PruneOptions,
    SamplingOptions,
    Segment,
    WorkerUsage,
)
from workers.stages import AnswerStage, DecodeStage, EncodeStage


@dataclass(frozen=True, slots=True, kw_only=True)
class StageMakers:
    """How a worker of each kind is made; tests put failing ones in."""

    decode: Callable[[], DecodeStage] = DecodeStage
    encode: Callable[[ModelOptions], EncodeStage] = EncodeStage
    answer: Callable[[ModelOptions], AnswerStage] = AnswerStage


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Something has happened to frames: ``num_decoded`` or ``num_encoded`` more are done.

    ``warnings`` tell of frames, from ``frame_index`` on, that could not be decoded or that killed
    their worker.
    """

    num_decoded: int = 0
    num_encoded: int = 0
    frame_index: int = 0
    warnings: tuple[str, ...] = ()


class Pool(Protocol):
    """What the pipeline asks of an executor."""

    def start(self) -> None:
        """Make the workers; returns before they are ready."""

    def measure(self, questions: Sequence[str], pts_seconds: Sequence[float]) -> PromptCost:
        """See :meth:`workers.stages.AnswerStage.measure`."""

    def encode(
        self, segments: Sequence[Segment], prunings: Sequence[PruneOptions]
    ) -> Iterator[Progress]:
        """Decode, encode and prune a clip, holding its candidates; frames finish in any order."""

    def select(self, options: BudgetOptions) -> tuple[FrameSelection, ...]:
        """See :meth:`workers.stages.AnswerStage.select`; takes the clip encoded last."""

    def answer(self, question: str, sampling: SamplingOptions) -> Iterator[str | GeneratedAnswer]:
        """See :meth:`workers.stages.AnswerStage.answer`."""

    def usage(self) -> Mapping[str, WorkerUsage]:
        """Return what each worker, by name, has used so far."""

    def close(self) -> None:
        """Stop every worker; may be called at any time and twice."""


class LocalPool:
    """Every stage in this process, one after another, chunk by chunk.

    Args:
        options: of the encode and answer stages.
        makers: of the stages.
    """

    def __init__(self, options: ModelOptions, makers: StageMakers | None = None) -> None:
        makers = makers or StageMakers()
        self._options = options
        self._makers = makers
        self._decoder = makers.decode()
        self._encoder: EncodeStage | None = None
        self._answerer: AnswerStage | None = None
        self._candidates: list[Any] = []

    def start(self) -> None:
        """Load the vision model and the tokenizer."""
        self._encoder = self._makers.encode(self._options)
        self._answerer = self._makers.answer(self._options)

    def measure(self, questions: Sequence[str], pts_seconds: Sequence[float]) -> PromptCost:
        """See :meth:`workers.stages.AnswerStage.measure`."""
        return self._answer_stage.measure(questions, pts_seconds)

    def encode(
        self, segments: Sequence[Segment], prunings: Sequence[PruneOptions]
    ) -> Iterator[Progress]:
        """Work chunk by chunk; never more than one chunk's frames are in memory."""
        self._candidates = []
        for segment in segments:
            for chunk in self._decoder.decode(segment):
                yield Progress(
                    num_decoded=len(chunk.frames),
                    frame_index=chunk.chunk_index * segment.frames_per_chunk,
                    warnings=chunk.warnings,
                )
                if len(chunk.frames):
                    self._candidates.append(self._encode_stage.encode(chunk, prunings))
                    yield Progress(num_encoded=len(chunk.frames))

    def select(self, options: BudgetOptions) -> tuple[FrameSelection, ...]:
        """See :meth:`workers.stages.AnswerStage.select`."""
        return self._answer_stage.select(options, *self._candidates)

    def answer(self, question: str, sampling: SamplingOptions) -> Iterator[str | GeneratedAnswer]:
        """See :meth:`workers.stages.AnswerStage.answer`."""
        return self._answer_stage.answer(question, sampling)

    def usage(self) -> Mapping[str, WorkerUsage]:
        """Return one entry: this process."""
        stages = [self._decoder, self._encoder, self._answerer]
        usages = [stage.usage() for stage in stages if stage is not None]
        seconds = {name: value for usage in usages for name, value in usage.seconds.items()}
        return {
            "local": WorkerUsage(seconds=seconds, peak_memory_bytes=usages[0].peak_memory_bytes)
        }

    def close(self) -> None:
        """Drop the models."""
        self._encoder = self._answerer = None
        self._candidates = []

    @property
    def _encode_stage(self) -> EncodeStage:
        if self._encoder is None:
            raise RuntimeError("the pool has not been started")
        return self._encoder

    @property
    def _answer_stage(self) -> AnswerStage:
        if self._answerer is None:
            raise RuntimeError("the pool has not been started")
        return self._answerer
