import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pruner import METHODS
from streaming.evaluate import command as evaluate
from streaming.evaluate.command import ANSWERS
from tests.clips import draw_clip
from tests.streaming.conftest import Result

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
    return [json.loads(line) for line in (folder / "out" / ANSWERS).read_text().splitlines()]


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


def test_a_run_goes_on_where_it_was_cut(evaluated: Run, questions: Path, tmp_path: Path) -> None:
    options = ("--pruners", "none", "mr_pruner", "--keep-ratios", "0.1")
    assert evaluated(questions, *options).status == 0
    path = tmp_path / "out" / ANSWERS
    whole = path.read_text().splitlines(keepends=True)
    path.write_text("".join(whole[:2]) + whole[2][:50])
    assert evaluated(questions, *options).status == 0
    again = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
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
    rows = ["base_only=false", "base_only=true,frame_factor=2", "position_ids=original"]
    settings = [word for row in rows for word in ("--variant", row)]
    result = evaluated(questions, *settings, "--keep-ratios", "0.2", "--baseline", rows[1])
    assert result.status == 0, result.err
    records = {(r["row"], r["clip"]): r for r in lines(tmp_path)}
    assert len(records) == 6
    for clip in {clip for _, clip in records}:
        both, base, _ = (records[row, clip] for row in rows)
        assert both["num_visual_tokens"] == base["num_visual_tokens"]
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
    assert "1 clips were left out" in result.out
    path.write_text(json.dumps(line))
    result = evaluated(path, "--pruners", "random", "--output", str(tmp_path / "other"))
    assert result.status == 1
    assert "not one clip could be read" in result.err


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


def test_a_clip_whose_question_does_not_fit_is_left_out_and_named(
    evaluated: Run, questions: Path, tmp_path: Path
) -> None:
    path = set_of(tmp_path, questions, "what?", "why " * 40_000)
    (tmp_path / "b.mp4").write_bytes((questions.parent / "b.mp4").read_bytes())
    with path.open("a") as file:
        file.write("\n" + json.dumps({"clip": "b.mp4", "question": "who?", "answers": ["x"]}))
    options = ("--pruners", "none", "mr_pruner", "--keep-ratios", "0.1")
    for _ in range(2):  # it is tried again, and again ends nothing
        result = evaluated(path, *options)
        assert result.status == 0, result.err
        assert "ask a question shorter by" in result.err
        assert "1 clips were left out" in result.out
        assert {Path(record["clip"]).name for record in lines(tmp_path)} == {"b.mp4"}
        assert len(lines(tmp_path)) == 2


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
