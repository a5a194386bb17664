"""The rungs: `streaming` uses `workers` uses `pruner`, and nothing looks up."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pruner import METHODS
from tests.clips import draw_clip

ROOT = Path(__file__).parents[1]
PACKAGES = ("pruner", "workers", "streaming")
HEAVY = {"torch", "transformers", "ray", "pyarrow"}


def files_of(*packages: str) -> list[Path]:
    return sorted(path for package in packages for path in (ROOT / package).rglob("*.py"))


def imported_modules(path: Path) -> set[str]:
    """Full names of all modules a file imports, at its top or inside a function."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {name for node in ast.walk(tree) for name in names_in(node)}


def names_in(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Import(names=names):
            yield from (alias.name for alias in names)
        case ast.ImportFrom(module=module, level=level):
            assert level == 0, f"a relative import of {module}"
            yield module or ""


def imported_packages(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imported_modules(path)}


def test_there_is_something_to_look_at() -> None:
    for package in PACKAGES:
        assert len(files_of(package)) > 3
    assert "workers.errors" in imported_modules(ROOT / "workers" / "checkpoint.py")


@pytest.mark.parametrize("path", files_of("pruner"), ids=lambda path: path.name)
def test_the_pruner_needs_torch_and_the_standard_library_only(path: Path) -> None:
    assert imported_packages(path) <= {"pruner", "torch", *sys.stdlib_module_names}


@pytest.mark.parametrize("path", files_of("workers"), ids=lambda path: path.name)
def test_the_workers_know_nothing_of_streaming(path: Path) -> None:
    assert "streaming" not in imported_packages(path)


@pytest.mark.parametrize("path", files_of(*PACKAGES), ids=lambda path: path.name)
def test_no_package_needs_what_stands_outside(path: Path) -> None:
    assert not imported_packages(path) & {"tests", "benchmarks", "training"}


def test_ray_is_imported_in_one_file() -> None:
    users = [path for path in files_of(*PACKAGES) if "ray" in imported_packages(path)]
    assert users == [ROOT / "workers" / "run" / "on_ray.py"]


def loaded_by(code: str) -> str:
    """Return which of the heavy modules a fresh interpreter has after some lines of code."""
    code = f"import sys\n{code}\nprint(sorted({HEAVY} & sys.modules.keys()))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


LIGHT = [
    "streaming.ask",
    "streaming.asking",
    "streaming.bench.command",
    "streaming.evaluate.command",
    "streaming.lmms_eval.requests",
    "streaming.pipeline",
    "streaming.plan",
    "streaming.ray_data",
    "streaming.recall",
    "streaming.report.page",
    "streaming.serve.asking",
    "streaming.serve.serving",
    "streaming.watch.command",
    "streaming.watch.running",
    "workers.run.engine",
    "workers.run.local",
    "workers.run.placement",
    "workers.stages",
    "workers.disk.store",
    "workers.video.decode",
    "workers.video.live.reader",
    "workers.vision.tiles",
    "workers.llm.chat_template",
    "pruner",
]


@pytest.mark.parametrize("module", LIGHT)
def test_importing_a_module_loads_nothing_heavy(module: str) -> None:
    assert loaded_by(f"import {module}") == "[]"


@pytest.mark.parametrize("pruner", METHODS)
def test_a_clip_is_planned_before_anything_heavy_is_loaded(tmp_path: Path, pruner: str) -> None:
    clip = draw_clip(tmp_path / "clip.mp4", num_frames=5)
    code = f"""
from streaming.flags import change
from streaming.options import Options
from streaming.plan import plan_clip
from streaming.sample import sample_clip
options = change(Options(), {{"pruner": {pruner!r}, "num_frames": 3}}, source="the test")
plan = plan_clip(sample_clip({str(clip)!r}, options), options, ["what moves?"])
assert plan.clip.num_frames == 3
plan.allocation([0.0, 0.1, 0.2])
plan.prompt("what moves?", [])
"""
    assert loaded_by(code) == "[]"


def test_a_decoder_needs_neither_torch_nor_transformers(tmp_path: Path) -> None:
    clip = draw_clip(tmp_path / "clip.mp4", num_frames=5)
    code = f"""
from streaming.options import Options
from streaming.plan import plan_clip
from streaming.sample import sample_clip
from workers.messages import ReadRequest
from workers.stages import ReadStage
clip = plan_clip(sample_clip({str(clip)!r}, Options()), Options(), ["what moves?"]).clip
request = ReadRequest(segment=clip.segments[0], tiles=clip.tiles)
assert sum(len(chunk) for chunk, _ in ReadStage().run(request)) == 5
"""
    assert loaded_by(code) == "[]"


def test_importing_prints_nothing_and_starts_nothing() -> None:
    code = "import threading, streaming.ask; print(threading.active_count())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("1\n", "")
