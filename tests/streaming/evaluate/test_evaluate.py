import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import pytest

from pruner import METHODS
from streaming.evaluate import command as evaluate
from streaming.evaluate.command import ANSWERS
from streaming.evaluate.records import AnswerFile
from tests.clips import draw_clip
from tests.streaming.conftest import Result
from workers.process import ModelOptions

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips of 160 x 96 with two questions each; one is asked about three frames."""
    folder = tmp_path_factory.mktemp("set")
    lines = []
    for name, num_frames in (("a.mp4", 3), ("b.mp4", None)):
        draw_clip(folder / name, num_frames=10)
        for number in range(2):
            line = {
                "clip": name,
                "question": f"what is {number}?",
                "answers": ["x"],
                "type": f"t{number}",
            }
            lines.append(json.dumps(line | ({"num_frames": num_frames} if num_frames else {})))
    (folder / "set.jsonl").write_text("\n".join(lines))
    return folder / "set.jsonl"


@pytest.fixture
def evaluated(checkpoint: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    def command(questions: Path, *arguments: str) -> Result:
        settings = ["--executor", "local", "--model", str(checkpoint), "--max-new-tokens", "3"]
        capsys.readouterr()
        output = ["--output", str(tmp_path / "out")]
        status = evaluate.main(
            [str(questions), *output, "--num-frames", "2", *settings, *arguments]
        )
        return Result(status, *capsys.readouterr())

    return command


def lines(folder: Path) -> list[dict]:
    """Every line but those cut short."""
    found = []
    for line in (folder / "out" / ANSWERS).read_text().splitlines():
        with suppress(ValueError):
            found.append(json.loads(line))
    return found


def test_every_method_keeps_to_the_same_budget(
    evaluated: Run, questions: Path, tmp_path: Path
) -> None:
    result = evaluated(questions, "--keep-ratios", "1", "0.3", "0.1", "--seeds", "2")
    assert result.status == 0, result.err
    records = lines(tmp_path)
    assert {record["row"] for record in records} == set(METHODS)
    assert len(records) == 2 * (1 + 2 * (len(METHODS) - 1) + 2)
    unpruned = {r["clip"]: r["num_unpruned_tokens"] for r in records}
    for record in records:
        share = 1.0 if record["row"] == "none" else float(record["kept"])
        assert record["num_visual_tokens"] == int(share * unpruned[record["clip"]] + 1e-6), record
    table = json.loads((tmp_path / "out" / "table.json").read_text())
    assert result.out == (tmp_path / "out" / "table.md").read_text()
    assert [len(table["scores"]), table["baseline"]] == [1 + 2 * (len(METHODS) - 1), "none"]
    assert (tmp_path / "out" / "tradeoff.png").read_bytes().startswith(b"\x89PNG")
    assert "| 0.1 | mr_pruner |" in result.out


def test_timestamps_are_paid_on_top_of_a_fraction(
    evaluated: Run, questions: Path, tmp_path: Path
) -> None:
    rows = ("--pruners", "mr_pruner", "--variant", "less: frame_factor=0.5")
    ratio = ("--keep-ratios", "0.2")
    assert evaluated(questions, *rows, *ratio).status == 0
    plain = {(r["row"], r["clip"]): r for r in lines(tmp_path)}
    other = ("--output", str(tmp_path / "stamped" / "out"), "--timestamps")
    assert evaluated(questions, *rows, *ratio, *other).status == 0
    for stamped in lines(tmp_path / "stamped"):
        record = plain.pop((stamped["row"], stamped["clip"]))
        more = stamped["num_visual_tokens"] - record["num_visual_tokens"]
        assert record["num_visual_tokens"] == int(0.2 * plain_tokens(record) + 1e-6)
        assert more > 0
        assert more % stamped["num_frames"] == 0
    assert not plain


def plain_tokens(record: dict) -> int:
    """What the set's two frames have unpruned, whichever of them a row looks at."""
    return int(record["num_unpruned_tokens"] * 2 / record["num_frames"])


def test_a_run_goes_on_where_it_was_cut(evaluated: Run, questions: Path, tmp_path: Path) -> None:
    options = ("--pruners", "none", "mr_pruner", "--keep-ratios", "0.1")
    assert evaluated(questions, *options).status == 0
    path = tmp_path / "out" / ANSWERS
    whole = path.read_text().splitlines(keepends=True)
    path.write_text("".join(whole[:2]) + whole[2][:50])
    assert evaluated(questions, *options).status == 0
    again = lines(tmp_path)
    shown = {(r["row"], r["clip"]): r["answers"] for r in map(json.loads, whole)}
    assert {(r["row"], r["clip"]): r["answers"] for r in again} == shown
    assert len(again) == len(whole)
    before = path.stat().st_mtime_ns
    assert evaluated(questions, *options).status == 0
    assert path.stat().st_mtime_ns == before


def test_other_options_want_another_folder(evaluated: Run, questions: Path) -> None:
    options = ("--pruners", "uniform", "--keep-ratios", "0.1")
    assert evaluated(questions, *options).status == 0
    result = evaluated(questions, *options, "--no-novelty")
    assert result.status == 2
    assert "holds a run of other questions or options" in result.err


def test_variants_share_the_budget_of_both_resolutions(
    evaluated: Run, questions: Path, tmp_path: Path
) -> None:
    rows = ["high_resolution=all", "high_resolution=none,frame_factor=2", "question_aware=true"]
    settings = [word for row in rows for word in ("--variant", row)]
    result = evaluated(questions, *settings, "--keep-ratios", "0.2", "--baseline", rows[1])
    assert result.status == 0, result.err
    records = {(r["row"], r["clip"]): r for r in lines(tmp_path)}
    assert len(records) == 6
    for clip in {clip for _, clip in records}:
        both, base, aware = (records[row, clip] for row in rows)
        assert both["num_visual_tokens"] == base["num_visual_tokens"] == aware["num_visual_tokens"]
        assert both["num_entering_tokens"] == both["num_visual_tokens"]
        assert aware["num_entering_tokens"] == 4 * aware["num_visual_tokens"]
        assert (both["num_frames"], base["num_frames"]) == (2, 4)
    assert f"against {rows[1]}" in result.out


def test_a_clip_that_cannot_be_read_is_left_out_and_named(
    evaluated: Run, questions: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.mp4").write_bytes((questions.parent / "a.mp4").read_bytes())
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    line = {"clip": "bad.mp4", "question": "what?", "answers": ["x"]}
    path = tmp_path / "set.jsonl"
    path.write_text("\n".join(json.dumps(line | {"clip": name}) for name in ("bad.mp4", "a.mp4")))
    result = evaluated(path, "--pruners", "random", "--keep-ratios", "0.1")
    assert result.status == 0
    assert "left out: " in result.err
    assert "Left out: 1 clip, in every row, and why:" in result.out
    assert "bad.mp4: is not a video, or its header is damaged" in result.out
    path.write_text(json.dumps(line))
    result = evaluated(path, "--pruners", "random", "--output", str(tmp_path / "other"))
    assert result.status == 1
    assert "not one clip could be asked" in result.err


def set_of(path: Path, questions: Path, *texts: str) -> Path:
    """Write a set of one clip with these questions."""
    (path / "a.mp4").write_bytes((questions.parent / "a.mp4").read_bytes())
    lines = [{"clip": "a.mp4", "question": text, "answers": ["x"]} for text in texts]
    (path / "set.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return path / "set.jsonl"


def test_a_question_may_spell_special_tokens(
    evaluated: Run, questions: Path, tmp_path: Path
) -> None:
    texts = ["what is <image>?", "a </s> b", "what?"]
    path = set_of(tmp_path, questions, *texts)
    result = evaluated(path, "--pruners", "none", "random", "--keep-ratios", "0.1", "--seeds", "1")
    assert result.status == 0, result.err
    for record in lines(tmp_path):
        assert [answer["question"] for answer in record["answers"]] == texts
        assert all(answer["answer"] for answer in record["answers"])


def set_of_two(folder: Path, questions: Path, text: str) -> Path:
    """Write a set of which the first clip is asked ``text`` and the second a short question."""
    path = set_of(folder, questions, "what?", text)
    (folder / "b.mp4").write_bytes((questions.parent / "b.mp4").read_bytes())
    with path.open("a") as file:
        file.write("\n" + json.dumps({"clip": "b.mp4", "question": "who?", "answers": ["x"]}))
    return path


def errors_of(folder: Path) -> list[dict]:
    return [line for line in lines(folder) if "error" in line]


def test_a_clip_that_cannot_be_asked_is_recorded_and_left_out(
    evaluated: Run, questions: Path, tmp_path: Path
) -> None:
    path = set_of_two(tmp_path, questions, "why " * 40_000)
    options = ("--pruners", "none", "mr_pruner", "--keep-ratios", "0.1")
    result = evaluated(path, *options)
    assert result.status == 0, result.err
    (failed,) = errors_of(tmp_path)
    assert failed["cells"] == [["none", "1", 0], ["mr_pruner", "0.1", 0]]
    assert [failed["clip"], failed["num_questions"]] == [str(tmp_path / "a.mp4"), 2]
    error = failed["error"]
    assert [error["stage"], error["type"]] == ["plan", "ContextError"]
    assert error["message"].startswith(f"{tmp_path / 'a.mp4'}: 80011 tokens of the question")
    assert f"left out: {error['message']}" in result.err
    assert f"Left out: 1 clip, in every row, and why:\n\n- {error['message']} (plan)" in result.out
    table = json.loads((tmp_path / "out" / "table.json").read_text())
    (counted,) = table["failures"]
    assert counted == {"clip": failed["clip"], "num_questions": 2, **error}
    answered = [line for line in lines(tmp_path) if "error" not in line]
    assert {Path(line["clip"]).name for line in answered} == {"b.mp4"}
    assert [len(answered), table["num_clips"]] == [2, 1]


def test_a_finished_run_starts_nothing_unless_failures_are_to_be_retried(
    evaluated: Run, questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = set_of_two(tmp_path, questions, "who?")
    clip = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "a.mp4").write_bytes(b"no video")
    options = ("--pruners", "uniform", "--keep-ratios", "0.1")
    first = evaluated(path, *options)
    assert first.status == 0, first.err
    (tmp_path / "a.mp4").write_bytes(clip)
    with monkeypatch.context() as patch:
        patch.delattr(evaluate, "open_engine")
        again = evaluated(path, *options)
        assert [again.status, again.out] == [0, first.out]
    assert len(errors_of(tmp_path)) == 1
    mended = evaluated(path, *options, "--retry-failed")
    assert mended.status == 0, mended.err
    assert "Left out" not in mended.out
    assert [len(lines(tmp_path)), len(errors_of(tmp_path))] == [3, 1]
    with monkeypatch.context() as patch:
        patch.delattr(evaluate, "open_engine")
        assert evaluated(path, *options, "--retry-failed").out == mended.out


def test_an_option_that_does_not_suit_one_clip_leaves_that_clip_out(
    evaluated: Run, questions: Path, tmp_path: Path
) -> None:
    path = set_of_two(tmp_path, questions, "who?")
    draw_clip(tmp_path / "b.mp4", num_frames=30)
    result = evaluated(path, "--pruners", "uniform", "--keep-ratios", "0.1", "--start", "0.8")
    assert result.status == 0, result.err
    (failed,) = errors_of(tmp_path)
    assert [failed["error"]["stage"], failed["error"]["type"]] == ["plan", "InputError"]
    assert f"{tmp_path / 'a.mp4'}: --start 0.8 s is outside" in failed["error"]["message"]
    assert len(lines(tmp_path)) == 2


def test_what_one_row_cannot_ask_is_left_out_of_all_rows_beside_it(
    evaluated: Run, questions: Path, tmp_path: Path
) -> None:
    good, bad = "novelty=false", "pruner=fastv,fastv_layer=3"
    settings = ("--keep-ratios", "0.2", "--variant", good)
    result = evaluated(questions, *settings, "--variant", bad)
    assert result.status == 1
    assert "not one clip could be asked" in result.err
    assert "--fastv-layer 3 is out of range: the language model has 3 layers" in result.err
    assert {line["error"]["stage"] for line in errors_of(tmp_path)} == {"ask"}
    assert [line["cells"] for line in errors_of(tmp_path)] == [[[bad, "0.2", 0]]] * 2
    result = evaluated(questions, *settings)
    assert result.status == 0, result.err
    assert "Left out" not in result.out
    assert len(lines(tmp_path)) == 4


def without_seconds(folder: Path) -> list[dict]:
    kept = [
        {name: value for name, value in line.items() if name != "seconds"} for line in lines(folder)
    ]
    return sorted(kept, key=json.dumps)


@pytest.fixture(scope="module")
def many(questions: Path) -> Path:
    """A set of five clips, one of which is none."""
    clips = [draw_clip(questions.parent / f"{n}.mp4", num_frames=8 + n).name for n in range(4)]
    (questions.parent / "bad.mp4").write_bytes(b"no video")
    asked = [{"clip": name, "question": "what?", "answers": ["x"]} for name in clips]
    path = questions.parent / "many.jsonl"
    path.write_text(
        "\n".join(map(json.dumps, [asked[0], {**asked[0], "clip": "bad.mp4"}, *asked[1:]]))
    )
    return path


ROWS = ("--pruners", "none", "random", "mr_pruner", "--keep-ratios", "0.1", "--seeds", "2")


def test_side_by_side_clips_are_answered_as_one_after_another(
    evaluated: Run, many: Path, tmp_path: Path
) -> None:
    tables = []
    for name, number in (("alone", "1"), ("some", "3"), ("all", "8")):
        output = ("--output", str(tmp_path / name / "out"), "--clips-in-flight", number)
        assert evaluated(many, *ROWS, *output).status == 0
        table = json.loads((tmp_path / name / "out" / "table.json").read_text())
        for score in table["scores"]:
            del score["seconds"], score["questions_per_second"]
        tables.append([table["scores"], table["failures"]])
    assert len(without_seconds(tmp_path / "alone")) == 4 * 4 + 1
    assert without_seconds(tmp_path / "some") == without_seconds(tmp_path / "alone")
    assert without_seconds(tmp_path / "all") == without_seconds(tmp_path / "alone")
    assert tables == [tables[0]] * 3


def test_clips_are_asked_side_by_side_up_to_a_number(
    evaluated: Run, many: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    three, lock = threading.Barrier(3), threading.Lock()
    waits = iter([three.wait] * 3 + [lambda seconds: 0] * 2)
    running, most = 0, 0
    answer_clip = evaluate.answer_clip

    def met(*arguments: Any) -> Iterator[dict]:
        nonlocal running, most
        with lock:
            running, most = running + 1, max(most, running + 1)
            wait = next(waits)
        wait(60)
        yield from answer_clip(*arguments)
        with lock:
            running -= 1

    monkeypatch.setattr(evaluate, "answer_clip", met)
    result = evaluated(many, "--pruners", "uniform", "--clips-in-flight", "3")
    assert result.status == 0, result.err
    assert most == 3
    assert not list(waits)


@pytest.mark.parametrize("keep", [0, 1, 200, 0.4, 0.7, -30, -2, -1])
def test_a_run_that_was_cut_anywhere_goes_on_with_nothing_lost_or_twice(
    evaluated: Run, many: Path, tmp_path: Path, keep: float
) -> None:
    path = tmp_path / "out" / ANSWERS
    assert evaluated(many, *ROWS).status == 0
    whole, shown = path.read_text(), without_seconds(tmp_path)
    path.write_text(whole[: int(keep * len(whole)) if 0 < keep < 1 else int(keep)])
    assert evaluated(many, *ROWS, "--clips-in-flight", "2").status == 0
    assert without_seconds(tmp_path) == shown


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_with_nothing_lost_or_twice(
    evaluated: Run, many: Path, tmp_path: Path, checkpoint: Path
) -> None:
    folder = tmp_path / "killed" / "out"
    options = ["--output", str(folder), "--num-frames", "2", "--max-new-tokens", "3"]
    command = [sys.executable, "-m", "streaming.evaluate", str(many), *ROWS, *options]
    command += ["--model", str(checkpoint), "--executor", "local"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    path = folder / ANSWERS
    while process.poll() is None and not (path.exists() and path.read_bytes().count(b"\n") > 3):
        time.sleep(0.001)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert 3 < len(lines(tmp_path / "killed")) < 17
    subprocess.run(command, check=True, capture_output=True)
    assert evaluated(many, *ROWS).status == 0
    assert without_seconds(tmp_path / "killed") == without_seconds(tmp_path)


class Faulty:
    """A stage with a fault of the program in it."""

    def __init__(self, options: ModelOptions, *, lazy: bool) -> None:
        pass

    def run(self, request: Any, *inputs: Any) -> NoReturn:
        raise RuntimeError("a fault")


def no_space(file: AnswerFile, line: bytes) -> NoReturn:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    ("place", "instead", "message"),
    [
        ("streaming.engine.EncodeStage", Faulty, "error: a worker failed: RuntimeError: a fault"),
        (
            "streaming.evaluate.records.AnswerFile._write",
            no_space,
            "jsonl: No space left on device",
        ),
    ],
)
def test_what_is_no_clip_s_fault_ends_the_run(
    evaluated: Run,
    questions: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    instead: object,
    message: str,
) -> None:
    monkeypatch.setattr(place, instead)
    result = evaluated(questions, "--pruners", "uniform")
    assert result.status == 1
    assert message in result.err.splitlines()[-1]
    assert lines(tmp_path) == []


def test_a_model_that_is_not_there_ends_the_run(
    evaluated: Run, questions: Path, tmp_path: Path
) -> None:
    result = evaluated(questions, "--model", str(tmp_path / "none"))
    assert result.status == 1
    assert result.err.splitlines()[-1].startswith("error: unknown model ")
    assert not (tmp_path / "out" / ANSWERS).exists()


def test_a_clip_is_decoded_and_encoded_once_for_all_rows(
    evaluated: Run, questions: Path, tmp_path: Path
) -> None:
    result = evaluated(questions, "--keep-ratios", "0.3", "0.1", "--seeds", "2")
    assert result.status == 0, result.err
    shared: dict[str, set[tuple[float, ...]]] = {}
    for record in lines(tmp_path):
        stages = tuple(record["seconds"][stage] for stage in ("decode", "tile", "encode"))
        shared.setdefault(record["clip"], set()).add(stages)
    assert [len(each) for each in shared.values()] == [1, 1]


def test_a_row_s_answers_do_not_depend_on_the_rows_beside_it(
    evaluated: Run, questions: Path, tmp_path: Path
) -> None:
    together = ("--keep-ratios", "0.3", "0.1", "--seeds", "2")
    assert evaluated(questions, *together).status == 0
    found = {(r["row"], r["kept"], r["clip"]): r["answers"] for r in lines(tmp_path)}
    for row in ("gprune", "mr_pruner", "evs"):
        output = ("--output", str(tmp_path / row / "out"))
        result = evaluated(questions, "--pruners", row, "--keep-ratios", "0.1", *output)
        assert result.status == 0, result.err
        alone = lines(tmp_path / row)
        assert len(alone) == 2
        for record in alone:
            assert record["answers"] == found[row, "0.1", record["clip"]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--limit", "0"], "--limit 0: must be at least 1"),
        (["--baseline", "tme"], "--baseline tme: is none of the rows none, uniform"),
        (["--pruners", "tme"], "invalid choice: 'tme'"),
        (["--seeds", "0"], "--seeds 0: must be at least 1"),
        (["--budget", "9"], "unrecognized arguments: --budget 9; did you mean --budgets?"),
    ],
)
def test_wrong_options_are_named(
    evaluated: Run, questions: Path, arguments: list[str], message: str
) -> None:
    result = evaluated(questions, *arguments)
    assert result.status == 2
    assert message in result.err
