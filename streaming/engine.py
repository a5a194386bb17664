"""Starting the workers that the options ask for, in this process or on Ray."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from streaming.options import Options
from workers.llm.answer import MOST_TOGETHER
from workers.process import prepare_process
from workers.run.engine import Engine
from workers.run.worker import Worker
from workers.stages import EncodeStage, GenerateStage, ReadStage, Stage

Stages = Mapping[str, Callable[[], Stage]]
"""How the stage of each kind of worker is made."""

_AT_ONCE = {"decoder": 1, "encoder": 1, "llm": MOST_TOGETHER}
"""Requests that a worker of each kind answers at the same time."""


@contextmanager
def open_engine(
    options: Options, stages: Stages | None = None, *, lazy_vision: bool | None = None
) -> Iterator[Engine]:
    """Start the workers that the options ask for, and stop them whatever happens.

    Args:
        options: of the run.
        stages: other stages than the usual ones.
        lazy_vision: load the vision tower with the first frames that need it, by default where
            there is a bank.
    """
    prepare_process()
    model = replace(options.model, num_threads=_num_threads(options))
    if lazy_vision is None:
        lazy_vision = options.store.bank is not None
    stages = stages or {
        "decoder": ReadStage,
        "encoder": partial(EncodeStage, model, lazy=lazy_vision),
        "llm": partial(GenerateStage, model),
    }
    on_ray = options.run.resolved_executor == "ray"
    engine = _on_ray(options, stages) if on_ray else _local(options, stages)
    try:
        engine.start()
        yield engine
    finally:
        engine.close()


def _numbers(options: Options) -> dict[str, int]:
    run = options.run
    return {"llm": run.num_llms, "encoder": run.num_encoders, "decoder": run.num_decoders}


def _local(options: Options, stages: Stages) -> Engine:
    from workers.run.local import LocalWorker

    workers = {
        kind: [
            LocalWorker(f"{kind}-{i}", stages[kind], slots=_AT_ONCE[kind]) for i in range(number)
        ]
        for kind, number in _numbers(options).items()
    }
    # What is made first is what the frames wait for.
    return Engine({kind: workers[kind] for kind in ("decoder", "encoder", "llm")})


def _on_ray(options: Options, stages: Stages) -> Engine:
    from workers.run.on_ray import RayCluster, RayWorker
    from workers.run.placement import ClusterOptions

    run = options.run
    cluster = RayCluster(
        ClusterOptions(
            num_decoders=run.num_decoders,
            num_encoders=run.num_encoders,
            num_llms=run.num_llms,
            address=run.address,
        ),
        options.model.device,
    )
    try:
        cluster.open()
    except BaseException:
        cluster.close()
        raise
    stall_seconds = {"decoder": run.decode_seconds or run.stall_seconds}
    memory_bytes = {} if run.decoder_gib is None else {"decoder": int(run.decoder_gib * 2**30)}
    names = [(kind, i) for kind, number in _numbers(options).items() for i in range(number)]
    workers: dict[str, list[Worker]] = {kind: [] for kind in ("decoder", "encoder", "llm")}
    for bundle, (kind, i) in enumerate(names):
        workers[kind].append(
            RayWorker(
                f"{kind}-{i}",
                cluster,
                bundle,
                stages[kind],
                slots=2 if kind == "encoder" else _AT_ONCE[kind],
                at_once=_AT_ONCE[kind],
                stall_seconds=stall_seconds.get(kind, run.stall_seconds),
                memory_bytes=memory_bytes.get(kind),
            )
        )
    return Engine(workers, cluster.close, cluster.meter())


def _num_threads(options: Options) -> int:
    """Share this machine's cores among the encoders; a cluster's actors keep to their one CPU."""
    if options.run.resolved_executor == "local" or options.run.address is not None:
        return 0
    return max(1, (os.cpu_count() or 1) // options.run.num_encoders)
