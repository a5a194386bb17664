import io
import os
import socket
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from tests.clips import (
    X264_B_FRAMES,
    copy_trimmed,
    cut_file,
    decode_sequentially,
    destroy_bytes,
    draw_clip,
    draw_raw,
    draw_sound,
    hide_vp8_picture,
    join_files,
    paint_frame,
    read_frame_number,
)
from workers.errors import (
    NoVideoStreamError,
    VideoDecodeError,
    VideoError,
    VideoLimitError,
    VideoOpenError,
    VideoTimeoutError,
    display_name,
)
from workers.video import container, limits, packets
from workers.video.decode import read_pictures
from workers.video.index import index_video
from workers.video.sampling import sample_frames
from workers.video.segments import cut_segments


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clips")


@pytest.fixture(scope="module")
def plain(folder: Path) -> Path:
    return draw_clip(folder / "plain.mp4")


@pytest.fixture(scope="module")
def stream(folder: Path) -> Path:
    return draw_clip(folder / "stream.ts", num_frames=40)


def read_numbers(path: Path, num_frames: int) -> tuple[list[int], list[int]]:
    index = index_video(str(path))
    wanted = sample_frames(index, num_frames=num_frames)
    segments = cut_segments("clip", index, wanted, decoder="pyav", frames_per_chunk=4, max_chunks=2)
    chunks = [chunk for segment in segments for chunk in read_pictures(segment)]
    numbers = [read_frame_number(picture) for chunk in chunks for picture in chunk.pictures]
    return wanted.tolist(), numbers


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
    assert (index.name, index.num_frames, index.size_of(7)) == (str(plain), 60, (96, 160))
    np.testing.assert_allclose(index.pts_seconds(np.array([0, 3, 59])), [0, 0.12, 2.36])
    status = plain.stat()
    assert (index.size_bytes, index.mtime_ns) == (status.st_size, status.st_mtime_ns)


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
    assert "time jumps from 1.640 s to 50000.000 s; read" in index.warnings[0]
    assert sample_frames(index, num_frames=8).tolist() == [5, 15, 25, 35, 45, 55, 65, 75]
    wanted, numbers = read_numbers(clip, 16)
    assert numbers == wanted


def test_time_that_goes_back_is_continued(folder: Path, stream: Path) -> None:
    clip = join_files([stream, stream], folder / "back.ts")
    index = index_video(str(clip))
    assert index.numbered
    assert index.num_frames == 80
    np.testing.assert_allclose(np.diff(index.pts) * index.time_base_seconds, 0.04)
    (warning,) = index.warnings
    assert "the clock of its pictures steps back 1 times: they are counted" in warning
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
    assert display_name(str(path)) in str(caught.value)


@pytest.mark.parametrize("path", ["pipe:0", "concat:a.mp4|b.mp4", "-"])
def test_what_stands_for_streams_elsewhere_is_a_file_name(path: str) -> None:
    with pytest.raises(VideoOpenError, match="No such file"):
        index_video(path)


@pytest.mark.parametrize(
    "path",
    [
        "http://127.0.0.1/a.mp4",
        "HTTPS://example.com/watch?v=1",
        "s3://bucket/a.mp4",
        "rtsp://127.0.0.1:554/live",
        "file:///a.mp4",
        "data:video/mp4;base64," + "A" * 10_000,
    ],
)
def test_addresses_are_refused_as_such(path: str) -> None:
    with pytest.raises(VideoOpenError, match="is an address, and only paths of local") as caught:
        index_video(path)
    assert str(caught.value).startswith(path[:20])
    assert len(str(caught.value)) < 200


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
    monkeypatch.setattr(limits, "MAX_PIXELS", 160 * 96 - 1)
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


def test_indexing_stops_when_nothing_comes(plain: Path) -> None:
    with pytest.raises(VideoTimeoutError, match=r"plain\.mp4: nothing came of reading for 1e-06 s"):
        index_video(str(plain), timeout_seconds=1e-6)


def slow_down(monkeypatch: pytest.MonkeyPatch, *, seconds: float, at_packets: range) -> None:
    """Let the demuxer take its time before some packets."""
    read_packets = container.read_packets

    class SlowContainer:
        def __init__(self, container: Any) -> None:
            self._container = container

        def demux(self, stream: Any) -> Iterator[Any]:
            for number, packet in enumerate(self._container.demux(stream)):
                time.sleep(seconds * (number in at_packets))
                yield packet

    monkeypatch.setattr(
        packets,
        "read_packets",
        lambda container, *others: read_packets(SlowContainer(container), *others),
    )


def test_a_slow_disk_may_take_longer_than_the_limit_in_all(
    plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_down(monkeypatch, seconds=0.05, at_packets=range(60))
    assert index_video(str(plain), timeout_seconds=1.5).num_frames == 60


def test_a_disk_that_hangs_may_not(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow_down(monkeypatch, seconds=1, at_packets=range(30, 31))
    with pytest.raises(VideoTimeoutError, match=r"nothing came of reading for 0\.5 s"):
        index_video(str(plain), timeout_seconds=0.5)


def repeat_clip(source: Path, target: Path, *, times: int) -> Path:
    """Copy the packets of a clip one time after another, with a clock that goes on."""
    with av.open(str(source)) as reader, av.open(str(target), "w") as writer:
        stream = reader.streams.video[0]
        copy = writer.add_stream_from_template(stream)
        length = stream.duration
        content = [
            (bytes(packet), packet.pts, packet.dts, packet.is_keyframe)
            for packet in reader.demux(stream)
            if packet.size
        ]
        for repetition in range(times):
            for data, pts, dts, is_keyframe in content:
                packet = av.Packet(data)
                packet.pts, packet.dts = pts + repetition * length, dts + repetition * length
                packet.is_keyframe, packet.stream = is_keyframe, copy
                packet.time_base = stream.time_base
                writer.mux(packet)
    return target


def test_a_long_clip_tells_its_progress_and_is_scanned_in_compact_arrays(
    folder: Path, plain: Path
) -> None:
    clip = repeat_clip(plain, folder / "long.mp4", times=300)
    shares: list[float] = []
    index = index_video(str(clip), progress=shares.append)
    assert index.num_frames == 18_000
    assert index.warnings == ()
    assert shares[-1] == 1.0
    assert shares == sorted(shares)
    assert len(shares) == 18 + 1
    assert np.max(np.diff(shares[:-1])) < 0.1
    deadline = limits.Deadline(str(clip), 20)
    with container.open_video(str(clip), deadline) as opened:
        scan = packets.scan_packets(*opened, deadline)
    assert {scan.clock.itemsize, scan.pts.itemsize, scan.keyframe_pts.itemsize} == {8}
    assert len(scan.pts) == 18_000
    assert read_numbers(clip, 7)[1] == [number % 60 for number in read_numbers(clip, 7)[0]]


@pytest.mark.parametrize(("back_ms", "step_ms"), [(550, 40), (40, 40), (1200, 40), (900, 100)])
def test_recordings_joined_with_a_clock_that_steps_back_keep_every_picture(
    folder: Path, back_ms: int, step_ms: int
) -> None:
    times_ms = list(range(0, 30 * step_ms, step_ms))
    start_ms = 30 * step_ms - back_ms
    first = draw_clip(folder / f"first_{back_ms}.ts", times_ms=times_ms)
    second = draw_clip(
        folder / f"second_{back_ms}.ts",
        times_ms=[start_ms + time_ms for time_ms in times_ms],
        first_number=30,
    )
    clip = join_files([first, second], folder / f"joined_{back_ms}.ts")
    index = index_video(str(clip))
    assert read_numbers(clip, 60)[1] == list(range(60))
    (warning,) = index.warnings
    assert "steps back 1 times" in warning
    np.testing.assert_allclose(np.diff(index.pts_seconds(np.arange(60))), step_ms / 1000)


def test_recordings_joined_with_the_same_times_keep_every_picture(folder: Path) -> None:
    times_ms = list(range(0, 900, 100))
    parts = [
        draw_clip(folder / f"{number}.ts", times_ms=times_ms, first_number=number)
        for number in (0, 9)
    ]
    clip = join_files(parts, folder / "same.ts")
    assert read_numbers(clip, 100)[1] == list(range(18))
    assert len(index_video(str(clip)).warnings) == 1


def test_pictures_as_seldom_as_slides_are_no_jumps(folder: Path) -> None:
    clip = draw_clip(folder / "slides.ts", times_ms=list(range(0, 600_000, 15_000)))
    index = index_video(str(clip))
    assert (index.num_frames, index.seekable, index.warnings) == (40, True, ())
    assert read_numbers(clip, 40)[1] == list(range(40))


def test_several_jumps_are_one_warning(folder: Path, stream: Path) -> None:
    parts = [stream]
    for number in (1, 2):
        times_ms = list(range(number * 50_000, number * 50_000 + 1600, 40))
        parts.append(draw_clip(folder / f"part_{number}.ts", times_ms=times_ms))
    (warning,) = index_video(str(join_files(parts, folder / "jumps.ts"))).warnings
    assert "time jumps from 1.640 s to 50.000 s and 1 times more; read" in warning


@pytest.mark.parametrize("ending", ["mkv", "mp4", "ts"])
def test_a_clip_that_begins_hours_late_is_not_cut_off(folder: Path, ending: str) -> None:
    times_ms = list(range(20_000_000, 20_003_000, 40))
    clip = draw_clip(folder / f"hours_late.{ending}", times_ms=times_ms)
    index = index_video(str(clip))
    assert index.warnings == ()
    np.testing.assert_allclose(index.pts_seconds(np.array([0, 74])), [20_000, 20_002.96], atol=0.1)
    assert read_numbers(clip, 75)[1] == list(range(75))


def test_a_clip_that_begins_late_and_is_cut_off_says_so(folder: Path) -> None:
    times_ms = list(range(20_000_000, 20_010_000, 40))
    whole = draw_clip(folder / "late_whole.mkv", times_ms=times_ms)
    index = index_video(str(cut_file(whole, folder / "late_half.mkv", keep_share=0.5)))
    assert "of the 10.0 s promised" in index.warnings[0]


def test_pictures_that_share_their_time_are_named(folder: Path) -> None:
    clip = draw_clip(folder / "fast.mkv", times_ms=list(range(60)), unit=Fraction(1, 2000))
    index = index_video(str(clip))
    (warning,) = index.warnings
    assert index.num_frames == 31
    assert "29 pictures share their time with another and are left out" in warning
    wanted, numbers = read_numbers(clip, 31)
    sequential = dict(reversed([(t, read_frame_number(p)) for t, p in decode_sequentially(clip)]))
    assert numbers == [sequential[pts] for pts in index.pts[wanted].tolist()]


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("big.mkv", "ffv1", "yuv420p"),
        ("big.avi", "mjpeg", "yuvj420p"),
        ("big.mov", "png", "rgb24"),
        ("big.gif", "gif", "rgb8"),
    ],
)
def test_pictures_above_the_limit_are_refused_by_their_size(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, codec: str, pix_fmt: str
) -> None:
    clip = draw_clip(folder / name, codec=codec, pix_fmt=pix_fmt, options={}, num_frames=2)
    assert index_video(str(clip)).num_frames == 2
    # FFmpeg's decoders refuse it as well, and then hide what the header says.
    monkeypatch.setattr(limits, "MAX_PIXELS", 160 * 96 - 1)
    with pytest.raises(VideoLimitError, match=rf"{name}: pictures of 160x96 exceed the limit"):
        index_video(str(clip))


def test_what_an_edit_list_cuts_away_is_no_loss(folder: Path, plain: Path) -> None:
    clip = copy_trimmed(plain, folder / "trimmed.mp4", start=Fraction(3, 4))
    index = index_video(str(clip))
    assert (index.num_frames, index.trimmed, index.warnings) == (41, True, ())
    assert read_numbers(clip, 41)[1] == list(range(19, 60))


def test_animated_png_and_gif_are_clips(folder: Path) -> None:
    png = draw_clip(folder / "moving.apng", codec="apng", options={}, pix_fmt="rgb24")
    gif = draw_clip(folder / "moving.gif", codec="gif", options={}, pix_fmt="rgb8")
    assert read_numbers(png, 60)[1] == list(range(60))
    assert read_numbers(gif, 60)[1] == list(range(60))


def test_an_uncompressed_clip(folder: Path) -> None:
    assert read_numbers(draw_raw(folder / "raw.y4m", num_frames=20), 20)[1] == list(range(20))


def test_a_picture_with_exif_is_no_trouble(folder: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 1
    content = io.BytesIO()
    Image.fromarray(paint_frame(77)).save(content, "JPEG", exif=exif)
    clip = folder / "camera.avi"
    with av.open(str(clip), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuvj420p"
        container.start_encoding()
        packet = av.Packet(content.getvalue())
        packet.pts = packet.dts = 0
        packet.time_base, packet.stream, packet.is_keyframe = Fraction(1, 25), stream, True
        container.mux(packet)
    assert read_numbers(clip, 1)[1] == [77]
