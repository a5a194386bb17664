"""The digest of what a source shows: of bytes, never of names and dates."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.clips import draw_clip
from tests.workers.vision.pictures import draw_picture
from workers.digests import DigestMemory, digest_file
from workers.errors import VideoOpenError
from workers.video.content import check_unchanged, content_digest
from workers.video.images import open_images
from workers.video.source import open_source

NOTHING = DigestMemory(folder=None)


def digest_of(path: Path) -> list[str]:
    return content_digest(open_source(str(path)), NOTHING)


def test_a_copy_is_the_same_and_another_clip_is_not(tmp_path: Path) -> None:
    clip = draw_clip(tmp_path / "clip.mp4", num_frames=5)
    copied = Path(shutil.copyfile(clip, tmp_path / "copy.mp4"))
    other = draw_clip(tmp_path / "other.mp4", num_frames=5, first_number=9)
    assert digest_of(clip) == digest_of(copied) == [digest_file(str(clip))] != digest_of(other)


def test_every_picture_counts_in_its_place(tmp_path: Path) -> None:
    first, second = draw_picture(40, 60), draw_picture(60, 40)
    path = tmp_path / "first.png"
    Image.fromarray(first).save(path)
    digest = content_digest(open_images([str(path), first, second]), NOTHING)
    assert digest[0] == digest_file(str(path))
    assert len(set(digest)) == 3
    assert content_digest(open_images([second, first]), NOTHING) == [digest[2], digest[1]]
    turned = np.ascontiguousarray(first.reshape(60, 40, 3))
    assert content_digest(open_images([turned]), NOTHING) != [digest[1]]


def test_a_video_that_was_written_to_is_refused(tmp_path: Path) -> None:
    clip = draw_clip(tmp_path / "clip.mp4", num_frames=5)
    source = open_source(str(clip))
    check_unchanged(source)
    clip.write_bytes(clip.read_bytes() + b"\0")
    with pytest.raises(VideoOpenError, match=r"clip\.mp4: has changed since it was opened$"):
        content_digest(source, NOTHING)
    clip.unlink()
    with pytest.raises(VideoOpenError, match=r"clip\.mp4: No such file or directory$"):
        check_unchanged(source)
