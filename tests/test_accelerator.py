"""Every part on a device that is not the CPU."""

import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from torch.utils import backend_registration

from pruner import METHODS
from training.make_set import draw_set

REPOSITORY = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this torch has no devices written in Python",
)


def lines_of(*arguments: str) -> list[Any]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.accelerator_runs", *arguments],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def by_device(lines: list[Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = defaultdict(dict)
    for name, device, figures in lines:
        found[name][device] = figures
    return found


def overlap(some: list[list[int]], others: list[list[int]]) -> float:
    """Return which part of the tokens that one run keeps another keeps too."""
    both = sum(len({*a} & {*b}) for a, b in zip(some, others, strict=True))
    return both / sum(map(len, some))


def test_tensors_of_two_devices_do_not_mix() -> None:
    assert len(lines_of("mixing")) == 3


@pytest.mark.slow
def test_every_pruner_keeps_and_answers_alike_on_an_accelerator(tmp_path: Path) -> None:
    draw_set(tmp_path, seed=5, clips_per_kind=1, num_frames=(8,), num_questions=1)
    clip = sorted(tmp_path.glob("*16x9*.mp4"))[0]
    found = by_device(lines_of("pruners", str(clip)))
    assert list(found) == list(METHODS)
    # FLoC takes token after token by sums over all of them: where a feature's last bit differs, as
    # here, a choice can differ, and with it those that follow.
    assert found["floc"]["pretend"][0] == found["floc"]["cpu"][0]
    assert overlap(found["floc"]["pretend"][1], found["floc"]["cpu"][1]) > 0.5
    for pruner, each in found.items():
        assert pruner == "floc" or each["cpu"] == each["pretend"], pruner
        _, kept = each["bfloat16"]
        assert sum(map(len, kept)) == sum(map(len, each["cpu"][1])), pruner
    assert found["mr_pruner"]["fast"] == found["mr_pruner"]["cpu"]


@pytest.mark.slow
def test_both_stages_of_training_run_alike_on_an_accelerator() -> None:
    found = by_device(lines_of("training"))
    assert list(found) == ["vision 1", "vision 2", "language 1", "language 2", "language 3"]
    for name, each in found.items():
        # The CPU's products are bfloat16 where the pretended device's are float32.
        assert each["pretend"] == pytest.approx(each["cpu"], rel=0.02), name
