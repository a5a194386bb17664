import argparse
import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from streaming.config import Options, add_flags, flag, read_options, suggest
from workers.errors import InputError

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("**/*.y*ml"))
FIELDS = {field.name: field for field in dataclasses.fields(Options)}


def read(*arguments: str) -> Options:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    return read_options(parser.parse_args(arguments))


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write_file(text: str) -> str:
        path = tmp_path / "run.yaml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write_file


def test_nothing_given_is_the_default() -> None:
    assert read() == Options()


def test_the_file_wins_over_the_default_and_flags_over_the_file(write: Any) -> None:
    path = write("budget: 100\nnum_frames: 7\nnovelty: false\nheadroom: 2\n")
    assert read("--config", path) == Options(budget=100, num_frames=7, novelty=False, headroom=2.0)
    options = read("--config", path, "--budget", "5", "--novelty", "--seed", "3")
    assert options == Options(budget=5, num_frames=7, headroom=2.0, seed=3)


def test_a_flag_given_its_default_still_wins(write: Any) -> None:
    path = write("seed: 4\nexecutor: local\ntime_marks: true\n")
    options = read("--config", path, "--seed", "0", "--executor", "ray", "--no-time-marks")
    assert options == Options()


@pytest.mark.parametrize("name", FIELDS)
def test_every_option_has_a_flag_with_help(name: str) -> None:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    actions = {string: action for action in parser._actions for string in action.option_strings}
    action = actions[flag(name)]
    assert action.dest == name
    assert action.default is None
    assert FIELDS[name].metadata["help"] in str(action.help)


@pytest.mark.parametrize(
    ("arguments", "changed"),
    [
        (["--num-frames", "9"], {"num_frames": 9}),
        (["--fps", "0.5"], {"fps": 0.5}),
        (["--time-marks"], {"time_marks": True}),
        (["--position-ids", "original"], {"position_ids": "original"}),
        (["--address", "auto"], {"address": "auto"}),
        (["--keep-ratio", "1"], {"keep_ratio": 1.0}),
    ],
)
def test_flags_take_values_of_their_kind(arguments: list[str], changed: dict[str, Any]) -> None:
    options = read(*arguments)
    assert options == Options(**changed)
    (name,) = changed
    assert type(getattr(options, name)) is type(changed[name])


def test_an_empty_file_changes_nothing(write: Any) -> None:
    assert read("--config", write("# only a comment\n")) == Options()


def test_a_file_may_leave_an_option_open(write: Any) -> None:
    assert read("--config", write("budget: null\nfps: null\naddress: null\n")) == Options()


def test_whole_numbers_do_for_fractions(write: Any) -> None:
    options = read("--config", write("fps: 2\ntemperature: 1\n"))
    assert (options.fps, options.temperature) == (2.0, 1.0)
    assert type(options.fps) is float


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("num_frame: 3", "unknown option 'num_frame'; did you mean num_frames?"),
        ("buget: 3", "unknown option 'buget'; did you mean budget?"),
        ("--budget: 3", "unknown option '--budget'; did you mean budget?"),
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
        ("executor: loca", "executor 'loca' is none of ray, local"),
        ("- budget", "must hold 'option: value' lines"),
        ("just text", "must hold 'option: value' lines"),
        ("budget: [1", "not valid YAML ("),
        ("a: 1\n\tb: 2", "not valid YAML ("),
    ],
)
def test_what_a_file_gets_wrong_is_named_in_one_line(write: Any, text: str, message: str) -> None:
    path = write(text)
    with pytest.raises(InputError, match=re.escape(f"--config {path}: {message}")) as caught:
        read("--config", path)
    assert "\n" not in str(caught.value)


def test_code_in_a_file_is_not_run(write: Any, tmp_path: Path) -> None:
    path = write(f"model: !!python/object/apply:os.mkdir ['{tmp_path}/made']")
    with pytest.raises(InputError, match="not valid YAML"):
        read("--config", path)
    assert not (tmp_path / "made").exists()


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"missing\.yaml: No such file or directory$"):
        read("--config", str(tmp_path / "missing.yaml"))
    with pytest.raises(InputError, match=r": Is a directory$"):
        read("--config", str(tmp_path))
    (tmp_path / "latin.yaml").write_bytes(b"model: caf\xe9")
    with pytest.raises(InputError, match=r"latin\.yaml: .*can't decode byte"):
        read("--config", str(tmp_path / "latin.yaml"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_frames": 0}, "--num-frames 0: must be at least 1"),
        ({"budget": -4}, "--budget -4: must be at least 1"),
        ({"headroom": 0.5}, "--headroom 0.5: must be at least 1"),
        ({"max_new_tokens": 0}, "--max-new-tokens 0: must be at least 1"),
        ({"num_decoders": 0}, "--num-decoders 0: must be at least 1"),
        ({"num_encoders": 0}, "--num-encoders 0: must be at least 1"),
        ({"frames_per_chunk": 0}, "--frames-per-chunk 0: must be at least 1"),
        ({"keep_ratio": 0.0}, "--keep-ratio 0: must be above 0 and at most 1"),
        ({"keep_ratio": 1.5}, "--keep-ratio 1.5: must be above 0 and at most 1"),
        ({"keep_ratio": float("nan")}, "--keep-ratio nan: must be a finite number"),
        ({"temperature": -1.0}, "--temperature -1: must not be negative"),
        ({"pruner_beta": -0.1}, "--pruner-beta -0.1: must not be negative"),
        ({"pruner_steps": -1}, "--pruner-steps -1: must not be negative"),
        ({"pruner_temperature": 0.0}, "--pruner-temperature 0: must be above 0"),
        ({"pruner_similarity": -0.5}, "--pruner-similarity -0.5: must be above 0"),
        ({"pruner_cross_similarity": 0.0}, "--pruner-cross-similarity 0: must be above 0"),
        ({"num_frames": 3, "fps": 1.0}, "give --num-frames or --fps, not both"),
        ({"budget": 3, "keep_ratio": 0.5}, "give --budget or --keep-ratio, not both"),
        ({"headroom": float("nan")}, "--headroom nan: "),
        ({"headroom": float("inf")}, "--headroom inf: "),
        ({"temperature": float("nan")}, "--temperature nan: "),
        ({"temperature": float("inf")}, "--temperature inf: "),
        ({"pruner_beta": float("nan")}, "--pruner-beta nan: "),
        ({"pruner_temperature": float("nan")}, "--pruner-temperature nan: "),
    ],
)
def test_values_no_run_can_work_with(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(message)}"):
        Options(**changes)


def test_values_at_the_border_are_fine() -> None:
    options = Options(budget=1, keep_ratio=None, headroom=1.0, temperature=0.0, pruner_steps=0)
    assert options.budget == 1
    assert Options(keep_ratio=1.0).keep_ratio == 1


def test_the_file_and_a_flag_can_contradict_each_other(write: Any) -> None:
    with pytest.raises(InputError, match="give --budget or --keep-ratio, not both"):
        read("--config", write("budget: 3"), "--keep-ratio", "0.5")


def test_the_nearest_name_is_suggested() -> None:
    assert suggest("bugdet", ["budget", "fps"]) == "; did you mean budget?"
    assert suggest("qqq", ["budget", "fps"]) == ""


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_the_configurations_that_come_along(path: Path) -> None:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert re.match(r"# .*python -m streaming\.\w+ .*--config \S*" + re.escape(path.name), first)
    assert read("--config", str(path)) != Options()
