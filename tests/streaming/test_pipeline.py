"""One engine for several clips: whose answer is whose, what it took, and what a failure ends."""

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from pruner import METHODS
from streaming.clip_plan import ClipPlan
from streaming.engine import open_engine
from streaming.evaluate.answering import answer_clip as answer_cells
from streaming.evaluate.cells import make_cells
from streaming.evaluate.questions import Question
from streaming.flags import change, flat
from streaming.options import Options
from streaming.pipeline import WatchedClip, allocate, answer_clip, ask, encode, in_flight, watch
from streaming.plan import Variant, plan_clip, plan_clips
from streaming.result import Answer
from streaming.sample import sample_clip, sample_source
from tests.clips import destroy_bytes, draw_clip
from tests.workers.vision.pictures import draw_picture
from workers.errors import (
    ContextError,
    InputError,
    ModelError,
    StreamError,
    VideoDecodeError,
    VideoOpenError,
    WorkerError,
)
from workers.llm.answer import SamplingOptions
from workers.messages import AllocateRequest, EncodeRequest, Note, ReadRequest
from workers.process import ModelOptions
from workers.run.clip_job import Progress
from workers.run.engine import Engine
from workers.stages import EncodeStage, GenerateStage, ReadStage, Result, Stage
from workers.video.images import open_images

QUESTIONS = ("What color is the cat?", "How many people are there?")
Stages = Mapping[str, Callable[[], Stage]]


@pytest.fixture(scope="module")
def options(checkpoint: Path) -> Options:
    return changed(
        Options(),
        model=str(checkpoint),
        device="cpu",
        num_frames=4,
        budget=60,
        max_new_tokens=6,
        frames_per_chunk=2,
    )


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Two clips of other numbers and other shapes."""
    folder = tmp_path_factory.mktemp("clips")
    wide = draw_clip(folder / "first.mp4", num_frames=30)
    tall = draw_clip(folder / "second.mp4", num_frames=30, first_number=500, width=96, height=160)
    return str(wide), str(tall)


@pytest.fixture(scope="module")
def plans(clips: tuple[str, str], options: Options) -> list[ClipPlan]:
    return [make_plan(clip, options) for clip in clips]


@pytest.fixture(scope="module")
def engine(options: Options) -> Iterator[Engine]:
    with open_engine(options) as engine:
        yield engine


@pytest.fixture(scope="module")
def expected(plans: list[ClipPlan], options: Options) -> dict[tuple[str, str], str]:
    """Each clip's answers from an engine that has seen no other."""
    said = {}
    for plan in plans:
        with open_engine(options) as engine:
            for answer in answer_clip(engine, plan, QUESTIONS):
                said[answer.video, answer.question] = answer.answer
    assert len(set(said.values())) == 4
    return said


def changed(options: Options, **values: Any) -> Options:
    return change(options, values, source="the test")


def make_plan(clip: str, options: Options) -> ClipPlan:
    return plan_clip(sample_clip(clip, options), options, QUESTIONS)


def stages(options: Options, **makers: Callable[[], Stage]) -> dict[str, Callable[[], Stage]]:
    model = options.model
    usual: dict[str, Callable[[], Stage]] = {
        "decoder": ReadStage,
        "encoder": partial(EncodeStage, model),
        "llm": partial(GenerateStage, model),
    }
    return usual | makers


def whole(engine: Engine, watched: WatchedClip, question: str, *sampling: Any) -> Answer:
    *pieces, answer = ask(engine, watched, question, *sampling)
    assert isinstance(answer, Answer)
    assert answer.answer == "".join(map(str, pieces)).strip()
    return answer


def test_a_late_question_is_answered_about_the_clip_it_is_asked_of(
    engine: Engine, plans: list[ClipPlan], expected: Mapping[tuple[str, str], str]
) -> None:
    first = watch(engine, plans[0])
    whole(engine, first, QUESTIONS[0])
    second = watch(engine, plans[1])
    whole(engine, second, QUESTIONS[0])
    late = [whole(engine, first, question) for question in QUESTIONS]
    other = whole(engine, second, QUESTIONS[1])
    assert [Path(answer.video).name for answer in (*late, other)] == [
        "first.mp4", "first.mp4", "second.mp4",
    ]  # fmt: skip
    for answer in (*late, other):
        assert answer.answer == expected[answer.video, answer.question]
    assert [frame.layout.rows for frame in late[0].frames] == [4] * 4
    assert [frame.layout.rows for frame in other.frames] == [8] * 4


def test_the_record_is_of_this_clip_and_this_question(
    engine: Engine, plans: list[ClipPlan], options: Options
) -> None:
    plan = plans[0]
    watched = watch(engine, plan)
    answer = whole(engine, watched, QUESTIONS[1])
    assert (answer.question, answer.model) == (QUESTIONS[1], options.model.model)
    assert answer.num_visual_tokens == answer.budget == 60
    assert answer.num_unpruned_tokens == 4 * 52
    assert answer.num_answer_tokens == 6
    assert answer.num_text_tokens == plan.prompt(QUESTIONS[1], answer.frames).num_text_tokens
    assert answer.config == flat(options)
    assert (answer.warnings, answer.num_frames) == ((), 4)
    assert set(answer.peak_memory_bytes) == {"local"}


def test_timestamps_are_visual_tokens_in_the_record(
    engine: Engine, clips: tuple[str, str], options: Options
) -> None:
    stamped = changed(options, timestamps=True)
    plan = make_plan(clips[0], stamped)
    answer = whole(engine, watch(engine, plan), QUESTIONS[0])
    paid = [frame.num_timestamp_tokens for frame in answer.frames]
    assert min(paid) > 0
    assert answer.num_visual_tokens == 60
    prompt = plan.prompt(QUESTIONS[0], answer.frames)
    assert answer.num_text_tokens == prompt.num_text_tokens - sum(paid)
    plain = plan.template.build(QUESTIONS[0], [""] * 4)
    assert answer.num_text_tokens == plain.num_text_tokens


class PricedReader(ReadStage):
    """Says that each chunk took a second to decode, and ten to tile."""

    def run(self, request: ReadRequest) -> Iterator[Result]:
        for output, note in super().run(request):
            yield output, replace(note, seconds={"decode": 1.0, "tile": 10.0})


class PricedEncoder(EncodeStage):
    """Says that each chunk took 100 s to encode and 1,000 to rank, and sharing out 10,000."""

    def run(self, request: EncodeRequest | AllocateRequest, *inputs: Any) -> Iterator[Result]:
        for output, note in super().run(request, *inputs):
            yield output, self._priced(request, note)

    def _priced(self, request: EncodeRequest | AllocateRequest, note: Note) -> Note:
        if isinstance(request, AllocateRequest):
            return replace(note, seconds={"allocate": 10_000.0})
        news = replace(note.news, prune_seconds=(1000.0,) * len(request.prunings))
        return replace(note, news=news, seconds={"encode": 100.0})


def test_seconds_are_those_of_one_clip_and_one_question(
    clips: tuple[str, str], options: Options
) -> None:
    priced = stages(options, decoder=PricedReader, encoder=partial(PricedEncoder, options.model))
    long, short = (
        make_plan(clip, changed(options, num_frames=number))
        for clip, number in zip(clips, (9, 4), strict=True)
    )
    with open_engine(options, priced) as engine:
        found = {}
        for name, plan in (("long", long), ("short", short), ("again", long)):
            watched = watch(engine, plan)
            for question in QUESTIONS:
                answer = whole(engine, watched, question)
                found[name, question] = dict(answer.seconds)
    for (name, _), seconds in found.items():
        num_chunks = {"short": 2}.get(name, 5)
        language = {stage: seconds.pop(stage) for stage in ("prefill", "generate")}
        assert seconds == {
            "decode": num_chunks,
            "tile": 10 * num_chunks,
            "encode": 100 * num_chunks,
            "prune": 1000 * num_chunks,
            "allocate": 10_000,
        }
        assert 0 < sum(language.values()) < 1000


def test_a_pruning_s_seconds_are_its_own(clips: tuple[str, str], options: Options) -> None:
    class Priced(PricedEncoder):
        def _priced(self, request: EncodeRequest | AllocateRequest, note: Note) -> Note:
            if isinstance(request, AllocateRequest):
                return note
            return replace(note, news=replace(note.news, prune_seconds=(1.0, 2.0)))

    variants = [
        Variant(options=changed(options, pruner=name), questions=tuple(QUESTIONS))
        for name in ("random", "uniform")
    ]
    planned = plan_clips(sample_clip(clips[0], options), variants)
    with open_engine(options, stages(options, encoder=partial(Priced, options.model))) as engine:
        encoded = encode(engine, planned[0])
        seconds = [allocate(engine, plan, encoded).visual.seconds["prune"] for plan in planned]
    assert seconds == [2.0, 4.0]  # of two chunks


def test_thinking_between_two_questions_is_nobody_s_time(
    engine: Engine, plans: list[ClipPlan], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, thought = time.perf_counter, [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: clock() + thought[0])
    watched = watch(engine, plans[0])
    thought[0] += 10_000
    first = whole(engine, watched, QUESTIONS[0])
    thought[0] += 10_000
    second = whole(engine, watched, QUESTIONS[1])
    ready = watched.visual.encoded.elapsed_seconds + watched.visual.elapsed_seconds
    for answer in (first, second):
        assert ready < answer.elapsed_seconds < 10_000
        assert max(answer.seconds.values()) < 10_000


def test_ten_threads_ask_two_questions_about_two_clips(
    engine: Engine, plans: list[ClipPlan], expected: Mapping[tuple[str, str], str]
) -> None:
    watched = [watch(engine, plan) for plan in plans]
    asked = [(watched[i % 2], QUESTIONS[i // 2 % 2]) for i in range(40)]
    with ThreadPoolExecutor(10) as threads:
        answers = list(threads.map(lambda each: whole(engine, *each), asked))
    for (clip, question), answer in zip(asked, answers, strict=True):
        assert (answer.video, answer.question) == (clip.plan.clip.name, question)
        assert answer.answer == expected[answer.video, question]


def test_ten_threads_watch_and_ask_at_once(
    engine: Engine, plans: list[ClipPlan], expected: Mapping[tuple[str, str], str]
) -> None:
    with ThreadPoolExecutor(10) as threads:
        groups = list(
            threads.map(lambda i: answer_clip(engine, plans[i % 2], QUESTIONS), range(10))
        )
    assert len(groups) == 10
    for answer in (answer for group in groups for answer in group):
        assert answer.answer == expected[answer.video, answer.question]


def test_a_later_question_beyond_the_context_fails_alone(
    engine: Engine, plans: list[ClipPlan], expected: Mapping[tuple[str, str], str]
) -> None:
    watched = watch(engine, plans[0])
    whole(engine, watched, QUESTIONS[0])
    with pytest.raises(ContextError, match=r"context holds 32768: ask a question shorter by \d+"):
        next(ask(engine, watched, "why " * 40_000))
    answer = whole(engine, watched, QUESTIONS[1])
    assert answer.answer == expected[answer.video, answer.question]


class FailingModel(GenerateStage):
    """Runs out of memory in its last layer, as often as ``left`` says."""

    def __init__(self, left: list[type[Exception]], options: ModelOptions) -> None:
        super().__init__(options)
        self._left = left
        layers = self._model._decoder._model.model.layers
        layers[-1].register_forward_pre_hook(self._strike)

    def _strike(self, *_: Any) -> None:
        if self._left:
            raise self._left.pop()("pretend")


@pytest.mark.parametrize(
    ("kind", "shown", "message"),
    [
        (torch.OutOfMemoryError, WorkerError, "a worker failed: OutOfMemoryError: pretend"),
        (RuntimeError, WorkerError, "a worker failed: RuntimeError: pretend"),
        (ModelError, ModelError, "pretend"),
        (MemoryError, MemoryError, "pretend"),
    ],
)
@pytest.mark.parametrize("asked_before", [False, True])
def test_a_failure_inside_the_model_fails_that_question_only(
    plans: list[ClipPlan],
    options: Options,
    expected: Mapping[tuple[str, str], str],
    kind: type[Exception],
    shown: type[Exception],
    message: str,
    asked_before: bool,
) -> None:
    left: list[type[Exception]] = []
    with open_engine(options, stages(options, llm=partial(FailingModel, left, options.model))) as e:
        watched = watch(e, plans[0])
        if asked_before:  # so that it fails behind a prefix that is kept
            whole(e, watched, QUESTIONS[0])
        left.append(kind)
        with pytest.raises(shown, match=f"^{message}$"):
            list(ask(e, watched, QUESTIONS[1]))
        assert left == []
        for question in (*QUESTIONS, *QUESTIONS):
            answer = whole(e, watched, question)
            assert answer.answer == expected[answer.video, question]


def test_a_failure_among_threads_fails_one_question(
    plans: list[ClipPlan], options: Options, expected: Mapping[tuple[str, str], str]
) -> None:
    left: list[type[Exception]] = []
    with open_engine(options, stages(options, llm=partial(FailingModel, left, options.model))) as e:
        watched = [watch(e, plan) for plan in plans]
        left.append(torch.OutOfMemoryError)

        def say(number: int) -> str | None:
            clip = watched[number % 2]
            try:
                answer = whole(e, clip, QUESTIONS[number // 2 % 2])
            except WorkerError:
                return None
            assert answer.answer == expected[answer.video, answer.question]
            return answer.answer

        with ThreadPoolExecutor(8) as threads:
            said = list(threads.map(say, range(24)))
    assert Counter(each is None for each in said) == {True: 1, False: 23}


def test_an_answer_that_is_left_ends_and_the_next_is_whole(
    engine: Engine, plans: list[ClipPlan], expected: Mapping[tuple[str, str], str]
) -> None:
    watched = watch(engine, plans[1])
    for _ in range(3):
        with closing(ask(engine, watched, QUESTIONS[0])) as pieces:
            assert isinstance(next(pieces), str)
    answer = whole(engine, watched, QUESTIONS[0])
    assert answer.answer == expected[answer.video, answer.question]


def test_sampling_can_be_chosen_for_each_question(
    engine: Engine, plans: list[ClipPlan], expected: Mapping[tuple[str, str], str]
) -> None:
    watched = watch(engine, plans[0])
    drawn = [
        whole(
            engine,
            watched,
            QUESTIONS[0],
            SamplingOptions(max_new_tokens=9, temperature=1.5, seed=seed),
        )
        for seed in (1, 2, 1)
    ]
    assert drawn[0].answer == drawn[2].answer != drawn[1].answer
    assert drawn[0].num_answer_tokens == 9
    greedy = whole(engine, watched, QUESTIONS[0])
    assert greedy.answer == expected[greedy.video, greedy.question]


def test_progress_counts_every_frame_once(engine: Engine, plans: list[ClipPlan]) -> None:
    shown: list[Progress] = []
    encoded = encode(engine, plans[0], shown.append)
    assert sum(each.num_read for each in shown) == 4
    assert sum(each.num_encoded for each in shown) == 4
    assert list(encoded.pts_seconds) == [0, 1, 2, 3]
    assert encoded.thumbnails == {}


def test_thumbnails_come_with_the_answers(
    engine: Engine, clips: tuple[str, str], options: Options
) -> None:
    sampled = sample_clip(clips[0], options)
    plan = plan_clip(sampled, options, QUESTIONS, thumbnail_width=50)
    answer = whole(engine, watch(engine, plan), QUESTIONS[0])
    assert all(frame.thumbnail_jpeg.startswith(b"\xff\xd8") for frame in answer.frames)
    assert len({frame.thumbnail_jpeg for frame in answer.frames}) == 4


COMPARING = ("evs", "vidcom2", "tome", "vcast", "floc", "flashvid")
"""Methods that compare frames place by place."""


@pytest.mark.parametrize("method", [name for name in METHODS if name not in COMPARING])
def test_pictures_of_several_sizes_are_one_clip(
    engine: Engine, options: Options, method: str
) -> None:
    sizes = [(96, 160), (160, 96), (40, 40), (3, 200)]
    source = open_images([draw_picture(*size, seed=seed) for seed, size in enumerate(sizes)])
    settings = {"none": {"pruner": "none", "budget": None}}
    chosen = changed(options, **settings.get(method, {"pruner": method}))
    answer = answer_clip(
        engine, plan_clip(sample_source(source, chosen), chosen, QUESTIONS), QUESTIONS[:1]
    )[0]
    tiles = sample_source(source, chosen).tiles
    layouts = [tiles.frame(*size).layout for size in sizes]
    assert [frame.layout for frame in answer.frames] == layouts
    assert answer.answer
    assert answer.video == "4 images"


@pytest.mark.parametrize("method", COMPARING)
def test_methods_that_compare_frames_refuse_several_sizes(
    engine: Engine, options: Options, method: str
) -> None:
    source = open_images([draw_picture(96, 160), draw_picture(160, 96)])
    chosen = changed(options, pruner=method)
    plan = plan_clip(sample_source(source, chosen), chosen, QUESTIONS)
    with pytest.raises(InputError, match=f"^--pruner {method} compares frames"):
        watch(engine, plan)
    answer_clip(engine, make_plan_of(source, options), QUESTIONS)


def make_plan_of(source: Any, options: Options) -> ClipPlan:
    return plan_clip(sample_source(source, options), options, QUESTIONS)


def test_frames_that_cannot_be_read_are_left_out_and_named(
    engine: Engine, tmp_path: Path, options: Options
) -> None:
    sound = draw_clip(tmp_path / "sound.mp4", num_frames=60)
    chosen = changed(options, num_frames=60, budget=300)
    sampled = sample_clip(str(sound), chosen)
    destroy_bytes(sound, sound, start_share=0.3, end_share=0.5)
    (answer,) = answer_clip(engine, plan_clip(sampled, chosen, QUESTIONS), QUESTIONS[:1])
    assert 0 < len(answer.frames) < 60
    assert answer.num_visual_tokens == 300
    assert answer.warnings
    assert all("sound.mp4" in text for text in answer.warnings)


def test_a_clip_of_which_nothing_can_be_read_is_one_error(
    plans: list[ClipPlan], options: Options, expected: Mapping[tuple[str, str], str]
) -> None:
    class Blind(ReadStage):
        def run(self, request: ReadRequest) -> Iterator[Result]:
            for output, note in super().run(request):
                if output.clip_id != plans[0].clip.clip_id:
                    yield output, note
                    continue
                none = output.frame_indices[:0]
                news = replace(
                    note.news, frame_indices=none, pts_seconds=none, warnings=("it is dark",)
                )
                yield output[:0], replace(note, news=news)

    with open_engine(options, stages(options, decoder=Blind)) as engine:
        with pytest.raises(VideoDecodeError, match=r"first\.mp4: no frame .*\(it is dark\)$"):
            watch(engine, plans[0])
        (answer,) = answer_clip(engine, plans[1], QUESTIONS[:1])
    assert answer.answer == expected[answer.video, answer.question]


def test_a_clip_that_goes_away_fails_alone(
    engine: Engine, tmp_path: Path, plans: list[ClipPlan], options: Options
) -> None:
    gone = draw_clip(tmp_path / "gone.mp4", num_frames=10)
    plan = make_plan(str(gone), options)
    gone.unlink()
    with pytest.raises(VideoOpenError, match=r"gone\.mp4: No such file"):
        watch(engine, plan)
    assert len(answer_clip(engine, plans[0], QUESTIONS)) == 2


# in_flight


class Taken:
    """Items that tell how many of them were taken, and how many at most beyond those yielded."""

    def __init__(self, number: int) -> None:
        self.number, self.taken, self.yielded, self.most = number, 0, 0, 0

    def __iter__(self) -> Iterator[int]:
        for item in range(self.number):
            self.taken += 1
            self.most = max(self.most, self.taken - self.yielded)
            yield item


@pytest.mark.parametrize(("number", "limit"), [(20, 3), (2, 5), (7, 1), (0, 2)])
def test_items_are_taken_as_others_end(number: int, limit: int) -> None:
    running, most, lock = 0, 0, threading.Lock()

    def work(item: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.002 * (item % 3))
        with lock:
            running -= 1
        return item * item

    items = Taken(number)
    found = {}
    for item, value in in_flight(work, items, limit=limit):
        items.yielded += 1
        found[item] = value
    assert found == {item: item * item for item in range(number)}
    assert most <= limit
    assert items.most <= limit


def test_nothing_is_taken_before_it_is_asked_for() -> None:
    items = Taken(100)
    pairs = in_flight(str, items, limit=4)
    assert items.taken == 0
    next(pairs)
    assert items.taken == 4
    pairs.close()
    assert items.taken == 4


def test_what_fails_on_purpose_comes_as_a_value_and_the_rest_goes_on() -> None:
    def work(item: int) -> int:
        if item % 3 == 0:
            raise VideoOpenError(f"{item} is gone")
        return item

    found = dict(in_flight(work, range(9), limit=2))
    assert {item for item, value in found.items() if isinstance(value, StreamError)} == {0, 3, 6}
    assert [str(found[item]) for item in (0, 3, 6)] == ["0 is gone", "3 is gone", "6 is gone"]
    assert [found[item] for item in (1, 2, 4, 5, 7, 8)] == [1, 2, 4, 5, 7, 8]


def test_a_fault_of_the_program_ends_it() -> None:
    def work(item: int) -> int:
        return 1 // item

    items = Taken(100)
    with pytest.raises(ZeroDivisionError, match="division"):
        list(in_flight(work, items, limit=2))
    assert items.taken == 2


def test_clips_in_flight_are_answered_as_alone(
    engine: Engine,
    clips: tuple[str, str],
    options: Options,
    expected: Mapping[tuple[str, str], str],
    tmp_path: Path,
) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"nothing" * 99)
    paths = [*clips, str(broken), *clips, str(tmp_path / "missing.mp4"), *clips]

    def work(path: str) -> list[Answer]:
        return answer_clip(engine, make_plan(path, options), QUESTIONS)

    outcomes = list(in_flight(work, paths, limit=3))
    assert Counter(path for path, _ in outcomes) == Counter(paths)
    for path, outcome in outcomes:
        if path not in clips:
            assert isinstance(outcome, VideoOpenError)
            assert Path(path).name in str(outcome)
            continue
        assert isinstance(outcome, list)
        assert [answer.answer for answer in outcome] == [expected[path, q] for q in QUESTIONS]


class Held(ReadStage):
    """Reads on only when it is let go."""

    def __init__(self, begun: threading.Semaphore, go: threading.Event) -> None:
        self._begun, self._go = begun, go

    def run(self, request: ReadRequest) -> Iterator[Result]:
        self._begun.release()
        assert self._go.wait(60)
        yield from super().run(request)


@contextmanager
def ctrl_c_after(begun: threading.Semaphore, number: int) -> Iterator[None]:
    """Interrupt the main thread once so many requests have begun."""

    def interrupt() -> None:
        for _ in range(number):
            assert begun.acquire(timeout=60)
        os.kill(os.getpid(), signal.SIGINT)

    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        yield
    finally:
        thread.join()
        signal.signal(signal.SIGINT, previous)


def test_ctrl_c_ends_what_is_in_flight(plans: list[ClipPlan], options: Options) -> None:
    begun, go = threading.Semaphore(0), threading.Event()
    started: list[int] = []
    ended: list[str] = []
    items = Taken(50)

    def work(item: int) -> list[Answer]:
        started.append(item)
        try:
            return answer_clip(engine, plans[item % 2], QUESTIONS)
        except WorkerError as error:
            ended.append(str(error))
            go.set()
            raise

    engine: Engine
    held = stages(options, decoder=partial(Held, begun, go))
    with open_engine(options, held) as engine:
        with ctrl_c_after(begun, 2), pytest.raises(KeyboardInterrupt):
            list(in_flight(work, items, limit=3))
        engine.close()
        for thread in threading.enumerate():
            if thread.name.startswith("clip"):
                thread.join(60)
        assert not [t for t in threading.enumerate() if t.name.startswith("clip")]
    assert 2 <= len(started) <= items.taken <= 3
    assert ended == ["the engine was closed"] * len(started)
    with pytest.raises(WorkerError, match=r"^the engine was closed$"):
        watch(engine, plans[0])


# evaluate, which encodes once for many


def test_variants_that_look_at_other_tiles_are_encoded_apart(
    engine: Engine, clips: tuple[str, str], options: Options
) -> None:
    """At three tokens a frame both would send on the same number of tokens."""
    base = changed(options, budget=None, num_frames=4)
    rows = {f"high_resolution={value}": value for value in ("none", "gated", "all")}
    cells = make_cells(
        base,
        pruners=[],
        variants=list(rows),
        keep_ratios=[],
        budgets=[12],
        num_seeds=1,
    )
    question = Question(clip=clips[0], text=QUESTIONS[0], answers=("x",), type="t", num_frames=None)
    records = {record["row"]: record for record in answer_cells(engine, [question], cells)}
    unpruned = {row: record["num_unpruned_tokens"] for row, record in records.items()}
    assert list(unpruned.values()) == [4 * 16, 4 * 52, 4 * 52]
    for row, value in rows.items():
        alone = changed(base, budget=12, high_resolution=value)
        (answer,) = answer_clip(engine, make_plan(clips[0], alone), QUESTIONS[:1])
        assert records[row]["answers"][0]["answer"] == answer.answer
