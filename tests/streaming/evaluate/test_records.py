import json
import threading
from pathlib import Path

import pytest

from streaming.evaluate.records import AnswerFile, Failure, Record, failure_line, load_outcomes
from workers.errors import OutputError

LINE = {
    "row": "a", "kept": "1", "seed": 0, "clip": "x", "num_visual_tokens": 1,
    "num_unpruned_tokens": 2, "seconds": {},
    "answers": [{"type": "t", "right": True}, {"type": "t", "right": False}],
}  # fmt: skip
CELLS = [("a", "1", 0), ("b", "0.1", 3)]
FAILURE = Failure(
    clip="x", num_questions=2, stage="plan", type="ContextError", message="x: too long"
)
FAILED = failure_line(FAILURE, CELLS)


def write(path: Path, *lines: dict) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_a_line_cut_short_is_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "answers.jsonl", LINE)
    path.write_text(path.read_text() + json.dumps(LINE | {"clip": "y"})[:-20])
    (found,) = load_outcomes(path).values()
    assert isinstance(found, Record)
    assert (dict(found.right), dict(found.asked), found.num_questions) == ({"t": 1}, {"t": 2}, 2)
    assert load_outcomes(tmp_path / "none.jsonl") == {}


def test_a_failure_is_that_of_each_of_its_cells(tmp_path: Path) -> None:
    found = load_outcomes(write(tmp_path / "answers.jsonl", FAILED))
    assert found == {(cell, "x"): FAILURE for cell in CELLS}


def test_the_last_line_holds(tmp_path: Path) -> None:
    found = load_outcomes(write(tmp_path / "mended.jsonl", FAILED, LINE))
    assert [type(found[cell, "x"]) for cell in CELLS] == [Record, Failure]
    found = load_outcomes(write(tmp_path / "broken.jsonl", LINE, FAILED))
    assert [type(found[cell, "x"]) for cell in CELLS] == [Failure, Failure]


@pytest.mark.parametrize(
    ("cut", "whole"), [(-1, {"x", "y", "z"}), (-2, {"x", "z"}), (-30, {"x", "z"})]
)
def test_a_line_that_was_cut_is_ended_before_the_next(
    tmp_path: Path, cut: int, whole: set[str]
) -> None:
    path = write(tmp_path / "answers.jsonl", LINE, LINE | {"clip": "y"})
    path.write_text(path.read_text()[:cut])
    with AnswerFile(path) as file:
        file.append(LINE | {"clip": "z"})
    assert {clip for _, clip in load_outcomes(path)} == whole


def test_lines_of_many_threads_are_whole(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    long = "x" * 50_000

    def write_some(number: int) -> None:
        for place in range(20):
            file.append({"number": number, "place": place, "text": long})

    with AnswerFile(path) as file:
        threads = [threading.Thread(target=write_some, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert sorted((line["number"], line["place"]) for line in lines) == [
        (number, place) for number in range(4) for place in range(20)
    ]
    assert {line["text"] for line in lines} == {long}


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"answers\.jsonl: No such file or directory$"):
        AnswerFile(tmp_path / "none" / "answers.jsonl")
    with (
        AnswerFile(Path("/dev/full")) as file,
        pytest.raises(OutputError, match=r"^/dev/full: No space left on device$"),
    ):
        file.append(LINE)
