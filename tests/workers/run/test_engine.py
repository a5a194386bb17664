"""Who does what next, and what becomes of the work of a worker that dies."""

import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from tests.workers.run.fake_workers import (
    ALLOCATION,
    Book,
    FakeDecoder,
    FakeEncoder,
    FakeModel,
    Fault,
    Frames,
    make_clip,
    never,
)
from workers.errors import ModelError, VideoDecodeError, WorkerError
from workers.llm.answer import GeneratedAnswer, SamplingOptions
from workers.messages import Clip
from workers.run.clip_job import Progress
from workers.run.clips import EncodedClip, Visual
from workers.run.engine import Engine
from workers.run.job import MAX_DEATHS
from workers.run.meter import COUNTERS, GAUGES, Meter
from workers.run.schedule import CHUNKS_PER_ENCODER
from workers.run.worker import (
    CHUNKS_AHEAD,
    InputLostError,
    WorkerDiedError,
    WorkerHungError,
    WorkerMemoryError,
)

GREEDY = SamplingOptions()


def once(*frames: int) -> Fault:
    """Strike the first time that one of the frames is at hand."""
    left = [frames]

    def fault(at_hand: Frames) -> bool:
        struck = bool(left and set(left[0]) & set(at_hand))
        del left[: int(struck)]
        return struck

    return fault


def always(*frames: int) -> Fault:
    return lambda at_hand: bool(set(frames) & set(at_hand))


def given_up(frame: int, kind: str, reason: str = "death") -> str:
    what = f"the frame at {frame * 0.04:.3f} s killed its {kind} 4 times ({reason})"
    return f"clip.mp4: {what} and is left out"


@contextmanager
def running(
    book: Book,
    *,
    num_decoders: int = 2,
    num_encoders: int = 2,
    num_llms: int = 1,
    decoder_dies: Fault = never,
    encoder_dies: Fault = never,
    encoder_dies_after: Fault = never,
    is_lost: Fault = never,
    llm_dies: Callable[[str, int], bool] = lambda text, place: False,
    llm_slots: int = 1,
    llm_seconds: float = 0.0,
    seed: int = 0,
    meter: Meter | None = None,
    **decoding: Any,
) -> Iterator[tuple[Engine, list[FakeModel]]]:
    """An engine of fake workers."""
    models = [
        FakeModel(f"llm-{i}", book, dies=llm_dies, slots=llm_slots, seconds=llm_seconds)
        for i in range(num_llms)
    ]
    engine = Engine(
        {
            "decoder": [
                FakeDecoder(f"decoder-{i}", book, dies=decoder_dies, **decoding)
                for i in range(num_decoders)
            ],
            "encoder": [
                FakeEncoder(
                    f"encoder-{i}",
                    book,
                    dies=encoder_dies,
                    dies_after=encoder_dies_after,
                    is_lost=is_lost,
                    seed=seed + i,
                )
                for i in range(num_encoders)
            ],
            "llm": models,
        },
        meter=meter,
    )
    num_threads = threading.active_count()
    engine.start()
    try:
        yield engine, models
    finally:
        engine.close()
        assert threading.active_count() <= num_threads


class Outcome:
    """One clip, whole: the frames encoded, the warnings and the net counts of progress."""

    def __init__(self, clip: Clip, **workers: Any) -> None:
        self.book = Book()
        progress: list[Progress] = []
        with running(self.book, **workers) as (engine, _):
            self.clip = engine.encode(clip, progress.append)
        self.encoded = Counter(frame for frames in self.clip.bank for frame in frames)
        self.warnings = self.clip.warnings
        self.num_read = sum(each.num_read for each in progress)
        self.num_encoded = sum(each.num_encoded for each in progress)


@pytest.mark.parametrize("num_decoders", [1, 2, 5])
@pytest.mark.parametrize("num_encoders", [1, 2, 3])
@pytest.mark.parametrize("num_frames", [1, 4, 5, 41])
def test_without_faults_every_frame_is_encoded_once(
    num_decoders: int, num_encoders: int, num_frames: int
) -> None:
    clip = make_clip(num_frames, num_segments=num_decoders)
    outcome = Outcome(clip, num_decoders=num_decoders, num_encoders=num_encoders)
    assert outcome.encoded == outcome.book.decoded == Counter(range(num_frames))
    assert (outcome.num_read, outcome.num_encoded) == (num_frames, num_frames)
    assert outcome.warnings == ()
    assert list(outcome.clip.pts_seconds) == list(range(num_frames))
    assert list(outcome.clip.bank) == sorted(outcome.clip.bank)


def test_a_clip_without_frames_is_done_at_once() -> None:
    assert Outcome(make_clip(0)).encoded == Counter()


@pytest.mark.parametrize("num_encoders", [1, 2, 3])
def test_the_frames_held_are_bounded_however_long_the_clip(num_encoders: int) -> None:
    for num_frames in (400, 1600):
        clip = make_clip(num_frames, num_segments=40)
        outcome = Outcome(clip, num_decoders=4, num_encoders=num_encoders)
        assert outcome.book.most_held <= (CHUNKS_PER_ENCODER * num_encoders + 4) * 4


@pytest.mark.parametrize("frame", [0, 9, 19, 39])
def test_a_decoder_that_dies_mid_segment_goes_on_from_there(frame: int) -> None:
    outcome = Outcome(make_clip(40), decoder_dies=once(frame))
    assert outcome.encoded == outcome.book.decoded == Counter(range(40))
    assert len(outcome.book.deaths) == 1
    assert (outcome.num_read, outcome.num_encoded, outcome.warnings) == (40, 40, ())


def test_a_decoder_that_dies_after_its_last_chunk_has_lost_nothing() -> None:
    died: list[Frames] = []

    def dies(frames: Frames) -> bool:
        if not frames and not died:
            died.append(frames)
            return True
        return False

    outcome = Outcome(make_clip(10, num_segments=1), num_decoders=1, decoder_dies=dies)
    assert outcome.encoded == outcome.book.decoded == Counter(range(10))


@pytest.mark.parametrize("seed", range(5))
def test_chunks_that_wait_at_an_encoder_that_dies_are_not_lost(seed: int) -> None:
    outcome = Outcome(make_clip(40), num_encoders=1, seed=seed, encoder_dies=once(8))
    assert outcome.encoded == outcome.book.decoded == Counter(range(40))
    assert (outcome.num_encoded, outcome.warnings) == (40, ())
    assert [kind for kind, _ in outcome.book.deaths] == ["encoder"]


@pytest.mark.parametrize("frame", [0, 8, 20])
def test_an_encoder_that_dies_after_its_result_has_lost_nothing_of_it(frame: int) -> None:
    outcome = Outcome(make_clip(40), encoder_dies_after=once(frame))
    assert outcome.encoded == outcome.book.decoded == Counter(range(40))
    assert (outcome.num_encoded, outcome.warnings) == (40, ())
    assert [kind for kind, _ in outcome.book.deaths] == ["encoder"]


def test_workers_that_die_after_an_allocation_or_an_answer_have_lost_nothing() -> None:
    died = []

    def dies(frames: Frames) -> bool:
        died.append(frames)
        return not frames and died.count(()) == 1

    with running(Book(), encoder_dies_after=dies, llm_dies=lambda text, place: place == -1) as (
        engine,
        _,
    ):
        encoded = engine.encode(make_clip(8))
        assert answer_of(ask(engine, encoded, "one two")).startswith("one two of ")
        assert answer_of(ask(engine, encoded, "one two")).startswith("one two of ")
    assert died.count(()) == 2


@pytest.mark.parametrize("frame", [0, 6, 11, 39])
@pytest.mark.parametrize("frames_per_chunk", [1, 4, 64])
def test_a_frame_that_kills_encoders_is_named_and_the_others_encoded(
    frame: int, frames_per_chunk: int
) -> None:
    clip = make_clip(40, frames_per_chunk=frames_per_chunk)
    outcome = Outcome(clip, encoder_dies=always(frame))
    assert outcome.encoded == Counter(set(range(40)) - {frame})
    assert outcome.warnings == (given_up(frame, "encoder"),)
    assert len(outcome.book.deaths) == MAX_DEATHS == 4
    assert (outcome.num_read, outcome.num_encoded) == (40, 39)
    assert frame not in outcome.clip.pts_seconds


@pytest.mark.parametrize("frame", [0, 6, 11, 39])
@pytest.mark.parametrize("frames_per_chunk", [1, 4, 64])
@pytest.mark.parametrize("chunks_ahead", range(CHUNKS_AHEAD + 1))
def test_a_frame_that_kills_decoders_is_named_and_the_others_encoded(
    frame: int, frames_per_chunk: int, chunks_ahead: int
) -> None:
    clip = make_clip(40, frames_per_chunk=frames_per_chunk)
    outcome = Outcome(clip, chunks_ahead=chunks_ahead, decoder_dies=always(frame))
    assert outcome.encoded == Counter(set(range(40)) - {frame})
    assert outcome.warnings == (given_up(frame, "decoder"),)
    assert len(outcome.book.deaths) == MAX_DEATHS
    assert (outcome.num_read, outcome.num_encoded) == (39, 39)


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
@pytest.mark.parametrize("frames_per_chunk", [1, 4, 16])
@pytest.mark.parametrize("num_workers", [1, 2])
def test_an_anchor_that_kills_does_not_take_its_group_along(
    kind: str, frames_per_chunk: int, num_workers: int
) -> None:
    clip = make_clip(40, frames_per_chunk=frames_per_chunk, gated=True)
    workers = {"num_decoders": num_workers, "num_encoders": num_workers}
    outcome = Outcome(clip, **workers, **{f"{kind}_dies": always(16)})
    assert outcome.warnings == (given_up(16, kind),)
    assert set(outcome.clip.pts_seconds) == set(range(40)) - {16}


@pytest.mark.parametrize(
    ("death", "reason"),
    [
        (WorkerDiedError, "death"),
        (WorkerHungError, "deadline"),
        (WorkerMemoryError, "memory limit"),
    ],
)
def test_the_warning_says_what_a_decoder_died_of(death: type[WorkerDiedError], reason: str) -> None:
    outcome = Outcome(make_clip(40), decoder_dies=always(9), death=death)
    assert outcome.warnings == (given_up(9, "decoder", reason),)


@pytest.mark.parametrize(("frame", "chunks_ahead"), [(2, 0), (6, 1), (10, 2)])
def test_every_chunk_that_a_dead_decoder_may_have_been_at_is_read_alone(
    frame: int, chunks_ahead: int
) -> None:
    outcome = Outcome(
        make_clip(20, num_segments=1),
        num_decoders=1,
        chunks_ahead=chunks_ahead,
        decoder_dies=always(frame),
    )
    chunks = [(0, 4), (4, 4), (8, 4)]
    guilty = chunks[chunks_ahead]
    frames = tuple(range(guilty[0], guilty[0] + 4))
    alone = ("decoder", (frame,))
    assert outcome.book.deaths == [("decoder", frames), ("decoder", frames), alone, alone]
    assert outcome.encoded == outcome.book.decoded == Counter(set(range(20)) - {frame})
    again = [*chunks, (12, 8)]
    singly = [(each, 1) for each in frames]
    singly.insert(singly.index((frame, 1)), (frame, 1))  # tried once more
    again[chunks_ahead + 1 : chunks_ahead + 1] = singly
    assert outcome.book.read == [(0, 20), *again]


def test_several_poisonous_frames_in_one_chunk() -> None:
    outcome = Outcome(make_clip(40), encoder_dies=always(8, 10, 30), decoder_dies=always(9, 31))
    assert outcome.encoded == Counter(set(range(40)) - {8, 9, 10, 30, 31})
    named = [given_up(frame, "encoder") for frame in (8, 10, 30)]
    named += [given_up(frame, "decoder") for frame in (9, 31)]
    assert sorted(outcome.warnings) == sorted(named)


@pytest.mark.parametrize("frame", [0, 22, 39])
def test_a_lost_chunk_is_read_again(frame: int) -> None:
    outcome = Outcome(make_clip(40), is_lost=once(frame))
    assert outcome.encoded == Counter(range(40))
    first = frame // 4 * 4
    twice = {each for each, count in outcome.book.decoded.items() if count > 1}
    assert twice == set(range(first, first + 4))
    assert (outcome.num_read, outcome.num_encoded, outcome.warnings) == (40, 40, ())


def test_a_lost_part_of_a_suspect_chunk_is_read_again_alone() -> None:
    lost = once(5)
    outcome = Outcome(
        make_clip(16),
        encoder_dies=always(6),
        is_lost=lambda frames: len(frames) == 1 and lost(frames),
    )
    assert outcome.encoded == Counter(set(range(16)) - {6})
    assert outcome.warnings == (given_up(6, "encoder"),)
    assert (outcome.num_read, outcome.num_encoded) == (16, 15)


def test_frames_that_cannot_be_decoded_are_left_to_their_warning() -> None:
    outcome = Outcome(make_clip(20), undecodable={3, 8, 9, 10, 11})
    assert outcome.encoded == Counter(set(range(20)) - {3, 8, 9, 10, 11})
    assert outcome.warnings == ("some frames are missing",) * 2
    assert (outcome.num_read, outcome.num_encoded) == (15, 15)


@pytest.mark.parametrize("kind", ["decoder_dies", "encoder_dies"])
@pytest.mark.parametrize("frames_per_chunk", [1, 8])
def test_a_clip_that_only_kills_is_given_up_and_others_encoded(
    kind: str, frames_per_chunk: int
) -> None:
    def kills(frames: Frames) -> bool:
        return bool(frames) and min(frames) >= 4

    worker = kind.removesuffix("_dies")
    clip = make_clip(2000, frames_per_chunk=frames_per_chunk, num_segments=20)
    book = Book()
    with running(book, **{kind: kills}) as (engine, _):
        for _ in range(3):
            text = rf"^clip.mp4: killed its {worker} 31 times in a row \(killed"
            with pytest.raises(WorkerError, match=text):
                engine.encode(clip)
            assert engine.failure is None
            assert engine.encode(make_clip(4)).num_given_up == 0


@pytest.mark.parametrize("kind", ["decoder_dies", "encoder_dies"])
def test_workers_that_do_nothing_but_die_end_the_engine(kind: str) -> None:
    clip = make_clip(2000, frames_per_chunk=8, num_segments=20)
    last = r"^301 \w+ died in a row without a result \(killed"
    errors = []
    with running(Book(), **{kind: lambda frames: bool(frames)}) as (engine, _):
        while engine.failure is None:
            with pytest.raises(WorkerError) as caught:
                engine.encode(clip)
            errors.append(str(caught.value))
        with pytest.raises(WorkerError, match=last):
            engine.encode(make_clip(4))
    assert all("31 times in a row" in error for error in errors[:-1])
    assert re.match(last, str(engine.failure))
    # A clip is ended by 31 deaths of chunks, of which a worker's death may be two.
    assert 10 <= len(errors) <= 20


def test_what_a_stage_raises_ends_its_clip_and_stops_its_decoders() -> None:
    def fail(frames: Frames) -> bool:
        if frames and frames[0] < 400:
            raise VideoDecodeError("clip.mp4: has changed")
        return False

    book = Book()
    with (
        running(book, num_decoders=4, encoder_dies=fail) as (engine, _),
        pytest.raises(VideoDecodeError, match="has changed"),
    ):
        engine.encode(make_clip(400, num_segments=4))
    assert sum(book.decoded.values()) < 100


def test_a_failed_clip_does_not_harm_the_next() -> None:
    calls = []

    def fail(frames: Frames) -> bool:
        calls.append(frames)
        if len(calls) == 1:
            raise VideoDecodeError("clip.mp4: has changed")
        return False

    with running(Book(), encoder_dies=fail) as (engine, _):
        with pytest.raises(VideoDecodeError, match="has changed"):
            engine.encode(make_clip(40))
        assert sorted(sum(engine.encode(make_clip(8)).bank, ())) == list(range(8))


@pytest.mark.parametrize("seed", range(60))
def test_under_random_faults_every_frame_is_encoded_once_or_named(seed: int) -> None:
    rng = np.random.default_rng(seed)
    kinds = ("decoder_dies", "encoder_dies", "is_lost", "encoder_dies_after")
    rates = dict(zip(kinds, rng.uniform(0, 0.3, 4), strict=True))
    poison = {kind: set(rng.integers(0, 200, 2).tolist()) for kind in kinds[:2]}

    def fault(kind: str) -> Fault:
        bad = poison.get(kind, set())
        return lambda frames: bool(bad & set(frames)) or rng.random() < rates[kind]

    num_frames, size = int(rng.integers(1, 120)), int(rng.integers(1, 10))
    num_decoders, num_encoders = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    outcome = Outcome(
        make_clip(num_frames, frames_per_chunk=size, num_segments=num_decoders),
        num_decoders=num_decoders,
        num_encoders=num_encoders,
        seed=seed,
        chunks_ahead=int(rng.integers(0, CHUNKS_AHEAD + 1)),
        **{kind: fault(kind) for kind in kinds},
    )
    named = [
        frame
        for frame in range(num_frames)
        if {given_up(frame, "decoder"), given_up(frame, "encoder")} & set(outcome.warnings)
    ]
    assert len(named) == len(outcome.warnings)
    assert outcome.encoded + Counter(named) == Counter(range(num_frames))
    assert outcome.num_encoded == num_frames - len(named)
    in_clip = (poison["decoder_dies"] | poison["encoder_dies"]) & set(range(num_frames))
    assert in_clip <= set(named)


def ask(engine: Engine, encoded: EncodedClip, text: str) -> Sequence[Any]:
    visual = engine.allocate(encoded, ALLOCATION)
    return list(engine.generate(visual, text, GREEDY))


def answer_of(pieces: Sequence[Any]) -> str:
    *words, answer = pieces
    assert isinstance(answer, GeneratedAnswer)
    assert "".join(words).split() == answer.text.split(" of ")[0].split()
    return answer.text


def test_a_question_is_answered_about_the_clip_it_names() -> None:
    with running(Book()) as (engine, _):
        first = engine.encode(make_clip(4, clip_id="a"))
        second = engine.encode(make_clip(8, clip_id="b"))
        assert answer_of(ask(engine, first, "what is this")) == "what is this of ((0, 1, 2, 3),)"
        assert "(4, 5, 6, 7)" in answer_of(ask(engine, second, "what is this"))
        assert "(4, 5, 6, 7)" not in answer_of(ask(engine, first, "and again"))


def test_an_answer_that_is_said_again_after_a_death_is_heard_once() -> None:
    deaths = iter([True, False, False, True] + [False] * 99)
    book = Book()

    def dies(text: str, place: int) -> bool:
        return place == 2 and next(deaths)

    with running(book, llm_dies=dies) as (engine, _):
        encoded = engine.encode(make_clip(4))
        assert answer_of(ask(engine, encoded, "one two three four")).startswith("one two three")
    assert book.deaths == [("llm-0", (2,))]


def test_an_answer_is_heard_once_though_its_model_dies_and_then_its_sequence_is_lost() -> None:
    def lost() -> bool:
        raise InputLostError("its machine is gone")

    faults = iter([lambda: False] * 2 + [lambda: True, lost] + [lambda: False] * 4)
    book = Book()
    with running(book, llm_dies=lambda text, place: next(faults, lambda: False)()) as (engine, _):
        encoded = engine.encode(make_clip(4))
        assert answer_of(ask(engine, encoded, "one two three four")).startswith("one two three")
    assert book.deaths == [("llm-0", (2,))]
    assert not list(faults)


def test_a_question_that_kills_language_models_is_given_up_and_others_answered() -> None:
    book = Book()
    with running(book, llm_dies=lambda text, place: "poison" in text) as (engine, _):
        encoded = engine.encode(make_clip(4))
        with pytest.raises(WorkerError, match=r"^clip.mp4: an answer killed its worker 4 times"):
            ask(engine, encoded, "poison is this")
        assert answer_of(ask(engine, encoded, "good is this")).startswith("good is this")
    assert len(book.deaths) == MAX_DEATHS


def test_an_answer_that_nobody_reads_on_is_stopped() -> None:
    with running(Book()) as (engine, (model,)):
        visual = engine.allocate(engine.encode(make_clip(4)), ALLOCATION)
        pieces = engine.generate(visual, "w " * 100_000, GREEDY)
        next(pieces)
        pieces.close()
        assert len(list(engine.generate(visual, "a b", GREEDY))) == 3
        assert len(model.said) < 100_000


def test_whoever_waits_for_an_answer_that_does_not_come_is_asked_whether_it_still_does() -> None:
    go_on, asked = threading.Event(), []

    def waits(text: str, place: int) -> bool:
        return "slow" in text and not go_on.wait(20)

    def leave() -> None:
        asked.append(1)
        if len(asked) == 2:
            raise InterruptedError("who asked has left")

    with running(Book(), llm_dies=waits) as (engine, _):
        visual = engine.allocate(engine.encode(make_clip(4)), ALLOCATION)
        first = engine.generate(visual, "slow is this", GREEDY)
        with pytest.raises(InterruptedError, match="has left"):
            list(engine.generate(visual, "and this", GREEDY, leave))
        go_on.set()
        assert answer_of(list(first)).startswith("slow is this")


def test_questions_of_many_threads_are_queued_and_never_mixed() -> None:
    with running(Book(), num_llms=2) as (engine, models):
        clips = [engine.encode(make_clip(4 + i, clip_id=f"c{i}")) for i in range(4)]
        wrong: list[str] = []

        def go(number: int) -> None:
            for turn in range(20):
                clip = clips[(number + turn) % 4]
                said = answer_of(ask(engine, clip, f"question {number} {turn}"))
                if said != f"question {number} {turn} of {clip.bank}":
                    wrong.append(said)

        threads = [threading.Thread(target=go, args=(number,)) for number in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert [model.most_at_once for model in models] == [1, 1]
        assert all(model.said for model in models)


def ask_at_once(engine: Engine, visual: Visual, texts: Sequence[str]) -> list[str]:
    """Queue all questions, then read their answers in order."""
    answers = [engine.generate(visual, text, GREEDY) for text in texts]
    return [answer_of(list(pieces)) for pieces in answers]


def test_questions_about_one_clip_go_to_one_model_at_the_same_time() -> None:
    with running(Book(), num_llms=2, llm_slots=3, llm_seconds=0.01) as (engine, models):
        visual = engine.allocate(engine.encode(make_clip(4)), ALLOCATION)
        texts = [f"question {number} is this" for number in range(7)]
        said = ask_at_once(engine, visual, texts)
        assert said == [f"{text} of ((0, 1, 2, 3),)" for text in texts]
        assert sorted(model.most_at_once for model in models) == [0, 3]


def test_a_model_is_given_the_questions_of_one_clip_at_a_time() -> None:
    with running(Book(), llm_slots=3, llm_seconds=0.01) as (engine, (model,)):
        clips = [engine.encode(make_clip(4 * (1 + i), clip_id=f"c{i}")) for i in range(2)]
        visuals = [engine.allocate(clip, ALLOCATION) for clip in clips]
        order = [0, 0, 1, 1, 0, 1]
        answers = [engine.generate(visuals[i], f"{i} is this", GREEDY) for i in order]
        said = [answer_of(list(pieces)) for pieces in answers]
        assert said == [f"{i} is this of {clips[i].bank}" for i in order]
        assert model.most_at_once == 2
        assert model.most_clips_at_once == 1


def test_of_questions_whose_model_died_each_is_tried_again_alone() -> None:
    book = Book()

    def dies(text: str, place: int) -> bool:
        return "poison" in text and place == 1

    with running(book, llm_slots=4, llm_dies=dies) as (engine, _):
        visual = engine.allocate(engine.encode(make_clip(4)), ALLOCATION)
        texts = ["one is this", "poison is this", "two is this"]
        answers = [engine.generate(visual, text, GREEDY) for text in texts]
        assert answer_of(list(answers[0])).startswith("one is this")
        with pytest.raises(WorkerError, match=r"an answer killed its worker 4 times"):
            list(answers[1])
        assert answer_of(list(answers[2])).startswith("two is this")
        assert answer_of(ask(engine, visual.encoded, "good is this")).startswith("good")
    assert len(book.deaths) == MAX_DEATHS


def test_a_question_that_is_dropped_unread_is_stopped() -> None:
    with running(Book()) as (engine, (model,)):
        visual = engine.allocate(engine.encode(make_clip(4)), ALLOCATION)
        pieces = engine.generate(visual, "w " * 100_000, GREEDY)
        pieces.close()
        assert len(list(engine.generate(visual, "a b", GREEDY))) == 3
        assert len(model.said) < 100_000


def test_no_clip_starves_behind_a_long_one() -> None:
    ended = []
    with running(Book(), num_decoders=1, num_encoders=1, seconds=0.001) as (engine, _):

        def go(num_frames: int) -> None:
            engine.encode(make_clip(num_frames, num_segments=-(-num_frames // 8)))
            ended.append(num_frames)

        threads = [threading.Thread(target=go, args=(n,)) for n in (2000, 8, 16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert ended == [8, 16, 2000]


def test_seconds_are_those_of_the_clip_and_the_question() -> None:
    with running(Book()) as (engine, _):
        for _ in range(3):
            encoded = engine.encode(make_clip(8, num_segments=1))
            assert encoded.seconds == {"decode": 2.0, "encode": 4.0}
            assert engine.allocate(encoded, ALLOCATION).seconds == {"prune": 1.0, "allocate": 1.0}
        assert set(engine.peak_memory_bytes.values()) == {7, 9}


class Unready:
    """A worker that does not get ready."""

    name, slots = "llm-0", 1

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.starts = 0

    def start(self) -> None:
        self.starts += 1
        raise self.error

    def call(self, request: Any, inputs: Any) -> Iterator[Any]:
        raise AssertionError("it never was ready")

    def replace(self) -> None:
        pass

    def stop(self) -> None:
        pass


@pytest.mark.parametrize(
    ("error", "expected", "starts"),
    [
        (ModelError("folder: no config.json"), "^folder: no config.json$", 1),
        (WorkerDiedError("killed"), r"^llm-0 died 31 times before it was ready \(killed\)$", 31),
        (RuntimeError("a\nbug"), "^llm-0 could not start: a bug$", 1),
    ],
)
def test_a_worker_that_cannot_start_ends_whatever_is_asked(
    error: Exception, expected: str, starts: int
) -> None:
    book = Book()
    unready = Unready(error)
    engine = Engine(
        {
            "decoder": [FakeDecoder("decoder-0", book, seconds=0.05)],
            "encoder": [FakeEncoder("encoder-0", book)],
            "llm": [unready],
        }
    )
    engine.start()
    with pytest.raises((ModelError, WorkerError), match=expected):
        engine.encode(make_clip(4000))
    with pytest.raises((ModelError, WorkerError), match=expected):
        engine.encode(make_clip(4))
    engine.close()
    assert unready.starts == starts


def test_a_fault_nobody_foresaw_ends_its_job_and_not_its_worker() -> None:
    struck: list[Frames] = []

    def fault(frames: Frames) -> bool:
        struck.append(frames)
        if len(struck) == 1:
            raise ZeroDivisionError("a\nbug")
        return False

    with running(Book(), num_encoders=1, encoder_dies=fault) as (engine, _):
        with pytest.raises(WorkerError, match=r"^encoder-0 failed: ZeroDivisionError: a bug$"):
            engine.encode(make_clip(8))
        for _ in range(4):  # both slots of the only encoder still work
            assert sorted(sum(engine.encode(make_clip(16)).bank, ())) == list(range(16))


def test_a_worker_that_cannot_be_replaced_ends_its_job(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: FakeEncoder) -> None:
        raise WorkerError("encoder-0 cannot be replaced")

    monkeypatch.setattr(FakeEncoder, "replace", refuse)
    with (
        running(Book(), num_encoders=1, encoder_dies=once(4)) as (engine, _),
        pytest.raises(WorkerError, match=r"^encoder-0 cannot be replaced$"),
    ):
        engine.encode(make_clip(8))


def test_whoever_waits_when_the_engine_is_closed_is_told() -> None:
    with running(Book(), seconds=0.01) as (engine, _):
        told: list[str] = []

        def wait() -> None:
            with pytest.raises(WorkerError, match="the engine was closed") as caught:
                engine.encode(make_clip(100_000))
            told.append(str(caught.value))

        thread = threading.Thread(target=wait)
        thread.start()
        engine.close()
        thread.join(timeout=10)
        assert told == ["the engine was closed"]
        with pytest.raises(WorkerError, match="the engine was closed"):
            engine.encode(make_clip(4))


class Readings:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.counted: Counter[tuple[str, str]] = Counter()
        self.gauges: dict[tuple[str, str], float] = {}
        self.highest: Counter[str] = Counter()

    def add(self, name: str, value: float, label: str = "") -> None:
        assert name in COUNTERS
        self.counted[name.removeprefix("stream_"), label] += value

    def set(self, name: str, value: float, label: str = "") -> None:
        assert name in GAUGES
        self.gauges[name, label] = value
        self.highest[label] = max(self.highest[label], int(value))


def test_a_meter_is_told_of_frames_deaths_failures_and_queues() -> None:
    def dies(frames: Frames) -> bool:
        if 77 in frames:
            raise VideoDecodeError("clip.mp4: has changed")
        return poison(frames)

    meter, book, poison = Readings(), Book(), always(9)
    workers: dict[str, Any] = {"decoder_dies": dies, "encoder_dies": once(3)}
    with running(book, meter=meter, **workers) as (engine, _):
        engine.encode(make_clip(40, num_segments=4))
        assert meter.counted["frames_total", "encode"] == 39
        assert meter.counted["frames_total", "read"] >= 39
        assert meter.counted["stage_seconds_total", "decode"] >= 10
        assert meter.counted["retries_total", "encoder"] == 1
        assert meter.counted["retries_total", "decoder"] == MAX_DEATHS
        assert meter.counted["failures_total", "clip"] == 0
        with pytest.raises(VideoDecodeError, match="has changed"):
            engine.encode(make_clip(100))
    assert meter.counted["failures_total", "clip"] == 1
    assert set(meter.gauges.values()) == {0}
    assert meter.highest["decoder"] >= 2
