"""What an encoder does with stored tokens, where files and folders are tested elsewhere."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.workers.disk.entries import make_entry, named
from tests.workers.test_bank import make_ranked
from workers.digests import DigestMemory
from workers.disk.entry import read_manifest, write_entry
from workers.disk.requests import OpenRequest
from workers.disk.stored import join_frames, open_entry
from workers.errors import EntryError, InputError


@pytest.fixture
def path(tmp_path: Path) -> str:
    """An entry of six frames of which one could not be ranked."""
    pictures = {frame: f"jpeg {frame}".encode() for frame in (0, 1, 2, 4, 5)}
    entry = named(make_entry(num_frames=6, thumbnails=pictures), weights="w")
    ranked = entry.ranked[np.array([0, 1, 2, 4, 5])]
    write_entry(tmp_path / "entry", replace(entry, ranked=ranked))
    return str(tmp_path / "entry")


def request_of(path: str, *frames: int, digest: str | None = None) -> OpenRequest:
    return OpenRequest(
        clip_id="clip",
        path=path,
        arrays_digest=digest or read_manifest(path).arrays_digest,
        frames=np.array(frames),
        memory=DigestMemory(folder=None),
    )


def test_some_frames_of_an_entry_are_numbered_anew(path: str) -> None:
    (ranked,), news = open_entry(request_of(path, 1, 3, 5), "w")
    assert ranked.frame_indices.tolist() == [0, 2]
    assert np.unique(ranked.features[:, 0]).tolist() == [1, 5]
    assert news.manifest is not None
    assert news.manifest.frame_indices == (0, 2)
    assert news.manifest.pts_seconds == (0.5, 2.5)
    assert news.thumbnails == {0: b"jpeg 1", 2: b"jpeg 5"}


def test_an_entry_that_was_replaced_since_it_was_planned_is_refused(path: str) -> None:
    with pytest.raises(EntryError, match="entry: has changed since it was opened"):
        open_entry(request_of(path, 0, digest="another"), "w")
    request = request_of(path, 0)
    Path(path).unlink()
    with pytest.raises(EntryError, match="entry: is gone"):
        open_entry(request, "w")


def test_an_entry_of_other_weights_is_refused(path: str) -> None:
    with pytest.raises(InputError, match="entry: was made with another vision tower or projector"):
        open_entry(request_of(path, 0), "v")


def test_parts_are_joined_in_source_order() -> None:
    whole = make_ranked(range(7), count=9)
    parts = [whole[np.array([5])], whole[0:2], whole[np.array([2, 4])], whole[np.array([3, 6])]]
    joined = join_frames(parts)
    for name in ("frame_indices", "pts_seconds", "counts", "order", "features", "informativeness"):
        assert getattr(joined, name).tolist() == getattr(whole, name).tolist()
    assert joined.layouts == whole.layouts
