"""The folder of entries: what is found, what goes, and who shares it."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.workers.disk.entries import PRUNING, make_entry, named
from workers.disk.entry import Entry, read_entry
from workers.disk.store import TokenStore, open_store
from workers.errors import InputError, OutputError
from workers.frames import Pruning

ROOT = Path(__file__).parents[3]


@pytest.fixture
def store(tmp_path: Path) -> TokenStore:
    return open_store(str(tmp_path / "bank"), 1.0)


def sized(num_keep: int, max_keep: int) -> Entry:
    pruning = replace(PRUNING, num_keep=num_keep, max_keep=max_keep)
    return make_entry(pruning=pruning)


def found(store: TokenStore, pruning: Pruning) -> list[tuple[int, int]]:
    paths = store.find(dict(make_entry().manifest.key), pruning)
    prunings = [read_entry(path, clip_id="clip").manifest.pruning for path in paths]
    return [(each.num_keep, each.max_keep) for each in prunings]


def names(store: TokenStore) -> list[str]:
    return sorted(path.name for path in Path(store.folder).iterdir())


def test_what_serves_a_ranking_is_found_nearest_first(store: TokenStore) -> None:
    for sizes in ((3, 12), (10, 40), (5, 20), (5, 12), (2, 50)):
        store.keep(sized(*sizes))
    assert found(store, sized(3, 12).manifest.pruning) == [(3, 12), (5, 12), (5, 20), (10, 40)]
    assert found(store, sized(4, 13).manifest.pruning) == [(5, 20), (10, 40)]
    assert found(store, sized(11, 12).manifest.pruning) == []
    assert found(store, sized(0, 41).manifest.pruning) == [(2, 50)]


def test_another_key_is_not_found(store: TokenStore) -> None:
    store.keep(make_entry())
    key = dict(make_entry().manifest.key)
    assert len(store.find(key, PRUNING)) == 1
    assert len(store.find(dict(reversed(key.items())), PRUNING)) == 1
    assert store.find({**key, "content": ["d" * 64]}, PRUNING) == []


def test_an_entry_takes_the_place_of_what_had_its_name(store: TokenStore) -> None:
    store.keep(make_entry())
    (path,) = store.find(dict(make_entry().manifest.key), PRUNING)
    Path(path).write_bytes(b"torn")
    store.keep(make_entry())
    assert read_entry(path, clip_id="clip").manifest.made_for_budget == 9
    assert names(store) == [Path(path).name]


def test_the_least_recently_used_go_first(store: TokenStore) -> None:
    entries = [named(make_entry(), content=[str(number)]) for number in range(4)]
    for entry in entries[:3]:
        store.keep(entry)
    paths = [store.find(dict(entry.manifest.key), PRUNING)[0] for entry in entries[:3]]
    for age, path in enumerate(reversed(paths)):
        os.utime(path, ns=(0, time.time_ns() - (age + 1) * 10**9))
    store.touch(paths[0])
    size = os.path.getsize(paths[0])
    small = replace(store, limit_bytes=3 * size + 9)
    small.keep(entries[3])
    held = [bool(store.find(dict(entry.manifest.key), PRUNING)) for entry in entries]
    assert held == [True, False, True, True]


def test_the_newest_stays_whatever_the_limit(store: TokenStore) -> None:
    store.keep(named(make_entry(), content=["older"]))
    newest = make_entry()
    store.keep(newest)
    size = newest.ranked.features.nbytes
    replace(store, limit_bytes=4 * size).keep(newest)
    assert len(names(store)) == 1
    assert store.find(dict(newest.manifest.key), PRUNING)


def test_an_entry_beyond_the_limit_is_not_written(store: TokenStore) -> None:
    with pytest.raises(
        OutputError, match=r"takes [0-9.e-]+ GiB, more than --bank-gib .*is not kept$"
    ):
        replace(store, limit_bytes=100).keep(make_entry())
    assert names(store) == []


def test_files_of_others_are_left_alone(store: TokenStore) -> None:
    for name in ("notes.txt", "model.safetensors", ".hidden"):
        Path(store.folder, name).write_bytes(bytes(10_000))
    kept = make_entry()
    replace(store, limit_bytes=5_000).keep(kept)
    assert {"notes.txt", "model.safetensors", ".hidden"} < set(names(store))


def test_what_a_lost_writer_began_is_cleared_away_in_time(store: TokenStore) -> None:
    for name, age in ((".writing-old", 7200), (".writing-new", 60)):
        Path(store.folder, name).mkdir()
        Path(store.folder, name, "torn.safetensors").write_bytes(b"torn")
        os.utime(Path(store.folder, name), (0, time.time() - age))
    store.keep(make_entry())
    assert [name for name in names(store) if name.startswith(".")] == [".writing-new"]


def test_an_entry_that_goes_while_it_is_read_stays_with_its_reader(store: TokenStore) -> None:
    entry = make_entry()
    store.keep(entry)
    (path,) = store.find(dict(entry.manifest.key), PRUNING)
    held = read_entry(path, clip_id="clip")
    os.unlink(path)
    assert held.ranked.features.tolist() == entry.ranked.features.tolist()
    store.touch(path)
    assert store.find(dict(entry.manifest.key), PRUNING) == []


def test_a_folder_that_is_gone_is_told(store: TokenStore) -> None:
    Path(store.folder).rmdir()
    assert store.find(dict(make_entry().manifest.key), PRUNING) == []
    with pytest.raises(OutputError, match=r"^--bank .*bank: .*é\.mp4 could not be kept: No such "):
        store.keep(make_entry())


def test_a_disk_that_is_full_is_told_and_leaves_nothing(
    store: TokenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="could not be kept: No space left on device"):
        store.keep(make_entry())
    assert names(store) == []


@pytest.mark.parametrize(
    ("name", "reason"),
    [("file", "is a file"), ("file/below", "Not a directory"), ("a\0b", "embedded null byte")],
)
def test_a_folder_that_cannot_be_is_one_line(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=f"^--bank .*: {reason}; give a folder$"):
        open_store(str(tmp_path / name), 1.0)


def test_two_processes_share_a_folder(store: TokenStore) -> None:
    """Both write the same and other entries under a limit that holds three of them."""
    store.keep(make_entry())
    (path,) = store.find(dict(make_entry().manifest.key), PRUNING)
    limit = 3 * os.path.getsize(path)
    code = f"""
from tests.workers.disk.entries import PRUNING, make_entry, named
from workers.disk.entry import read_entry
from workers.disk.store import TokenStore
store = TokenStore(folder={store.folder!r}, limit_bytes={limit})
read = 0
for number in range(60):
    entry = named(make_entry(), content=[str(number // 2 % 7)])
    for path in store.find(dict(entry.manifest.key), PRUNING):
        try:
            read += read_entry(path, clip_id="clip").manifest.key == entry.manifest.key
        except FileNotFoundError:
            pass
        store.touch(path)
    store.keep(entry)
print(read)
"""
    running = [
        subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    read = [process.communicate(timeout=120)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert sum(map(int, read)) > 0
    assert sum(Path(store.folder, name).stat().st_size for name in names(store)) <= limit
