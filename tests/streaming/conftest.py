"""Fixtures for the tests of the commands."""

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from streaming import ask
from tests.clips import draw_clip


class Result(NamedTuple):
    """How a command ended, and what it wrote."""

    status: int
    out: str
    err: str

    @property
    def objects(self) -> list[dict[str, Any]]:
        """What ``--json`` printed."""
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture(autouse=True)
def keep_signals() -> Iterator[None]:
    """Undo what the command does to the handling of signals."""
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Forty numbered pictures of 160 x 96, 25 a second."""
    return str(draw_clip(tmp_path_factory.mktemp("clip") / "numbers.mp4", num_frames=40))


@pytest.fixture
def run(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Run the command in this process with the tiny checkpoint, unless told otherwise."""

    def command(*arguments: str, model: str = str(checkpoint)) -> Result:
        settings = ["--executor", "local", "--model", model, "--device", "cpu"]
        capsys.readouterr()
        status = ask.main([*arguments, *settings])
        return Result(status, *capsys.readouterr())

    return command
