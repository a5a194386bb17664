"""Jobs in this process, over clips that are drawn."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from streaming.batch import command
from tests.clips import draw_clip


class Job(NamedTuple):
    """How a job ended, and what it wrote."""

    status: int
    out: str
    err: str
    folder: Path

    @property
    def rows(self) -> dict[tuple[str, int], dict[str, Any]]:
        """Every row of the output by its name; fails where one is there twice."""
        return dict(read_rows(self.folder))

    @property
    def summary(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.folder / "summary.json").read_text())
        return content


def read_rows(folder: Path) -> Iterator[tuple[tuple[str, int], dict[str, Any]]]:
    """Yield the rows of JSON shards by name."""
    names = set()
    for path in sorted(folder.glob("part-*.jsonl")):
        for line in path.read_text().split("\n")[:-1]:
            row = json.loads(line)
            name = row["id"], row["question_index"]
            assert name not in names
            names.add(name)
            yield name, row


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Three clips, of three sizes."""
    folder = tmp_path_factory.mktemp("clips")
    sizes = {"wide.mp4": (160, 96), "tall.mp4": (96, 160), "small.mp4": (64, 64)}
    return [
        str(draw_clip(folder / name, num_frames=12, width=width, height=height))
        for name, (width, height) in sizes.items()
    ]


@pytest.fixture
def write_manifest(tmp_path: Path) -> Callable[..., str]:
    """Write rows as JSON lines; returns the path."""

    def write(*rows: Any, name: str = "manifest.jsonl") -> str:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    return write


@pytest.fixture
def batch(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Job]:
    """Run a job in this process with the tiny checkpoint."""

    def run(manifest: str, *arguments: str, output: str = "out") -> Job:
        settings = ["--executor", "local", "--model", str(checkpoint), "--num-frames", "4"]
        settings += ["--max-new-tokens", "4", "--device", "cpu"]
        capsys.readouterr()
        folder = tmp_path / output
        status = command.main([manifest, "--output", str(folder), *settings, *arguments])
        return Job(status, *capsys.readouterr(), folder)

    return run
