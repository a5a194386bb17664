"""Clips as rows: by hand, and on Ray Data itself."""

import gc
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streaming import ray_data
from streaming.engine import open_engine
from streaming.flags import change
from streaming.options import Options
from streaming.pipeline import answer_clip
from streaming.plan import plan_clip
from streaming.ray_data import AskClips
from streaming.sample import sample_clip
from tests.clips import draw_clip
from workers.errors import InputError, ModelError, WorkerError

QUESTIONS = ["What color is the cat?", "How many people are there?"]
ADDED = {
    "answers": pa.list_(pa.string()), "error": pa.string(), "seconds": pa.float64(),
    "num_visual_tokens": pa.int64(),
}  # fmt: skip


@pytest.fixture(scope="module")
def settings(checkpoint: Path) -> dict[str, Any]:
    return {
        "model": str(checkpoint), "device": "cpu", "num_frames": 4, "budget": 60,
        "max_new_tokens": 6,
    }  # fmt: skip


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Four clips with one question or two; the second is none."""
    folder = tmp_path_factory.mktemp("clips")
    paths = [draw_clip(folder / f"{n}.mp4", num_frames=20, first_number=90 * n) for n in range(4)]
    paths[1].write_bytes(b"nothing" * 99)
    return [
        {"id": f"row-{n}", "video": str(path), "questions": QUESTIONS[: 1 + n % 2]}
        for n, path in enumerate(paths)
    ]


@pytest.fixture(scope="module")
def expected(rows: list[dict[str, Any]], settings: dict[str, Any]) -> dict[str, list[str]]:
    """The answers of the pipeline in this process, clip by clip; none of the one that is none."""
    options = change(Options(), settings, source="the test")
    said: dict[str, list[str]] = {"row-1": []}
    with open_engine(options) as engine:
        for row in rows[:1] + rows[2:]:
            plan = plan_clip(sample_clip(row["video"], options), options, row["questions"])
            answers = answer_clip(engine, plan, row["questions"])
            said[row["id"]] = [answer.answer for answer in answers]
    assert len({answers[0] for answers in said.values() if answers}) == 3
    return said


@pytest.fixture(scope="module")
def asker(settings: dict[str, Any]) -> Iterator[AskClips]:
    asker = AskClips(settings)
    yield asker
    asker.close()


def check(table: pa.Table, expected: dict[str, list[str]]) -> None:
    """See that each row has its answers, or its error, in columns of the types promised."""
    assert {name: table.schema.field(name).type for name in ADDED} == ADDED
    for row in table.to_pylist():
        assert row["answers"] == expected[row["id"]]
        assert ("is not a video" in row["error"]) == (row["id"] == "row-1")
        assert (row["error"] == "") == bool(row["answers"])
        assert (0 < row["num_visual_tokens"] <= 60) == bool(row["answers"])
        assert row["seconds"] > 0
    assert sorted(table["id"].to_pylist()) == sorted(expected)


def test_rows_get_their_answers_or_their_error(
    asker: AskClips, rows: list[dict[str, Any]], expected: dict[str, list[str]]
) -> None:
    table = asker(pa.Table.from_pylist(rows))
    check(table, expected)
    assert table.select(["id", "video", "questions"]).to_pylist() == rows


def test_a_batch_may_be_of_numpy_arrays(
    asker: AskClips, rows: list[dict[str, Any]], expected: dict[str, list[str]]
) -> None:
    found = []
    for row in rows:
        questions = np.empty(1, object)
        questions[0] = np.array(row["questions"], object)
        texts = {name: np.array([row[name]], object) for name in ("id", "video")}
        found.append(asker({**texts, "questions": questions}))
        assert found[-1].schema.field("questions").type == pa.list_(pa.string())
    check(pa.concat_tables(found), expected)


def test_one_question_may_stand_in_a_column_of_its_own(
    asker: AskClips, rows: list[dict[str, Any]], expected: dict[str, list[str]]
) -> None:
    row = {"id": "row-0", "video": rows[0]["video"], "question": QUESTIONS[0]}
    assert asker(pa.Table.from_pylist([row]))["answers"].to_pylist() == [expected["row-0"]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"questions": []}, "a row needs a video and questions, as texts, not None"),
        ({"questions": None}, "a row needs a video and questions, as texts, not None"),
        ({"questions": ["What?", None]}, "a row needs a video and questions, as texts, not None"),
        ({"questions": [" "]}, "the video or a question is empty"),
        ({"video": None}, "a row needs a video and questions, as texts, not None"),
        ({"video": "none.mp4"}, "none.mp4: No such file"),
        ({"questions": ["why " * 40_000]}, "ask a question shorter by"),
    ],
)
def test_what_is_wrong_with_a_row_stays_in_it(
    asker: AskClips,
    rows: list[dict[str, Any]],
    expected: dict[str, list[str]],
    changes: dict[str, Any],
    message: str,
) -> None:
    table = asker(pa.Table.from_pylist([rows[0] | changes, rows[0]]))
    bad, good = table.to_pylist()
    assert message in bad["error"]
    assert [bad["answers"], bad["num_visual_tokens"]] == [[], 0]
    assert [good["error"], good["answers"]] == ["", expected["row-0"]]


def test_a_fault_of_the_program_is_raised(
    asker: AskClips, rows: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(ray_data, "plan_clip")
    with pytest.raises(NameError, match="plan_clip"):
        asker(pa.Table.from_pylist(rows))


def test_a_column_that_is_there_already_is_refused(
    asker: AskClips, rows: list[dict[str, Any]]
) -> None:
    table = pa.Table.from_pylist([rows[0] | {"answers": ["red"]}])
    with pytest.raises(InputError, match=r"^the rows have a column 'answers' already: rename it$"):
        asker(table)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"bugdet": 5}, InputError, r"^options: unknown option 'bugdet'; did you mean budget\?$"),
        ({"executor": "ray"}, InputError, "leave out executor and address"),
        ({"address": "auto"}, InputError, "leave out executor and address"),
        ({"model": "nothing"}, ModelError, "unknown model 'nothing'"),
        ({"pruner": "fastv", "fastv_layer": 90}, InputError, "--fastv-layer 90 is out of range"),
    ],
)
def test_what_no_row_can_be_asked_with_is_refused_at_once(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        AskClips(options)


def test_the_engine_is_made_once_and_closed_with_its_owner(
    rows: list[dict[str, Any]], settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asker = AskClips(settings | {"num_encoders": 2})
    engine, options = asker._engine, asker._options
    assert options.run.resolved_executor == "local"
    monkeypatch.delattr(ray_data, "open_engine")
    for _ in range(2):
        assert asker(pa.Table.from_pylist(rows[:1]))["error"].to_pylist() == [""]
    clip = plan_clip(sample_clip(rows[0]["video"], options), options, QUESTIONS).clip
    del asker
    gc.collect()
    with pytest.raises(WorkerError, match=r"^the engine was closed$"):
        engine.encode(clip)


_ON_RAY_DATA = """
import json, sys
import ray, ray.data
from streaming.ray_data import AskClips

folder, settings = sys.argv[1], json.loads(sys.argv[2])
ray.init(
    address="local", num_cpus=3, include_dashboard=False, object_store_memory=256 * 2**20,
    log_to_driver=False, logging_level="CRITICAL",
)
ray.data.DataContext.get_current().enable_progress_bars = False
read = ray.data.read_json(f"{folder}/rows.jsonl")
for format_ in ("numpy", "pyarrow"):
    asked = read.map_batches(
        AskClips, batch_size=1, batch_format=format_, max_restarts=2, max_task_retries=2,
        fn_constructor_kwargs={"options": settings}, compute=ray.data.ActorPoolStrategy(size=1),
    )
    asked.write_parquet(f"{folder}/{format_}")
"""


@pytest.mark.slow
def test_ray_data_answers_as_the_pipeline_does(
    rows: list[dict[str, Any]],
    settings: dict[str, Any],
    expected: dict[str, list[str]],
    tmp_path: Path,
) -> None:
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    # In a process of its own, as Ray keeps what it has read of authentication.
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    command = [sys.executable, "-c", _ON_RAY_DATA, str(tmp_path), json.dumps(settings)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    for format_ in ("numpy", "pyarrow"):
        table = pq.read_table(tmp_path / format_)
        check(table, expected)
        assert table.schema.field("questions").type.value_type == pa.string()
