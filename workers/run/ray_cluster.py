"""Actors on a Ray cluster, private or joined. The only file that imports ray.

Ray restarts and retries nothing here: its retries repeat a poisonous call for ever, or fail
innocent ones with it. A dead actor is replaced, and its work done again, by whoever gave the work
(:mod:`workers.run.actor_pool`, :mod:`workers.run.schedule`).
"""

import os
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

# Both are read when ray is imported. It would print each worker's death, at length, to stdout, and
# would not show a cluster that asks for one the token it has itself put there.
os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
if Path.home().joinpath(".ray", "auth_token").exists():
    os.environ.setdefault("RAY_AUTH_MODE", "token")

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

from workers.errors import ResourceError, StreamError, WorkerError
from workers.messages import PruneOptions, Segment
from workers.run.fleet import CHUNKS_AHEAD, ChunkLostError, DecodedChunk, WorkerDiedError
from workers.run.placement import ClusterOptions, describe_resources, plan_bundles

_DEATHS = (RayActorError, NodeDiedError, WorkerCrashedError, OutOfMemoryError)
_OBJECTS_AHEAD = 2 * CHUNKS_AHEAD  # a chunk is its pictures and a note
"""What a decoder may have ready: two chunks, each with the note that follows it."""
_CONNECT_SECONDS = 10.0
_PLACEMENT_SECONDS = 60.0
_OBJECT_STORE_BYTES = 2 * 1024**3


class RayCluster:
    """A connection to Ray with every actor's resources reserved.

    Args:
        options: how many actors, and where.
        device: of the models; decides whether GPUs are reserved.
    """

    def __init__(self, options: ClusterOptions, device: str) -> None:
        self._options = options
        self._device = device
        self._bundles: list[dict[str, float]] = []
        self._group: Any = None

    def open(self) -> None:
        """Connect, or start a private cluster, and reserve all resources at once.

        Raises:
            ResourceError: no cluster answers, or it has too little of something.
        """
        with _held_signals():
            self._connect()
        self._bundles = plan_bundles(self._options, self._device, ray.cluster_resources())
        self._group = placement_group(self._bundles, strategy="PACK")
        if not self._group.wait(_PLACEMENT_SECONDS):
            free = describe_resources([ray.available_resources()])
            raise ResourceError(
                f"the cluster could not place the actors within {_PLACEMENT_SECONDS:.0f} s: they "
                f"need {describe_resources(self._bundles)}, free are {free}; stop other work "
                "there, or lower --num-decoders or --num-encoders"
            )

    def _connect(self) -> None:
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "CRITICAL"}
        address = self._options.address
        if address is None:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            ray.init(
                address="local",
                num_cpus=self._options.num_actors,
                include_dashboard=False,
                object_store_memory=_OBJECT_STORE_BYTES,
                **quiet,
            )
            return
        _check_address(address)
        try:
            ray.init(address=address, **quiet)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ResourceError(
                f"no Ray cluster answers at --address {address} ({_last_line(error)}); if it uses "
                "token authentication, set RAY_AUTH_MODE=token and give its token"
            ) from None

    def start(self, bundle: int, actor_class: type, *args: Any) -> Any:
        """Start an actor on its reserved resources; returns before it is ready."""
        resources = self._bundles[bundle]
        place = PlacementGroupSchedulingStrategy(self._group, placement_group_bundle_index=bundle)
        remote_class: Any = ray.remote(actor_class).options(
            num_cpus=resources["CPU"],
            num_gpus=resources.get("GPU", 0),
            max_restarts=0,
            max_task_retries=0,
            scheduling_strategy=place,
        )
        return remote_class.remote(*args)

    def stop(self, actor: Any) -> None:
        """Make sure that an actor is gone."""
        ray.kill(actor)

    def close(self) -> None:
        """Stop every actor and leave the cluster; a private one ends with it."""
        if ray.is_initialized() and self._options.address and self._group is not None:
            remove_placement_group(self._group)  # kills the actors placed in it
        ray.shutdown()


def _check_address(address: str) -> None:
    """Fail in seconds where nobody listens; Ray itself would try for minutes."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise ResourceError(f"--address {address}: give HOST:PORT of the head node, or auto")
    try:
        socket.create_connection((host, int(port)), _CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ResourceError(f"no Ray cluster answers at --address {address} ({error})") from None


@contextmanager
def _held_signals() -> Iterator[None]:
    """Deliver an interrupt after the block: half a cluster could not be stopped.

    Also puts back the handler of SIGTERM, which Ray replaces by one of its own that exits.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []

    def hold(number: int, frame: FrameType | None) -> None:
        held.append(number)

    previous = {each: signal.signal(each, hold) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except SystemExit:  # of Ray's handler
        held.append(signal.SIGTERM)
    finally:
        for each, handler in previous.items():
            signal.signal(each, handler)
        if held:
            signal.raise_signal(held[0])


class ChunkStream:
    """A decoder at work; see :class:`workers.run.fleet.Stream`."""

    def __init__(self, actor: Any, segment: Segment) -> None:
        self._segment = segment
        self.reference = actor.decode.options(
            num_returns="streaming", _generator_backpressure_num_objects=_OBJECTS_AHEAD
        ).remote(segment)

    def next(self) -> DecodedChunk | None:
        """Return a handle on the next chunk, without fetching it; None at the end."""
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
        """Stop the decoder; dropping the stream would only lift its back-pressure."""
        ray.cancel(self.reference)


class EncodeTask:
    """An encoder at work; see :class:`workers.run.fleet.Task`."""

    def __init__(self, actor: Any, chunk: DecodedChunk, prunings: Sequence[PruneOptions]) -> None:
        self._candidates, self.reference = actor.encode.options(num_returns=2).remote(
            chunk.handle, chunk.frame_indices, prunings
        )

    def result(self) -> Any:
        """Return a reference to the candidates once they are made."""
        fetch(self.reference)
        return self._candidates


def wait(work: Sequence[ChunkStream | EncodeTask]) -> Sequence[ChunkStream | EncodeTask]:
    """Block until some of the work has something to say, and return that."""
    by_reference = {id(each.reference): each for each in work}
    ready, _ = ray.wait([each.reference for each in work], fetch_local=False)
    return [by_reference[id(reference)] for reference in ready]


def submit(actor: Any, method: str, *args: Any) -> Any:
    """Call an actor's method; returns a reference to its value."""
    return getattr(actor, method).remote(*args)


def stream(actor: Any, method: str, *args: Any) -> Iterator[Any]:
    """Call an actor's generator method and yield what it yields; raises as :func:`fetch` does."""
    for reference in getattr(actor, method).options(num_returns="streaming").remote(*args):
        yield fetch(reference)


def fetch(reference: Any) -> Any:
    """Return the value of a reference, with Ray's errors turned into what recovery goes by.

    Raises:
        WorkerDiedError: the actor that was to make it is gone.
        ChunkLostError: an argument of the call that was to make it is gone.
        StreamError: what the stage raised, or WorkerError for an unforeseen exception.
    """
    try:
        return ray.get(reference)
    except RayTaskError as error:
        cause = error.cause
        if isinstance(cause, StreamError):
            raise cause from None
        if isinstance(cause, (*_DEATHS, ObjectLostError)):
            raise ChunkLostError(_last_line(cause)) from None
        raise WorkerError(f"a worker failed: {_last_line(error)}") from error
    except ObjectLostError as error:
        raise ChunkLostError(_last_line(error)) from None
    except _DEATHS as error:
        if getattr(error, "actor_init_failed", False):
            raise WorkerError(f"a worker could not start: {_last_line(error)}") from None
        raise WorkerDiedError(_last_line(error)) from None


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
