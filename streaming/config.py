"""The options of a run: one dataclass, filled from a YAML file and then from flags."""

import argparse
import dataclasses
import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import yaml

from workers.errors import InputError

PRUNERS = (
    "none", "uniform", "random", "tome", "fastv", "gprune", "mr_pruner", "evs", "vidcom2",
)  # fmt: skip


def _option(default: Any, text: str, **settings: Any) -> Any:
    return dataclasses.field(default=default, metadata={"help": text, **settings})


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Every option of ``streaming.ask``; a flag ``--num-frames`` is the key ``num_frames``."""

    model: str = _option(
        "embedded", "'embedded', a checkpoint folder, or namespace/name on the hub"
    )
    num_frames: int | None = _option(None, "frames spread evenly over the clip (default: 32)")
    fps: float | None = _option(None, "frames per second of video, instead of --num-frames")
    start: float | None = _option(None, "seconds into the clip at which to begin")
    end: float | None = _option(None, "seconds into the clip at which to stop")
    decoder: str = _option("pyav", "video back end", choices=("pyav", "decord"))
    budget: int | None = _option(
        None, "visual tokens for the whole clip (default: what the context leaves, at most 4096)"
    )
    keep_ratio: float | None = _option(None, "fraction of the visual tokens, instead of --budget")
    pruner: str = _option("mr_pruner", "which tokens to keep", choices=PRUNERS)
    shares: str = _option(
        "equal",
        "of frames in the budget before novelty: equal, or by mean feature norm",
        choices=("equal", "informative"),
    )
    headroom: float = _option(4.0, "most a frame may get, in equal shares of the budget")
    novelty: bool = _option(True, "weigh frames by what they add to those before")
    time_marks: bool = _option(False, "put each frame's time before it, paid from the budget")
    base_only: bool = _option(False, "see frames at low resolution only, without tiles")
    newlines: str = _option(
        "row",
        "when a frame keeps newline tokens: with the first token of their row, or last of all",
        choices=("row", "last"),
    )
    position_ids: str = _option(
        "auto",
        "of kept tokens in the model: their place in the unpruned sequence, or without gaps (auto: "
        "original where that fits the context)",
        choices=("auto", "original", "compact"),
    )
    pruner_similarity: float = _option(0.5, "cosine from which two tokens are neighbours")
    pruner_cross_similarity: float = _option(0.5, "the same between the resolutions")
    pruner_temperature: float = _option(0.03, "softmax temperature of the token graph")
    pruner_beta: float = _option(0.5, "weight of the cross-resolution term")
    pruner_steps: int | None = _option(
        None, "propagation steps on the token graph (default: 1, for gprune 5)"
    )
    cross_resolution: bool = _option(True, "let base tokens stand in for pruned grid tokens")
    pruner_half_precision_degree: bool = _option(
        False, "count neighbours as the published half-precision run did"
    )
    fastv_layer: int = _option(2, "layers of the language model before FastV prunes")
    max_new_tokens: int = _option(128, "longest answer")
    temperature: float = _option(0.0, "0 answers greedily; above, answers are drawn")
    seed: int = _option(0, "of drawn answers, and of --pruner random")
    device: str = _option("auto", "'auto', 'cpu' or 'cuda'", choices=("auto", "cpu", "cuda"))
    dtype: str = _option(
        "auto",
        "of weights and features (auto: bfloat16 on a GPU, else float32)",
        choices=("auto", "float32", "bfloat16", "float16"),
    )
    executor: str = _option("ray", "where stages run", choices=("ray", "local"))
    num_decoders: int = _option(2, "decode actors")
    num_encoders: int = _option(1, "encode and prune actors")
    address: str | None = _option(None, "of a Ray cluster to join (default: a private local one)")
    frames_per_chunk: int = _option(8, "frames that travel together")

    def __post_init__(self) -> None:
        """Refuse values no run can work with."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise InputError(f"{flag(field.name)} {value:g}: must be a finite number")
        at_least_one = (
            "num_frames",
            "budget",
            "headroom",
            "fastv_layer",
            "max_new_tokens",
            "num_decoders",
            "num_encoders",
            "frames_per_chunk",
        )
        for name in at_least_one:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{flag(name)} {value:g}: must be at least 1")
        if self.keep_ratio is not None and not 0 < self.keep_ratio <= 1:
            raise InputError(f"--keep-ratio {self.keep_ratio:g}: must be above 0 and at most 1")
        for name in ("temperature", "pruner_beta", "pruner_steps", "seed"):
            if (getattr(self, name) or 0) < 0:
                raise InputError(f"{flag(name)} {getattr(self, name):g}: must not be negative")
        for name in ("pruner_temperature", "pruner_similarity", "pruner_cross_similarity"):
            if getattr(self, name) <= 0:
                raise InputError(f"{flag(name)} {getattr(self, name):g}: must be above 0")
        if self.pruner == "none" and (self.budget or self.keep_ratio):
            raise InputError("--pruner none keeps every token: leave out --budget and --keep-ratio")
        for first, second in (("num_frames", "fps"), ("budget", "keep_ratio")):
            if getattr(self, first) is not None and getattr(self, second) is not None:
                raise InputError(f"give {flag(first)} or {flag(second)}, not both")


def flag(name: str) -> str:
    """Return an option's name as it is typed."""
    return "--" + name.replace("_", "-")


def add_flags(parser: argparse.ArgumentParser, *, without: Sequence[str] = ()) -> None:
    """Add one flag for each option but those ``without``, and ``--config`` for a file of them."""
    parser.add_argument("--config", metavar="FILE", help="YAML file of options; flags win over it")
    for field in dataclasses.fields(Options):
        if field.name in without:
            continue
        default = f" (default: {field.default})" if field.default not in (None, False) else ""
        text = field.metadata["help"] + default
        default = " (default)" if field.default is True else default
        if field.type is bool:
            parser.add_argument(
                flag(field.name), action=argparse.BooleanOptionalAction, default=None, help=text
            )
        else:
            parser.add_argument(
                flag(field.name),
                type=_plain_type(field.type),
                choices=field.metadata.get("choices"),
                default=None,
                help=text,
            )


def read_options(arguments: argparse.Namespace) -> Options:
    """Merge the config file and the flags that were given.

    Raises:
        InputError: the file cannot be read, or a key or value in it is not valid.
    """
    values = _read_file(arguments.config) if arguments.config else {}
    for field in dataclasses.fields(Options):
        given = getattr(arguments, field.name, None)
        if given is not None:
            values[field.name] = given
    return Options(**values)


def suggest(name: str, valid: Sequence[str]) -> str:
    """Return a hint at the nearest valid name, or nothing."""
    nearest = difflib.get_close_matches(name, valid, n=1)
    return f"; did you mean {nearest[0]}?" if nearest else ""


def _plain_type(annotation: Any) -> type:
    """Return ``int`` for ``int | None`` and so on."""
    kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
    return kinds[0] if kinds else annotation  # type: ignore[no-any-return]


def _read_file(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            values = yaml.safe_load(file) or {}
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--config {path}: {getattr(error, 'strerror', None) or error}") from None
    except yaml.YAMLError as error:
        raise InputError(
            f"--config {path}: not valid YAML ({' '.join(str(error).split())})"
        ) from None
    if not isinstance(values, Mapping):
        raise InputError(f"--config {path}: must hold 'option: value' lines")
    fields = {field.name: field for field in dataclasses.fields(Options)}
    checked = {}
    for name, value in values.items():
        if name not in fields:
            raise InputError(
                f"--config {path}: unknown option {name!r}{suggest(str(name), list(fields))}"
            )
        checked[name] = check_value(f"--config {path}", fields[name], value)
    return checked


def check_value(source: str, field: Any, value: Any) -> Any:
    """Return a value if it is of the option's kind.

    Raises:
        InputError: it is not; the message begins with ``source``.
    """
    kind = _plain_type(field.type)
    if kind is float and type(value) is int:
        value = float(value)
    optional = value is None and field.default is None
    if not optional and type(value) is not kind:
        raise InputError(f"{source}: {field.name} must be of type {kind.__name__}, not {value!r}")
    choices = field.metadata.get("choices")
    if choices and value not in choices:
        raise InputError(f"{source}: {field.name} {value!r} is none of {', '.join(choices)}")
    return value
