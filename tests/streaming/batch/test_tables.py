import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from streaming.batch.tables import read_rows
from workers.errors import InputError

ROWS = [
    {"id": "a", "video": "a.mp4", "question": "Why?", "num_frames": 8},
    {"id": "b", "video": "b.mp4", "questions": ["Who?", "Where?"], "timestamps": True},
]
JSON = (
    '{"id": "a", "video": "a.mp4", "question": "Why?", "num_frames": 8, "budget": null}\n\n'
    '{"id": "b", "video": "b.mp4", "questions": ["Who?", "Where?"], "timestamps": true}'
)
CSV = (
    "id,video,question,num_frames,questions,timestamps\n"
    'a,a.mp4,Why?,8,,\nb,b.mp4,,,"[""Who?"", ""Where?""]",TRUE\n'
)


def read(path: Path) -> list[Any]:
    return list(read_rows(str(path)))


@pytest.mark.parametrize(
    ("name", "text", "numbers"),
    [("m.jsonl", JSON, [1, 3]), ("m.NDJSON", JSON, [1, 3]), ("m.csv", CSV, [2, 3])],
)
def test_every_text_format_gives_the_same_rows(
    tmp_path: Path, name: str, text: str, numbers: list[int]
) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8-sig")  # as spreadsheets write it
    assert read(tmp_path / name) == list(zip(numbers, ROWS, strict=True))


def test_parquet_gives_the_same_rows(tmp_path: Path) -> None:
    table = pa.Table.from_pylist(
        ROWS, schema=pa.schema([("id", pa.string()), ("video", pa.string()),
                                ("question", pa.string()), ("num_frames", pa.int32()),
                                ("questions", pa.list_(pa.string())),
                                ("timestamps", pa.bool_())])
    )  # fmt: skip
    parquet.write_table(table, tmp_path / "m.parquet", row_group_size=1)
    assert read(tmp_path / "m.parquet") == list(enumerate(ROWS, start=1))


def test_a_uri_is_read_through_pyarrow(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text(JSON)
    assert list(read_rows(f"file://{tmp_path}/m.jsonl")) == read(tmp_path / "m.jsonl")


def test_text_columns_of_a_csv_stay_text(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("id,video,question,meta,budget\n007,1,true,[1],[1\n")
    ((_, row),) = read(tmp_path / "m.csv")
    assert row == {"id": "007", "video": "1", "question": "true", "meta": "[1]", "budget": "[1"}


def test_separators_inside_a_line_of_json_do_not_end_it(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_bytes('{"id": "a\u2028\x85b"}\r\n{"id": "c"}\r\n'.encode())
    assert read(tmp_path / "m.jsonl") == [(1, {"id": "a\u2028\x85b"}), (2, {"id": "c"})]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("m.jsonl", b'{"id": 1}\n{"id"\n', (2, "not valid JSON")),
        ("m.jsonl", b"[1]\n", (1, "not a JSON object")),
        ("m.jsonl", b'{"meta": ' + b"[" * 100_000, (1, "is nested too deeply")),
        ("m.jsonl", b'{"id": "\xff"}\n', (1, "not valid JSON")),
        ("m.csv", b"id,video\na,b,c\n", (2, "must have as many cells as the head line has, 2")),
        ("m.csv", b"id,video\na\n", (2, "must have as many cells as the head line has, 2")),
    ],
)
def test_a_bad_row_is_told_with_its_number(
    tmp_path: Path, name: str, content: bytes, expected: tuple[int, str]
) -> None:
    (tmp_path / name).write_bytes(content)
    number, problem = read(tmp_path / name)[-1]
    assert number == expected[0]
    assert problem.startswith(expected[1])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.txt", b"", r"m\.txt: its name must end in one of \.jsonl, "),
        ("m.csv", b'id\n"a', r"m\.csv: unexpected end of data"),
        ("m.csv", b"id\n\xff\n", r"m\.csv: 'utf-8' codec can't decode"),
        ("m.parquet", b"nothing", r"m\.parquet: not a table of Parquet"),
        ("m.parquet", gzip.compress(b"x" * 99, mtime=0), r"m\.parquet: not a table of Parquet"),
        ("none/m.jsonl", None, r"none/m\.jsonl: No such file or directory"),
    ],
)
def test_a_file_that_is_no_table_is_one_error(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    content is None or (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read(tmp_path / name)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("ftp://host/m.jsonl", "ftp://host/m.jsonl: Unrecognized filesystem type in URI"),
        ("file:///none/m.jsonl", "file:///none/m.jsonl: .*No such file"),
    ],
)
def test_a_uri_that_cannot_be_read_is_one_error(uri: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        list(read_rows(uri))
