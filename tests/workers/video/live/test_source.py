import os
import socket
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import pytest

from tests.clips import draw_clip, read_frame_number
from tests.sources import Content, serve, serve_rtsp
from workers.errors import InputError
from workers.video.index import index_video
from workers.video.live.address import parse_address
from workers.video.live.events import Away, End, Event, Gap, LiveFrame
from workers.video.live.source import LiveSource, Patience
from workers.video.sampling import sample_frames

QUICK = Patience(silence=3.0, give_up=20.0, first_pause=0.1)
FPS = 12.5
"""Every second picture."""


def read(
    source: str, *, patience: Patience = QUICK, speed: float = 0.0, **settings: Any
) -> list[Event]:
    """Return all events of a source up to its end."""
    events: list[Event] = []
    address = parse_address(source)
    with LiveSource(address, fps=FPS, speed=speed, patience=patience, **settings) as live:
        deadline = time.monotonic() + 120
        while not (events and isinstance(events[-1], End)):
            assert time.monotonic() < deadline, events
            events += live.take(1.0)[0]
    return events


def frames_of(events: Sequence[Event]) -> list[LiveFrame]:
    return [event for event in events if isinstance(event, LiveFrame)]


def gaps_of(events: Sequence[Event]) -> list[Gap]:
    return [event for event in events if isinstance(event, Gap)]


def check_whole(events: Sequence[Event], path: Path) -> None:
    """Check that every sampled picture of a file came once, in order, with its own pixels."""
    index = index_video(str(path))
    positions = sample_frames(index, fps=FPS)
    frames = frames_of(events)
    assert [frame.pts_seconds for frame in frames] == index.pts_seconds(positions).tolist()
    assert [read_frame_number(frame.picture) for frame in frames] == positions.tolist()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight seconds of numbered pictures, some 70 kB."""
    return draw_clip(tmp_path_factory.mktemp("clip") / "numbers.mkv", num_frames=200)


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve seconds of a transport stream."""
    return draw_clip(tmp_path_factory.mktemp("clip") / "numbers.ts", num_frames=300)


def test_a_file_comes_whole(clip: Path) -> None:
    events = read(str(clip))
    check_whole(events, clip)
    assert events[-1] == End()


@pytest.mark.parametrize(
    ("stalls", "gop"), [(True, 12), (False, 12), (False, 1000)], ids=["stalls", "dies", "one group"]
)
def test_a_server_that_fails_is_asked_again_and_nothing_is_lost(
    tmp_path: Path, stalls: bool, gop: int
) -> None:
    clip = draw_clip(tmp_path / "numbers.mkv", num_frames=200, gop=gop)
    data = clip.read_bytes()
    content = Content(data, fault_at=len(data) // 2, stalls=stalls)
    with serve({"clip.mkv": content}) as address:
        events = read(f"{address}/clip.mkv")
    check_whole(events, clip)
    (away,) = [event for event in events if isinstance(event, Away)]
    assert away.reason == ("no picture for 3 s" if stalls else "the connection ended")
    (gap,) = gaps_of(events)
    assert gap.start_seconds == gap.end_seconds > 1
    assert gap.wall_seconds > (3 if stalls else 0)
    assert events[-1] == End()


def test_a_file_that_is_shorter_than_it_tells_ends_all_the_same(clip: Path) -> None:
    data = clip.read_bytes()
    with serve({"clip.mkv": Content(data[: len(data) // 2])}) as address:
        events = read(f"{address}/clip.mkv")
    assert events[-1] == End()
    numbers = [read_frame_number(frame.picture) for frame in frames_of(events)]
    assert numbers == list(range(0, 2 * len(numbers), 2))
    assert 40 < len(numbers) < 60
    assert [gap.reason for gap in gaps_of(events)] == ["the connection ended"]


def test_a_clock_that_begins_anew_goes_on_with_the_time_that_passed(stream: Path) -> None:
    content = Content(stream.read_bytes(), has_length=False)
    patience = Patience(silence=3.0, give_up=20.0, first_pause=0.5)
    events: list[Event] = []
    with serve({"live": content}) as address:
        source = LiveSource(parse_address(f"{address}/live"), fps=FPS, patience=patience)
        with source:
            while len(gaps_of(events)) < 2 or not isinstance(events[-1], LiveFrame):
                events += source.take(1.0)[0]
    times = [frame.pts_seconds for frame in frames_of(events)]
    assert times == sorted(times)
    numbers = [read_frame_number(frame.picture) for frame in frames_of(events)]
    second = next(i for i, (a, b) in enumerate(pairwise(numbers), 1) if b < a)
    first = numbers[second]  # 0 or 1: ticks go on
    assert numbers[second:][:50] == list(range(first, first + 100, 2))
    gap = gaps_of(events)[0]
    assert gap.start_seconds == pytest.approx(times[0] + 299 / 25)
    assert gap.end_seconds == pytest.approx(times[second] - first / 25)
    assert gap.end_seconds - gap.start_seconds == pytest.approx(gap.wall_seconds, abs=0.3)
    assert gap.reason == "the connection ended"


def test_a_camera_that_falls_silent_is_opened_again(stream: Path) -> None:
    events: list[Event] = []
    with serve_rtsp(stream, stall_after=160) as address:
        source = LiveSource(parse_address(address), fps=FPS, patience=QUICK)
        with source:
            while len(gaps_of(events)) < 2:
                events += source.take(1.0)[0]
    aways = [event.reason for event in events if isinstance(event, Away)]
    assert aways[:2] == ["no picture for 3 s", "the connection ended"]
    times = [frame.pts_seconds for frame in frames_of(events)]
    numbers = [read_frame_number(frame.picture) for frame in frames_of(events)]
    assert times == sorted(times)
    second = next(i for i, (a, b) in enumerate(pairwise(numbers), 1) if b < a)
    assert second > 60
    for part, connection in ((numbers[:second], times), (numbers[second:][:100], times[second:])):
        since_first = [number - part[0] for number in part]
        assert since_first == list(range(0, 2 * len(part), 2))
        expected = [connection[0] + number / 25 for number in since_first]
        assert connection[: len(part)] == pytest.approx(expected, abs=1e-3)
    gap = gaps_of(events)[0]
    assert gap.end_seconds - gap.start_seconds == pytest.approx(gap.wall_seconds, abs=0.3)
    assert gap.wall_seconds > 3


def write_playlist(folder: Path, *, num_frames: int) -> Path:
    """Write numbered pictures as a playlist of segments of half a second."""
    whole = draw_clip(folder / "whole.ts", num_frames=num_frames)
    options = {"hls_time": "0.5", "hls_list_size": "0", "hls_playlist_type": "vod"}
    playlist = folder / "live.m3u8"
    with (
        av.open(str(whole)) as reader,
        av.open(str(playlist), "w", format="hls", options=options) as writer,
    ):
        copy = writer.add_stream_from_template(reader.streams.video[0])
        for packet in reader.demux(video=0):
            if packet.size:
                packet.stream = copy
                writer.mux(packet)
    return playlist


def test_a_playlist_comes_whole(tmp_path: Path) -> None:
    write_playlist(tmp_path, num_frames=60)
    contents = {path.name: Content(path.read_bytes()) for path in tmp_path.iterdir()}
    assert len(contents) > 5
    with serve(contents) as address:
        events = read(f"{address}/live.m3u8")
    numbers = [read_frame_number(frame.picture) for frame in frames_of(events)]
    assert numbers == list(range(0, 60, 2))
    assert events[-1] == End()


def first_segments(playlist: str, number: int) -> bytes:
    """Return a playlist that is still being written."""
    lines = playlist.splitlines()
    ends = [i for i, line in enumerate(lines) if line.endswith(".ts")]
    kept = [line for line in lines[: ends[number - 1] + 1] if "PLAYLIST-TYPE" not in line]
    return "\n".join([*kept, ""]).encode()


def test_a_playlist_that_is_not_written_on_is_opened_again_and_joined(tmp_path: Path) -> None:
    playlist = write_playlist(tmp_path, num_frames=120).read_text()
    contents = {path.name: Content(path.read_bytes()) for path in tmp_path.iterdir()}
    contents["live.m3u8"] = Content(first_segments(playlist, 6))
    events: list[Event] = []
    with serve(contents) as address:
        source = LiveSource(parse_address(f"{address}/live.m3u8"), fps=FPS, patience=QUICK)
        with source:
            while not any(isinstance(event, Away) for event in events):
                events += source.take(1.0)[0]
            contents["live.m3u8"] = Content(first_segments(playlist, 8))
            while len([event for event in events if isinstance(event, Away)]) < 2:
                events += source.take(1.0)[0]
    numbers = [read_frame_number(frame.picture) for frame in frames_of(events)]
    assert numbers == list(range(numbers[0], numbers[-1] + 1, 2))
    assert len(numbers) > 20
    (gap,) = gaps_of(events)
    assert gap.start_seconds == gap.end_seconds


def test_a_playlist_from_elsewhere_names_no_file_of_this_machine(tmp_path: Path) -> None:
    playlist = write_playlist(tmp_path, num_frames=30).read_text()
    secret = playlist.replace("live", f"file://{tmp_path}/live")
    assert "file:///" in secret
    with serve({"live.m3u8": Content(secret.encode())}) as address:
        events = read(f"{address}/live.m3u8", patience=Patience(give_up=3.0, first_pause=0.1))
    assert frames_of(events) == []
    (end,) = [event for event in events if isinstance(event, End)]
    assert end.error is not None
    assert end.error.startswith(f"{address}/live.m3u8: no picture for 3 s (")


def test_who_never_answers_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/x"
        events = read(address, patience=Patience(silence=1.0, give_up=4.0, first_pause=0.1))
    assert len([event for event in events if isinstance(event, Away)]) >= 2
    assert events[-1] == End(error=f"{address}: no picture for 4 s (no picture for 1 s)")


def test_what_is_not_there_is_one_line(tmp_path: Path) -> None:
    events = read(f"{tmp_path}/none.mp4")
    assert events == [
        End(
            error=f"{tmp_path}/none.mp4: No such file or directory; give the path of a local "
            "video file"
        )
    ]
    with serve({}) as address:
        events = read(f"{address}/x", patience=Patience(give_up=2.0, first_pause=0.1))
    assert events[-1] == End(
        error=f"{address}/x: no picture for 2 s (cannot be opened: Server returned 404 Not Found)"
    )


def test_groups_of_pictures_that_are_late_are_left_out_whole(clip: Path) -> None:
    events = read(str(clip), speed=20_000.0, max_lag_seconds=0.001)
    numbers = [read_frame_number(frame.picture) for frame in frames_of(events)]
    assert [round(frame.pts_seconds * 25) for frame in frames_of(events)] == numbers
    assert numbers == sorted(set(numbers))
    assert len(numbers) < 100
    gaps = [gap for gap in gaps_of(events) if gap.reason.endswith("to catch up")]
    assert gaps
    for gap in gaps[:-1]:  # from the last picture to a keyframe
        assert round(gap.end_seconds * 25) % 12 == 0
        assert gap.wall_seconds < 10


def test_leaving_ends_the_process_that_reads(clip: Path) -> None:
    with LiveSource(parse_address(str(clip)), fps=FPS, speed=0.01) as live:
        while not live.take(1.0)[1]:
            pass
        assert live._process is not None
        pid = live._process.pid
        os.kill(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_reader_that_talks_nonsense_is_the_end(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = tmp_path / "reader"
    reader.write_text("#!/bin/sh\nprintf '\\377\\377\\377\\377\\377\\377\\377\\377'\n")
    reader.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(reader))
    number = 2**32 - 1
    text = f"reading failed: ValueError: a message of {number} and {number} bytes"
    assert read(str(clip)) == [End(error=f"{clip}: {text}")]


def test_other_addresses_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"^ftp://\.\.\.@host/x: is an address that is not watched"
    ):
        parse_address("ftp://user:secret@host/x")


def test_a_source_that_takes_more_memory_than_it_may_is_the_end(tmp_path: Path) -> None:
    clip = draw_clip(tmp_path / "large.mkv", num_frames=3, width=2560, height=1440)
    events = read(str(clip), patience=Patience(), max_bytes=32 * 2**20)
    assert events == [End(error=f"{clip}: reading it takes more memory than it may")]
