import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from streaming.bench import command as bench
from streaming.bench.command import frame_counts
from tests.streaming.conftest import Result

Run = Callable[..., Result]


@pytest.fixture
def benched(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    def command(*arguments: str) -> Result:
        capsys.readouterr()
        status = bench.main(["--output", str(tmp_path / "out"), *arguments])
        return Result(status, *capsys.readouterr())

    return command


def test_frame_counts_double() -> None:
    assert frame_counts(None, 1024) == (8, 16, 32, 64, 128, 256, 512, 1024)
    assert frame_counts(None, 100) == (8, 16, 32, 64)
    assert frame_counts(None, 3) == (3,)
    assert frame_counts([32, 4, 4], 1024) == (4, 32)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--repeats", "0"], "--repeats 0: must be at least 1"),
        (["--frames", "8", "0"], "--frames: must be at least 1 each"),
        (["--clients", "0"], "--clients: must be at least 1 each"),
        (["--point-seconds", "0"], "--point-seconds 0: must be above 0"),
        (["--depth", "2"], "--depth thins --shape: give both"),
        (["--limit", "2"], "--limit is of --questions: give both"),
        (["--shape", "llava-next-8b", "--model", "embedded"], "leave out --model"),
        (["--shape", "llava-next-9b"], "invalid choice: 'llava-next-9b'"),
        (["--pruners", "no_such"], "invalid choice: 'no_such'"),
    ],
)
def test_wrong_words_get_one_line(benched: Run, arguments: list[str], message: str) -> None:
    result = benched(*arguments)
    assert result.status == 2
    assert message in result.err
    assert len(result.err.splitlines()) == 1


@pytest.mark.parametrize("words", [["--pruners", "mr_pruner", "fastv"], ["--question-aware"]])
def test_a_layer_that_the_model_has_not_is_found_before_any_start(
    benched: Run, tmp_path: Path, words: list[str]
) -> None:
    result = benched("--fastv-layer", "6", *words)
    assert result.status == 2
    assert "--fastv-layer 6 is out of range: the language model has 6 layers" in result.err
    assert not (tmp_path / "out").exists()


def test_a_clip_with_too_few_frames_is_refused(benched: Run, clip: str) -> None:
    result = benched(clip, "--max-frames", "64")
    assert result.status == 2
    assert f"{clip} has 40 frames: lower --max-frames, or give --frames" in result.err


def test_a_missing_clip_is_named(benched: Run) -> None:
    result = benched("no-such.mp4")
    assert (result.status, result.out) == (1, "")
    assert "no-such.mp4" in result.err


def test_without_matplotlib_nothing_is_begun(
    benched: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = benched("--max-frames", "8")
    assert (result.status, result.out) == (2, "")
    assert "pictures of a bench need matplotlib: pip install 'mr-stream[plot]'" in result.err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_bench_from_end_to_end(benched: Run, tmp_path: Path) -> None:
    result = benched(
        "--frames", "2", "4", "--repeats", "2", "--clients", "1", "2", "--budget", "250"
    )
    assert result.status == 0, result.err
    assert result.out == (tmp_path / "out" / "bench.md").read_text()
    values = json.loads((tmp_path / "out" / "bench.json").read_text())
    points = [(point["system"], point["frames"]) for point in values["points"]]
    systems = ["mr-stream", "fewer-frames", "transformers"]
    assert points == [(system, frames) for frames in (2, 4) for system in systems]
    assert all(len(point["trials"]) == 2 for point in values["points"])
    assert [point["tokens_entering"] for point in values["points"][3:]] == [250, 234, 936]
    pictures = sorted(path.name for path in (tmp_path / "out").glob("*.png"))
    assert pictures == ["clients.png", "latency.png", "stages.png"]
    assert [times["method"] for times in values["pruners"]] == ["mr_pruner"]


@pytest.mark.slow
def test_random_weights_in_a_real_shape(benched: Run, tmp_path: Path) -> None:
    result = benched(
        "--shape", "llava-next-mistral-7b", "--depth", "1", "--frames", "1", "--repeats", "1",
        "--clients", "--baselines", "--dtype", "bfloat16", "--max-new-tokens", "2",
    )  # fmt: skip
    assert result.status == 0, result.err
    (point,) = json.loads((tmp_path / "out" / "bench.json").read_text())["points"]
    assert point["tokens_seen"] == 576 + 28 * (48 + 1)
