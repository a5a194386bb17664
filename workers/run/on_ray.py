"""Workers that are actors on a Ray cluster, private or joined. The only file that imports ray.

Ray restarts and retries nothing here: its retries repeat a poisonous call for ever, or fail
innocent ones with it. A dead actor is replaced, and its work done again, by the engine.
"""

import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import (
    GetTimeoutError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayTaskError,
    WorkerCrashedError,
)
from ray.util.metrics import Counter, Gauge
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from workers.errors import ResourceError, StreamError, WorkerError
from workers.messages import Note
from workers.run.actor import StageActor
from workers.run.joining import check_address, check_machine, held_signals, settle_token
from workers.run.meter import ClientMeter, Meter
from workers.run.placement import ClusterOptions, describe_resources, plan_bundles
from workers.run.worker import (
    CHUNKS_AHEAD,
    InputLostError,
    Results,
    WorkerDiedError,
    WorkerHungError,
)
from workers.stages import Stage

_DEATHS = (RayActorError, NodeDiedError, WorkerCrashedError, OutOfMemoryError)
_RESULTS_AHEAD = 2 * CHUNKS_AHEAD
"""Objects that a stream may have ready: of each result the output and the note that follows it."""
_PLACEMENT_SECONDS = 60.0
_START_SECONDS = 1800.0
"""What an actor may take to be ready: it may have to fetch a model."""
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
        with held_signals():
            self._connect()
        self._bundles = plan_bundles(self._options, self._device, ray.cluster_resources())
        self._group = placement_group(self._bundles, strategy="PACK")
        if not self._group.wait(_PLACEMENT_SECONDS):
            free = describe_resources([ray.available_resources()])
            raise ResourceError(
                f"the cluster could not place the actors within {_PLACEMENT_SECONDS:.0f} s: they "
                f"need {describe_resources(self._bundles)}, free are {free}; stop other work "
                "there, or lower --num-decoders, --num-encoders or --num-llms"
            )

    def _connect(self) -> None:
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "CRITICAL"}
        address = self._options.address
        if address is None:
            self._start_private(quiet)
            return
        check_address(address)
        try:
            ray.init(address=address, **quiet)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ResourceError(
                f"no Ray cluster answers at --address {address} ({_last_line(error)}); if it uses "
                "token authentication, set RAY_AUTH_MODE=token and give its token"
            ) from None

    def _start_private(self, quiet: dict[str, Any]) -> None:
        check_machine(self._options.num_actors)
        settle_token()
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            ray.init(
                address="local",
                num_cpus=self._options.num_actors,
                include_dashboard=False,
                object_store_memory=_OBJECT_STORE_BYTES,
                **quiet,
            )
        except Exception as error:  # Ray's own are bare ones here
            raise ResourceError(
                f"no Ray cluster could be started here ({_last_line(error)}); give --executor local"
            ) from error

    def start(
        self, bundle: int, make: Callable[[], Stage], memory_bytes: int | None, at_once: int
    ) -> Any:
        """Start an actor on its reserved resources; returns before it is ready."""
        resources = self._bundles[bundle]
        place = PlacementGroupSchedulingStrategy(self._group, placement_group_bundle_index=bundle)
        remote_class: Any = ray.remote(StageActor).options(
            num_cpus=resources["CPU"],
            num_gpus=resources.get("GPU", 0),
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=at_once,
            scheduling_strategy=place,
        )
        return remote_class.remote(make, memory_bytes)

    def meter(self) -> Meter:
        """Return a meter whose readings the nodes serve to Prometheus, as ``ray_*``."""
        return ClientMeter(Counter, Gauge)

    def close(self) -> None:
        """Stop every actor and leave the cluster; a private one ends with it."""
        if ray.is_initialized() and self._options.address and self._group is not None:
            remove_placement_group(self._group)  # kills the actors placed in it
        ray.shutdown()


class RayWorker:
    """A stage in an actor of its own; see :class:`workers.run.worker.Worker`.

    Args:
        name: of the worker.
        cluster: open.
        bundle: number of its reserved resources.
        make: makes its stage, in the actor.
        slots: requests that the actor is given, so that it never waits for the next.
        at_once: requests that it answers at the same time.
        stall_seconds: an actor from which nothing has come for so long counts as dead.
        memory_bytes: of its own that the actor may hold, None for any.
    """

    def __init__(
        self,
        name: str,
        cluster: RayCluster,
        bundle: int,
        make: Callable[[], Stage],
        *,
        slots: int,
        at_once: int = 1,
        stall_seconds: float,
        memory_bytes: int | None = None,
    ) -> None:
        self.name = name
        self.slots = slots
        self._cluster = cluster
        self._bundle = bundle
        self._make = make
        self._stall_seconds = stall_seconds
        self._ready = threading.Event()
        self._last_result = 0.0
        self._memory_bytes = memory_bytes
        self._at_once = at_once
        self._actor = self._start()

    def start(self) -> None:
        """Wait until the actor has made its stage."""
        if not self._ready.is_set():
            fetch(self._actor.make.remote(), timeout_seconds=_START_SECONDS)
            self._ready.set()

    def call(self, request: Any, inputs: Sequence[Any]) -> Results:
        """Stream the actor's results; an output stays where it is, its reference is handed on.

        ``transfer`` of the first one's seconds is what it took beyond the stage's own: handing
        request and inputs over, and the result back.
        """
        begin = time.perf_counter()
        results = self._actor.run.options(
            num_returns="streaming", _generator_backpressure_num_objects=_RESULTS_AHEAD
        ).remote(request, *inputs)
        try:
            while (output := self._next(results)) is not None:
                note = self._next(results)
                # A failure is one reference without a note, or takes the place of the note.
                told = fetch(output if note is None else note, timeout_seconds=self._stall_seconds)
                yield output, self._with_transfer(told, begin)
                begin = math.inf
        except GeneratorExit:  # dropping the stream would only lift its back-pressure
            ray.cancel(results)
            raise

    def _with_transfer(self, note: Note, begin: float) -> Note:
        """Add what passed since the call, or since the actor's last result that it waited for."""
        now, before = time.perf_counter(), max(begin, self._last_result)
        self._last_result = now
        if not note.seconds or before > now:
            return note
        beyond = max(0.0, now - before - note.busy_seconds)
        return replace(note, seconds={**note.seconds, "transfer": beyond})

    def _next(self, results: Any) -> Any:
        ready, _ = ray.wait([results], timeout=self._stall_seconds, fetch_local=False)
        if not ready:
            raise WorkerHungError(
                f"{self.name} has not been heard of for {self._stall_seconds:g} s"
            )
        return next(results, None)

    def replace(self) -> None:
        """Make sure that the actor is gone, and start another in its place."""
        self._ready.clear()
        self.stop()
        self._actor = self._start()

    def _start(self) -> Any:
        return self._cluster.start(self._bundle, self._make, self._memory_bytes, self._at_once)

    def stop(self) -> None:
        """Kill the actor."""
        ray.kill(self._actor)


def fetch(reference: Any, *, timeout_seconds: float) -> Any:
    """Return the value of a reference, with Ray's errors turned into what recovery goes by.

    Raises:
        WorkerDiedError: the actor that was to make it is gone, has gone over its memory limit, or
            the time is over.
        InputLostError: an argument of the call that was to make it is gone.
        StreamError: what the stage raised, or WorkerError for an unforeseen exception.
    """
    try:
        return ray.get(reference, timeout=timeout_seconds)
    except GetTimeoutError as error:
        raise WorkerHungError(_last_line(error)) from None
    except RayTaskError as error:
        cause = error.cause
        if isinstance(cause, StreamError | WorkerDiedError):
            raise cause from None
        if isinstance(cause, (*_DEATHS, ObjectLostError)):
            raise InputLostError(_last_line(cause)) from None
        raise WorkerError(f"a worker failed: {_last_line(error)}") from error
    except ObjectLostError as error:
        raise InputLostError(_last_line(error)) from None
    except _DEATHS as error:
        if getattr(error, "actor_init_failed", False):
            raise WorkerError(f"a worker could not start: {_last_line(error)}") from None
        raise WorkerDiedError(_last_line(error)) from None


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
