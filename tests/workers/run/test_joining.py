"""What is found out about a machine or an address before Ray is started; whole commands, no Ray."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clips import draw_clip
from workers.errors import ResourceError
from workers.run.joining import check_address, check_machine, settle_token


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    clip = draw_clip(tmp_path_factory.mktemp("clips") / "numbers.mp4", num_frames=8)
    return [sys.executable, "-m", "streaming.ask", str(clip), "Why?", "--executor", "ray"]


def test_too_few_open_files_are_one_line_before_ray_starts(command: list[str]) -> None:
    limited = ["bash", "-c", 'ulimit -n 64; exec "$@"', "bash", *command]
    done = subprocess.run(limited, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1] == (
        "error: Ray needs about 160 open files for 4 workers, this shell allows 64: raise it with "
        "ulimit -n, or give --executor local"
    )


def test_a_folder_that_cannot_be_written_is_one_line(command: list[str]) -> None:
    environment = os.environ | {"RAY_TMPDIR": "/proc/ray"}  # not even root can make it
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1].startswith(
        "error: Ray cannot write to its folder /proc/ray (No such file or directory): free some "
        "space, set RAY_TMPDIR to another folder, or give --executor local"
    )


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    code = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))  # the disk takes no more than that
from workers.run.joining import check_machine
check_machine(1)
"""
    environment = os.environ | {"RAY_TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.stderr.splitlines()[-1].startswith(
        f"workers.errors.ResourceError: Ray cannot write to its folder {tmp_path} (File too large)"
    )


def test_an_almost_full_disk_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    found = os.statvfs(tmp_path)
    check_machine(1)
    full = os.statvfs_result([*found[:4], 2**26 // found.f_frsize - 1, *found[5:]])
    monkeypatch.setattr(os, "statvfs", lambda folder: full)
    with pytest.raises(ResourceError, match=r"less than 64 MiB free.*: free some space"):
        check_machine(1)


@pytest.mark.parametrize(
    "given", ["RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "file"]
)
def test_a_token_that_is_there_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: str
) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / ("auth_token" if given == "file" else "other")).write_text("secret")
    monkeypatch.setenv("X" if given == "file" else given, "given")
    before = dict(os.environ)
    settle_token()
    assert dict(os.environ) == before


def test_a_private_cluster_gets_a_token_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_AUTH_TOKEN", "")  # so that what is set is undone
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    settle_token()
    assert len(bytes.fromhex(os.environ["RAY_AUTH_TOKEN"])) == 32
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("127.0.0.1:1", "Connection refused"),
        ("[::1]:1", "refused|Cannot assign|not supported"),
        ("127.0.0.1:port", "invalid literal"),
    ],
)
def test_nobody_at_an_address_is_known_at_once(address: str, reason: str) -> None:
    with pytest.raises(ResourceError, match=rf"no Ray cluster answers at --address .*\(.*{reason}"):
        check_address(address)


def test_auto_is_left_to_ray() -> None:
    check_address("auto")
