import json
from pathlib import Path
from typing import Any

import pytest

from streaming.evaluate.questions import is_right, read_questions
from workers.errors import InputError

LINE = {"clip": "a.mp4", "question": "what?", "answers": ["red"], "type": "color"}


def write(path: Path, *lines: Any) -> Path:
    path.write_text(
        "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    )
    return path


def test_questions_about_one_clip_stand_together(tmp_path: Path) -> None:
    other = LINE | {"clip": "b.mp4", "answers": "blue", "num_frames": 4}
    path = write(tmp_path / "set.jsonl", LINE, other, "", LINE | {"question": "why?"})
    groups = read_questions(path)
    assert [[q.text for q in group] for group in groups] == [["what?", "why?"], ["what?"]]
    (question,) = groups[1]
    assert question.clip == str(tmp_path / "b.mp4")
    assert (question.answers, question.type, question.num_frames) == (("blue",), "color", 4)


def test_a_uri_stays_what_it_is(tmp_path: Path) -> None:
    path = write(tmp_path / "set.jsonl", LINE | {"clip": "s3://bucket/a.mp4"})
    ((question,),) = read_questions(path)
    assert question.clip == "s3://bucket/a.mp4"


def test_a_limit_takes_random_clips_the_same_for_a_seed(tmp_path: Path) -> None:
    lines = [LINE | {"clip": f"{i}.mp4", "question": f"{j}?"} for i in range(20) for j in range(3)]
    path = write(tmp_path / "set.jsonl", *lines)
    some = read_questions(path, limit=10, seed=1)
    assert [len(group) for group in some] == [3, 3, 3, 1]
    assert read_questions(path, limit=10, seed=1) == some
    assert read_questions(path, limit=10, seed=2) != some
    assert sum(map(len, read_questions(path, limit=1000))) == 60


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"set\.jsonl:1: not valid JSON"),
        ("[]", r"set\.jsonl:1: not a JSON object"),
        (LINE | {"clip": 3}, "'clip' must be a text, not 3"),
        (LINE | {"question": " "}, "'question' must be a text"),
        (LINE | {"answers": []}, r"'answers' must be a list of texts, not \[\]"),
        (LINE | {"num_frames": 0}, "'num_frames' must be a whole number, not 0"),
        ("", r"set\.jsonl: no question in it"),
        (LINE | {"answers": "7", "tolerance": -1}, "1: 'tolerance' must be a number, not -1"),
        (LINE | {"answers": "7", "tolerance": "x"}, "'tolerance' must be a number, not 'x'"),
        (LINE | {"tolerance": 1}, "with a 'tolerance' answers must be numbers, not "),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: Any, message: str) -> None:
    path = write(tmp_path / "set.jsonl", line)
    with pytest.raises(InputError, match=message):
        read_questions(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.jsonl: No such file"):
        read_questions(tmp_path / "none.jsonl")


@pytest.mark.parametrize("answer", ["red", " Red.", '"RED"'])
def test_case_and_punctuation_do_not_matter(answer: str) -> None:
    assert is_right(answer, ("blue", "red"))


@pytest.mark.parametrize("answer", ["", "dark red", "re d"])
def test_other_words_are_wrong(answer: str) -> None:
    assert not is_right(answer, ("blue", "red"))


@pytest.mark.parametrize("answer", ["12.5", "11.5 s", "at 13.5 seconds", "12", "13,"])
def test_numbers_within_the_tolerance_are_right(answer: str) -> None:
    assert is_right(answer, ("40.0", "12.5"), 1.0)


@pytest.mark.parametrize("answer", ["11.4", "13.6", "125", "", "never"])
def test_numbers_beyond_the_tolerance_and_no_numbers_are_wrong(answer: str) -> None:
    assert not is_right(answer, ("40.0", "12.5"), 1.0)


def test_the_tolerance_is_read_from_the_line(tmp_path: Path) -> None:
    path = write(tmp_path / "set.jsonl", LINE | {"answers": "12.5", "tolerance": 0.6})
    ((question,),) = read_questions(path)
    assert question.tolerance == 0.6
