"""The stages as actors: decoders, encoders and one language model, whoever of them dies."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from workers.errors import WorkerError
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
from workers.run import ray_cluster
from workers.run.actors import AnswerActor, DecodeActor, EncodeActor
from workers.run.fleet import ChunkLostError, DecodedChunk, WorkerDiedError
from workers.run.placement import ClusterOptions
from workers.run.pool import Progress, StageMakers
from workers.run.schedule import MAX_DEATHS, Schedule

_log = logging.getLogger(__name__)


class ActorPool:
    """Runs the stages on a Ray cluster; see :class:`workers.run.pool.Pool`.

    The driver hands references on and never sees a frame or a feature. It holds those of the
    candidates, at most headroom x budget tokens, for as long as questions are asked: with them a
    new language model takes up where a dead one left off.

    Args:
        options: of the encode and answer stages.
        cluster: how many actors, and where.
        makers: of the stages.
    """

    def __init__(
        self, options: ModelOptions, cluster: ClusterOptions, makers: StageMakers | None = None
    ) -> None:
        self._options = options
        self._makers = makers or StageMakers()
        self._cluster = ray_cluster.RayCluster(cluster, options.device)
        self.num_decoders = cluster.num_decoders
        self.num_encoders = cluster.num_encoders
        self._decoders: list[Any] = []
        self._encoders: list[Any] = []
        self._answerer: Any = None
        self._candidates: list[Any] = []
        self._budget: BudgetOptions | None = None

    def start(self) -> None:
        """Start all actors, in parallel.

        Raises:
            ResourceError: the cluster cannot be reached or has too little of something.
        """
        self._cluster.open()
        self._answerer = self._start_answerer()
        self._encoders = [self._start_encoder(i) for i in range(self.num_encoders)]
        self._decoders = [self._start_decoder(i) for i in range(self.num_decoders)]

    def _start_answerer(self) -> Any:
        return self._cluster.start(0, AnswerActor, self._makers.answer, self._options)

    def _start_encoder(self, number: int) -> Any:
        return self._cluster.start(1 + number, EncodeActor, self._makers.encode, self._options)

    def _start_decoder(self, number: int) -> Any:
        bundle = 1 + self.num_encoders + number
        return self._cluster.start(bundle, DecodeActor, self._makers.decode)

    # What the schedule asks of its fleet.

    def decode(self, decoder: int, segment: Segment) -> ray_cluster.ChunkStream:
        """Start a decoder on a segment."""
        return ray_cluster.ChunkStream(self._decoders[decoder], segment)

    def submit(
        self, encoder: int, chunk: DecodedChunk, prunings: Sequence[PruneOptions]
    ) -> ray_cluster.EncodeTask:
        """Queue a chunk on an encoder."""
        return ray_cluster.EncodeTask(self._encoders[encoder], chunk, prunings)

    def wait(self, work: Sequence[Any]) -> Sequence[Any]:
        """Block until a stream or a task has something to say."""
        return ray_cluster.wait(work)

    def replace_decoder(self, decoder: int) -> None:
        """Put a fresh actor in the place of a dead one."""
        _log.warning("decoder-%d died and is replaced", decoder)
        self._cluster.stop(self._decoders[decoder])
        self._decoders[decoder] = self._start_decoder(decoder)

    def replace_encoder(self, encoder: int) -> None:
        """Put a fresh actor in the place of a dead one."""
        _log.warning("encoder-%d died and is replaced", encoder)
        self._cluster.stop(self._encoders[encoder])
        self._encoders[encoder] = self._start_encoder(encoder)

    # What the pipeline asks of its pool.

    def measure(self, questions: Sequence[str], pts_seconds: Sequence[float]) -> PromptCost:
        """See :meth:`workers.stages.AnswerStage.measure`."""
        cost: PromptCost = self._call_answerer("measure", questions, pts_seconds)
        ray_cluster.submit(self._answerer, "call", "load")  # while the clip is being encoded
        return cost

    def encode(
        self, segments: Sequence[Segment], prunings: Sequence[PruneOptions]
    ) -> Iterator[Progress]:
        """Decode, encode and prune; the candidates stay where they were made."""
        self._candidates, self._budget = [], None
        schedule = Schedule(self, segments, prunings)
        yield from schedule.run()
        self._candidates = schedule.candidates

    def select(self, options: BudgetOptions) -> tuple[FrameSelection, ...]:
        """See :meth:`workers.stages.AnswerStage.select`; references go straight to the actor."""
        selections: tuple[FrameSelection, ...] = self._call_answerer(
            "select", options, *self._candidates
        )
        self._budget = options
        return selections

    def answer(self, question: str, sampling: SamplingOptions) -> Iterator[str | GeneratedAnswer]:
        """See :meth:`workers.stages.AnswerStage.answer`; survives the actor's death.

        A fresh actor gives the same answer again, of which only the part not yet seen is yielded.
        """
        seen = 0
        for _ in range(MAX_DEATHS):
            position = 0
            try:
                for piece in ray_cluster.stream(
                    self._answerer, "stream", "answer", question, sampling
                ):
                    if isinstance(piece, GeneratedAnswer):
                        yield piece
                        return
                    fresh = piece[max(0, seen - position) :]
                    position += len(piece)
                    seen = max(seen, position)
                    if fresh:
                        yield fresh
            except WorkerDiedError:
                self._revive_answerer()
        raise WorkerError(f"the language model died {MAX_DEATHS} times on {question!r}")

    def _call_answerer(self, method: str, *args: Any) -> Any:
        for _ in range(MAX_DEATHS):
            try:
                return ray_cluster.fetch(ray_cluster.submit(self._answerer, "call", method, *args))
            except WorkerDiedError:
                self._revive_answerer()
            except ChunkLostError as error:
                raise WorkerError(f"candidates were lost with their machine: {error}") from None
        raise WorkerError(f"the language model died {MAX_DEATHS} times in {method}")

    def _revive_answerer(self) -> None:
        """Start a fresh language model and, if a clip was selected, feed it the same tokens."""
        _log.warning("the language model's worker died and is replaced")
        self._cluster.stop(self._answerer)
        self._answerer = self._start_answerer()
        ray_cluster.submit(self._answerer, "call", "load")
        if self._budget is not None:
            ray_cluster.submit(self._answerer, "call", "select", self._budget, *self._candidates)

    def usage(self) -> Mapping[str, WorkerUsage]:
        """Return what each actor, by name, has used so far; one that died starts from nothing."""
        calls = {
            **{f"decoder-{i}": (actor, "usage") for i, actor in enumerate(self._decoders)},
            **{f"encoder-{i}": (actor, "usage") for i, actor in enumerate(self._encoders)},
            "language-model": (self._answerer, "call", "usage"),
        }
        references = {name: ray_cluster.submit(*call) for name, call in calls.items()}
        usages = {}
        for name, reference in references.items():
            try:
                usages[name] = ray_cluster.fetch(reference)
            except WorkerDiedError:
                continue
        return usages

    def close(self) -> None:
        """Stop every actor and leave the cluster."""
        self._candidates = []
        self._cluster.close()
