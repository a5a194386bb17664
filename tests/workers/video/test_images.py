import io
import pickle
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.clips import paint_frame, read_frame_number
from workers.arrays import UInt8Array
from workers.errors import VideoLimitError, VideoOpenError
from workers.frames import PictureChunk
from workers.video import limits
from workers.video.decode import read_pictures
from workers.video.images import ImageSegment, ImageSource, open_images
from workers.video.sampling import sample_frames
from workers.video.segments import cut_segments

# By EXIF orientation: how the displayed picture is laid down in the file.
LAID_DOWN = {
    1: lambda picture: picture,
    2: lambda picture: picture[:, ::-1],
    3: lambda picture: picture[::-1, ::-1],
    4: lambda picture: picture[::-1],
    5: lambda picture: picture.swapaxes(0, 1),
    6: lambda picture: np.rot90(picture, 1),
    7: lambda picture: picture[::-1, ::-1].swapaxes(0, 1),
    8: lambda picture: np.rot90(picture, -1),
}
LOSSLESS = {"png": {}, "webp": {"lossless": True}, "bmp": {}, "tiff": {}, "ppm": {}, "jp2": {}}


def read_source(source: ImageSource, *, frames_per_chunk: int = 4) -> list[PictureChunk]:
    segments = cut_segments(
        "stills",
        source,
        sample_frames(source, num_frames=source.num_frames),
        decoder="pyav",
        frames_per_chunk=frames_per_chunk,
        max_chunks=2,
    )
    return [chunk for segment in segments for chunk in read_pictures(segment)]


def read_file(path: Path) -> UInt8Array:
    (chunk,) = read_source(open_images([str(path)]))
    return chunk.pictures[0]


@pytest.mark.parametrize("ending", LOSSLESS)
def test_files_and_arrays_come_out_pixel_by_pixel(tmp_path: Path, ending: str) -> None:
    pictures = [
        np.random.default_rng(seed).integers(0, 256, (17 + seed, 30 - seed, 3), np.uint8)
        for seed in range(5)
    ]
    paths = [tmp_path / f"{number}.{ending}" for number in range(5)]
    for picture, path in zip(pictures, paths, strict=True):
        Image.fromarray(picture).save(path, **LOSSLESS[ending])
    source = open_images([*map(str, paths[:3]), *pictures[3:]])
    assert (source.num_frames, source.warnings) == (5, ())
    assert [source.size_of(place) for place in range(5)] == [
        picture.shape[:2] for picture in pictures
    ]
    chunks = read_source(source, frames_per_chunk=2)
    assert {chunk.clip_id for chunk in chunks} == {"stills"}
    assert [chunk.frame_indices.tolist() for chunk in chunks] == [[0, 1], [2, 3], [4]]
    assert [chunk.pts_seconds.tolist() for chunk in chunks] == [[0, 1], [2, 3], [4]]
    found = [picture for chunk in chunks for picture in chunk.pictures]
    for picture, ours in zip(pictures, found, strict=True):
        np.testing.assert_array_equal(ours, picture)


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tiff"])
@pytest.mark.parametrize("orientation", LAID_DOWN)
def test_pictures_are_set_upright(tmp_path: Path, orientation: int, ending: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"turned.{ending}"
    stored = np.ascontiguousarray(LAID_DOWN[orientation](paint_frame(333)))
    Image.fromarray(stored).save(path, exif=exif)
    source = open_images([str(path)])
    assert source.size_of(0) == (96, 160)
    picture = read_file(path)
    assert picture.shape == (96, 160, 3)
    assert read_frame_number(picture) == 333


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1", "I;16"])
def test_every_kind_of_color_becomes_rgb(tmp_path: Path, mode: str) -> None:
    picture = paint_frame(341)
    makers = {
        "I;16": lambda: Image.fromarray(picture[..., 0].astype(np.uint16) * 257),
        "CMYK": lambda: Image.fromarray(picture).convert("CMYK"),
    }
    image = makers.get(mode, lambda: Image.fromarray(picture).convert(mode))()
    path = tmp_path / ("image.tiff" if mode == "CMYK" else "image.png")
    image.save(path)
    with Image.open(path) as stored:
        assert stored.mode == mode
    np.testing.assert_array_equal(read_file(path), picture)


def test_sixteen_bits_of_grey_are_scaled(tmp_path: Path) -> None:
    grey = np.array([[0, 255, 256, 32768, 65535]], np.uint16)
    Image.fromarray(grey).save(tmp_path / "deep.png")
    assert read_file(tmp_path / "deep.png")[0, :, 0].tolist() == [0, 0, 1, 128, 255]


def test_a_transparent_palette_loses_its_transparency_only(tmp_path: Path) -> None:
    picture = paint_frame(85)
    image = Image.fromarray(picture).convert("P")
    image.save(tmp_path / "clear.png", transparency=bytes([128] * 256))
    np.testing.assert_array_equal(read_file(tmp_path / "clear.png"), picture)


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0garbage", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0II*\0\x08\0\0\0\xff"]
)
def test_damaged_exif_is_no_trouble(tmp_path: Path, exif: bytes) -> None:
    Image.fromarray(paint_frame(85)).save(tmp_path / "odd.jpg", exif=exif)
    assert read_frame_number(read_file(tmp_path / "odd.jpg")) == 85


def test_opening_reads_no_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tmp_path / f"lazy.{ending}" for ending in ("png", "jpg", "bmp")]
    for path in paths:
        Image.fromarray(paint_frame(3)).save(path)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", None)
    assert open_images(list(map(str, paths))).num_frames == 3


def test_pictures_are_sampled_like_frames_one_a_second() -> None:
    source = open_images([paint_frame(number) for number in range(8)])
    assert sample_frames(source, num_frames=4).tolist() == [1, 3, 5, 7]
    assert sample_frames(source, fps=0.5).tolist() == [0, 2, 4, 6]
    assert sample_frames(source, fps=1, start_seconds=2, end_seconds=5).tolist() == [2, 3, 4]


def test_slices_are_segments_too() -> None:
    source = open_images([paint_frame(number) for number in range(10)])
    (segment,) = cut_segments(
        "stills",
        source,
        np.array([1, 3, 5, 7, 9]),
        decoder="pyav",
        frames_per_chunk=2,
        max_chunks=9,
    )
    assert isinstance(segment, ImageSegment)
    part = segment[1:4]
    assert (part.first_frame, len(part)) == (1, 3)
    assert repr(part) == "ImageSegment(stills, frames 1 to 3)"
    chunks = list(read_pictures(pickle.loads(pickle.dumps(part))))
    numbers = [[read_frame_number(each) for each in chunk.pictures] for chunk in chunks]
    assert numbers == [[3, 5], [7]]
    assert [chunk.frame_indices.tolist() for chunk in chunks] == [[1, 2], [3]]
    assert [chunk.pts_seconds.tolist() for chunk in chunks] == [[3, 5], [7]]


def test_a_source_has_a_name(tmp_path: Path) -> None:
    path = tmp_path / "two\nlines.png"
    Image.fromarray(paint_frame(3)).save(path)
    assert open_images([str(path)]).name == repr(str(path))
    assert open_images([paint_frame(1)]).name == "an image"
    assert open_images([paint_frame(1), str(path)]).name == "2 images"


def test_the_first_page_of_several_is_shown(tmp_path: Path) -> None:
    pages = [Image.fromarray(paint_frame(number)) for number in (5, 6, 7)]
    pages[0].save(tmp_path / "fax.tiff", save_all=True, append_images=pages[1:])
    (warning,) = open_images([str(tmp_path / "fax.tiff")]).warnings
    assert "fax.tiff: the first of its 3 pages is shown" in warning
    assert read_frame_number(read_file(tmp_path / "fax.tiff")) == 5


def write_png_header(path: Path, width: int, height: int) -> Path:
    """Write a PNG that promises many pixels and holds none."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    return path


@pytest.mark.parametrize(
    ("size", "reason"),
    [
        ((9000, 8000), "pictures of 9000x8000 exceed the limit of 64 million pixels"),
        ((12_000, 12_000), "pictures of 12000x12000 exceed the limit of 64 million pixels"),
        ((60_000, 60_000), "exceeds the limit of 64 million pixels many times"),
    ],
)
def test_pictures_above_the_limit_are_refused(
    tmp_path: Path, size: tuple[int, int], reason: str
) -> None:
    path = write_png_header(tmp_path / "bomb.png", *size)
    with pytest.raises(VideoLimitError, match=rf"bomb\.png: .*{reason}"):
        open_images([str(path)])


def test_arrays_above_the_limit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_PIXELS", 160 * 96 - 1)
    with pytest.raises(VideoLimitError, match="an image: pictures of 160x96 exceed the limit"):
        open_images([paint_frame(1)])


def damage(path: Path, kind: str) -> Path:
    """Write a file that is no readable picture."""
    content = io.BytesIO()
    Image.effect_noise((160, 96), 80).save(content, "JPEG")
    whole = content.getvalue()
    moving = [Image.fromarray(paint_frame(number)) for number in range(3)]
    makers = {
        "text": lambda: path.write_text("not a picture " * 99),
        "empty": lambda: path.touch(),
        "header": lambda: path.write_bytes(whole[:30]),
        "missing": lambda: None,
        "animated": lambda: moving[0].save(
            path, "WEBP", save_all=True, append_images=moving[1:], duration=100
        ),
    }
    makers[kind]()
    return path


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("text", "is not a picture of a known kind"),
        ("empty", "the file is empty"),
        ("header", "is damaged"),
        ("missing", "No such file"),
        ("animated", "is an animated WEBP, which is not read here; convert it to MP4 or GIF"),
    ],
)
def test_what_is_no_picture_is_refused_in_one_line(tmp_path: Path, kind: str, reason: str) -> None:
    path = damage(tmp_path / f"{kind}.jpg", kind)
    with pytest.raises(VideoOpenError, match=rf"{kind}\.jpg: {reason}") as caught:
        open_images([str(path)])
    assert len(str(caught.value).splitlines()) == 1


def test_a_picture_cut_off_in_its_middle_is_named_when_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "half.png"
    Image.effect_noise((160, 96), 80).save(path)
    path.write_bytes(path.read_bytes()[:9000])
    source = open_images([str(path)])
    with pytest.raises(VideoOpenError, match=r"half\.png: is damaged"):
        read_source(source)


def test_a_picture_that_changed_its_size_is_named(tmp_path: Path) -> None:
    path = tmp_path / "changing.png"
    Image.fromarray(paint_frame(1)).save(path)
    source = open_images([str(path)])
    Image.fromarray(paint_frame(1, width=320)).save(path)
    with pytest.raises(VideoOpenError, match=r"changing\.png: has changed since it was opened"):
        read_source(source)


@pytest.mark.parametrize(
    "picture", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3))]
)
def test_what_is_no_array_of_rgb_is_refused(picture: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"a picture is \(height, width, 3\) uint8"):
        open_images([picture])


def test_no_picture_is_no_clip() -> None:
    with pytest.raises(ValueError, match="at least one"):
        open_images([])
