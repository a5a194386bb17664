import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streaming.watch import command
from tests.clips import draw_clip
from tests.sources import Content, serve
from tests.streaming.conftest import Result

ROOT = Path(__file__).parents[3]
SETTINGS = ["--device", "cpu", "--budget", "96", "--window", "4", "--max-new-tokens", "6"]


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Six seconds of numbered pictures."""
    path = tmp_path_factory.mktemp("clip") / "numbers.mkv"
    return str(draw_clip(path, num_frames=150))


@pytest.fixture
def run(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Run the command in this process."""

    def watch(*arguments: str) -> Result:
        capsys.readouterr()
        status = command.main([*arguments, "--model", str(checkpoint), *SETTINGS])
        return Result(status, *capsys.readouterr())

    return watch


Run = Callable[..., Result]


def answers_of(result: Result) -> list[tuple[float, str, list[Any]]]:
    return [(each["media_seconds"], each["answer"], each["frames"]) for each in result.objects]


def test_the_answers_of_a_stream_are_those_of_the_file_cut_there(run: Run, clip: str) -> None:
    live = run(clip, "what?", "and then?", "--every", "1.5", "--fps", "5", "--json")
    assert live.status == 0, live.err
    times = [answer["media_seconds"] for answer in live.objects]
    assert times == [1.5, 1.5, 3.0, 3.0, 4.5, 4.5, 6.0, 6.0]
    cut = run(
        clip, "what?", "and then?", "--fps", "5", "--json",
        *(word for time in (1.5, 3.0, 4.5, 6.0) for word in ("--at", str(time))),
    )  # fmt: skip
    assert answers_of(cut) == answers_of(live)
    first = live.objects[0]
    assert first["question"] == "what?"
    assert first["lag_seconds"] is None
    assert first["gaps"] == []
    assert (first["num_seen_frames"], first["num_dropped_frames"]) == (8, 0)
    assert first["num_visual_tokens"] <= first["budget"] == 96
    assert first["num_held_tokens"] <= first["max_held_tokens"] <= 4 * 96
    summary = live.err.splitlines()[-1]
    assert summary.startswith("seen 00:00:06 in 30 frames (0 dropped, 0 gaps of 0.0 s), 8 answers")


def test_it_is_a_line_an_answer(run: Run, clip: str) -> None:
    result = run(clip, "what?", "--every", "3", "--choice", "yes", "--choice", "no")
    assert result.status == 0
    lines = result.out.splitlines()
    assert [line[:11] for line in lines] == ["[00:00:03] ", "[00:00:06] "]
    assert all(line[11:] in ("yes", "no") for line in lines)


def test_only_changes_are_told(run: Run, clip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from streaming.watch import asker

    said = iter(["n", "y", "n", "n", "y", "y", "y", "n"])
    whole = asker._whole

    def scripted(pieces: Any) -> Any:
        from dataclasses import replace

        return replace(whole(pieces), answer=next(said))

    monkeypatch.setattr(asker, "_whole", scripted)
    result = run(clip, "door?", "--every", "0.75", "--fps", "8", "--on-change", "--json")
    assert result.status == 0
    assert [(each["media_seconds"], each["answer"]) for each in result.objects] == [
        (3.0, "n"),
        (4.5, "y"),
    ]
    assert all(each["changed"] for each in result.objects)


def test_a_source_that_never_comes_is_one_line(run: Run) -> None:
    with serve({}) as address:
        result = run(f"{address}/live.m3u8", "what?", "--give-up", "2")
    assert (result.status, result.out) == (1, "")
    assert result.err.splitlines()[-1] == (
        f"error: {address}/live.m3u8: no picture for 2 s "
        "(cannot be opened: Server returned 404 Not Found)"
    )


def test_a_server_that_dies_and_comes_back_changes_no_answer(run: Run, clip: str) -> None:
    words = ["what?", "--every", "2", "--fps", "5", "--json"]
    data = Path(clip).read_bytes()
    with serve({"clip.mkv": Content(data, fault_at=len(data) // 2)}) as address:
        result = run(f"{address}/clip.mkv", *words)
    assert result.status == 0
    assert [frames for _, _, frames in answers_of(result)] == [
        frames for _, _, frames in answers_of(run(clip, *words))
    ]
    (gap,) = [gap for answer in result.objects for gap in answer["gaps"]]
    assert gap["start_seconds"] == gap["end_seconds"]
    assert "nothing is missing at 00:00:0" in result.err
    assert "the connection ended; opened again in 0.5 s" in result.err


@pytest.mark.slow
def test_stdin_is_a_source(checkpoint: Path, tmp_path: Path) -> None:
    stream = draw_clip(tmp_path / "numbers.ts", num_frames=60)
    with stream.open("rb") as file:
        done = subprocess.run(
            [
                sys.executable, "-m", "streaming.watch", "-", "what?", "--every", "1",
                "--model", str(checkpoint), *SETTINGS, "--json",
            ],
            stdin=file, capture_output=True, cwd=ROOT, check=True,
        )  # fmt: skip
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["num_seen_frames"] for answer in answers] == [1, 2, 3]
    assert {answer["source"] for answer in answers} == {"stdin"}


@pytest.mark.slow
def test_ctrl_c_tells_what_was_seen(checkpoint: Path, clip: str) -> None:
    process = subprocess.Popen(
        [
            sys.executable, "-m", "streaming.watch", clip, "what?", "--every", "1", "--speed",
            "0.1", "--model", str(checkpoint), *SETTINGS, "--json",
        ],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert process.stdout is not None
    answer = json.loads(process.stdout.readline())
    assert answer["media_seconds"] >= 1.0
    assert 0 <= answer["lag_seconds"] < 60
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    *_, summary, last = err.splitlines()
    assert summary.startswith("seen 00:00:0")
    assert last == "error: interrupted"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--every", "0"], "--every 0: must be a number above 0"),
        (["--on-change", "0"], "--on-change 0: must be at least 1"),
        (["--realtime", "--speed", "2"], "argument --speed: not allowed with argument --realtime"),
        (["--frames", "3"], "unrecognized arguments: --frames 3"),
        (["--num-frames=3"], "--num-frames is for clips, which have an end: leave it out of a str"),
        (["--bank", "b"], "--bank is for clips, which have an end"),
        (["--at", "-1"], "--at -1: must be a number from 0 on"),
        (["--at", "nan"], "--at nan: must be a number from 0 on"),
        (["--choice", "yes"], "a single choice is none"),
    ],
)
def test_wrong_words_are_usage(run: Run, clip: str, words: list[str], message: str) -> None:
    result = run(clip, "what?", *words)
    assert result.status == 2
    assert result.err.startswith(f"error: {message}")


@pytest.mark.parametrize("option", [["--realtime"], ["--at", "3"], ["--speed", "3"]])
def test_addresses_have_a_pace_of_their_own(run: Run, option: list[str]) -> None:
    result = run("rtsp://camera/1", "what?", *option)
    assert result.err.strip() == (
        f"error: {option[0]} is for files: rtsp://camera/1 has a pace of its own"
    )
