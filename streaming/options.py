"""The options of a run, nested by what they configure.

Names are unique over all groups, so that a flag ``--num-frames`` and a key ``num_frames`` in a YAML
file need no prefix. Each field carries its help and its range; :mod:`streaming.flags` makes the
command line of them.
"""

from dataclasses import dataclass

from pruner import METHODS
from pruner.settings import LEAST_TEMPERATURE
from streaming.option_groups import (
    RIVALS,
    BudgetOptions,
    FrameOptions,
    PruningOptions,
    StoreOptions,
)
from streaming.ranges import Flag, check_group, group
from streaming.run_options import RunOptions
from workers.errors import InputError
from workers.llm.answer import SamplingOptions
from workers.llm.backends import backend_of
from workers.llm.json_schema import read_schema
from workers.process import ModelOptions


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
        if 0 < self.generation.temperature < LEAST_TEMPERATURE:
            raise InputError(
                f"--temperature {self.generation.temperature:g}: must be 0, or at least "
                f"{LEAST_TEMPERATURE:g}"
            )
        if self.generation.json_schema is not None:
            read_schema(self.generation.json_schema)
        _check_backend(self)
        if self.pruning.pruner == "none" and (self.budget.budget or self.budget.keep_ratio):
            raise InputError("--pruner none keeps every token: leave out --budget and --keep-ratio")
        method = METHODS[self.pruning.pruner]
        if self.budget.question_aware and method.scope != "frame":
            names = ", ".join(name for name, each in METHODS.items() if each.scope == "frame")
            does = "chooses among rankings itself" if method.ranks else "ranks nothing"
            raise InputError(
                f"--question-aware chooses among what a ranking puts first, and --pruner "
                f"{self.pruning.pruner} {does}: choose one of {names}"
            )

    @property
    def is_proportional(self) -> bool:
        """Whether kept tokens weigh as many as they stand for."""
        if self.budget.attention != "auto":
            return self.budget.attention == "proportional"
        stands_for = METHODS[self.pruning.pruner].scope == "bank" or self.budget.question_aware
        return stands_for and backend_of(self.model).token_sizes


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
