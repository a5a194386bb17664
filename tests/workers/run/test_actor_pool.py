"""Ray actors: the same answer as in one process, whoever dies on the way."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from streaming.config import PRUNERS, Options
from streaming.pipeline import ask, choose, encode, open_pool, watch
from streaming.plan import open_source, plan_clip
from streaming.result import Answer
from tests.clips import draw_clip
from tests.faults import Deaths, doomed_makers

QUESTION = "what number is shown first?"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_clip(tmp_path_factory.mktemp("clips") / "numbers.mp4", num_frames=60)


@pytest.fixture(scope="module")
def options(checkpoint: Path) -> Options:
    return Options(
        model=str(checkpoint),
        num_frames=40,
        budget=200,
        max_new_tokens=12,
        frames_per_chunk=4,
        num_decoders=2,
        num_encoders=2,
    )


def run(clip: Path, options: Options, folder: Path, deaths: Deaths) -> Answer:
    """Ask the question with stages that die as told."""
    source = open_source(str(clip), options)
    with open_pool(options, doomed_makers(folder, deaths)) as pool:
        watched = watch(pool, source, options, [QUESTION], started=time.perf_counter())
        *pieces, answer = ask(pool, watched, options, QUESTION)
    assert isinstance(answer, Answer)
    assert "".join(map(str, pieces)).strip() == answer.answer
    return answer


@pytest.fixture(scope="module")
def expected(clip: Path, options: Options, tmp_path_factory: pytest.TempPathFactory) -> Answer:
    """The answer of the same stages in this process, undisturbed."""
    return run(clip, replace(options, executor="local"), tmp_path_factory.mktemp("doom"), {})


def kept(answer: Answer) -> dict[int, list[int]]:
    return {frame.frame_index: frame.keep_indices.tolist() for frame in answer.frames}


def deaths_in(folder: Path) -> dict[str, int]:
    return {log.stem: len(log.read_text().splitlines()) for log in folder.iterdir()}


@pytest.mark.parametrize(
    "deaths",
    [
        {},
        {"decode-21": 1, "encode-9": 1, "encode-33": 2, "select": 1, "answer-1": 1},
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
    assert answer.num_visual_tokens == options.budget
    workers = ("decoder-0", "decoder-1", "encoder-0", "encoder-1", "language-model")
    assert set(answer.peak_memory_bytes) == {"driver", *workers}


def test_a_frame_that_kills_its_worker_three_times_is_left_out_and_named(
    clip: Path, options: Options, expected: Answer, tmp_path: Path
) -> None:
    answer = run(clip, options, tmp_path, {"decode-6": 99, "encode-30": 99})
    assert deaths_in(tmp_path) == {"decode-6": 3, "encode-30": 3}
    assert sorted(kept(answer)) == sorted(set(kept(expected)) - {6, 30})
    times = {frame.frame_index: frame.pts_seconds for frame in expected.frames}
    assert answer.warnings == (
        f"{clip}: the frame at {times[6]:.3f} s killed its decoder 3 times and is left out",
        f"{clip}: the frame at {times[30]:.3f} s killed its encoder 3 times and is left out",
    )
    assert answer.num_visual_tokens == options.budget


def answers_of_all_methods(
    clip: Path, options: Options, folder: Path, deaths: Deaths
) -> dict[str, tuple[str, dict[int, list[int]]]]:
    """Encode the clip once, and ask every method the same question."""
    source = open_source(str(clip), options)
    with open_pool(options, doomed_makers(folder, deaths)) as pool:
        plans = [
            plan_clip(
                source,
                replace(options, pruner=name, budget=None if name == "none" else options.budget),
                [QUESTION],
                pool.measure,
                num_segments=2,
                thumbnail_width=0,
            )
            for name in PRUNERS
        ]
        encoded = encode(pool, source, plans, started=time.perf_counter())
        found = {}
        for place, name in enumerate(PRUNERS):
            *_, answer = ask(pool, choose(pool, encoded, place), options, QUESTION)
            assert isinstance(answer, Answer)
            found[name] = (answer.answer, kept(answer))
    return found


def test_every_method_keeps_and_answers_as_in_one_process(
    clip: Path, options: Options, tmp_path: Path
) -> None:
    options = replace(options, num_frames=12)
    for name in ("local", "ray"):
        (tmp_path / name).mkdir()
    local = replace(options, executor="local")
    expected = answers_of_all_methods(clip, local, tmp_path / "local", {})
    sizes = {name: sum(map(len, frames.values())) for name, (_, frames) in expected.items()}
    assert sizes.pop("none") > 200
    assert set(sizes.values()) == {200}
    deaths = {"encode-5": 1, "select": 2, "answer-1": 1}
    assert answers_of_all_methods(clip, options, tmp_path / "ray", deaths) == expected
    assert deaths_in(tmp_path / "ray") == deaths
