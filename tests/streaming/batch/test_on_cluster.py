"""A job on a cluster of two nodes, of which one is lost on the way."""

import secrets
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.chaos.killing import Damage, compare, read_rows, start, write_manifest
from tests.clusters import kill_node, ray_head, ray_node

pytestmark = pytest.mark.slow


def num_rows(output: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in output.glob("part-*"))


def test_a_node_that_is_lost_changes_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")  # every node and the job show the same one
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    manifest = write_manifest(tmp_path)
    assert start(manifest, tmp_path / "whole", "--executor", "local").wait() == 0
    expected, damage = dict(read_rows(tmp_path / "whole")), Damage()
    with ray_head(6421, num_cpus=3) as address:
        more = (f"--address={address}", "--num-cpus=2")
        with ray_node(*more) as node:
            arguments = ["--address", address, "--num-encoders", "2", "--clips-in-flight", "3"]
            job = start(manifest, tmp_path / "out", *arguments)
            while num_rows(tmp_path / "out") < 6:
                assert job.poll() is None, (tmp_path / "out.log").read_text()
                time.sleep(0.1)
            kill_node(node)
        with ray_node(*more):
            assert job.wait(timeout=300) == 0, (tmp_path / "out.log").read_text()
    compare(tmp_path / "out", expected, damage)
    assert damage.is_none, damage


def test_the_address_may_come_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6")
    command = [sys.executable, "-m", "streaming.batch", str(write_manifest(tmp_path))]
    command += ["--output", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "no Ray cluster answers at --address 127.0.0.1:6" in done.stderr.splitlines()[-1]
