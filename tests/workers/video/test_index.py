import os
import socket
from pathlib import Path

import av
import numpy as np
import pytest

from tests.clips import (
    X264_B_FRAMES,
    cut_file,
    destroy_bytes,
    draw_clip,
    draw_sound,
    hide_vp8_picture,
    join_files,
    read_frame_number,
)
from workers.errors import (
    NoVideoStreamError,
    VideoDecodeError,
    VideoError,
    VideoLimitError,
    VideoOpenError,
    VideoTimeoutError,
)
from workers.video import container as video_source
from workers.video.decode import cut_segments, decode_segment, index_video
from workers.video.sampling import sample_frames


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clips")


@pytest.fixture(scope="module")
def plain(folder: Path) -> Path:
    return draw_clip(folder / "plain.mp4")


@pytest.fixture(scope="module")
def stream(folder: Path) -> Path:
    return draw_clip(folder / "stream.ts", num_frames=40)


def read_numbers(path: Path, num_frames: int, num_segments: int = 1) -> tuple[list[int], list[int]]:
    index = index_video(str(path))
    wanted = sample_frames(index, num_frames=num_frames)
    segments = cut_segments(
        index, wanted, decoder="pyav", frames_per_chunk=4, num_segments=num_segments
    )
    chunks = [chunk for segment in segments for chunk in decode_segment(segment)]
    return wanted.tolist(), [read_frame_number(frame) for chunk in chunks for frame in chunk.frames]


def test_an_ordinary_clip(plain: Path) -> None:
    index = index_video(str(plain))
    assert index.codec == "h264"
    assert (index.width, index.height, index.rotation_degrees) == (160, 96, 0)
    np.testing.assert_allclose(index.pts * index.time_base_seconds, np.arange(60) / 25)
    assert index.seekable
    assert not index.numbered
    assert not index.open_gop
    assert index.keyframe_pts.tolist() == index.pts[::12].tolist()
    assert index.warnings == ()


@pytest.mark.parametrize(("degrees", "size"), [(90, (96, 160)), (180, (160, 96)), (270, (96, 160))])
def test_size_and_rotation_are_those_shown(
    folder: Path, degrees: int, size: tuple[int, int]
) -> None:
    clip = draw_clip(
        folder / f"{degrees}.mp4",
        rotation_degrees=degrees,
        width=size[0],
        height=size[1],
        num_frames=3,
    )
    index = index_video(str(clip))
    assert index.rotation_degrees == degrees
    assert (index.width, index.height) == size


def test_times_need_not_start_at_zero(folder: Path) -> None:
    index = index_video(str(draw_clip(folder / "late.mp4", times_ms=[1430, 1470, 1510])))
    np.testing.assert_allclose(index.pts * index.time_base_seconds, [1.43, 1.47, 1.51])


def test_open_groups_of_pictures_are_noticed(folder: Path) -> None:
    options = {**X264_B_FRAMES, "x264-params": "open-gop=1"}
    assert index_video(str(draw_clip(folder / "open.mp4", options=options))).open_gop


def test_hidden_pictures_are_not_listed(folder: Path) -> None:
    source = draw_clip(folder / "vp8.webm", codec="libvpx", options={}, num_frames=20)
    clip = hide_vp8_picture(source, folder / "hidden.webm", number=5)
    index = index_video(str(clip))
    assert index.num_frames == 19
    assert read_numbers(clip, 19)[1] == [*range(5), *range(6, 20)]


def test_pictures_before_the_first_keyframe_are_not_listed(folder: Path, stream: Path) -> None:
    content = stream.read_bytes()
    tail = folder / "tail.ts"
    tail.write_bytes(content[len(content) // 5 // 188 * 188 :])
    index = index_video(str(tail))
    assert index.pts[0] == index.keyframe_pts[0]
    assert "pictures cannot be decoded" in index.warnings[0]
    wanted, numbers = read_numbers(tail, index.num_frames)
    assert [number - numbers[0] for number in numbers] == wanted


def test_a_truncated_file_keeps_what_is_there(folder: Path) -> None:
    whole = draw_clip(folder / "whole.mkv")
    index = index_video(str(cut_file(whole, folder / "half.mkv", keep_share=0.5)))
    assert 10 < index.num_frames < 40
    assert index.num_frames - len(read_numbers(folder / "half.mkv", 60)[1]) <= 1
    assert r"of the 2.4 s promised" in index.warnings[0]


def test_a_jump_forward_keeps_true_times_and_does_not_swallow_the_sampling(
    folder: Path, stream: Path
) -> None:
    times_ms = list(range(50_000_000, 50_001_600, 40))
    late = draw_clip(folder / "late.ts", times_ms=times_ms, first_number=40)
    clip = join_files([stream, late], folder / "forward.ts")
    index = index_video(str(clip))
    seconds = (index.pts - index.pts[0]) * index.time_base_seconds
    assert not index.seekable
    assert not index.numbered
    assert seconds[40] > 49_900
    assert r"time jumps from 1.560 s to" in index.warnings[0]
    assert sample_frames(index, num_frames=8).tolist() == [5, 15, 25, 35, 45, 55, 65, 75]
    assert read_numbers(clip, 16, num_segments=3)[0] == read_numbers(clip, 16)[1]


def test_time_that_goes_back_is_continued(folder: Path, stream: Path) -> None:
    clip = join_files([stream, stream], folder / "back.ts")
    index = index_video(str(clip))
    assert index.numbered
    assert index.num_frames == 80
    np.testing.assert_allclose(np.diff(index.pts) * index.time_base_seconds, 0.04)
    assert "counted" in index.warnings[0]
    wanted, numbers = read_numbers(clip, 16)
    assert numbers == [number % 40 for number in wanted]


def test_a_long_clip_without_times_is_listed_by_its_packets(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.video.numbers._MAX_COUNTED_PIXELS", 0)
    clip = draw_clip(folder / "long.avi", codec="mpeg4", options={"bf": "2"})
    assert "packets stand for its pictures" in index_video(str(clip)).warnings[1]
    wanted, numbers = read_numbers(clip, 16)
    assert numbers == wanted


def test_cover_art_is_no_video(folder: Path) -> None:
    song = folder / "song.mp4"
    with av.open(str(draw_sound(folder / "sound.mp4"))) as sound, av.open(str(song), "w") as writer:
        voice = writer.add_stream_from_template(sound.streams.audio[0])
        cover = writer.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 64, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
        writer.mux(cover.encode(picture.reformat(format="yuvj420p")))
        writer.mux(cover.encode())
        for packet in sound.demux(audio=0):
            packet.stream = voice
            writer.mux([packet] * (packet.size > 0))
    with pytest.raises(NoVideoStreamError, match=r"song\.mp4: holds no video stream"):
        index_video(str(song))


def make_bad_file(folder: Path, plain: Path, name: str) -> Path:
    path = folder / name
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{folder}/stream.ts\n#EXT-X-ENDLIST\n"
    makers = {
        "empty.mp4": lambda: path.touch(),
        "text.mp4": lambda: path.write_text("not a video\n" * 500),
        "random.mp4": lambda: path.write_bytes(np.random.default_rng(0).bytes(50_000)),
        "headless.mp4": lambda: cut_file(plain, path, keep_share=0.5),
        "list.m3u8": lambda: path.write_text(playlist),
        "list.ffconcat": lambda: path.write_text(f"ffconcat version 1.0\nfile {plain.name}\n"),
        "directory": lambda: path.mkdir(),
        "pipe": lambda: os.mkfifo(path),
        "missing.mp4": lambda: None,
        "two\nlines.mp4": lambda: None,
        "zero\0byte.mp4": lambda: None,
        "\udc80.mp4": lambda: path.write_text("a name that is not text"),
    }
    makers[name]()
    return path


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("empty.mp4", "the file is empty"),
        ("text.mp4", "is not a video, or its header is damaged"),
        ("random.mp4", "is not a video, or its header is damaged"),
        ("headless.mp4", "is not a video, or its header is damaged"),
        ("list.m3u8", "is a playlist or of an unsupported container"),
        ("list.ffconcat", "is a playlist or of an unsupported container"),
        ("directory", "is a directory; give a video file inside it"),
        ("pipe", "is not a regular file"),
        ("missing.mp4", "No such file or directory; give the path of a local video file"),
        ("two\nlines.mp4", "No such file or directory"),
        ("zero\0byte.mp4", "embedded null byte"),
        ("\udc80.mp4", "is not a video"),
    ],
)
def test_what_is_no_video_file_is_refused_in_one_line(
    folder: Path, plain: Path, stream: Path, name: str, reason: str
) -> None:
    path = make_bad_file(folder, plain, name)
    with pytest.raises(VideoOpenError, match=reason) as caught:
        index_video(str(path))
    assert len(str(caught.value).splitlines()) == 1
    assert video_source.display_name(str(path)) in str(caught.value)


@pytest.mark.parametrize("path", ["http://127.0.0.1/a.mp4", "pipe:0", "concat:a.mp4|b.mp4", "-"])
def test_addresses_are_taken_for_file_names(path: str) -> None:
    with pytest.raises(VideoOpenError, match="No such file"):
        index_video(path)


def test_a_name_like_an_address_is_a_file_all_the_same(plain: Path) -> None:
    clip = cut_file(plain, plain.parent / "12:30.mp4", keep_share=1)
    assert index_video(str(clip)).num_frames == 60


def test_a_socket_is_refused(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        with pytest.raises(VideoOpenError, match="is not a regular file"):
            index_video(str(tmp_path / "socket"))


def test_sound_alone_is_refused(folder: Path) -> None:
    with pytest.raises(NoVideoStreamError, match=r"holds no video stream \(it holds: audio\)"):
        index_video(str(draw_sound(folder / "alone.m4a")))


def test_huge_pictures_are_refused_before_decoding(
    plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video_source, "MAX_PIXELS", 160 * 96 - 1)
    with pytest.raises(VideoLimitError, match=r"pictures of 160x96 exceed the limit"):
        index_video(str(plain))


def test_pictures_none_of_which_decodes_are_refused(folder: Path, plain: Path) -> None:
    clip = folder / "noise.mp4"
    content = bytearray(plain.read_bytes())
    start, end = content.index(b"mdat") + 4, content.index(b"moov") - 4
    content[start:end] = b"\xff" * (end - start)
    clip.write_bytes(content)
    with pytest.raises(VideoDecodeError, match="not one of its 60 pictures can be decoded"):
        index_video(str(clip))


def test_an_unknown_codec_is_refused(folder: Path, plain: Path) -> None:
    clip = folder / "unknown.mp4"
    clip.write_bytes(plain.read_bytes().replace(b"avc1", b"zzzz"))
    with pytest.raises(VideoDecodeError, match=r"unknown\.mp4: its codec is unknown"):
        index_video(str(clip))


def test_a_damaged_avi_is_read_from_its_beginning(folder: Path) -> None:
    whole = draw_clip(folder / "whole.avi", codec="mjpeg", options={}, pix_fmt="yuvj420p")
    assert index_video(str(whole)).seekable
    clip = destroy_bytes(whole, folder / "damaged.avi", start_share=0.4, end_share=0.45)
    index = index_video(str(clip))
    assert not index.seekable
    assert "of the 60 pictures its header promises" in index.warnings[0]
    numbers = read_numbers(clip, 60)[1]
    assert numbers == sorted(set(numbers))
    assert len(numbers) > 50


def test_a_header_without_pictures_is_refused(folder: Path) -> None:
    clip = folder / "header.mp4"
    options = {"movflags": "empty_moov+default_base_moof+frag_keyframe"}
    with av.open(str(clip), "w", options=options) as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        container.start_encoding()
    with pytest.raises(VideoError, match=r"header\.mp4: "):
        index_video(str(clip))


def test_indexing_stops_at_its_time_limit(plain: Path) -> None:
    with pytest.raises(VideoTimeoutError, match=r"plain\.mp4: reading took longer than 1e-06 s"):
        index_video(str(plain), timeout_seconds=1e-6)
