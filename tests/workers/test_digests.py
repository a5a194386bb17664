"""Digests that are remembered: read once, and anew when the file is another."""

import os
import time
from pathlib import Path

import pytest

from workers.digests import DigestMemory, digest_file

OLD_NS = time.time_ns() - 3600 * 10**9


class Reader:
    """Reads a file and counts how often."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0

    def __call__(self) -> str:
        self.count += 1
        return digest_file(str(self.path))


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    path = tmp_path / "file"
    write(path, b"abc")
    return Reader(path)


@pytest.fixture
def memory(tmp_path: Path) -> DigestMemory:
    return DigestMemory(folder=str(tmp_path / "digests"))


def write(path: Path, content: bytes, mtime_ns: int = OLD_NS) -> None:
    path.write_bytes(content)
    os.utime(path, ns=(mtime_ns, mtime_ns))


def recall(memory: DigestMemory, reader: Reader, what: str = "content") -> str:
    value = memory.recall(str(reader.path), what, reader)
    assert isinstance(value, str)
    return value


def test_a_file_is_read_once(memory: DigestMemory, reader: Reader) -> None:
    digests = {recall(memory, reader) for _ in range(3)}
    assert digests == {digest_file(str(reader.path))}
    assert reader.count == 1
    assert len(digests.pop()) == 64


def test_a_link_is_the_file_it_leads_to(memory: DigestMemory, reader: Reader) -> None:
    link = reader.path.with_name("link")
    link.symlink_to(reader.path)
    first = recall(memory, reader)
    assert memory.recall(str(link), "content", reader) == first
    assert reader.count == 1


@pytest.mark.parametrize(
    ("content", "mtime_ns"), [(b"abcd", OLD_NS), (b"xyz", OLD_NS + 1)], ids=["size", "time"]
)
def test_another_version_is_read_anew(
    memory: DigestMemory, reader: Reader, content: bytes, mtime_ns: int
) -> None:
    first = recall(memory, reader)
    write(reader.path, content, mtime_ns)
    assert recall(memory, reader) == digest_file(str(reader.path)) != first
    assert reader.count == 2


def test_several_things_are_remembered_of_one_file(memory: DigestMemory, reader: Reader) -> None:
    recall(memory, reader)
    assert memory.recall(str(reader.path), "another", lambda: [1, "b"]) == [1, "b"]
    assert memory.recall(str(reader.path), "another", reader) == [1, "b"]
    assert recall(memory, reader) == digest_file(str(reader.path))
    assert reader.count == 1


def test_what_was_written_just_now_is_not_remembered(memory: DigestMemory, reader: Reader) -> None:
    write(reader.path, b"new", time.time_ns())
    recall(memory, reader)
    recall(memory, reader)
    assert reader.count == 2


def test_what_changes_while_it_is_read_is_not_remembered(
    memory: DigestMemory, reader: Reader
) -> None:
    def read_and_change() -> str:
        digest = reader()
        write(reader.path, b"longer", OLD_NS + 5)
        return digest

    memory.recall(str(reader.path), "content", read_and_change)
    assert recall(memory, reader) == digest_file(str(reader.path))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": {}}', '{"path": "x", "version": 3}'])
def test_a_note_that_is_damaged_is_made_anew(
    memory: DigestMemory, reader: Reader, text: str
) -> None:
    recall(memory, reader)
    (note,) = Path(str(memory.folder)).iterdir()
    note.write_text(text)
    assert recall(memory, reader) == recall(memory, reader) == digest_file(str(reader.path))
    assert reader.count == 2


@pytest.mark.parametrize("folder", [None, "/proc/nowhere"])
def test_without_a_folder_every_read_is_one(reader: Reader, folder: str | None) -> None:
    memory = DigestMemory(folder=folder)
    assert recall(memory, reader) == recall(memory, reader) == digest_file(str(reader.path))
    assert reader.count == 2


def test_a_missing_file_is_an_error(memory: DigestMemory, reader: Reader) -> None:
    reader.path.unlink()
    with pytest.raises(FileNotFoundError, match="file"):
        recall(memory, reader)
