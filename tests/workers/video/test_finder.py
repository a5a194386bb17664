from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.clips import draw_clip, read_frame_number
from workers.video import finder
from workers.video.finder import PictureFinder
from workers.video.index import index_video
from workers.video.limits import Deadline

GOP = 12


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", num_frames=60, gop=GOP)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Presentation times of the packets that were read."""
    times: list[int] = []

    def noting(*arguments: Any) -> Iterator[Any]:
        for packet in read_packets(*arguments):
            times.append(packet.pts)
            yield packet

    read_packets = finder.read_packets
    monkeypatch.setattr(finder, "read_packets", noting)
    return times


def find(clip: Path, positions: list[int]) -> list[int]:
    index = index_video(str(clip))
    wanted = index.pts[positions]
    with PictureFinder(index, wanted, Deadline(str(clip), 60)) as pictures:
        found = [pictures.find(pts) for pts in wanted.tolist()]
    return [read_frame_number(picture) for picture in found if picture is not None]


def test_before_a_seek_one_packet_more_is_read_than_was_asked_for(
    clip: Path, read: list[int]
) -> None:
    keyframes = list(range(0, 60, GOP))
    assert find(clip, keyframes) == keyframes
    assert len(read) == 2 * len(keyframes)


def test_no_packet_is_read_twice_where_decoding_goes_on(clip: Path, read: list[int]) -> None:
    wanted = [*range(3, 11), *range(20, 40)]
    assert find(clip, wanted) == wanted
    assert len(read) == len(set(read)) <= 4 * GOP


def test_at_the_end_of_a_clip_nothing_counts_as_broken(clip: Path) -> None:
    index = index_video(str(clip))
    with PictureFinder(index, index.pts, Deadline(str(clip), 60)) as pictures:
        assert [pts for pts in index.pts.tolist() if pictures.find(pts) is None] == []
        assert pictures.find(int(index.pts[-1]) + 1) is None
        assert pictures.troubles() == "their data, or what it refers to, is missing"


@pytest.mark.parametrize("seed", range(10))
def test_any_choice_of_pictures_is_found(clip: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    wanted = np.sort(rng.choice(60, rng.integers(1, 20), replace=False)).tolist()
    assert find(clip, wanted) == wanted


def test_every_picture_is_found_where_each_is_a_keyframe(tmp_path: Path, read: list[int]) -> None:
    clip = draw_clip(tmp_path / "intra.mp4", num_frames=20, gop=1)
    assert find(clip, list(range(20))) == list(range(20))
    assert len(read) <= 2 * 20
