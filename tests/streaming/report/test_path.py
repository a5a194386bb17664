import os
import re
import socket
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from streaming.report.path import check_report_path, write_page
from workers.errors import InputError, OutputError


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"pictures")
    return path


def check_refused(path: Any, video: Path, reason: str) -> None:
    message = f"^{re.escape(f'--report {path}: {reason}')}$"
    with pytest.raises(InputError, match=message):
        check_report_path(str(path), str(video))


def test_the_clip_itself_is_refused_under_any_name(tmp_path: Path, video: Path) -> None:
    (tmp_path / "symbolic.html").symlink_to(video)
    (tmp_path / "twice.html").symlink_to(tmp_path / "symbolic.html")
    (tmp_path / "hard.html").hardlink_to(video)
    (tmp_path / "folder").symlink_to(tmp_path)
    for name in ("clip.mp4", "./clip.mp4", "symbolic.html", "twice.html", "hard.html",
                 "folder/clip.mp4"):  # fmt: skip
        check_refused(tmp_path / name, video, "is the clip itself")
        check_refused(f"{tmp_path}/{name}", video, "is the clip itself")
    assert video.read_bytes() == b"pictures"


def test_the_clip_given_by_a_link_is_refused(tmp_path: Path, video: Path) -> None:
    link = tmp_path / "link.mp4"
    link.symlink_to(video)
    check_refused(video, link, "is the clip itself")


def test_what_cannot_be_written_is_refused(tmp_path: Path, video: Path) -> None:
    (tmp_path / "nowhere").symlink_to(tmp_path / "missing" / "out.html")
    (tmp_path / "round").symlink_to(tmp_path / "round")
    check_refused(tmp_path, video, "is a directory")
    check_refused(f"{tmp_path}/out.html/", video, "is a directory's name")
    check_refused(tmp_path / "missing" / "out.html", video, "its folder does not exist")
    check_refused(tmp_path / "nowhere", video, "its folder does not exist")
    check_refused(tmp_path / "round", video, "Too many levels of symbolic links")
    check_refused(tmp_path / "clip.mp4" / "out.html", video, "Not a directory")
    check_refused(tmp_path / ("x" * 300), video, "File name too long")
    check_refused("/proc/out.html", video, "No such file or directory")
    check_refused("", video, "the name is empty")
    check_refused("a\0b", video, "embedded null byte")
    assert {path.name for path in tmp_path.iterdir()} == {"clip.mp4", "nowhere", "round"}


def test_a_file_that_must_not_be_written_is_refused(
    tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "out.html"
    page.write_text("an earlier page")
    page.chmod(0o444)
    may = os.access
    monkeypatch.setattr(  # root may write everything
        os, "access", lambda path, mode: may(path, mode) and bool(os.stat(path).st_mode & 0o200)
    )
    check_refused(page, video, "must not be written")


def test_a_socket_is_refused(tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the name of a socket is short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        check_refused("socket", video, "is a socket")


def test_stdout_is_for_the_answers(
    video: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    check_refused("/dev/stdout", video, "is stdout, which carries the answers")
    check_refused("/dev/fd/1", video, "is stdout, which carries the answers")


@pytest.mark.parametrize("name", ["out.html", "x" * 255, "-", "ü.html"])
def test_what_can_be_written_is_left_as_it_is(tmp_path: Path, video: Path, name: str) -> None:
    check_report_path(str(tmp_path / name), str(video))
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]
    (tmp_path / name).write_text("an earlier page")
    check_report_path(str(tmp_path / name), str(video))
    assert (tmp_path / name).read_text() == "an earlier page"
    check_report_path(str(tmp_path / name), str(tmp_path / "missing.mp4"))


def test_a_path_without_a_folder(
    tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    check_report_path("out.html", str(video))
    write_page("out.html", "a page")
    assert (tmp_path / "out.html").read_text() == "a page"


def test_a_device_is_written_to_and_stays(video: Path) -> None:
    check_report_path(os.devnull, str(video))
    before = os.stat(os.devnull)
    write_page(os.devnull, "a page")
    after = os.stat(os.devnull)
    assert stat.S_ISCHR(after.st_mode)
    assert (after.st_ino, after.st_rdev) == (before.st_ino, before.st_rdev)
    check_report_path("/dev/full", str(video))
    message = "^--report /dev/full: cannot be written: No space left on device$"
    with pytest.raises(OutputError, match=message):
        write_page("/dev/full", "a page")


def test_a_pipe_is_written_to_and_stays(tmp_path: Path, video: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    check_report_path(str(pipe), str(video))
    with pytest.raises(OutputError, match=r"cannot be written: nobody reads it$"):
        write_page(pipe, "a page")
    present = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    read: list[bytes] = []
    reading = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reading.start()
    page = "p" * 300_000  # more than a pipe holds
    write_page(pipe, page)
    reading.join()
    os.close(present)
    assert read == [page.encode()]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_link_stays_and_its_target_is_replaced(tmp_path: Path, video: Path) -> None:
    target, link = tmp_path / "pages" / "out.html", tmp_path / "link.html"
    target.parent.mkdir()
    target.write_text("an earlier page")
    link.symlink_to(target)
    check_report_path(str(link), str(video))
    write_page(link, "a page")
    assert link.is_symlink()
    assert target.read_text() == "a page"
    assert [path.name for path in target.parent.iterdir()] == ["out.html"]


def test_a_page_keeps_its_permissions(tmp_path: Path) -> None:
    page = tmp_path / "out.html"
    page.write_text("an earlier page")
    page.chmod(0o640)
    write_page(page, "a page")
    assert stat.S_IMODE(page.stat().st_mode) == 0o640


def test_a_reader_of_the_earlier_page_keeps_it(tmp_path: Path) -> None:
    page = tmp_path / "out.html"
    page.write_text("an earlier page")
    with page.open() as earlier:
        write_page(page, "a page")
        assert earlier.read() == "an earlier page"
    assert page.read_text() == "a page"
