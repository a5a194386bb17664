"""The options of a run, nested by what they configure.

Names are unique over all groups, so that a flag ``--num-frames`` and a key ``num_frames`` in a YAML
file need no prefix. Each field carries its help and its range; :mod:`streaming.flags` makes the
command line of them.
"""

from dataclasses import dataclass
from typing import Literal

from pruner import METHODS, Settings
from pruner.plugins import PluginError
from streaming.ranges import Flag, check_group, group, option
from streaming.run_options import RunOptions
from workers.errors import InputError
from workers.llm.answer import SamplingOptions
from workers.llm.backends import backend_of
from workers.llm.json_schema import read_schema
from workers.process import ModelOptions

RIVALS = (("num_frames", "fps"), ("budget", "keep_ratio"))
"""Two ways to say one thing: of each pair at most one is given."""

_LEAST_TEMPERATURE = 0.001
"""Below it logits and cosines divided by the temperature leave float16, at last float32."""


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
            least=_LEAST_TEMPERATURE, most=100,
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
        0.3, "part of the budget kept whatever is asked, with --question-aware", least=0, most=1
    )
    attention: Literal["auto", "plain", "proportional"] = option(
        "auto",
        "of the language model to kept tokens: each weighs as one, or as many as it stands for "
        "(auto: proportional with coverage, where the model can)",
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Every option of ``streaming.ask``."""

    model: ModelOptions = group(
        ModelOptions,
        "which checkpoint answers, and how it is loaded",
        model=Flag(help="'embedded', a checkpoint folder, or namespace/name on the hub"),
        device=Flag(help="of the models", choices=("auto", "cpu", "cuda")),
        dtype=Flag(
            help="of weights and features (auto: bfloat16 on a GPU, else float32; on a CPU with "
            "amx_bf16 bfloat16 takes a third of the time, but other numbers of threads give other "
            "bits, and on other CPUs it takes longer)",
            choices=("auto", "float32", "bfloat16", "float16"),
        ),
        cache_tokens=Flag(
            help="tokens of prompts that a language model keeps computed for later questions",
            least=1,
            most=100_000_000,
        ),
        llm_weights=Flag(
            help="of the language model: in its dtype, or as int8, in half of bfloat16's memory "
            "(needs the extra quantize)",
            choices=("dtype", "int8"),
        ),
        llm_server=Flag(
            help="URL of a vLLM server (--enable-prompt-embeds) that holds the checkpoint's "
            "language half, instead of loading it here"
        ),
        llm_key_file=Flag(help="file with the key that --llm-server asks for"),
    )
    frames: FrameOptions = group(FrameOptions, "which frames are looked at, and how they are read")
    pruning: PruningOptions = group(PruningOptions, "which tokens of a frame are kept first")
    budget: BudgetOptions = group(BudgetOptions, "how many tokens, and how they are shared out")
    generation: SamplingOptions = group(
        SamplingOptions,
        "how an answer is chosen",
        max_new_tokens=Flag(help="longest answer", least=1, most=1_000_000),
        temperature=Flag(
            help="0 answers greedily; from 0.001 on, answers are drawn", least=0, most=100
        ),
        seed=Flag(help="of drawn answers, and of --pruner random", least=0, most=2**63 - 1),
        json_schema=Flag(
            help="text of a JSON schema that answers follow, as far as --max-new-tokens lets them "
            "(needs the extra schemas)"
        ),
    )
    store: StoreOptions = group(StoreOptions, "what is kept of a clip for later questions")
    run: RunOptions = group(RunOptions, "where the stages run, and how many of each")

    def __post_init__(self) -> None:
        """Refuse values no run can work with.

        Raises:
            InputError: names the flag, also for the groups that cannot check themselves.
        """
        check_group(self, rivals=RIVALS)
        if 0 < self.generation.temperature < _LEAST_TEMPERATURE:
            raise InputError(
                f"--temperature {self.generation.temperature:g}: must be 0, or at least "
                f"{_LEAST_TEMPERATURE:g}"
            )
        if self.generation.json_schema is not None:
            read_schema(self.generation.json_schema)
        _check_backend(self)
        if self.pruning.pruner == "none" and (self.budget.budget or self.budget.keep_ratio):
            raise InputError("--pruner none keeps every token: leave out --budget and --keep-ratio")
        if self.budget.question_aware and METHODS[self.pruning.pruner].scope != "frame":
            names = ", ".join(name for name, each in METHODS.items() if each.scope == "frame")
            raise InputError(
                f"--question-aware chooses among what a ranking puts first, and --pruner "
                f"{self.pruning.pruner} ranks nothing: choose one of {names}"
            )

    @property
    def is_proportional(self) -> bool:
        """Whether kept tokens weigh as many as they stand for."""
        if self.budget.attention != "auto":
            return self.budget.attention == "proportional"
        return METHODS[self.pruning.pruner].scope == "bank" and backend_of(self.model).token_sizes


def _check_backend(options: Options) -> None:
    """Refuse what the language model behind the options cannot do."""
    backend = backend_of(options.model)
    pruner = options.pruning.pruner
    aware = options.budget.question_aware
    if (METHODS[pruner].scope == "model" or aware) and not backend.layer_pruning:
        name = "--question-aware" if aware else f"--pruner {pruner}"
        raise InputError(
            f"{name} leaves tokens out between two layers, which {backend.option} "
            "cannot: leave out one of the two"
        )
    if options.budget.attention == "proportional" and not backend.token_sizes:
        raise InputError(
            f"--attention proportional: {backend.option} attends to each token as to one: leave it "
            "out"
        )
    if options.budget.position_ids == "original" and not backend.positions:
        raise InputError(
            f"--position-ids original: {backend.option} numbers tokens without gaps: leave it out"
        )
    if options.model.llm_server is None and options.model.llm_key_file is not None:
        raise InputError("--llm-key-file is that of --llm-server: give both, or none")
    if options.model.llm_server is not None and options.model.llm_weights != "dtype":
        raise InputError("--llm-weights: --llm-server holds the weights: leave out one of the two")
