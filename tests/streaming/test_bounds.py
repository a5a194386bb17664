"""Memory does not grow with the number of frames."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from streaming.bench.clip import draw_clip

MEBIBYTE = 2**20


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "ball.mp4"
    draw_clip(path, duration_seconds=20)
    return path


def peak_memory(clip: Path, checkpoint: Path, num_frames: int) -> int:
    """Peak bytes of a process of its own that answers from this many frames of 0.66 MiB each."""
    command = [sys.executable, "-m", "streaming.ask", str(clip), "What moves?", "--json"]
    command += ["--executor", "local", "--model", str(checkpoint), "--max-new-tokens", "4"]
    command += ["--num-frames", str(num_frames), "--budget", "300"]
    done = subprocess.run(command, check=True, capture_output=True)
    answer = json.loads(done.stdout)
    assert (answer["num_frames"], answer["num_visual_tokens"]) == (num_frames, 300)
    return int(answer["peak_memory_bytes"]["local"])


def test_peak_memory_is_flat_in_the_number_of_frames(clip: Path, checkpoint: Path) -> None:
    few, many = (peak_memory(clip, checkpoint, num_frames) for num_frames in (32, 160))
    assert many - few < 30 * MEBIBYTE  # 128 more frames would take 84 MiB
