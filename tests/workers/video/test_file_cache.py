import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from workers.video.file_cache import FileCache

MTIME_NS = 1_600_000_000_123_456_789


def writing(content: bytes) -> Callable[[BinaryIO], object]:
    return lambda file: file.write(content)


def failing(content: bytes) -> Callable[[BinaryIO], object]:
    def copy(file: BinaryIO) -> None:
        file.write(content)
        raise OSError("the line is dead")

    return copy


def put(cache: FileCache, name: str, content: bytes) -> Path:
    copy = writing(content)
    return Path(cache.get(name, size_bytes=len(content), mtime_ns=MTIME_NS, copy=copy))


def held(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.startswith("lock-")}


def test_a_copy_is_made_once_and_bears_the_time_of_the_original(tmp_path: Path) -> None:
    cache = FileCache(tmp_path / "cache")
    first = put(cache, "ab.mp4", b"content")
    assert first.read_bytes() == b"content"
    assert first.stat().st_mtime_ns == MTIME_NS
    again = cache.get("ab.mp4", size_bytes=7, mtime_ns=MTIME_NS, copy=failing(b""))
    assert again == str(first)


def test_the_folder_is_of_this_user_only(tmp_path: Path) -> None:
    FileCache(tmp_path / "cache")
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700
    (tmp_path / "wide").mkdir(mode=0o777)
    FileCache(tmp_path / "wide")
    assert (tmp_path / "wide").stat().st_mode & 0o777 == 0o700


def test_by_default_it_is_named_after_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    copy = put(FileCache(), "ab", b"content")
    assert copy.parent == tmp_path / f"mr-stream-{os.getuid()}"


@pytest.mark.parametrize("kind", ["link", "of another"])
def test_a_folder_that_somebody_else_has_laid_out_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    folder = {"link": tmp_path / "link", "of another": tmp_path / "own"}[kind]
    (tmp_path / "own").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "own")
    uid = os.getuid() + (kind == "of another")
    monkeypatch.setattr("os.getuid", lambda: uid)
    with pytest.raises(PermissionError, match=r"is not a folder of this user's own$"):
        FileCache(folder)


def test_what_was_used_longest_ago_makes_room(tmp_path: Path) -> None:
    cache = FileCache(tmp_path, max_bytes=30)
    for name in ("aa", "bb", "cc"):
        put(cache, name, b"x" * 10)
    put(cache, "aa", b"x" * 10)
    put(cache, "dd", b"x" * 10)
    assert held(tmp_path) == {"aa", "cc", "dd"}
    put(cache, "ee", b"x" * 15)
    assert held(tmp_path) == {"dd", "ee"}
    put(cache, "ff", b"x" * 99)
    assert held(tmp_path) == {"ff"}


def test_what_a_process_left_unfinished_counts_and_goes(tmp_path: Path) -> None:
    cache = FileCache(tmp_path, max_bytes=30)
    (tmp_path / "aa.part").write_bytes(b"x" * 25)
    put(cache, "bb", b"x" * 10)
    assert held(tmp_path) == {"bb"}


def test_a_copy_that_has_gone_can_be_read_on_and_is_made_again(tmp_path: Path) -> None:
    cache = FileCache(tmp_path, max_bytes=10)
    with put(cache, "aa", b"0123456789").open("rb") as file:
        put(cache, "bb", b"x")
        assert held(tmp_path) == {"bb"}
        assert file.read() == b"0123456789"
    assert put(cache, "aa", b"0123456789").read_bytes() == b"0123456789"


def test_a_partial_copy_never_counts(tmp_path: Path) -> None:
    cache = FileCache(tmp_path)
    with pytest.raises(OSError, match="the line is dead"):
        cache.get("ab", size_bytes=7, mtime_ns=0, copy=failing(b"cont"))
    with pytest.raises(OSError, match="4 of 7 bytes came"):
        cache.get("ab", size_bytes=7, mtime_ns=0, copy=writing(b"cont"))
    assert held(tmp_path) == set()
    assert put(cache, "ab", b"content").read_bytes() == b"content"


def slow_copy(log: Path, file: BinaryIO) -> None:
    with log.open("a") as lines:
        lines.write("copied\n")
    for _ in range(20):
        file.write(b"x")
        file.flush()
        time.sleep(0.005)


def get_slowly(folder: Path, log: Path) -> None:
    path = FileCache(folder).get(
        "ab", size_bytes=20, mtime_ns=0, copy=lambda file: slow_copy(log, file)
    )
    assert Path(path).read_bytes() == b"x" * 20


def test_threads_and_processes_that_want_one_copy_make_it_once(tmp_path: Path) -> None:
    folder, log = tmp_path / "cache", tmp_path / "log"
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=get_slowly, args=(folder, log)) for _ in range(2)]
    threads = [threading.Thread(target=get_slowly, args=(folder, log)) for _ in range(4)]
    for each in [*processes, *threads]:
        each.start()
    for each in [*processes, *threads]:
        each.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert log.read_text() == "copied\n"
    assert held(folder) == {"ab"}
