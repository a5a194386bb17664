"""The embedded checkpoint and the second truly answer, on clips they have never seen."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import pytest
from transformers import AutoProcessor, LlavaNextForConditionalGeneration

import training
from streaming.engine import open_engine
from streaming.evaluate.questions import Question, is_right, read_questions
from streaming.flags import change
from streaming.options import Options
from streaming.pipeline import answer_clip, ask, in_flight, watch
from streaming.plan import plan_clip
from streaming.result import Answer
from streaming.sample import sample_clip
from training.make_set import draw_set
from training.questions import TIMED, TYPES
from workers.checkpoint import locate
from workers.run.engine import Engine

SECOND = str(Path(training.__path__[0], "second"))
OPTIONS = change(Options(), {"max_new_tokens": 8, "timestamps": True}, source="the test")
LEAST_SHORT, LEAST_LONG, LEAST_OF_A_TYPE = 0.95, 0.8, 0.4
LEAST_PRUNED, LEAST_CHOSEN = 0.75, 0.5
"""What is asked of a tenth of the tokens, and of lists of answers, which it never saw."""


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten clips of one and of six frames, of all shapes, drawn with a seed of their own."""
    folder: Path = tmp_path_factory.mktemp("clips")
    return draw_set(folder, seed=99, clips_per_kind=1, num_frames=(1, 6))


@pytest.fixture(scope="module", params=["embedded", SECOND], ids=["embedded", "second"])
def options(request: pytest.FixtureRequest) -> Options:
    return change(OPTIONS, {"model": request.param}, source="the test")


@pytest.fixture(scope="module")
def engine(options: Options) -> Iterator[Engine]:
    with open_engine(options) as engine:
        yield engine


def answers_right(
    engine: Engine, options: Options, groups: Sequence[list[Question]], keep_ratio: float = 1.0
) -> list[tuple[str, bool]]:
    """Ask clips their questions; return the type of each, and whether the answer is right."""
    options = change(options, {"keep_ratio": keep_ratio}, source="the test")

    def answer(group: list[Question]) -> list[tuple[str, bool]]:
        seen = change(options, {"num_frames": group[0].num_frames}, source="the test")
        texts = [question.text for question in group]
        plan = plan_clip(sample_clip(group[0].clip, seen), seen, texts)
        answers = answer_clip(engine, plan, texts)
        return [
            (question.type, is_right(given.answer, question.answers, question.tolerance))
            for given, question in zip(answers, group, strict=True)
        ]

    right: list[tuple[str, bool]] = []
    for _, outcome in in_flight(answer, groups, limit=4):
        assert isinstance(outcome, list), outcome
        right += outcome
    return right


def share(right: Sequence[bool]) -> float:
    return sum(right) / len(right)


@pytest.mark.parametrize(("keep_ratio", "least"), [(1.0, LEAST_SHORT), (0.1, LEAST_PRUNED)])
def test_it_answers_most_questions(
    engine: Engine, options: Options, questions: Path, keep_ratio: float, least: float
) -> None:
    right = answers_right(engine, options, read_questions(questions), keep_ratio)
    assert len(right) > 80
    assert share([each for _, each in right]) >= least


@pytest.mark.slow
def test_it_answers_every_type_of_question_about_long_clips(
    engine: Engine, options: Options, tmp_path: Path
) -> None:
    path = draw_set(tmp_path, seed=99, clips_per_kind=2, num_frames=(16, 32, 64), num_questions=14)
    right = answers_right(engine, options, read_questions(path))
    by_type: dict[str, list[bool]] = defaultdict(list)
    for type_, each in right:
        by_type[type_].append(each)
    assert set(by_type) == set(TYPES)
    assert share([each for _, each in right]) >= LEAST_LONG
    # the second knows hardly any times in long clips
    known = {type_: share(each) for type_, each in by_type.items() if type_ not in TIMED}
    assert min(known.values()) >= LEAST_OF_A_TYPE, known


def test_it_chooses_the_right_answer_of_several(
    engine: Engine, options: Options, questions: Path
) -> None:
    groups = read_questions(questions)
    answers: dict[str, set[str]] = {}
    for question in chain.from_iterable(groups):
        answers.setdefault(question.type, set()).add(question.answers[0])
    right = []
    for group in groups[::2]:
        seen = change(options, {"num_frames": group[0].num_frames}, source="the test")
        sampled = sample_clip(group[0].clip, seen)
        watched = watch(engine, plan_clip(sampled, seen, [question.text for question in group]))
        for question in (each for each in group if len(answers[each.type]) > 1):
            others = sorted(answers[question.type] - {*question.answers})[:5]
            choices = sorted([*question.answers, *others])
            *_, answer = ask(engine, watched, question.text, choices=choices)
            assert isinstance(answer, Answer)
            assert answer.answer in choices
            right.append(answer.answer in question.answers)
    assert len(right) > 30
    assert share(right) > LEAST_CHOSEN


@pytest.mark.parametrize("name", ["embedded", SECOND], ids=["embedded", "second"])
def test_it_is_an_ordinary_checkpoint_of_transformers(name: str) -> None:
    folder = Path(locate(name))
    assert sum(file.stat().st_size for file in folder.iterdir()) < 20_000_000
    model = LlavaNextForConditionalGeneration.from_pretrained(folder)
    processor = AutoProcessor.from_pretrained(folder)
    assert model.config.image_token_id == processor.image_token_id
