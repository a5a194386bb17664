import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import gpu
from benchmarks.gpu_runs import Runs
from benchmarks.random_llava import SMALL, make_llava, make_llava_config
from benchmarks.stopwatch import Spread, Stopwatch

ROOT = Path(__file__).parents[2]
TITLES = ["Matrix product", "Vision tower and projector", "Encode stage", "Single images",
          "Clip to answer", "Vision tower, compiled"]  # fmt: skip


@pytest.fixture(scope="module")
def runs() -> Runs:
    model = make_llava(make_llava_config(SMALL), device="cpu", dtype=torch.float32)
    return Runs(model, device="cpu", dtype=torch.float32, num_new_tokens=6)


def no_compiler(*arguments: object, **options: object) -> None:
    raise RuntimeError("no g++\nat all")


def test_a_small_run_reports_every_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch, "compile", no_compiler)
    gpu.main(["--device", "cpu", "--small", "--output", str(tmp_path)])
    report = json.loads((tmp_path / "gpu.json").read_text())
    assert [table["title"] for table in report["tables"]] == TITLES
    _, tower, stage, images, clips, compiled = report["tables"]
    assert all(each["peak"] > 0 for each in tower["values"])
    assert all(0 < each["share"]["median"] < 1 for each in stage["values"])
    assert [each["pruned"] for each in images["values"]] == [0.0, 0.5, 0.7, 0.9]
    assert [each["frames"] for each in clips["values"]] == [1, 8]
    assert clips["rows"][1][-1] == "704 tokens"
    assert compiled["rows"] == [["5", "none: RuntimeError: no g++", "-"]]
    text = (tmp_path / "gpu.md").read_text()
    printed = capsys.readouterr().out
    assert all(f"## {title}\n" in each for title in TITLES for each in (text, printed))
    assert report["before"]["torch"] == torch.__version__


def test_no_time_measures_nothing(tmp_path: Path) -> None:
    gpu.main(["--device", "cpu", "--small", "--minutes", "0", "--output", str(tmp_path)])
    assert not (tmp_path / "gpu.json").exists()


def test_unpruned_both_sides_give_the_same_answer(runs: Runs) -> None:
    chunks, num_tokens = list(runs.chunks(10)), 10 * runs.frame.num_tokens
    assert [len(chunk) for chunk in chunks] == [8, 2]
    ours = runs.ask(chunks, method="none", budget=num_tokens)
    assert len(ours) == 6
    assert ours == runs.ask_transformers(runs.tiles(10))


def test_pruning_keeps_the_budget(runs: Runs) -> None:
    visual, seconds = runs.watch(list(runs.chunks(3)), method="mr_pruner", budget=50)
    assert visual.counts.sum() == 50
    assert min(seconds.values()) > 0


def test_no_time_left_is_said(runs: Runs) -> None:
    from benchmarks.gpu_tables import Bench

    bench = Bench(runs, Stopwatch("cpu", 0), dtype=torch.float32, small=True)
    assert bench._time_transformers(runs.tiles(1), 9000, 1.0) == (
        None, "9,000 tokens, beyond the context of 8,192; no time left",
    )  # fmt: skip


def test_memory_that_runs_out_is_said(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.gpu_tables import Bench

    def fail(tiles: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(runs, "ask_transformers", fail)
    bench = Bench(runs, Stopwatch("cpu", 1), dtype=torch.float32, small=True)
    assert bench._time_transformers(runs.tiles(1), 88, 0.0) == (None, "88 tokens; out of memory")


def test_a_stopwatch_stops_where_no_time_is_left() -> None:
    calls: list[int] = []
    assert Stopwatch("cpu", 0).measure(lambda: calls.append(1), repeats=5).num == 1
    assert len(calls) == 1
    assert Stopwatch("cpu", 1).measure(lambda: calls.append(1), repeats=5).num == 5
    assert len(calls) == 7


def test_a_spread_is_of_what_was_measured() -> None:
    assert Spread.of([3.0]) == Spread(median=3.0, low=3.0, high=3.0, num=1)
    assert Spread.of([5.0, 1.0, 2.0, 3.0, 4.0]) == Spread(median=3.0, low=2.0, high=4.0, num=5)
    assert Spread.of([2.0]).show(1e3, 0) == "2,000 (2,000-2,000)"


def test_neither_ray_nor_a_video_library_is_needed() -> None:
    code = """
import sys
sys.modules |= dict.fromkeys(("ray", "av", "decord", "pyarrow"))
import benchmarks.gpu, benchmarks.gpu_runs
from benchmarks.random_llava import SMALL, make_llava, make_llava_config
import torch
model = make_llava(make_llava_config(SMALL), device="cpu", dtype=torch.float32)
runs = benchmarks.gpu_runs.Runs(model, device="cpu", dtype=torch.float32, num_new_tokens=2)
print(len(runs.ask(list(runs.chunks(2)), method="mr_pruner", budget=30)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.stdout.strip(), done.returncode) == ("2", 0), done.stderr[-2000:]
