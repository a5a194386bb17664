"""Files by content: what is one file, what stays, and what makes room."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from streaming.serve.failures import RequestError
from streaming.serve.files import Files, StoredFile

GONE: list[str] = []


@pytest.fixture
def files() -> Iterator[Files]:
    GONE.clear()
    files = Files(max_bytes=2 * 4096, max_file_bytes=50, on_removal=GONE.append)
    yield files
    files.close()
    assert not Path(files._folder.name).exists()


def keep(files: Files, content: bytes, *, uploaded: bool = False) -> StoredFile:
    with files.incoming() as incoming:
        incoming.write(content)
        return files.keep(incoming, "a.mp4", uploaded=uploaded)


def test_one_content_is_one_file_whenever_it_comes(files: Files) -> None:
    first, second = keep(files, b"x" * 9), keep(files, b"x" * 9, uploaded=True)
    assert (first.path, first.file_id) == (second.path, second.file_id)
    assert [file.uploaded for file in (first, second)] == [False, True]
    assert keep(files, b"x" * 9).uploaded
    assert Path(first.path).stat().st_mtime_ns == 0


def test_what_was_used_longest_ago_makes_room(files: Files) -> None:
    first, second = keep(files, b"1" * 50), keep(files, b"2" * 50)
    keep(files, b"1" * 50)
    keep(files, b"3" * 10)
    assert Path(first.path).exists()
    assert [second.path] == GONE


def test_uploads_stay_and_there_is_an_end_to_them(files: Files) -> None:
    keep(files, b"1" * 50, uploaded=True)
    keep(files, b"2" * 50, uploaded=True)
    with pytest.raises(RequestError, match="no room for another clip") as refused:
        keep(files, b"3")
    assert refused.value.status == 507
    assert len(files.uploads()) == 2


def test_what_is_in_use_neither_makes_room_nor_is_deleted(files: Files) -> None:
    file = keep(files, b"1" * 50, uploaded=True)
    with files.in_use(file):
        files.delete(file.file_id)
        assert Path(file.path).exists()
        with pytest.raises(RequestError, match="no file of this id"):
            files.get(file.file_id)
        keep(files, b"2" * 50)
        with pytest.raises(RequestError, match="no room"), files.in_use(keep(files, b"2" * 50)):
            keep(files, b"3" * 50)
    assert not Path(file.path).exists()
    assert [file.path] == GONE


def test_a_file_that_is_sent_again_while_it_is_deleted_stays(files: Files) -> None:
    file = keep(files, b"1" * 50, uploaded=True)
    with files.in_use(file):
        files.delete(file.file_id)
        keep(files, b"1" * 50, uploaded=True)
    assert Path(files.get(file.file_id).path).exists()


def test_a_deleted_file_that_another_sends_comes_back_as_theirs(files: Files) -> None:
    with files.incoming() as incoming:
        incoming.write(b"1" * 50)
        file = files.keep(incoming, "private.mp4", uploaded=True)
    with files.in_use(file):
        files.delete(file.file_id)
        again = keep(files, b"1" * 50)
    assert (again.uploaded, again.name) == (False, "a.mp4")
    assert files.uploads() == []
    with pytest.raises(RequestError, match="no file of this id"):
        files.get(file.file_id)


def test_small_files_take_what_they_take_of_a_disk(files: Files) -> None:
    first = keep(files, b"1")
    keep(files, b"2")
    assert Path(first.path).exists()
    keep(files, b"3")
    assert [first.path] == GONE


def test_what_is_too_little_is_not_removed_for_nothing(files: Files) -> None:
    sent = keep(files, b"1")
    keep(files, b"2", uploaded=True)
    with pytest.raises(RequestError, match="no room for another clip"), files.reserved(5000):
        pass
    assert Path(sent.path).exists()


def test_room_is_held_for_what_is_on_its_way_in(files: Files) -> None:
    with files.reserved(50), files.reserved(50):
        with pytest.raises(RequestError, match="no room for another clip"):
            keep(files, b"1")
        with files.incoming() as incoming:
            incoming.write(b"2" * 50)
            files.keep(incoming, "b.mp4", uploaded=True, num_reserved=50)
    keep(files, b"1")
    assert files._reserved_bytes == 0


def test_where_there_is_room_no_file_is_looked_at(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(files, b"1")
    monkeypatch.setattr(StoredFile, "room_bytes", None)
    keep(files, b"2")


def test_a_file_has_so_many_bytes_and_no_more(files: Files) -> None:
    with pytest.raises(RequestError, match="at most"):
        keep(files, b"1" * 51)
    assert list(Path(files._folder.name).iterdir()) == []


@pytest.mark.parametrize(
    ("name", "shown"),
    [("../../etc/passwd", "passwd"), ("C:\\x\\y.mp4", "y.mp4"), ("a\n\0\x1b[2Jb.mp4", "a[2Jb.mp4"),
     ("x" * 500, "x" * 100), ("/", "clip"), ("", "clip")],
)  # fmt: skip
def test_a_client_s_name_is_a_name_only(files: Files, name: str, shown: str) -> None:
    with files.incoming() as incoming:
        incoming.write(b"x")
        assert files.keep(incoming, name, uploaded=True).name == shown
