"""The groups of options that say what is looked at, what is kept of it and what is stored.

Each field carries its help and its range; :mod:`streaming.flags` makes the command line of them.
"""

from dataclasses import dataclass
from typing import Literal

from pruner import METHODS, Settings
from pruner.plugins import PluginError
from pruner.settings import LEAST_TEMPERATURE, MOST_TEMPERATURE
from streaming.ranges import Flag, check_group, group, option
from workers.errors import InputError

RIVALS = (("num_frames", "fps"), ("budget", "keep_ratio"))
"""Two ways to say one thing: of each pair at most one is given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameOptions:
    """Which frames of a clip are looked at, and how they are read."""

    num_frames: int | None = option(
        None, "frames spread evenly over the clip (default: 32)", least=1, most=1_000_000
    )
    fps: float | None = option(
        None, "frames per second of video, instead of --num-frames", above=0, most=100_000
    )
    start: float | None = option(None, "seconds into the clip at which to begin")
    end: float | None = option(None, "seconds into the clip at which to stop")
    precision: Literal["exact", "keyframe"] = option(
        "exact",
        "exact: the frames shown at the sampled times; keyframe: the keyframes at or before them, "
        "each once, many times as fast in long clips",
    )
    decoder: Literal["pyav", "decord"] = option("pyav", "video back end")
    resize: Literal["exact", "fast"] = option(
        "exact", "exact: as transformers resizes, bit for bit; fast: quicker, a few levels off"
    )
    high_resolution: Literal["all", "gated", "none"] = option(
        "all",
        "tiles that are encoded beside each frame's low-resolution picture: all, those that differ "
        "from a frame shortly before (at most 15 sampled frames), or none",
    )

    def __post_init__(self) -> None:
        """Refuse values no run can work with."""
        check_group(self, rivals=RIVALS)


@dataclass(frozen=True, slots=True, kw_only=True)
class PruningOptions:
    """Which tokens of a frame are kept first."""

    pruner: str = option("mr_pruner", "which tokens to keep", choices=tuple(METHODS))
    newlines: Literal["row", "last"] = option(
        "row", "when a frame keeps newline tokens: with the first token of their row, or last"
    )
    settings: Settings = group(
        Settings,
        "of the token graph",
        similarity=Flag(
            name="pruner_similarity", help="cosine from which two tokens are neighbours",
            above=0, most=1,
        ),
        cross_similarity=Flag(
            name="pruner_cross_similarity", help="the same between the resolutions", above=0, most=1
        ),
        temperature=Flag(
            name="pruner_temperature", help="softmax temperature of the token graph",
            least=LEAST_TEMPERATURE, most=MOST_TEMPERATURE,
        ),
        beta=Flag(
            name="pruner_beta", help="weight of the cross-resolution term", least=0, most=1000
        ),
        cross_resolution=Flag(help="let base tokens stand in for pruned grid tokens"),
        half_precision_degree=Flag(
            name="pruner_half_precision_degree",
            help="count neighbours as the published half-precision run did",
        ),
    )  # fmt: skip
    pruner_steps: int | None = option(
        None,
        "propagation steps on the token graph, at most 100 (default: 1, for gprune 5)",
        least=0,
        most=100,
    )
    fastv_layer: int = option(
        2,
        "layers of the language model before FastV or --question-aware prunes",
        least=1,
        most=1000,
    )

    def __post_init__(self) -> None:
        """Refuse values no run can work with, a broken method of another distribution too."""
        check_group(self, rivals=RIVALS)
        try:
            METHODS.get(self.pruner)
        except PluginError as error:
            raise InputError(f"--pruner {self.pruner}: {error}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetOptions:
    """How many tokens the clip gets, and how they are shared out."""

    budget: int | None = option(
        None,
        "visual tokens for the whole clip (default: what the context leaves, at most 4096)",
        least=1,
        most=10_000_000,
    )
    keep_ratio: float | None = option(
        None, "fraction of the visual tokens, instead of --budget", above=0, most=1
    )
    headroom: float = option(
        4.0, "most a frame may get, in equal shares of the budget", least=1, most=1_000_000
    )
    shares: Literal["equal", "informative"] = option(
        "equal", "of frames in the budget before novelty: equal, or by mean feature norm"
    )
    novelty: bool = option(True, "weigh frames by what they add to those before")
    question_aware: bool = option(
        False,
        "let --headroom budgets of tokens into the language model's first layers (--fastv-layer) "
        "and keep one budget of them there, chosen anew for each question",
    )
    reserve: float = option(
        0.5,
        "how much what the clip shows counts beside what the question looks at, with "
        "--question-aware",
        least=0,
        most=1,
    )
    attention: Literal["auto", "plain", "proportional"] = option(
        "auto",
        "of the language model to kept tokens: each weighs as one, or as many as it stands for "
        "(auto: proportional with coverage and --question-aware, where the model can)",
    )
    timestamps: bool = option(False, "put each frame's time before it, paid from the budget")
    position_ids: Literal["auto", "original", "compact"] = option(
        "auto",
        "of kept tokens in the model: their place in the unpruned sequence, or without gaps (auto: "
        "original where that fits the context)",
    )

    def __post_init__(self) -> None:
        """Refuse values no run can work with."""
        check_group(self, rivals=RIVALS)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreOptions:
    """Where the ranked tokens of clips are kept for later questions."""

    bank: str | None = option(
        None, "folder that keeps each clip's ranked tokens: a later question does not encode again"
    )
    bank_gib: float = option(
        20.0, "most that --bank holds, in GiB; the least recently used go", above=0, most=1_000_000
    )

    def __post_init__(self) -> None:
        """Refuse values no run can work with."""
        check_group(self, rivals=RIVALS)
