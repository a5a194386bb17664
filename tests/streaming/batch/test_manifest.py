import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from streaming.batch import manifest
from streaming.batch.item import Item
from streaming.batch.manifest import read_manifest, row_options
from streaming.options import Options
from workers.errors import InputError

ROW = {"id": "a", "video": "a.mp4", "question": "Why?"}


def write(folder: Path, *rows: Any) -> str:
    path = folder / "m.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def read_items(path: str, **settings: Any) -> tuple[Item, ...]:
    return read_manifest(path, Options(), **settings).items


def test_a_row_has_one_item_a_question(tmp_path: Path) -> None:
    row = {"id": 7, "video": "sub/a.mp4", "questions": ["Why?", "Who?"], "options": ["x", "y"],
           "num_frames": 8, "temperature": 1, "meta": {"split": "dev"}}  # fmt: skip
    found = read_manifest(write(tmp_path, row, ROW), Options())
    first, second, third = found.items
    assert not found.is_openai
    assert [item.name for item in found.items] == [("7", 0), ("7", 1), ("a", 0)]
    assert [item.question for item in found.items] == ["Why?", "Who?", "Why?"]
    assert first.video == str(tmp_path / "sub/a.mp4")
    assert first.choices == second.choices == ("x", "y")
    assert first.changes == {"num_frames": 8, "temperature": 1}
    assert json.loads(first.meta) == {"split": "dev"}
    assert (third.choices, third.changes, third.meta) == ((), {}, "")


def test_an_address_or_a_whole_path_stays_as_it_is(tmp_path: Path) -> None:
    rows = [{**ROW, "id": str(i), "video": v} for i, v in enumerate(["s3://b/a.mp4", "/x/a.mp4"])]
    videos = [item.video for item in read_items(write(tmp_path, *rows))]
    assert videos == ["s3://b/a.mp4", "/x/a.mp4"]


def test_the_key_changes_with_whatever_decides_the_answer(tmp_path: Path) -> None:
    variants = [
        ROW,
        {**ROW, "id": "b"},
        {**ROW, "video": "b.mp4"},
        {**ROW, "question": "Who?"},
        {**ROW, "options": ["x", "y"]},
        {**ROW, "options": ["y", "x"]},
        {**ROW, "budget": 9},
    ]
    keys = [read_items(write(tmp_path, row))[0].key for row in variants]
    assert len(set(keys)) == len(variants)
    again = {"meta": 1, **dict(reversed(ROW.items()))}
    assert read_items(write(tmp_path, again))[0].key == keys[0]


BAD = [
    ({"video": "a", "question": "x"}, "'id' must be a text or a whole number, not None"),
    ({**ROW, "id": True}, "'id' must be a text or a whole number, not True"),
    ({**ROW, "id": " "}, "'id' must be a text or a whole number, not ' '"),
    ({**ROW, "id": "\udce9"}, "'id' is not UTF-8 text: byte 0xe9"),
    ({**ROW, "video": ""}, "'video' must be a path or a URI, not ''"),
    ({"id": "z", "video": "a"}, "give 'question' or 'questions'"),
    ({**ROW, "questions": ["x"]}, "give 'question' or 'questions'"),
    ({**ROW, "question": 3}, "a question must be a text, not 3"),
    ({**ROW, "question": " "}, "a question is empty"),
    ({"id": "z", "video": "a", "questions": []}, "'questions' must be a list of texts"),
    ({**ROW, "options": ["x"]}, "'options' must be two or more different texts, not ['x']"),
    ({**ROW, "options": ["x", "x"]}, "'options' must be two or more different texts"),
    ({**ROW, "options": ["x", 1]}, "'options' must be two or more different texts"),
    ({**ROW, "options": ["x", "\udce9"]}, "one of 'options' is not UTF-8 text: byte 0xe9"),
    ({"id": "z", "vidio": "a"}, "unknown column 'vidio'; did you mean video?"),
    ({**ROW, "num_fram": 3}, "unknown column 'num_fram'; did you mean num_frames?"),
    ({**ROW, "pruner": "evs"}, "unknown column 'pruner'"),
    ({**ROW, "num_frames": "8"}, "num_frames must be of type int, not '8'"),
    ({**ROW, "budget": 0}, "--budget 0: must be at least 1"),
    ([1], "not a JSON object"),
]


@pytest.mark.parametrize(("row", "message"), BAD)
def test_a_bad_row_is_named_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], row: Any, message: str
) -> None:
    path = write(tmp_path, {**ROW, "id": "first"}, row)
    with pytest.raises(InputError, match=r"m\.jsonl: 1 bad row; nothing was started"):
        read_items(path)
    assert f"{path}:2: {message}" in capsys.readouterr().err


def test_a_file_name_that_is_not_utf_8_is_refused_where_it_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, {**ROW, "video": "caf\udce9.mp4"})
    (item,) = read_items(path, form="jsonl")
    assert item.video == str(tmp_path / "caf\udce9.mp4")
    with pytest.raises(InputError, match="1 bad row"):
        read_items(path, form="parquet")
    assert "--format parquet: 'video' is not UTF-8 text: byte 0xe9" in capsys.readouterr().err


def test_all_bad_rows_are_told_at_once(tmp_path: Path, capsys: Any) -> None:
    path = write(tmp_path, *([ROW] * 30))
    with pytest.raises(InputError, match=r"29 bad rows, of which 20 are shown"):
        read_items(path)
    told = capsys.readouterr().err.splitlines()
    assert told == [f"{path}:{n}: id 'a' is that of line 1" for n in range(2, 22)]


@pytest.mark.parametrize(
    ("value", "kind"), [(datetime(2026, 1, 2), "datetime"), ({"digest": b"\0"}, "bytes")]
)
def test_what_json_cannot_hold_is_no_meta(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], value: Any, kind: str
) -> None:
    path = str(tmp_path / "m.parquet")
    parquet.write_table(pa.Table.from_pylist([{**ROW, "meta": value}]), path)
    with pytest.raises(InputError, match=r"m\.parquet: 1 bad row"):
        read_items(path)
    told = f"{path}:1: 'meta' must be what JSON can hold: Object of type {kind} is not JSON"
    assert told in capsys.readouterr().err


def test_a_row_that_is_nested_too_deeply_is_a_bad_row(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    deep: Any = "x"
    for _ in range(sys.getrecursionlimit()):
        deep = [deep]
    monkeypatch.setattr(manifest, "read_rows", lambda path: [(2, {**ROW, "meta": deep})])
    with pytest.raises(InputError, match="1 bad row"):
        read_items("m.csv")
    assert "m.csv:2: is nested too deeply" in capsys.readouterr().err


def test_columns_can_be_ignored(tmp_path: Path) -> None:
    path = write(tmp_path, {**ROW, "label": "cat", "split": 3})
    assert read_items(path, ignored=["label", "split"])[0].changes == {}


def test_rows_change_sampling_budget_and_generation_only() -> None:
    assert {"num_frames", "fps", "start", "budget", "keep_ratio", "seed"} <= set(row_options())
    assert not {"pruner", "model", "executor", "num_llms", "dtype"} & set(row_options())


def test_a_manifest_without_rows_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no row in it"):
        read_items(write(tmp_path))


def request(**body: Any) -> dict[str, Any]:
    content = [{"type": "video_url", "video_url": {"url": "a.mp4"}}, {"type": "text", "text": "Q"}]
    messages = [{"role": "user", "content": content}]
    return {"custom_id": "r1", "method": "POST", "url": "/v1/chat/completions",
            "body": {"model": "m", "messages": messages, **body}}  # fmt: skip


def test_openai_requests_are_rows(tmp_path: Path) -> None:
    line = request(max_tokens=5, temperature=1, mr_stream={"num_frames": 4, "options": ["x", "y"]})
    found = read_manifest(write(tmp_path, line), Options())
    (item,) = found.items
    assert found.is_openai
    assert (item.row_id, item.video, item.question) == ("r1", str(tmp_path / "a.mp4"), "Q")
    assert item.choices == ("x", "y")
    assert item.changes == {"max_new_tokens": 5, "temperature": 1, "num_frames": 4}


def test_the_form_of_an_answer_may_be_asked_for_as_openai_s_clients_do(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"color": {"type": "string"}}}
    named = {"type": "json_schema", "json_schema": {"name": "seen", "schema": schema}}
    forms = [named, {"type": "json_object"}, {"type": "text"}, None]
    lines = [
        request(response_format=form) | {"custom_id": str(number)}
        for number, form in enumerate(forms)
    ]
    changes = [item.changes for item in read_items(write(tmp_path, *lines))]
    assert json.loads(str(changes[0]["json_schema"])) == schema
    assert json.loads(str(changes[1]["json_schema"])) == {"type": "object"}
    assert changes[2:] == [{}, {}]


TEXT = {"type": "text", "text": "Q"}
CLIP = {"type": "video_url", "video_url": {"url": "a.mp4"}}


OUTWARD = {"type": "json_schema", "json_schema": {"schema": {"$ref": "other.json"}}}


def message(*parts: Any) -> list[Any]:
    return [{"role": "user", "content": list(parts)}]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ({**request(), "url": "/v1/embeddings"}, "must be a POST to /v1/chat/completions"),
        ({**request(), "body": 3}, "'body' must be an object"),
        (request(n=2), "'n' must be 1"),
        (request(logprobs=True), "body.logprobs is not taken"),
        (request(response_format={"type": "xml"}), "must be of type text, json_object or json_sch"),
        (
            request(response_format=OUTWARD),
            "response_format: $ref 'other.json' leads out of the sch",
        ),
        (request(mr_stream=[1]), "body.mr_stream must be an object of options"),
        (request(mr_stream={"x": 1}), "unknown column 'x'"),
        *(
            (request(mr_stream={name: "x"}), f"body.mr_stream.{name} is not taken")
            for name in ("id", "video", "question", "questions")
        ),
        (request(messages=[]), "body.messages must be one user message"),
        (request(messages=[{"role": "system", "content": "x"}]), "must be one user message"),
        (request(messages=message(TEXT)), "must hold one video_url and text"),
        (request(messages=message(CLIP, CLIP, TEXT)), "must hold one video_url and text"),
        (request(messages=message(CLIP, TEXT, {"type": "input_audio"})), "one video_url and text"),
        (request(messages=message(CLIP)), "a question is empty"),
        (
            request(messages=message(CLIP, TEXT, {"type": "text"})),
            "a part of type text must hold a 'text', not None",
        ),
        (request(messages=message(CLIP, {"type": "text", "text": 7})), "hold a 'text', not 7"),
        (request(messages=message({"type": "video_url"}, TEXT)), "video_url must hold a 'url'"),
        (
            request(messages=message({"type": "video_url", "video_url": "data:x"}, TEXT)),
            "data: URLs are not taken in a batch",
        ),
    ],
)
def test_a_request_that_is_not_answered_here_is_a_bad_row(
    tmp_path: Path, capsys: Any, line: Any, problem: str
) -> None:
    with pytest.raises(InputError, match="1 bad row"):
        read_items(write(tmp_path, line))
    assert problem in capsys.readouterr().err


def test_dialects_are_not_mixed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="some rows are OpenAI batch requests"):
        read_items(write(tmp_path, ROW, request()))
