"""The wheel is whole, and works from any folder."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = ("pyproject.toml", "README.md", "LICENSE")
FOLDERS = ("pruner", "workers", "streaming", "tests", "benchmarks", "training")


def run(*command: str, cwd: Path, **settings: str) -> str:
    done = subprocess.run(
        [sys.executable, *command], cwd=cwd, env=os.environ | settings,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and nothing else, built of a copy, as building leaves traces."""
    source, wheels, target = (tmp_path_factory.mktemp(name) for name in ("source", "wheel", "site"))
    for name in FILES:
        shutil.copy(ROOT / name, source / name)
    for name in FOLDERS:
        no_caches = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, ignore=no_caches)
    quiet = ("-m", "pip", "--quiet", "--disable-pip-version-check")
    build = ("wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(wheels))
    run(*quiet, *build, str(source), cwd=source)
    (wheel,) = wheels.iterdir()
    install = ("install", "--no-deps", "--no-index", "--target", str(target))
    run(*quiet, *install, str(wheel), cwd=wheels)
    return target


def test_three_packages_and_nothing_else(installed: Path) -> None:
    found = {path.name for path in installed.iterdir() if (path / "__init__.py").exists()}
    assert found == {"pruner", "workers", "streaming"}
    beside = {path.name for path in installed.iterdir()} - found
    (information,) = beside - {"bin"}
    assert information.endswith(".dist-info")
    assert (installed / information / "licenses" / "LICENSE").read_text() == (
        ROOT / "LICENSE"
    ).read_text()


def test_every_file_of_the_packages_is_in_it(installed: Path) -> None:
    for package in ("pruner", "workers", "streaming"):
        files = [
            path.relative_to(ROOT)
            for path in (ROOT / package).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        ]
        assert len(files) > 10
        for file in files:
            assert (installed / file).read_bytes() == (ROOT / file).read_bytes(), file


def test_the_commands_work_from_another_folder(installed: Path, tmp_path: Path) -> None:
    settings = {"PYTHONPATH": str(installed)}
    code = "import streaming; print(streaming.__file__)"
    assert run("-c", code, cwd=tmp_path, **settings) == f"{installed}/streaming/__init__.py\n"
    assert run("-m", "streaming.ask", "--help", cwd=tmp_path, **settings).startswith("usage: ")
    script = str(installed / "bin" / "mr-stream")
    assert "\n  ask  " in run(script, "--help", cwd=tmp_path, **settings)
    assert "--num-frames" in run(script, "ask", "--help", cwd=tmp_path, **settings)
    version = run(script, "--version", cwd=tmp_path, **settings)
    assert version == run("-m", "streaming", "--version", cwd=tmp_path, **settings)


@pytest.mark.slow
def test_it_answers_and_writes_a_page_from_another_folder(
    installed: Path, tmp_path: Path, clip: str
) -> None:
    arguments = ["what color is the square?", "--executor", "local", "--num-frames", "2"]
    answer = run(
        "-m", "streaming.ask", clip, *arguments, "--report", "page.html", "--max-new-tokens", "4",
        cwd=tmp_path, PYTHONPATH=str(installed),
    )  # fmt: skip
    assert answer.strip()
    assert answer.strip() in (tmp_path / "page.html").read_text(encoding="utf-8")
