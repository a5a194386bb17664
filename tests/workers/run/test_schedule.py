from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from tests.workers.run.fake_fleet import PRUNE, FakeFleet, Frames, make_segments
from workers.errors import VideoDecodeError, WorkerError
from workers.messages import Segment
from workers.run.fleet import CHUNKS_AHEAD
from workers.run.schedule import CHUNKS_PER_ENCODER, MAX_DEATHS, Schedule


class Outcome:
    """A whole run: the frames encoded, the warnings and the net counts of progress."""

    def __init__(self, fleet: FakeFleet, segments: Sequence[Segment]) -> None:
        schedule = Schedule(fleet, segments, PRUNE)
        progress = list(schedule.run())
        self.encoded = Counter(frame for frames in schedule.candidates for frame in frames)
        self.warnings = [warning for each in progress for warning in each.warnings]
        self.warned_frames = [each.frame_index for each in progress if each.warnings]
        self.num_decoded = sum(each.num_decoded for each in progress)
        self.num_encoded = sum(each.num_encoded for each in progress)


def once(*frames: int) -> Callable[[Frames], bool]:
    """Strike the first time that one of the frames is at hand."""
    left = [frames]

    def fault(at_hand: Frames) -> bool:
        struck = bool(left and set(left[0]) & set(at_hand))
        del left[: int(struck)]
        return struck

    return fault


def always(*frames: int) -> Callable[[Frames], bool]:
    return lambda at_hand: bool(set(frames) & set(at_hand))


def epitaph(frame: int, kind: str) -> str:
    return f"clip.mp4: the frame at {frame * 0.04:.3f} s killed its {kind} 3 times and is left out"


@pytest.mark.parametrize("num_decoders", [1, 2, 5])
@pytest.mark.parametrize("num_encoders", [1, 2, 3])
@pytest.mark.parametrize("num_frames", [1, 4, 5, 41])
def test_without_faults_every_frame_is_encoded_once(
    num_decoders: int, num_encoders: int, num_frames: int
) -> None:
    fleet = FakeFleet(num_decoders=num_decoders, num_encoders=num_encoders)
    outcome = Outcome(fleet, make_segments(num_frames, num_segments=num_decoders))
    assert outcome.encoded == fleet.decoded == Counter(range(num_frames))
    assert (outcome.num_decoded, outcome.num_encoded) == (num_frames, num_frames)
    assert outcome.warnings == []


def test_nothing_to_do_is_done_at_once() -> None:
    outcome = Outcome(FakeFleet(), [])
    assert outcome.encoded == Counter()


def test_one_worker_of_each_kind_goes_in_source_order() -> None:
    fleet = FakeFleet(num_decoders=1, num_encoders=1)
    Outcome(fleet, make_segments(30, num_segments=1))
    assert [chunk.handle[0] for chunk in fleet.submitted] == list(range(0, 30, 4))


@pytest.mark.parametrize("num_encoders", [1, 2, 3])
def test_the_frames_held_are_bounded_however_long_the_clip(num_encoders: int) -> None:
    most = set()
    for num_frames in (400, 1600):
        fleet = FakeFleet(num_decoders=4, num_encoders=num_encoders)
        Outcome(fleet, make_segments(num_frames, num_segments=4))
        most.add(fleet.most_held)
    assert most == {CHUNKS_PER_ENCODER * num_encoders * 4}


@pytest.mark.parametrize("frame", [0, 9, 19, 39])
def test_a_decoder_that_dies_mid_segment_goes_on_from_there(frame: int) -> None:
    fleet = FakeFleet(decoder_dies=once(frame))
    outcome = Outcome(fleet, make_segments(40))
    assert outcome.encoded == fleet.decoded == Counter(range(40))
    assert len(fleet.deaths) == 1
    assert (outcome.num_decoded, outcome.num_encoded, outcome.warnings) == (40, 40, [])


def test_a_decoder_that_dies_after_its_last_chunk_has_lost_nothing() -> None:
    fleet = FakeFleet(num_decoders=1, decoder_dies=lambda frames: not frames)
    outcome = Outcome(fleet, make_segments(10, num_segments=1))
    assert outcome.encoded == fleet.decoded == Counter(range(10))
    assert fleet.deaths == [("decoder", ())]
    assert (outcome.num_decoded, outcome.num_encoded, outcome.warnings) == (10, 10, [])


@pytest.mark.parametrize("seed", range(5))
def test_chunks_queued_on_an_encoder_that_dies_are_not_lost(seed: int) -> None:
    fleet = FakeFleet(num_encoders=1, seed=seed, encoder_dies=once(8))
    outcome = Outcome(fleet, make_segments(40))
    assert outcome.encoded == fleet.decoded == Counter(range(40))
    assert (outcome.num_encoded, outcome.warnings) == (40, [])
    assert [kind for kind, _ in fleet.deaths] == ["encoder"]
    assert max(chunk.deaths for chunk in fleet.submitted) == 1


@pytest.mark.parametrize("frame", [0, 6, 11, 39])
@pytest.mark.parametrize("frames_per_chunk", [1, 4, 64])
def test_a_frame_that_kills_encoders_is_named_and_the_others_encoded(
    frame: int, frames_per_chunk: int
) -> None:
    fleet = FakeFleet(encoder_dies=always(frame))
    outcome = Outcome(fleet, make_segments(40, frames_per_chunk=frames_per_chunk))
    assert outcome.encoded == Counter(set(range(40)) - {frame})
    assert outcome.warnings == [epitaph(frame, "encoder")]
    assert outcome.warned_frames == [frame]
    assert len(fleet.deaths) == MAX_DEATHS == 3
    assert (outcome.num_decoded, outcome.num_encoded) == (40, 39)


@pytest.mark.parametrize("frame", [0, 6, 11, 39])
@pytest.mark.parametrize("frames_per_chunk", [1, 4, 64])
@pytest.mark.parametrize("chunks_ahead", range(CHUNKS_AHEAD + 1))
def test_a_frame_that_kills_decoders_is_named_and_the_others_encoded(
    frame: int, frames_per_chunk: int, chunks_ahead: int
) -> None:
    fleet = FakeFleet(chunks_ahead=chunks_ahead, decoder_dies=always(frame))
    outcome = Outcome(fleet, make_segments(40, frames_per_chunk=frames_per_chunk))
    assert outcome.encoded == Counter(set(range(40)) - {frame})
    assert outcome.warnings == [epitaph(frame, "decoder")]
    assert outcome.warned_frames == [frame]
    assert len(fleet.deaths) == MAX_DEATHS
    assert (outcome.num_decoded, outcome.num_encoded) == (39, 39)


@pytest.mark.parametrize(("frame", "chunks_ahead"), [(2, 0), (6, 1), (10, 2)])
def test_every_chunk_that_a_dead_decoder_may_have_been_at_is_decoded_alone(
    frame: int, chunks_ahead: int
) -> None:
    fleet = FakeFleet(num_decoders=1, chunks_ahead=chunks_ahead, decoder_dies=always(frame))
    outcome = Outcome(fleet, make_segments(20, num_segments=1))
    chunks = [(0, 4), (4, 4), (8, 4)]
    guilty = chunks[chunks_ahead]
    frames = tuple(range(guilty[0], guilty[0] + 4))
    assert fleet.deaths == [("decoder", frames), ("decoder", frames), ("decoder", (frame,))]
    assert outcome.encoded == fleet.decoded == Counter(set(range(20)) - {frame})
    again = [*chunks, (12, 8)]
    again[chunks_ahead + 1 : chunks_ahead + 1] = [(each, 1) for each in frames]
    read = [(stream.segment.first_frame, len(stream.segment.pts)) for stream in fleet.streams]
    assert read == [(0, 20), *again]


def test_several_poisonous_frames_in_one_chunk() -> None:
    fleet = FakeFleet(encoder_dies=always(8, 10, 30), decoder_dies=always(9, 31))
    outcome = Outcome(fleet, make_segments(40))
    assert outcome.encoded == Counter(set(range(40)) - {8, 9, 10, 30, 31})
    named = [epitaph(frame, "encoder") for frame in (8, 10, 30)]
    named += [epitaph(frame, "decoder") for frame in (9, 31)]
    assert sorted(outcome.warnings) == sorted(named)


@pytest.mark.parametrize("frame", [0, 22, 39])
def test_a_lost_chunk_is_decoded_again(frame: int) -> None:
    fleet = FakeFleet(is_lost=once(frame))
    outcome = Outcome(fleet, make_segments(40))
    assert outcome.encoded == Counter(range(40))
    first = frame // 4 * 4
    assert {each for each, count in fleet.decoded.items() if count > 1} == set(
        range(first, first + 4)
    )
    assert (outcome.num_decoded, outcome.num_encoded, outcome.warnings) == (40, 40, [])


def test_a_lost_part_of_a_suspect_chunk_is_decoded_again_alone() -> None:
    lost = once(5)
    fleet = FakeFleet(
        encoder_dies=always(6), is_lost=lambda frames: len(frames) == 1 and lost(frames)
    )
    outcome = Outcome(fleet, make_segments(16))
    assert outcome.encoded == Counter(set(range(16)) - {6})
    assert outcome.warnings == [epitaph(6, "encoder")]
    assert (outcome.num_decoded, outcome.num_encoded) == (16, 15)


def test_frames_that_cannot_be_decoded_are_left_to_their_warning() -> None:
    fleet = FakeFleet(undecodable={3, 8, 9, 10, 11})
    outcome = Outcome(fleet, make_segments(20))
    assert outcome.encoded == Counter(set(range(20)) - {3, 8, 9, 10, 11})
    assert outcome.warnings == ["some frames are missing"] * 2
    assert sorted(outcome.warned_frames) == [0, 8]
    assert (outcome.num_decoded, outcome.num_encoded) == (15, 15)


@pytest.mark.parametrize("kind", ["decoder_dies", "encoder_dies"])
@pytest.mark.parametrize("frames_per_chunk", [1, 8])
def test_workers_that_only_die_end_the_run(kind: str, frames_per_chunk: int) -> None:
    fleet = FakeFleet(**{kind: lambda frames: True})
    segments = make_segments(2000, frames_per_chunk=frames_per_chunk)
    with pytest.raises(WorkerError, match=r"^31 \w+ died in a row without finishing"):
        Outcome(fleet, segments)
    assert len(fleet.deaths) < 50
    assert all(stream.cancelled for stream in fleet.busy.values())


def test_what_a_stage_raises_ends_the_run_and_stops_the_decoders() -> None:
    def fail(frames: Frames) -> bool:
        raise VideoDecodeError("clip.mp4: has changed")

    fleet = FakeFleet(num_decoders=4, encoder_dies=fail)
    with pytest.raises(VideoDecodeError, match="has changed"):
        Outcome(fleet, make_segments(400, num_segments=4))
    assert len(fleet.busy) == 4
    assert all(stream.cancelled for stream in fleet.busy.values())


def test_whoever_stops_listening_stops_the_decoders() -> None:
    fleet = FakeFleet()
    run = Schedule(fleet, make_segments(400), PRUNE).run()
    next(run)
    run.close()  # type: ignore[attr-defined]
    assert [stream.cancelled for stream in fleet.streams] == [True, True]


@pytest.mark.parametrize("seed", range(150))
def test_under_random_faults_every_frame_is_encoded_once_or_named(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rates = dict(
        zip(("decoder_dies", "encoder_dies", "is_lost"), rng.uniform(0, 0.3, 3), strict=True)
    )
    poison = {
        kind: set(rng.integers(0, 200, 2).tolist()) for kind in ("decoder_dies", "encoder_dies")
    }

    def fault(kind: str) -> Callable[[Frames], bool]:
        bad = poison.get(kind, set())
        return lambda frames: bool(bad & set(frames)) or rng.random() < rates[kind]

    num_frames, size = int(rng.integers(1, 120)), int(rng.integers(1, 10))
    fleet = FakeFleet(
        num_decoders=int(rng.integers(1, 4)),
        num_encoders=int(rng.integers(1, 4)),
        seed=seed,
        chunks_ahead=int(rng.integers(0, CHUNKS_AHEAD + 1)),
        **{kind: fault(kind) for kind in rates},
    )
    segments = make_segments(num_frames, frames_per_chunk=size, num_segments=fleet.num_decoders)
    outcome = Outcome(fleet, segments)
    named = [
        frame
        for frame in range(num_frames)
        if {epitaph(frame, "decoder"), epitaph(frame, "encoder")} & set(outcome.warnings)
    ]
    assert len(named) == len(outcome.warnings)
    assert outcome.encoded + Counter(named) == Counter(range(num_frames))
    assert outcome.num_encoded == num_frames - len(named)
    in_clip = (poison["decoder_dies"] | poison["encoder_dies"]) & set(range(num_frames))
    assert in_clip <= set(named)
    assert fleet.most_held <= CHUNKS_PER_ENCODER * fleet.num_encoders * size
