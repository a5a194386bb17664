from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.clips import cut_file, draw_clip, paint_frame, read_frame_number
from workers.errors import VideoLimitError, VideoOpenError
from workers.video import limits
from workers.video.decode import read_pictures
from workers.video.images import ImageSource
from workers.video.sampling import sample_frames
from workers.video.segments import cut_segments
from workers.video.source import open_source
from workers.video.video_index import VideoIndex


def read_numbers(path: Path) -> list[int]:
    source = open_source(str(path))
    segments = cut_segments(
        "clip",
        source,
        sample_frames(source, num_frames=100),
        decoder="pyav",
        frames_per_chunk=4,
        max_chunks=2,
    )
    chunks = [chunk for segment in segments for chunk in read_pictures(segment)]
    return [read_frame_number(picture) for chunk in chunks for picture in chunk.pictures]


def test_a_video_is_a_video(tmp_path: Path) -> None:
    clip = draw_clip(tmp_path / "clip.mp4")
    shares: list[float] = []
    source = open_source(str(clip), progress=shares.append)
    assert isinstance(source, VideoIndex)
    assert (source.num_frames, source.name, shares[-1]) == (60, str(clip), 1.0)
    assert read_numbers(clip) == list(range(60))


@pytest.mark.parametrize(
    "ending", ["jpg", "png", "webp", "bmp", "tiff", "jp2", "ppm", "avif", "gif"]
)
def test_a_still_picture_is_a_clip_of_one_frame(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"still.{ending}"
    Image.fromarray(paint_frame(599)).save(path)
    source = open_source(str(path))
    assert (source.num_frames, source.name, source.warnings) == (1, str(path), ())
    assert source.size_of(0) == (96, 160)
    np.testing.assert_array_equal(source.pts_seconds(np.array([0])), [0.0])
    assert read_numbers(path) == [599]


def test_the_content_decides_and_not_the_name(tmp_path: Path) -> None:
    Image.fromarray(paint_frame(7)).save(tmp_path / "picture.mp4", "JPEG")
    assert isinstance(open_source(str(tmp_path / "picture.mp4")), ImageSource)
    clip = cut_file(draw_clip(tmp_path / "clip.mp4"), tmp_path / "clip.jpg", keep_share=1)
    assert isinstance(open_source(str(clip)), VideoIndex)


def test_a_picture_with_a_preview_beside_it_is_one_picture(tmp_path: Path) -> None:
    pictures = [Image.fromarray(paint_frame(number)) for number in (8, 9)]
    pictures[0].save(tmp_path / "camera.jpg", "MPO", save_all=True, append_images=pictures[1:])
    assert read_numbers(tmp_path / "camera.jpg") == [8]


@pytest.mark.parametrize(("ending", "name"), [("png", "PNG"), ("gif", "GIF")])
def test_animated_pictures_are_videos(tmp_path: Path, ending: str, name: str) -> None:
    pictures = [Image.fromarray(paint_frame(number)) for number in (1, 2, 3)]
    path = tmp_path / f"moving.{ending}"
    pictures[0].save(path, name, save_all=True, append_images=pictures[1:], duration=500)
    source = open_source(str(path))
    np.testing.assert_allclose(source.pts_seconds(np.arange(3)), [0, 0.5, 1.0])
    assert read_numbers(path) == [1, 2, 3]


def test_an_animated_webp_is_named_as_such(tmp_path: Path) -> None:
    pictures = [Image.fromarray(paint_frame(number)) for number in (1, 2, 3)]
    path = tmp_path / "moving.webp"
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=500)
    with pytest.raises(VideoOpenError, match=r"moving\.webp: is an animated WEBP, which is not"):
        open_source(str(path))


def test_a_picture_above_the_limit_is_refused_by_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(paint_frame(7)).save(tmp_path / "large.png")
    monkeypatch.setattr(limits, "MAX_PIXELS", 160 * 96 - 1)
    with pytest.raises(VideoLimitError, match=r"large\.png: pictures of 160x96 exceed the limit"):
        open_source(str(tmp_path / "large.png"))


def test_a_picture_of_an_iphone_is_named_as_such(tmp_path: Path) -> None:
    path = tmp_path / "photo.heic"
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(500))
    with pytest.raises(VideoOpenError, match=r"photo\.heic: is a HEIF picture, .*to JPEG or PNG"):
        open_source(str(path))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("text.mp4", "is not a video"),
        ("list.m3u8", "is a playlist or of an unsupported container"),
        ("missing.mp4", "No such file or directory; give the path of a local"),
        ("http://127.0.0.1/a.mp4", "is an address"),
    ],
)
def test_what_is_neither_is_refused_as_a_video(tmp_path: Path, name: str, reason: str) -> None:
    makers = {
        "text.mp4": lambda path: path.write_text("not a video\n" * 500),
        "list.m3u8": lambda path: path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:5\n"),
    }
    makers.get(name, lambda path: None)(tmp_path / name)
    path = name if "://" in name else str(tmp_path / name)
    with pytest.raises(VideoOpenError, match=reason):
        open_source(path)
