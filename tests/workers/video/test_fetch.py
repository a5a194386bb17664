import os
import pickle
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pyarrow import ArrowNotImplementedError

from tests.clips import draw_clip, paint_frame, read_frame_number
from tests.workers.video.remote import Elsewhere, elsewhere
from workers.errors import VideoError, VideoOpenError
from workers.video.decode import DECODERS, read_pictures
from workers.video.fetch import RemoteFile, find_file, is_uri, local_path
from workers.video.images import open_images
from workers.video.segments import Segment, cut_segments
from workers.video.source import Source, open_source

CLIP = "elsewhere://clips/numbers.mp4"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_clip(tmp_path_factory.mktemp("clip") / "numbers.mp4", num_frames=20)


@pytest.fixture
def bucket(tmp_path: Path, drawn: Path) -> Path:
    (tmp_path / "bucket" / "clips").mkdir(parents=True)
    shutil.copy(drawn, tmp_path / "bucket" / "clips")
    return tmp_path / "bucket"


@pytest.fixture
def files(tmp_path: Path, bucket: Path) -> Iterator[Elsewhere]:
    with elsewhere(bucket, tmp_path / "cache") as files:
        yield files


def copies(tmp_path: Path) -> list[Path]:
    return sorted(path for path in (tmp_path / "cache").rglob("*.*") if path.is_file())


def cut(source: Source, decoder: str = "pyav") -> list[Segment]:
    return cut_segments(
        "clip",
        source,
        np.arange(source.num_frames),
        decoder=decoder,
        frames_per_chunk=4,
        max_chunks=2,
    )


def read_numbers(segments: list[Segment]) -> list[int]:
    chunks = [chunk for segment in segments for chunk in read_pictures(segment)]
    return [read_frame_number(picture) for chunk in chunks for picture in chunk.pictures]


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_clip_elsewhere_is_read_like_one_here(
    tmp_path: Path, files: Elsewhere, drawn: Path, decoder: str
) -> None:
    source = open_source(CLIP)
    assert source.name == CLIP
    assert read_numbers(cut(source, decoder)) == list(range(20))
    (copy,) = copies(tmp_path)
    assert copy.read_bytes() == drawn.read_bytes()
    assert copy.suffix == ".mp4"
    assert files.num_read == 1


def test_segments_carry_the_uri_and_any_machine_reads_them(
    tmp_path: Path, files: Elsewhere, bucket: Path
) -> None:
    segments = pickle.loads(pickle.dumps(cut(open_source(CLIP))))
    assert not any(str(tmp_path).encode() in pickle.dumps(segment) for segment in segments)
    with elsewhere(bucket, tmp_path / "another machine") as there:
        assert read_numbers(segments) == list(range(20))
    assert (files.num_read, there.num_read) == (1, 1)


def test_a_picture_elsewhere_is_a_clip_too(files: Elsewhere, bucket: Path) -> None:
    for number in (7, 8):
        Image.fromarray(paint_frame(number)).save(bucket / f"{number}.png")
    assert open_source("elsewhere://7.png").name == "elsewhere://7.png"
    source = open_images(["elsewhere://7.png", paint_frame(9), "elsewhere://8.png"])
    assert read_numbers(cut(source)) == [7, 9, 8]
    before = source.identity
    os.utime(bucket / "8.png", ns=(1, 1))
    assert (
        open_images(["elsewhere://7.png", paint_frame(9), "elsewhere://8.png"]).identity != before
    )


def test_the_identity_is_that_of_the_file_there(files: Elsewhere, bucket: Path) -> None:
    clip = bucket / "clips" / "numbers.mp4"
    first = open_source(CLIP).identity
    assert first == (CLIP, clip.stat().st_size, clip.stat().st_mtime_ns)
    assert open_source(CLIP).identity == first
    os.utime(clip, ns=(1, 1))
    assert open_source(CLIP).identity == (CLIP, clip.stat().st_size, 1)
    assert files.num_read == 2


def test_a_clip_that_changed_is_never_mixed_with_what_it_was(
    tmp_path: Path, files: Elsewhere, bucket: Path
) -> None:
    segments = cut(open_source(CLIP))
    draw_clip(bucket / "clips" / "numbers.mp4", num_frames=20, first_number=100)
    assert read_numbers(segments) == list(range(20))  # of the copy that is here
    with (
        elsewhere(bucket, tmp_path / "another machine"),
        pytest.raises(VideoOpenError, match=rf"^{CLIP}: has changed since it was opened$"),
    ):
        read_numbers(segments)
    assert read_numbers(cut(open_source(CLIP))) == list(range(100, 120))


def test_a_clip_that_changes_while_it_is_copied_is_refused(
    tmp_path: Path, files: Elsewhere, bucket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change_and_open(path: str, open_stream: object = files.open_input_stream) -> object:
        os.utime(bucket / path, ns=(1, 1))
        return open_stream(path)  # type: ignore[operator]

    monkeypatch.setattr(files, "open_input_stream", change_and_open)
    with pytest.raises(VideoOpenError, match=r"has changed since it was opened$"):
        open_source(CLIP)
    assert copies(tmp_path) == []


def test_what_file_names_is_read_where_it_is(tmp_path: Path, files: Elsewhere, drawn: Path) -> None:
    uri = drawn.as_uri()
    source = open_source(uri)
    assert (source.name, source.identity[0]) == (uri, uri)
    assert read_numbers(cut(source)) == list(range(20))
    assert copies(tmp_path) == []
    assert local_path(find_file(uri)) == str(drawn)


def test_a_file_uri_that_changed_is_detected(bucket: Path) -> None:
    clip = bucket / "clips" / "numbers.mp4"
    segments = cut(open_source(clip.as_uri()))
    os.utime(clip, ns=(1, 1))
    with pytest.raises(VideoOpenError, match=r"^file:///.*: has changed since it was opened$"):
        read_numbers(segments)


def test_paths_stay_what_they_are() -> None:
    for path in ("a.mp4", "/b/c.mp4", "12:30.mp4", "C:\\clip.mp4", "a//b", ""):
        assert not is_uri(path)
        assert find_file(path) is path
        assert local_path(path) is path


def test_a_version_travels_with_its_uri() -> None:
    sent = pickle.loads(pickle.dumps(RemoteFile("s3://a/b", 5, 6)))
    assert (type(sent), sent, sent.size_bytes, sent.mtime_ns) == (RemoteFile, "s3://a/b", 5, 6)


TAKEN = (
    "is an address that is not read; give a path, or a URI of s3://, gs://, file:// or what else"
)


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("http://127.0.0.1/a.mp4", TAKEN),
        ("HTTPS://example.org/" + "a" * 9_999, TAKEN),
        ("rtsp://camera/1", TAKEN),
        ("file://host/a.mp4", "is not a valid URI (Unsupported hostname"),
        ("file:///no/such.mp4", "no file is there"),
        ("file:///", "is a directory; give a video file inside it"),
        ("file:///dev/null", "is not a regular file"),
        ("elsewhere://clips/other.mp4", "no file is there"),
        ("elsewhere://clips", "is a directory; give a video file inside it"),
        ("elsewhere://clips/text.mp4", "is not a video"),
        ("elsewhere://clips/empty.mp4", "the file is empty (0 bytes)"),
        ("elsewhere://clips/photo.heic", "is a HEIF picture"),
    ],
)
def test_what_cannot_be_read_is_one_line(
    files: Elsewhere, bucket: Path, uri: str, reason: str
) -> None:
    (bucket / "clips" / "text.mp4").write_text("not a video\n" * 500)
    (bucket / "clips" / "empty.mp4").touch()
    (bucket / "clips" / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(50))
    with pytest.raises(
        VideoOpenError, match=f"^{re.escape(uri[:40])}.*: {re.escape(reason)}"
    ) as it:
        open_source(uri)
    assert "\n" not in str(it.value)
    assert len(str(it.value)) < 250


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (PermissionError(13, "Permission denied"), r"\[Errno 13\] Permission denied"),
        (
            OSError("AWS Error ACCESS_DENIED\nduring HeadObject"),
            "AWS Error ACCESS_DENIED during Hea",
        ),
        (ArrowNotImplementedError("built without S3"), "built without S3"),
    ],
)
def test_what_a_file_system_refuses_is_one_line(
    files: Elsewhere, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    def refuse(path: str) -> None:
        raise error

    for step in ("open_input_stream", "get_file_info"):
        with monkeypatch.context() as patched:
            patched.setattr(files, step, refuse)
            with pytest.raises(VideoOpenError, match=rf"^{CLIP}: cannot be fetched \({reason}"):
                open_source(CLIP)
    assert open_source(CLIP).num_frames == 20


def test_keys_in_a_uri_are_shown_to_nobody(bucket: Path) -> None:
    for uri in ("http://key:secret@host/a.mp4", "file://key:secret@host/a b.mp4"):
        with pytest.raises(VideoError, match=r"^\w+://\.\.\.@host/a") as raised:
            open_source(uri)
        assert "secret" not in str(raised.value)
