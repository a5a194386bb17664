import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from streaming.batch import job
from streaming.engine import open_engine
from streaming.option_groups import FrameOptions
from streaming.options import Options
from streaming.pipeline import answer_clip
from streaming.plan import plan_clip
from streaming.run_options import RunOptions
from streaming.sample import sample_clip
from tests.checkpoints import rewrite_checkpoint
from workers.llm.answer import SamplingOptions
from workers.messages import SourceRequest
from workers.process import ModelOptions
from workers.run.engine import Engine
from workers.run.local import LocalWorker
from workers.run.worker import Results, WorkerDiedError

QUESTIONS = ["What is shown?", "What moves, and where to?"]


@pytest.fixture
def rows(clips: list[str]) -> list[dict[str, Any]]:
    """Three clips, asked two questions each."""
    return [{"id": Path(clip).stem, "video": clip, "questions": QUESTIONS} for clip in clips]


def name_of(row: dict[str, Any]) -> tuple[str, int]:
    return row["id"], row["question_index"]


def plain(job: Any) -> dict[Any, Any]:
    """Return rows without what differs from run to run."""
    differing = ("seconds", "elapsed_seconds", "attempts")
    return {
        name: {column: value for column, value in row.items() if column not in differing}
        for name, row in job.rows.items()
    }


def test_rows_are_the_answers_of_clips_asked_one_by_one(
    batch: Any, write_manifest: Any, rows: Any, checkpoint: Path
) -> None:
    done = batch(write_manifest(*rows))
    assert done.status == 0, done.err
    options = Options(
        model=ModelOptions(model=str(checkpoint), device="cpu"),
        frames=FrameOptions(num_frames=4),
        generation=SamplingOptions(max_new_tokens=4),
    )
    with open_engine(options) as engine:
        for row in rows:
            plan = plan_clip(sample_clip(row["video"], options), options, QUESTIONS)
            for index, answer in enumerate(answer_clip(engine, plan, QUESTIONS)):
                found = done.rows[row["id"], index]
                assert found["answer"] == answer.answer
                assert found["num_visual_tokens"] == answer.num_visual_tokens
                assert found["budget"] == answer.budget
                assert (found["status"], found["error_type"], found["attempts"]) == ("ok", "", 1)
    assert len(done.rows) == 6
    assert "6 rows in" in done.out
    assert "6 answered, 0 failed; 6 of them now" in done.out


def test_a_clips_own_work_is_done_once_and_stands_in_its_first_row(
    batch: Any, write_manifest: Any, rows: Any
) -> None:
    done = batch(write_manifest(*rows))
    for clip in ("wide", "tall", "small"):
        first, second = (done.rows[clip, index]["seconds"] for index in (0, 1))
        assert {"decode", "tile", "encode", "prune", "allocate"} <= set(first)
        assert set(second) <= {"prefill", "generate"}
    total = sum(sum(row["seconds"].values()) for row in done.rows.values())
    assert sum(done.summary["busy_seconds"].values()) == pytest.approx(total, abs=0.01)
    assert done.summary["clips"] == 3
    assert done.summary["video_hours"] == pytest.approx(3 * 11 / 25 / 3600, abs=1e-6)


def test_the_seconds_of_a_clips_rows_are_those_of_the_clip(
    batch: Any, write_manifest: Any, clips: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    times: list[float] = []
    encode, write = Engine.encode, job.ShardWriter.write

    def timed_encode(self: Engine, clip: Any, show: Any) -> Any:
        times.append(time.perf_counter())
        return encode(self, clip, show)

    def timed_write(self: Any, record: Any) -> bool:
        times.append(time.perf_counter())
        return write(self, record)

    monkeypatch.setattr(Engine, "encode", timed_encode)
    monkeypatch.setattr(job.ShardWriter, "write", timed_write)
    questions = [f"What is shown {number} times?" for number in range(12)]
    done = batch(write_manifest({"id": "a", "video": clips[0], "questions": questions}))
    told = sum(row["elapsed_seconds"] for row in done.rows.values())
    assert 0 < told <= times[-1] - times[0] + 1e-4
    assert done.summary["clip_seconds"]["p95"] == pytest.approx(told, abs=1e-4)


def test_a_bad_clip_is_a_row_and_harms_no_neighbour(
    batch: Any, write_manifest: Any, rows: Any, tmp_path: Path
) -> None:
    (tmp_path / "bad.mp4").write_text("this is no video")
    good = batch(write_manifest(*rows), output="good")
    bad = [
        {"id": "bad", "video": "bad.mp4", "questions": QUESTIONS},
        {"id": "gone", "video": "gone.mp4", "question": "Why?"},
        {"id": "late", "video": rows[0]["video"], "question": "Why?", "start": 99.0},
    ]
    manifest = write_manifest(*bad, *rows)
    done = batch(manifest)
    failed = {name: row for name, row in done.rows.items() if row["status"] == "failed"}
    assert set(failed) == {("bad", 0), ("bad", 1), ("gone", 0), ("late", 0)}
    assert failed["bad", 1]["error_stage"] == "open"
    assert failed["bad", 1]["error_type"] == "VideoOpenError"
    assert "bad.mp4: is not a video" in failed["bad", 1]["error_message"]
    assert failed["late", 0]["error_stage"] == "sample"
    assert "--start 99" in failed["late", 0]["error_message"]
    assert {name: row for name, row in plain(done).items() if name not in failed} == plain(good)
    assert done.status == 1
    assert done.err.splitlines()[-1].startswith("error: 4 of 10 rows failed (open 3, sample 1): ")
    assert done.summary["failed_by_stage"] == {"open": 3, "sample": 1}
    assert batch(manifest, "--max-failure-rate", "0.4").status == 0
    assert batch(manifest, "--max-failure-rate", "0.39").status == 1


def test_a_clip_whose_name_is_not_utf_8_is_asked_like_any_other(
    batch: Any, write_manifest: Any, rows: Any, tmp_path: Path
) -> None:
    shutil.copy(rows[0]["video"], tmp_path / "caf\udce9.mp4")
    names = ["caf\udce9.mp4", "gone\udce9.mp4", "\ud83d.mp4", "file:///\udce9.mp4"]
    odd = [{"id": str(n), "video": name, "question": "Why?"} for n, name in enumerate(names)]
    manifest = write_manifest(*odd, rows[1])
    done = batch(manifest, "--max-failure-rate", "0.6")
    assert done.status == 0, done.err
    assert [done.rows[str(n), 0]["error_stage"] for n in range(4)] == ["", "open", "open", "open"]
    assert done.rows["0", 0]["video"] == str(tmp_path / "caf\udce9.mp4")
    assert "0 of them now" in batch(manifest, "--max-failure-rate", "0.6").out


def test_a_clip_that_decoders_die_of_as_it_is_opened_is_a_row(
    batch: Any, write_manifest: Any, rows: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = LocalWorker.call

    def dying(self: LocalWorker, request: Any, inputs: Sequence[Any]) -> Results:
        if isinstance(request, SourceRequest) and request.paths == (rows[0]["video"],):
            raise WorkerDiedError("killed")
        return call(self, request, inputs)

    monkeypatch.setattr(LocalWorker, "call", dying)
    monkeypatch.setattr(LocalWorker, "replace", lambda self: None)
    done = batch(write_manifest(*rows), "--max-failure-rate", "0.4")
    assert done.status == 0, done.err
    assert done.summary["failed_by_stage"] == {"open": 2}
    row = done.rows["wide", 1]
    assert (row["error_stage"], row["error_type"]) == ("open", "WorkerError")
    assert row["error_message"].endswith("wide.mp4: opening it killed its worker 4 times (killed)")


def test_with_nothing_left_to_do_no_worker_is_started(
    batch: Any, write_manifest: Any, rows: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = write_manifest(*rows)
    first = batch(manifest)
    monkeypatch.setattr(job, "open_engine", None)
    again = batch(manifest)
    assert (again.status, again.rows, again.summary) == (0, first.rows, first.summary)
    assert "0 of them now" in again.out


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Interrupt the run as the given number of rows has been written."""

    def after(num_rows: int) -> None:
        left = [num_rows]
        write = job.ShardWriter.write

        def counted(self: Any, record: Any) -> bool:
            done = write(self, record)
            left[0] -= 1
            return done

        def stopping(*args: Any, **kwargs: Any) -> Iterator[Any]:
            for each in in_flight(*args, **kwargs):
                yield each
                if left[0] <= 0:
                    raise KeyboardInterrupt

        in_flight = job.in_flight
        monkeypatch.setattr(job.ShardWriter, "write", counted)
        monkeypatch.setattr(job, "in_flight", stopping)

    return after


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_an_interrupted_job_goes_on_where_it_was(
    batch: Any,
    write_manifest: Any,
    rows: Any,
    interrupt: Any,
    form: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    manifest = write_manifest(*rows)
    whole = batch(manifest, output="whole")
    with monkeypatch.context():
        interrupt(2)
        stopped = batch(manifest, "--clips-in-flight", "1", "--format", form)
    assert stopped.status == 130
    assert stopped.err.splitlines()[-1] == "error: interrupted"
    kept = stopped.summary["rows"]
    assert 2 <= kept < 6
    assert stopped.summary["pending"] == 6 - kept
    monkeypatch.undo()
    done = batch(manifest)
    assert done.status == 0
    assert f"{6 - kept} of them now" in done.out
    columns = {"id", "question_index", "answer", "num_visual_tokens", "budget"}
    found = [{c: r[c] for c in columns} for r in done.rows.values()]
    for path in done.folder.glob("*.parquet"):
        found += parquet.read_table(path).select(sorted(columns)).to_pylist()
    expected = [{c: r[c] for c in columns} for r in whole.rows.values()]
    assert sorted(found, key=name_of) == sorted(expected, key=name_of)


def test_rows_of_other_settings_are_refused_kept_or_made_anew(
    batch: Any, write_manifest: Any, rows: Any
) -> None:
    manifest = write_manifest(rows[0])
    first = batch(manifest)
    refused = batch(manifest, "--budget", "20")
    assert (refused.status, refused.rows) == (2, first.rows)
    assert "holds rows of another run (budget None -> 20): choose another" in refused.err
    kept = batch(manifest, "--budget", "20", "--on-change", "keep")
    assert (kept.status, kept.rows) == (0, first.rows)
    anew = batch(manifest, "--budget", "20", "--on-change", "redo")
    assert [row["budget"] for row in anew.rows.values()] == [20, 20]
    assert batch(manifest, "--budget", "20").rows == anew.rows


def test_where_and_how_many_workers_run_is_no_other_setting(
    batch: Any, write_manifest: Any, rows: Any
) -> None:
    manifest = write_manifest(rows[0])
    first = batch(manifest)
    settings = ["--num-decoders", "1", "--frames-per-chunk", "3", "--clips-in-flight", "2"]
    assert batch(manifest, *settings).rows == first.rows


def test_a_manifest_and_a_model_may_be_named_otherwise(
    batch: Any,
    write_manifest: Any,
    rows: Any,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copy(rows[0]["video"], tmp_path / "a.mp4")
    manifest = write_manifest({**rows[0], "video": "a.mp4", "questions": ["Who?", "Why?"]})
    monkeypatch.chdir(tmp_path)
    first = batch("manifest.jsonl", "--model", os.path.relpath(checkpoint))
    again = batch(manifest, "--model", f"{checkpoint}/.")
    assert "0 of them now" in again.out, again.err
    assert (again.rows, again.summary) == (first.rows, first.summary)
    refused = batch(write_manifest({**rows[0], "video": "b.mp4"}))
    assert "of id 'wide' is about another video, or to other words" in refused.err


def test_a_question_that_was_changed_is_refused_or_asked_anew(
    batch: Any, write_manifest: Any, rows: Any
) -> None:
    batch(write_manifest(rows[0]))
    changed = write_manifest({**rows[0], "questions": ["Who?", QUESTIONS[1]]})
    refused = batch(changed)
    assert refused.status == 2
    words = "its answer to question 1 of id 'wide' is about another video, or to other words, cho"
    assert words in refused.err
    anew = batch(changed, "--on-change", "redo")
    assert [row["question"] for _, row in sorted(anew.rows.items())] == ["Who?", QUESTIONS[1]]
    assert "1 of them now" in anew.out


def test_rows_that_are_added_are_asked(batch: Any, write_manifest: Any, rows: Any) -> None:
    first = batch(write_manifest(rows[0]))
    more = batch(write_manifest(*rows))
    assert len(more.rows) == 6
    assert {name: more.rows[name] for name in first.rows} == first.rows


def test_a_copy_of_rows_counts_once(batch: Any, write_manifest: Any, rows: Any) -> None:
    manifest = write_manifest(*rows)
    first = batch(manifest)
    shutil.copy(first.folder / "part-00000.jsonl", first.folder / "part-00007.jsonl")
    shutil.copy(first.folder / "part-00000.jsonl", first.folder / "part-all.jsonl")
    again = batch(manifest)
    assert (again.status, again.summary) == (0, first.summary)
    assert "6 rows in" in again.out


def test_what_failed_is_asked_again_only_when_told(
    batch: Any, write_manifest: Any, rows: Any, tmp_path: Path
) -> None:
    manifest = write_manifest({"id": "a", "video": "a.mp4", "question": "Why?"}, rows[1])
    assert batch(manifest).rows["a", 0]["status"] == "failed"
    shutil.copy(rows[0]["video"], tmp_path / "a.mp4")
    assert batch(manifest).rows["a", 0]["status"] == "failed"
    again = batch(manifest, "--retry-failed")
    assert (again.status, len(again.rows)) == (0, 3)
    row = again.rows["a", 0]
    assert (row["status"], row["attempts"], row["error_message"]) == ("ok", 2, "")
    superseded = map(json.loads, (again.folder / "superseded.jsonl").read_text().splitlines())
    assert [(old["id"], old["error_stage"]) for old in superseded] == [("a", "open")]
    assert batch(manifest, "--retry-failed").rows == again.rows


def test_rows_have_options_of_their_own_and_share_the_encoding(
    batch: Any, write_manifest: Any, clips: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[str] = []
    encode = Engine.encode

    def counted(self: Engine, clip: Any, show: Any) -> Any:
        encoded.append(clip.name)
        return encode(self, clip, show)

    monkeypatch.setattr(Engine, "encode", counted)
    row = {"video": clips[0], "question": "Why?"}
    done = batch(
        write_manifest(
            {**row, "id": "all"},
            {**row, "id": "few", "budget": 30},
            {**row, "id": "fewer", "budget": 12, "max_new_tokens": 2},
            {**row, "id": "short", "num_frames": 2},
        )
    )
    assert [done.rows[i, 0]["budget"] for i in ("few", "fewer")] == [30, 12]
    assert done.rows["few", 0]["num_visual_tokens"] == 30
    assert done.rows["fewer", 0]["num_answer_tokens"] <= 2
    assert done.rows["short", 0]["num_frames"] == 2
    assert encoded == [clips[0]] * 2  # once for four frames, once for two


def test_rows_that_are_shown_the_same_are_answered_together_and_as_alone(
    batch: Any, write_manifest: Any, clips: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"video": clips[0], "question": "What?"}
    own = [
        {"options": ["red", "a blue cube"]},
        {"options": ["one", "two", "three"], "budget": 30},
        {"seed": 3, "temperature": 1.0},
        {"max_new_tokens": 2, "budget": 30},
        {"options": ["yes", "no"]},
        {},
    ]
    rows = [{**row, "id": str(number), **more} for number, more in enumerate(own)]
    alone: dict[Any, Any] = {}
    for each in rows:
        alone |= plain(batch(write_manifest(each), output=f"alone-{each['id']}"))
    made: list[int] = []
    allocate = Engine.allocate

    def counted(self: Engine, encoded: Any, allocation: Any) -> Any:
        made.append(allocation.budget)
        return allocate(self, encoded, allocation)

    monkeypatch.setattr(Engine, "allocate", counted)
    done = batch(write_manifest(*rows))
    assert plain(done) == alone
    assert len(made) == 2
    assert made[1] == 30


def test_with_a_bank_another_job_neither_decodes_nor_encodes(
    batch: Any, write_manifest: Any, rows: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank = ["--bank", str(tmp_path / "bank"), "--budget", "40"]
    plain_job = batch(write_manifest(*rows), "--budget", "40", output="plain")
    first = batch(write_manifest(*rows), *bank, output="first")
    assert {row["bank"] for row in first.rows.values()} == {"made"}
    monkeypatch.setattr(Engine, "encode", None)
    again = batch(write_manifest(*rows), *bank, output="again")
    assert {(row["bank"], row["bank_budget"]) for row in again.rows.values()} == {("hit", 40)}
    less = write_manifest({**rows[0], "id": "less", "budget": 30})
    smaller = batch(less, *bank, output="smaller")
    assert {(row["budget"], row["bank_budget"]) for row in smaller.rows.values()} == {(30, 40)}
    answers = [
        {name: row["answer"] for name, row in done.rows.items()}
        for done in (plain_job, first, again)
    ]
    assert answers[0] == answers[1] == answers[2]


@pytest.mark.parametrize(
    ("pruner", "budgets"), [("uniform", [60]), ("coverage", [60]), ("mr_pruner", [20, 40, 60])]
)
def test_with_a_bank_the_largest_budget_of_a_clip_serves_the_others(
    batch: Any,
    write_manifest: Any,
    clips: list[str],
    pruner: str,
    budgets: list[int],
    tmp_path: Path,
) -> None:
    row = {"video": clips[0], "question": "Why?"}
    rows = [{**row, "id": str(budget), "budget": budget} for budget in (20, 40, 60)]
    bank = ["--bank", str(tmp_path / "bank"), "--pruner", pruner]
    done = batch(write_manifest(*rows), *bank)
    assert [row["bank"] for row in done.rows.values()].count("made") == len(budgets)
    assert sorted({row["bank_budget"] for row in done.rows.values()}) == budgets
    alone = [batch(write_manifest(row), *bank[2:], output=row["id"]) for row in rows]
    answers = {name: row["answer"] for each in alone for name, row in each.rows.items()}
    assert {name: row["answer"] for name, row in done.rows.items()} == answers


def test_the_answer_is_one_of_the_options(
    batch: Any, write_manifest: Any, rows: Any, clips: list[str]
) -> None:
    options = ["a red ball", "a blue cube, turning", "neither"]
    choice = {"id": "choice", "video": clips[0], "question": "What?", "options": options}
    same = {**choice, "id": "same", "options": ["red", "red "]}
    alone = batch(write_manifest(rows[0]), output="alone")
    done = batch(write_manifest(choice, same, rows[0]))
    assert done.rows["choice", 0]["answer"] in options
    assert done.rows["same", 0]["error_stage"] == "plan"
    others = {n: r for n, r in plain(done).items() if n[0] not in ("choice", "same")}
    assert others == plain(alone)


def test_a_question_that_does_not_fit_is_a_row_and_costs_the_others_nothing(
    batch: Any, write_manifest: Any, rows: Any
) -> None:
    alone = batch(write_manifest(rows[0]), output="alone")
    long = {"id": "long", "video": rows[0]["video"], "question": "why " * 200_000}
    done = batch(write_manifest(long, rows[0]))
    assert done.rows["long", 0]["error_stage"] == "plan"
    assert done.rows["long", 0]["error_type"] == "ContextError"
    assert {n: r for n, r in plain(done).items() if n[0] != "long"} == plain(alone)


def test_a_failure_of_the_workers_ends_the_job_and_writes_no_row(
    batch: Any, write_manifest: Any, rows: Any, checkpoint: Path, tmp_path: Path
) -> None:
    broken = rewrite_checkpoint(checkpoint, tmp_path / "broken", without="multi_modal_projector")
    done = batch(write_manifest(*rows), "--model", str(broken))
    assert (done.status, done.rows) == (1, {})
    assert "broken: projector: Error(s) in loading" in done.err.splitlines()[-1]
    assert done.summary["pending"] == 6


def test_two_runs_do_not_write_into_one_folder(
    batch: Any, write_manifest: Any, rows: Any, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    with (tmp_path / "out" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = batch(write_manifest(*rows))
    assert done.status == 2
    assert done.err.splitlines()[-1].endswith("out: another run writes into it")


def test_requests_are_answered_in_their_own_dialect(
    batch: Any, write_manifest: Any, clips: list[str]
) -> None:
    clip = {"type": "video_url", "video_url": {"url": clips[0]}}
    content = [{"type": "text", "text": "Why?"}, clip]
    body = {"model": "x", "max_tokens": 3, "messages": [{"role": "user", "content": content}]}
    line = {"custom_id": "r", "method": "POST", "url": "/v1/chat/completions", "body": body}
    manifest = write_manifest(line)
    done = batch(manifest)
    answer = json.loads((done.folder / "part-00000.jsonl").read_text())
    assert (answer["custom_id"], answer["error"]) == ("r", None)
    assert answer["response"]["body"]["usage"]["completion_tokens"] <= 3
    assert "0 of them now" in batch(manifest).out
    ours = batch(manifest, "--format", "jsonl", output="ours")
    message = answer["response"]["body"]["choices"][0]["message"]
    assert ours.rows["r", 0]["answer"] == message["content"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shard-rows", "0"], "--shard-rows 0: must be at least 1"),
        (["--shard-seconds", "nan"], "--shard-seconds nan: must be above 0"),
        (["--max-failure-rate", "2"], "--max-failure-rate 2: must be from 0 to 1"),
        (
            ["--output", "s3://b/out"],
            "--output s3://b/out: must be a folder, for example a mounted",
        ),
        (["--outptu", "x"], "did you mean --output?"),
        (["--model", "no"], "unknown model 'no'"),
    ],
)
def test_a_wrong_option_is_one_line_before_anything_is_written(
    batch: Any, write_manifest: Any, rows: Any, arguments: list[str], message: str
) -> None:
    done = batch(write_manifest(*rows), *arguments)
    assert done.status in (1, 2)
    assert message in done.err
    assert not list(done.folder.glob("part-*"))


def test_a_folder_that_cannot_be_made_is_one_line(
    batch: Any, write_manifest: Any, rows: Any, tmp_path: Path
) -> None:
    (tmp_path / "out").write_text("a file")
    done = batch(write_manifest(*rows))
    assert (done.status, done.err.splitlines()[-1]) == (
        2, f"error: --output {tmp_path}/out: File exists"
    )  # fmt: skip


def test_a_folder_of_something_else_is_refused(
    batch: Any, write_manifest: Any, rows: Any, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "manifest.json").write_text("{}")
    assert "is not of a run; choose another --output" in batch(write_manifest(*rows)).err


@pytest.mark.parametrize(
    ("settings", "address", "executor"),
    [
        ({}, "10.0.0.1:6379", "ray"),
        ({"executor": "local"}, None, "local"),
        ({"address": "10.0.0.2:6379"}, "10.0.0.2:6379", "ray"),
    ],
)
def test_a_job_joins_the_cluster_of_the_environment_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, settings: Any, address: str | None, executor: str
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    run = job.settled(Options(run=RunOptions(**settings))).run
    assert (run.address, run.resolved_executor) == (address, executor)


def test_a_job_decodes_in_processes_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    run = job.settled(Options()).run
    assert (run.address, run.resolved_executor) == (None, "ray")
