"""Entry files: what is read is what was written, or nothing."""

import json
import pickle
import re
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

from tests.workers.disk.entries import DAMAGES, damage, make_entry
from tests.workers.test_bank import LAYOUT
from workers.disk.entry import is_entry, read_entry, read_manifest, write_entry
from workers.disk.manifest import Manifest
from workers.errors import EntryError
from workers.frames import RankedFrames

ARRAYS = ("frame_indices", "pts_seconds", "counts", "order", "features", "informativeness")


@pytest.mark.parametrize("stand_ins", [None, np.arange(3 * LAYOUT.num_tokens, dtype=np.int32)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_an_entry_comes_back_as_it_was(
    tmp_path: Path, dtype: torch.dtype, stand_ins: NDArray[np.int32] | None
) -> None:
    thumbnails = {0: b"first", 2: b"the third"}
    entry = make_entry(dtype=dtype, thumbnails=thumbnails)
    entry = replace(entry, ranked=replace(entry.ranked, stand_ins=stand_ins))
    write_entry(tmp_path / "entry", entry)
    found = read_entry(str(tmp_path / "entry"), clip_id="another clip")
    assert found.thumbnails == thumbnails
    assert (found.ranked.clip_id, found.ranked.dtype) == ("another clip", entry.ranked.dtype)
    assert found.ranked.layouts == (LAYOUT,) * 3
    for name in ARRAYS:
        held, expected = getattr(found.ranked, name), getattr(entry.ranked, name)
        assert (held.dtype, held.tolist()) == (expected.dtype, expected.tolist())
    np.testing.assert_equal(found.ranked.stand_ins, stand_ins)
    manifest = read_manifest(str(tmp_path / "entry"))
    assert manifest.to_json() == found.manifest.to_json()
    for each in fields(Manifest)[:8]:
        assert getattr(manifest, each.name) == getattr(entry.manifest, each.name)
    assert manifest.pts_seconds == (0.0, 0.5, 1.0)


def test_an_entry_is_a_safetensors_file_that_explains_itself(tmp_path: Path) -> None:
    write_entry(tmp_path / "entry", make_entry(dtype=torch.bfloat16))
    with safe_open(tmp_path / "entry", framework="numpy") as file:
        (text,) = file.metadata().values()
        assert file.get_tensor("features").dtype == np.uint16
    told = json.loads(text)
    assert told["format"] == 1
    assert told["key"]["dtype"] == "bfloat16"
    assert told["pruning"] == asdict(make_entry().manifest.pruning)
    assert told["pts_seconds"] == [0.0, 0.5, 1.0]
    assert told["layouts"] == [[16, 3, 5]] * 3
    assert told["warnings"] == ["a frame is missing"]


def test_equal_entries_are_equal_files(tmp_path: Path) -> None:
    for name in ("first", "second"):
        write_entry(tmp_path / name, make_entry())
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_entry_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "entry"
    write_entry(path, make_entry())
    damage(path, name)
    with pytest.raises(EntryError, match=re.escape(f"{path}: cannot be used as stored tokens (")):
        read_entry(str(path), clip_id="clip")


def test_no_byte_can_be_flipped_unseen(tmp_path: Path) -> None:
    path = tmp_path / "entry"
    write_entry(path, make_entry(num_frames=1, count=2, thumbnails={0: b"jpeg"}))
    content = path.read_bytes()
    places = np.random.default_rng(0).permutation(len(content))[:400]
    for place in places.tolist():
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x15]) + content[place + 1 :])
        with pytest.raises(EntryError, match="cannot be used as stored tokens"):
            read_entry(str(path), clip_id="clip")


def test_a_manifest_is_checked_without_its_arrays(tmp_path: Path) -> None:
    path = tmp_path / "entry"
    write_entry(path, make_entry())
    damage(path, "flip in the name")
    with pytest.raises(EntryError, match=r"\(its manifest is damaged\)$"):
        read_manifest(str(path))


def test_another_format_is_told_by_its_number(tmp_path: Path) -> None:
    path, entry = tmp_path / "entry", make_entry()
    told = json.dumps({**entry.manifest.to_json(), "format": 2})
    save_file({"features": entry.ranked.features}, path, {"mr_stream_entry": told})
    with pytest.raises(EntryError, match=r"\(format 2, and 1 is read here\)$"):
        read_manifest(str(path))


def test_another_safetensors_file_is_no_entry(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"features": np.zeros(3)}, path, {"format": "pt"})
    assert not is_entry(str(path))
    with pytest.raises(EntryError, match=r"\(it has no manifest\)$"):
        read_entry(str(path), clip_id="clip")


def test_an_entry_is_told_by_its_content(tmp_path: Path) -> None:
    write_entry(tmp_path / "clip.mp4", make_entry())
    assert is_entry(str(tmp_path / "clip.mp4"))
    (tmp_path / "clip.mp4").write_bytes((tmp_path / "clip.mp4").read_bytes()[:200])
    assert is_entry(str(tmp_path / "clip.mp4"))
    assert not is_entry(str(tmp_path / "missing"))


def test_a_missing_entry_is_no_damage(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing"):
        read_entry(str(tmp_path / "missing"), clip_id="clip")


def test_a_manifest_travels(tmp_path: Path) -> None:
    manifest = make_entry().manifest
    again = pickle.loads(pickle.dumps(manifest))  # as Ray sends it to an actor
    assert again.to_json() == manifest.to_json()


def test_arrays_need_not_be_contiguous(tmp_path: Path) -> None:
    entry = make_entry()
    ranked: RankedFrames = entry.ranked
    wide = np.repeat(ranked.features, 2, axis=1)[:, ::2]
    write_entry(tmp_path / "entry", replace(entry, ranked=replace(ranked, features=wide)))
    found = read_entry(str(tmp_path / "entry"), clip_id="clip")
    assert found.ranked.features.tolist() == ranked.features.tolist()
