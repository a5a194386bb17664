"""Another language model behind the same clip: what it is shown, and what it cannot do."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from streaming.engine import open_engine
from streaming.flags import change
from streaming.options import Options
from streaming.pipeline import answer_clip
from streaming.plan import plan_clip
from streaming.result import Answer
from streaming.sample import sample_clip
from tests.clips import draw_clip
from tests.workers.llm.vllm_server import serving
from workers.errors import InputError
from workers.messages import GenerateRequest
from workers.stages import EncodeStage, GenerateStage, ReadStage, Result
from workers.visual import VisualSequence

QUESTIONS = ["What color is the cat?", "How many people are there?"]


@pytest.fixture(scope="module")
def options(checkpoint: Path) -> Options:
    return changed(
        Options(), model=str(checkpoint), device="cpu", num_frames=4, budget=60, max_new_tokens=6
    )


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(draw_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", num_frames=30))


def changed(options: Options, **values: Any) -> Options:
    return change(options, values, source="the test")


class _Shown(GenerateStage):
    """Notes what the language model is shown."""

    digests: set[str]

    def run(self, request: GenerateRequest, visual: VisualSequence) -> Iterator[Result]:
        self.digests.add(hashlib.sha256(visual.features.tobytes()).hexdigest())
        return super().run(request, visual)


def answers(clip: str, options: Options) -> tuple[list[Answer], set[str]]:
    shown: set[str] = set()
    stage = type("Shown", (_Shown,), {"digests": shown})
    stages: dict[str, Any] = {
        "decoder": ReadStage,
        "encoder": partial(EncodeStage, options.model),
        "llm": partial(stage, options.model),
    }
    with open_engine(options, stages) as engine:
        plan = plan_clip(sample_clip(clip, options), options, QUESTIONS)
        return answer_clip(engine, plan, QUESTIONS), shown


def kept(answer: Answer) -> list[list[int]]:
    return [frame.keep_indices.tolist() for frame in answer.frames]


def test_a_served_language_model_gives_the_answers_of_one_here_without_gaps(
    checkpoint: Path, clip: str, options: Options
) -> None:
    here, shown_here = answers(clip, changed(options, position_ids="compact"))
    with serving(checkpoint) as server:
        there, shown_there = answers(clip, changed(options, llm_server=server.url))
    assert [a.answer for a in there] == [a.answer for a in here]
    assert [kept(a) for a in there] == [kept(a) for a in here]
    assert shown_there == shown_here
    assert len(shown_here) == 1


def test_kept_tokens_are_bit_equal_whatever_the_language_model_is_held_in(
    clip: str, options: Options
) -> None:
    pytest.importorskip("torchao", reason="the extra quantize is not installed")
    whole, shown_whole = answers(clip, options)
    held, shown_held = answers(clip, changed(options, llm_weights="int8"))
    assert shown_held == shown_whole
    assert [kept(a) for a in held] == [kept(a) for a in whole]


URL = "http://127.0.0.1:9"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"llm_server": URL, "pruner": "fastv"}, "--pruner fastv leaves tokens out"),
        ({"llm_server": URL, "question_aware": True}, "--question-aware leaves tokens out"),
        ({"llm_server": URL, "attention": "proportional"}, "--attention proportional: --llm-ser"),
        ({"llm_server": URL, "position_ids": "original"}, "numbers tokens without gaps"),
        ({"llm_server": URL, "llm_weights": "int8"}, "--llm-server holds the weights"),
        ({"llm_key_file": "key"}, "--llm-key-file is that of --llm-server"),
    ],
)
def test_what_a_back_end_cannot_do_is_refused_before_anything_starts(
    values: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        changed(replace(Options()), **values)
