"""The stages as Ray actors. The only file that imports ray.

The driver hands references on and never sees a frame or a feature. Actors are not restarted by
Ray: the driver replaces a dead one itself and does its work again (:mod:`workers.schedule`), since
Ray's own retries repeat a poisonous call for ever or fail innocent ones with it.
"""

import logging
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

# Read when ray is imported: else it prints each worker's death, at length, to stdout.
os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")

import ray
from ray.exceptions import (
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayTaskError,
    WorkerCrashedError,
)
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from workers.actors import AnswerActor, DecodeActor, EncodeActor
from workers.errors import ResourceError, StreamError, WorkerError
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
from workers.placement import ClusterOptions, describe_resources, plan_bundles
from workers.pool import Progress, StageMakers
from workers.schedule import MAX_DEATHS, ChunkLostError, DecodedChunk, Schedule, WorkerDiedError

_log = logging.getLogger(__name__)

_DEATHS = (RayActorError, NodeDiedError, WorkerCrashedError, OutOfMemoryError)
_OBJECTS_AHEAD = 4
"""What a decoder may have ready: two chunks, each with the note that follows it."""
_PLACEMENT_SECONDS = 60.0
_OBJECT_STORE_BYTES = 2 * 1024**3


class _Stream:
    """A decoder's stream of chunks; see :class:`workers.schedule.Stream`."""

    def __init__(self, references: Any, segment: Segment) -> None:
        self.reference = references
        self._segment = segment

    def next(self) -> DecodedChunk | None:
        chunk = next(self.reference, None)
        if chunk is None:
            return None
        note = next(self.reference, None)
        # A failure is one reference without a note, or takes the place of the note.
        frame_indices, warnings = fetch(chunk if note is None else note)
        return DecodedChunk(
            handle=chunk, frame_indices=frame_indices, segment=self._segment, warnings=warnings
        )

    def cancel(self) -> None:
        ray.cancel(self.reference)


class _Task:
    """An encoder's call; see :class:`workers.schedule.Task`."""

    def __init__(self, candidates: Any, done: Any) -> None:
        self.reference = done
        self._candidates = candidates

    def result(self) -> Any:
        fetch(self.reference)
        return self._candidates


def fetch(reference: Any) -> Any:
    """Return a small object, with Ray's errors turned into what the schedule knows.

    Raises:
        WorkerDiedError: the actor that was to make it is gone.
        ChunkLostError: an argument of the call that was to make it is gone.
        StreamError: what the stage raised, or WorkerError for an unforeseen exception.
    """
    try:
        return ray.get(reference)
    except RayActorError as error:
        if getattr(error, "actor_init_failed", False):
            raise WorkerError(f"a worker could not start: {_last_line(error)}") from None
        raise WorkerDiedError(str(error)) from None
    except RayTaskError as error:
        cause = error.cause
        if isinstance(cause, StreamError):
            raise cause from None
        if isinstance(cause, (*_DEATHS, ObjectLostError)):
            raise ChunkLostError(str(cause)) from None
        raise WorkerError(f"a worker failed: {_last_line(error)}") from error
    except ObjectLostError as error:
        raise ChunkLostError(str(error)) from None
    except _DEATHS as error:
        raise WorkerDiedError(str(error)) from None


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


class RayPool:
    """Decode actors, encode actors and one language model actor.

    Args:
        options: of the encode and answer stages.
        cluster: how many actors, and where.
        makers: of the stages.
    """

    def __init__(
        self, options: ModelOptions, cluster: ClusterOptions, makers: StageMakers | None = None
    ) -> None:
        self._options = options
        self._cluster = cluster
        self._makers = makers or StageMakers()
        self.num_decoders = cluster.num_decoders
        self.num_encoders = cluster.num_encoders
        self._group: Any = None
        self._decoders: list[Any] = []
        self._encoders: list[Any] = []
        self._answerer: Any = None
        self._candidates: list[Any] = []
        self._budget: BudgetOptions | None = None

    def start(self) -> None:
        """Connect, reserve every actor's resources at once, and start all actors in parallel.

        Raises:
            ResourceError: the cluster cannot be reached or has too little of something.
        """
        self._connect()
        bundles = plan_bundles(self._cluster, self._options.device, ray.cluster_resources())
        self._group = placement_group(bundles, strategy="PACK")
        if not self._group.wait(_PLACEMENT_SECONDS):
            free = describe_resources([ray.available_resources()])
            raise ResourceError(
                f"the cluster could not place the actors within {_PLACEMENT_SECONDS:.0f} s: they "
                f"need {describe_resources(bundles)}, free are {free}; stop "
                "other work there, or lower --num-decoders or --num-encoders"
            )
        self._bundles = bundles
        self._answerer = self._start_answerer()
        self._encoders = [self._start_encoder(i) for i in range(self.num_encoders)]
        self._decoders = [self._start_decoder(i) for i in range(self.num_decoders)]

    def _connect(self) -> None:
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "CRITICAL"}
        previous = signal.getsignal(signal.SIGTERM)
        if self._cluster.address is None:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            ray.init(
                address="local",
                num_cpus=self.num_decoders + self.num_encoders + 1,
                include_dashboard=False,
                object_store_memory=_OBJECT_STORE_BYTES,
                **quiet,
            )
        else:
            try:
                ray.init(address=self._cluster.address, **quiet)
            except (ConnectionError, RuntimeError, ValueError) as error:
                raise ResourceError(
                    f"no Ray cluster answers at {self._cluster.address!r} ({_last_line(error)}); "
                    "if it uses token authentication, set RAY_AUTH_MODE=token"
                ) from None
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, previous)  # Ray puts in one that prints a stack trace

    def _start(self, actor_class: type, bundle: int, *args: Any) -> Any:
        resources = self._bundles[bundle]
        return (
            ray.remote(actor_class)
            .options(
                num_cpus=resources["CPU"],
                num_gpus=resources.get("GPU", 0),
                max_restarts=0,
                max_task_retries=0,
                scheduling_strategy=PlacementGroupSchedulingStrategy(
                    self._group, placement_group_bundle_index=bundle
                ),
            )
            .remote(*args)
        )

    def _start_answerer(self) -> Any:
        return self._start(AnswerActor, 0, self._makers.answer, self._options)

    def _start_encoder(self, number: int) -> Any:
        return self._start(EncodeActor, 1 + number, self._makers.encode, self._options)

    def _start_decoder(self, number: int) -> Any:
        return self._start(DecodeActor, 1 + self.num_encoders + number, self._makers.decode)

    def replace_decoder(self, decoder: int) -> None:
        """Put a fresh actor in the place of a dead one."""
        _log.warning("decoder-%d died and is replaced", decoder)
        ray.kill(self._decoders[decoder])
        self._decoders[decoder] = self._start_decoder(decoder)

    def replace_encoder(self, encoder: int) -> None:
        """Put a fresh actor in the place of a dead one."""
        _log.warning("encoder-%d died and is replaced", encoder)
        ray.kill(self._encoders[encoder])
        self._encoders[encoder] = self._start_encoder(encoder)

    # What the schedule asks of its fleet.

    def decode(self, decoder: int, segment: Segment) -> _Stream:
        """Start a decoder on a segment."""
        method = self._decoders[decoder].decode.options(
            num_returns="streaming", _generator_backpressure_num_objects=_OBJECTS_AHEAD
        )
        return _Stream(method.remote(segment), segment)

    def submit(self, encoder: int, chunk: DecodedChunk, prune: PruneOptions) -> _Task:
        """Queue a chunk on an encoder."""
        method = self._encoders[encoder].encode.options(num_returns=2)
        return _Task(*method.remote(chunk.handle, chunk.frame_indices, prune))

    def wait(self, work: Sequence[Any]) -> Sequence[Any]:
        """Block until a stream or a task has something to say."""
        by_reference = {id(each.reference): each for each in work}
        ready, _ = ray.wait([each.reference for each in work], fetch_local=False)
        return [by_reference[id(reference)] for reference in ready]

    # What the pipeline asks of its pool.

    def measure(self, questions: Sequence[str], pts_seconds: Sequence[float]) -> PromptCost:
        """See :meth:`workers.stages.AnswerStage.measure`."""
        cost: PromptCost = self._call_answerer("measure", questions, pts_seconds)
        self._answerer.call.remote("load")  # while the clip is decoded and encoded
        return cost

    def encode(self, segments: Sequence[Segment], prune: PruneOptions) -> Iterator[Progress]:
        """Decode, encode and prune; the candidates stay where they were made."""
        self._candidates, self._budget = [], None
        schedule = Schedule(self, segments, prune)
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
            method = self._answerer.stream.options(num_returns="streaming")
            try:
                for reference in method.remote("answer", question, sampling):
                    piece = fetch(reference)
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
                return fetch(self._answerer.call.remote(method, *args))
            except WorkerDiedError:
                self._revive_answerer()
            except ChunkLostError as error:
                raise WorkerError(f"candidates were lost with their machine: {error}") from None
        raise WorkerError(f"the language model died {MAX_DEATHS} times in {method}")

    def _revive_answerer(self) -> None:
        """Start a fresh language model and, if the clip was selected, feed it the same tokens."""
        _log.warning("the language model's worker died and is replaced")
        ray.kill(self._answerer)
        self._answerer = self._start_answerer()
        self._answerer.call.remote("load")
        if self._budget is not None:
            self._answerer.call.remote("select", self._budget, *self._candidates)

    def usage(self) -> Mapping[str, WorkerUsage]:
        """Return what each actor, by name, has used so far; one that died starts from nothing."""
        calls = {f"decoder-{i}": a.usage.remote() for i, a in enumerate(self._decoders)}
        calls |= {f"encoder-{i}": a.usage.remote() for i, a in enumerate(self._encoders)}
        calls["language-model"] = self._answerer.call.remote("usage")
        usages = {}
        for name, reference in calls.items():
            try:
                usages[name] = fetch(reference)
            except WorkerDiedError:
                continue
        return usages

    def close(self) -> None:
        """Stop every actor and leave the cluster; a private one ends with it."""
        if not ray.is_initialized():
            return
        self._candidates = []
        if self._cluster.address is not None and self._group is not None:
            remove_placement_group(self._group)  # kills the actors placed in it
        ray.shutdown()
