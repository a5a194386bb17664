import argparse
import dataclasses
import re
from pathlib import Path
from typing import Any, Protocol

import pytest

from pruner import METHODS
from pruner.settings import Settings
from streaming.command import Parser
from streaming.flags import add_options, change, flat, merge_options, places, read_options
from streaming.option_groups import BudgetOptions, FrameOptions, PruningOptions
from streaming.options import Options
from streaming.ranges import flag
from streaming.run_options import RunOptions
from streaming.serve.options import ServerOptions
from workers.errors import InputError
from workers.llm.answer import SamplingOptions
from workers.process import ModelOptions

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("**/*.y*ml"))


class Write(Protocol):
    def __call__(self, text: str) -> str: ...


def new_parser(*without: str) -> Parser:
    parser = Parser(allow_abbrev=False)
    add_options(parser, without=without)
    return parser


def read(*arguments: str) -> Options:
    return read_options(new_parser().parse_args(arguments))


def changed(**values: object) -> Options:
    return change(Options(), values, source="")


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(text: str) -> str:
        path = tmp_path / "run.yaml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write_file


def test_nothing_given_is_the_default() -> None:
    assert read() == Options()


def test_each_flag_reaches_its_group() -> None:
    options = read(
        "--model", "m", "--num-frames", "9", "--pruner", "gprune", "--budget", "7",
        "--temperature", "0.5", "--pruner-temperature", "0.25", "--num-decoders", "3",
    )  # fmt: skip
    assert options == Options(
        model=ModelOptions(model="m"),
        frames=FrameOptions(num_frames=9),
        pruning=PruningOptions(pruner="gprune", settings=Settings(temperature=0.25)),
        budget=BudgetOptions(budget=7),
        generation=SamplingOptions(temperature=0.5),
        run=RunOptions(num_decoders=3),
    )


def test_every_field_is_an_option_but_two() -> None:
    def leaves(group: Any) -> int:
        values = [getattr(group, each.name) for each in dataclasses.fields(group)]
        return sum(leaves(value) if dataclasses.is_dataclass(value) else 1 for value in values)

    # The threads of a worker are the placement's to settle, the steps of the graph --pruner-steps'.
    assert len(places()) == leaves(Options()) - 2
    assert not {"num_threads", "num_steps", "settings"} & places().keys()


@pytest.mark.parametrize("name", list(flat(Options())))
def test_the_help_tells_each_option_its_default_and_its_choices(name: str) -> None:
    place = places()[name]
    (action,) = (each for each in new_parser()._actions if flag(name) in each.option_strings)
    assert place.flag.help in str(action.help)
    assert place.default is None or "(default: " in str(action.help)
    assert action.default is None
    assert action.choices == (place.choices or None)


def test_the_help_is_grouped() -> None:
    text = new_parser().format_help()
    headings = re.findall(r"^(\w+): .*:$", text, re.MULTILINE)
    assert headings == ["model", "frames", "pruning", "budget", "generation", "store", "run"]
    assert text.index("\nbudget: ") < text.index("  --budget N") < text.index("\ngeneration: ")


def test_options_can_be_left_out() -> None:
    parser = new_parser("budget", "keep_ratio")
    assert "--keep-ratio X" not in parser.format_help()
    with pytest.raises(InputError, match="unrecognized arguments: --budget 3"):
        parser.parse_args(["--budget", "3"])
    assert read_options(parser.parse_args(["--num-frames", "3"])).frames.num_frames == 3


def test_the_names_of_the_flags() -> None:
    assert {"timestamps", "resize", "num_llms", "stall_seconds"} <= flat(Options()).keys()
    assert not {"time_marks"} & flat(Options()).keys()
    assert places()["pruner"].choices == tuple(METHODS)


@pytest.mark.parametrize(
    ("settings", "executor"),
    [
        ({}, "local"),
        ({"num_decoders": 8}, "local"),
        ({"num_encoders": 2}, "ray"),
        ({"num_llms": 2}, "ray"),
        ({"address": "auto"}, "ray"),
        ({"decoder_gib": 2}, "ray"),
        ({"decode_seconds": 60.0}, "ray"),
        ({"executor": "ray"}, "ray"),
        ({"executor": "local", "num_encoders": 2}, "local"),
    ],
)
def test_where_the_stages_run(settings: dict[str, Any], executor: str) -> None:
    assert changed(**settings).run.resolved_executor == executor


def test_the_file_wins_over_the_default_and_flags_over_the_file(write: Write) -> None:
    path = write("budget: 100\nnum_frames: 7\nnovelty: false\nheadroom: 2\n")
    from_file = changed(budget=100, num_frames=7, novelty=False, headroom=2.0)
    assert read("--config", path) == from_file
    options = read("--config", path, "--budget", "5", "--novelty", "--seed", "3")
    assert options == changed(budget=5, num_frames=7, headroom=2.0, seed=3)


def test_a_flag_given_its_default_still_wins(write: Write) -> None:
    path = write("seed: 4\nexecutor: local\ntimestamps: true\ndecoder: decord\n")
    flags = ["--seed", "0", "--executor", "auto", "--no-timestamps", "--decoder", "pyav"]
    assert read("--config", path, *flags) == Options()


@pytest.mark.parametrize(
    ("text", "flags", "values"),
    [
        ("fps: 2", ["--num-frames", "2"], {"num_frames": 2}),
        ("num_frames: 2", ["--fps", "2"], {"fps": 2.0}),
        ("budget: 9", ["--keep-ratio", "0.5"], {"keep_ratio": 0.5}),
        ("keep_ratio: 0.5", ["--budget", "9"], {"budget": 9}),
        ("keep_ratio: 0.5\nbudget: 3", ["--budget", "9"], {"budget": 9}),
        ("fps: 0\nbudget: -1", ["--num-frames", "1", "--budget", "9"],
         {"num_frames": 1, "budget": 9}),
    ],
)  # fmt: skip
def test_a_flag_beats_its_rival_in_the_file(
    write: Write, text: str, flags: list[str], values: dict[str, Any]
) -> None:
    assert read("--config", write(text), *flags) == changed(**values)


@pytest.mark.parametrize("pair", [("num_frames: 3", "fps: 2"), ("budget: 3", "keep_ratio: 1")])
def test_rivals_on_one_side_are_refused(write: Write, pair: tuple[str, str]) -> None:
    first, second = (line.split(": ") for line in pair)
    message = f"give {flag(first[0])} or {flag(second[0])}, not both"
    path = write("\n".join(pair))
    with pytest.raises(InputError, match=f"^--config {re.escape(path)}: {message}$"):
        read("--config", path)
    with pytest.raises(InputError, match=f"^{message}$"):
        read(flag(first[0]), first[1], flag(second[0]), second[1])


def test_a_file_may_leave_an_option_open_and_its_rival_given(write: Write) -> None:
    assert read("--config", write("budget: null\nfps: null\naddress: null\n")) == Options()
    path = write("fps: null\nnum_frames: 4\n")
    assert read("--config", path) == changed(num_frames=4)


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n", "null\n", "\ufeffseed: 0\n"])
def test_a_file_without_options_changes_nothing(write: Write, text: str) -> None:
    assert read("--config", write(text)) == Options()


def test_numbers_of_a_file(write: Write) -> None:
    options = read("--config", write("fps: 2\ntemperature: 1e-1\npruner_temperature: 5E-2\n"))
    assert options == changed(fps=2.0, temperature=0.1, pruner_temperature=0.05)
    assert type(options.frames.fps) is float


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("num_frame: 3", "unknown option 'num_frame'; did you mean num_frames?"),
        ("buget: 3", "unknown option 'buget'; did you mean budget?"),
        ("--budget: 3", "unknown option '--budget'; did you mean budget?"),
        ("num-frames: 3", "unknown option 'num-frames'; did you mean num_frames?"),
        ("time_marks: true", "unknown option 'time_marks'"),
        ("settings: 3", "unknown option 'settings'"),
        ("zzz: 3", "unknown option 'zzz'"),
        ("3: 4", "unknown option 3"),
        ("budget: many", "budget must be of type int, not 'many'"),
        ("budget: 3.5", "budget must be of type int, not 3.5"),
        ("budget: true", "budget must be of type int, not True"),
        ("novelty: 1", "novelty must be of type bool, not 1"),
        ("novelty: 'yes'", "novelty must be of type bool, not 'yes'"),
        ("model: 3", "model must be of type str, not 3"),
        ("model: null", "model must be of type str, not None"),
        ("seed: null", "seed must be of type int, not None"),
        ("fps: [1]", "fps must be of type float, not [1]"),
        ("frames: {fps: 1}", "unknown option 'frames'"),
        ("executor: loca", "executor 'loca' is none of auto, local, ray; did you mean local?"),
        ("device: tpu", "device 'tpu' is none of auto, cpu, cuda"),
        ("budget: 0", "--budget 0: must be at least 1"),
        ("budget: 1\nfps: 1\nbudget: 2", "budget is given twice, in line 1 and in line 3"),
        ("{seed: 1, seed: 1}", "seed is given twice, in line 1 and in line 1"),
        ("- budget", "must hold 'option: value' lines"),
        ("just text", "must hold 'option: value' lines"),
        ("budget: [1", "not valid YAML ("),
        ("a: 1\n\tb: 2", "not valid YAML ("),
        ("seed: 2020-13-45", "not valid YAML (month must be in 1..12"),
        ("seed: " + 5000 * "9", "not valid YAML (Exceeds the limit"),
        ("seed: " + 3000 * "[", "not valid YAML ("),
        ("seed: " + 400 * "9", "--seed of 1329 bits: must be at least 0 and at most"),
        ("fps: " + 400 * "9", "--fps: must be a finite number"),
        ("fps: .nan", "--fps nan: must be a finite number"),
        ("model: " + 999 * "m" + "\nseed: " + 999 * "s", "seed must be of type int, not 'sss"),
    ],
)
def test_what_a_file_gets_wrong_is_named_in_one_short_line(
    write: Write, text: str, message: str
) -> None:
    path = write(text)
    with pytest.raises(InputError, match=f"^{re.escape(f'--config {path}: {message}')}") as caught:
        read("--config", path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < len(path) + 300


def test_a_file_is_wrong_even_where_a_flag_wins(write: Write) -> None:
    with pytest.raises(InputError, match="budget must be of type int, not 'many'"):
        read("--config", write("budget: many"), "--budget", "3")


def test_code_in_a_file_is_not_run(write: Write, tmp_path: Path) -> None:
    path = write(f"model: !!python/object/apply:os.mkdir ['{tmp_path}/made']")
    with pytest.raises(InputError, match="not valid YAML"):
        read("--config", path)
    assert not (tmp_path / "made").exists()


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"missing\.yaml: No such file or directory$"):
        read("--config", str(tmp_path / "missing.yaml"))
    with pytest.raises(InputError, match=r": Is a directory$"):
        read("--config", str(tmp_path))
    with pytest.raises(InputError, match=r"^--config : No such file or directory$"):
        read("--config", "")
    (tmp_path / "latin.yaml").write_bytes(b"model: caf\xe9")
    with pytest.raises(InputError, match=r"latin\.yaml: .*can't decode byte"):
        read("--config", str(tmp_path / "latin.yaml"))
    with pytest.raises(InputError, match=r"/dev/zero: larger than a file of options can be$"):
        read("--config", "/dev/zero")


@pytest.mark.parametrize(
    ("name", "value", "range_"),
    [
        ("num_frames", 0, "at least 1 and at most 1,000,000"),
        ("num_frames", 10**7, "at least 1 and at most 1,000,000"),
        ("fps", 0.0, "above 0 and at most 100,000"),
        ("budget", -4, "at least 1 and at most 10,000,000"),
        ("headroom", 0.5, "at least 1 and at most 1,000,000"),
        ("fastv_layer", 0, "at least 1 and at most 1,000"),
        ("max_new_tokens", 0, "at least 1 and at most 1,000,000"),
        ("num_decoders", 0, "at least 1 and at most 1,024"),
        ("num_encoders", 100_000, "at least 1 and at most 1,024"),
        ("num_llms", 0, "at least 1 and at most 1,024"),
        ("clips_in_flight", 0, "at least 1 and at most 1,024"),
        ("frames_per_chunk", 0, "at least 1 and at most 1,024"),
        ("stall_seconds", 0.0, "above 0 and at most 604,800"),
        ("decode_seconds", 0.0, "above 0 and at most 604,800"),
        ("decoder_gib", 0.1, "at least 0.25 and at most 100,000"),
        ("keep_ratio", 0.0, "above 0 and at most 1"),
        ("keep_ratio", 1.5, "above 0 and at most 1"),
        ("temperature", -1.0, "at least 0 and at most 100"),
        ("temperature", 1e300, "at least 0 and at most 100"),
        ("temperature", 1e-9, "0, or at least 0.001"),
        ("seed", -1, "at least 0 and at most 9,223,372,036,854,775,807"),
        ("seed", 2**63, "at least 0 and at most 9,223,372,036,854,775,807"),
        ("seed", 2**70, "at least 0 and at most 9,223,372,036,854,775,807"),
        ("pruner_beta", -0.1, "at least 0 and at most 1,000"),
        ("pruner_steps", -1, "at least 0 and at most 100"),
        ("pruner_steps", 101, "at least 0 and at most 100"),
        ("pruner_temperature", 0.0, "at least 0.001 and at most 100"),
        ("pruner_temperature", 1e300, "at least 0.001 and at most 100"),
        ("pruner_similarity", -0.5, "above 0 and at most 1"),
        ("pruner_cross_similarity", 1.01, "above 0 and at most 1"),
    ],
)
def test_numbers_out_of_range(name: str, value: float, range_: str) -> None:
    shown = f"{value:g}" if isinstance(value, float) else str(value)
    message = f"{flag(name)} {shown}: must be {range_}"
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        changed(**{name: value})
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        read(f"{flag(name)}={value}")


NUMBERS = [name for name, place in places().items() if place.kind in (int, float)]


@pytest.mark.parametrize("name", sorted({*NUMBERS} - {"start", "end"}))
def test_every_number_has_a_range_and_keeps_both_of_its_ends(name: str) -> None:
    place = places()[name]
    low = place.flag.least if place.flag.above is None else place.flag.above + 1e-9
    assert low is not None
    assert place.flag.most is not None
    for end in (low, place.flag.most):
        assert flat(changed(**{name: place.kind(end)}))[name] == end


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("name", sorted(n for n in NUMBERS if places()[n].kind is float))
def test_numbers_are_finite(name: str, value: str) -> None:
    with pytest.raises(InputError, match=f"^{flag(name)} {value}: must be a finite number$"):
        read(f"{flag(name)}={value}")


def test_groups_check_themselves_when_made_in_code() -> None:
    with pytest.raises(InputError, match=r"^--num-frames 0: must be at least 1"):
        FrameOptions(num_frames=0)
    with pytest.raises(InputError, match=r"^give --num-frames or --fps, not both$"):
        FrameOptions(num_frames=1, fps=1.0)
    with pytest.raises(InputError, match=r"^--pruner-beta 2000: must be at least 0"):
        PruningOptions(settings=Settings(beta=2000.0))
    with pytest.raises(InputError, match=r"^--seed -1: must be at least 0"):
        Options(generation=SamplingOptions(seed=-1))


@pytest.mark.parametrize("values", [{"budget": 3}, {"keep_ratio": 0.5}])
def test_unpruned_takes_no_budget(values: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"^--pruner none keeps every token: leave out --budget"):
        changed(pruner="none", **values)


@pytest.mark.parametrize("address", ["auto", "head:6379", "10.0.0.1:1", "[::1]:65535"])
def test_addresses_that_are_taken(address: str) -> None:
    assert changed(address=address).run.address == address


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("ray://host", "ray:// is not taken; give HOST:PORT of the head node"),
        ("ray://host:10001", "ray:// is not taken; give HOST:PORT of the head node"),
        ("http://host:8265", "http:// is not taken; give HOST:PORT of the head node"),
        ("host", "give HOST:PORT of the head node, or auto"),
        ("host:", "give HOST:PORT"),
        (":6379", "give HOST:PORT"),
        ("host:0", "give HOST:PORT"),
        ("host:65536", "give HOST:PORT"),
        ("host:99999999999999999999", "give HOST:PORT"),
        ("host:²", "give HOST:PORT"),
        ("", "give HOST:PORT"),
    ],
)
def test_addresses_that_are_not(address: str, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(f"--address {address}: {message}")):
        read("--address", address)


def test_a_local_run_joins_no_cluster() -> None:
    with pytest.raises(InputError, match="--address joins a Ray cluster: leave out --executor"):
        read("--address", "head:6379", "--executor", "local")


@pytest.mark.parametrize("limit", ["--decoder-gib", "--decode-seconds"])
def test_a_thread_is_not_limited(limit: str) -> None:
    message = f"^{limit} ends a decode worker that goes beyond it, .*: leave out --executor local$"
    with pytest.raises(InputError, match=message):
        read(limit, "2", "--executor", "local")


def test_a_change_beats_the_rival_it_meets() -> None:
    options = change(changed(num_frames=4, budget=9), {"fps": 2}, source="a request")
    assert options == changed(fps=2.0, budget=9)
    assert change(options, {"fps": None}, source="") == changed(budget=9)


def test_a_change_leaves_the_rest_as_it_is() -> None:
    options = changed(seed=3, pruner_beta=0.25, num_frames=4)
    after = change(options, {"pruner_similarity": 0.75, "budget": 5}, source="a request")
    assert after == changed(
        seed=3, pruner_beta=0.25, num_frames=4, pruner_similarity=0.75, budget=5
    )
    assert options == changed(seed=3, pruner_beta=0.25, num_frames=4)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"buget": 3}, "unknown option 'buget'; did you mean budget?"),
        ({"budget": "3"}, "budget must be of type int, not '3'"),
        ({"novelty": None}, "novelty must be of type bool, not None"),
        ({"pruner": "evz"}, "pruner 'evz' is none of none, uniform, "),
        ({"seed": 2**63}, "--seed 9223372036854775808: must be at least 0"),
        ({"pruner_similarity": 0}, "--pruner-similarity 0: must be above 0 and at most 1"),
        ({"budget": 1, "keep_ratio": 1}, "give --budget or --keep-ratio, not both"),
        ({"num_threads": 3}, "unknown option 'num_threads'"),
    ],
)
def test_a_wrong_change_names_its_source(values: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=f"^a request: {re.escape(message)}"):
        change(Options(), values, source="a request")


def test_flat_is_what_a_change_takes() -> None:
    options = changed(num_frames=3, keep_ratio=0.5, pruner="evs", pruner_beta=0.25, seed=2**63 - 1)
    assert change(Options(), flat(options), source="") == options
    assert flat(options)["pruner_beta"] == 0.25
    assert flat(options)["fps"] is None


def test_options_can_be_compared_and_be_keys() -> None:
    assert len({Options(), changed(seed=1), changed(seed=1), changed(pruner_beta=0.75)}) == 3


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_the_configurations_that_come_along(path: Path) -> None:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    form = r"# .*python -m streaming\.(\w+) .*--config \S*" + re.escape(path.name)
    match = re.match(form, first)
    assert match is not None
    defaults = {"serve": ServerOptions()}.get(match[1], Options())
    parser = Parser(allow_abbrev=False)
    add_options(parser, make=type(defaults))
    assert merge_options(parser.parse_args(["--config", str(path)]), defaults) != defaults


def test_a_plain_parser_does_as_well() -> None:
    parser = argparse.ArgumentParser()
    add_options(parser)
    assert read_options(parser.parse_args(["--budget", "3"])) == changed(budget=3)
