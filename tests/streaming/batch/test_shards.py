import json
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pyarrow import parquet

from streaming.batch import shards
from streaming.batch.record import FAILED, Record, schema
from streaming.batch.shards import FORMATS, ShardWriter, forget, read_shards, recover, write_whole


def make(number: int, **values: Any) -> Record:
    return Record(
        **{
            "id": f"row-{number}",
            "question_index": number % 3,
            "video": "ä.mp4",
            "question": "Was?\n",
            "answer": "\u2028 x",
            "seconds": {"decode": 0.5, "generate": 0.25},
            "warnings": ("cut short",),
            "key": f"{number:x}",
            **values,
        }
    )


RECORDS = [make(n) for n in range(10)]
RECORDS[3] = make(3, status=FAILED, error_stage="open", error_type="E", error_message="m")
RECORDS[4] = make(4, seconds={}, warnings=())


def writer(folder: Path, form: str = "jsonl", rows: int = 4, seconds: float = 99) -> ShardWriter:
    return ShardWriter(folder, form, rows=rows, seconds=seconds)


@pytest.mark.parametrize("form", FORMATS)
def test_what_is_written_is_read(tmp_path: Path, form: str) -> None:
    with writer(tmp_path, form) as shard:
        assert all(map(shard.write, RECORDS))
    ending = "parquet" if form == "parquet" else "jsonl"
    names = [f"part-0000{n}.{ending}" for n in range(3)]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert list(read_shards(tmp_path)) == RECORDS


@pytest.mark.parametrize("form", ["jsonl", "openai"])
def test_a_file_name_that_is_not_utf_8_comes_back(tmp_path: Path, form: str) -> None:
    record = make(1, video="caf\udce9.mp4")
    with writer(tmp_path, form) as shard:
        assert shard.write(record)
    assert b"caf\\udce9.mp4" in (tmp_path / "part-00000.jsonl").read_bytes()
    assert list(read_shards(tmp_path)) == [record]


def test_a_parquet_shard_has_one_schema_whatever_its_rows(tmp_path: Path) -> None:
    with writer(tmp_path, "parquet", rows=1) as shard:
        assert all(map(shard.write, RECORDS))
    tables = [parquet.read_table(path) for path in tmp_path.iterdir()]
    assert all(table.schema == schema() for table in tables)
    assert not any("null" in str(column.type) for column in tables[0].schema)
    assert schema().field("error_message").type == "string"


def test_an_old_shard_is_closed_with_its_next_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    # Not of the module itself: a server in this process would wait by it.
    monkeypatch.setattr(shards, "time", SimpleNamespace(monotonic=lambda: now[0]))
    with writer(tmp_path, seconds=60) as shard:
        shard.write(RECORDS[0])
        now[0] = 59.0
        shard.write(RECORDS[1])
        assert [path.name for path in tmp_path.iterdir()] == ["part-00000.jsonl.tmp"]
        now[0] = 60.0
        shard.write(RECORDS[2])
        assert [path.name for path in tmp_path.iterdir()] == ["part-00000.jsonl"]


def test_a_row_is_in_the_journal_at_once(tmp_path: Path) -> None:
    with writer(tmp_path) as shard:
        shard.write(RECORDS[0])
        (journal,) = tmp_path.iterdir()
        assert json.loads(journal.read_bytes()) == RECORDS[0].to_json()


def test_a_closed_writer_writes_nothing(tmp_path: Path) -> None:
    with writer(tmp_path) as shard:
        shard.write(RECORDS[0])
    assert not shard.write(RECORDS[1])
    assert list(read_shards(tmp_path)) == RECORDS[:1]


def test_threads_write_whole_rows(tmp_path: Path) -> None:
    records = [make(n, answer="x" * 5000) for n in range(200)]
    with writer(tmp_path, rows=7) as shard:
        threads = [
            threading.Thread(
                target=lambda part: list(map(shard.write, part)), args=(records[i::4],)
            )
            for i in range(4)
        ]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
    assert sorted(read_shards(tmp_path), key=lambda record: int(record.key, 16)) == records


@pytest.mark.parametrize("form", FORMATS)
def test_of_a_kill_no_whole_row_is_lost_at_any_byte(tmp_path: Path, form: str) -> None:
    with writer(tmp_path, form, rows=2) as shard:
        list(map(shard.write, RECORDS[:3]))
        journal = (tmp_path / "part-00001.jsonl.tmp").read_bytes()
    rows = [journal, journal + journal]
    for cut in {*range(0, len(journal), 7), len(journal) - 1, len(journal), len(journal) + 9}:
        folder = tmp_path / str(cut)
        folder.mkdir()
        (folder / "part-00004.jsonl.tmp").write_bytes(rows[cut > len(journal)][:cut])
        expected = RECORDS[2:3] if cut >= len(journal) - 1 else []
        assert recover(folder, form) == len(expected)
        assert list(read_shards(folder)) == expected
        assert not list(folder.glob("*.tmp"))
        assert recover(folder, form) == 0


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("moment", ["published", "removed", "half written"])
def test_a_kill_while_a_shard_is_closed_or_recovered(
    tmp_path: Path, form: str, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with writer(tmp_path, form, rows=99) as shard:
        list(map(shard.write, RECORDS))
        journal = (tmp_path / "part-00000.jsonl.tmp").read_bytes()
    (path,) = tmp_path.iterdir()
    left = {
        "published": lambda: (tmp_path / "part-00000.jsonl.tmp").write_bytes(journal),
        "removed": lambda: None,
        "half written": lambda: (
            (tmp_path / "part-00000.jsonl.tmp").write_bytes(journal),
            path.rename(path.with_name(path.name + ".new")),
        ),
    }
    left[moment]()
    recover(tmp_path, form)
    assert list(read_shards(tmp_path)) == RECORDS
    assert len(list(tmp_path.iterdir())) == 1


def test_a_shard_after_a_recovered_one_has_a_number_of_its_own(tmp_path: Path) -> None:
    with writer(tmp_path, rows=1) as shard:
        shard.write(RECORDS[0])
    (tmp_path / "part-00000.jsonl").rename(tmp_path / "part-00007.jsonl.tmp")
    recover(tmp_path, "parquet")
    with writer(tmp_path) as shard:
        shard.write(RECORDS[1])
    assert [p.name for p in sorted(tmp_path.iterdir())] == [
        "part-00007.parquet",
        "part-00008.jsonl",
    ]
    assert list(read_shards(tmp_path)) == RECORDS[:2]


def test_files_of_other_names_are_left_alone(tmp_path: Path) -> None:
    with writer(tmp_path) as shard:
        list(map(shard.write, RECORDS))
    names = ["part-all.jsonl", "part-0.jsonl", "part-00001.jsonl.bak", "part-a.jsonl.tmp",
             "part-00000 (1).jsonl", "part-b.parquet.new"]  # fmt: skip
    whole = (tmp_path / "part-00000.jsonl").read_bytes()
    for name in names:
        (tmp_path / name).write_bytes(whole)
    assert recover(tmp_path, "jsonl") == 0
    forget(tmp_path, "jsonl", lambda record: record == RECORDS[1])
    with writer(tmp_path) as shard:
        shard.write(RECORDS[1])
    assert (tmp_path / "part-00003.jsonl").exists()
    assert list(read_shards(tmp_path)) == [RECORDS[0], *RECORDS[2:], RECORDS[1]]
    assert [(tmp_path / name).read_bytes() for name in names] == [whole] * len(names)


def test_shards_are_read_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    with writer(tmp_path) as shard:
        shard.write(RECORDS[0])
    (tmp_path / "part-00000.jsonl").rename(tmp_path / "part-99999.jsonl")
    with writer(tmp_path) as shard:
        shard.write(RECORDS[1])
    assert (tmp_path / "part-100000.jsonl").exists()
    assert list(read_shards(tmp_path)) == RECORDS[:2]


@pytest.mark.parametrize("form", FORMATS)
def test_rows_are_forgotten_shard_by_shard(tmp_path: Path, form: str) -> None:
    with writer(tmp_path, form) as shard:
        list(map(shard.write, RECORDS))
    untouched = sorted(tmp_path.iterdir())[1].stat().st_mtime_ns
    forget(tmp_path, form, lambda record: int(record.key, 16) in (0, 3, 8, 9))
    assert list(read_shards(tmp_path)) == [RECORDS[n] for n in (1, 2, 4, 5, 6, 7)]
    assert [path.name[:10] for path in sorted(tmp_path.iterdir())] == ["part-00000", "part-00001"]
    assert sorted(tmp_path.iterdir())[1].stat().st_mtime_ns == untouched


def test_a_file_is_replaced_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "summary.json"
    write_whole(path, "old")

    def die(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(shards.os, "fsync", die)
    with pytest.raises(KeyboardInterrupt):
        write_whole(path, "new")
    assert path.read_text() == "old"


def test_an_openai_response_holds_the_answer_and_its_tokens(tmp_path: Path) -> None:
    records = [make(1, answer="red", finish_reason="length", num_text_tokens=30,
                    num_visual_tokens=12, num_answer_tokens=2), RECORDS[3]]  # fmt: skip
    with writer(tmp_path, "openai") as shard:
        list(map(shard.write, records))
    lines = (tmp_path / "part-00000.jsonl").read_text().split("\n")[:2]
    good, bad = map(json.loads, lines)
    body = good["response"]["body"]
    assert (good["custom_id"], good["error"]) == ("row-1", None)
    assert good["response"]["status_code"] == 200
    (choice,) = body["choices"]
    assert choice["message"] == {"role": "assistant", "content": "red"}
    assert choice["finish_reason"] == "length"
    assert body["usage"] == {"prompt_tokens": 42, "completion_tokens": 2, "total_tokens": 44}
    assert (bad["response"], bad["error"]) == (None, {"code": "E", "message": "m"})
