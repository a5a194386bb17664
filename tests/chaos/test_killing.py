"""Kills at random, seeded and bounded in time; ``make chaos`` kills more."""

import random
import signal
import time
from pathlib import Path

import pytest

from tests.chaos.killing import Damage, compare, read_rows, start, torment, write_manifest

pytestmark = pytest.mark.slow


def test_killed_workers_and_drivers_change_no_row(tmp_path: Path) -> None:
    damage = torment(tmp_path, num_kills=12, seed=1, seconds=240)
    assert damage.killed.total() >= 12
    assert damage.is_none, damage


def test_a_driver_killed_at_ten_moments_is_resumed_to_the_same_rows(tmp_path: Path) -> None:
    dice, damage = random.Random(2), Damage()
    manifest = write_manifest(tmp_path)
    begin = time.monotonic()
    assert start(manifest, tmp_path / "whole", "--executor", "local").wait() == 0
    whole_seconds = time.monotonic() - begin
    expected = dict(read_rows(tmp_path / "whole"))
    for number in range(10):
        output = tmp_path / f"killed-{number}"
        job = start(manifest, output, "--executor", "local")
        time.sleep(dice.uniform(0.2, 1) * whole_seconds)
        job.send_signal(signal.SIGKILL)
        job.wait()
        assert start(manifest, output, "--executor", "local").wait() == 0
        compare(output, expected, damage)
    assert damage.is_none, damage
