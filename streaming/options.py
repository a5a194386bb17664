"""The options of a run, nested by what they configure.

Names are unique over all groups, so that a flag ``--num-frames`` and a key ``num_frames`` in a YAML
file need no prefix.
"""

from dataclasses import dataclass, field

from pruner import Settings
from workers.messages import ModelOptions, SamplingOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameOptions:
    """Which frames of a clip are looked at, and how they are read."""

    num_frames: int | None = None
    fps: float | None = None
    start: float | None = None
    end: float | None = None
    decoder: str = "pyav"
    resize: str = "exact"
    base_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PruningOptions:
    """Which tokens of a frame are kept first."""

    pruner: str = "mr_pruner"
    newlines: str = "row"
    settings: Settings = field(default_factory=Settings)
    pruner_steps: int | None = None
    fastv_layer: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetOptions:
    """How many tokens the clip gets, and how they are shared out."""

    budget: int | None = None
    keep_ratio: float | None = None
    headroom: float = 4.0
    novelty: bool = True
    timestamps: bool = False
    position_ids: str = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """Where the stages run, how many of each there are, and what bounds their queues."""

    executor: str = "local"
    num_decoders: int = 2
    num_encoders: int = 1
    num_llms: int = 1
    address: str | None = None
    frames_per_chunk: int = 8
    clips_in_flight: int = 4
    stall_seconds: float = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Every option of ``streaming.ask``."""

    model: ModelOptions = field(default_factory=ModelOptions)
    frames: FrameOptions = field(default_factory=FrameOptions)
    pruning: PruningOptions = field(default_factory=PruningOptions)
    budget: BudgetOptions = field(default_factory=BudgetOptions)
    generation: SamplingOptions = field(default_factory=SamplingOptions)
    run: RunOptions = field(default_factory=RunOptions)
