"""Ray actors: the same answers as in one process, whoever dies on the way."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from pruner import METHODS
from streaming.clip_plan import ClipPlan
from streaming.engine import open_engine
from streaming.flags import change
from streaming.options import Options
from streaming.pipeline import ahead, allocate, answer_clip, ask, encode, in_flight, watch
from streaming.plan import Variant, plan_clip, plan_clips
from streaming.result import Answer, BankUse
from streaming.sample import sample_clip
from tests.clips import draw_clip
from tests.faults import (
    CountingModel,
    Deaths,
    Doom,
    DoomedReader,
    Dooms,
    die,
    doomed_stages,
    hang,
    hoard,
)
from tests.workers.video.remote import ReadElsewhere, elsewhere
from workers.disk.store import open_store
from workers.stages import Stage

QUESTION = "what number is shown first?"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_clip(tmp_path_factory.mktemp("clips") / "numbers.mp4", num_frames=60)


@pytest.fixture(scope="module")
def options(checkpoint: Path) -> Options:
    settings = {
        "model": str(checkpoint), "num_frames": 40, "budget": 200, "max_new_tokens": 12,
        "frames_per_chunk": 4, "num_decoders": 2, "num_encoders": 2, "executor": "ray",
    }  # fmt: skip
    return change(Options(), settings, source="the test")


def in_process(options: Options) -> Options:
    return replace(options, run=replace(options.run, executor="local"))


def plan(clip: Path, options: Options) -> ClipPlan:
    return plan_clip(sample_clip(str(clip), options), options, [QUESTION])


def run(
    clip: Path, options: Options, folder: Path, deaths: Deaths, strike: Callable[[], None] = die
) -> Answer:
    """Ask the question with stages that die as told."""
    with open_engine(options, doomed_stages(folder, deaths, options.model, strike)) as engine:
        watched = watch(engine, plan(clip, options))
        *pieces, answer = ask(engine, watched, QUESTION)
    assert isinstance(answer, Answer)
    assert "".join(map(str, pieces)).strip() == answer.answer
    return answer


@pytest.fixture(scope="module")
def expected(clip: Path, options: Options, tmp_path_factory: pytest.TempPathFactory) -> Answer:
    """The answer of the same stages in this process, undisturbed."""
    return run(clip, in_process(options), tmp_path_factory.mktemp("doom"), {})


def kept(answer: Answer) -> dict[int, list[int]]:
    return {frame.frame_index: frame.keep_indices.tolist() for frame in answer.frames}


def left_out(kind: str, reason: str) -> str:
    return f"killed its {kind} 4 times ({reason}) and is left out"


def deaths_in(folder: Path) -> dict[str, int]:
    return {log.stem: len(log.read_text().splitlines()) for log in folder.iterdir()}


@pytest.mark.parametrize(
    "deaths",
    [
        pytest.param({}, marks=pytest.mark.slow),
        {"read-21": 1, "encode-9": 1, "encode-33": 2, "allocate": 1, "answer-1": 1},
    ],
    ids=["undisturbed", "every kind of worker is killed"],
)
def test_the_answer_is_that_of_one_process(
    clip: Path, options: Options, expected: Answer, tmp_path: Path, deaths: Deaths
) -> None:
    answer = run(clip, options, tmp_path, deaths)
    assert deaths_in(tmp_path) == deaths
    assert answer.answer == expected.answer
    assert kept(answer) == kept(expected)
    assert answer.warnings == ()
    assert answer.num_visual_tokens == 200
    assert 0 < answer.seconds["transfer"] < answer.elapsed_seconds * len(answer.peak_memory_bytes)
    assert "transfer" not in expected.seconds
    workers = {"decoder-0", "decoder-1", "encoder-0", "encoder-1", "llm-0"}
    assert {"driver", "llm-0"} <= set(answer.peak_memory_bytes) <= {"driver", *workers}


def test_a_frame_that_kills_its_worker_four_times_is_left_out_and_named(
    clip: Path, options: Options, expected: Answer, tmp_path: Path
) -> None:
    answer = run(clip, options, tmp_path, {"read-6": 99, "encode-30": 99})
    assert deaths_in(tmp_path) == {"read-6": 4, "encode-30": 4}
    assert sorted(kept(answer)) == sorted(set(kept(expected)) - {6, 30})
    times = {frame.frame_index: frame.pts_seconds for frame in expected.frames}
    assert answer.warnings == (
        f"{clip}: the frame at {times[6]:.3f} s {left_out('decoder', 'death')}",
        f"{clip}: the frame at {times[30]:.3f} s {left_out('encoder', 'death')}",
    )
    assert answer.num_visual_tokens == 200


@pytest.mark.slow
@pytest.mark.parametrize(
    "deaths",
    [{}, {"read-21": 2, "encode-9": 2, "encode-16": 2, "read-32": 2}],
    ids=["undisturbed", "frames are tried alone"],
)
def test_gated_frames_do_not_depend_on_where_and_how_often_they_are_tried(
    clip: Path, options: Options, tmp_path: Path, deaths: Deaths
) -> None:
    gated = change(options, {"high_resolution": "gated"}, source="the test")
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    expected = run(clip, in_process(gated), tmp_path / "here", {})
    answer = run(clip, gated, tmp_path / "there", deaths)
    assert deaths_in(tmp_path / "there") == deaths
    assert (answer.answer, kept(answer)) == (expected.answer, kept(expected))
    assert expected.num_encoded_tiles < expected.num_tiles == 40 * 5


@pytest.mark.slow
def test_a_worker_that_hangs_counts_as_dead(
    clip: Path, options: Options, expected: Answer, tmp_path: Path
) -> None:
    hung = {"read-13": 1, "encode-25": 1, "answer-2": 1}
    options = replace(options, run=replace(options.run, stall_seconds=6.0))
    answer = run(clip, options, tmp_path, hung, hang)
    assert deaths_in(tmp_path) == hung
    assert (answer.answer, kept(answer)) == (expected.answer, kept(expected))


@pytest.mark.slow
def test_frames_that_need_too_much_memory_or_time_are_left_out_and_named(
    clip: Path, options: Options, expected: Answer, tmp_path: Path
) -> None:
    limits = {"decoder_gib": 0.25, "decode_seconds": 6}
    options = change(options, limits, source="the test")
    assert options.run.stall_seconds == 900
    stages = doomed_stages(tmp_path, {}, options.model)
    doom = Dooms(Doom(tmp_path, {"read-6": 99}, hoard), Doom(tmp_path, {"read-30": 99}, hang))
    stages["decoder"] = partial(DoomedReader, doom)
    with open_engine(options, stages) as engine:
        (answer,) = answer_clip(engine, plan(clip, options), [QUESTION])
    assert deaths_in(tmp_path) == {"read-6": 4, "read-30": 4}
    assert sorted(kept(answer)) == sorted(set(kept(expected)) - {6, 30})
    times = {frame.frame_index: frame.pts_seconds for frame in expected.frames}
    assert answer.warnings == (
        f"{clip}: the frame at {times[6]:.3f} s {left_out('decoder', 'memory limit')}",
        f"{clip}: the frame at {times[30]:.3f} s {left_out('decoder', 'deadline')}",
    )


@pytest.mark.slow
def test_a_clip_elsewhere_is_fetched_by_the_worker_that_reads_it(
    clip: Path, options: Options, expected: Answer, tmp_path: Path
) -> None:
    uri, there = f"elsewhere://{clip.name}", tmp_path / "another machine"
    stages = doomed_stages(tmp_path, {}, options.model)
    stages["decoder"] = partial(ReadElsewhere, clip.parent, there)
    with elsewhere(clip.parent, tmp_path / "cache"):
        planned = plan_clip(sample_clip(uri, options), options, [QUESTION])
    with open_engine(options, stages) as engine:
        (answer,) = answer_clip(engine, planned, [QUESTION])
    assert (answer.video, answer.answer, kept(answer)) == (uri, expected.answer, kept(expected))
    (copy,) = there.rglob("*.mp4")
    assert copy.read_bytes() == clip.read_bytes()


@pytest.mark.parametrize("executor", ["local", "ray"])
def test_an_answer_that_nobody_reads_on_is_stopped(
    clip: Path, options: Options, tmp_path: Path, executor: str
) -> None:
    options = change(options, {"num_encoders": 1, "executor": executor}, source="the test")
    endless = replace(options.generation, max_new_tokens=20_000)
    log = tmp_path / "passes"
    stages = doomed_stages(tmp_path, {}, options.model)
    stages["llm"] = partial(CountingModel, log, options.model)
    with open_engine(options, stages) as engine:
        watched = watch(engine, plan(clip, options))
        pieces = ask(engine, watched, QUESTION, endless)
        next(pieces)
        pieces.close()
        list(ask(engine, watched, QUESTION))
    assert 12 < log.stat().st_size < 2_000


ASKED = [f"{words} {thing}?" for words in ("What is", "Where is") for thing in ("red", "this")]


def ask_at_once(
    options: Options, stages: Mapping[str, Callable[[], Stage]], planned: ClipPlan, limit: int
) -> list[str]:
    """Answer the questions about a clip, so many of them queued at a time."""
    with open_engine(options, stages) as engine:
        watched = watch(engine, planned)
        asked = ahead((ask(engine, watched, text) for text in ASKED), limit)
        return [each.answer for pieces in asked for each in pieces if isinstance(each, Answer)]


@pytest.mark.parametrize("executor", ["local", pytest.param("ray", marks=pytest.mark.slow)])
def test_questions_asked_at_once_are_answered_as_alone_in_fewer_passes(
    clip: Path, options: Options, tmp_path: Path, executor: str
) -> None:
    options = change(options, {"num_encoders": 1, "executor": executor}, source="the test")
    planned = plan_clip(sample_clip(str(clip), options), options, ASKED)
    found, num_passes = [], []
    for limit in (0, len(ASKED)):
        log = tmp_path / f"passes-{limit}"
        stages = doomed_stages(tmp_path, {}, options.model)
        stages["llm"] = partial(CountingModel, log, options.model)
        found.append(ask_at_once(options, stages, planned, limit))
        num_passes.append(log.stat().st_size)
    assert found[0] == found[1]
    assert len(set(found[0])) > 1
    assert 2 * num_passes[1] < num_passes[0]


@pytest.mark.slow
def test_questions_asked_at_once_survive_the_death_of_their_model(
    clip: Path, options: Options, tmp_path: Path
) -> None:
    planned = plan_clip(sample_clip(str(clip), options), options, ASKED)
    for name in ("alone", "killed"):
        (tmp_path / name).mkdir()
    stages = doomed_stages(tmp_path / "alone", {}, options.model)
    expected = ask_at_once(in_process(options), stages, planned, 0)
    deaths = {"answer-1": 2}
    stages = doomed_stages(tmp_path / "killed", deaths, options.model)
    assert ask_at_once(options, stages, planned, len(ASKED)) == expected
    assert deaths_in(tmp_path / "killed") == deaths


def answers_of_all_methods(
    clip: Path, options: Options, folder: Path, deaths: Deaths
) -> dict[str, tuple[str, dict[int, list[int]]]]:
    """Encode the clip once, and ask every method the same question."""
    changes: dict[str, dict[str, object]] = {name: {"pruner": name} for name in METHODS}
    changes["none"]["budget"] = None
    changes["question-aware"] = {"question_aware": True}
    variants = [change(options, each, source="the test") for each in changes.values()]
    asked = [Variant(options=variant, questions=(QUESTION,)) for variant in variants]
    plans = plan_clips(sample_clip(str(clip), options), asked)
    with open_engine(options, doomed_stages(folder, deaths, options.model)) as engine:
        encoded = encode(engine, plans[0])
        found = {}
        for name, each in zip(changes, plans, strict=True):
            assert each.clip is plans[0].clip
            *_, answer = ask(engine, allocate(engine, each, encoded), QUESTION)
            assert isinstance(answer, Answer)
            found[name] = (answer.answer, kept(answer))
    return found


@pytest.mark.slow
def test_every_method_keeps_and_answers_as_in_one_process(
    clip: Path, options: Options, tmp_path: Path
) -> None:
    options = change(options, {"num_frames": 12}, source="the test")
    for name in ("local", "ray"):
        (tmp_path / name).mkdir()
    expected = answers_of_all_methods(clip, in_process(options), tmp_path / "local", {})
    sizes = {name: sum(map(len, frames.values())) for name, (_, frames) in expected.items()}
    assert sizes.pop("none") > 200
    assert set(sizes.values()) == {200}
    deaths = {"encode-5": 1, "allocate": 2, "answer-1": 1}
    assert answers_of_all_methods(clip, options, tmp_path / "ray", deaths) == expected
    assert deaths_in(tmp_path / "ray") == deaths


def answer_all(
    clips: Sequence[Path], options: Options, folder: Path, deaths: Deaths, limit: int
) -> tuple[dict[str, tuple[str, dict[int, list[int]]]], dict[str, int]]:
    """Answer for many clips in flight; returns what came and every process' peak memory."""
    found = {}
    with open_engine(options, doomed_stages(folder, deaths, options.model)) as engine:
        plans = (plan(clip, options) for clip in clips)
        work = in_flight(lambda each: answer_clip(engine, each, [QUESTION]), plans, limit=limit)
        for each, answers in work:
            assert isinstance(answers, list), answers
            (answer,) = answers
            assert (answer.video, answer.warnings) == (each.clip.name, ())
            found[answer.video] = (answer.answer, kept(answer))
        return found, dict(engine.peak_memory_bytes)


@pytest.mark.slow
def test_twenty_clips_in_flight_are_answered_as_one_by_one(
    options: Options, tmp_path: Path
) -> None:
    for name in ("one by one", "few", "many"):
        (tmp_path / name).mkdir()
    clips = [
        draw_clip(tmp_path / f"{number}.mp4", num_frames=30 + 2 * number) for number in range(20)
    ]
    options = change(options, {"num_frames": 24, "budget": 120, "num_llms": 2}, source="the test")
    expected, _ = answer_all(clips, in_process(options), tmp_path / "one by one", {}, limit=1)
    assert len(expected) == 20
    few, few_memory = answer_all(clips[:4], options, tmp_path / "few", {}, limit=4)
    assert few.items() <= expected.items()
    # Twice each: what is on four deaths is given up, and suspects are tried again at once.
    deaths = {"read-9": 2, "encode-5": 2, "encode-17": 2, "allocate": 2, "answer-1": 2}
    many, memory = answer_all(clips, options, tmp_path / "many", deaths, limit=20)
    assert many == expected
    assert deaths_in(tmp_path / "many") == deaths
    few_peaks = by_kind(few_memory)
    for kind, peak in by_kind(memory).items():
        assert peak < few_peaks[kind] * 1.15 + 30 * 2**20, kind


def by_kind(memory: Mapping[str, int]) -> dict[str, int]:
    """Return the largest peak of each kind of worker: one may have had nothing to do."""
    peaks: dict[str, int] = {}
    for name, peak in memory.items():
        kind = name.partition("-")[0]
        peaks[kind] = max(peak, peaks.get(kind, 0))
    return peaks


@pytest.mark.slow
def test_stored_tokens_are_those_that_were_encoded_whoever_dies_over_them(
    clip: Path, options: Options, expected: Answer, tmp_path: Path
) -> None:
    deaths = {"load": 1, "save": 1}
    store, doom = open_store(str(tmp_path / "bank"), 1.0), tmp_path / "doom"
    doom.mkdir()
    with open_engine(options, doomed_stages(doom, deaths, options.model)) as engine:
        made, loaded = (
            answer_clip(engine, plan(clip, options), [QUESTION], store=store)[0] for _ in range(2)
        )
    assert deaths_in(doom) == deaths
    assert [each.bank for each in (made, loaded)] == [
        BankUse(hit=hit, made_for_budget=200) for hit in (False, True)
    ]
    for answer in (made, loaded):
        assert (answer.answer, kept(answer)) == (expected.answer, kept(expected))
        assert answer.warnings == ()
