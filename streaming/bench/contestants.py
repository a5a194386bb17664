"""What takes part in a bench: this project, method by method, and what it is up against."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from streaming.bench.trial import System
from streaming.flags import change
from streaming.options import Options
from streaming.sample import check_run

TRANSFORMERS, FEWER_FRAMES = "transformers", "fewer-frames"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """One row of every frame count; ``make`` starts it, in a process of its own."""

    system: str
    method: str
    executor: str
    make: Callable[[], System]

    @property
    def name(self) -> str:
        """What plots and messages call it."""
        return f"{self.system}, {self.method}, {self.executor}"


def contestants(
    options: Options,
    *,
    pruners: Sequence[str],
    executors: Sequence[str],
    baselines: Sequence[str],
) -> list[Contestant]:
    """Return who takes part, this project first.

    Args:
        options: what holds for all of them.
        pruners: methods of this project.
        executors: ``local`` and ``ray``, each with every method.
        baselines: of ``command.BASELINES``; contestants are transformers' own ``generate`` on all
            tokens, and the frames whose tokens fit the budget unpruned.

    Raises:
        ModelError: the model cannot be found or used.
        InputError: one of them could not be asked with these options.
    """
    taking_part = [
        _engine(options, pruner, executor) for executor in executors for pruner in pruners
    ]
    if FEWER_FRAMES in baselines:
        taking_part.append(_engine(options, "none", executors[0], fill_budget=True))
    if TRANSFORMERS in baselines:
        make = partial(_transformers, options)
        taking_part.append(
            Contestant(system=TRANSFORMERS, method="none", executor="local", make=make)
        )
    return taking_part


def _engine(
    options: Options, pruner: str, executor: str, *, fill_budget: bool = False
) -> Contestant:
    changes: dict[str, object] = {"executor": executor}
    if not fill_budget:
        changes["pruner"] = pruner
    if pruner == "none" and not fill_budget:
        changes |= {"budget": None, "keep_ratio": None}
    own = change(options, changes, source="")
    check_run(own)
    return Contestant(
        system=FEWER_FRAMES if fill_budget else "mr-stream",
        method=pruner,
        executor=executor,
        make=partial(_open, own, fill_budget=fill_budget),
    )


def _open(options: Options, *, fill_budget: bool) -> System:
    from streaming.bench.engine_system import EngineSystem

    return EngineSystem(options, fill_budget=fill_budget)


def _transformers(options: Options) -> System:
    from streaming.bench.transformers_system import TransformersSystem

    return TransformersSystem(options)
