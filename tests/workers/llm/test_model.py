from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoProcessor, LlavaNextForConditionalGeneration

from workers.llm.model import LanguageModel
from workers.llm.sequence import VisualSequence
from workers.messages import SamplingOptions, UInt8Array
from workers.vision.encoder import VisionEncoder

QUESTIONS = ["What color is the cat?", "How many people are there?", "Where is the red car?"]
GREEDY = SamplingOptions(max_new_tokens=24)


def random_frames(seed: int, num_frames: int = 3) -> UInt8Array:
    coarse = np.random.default_rng(seed).integers(0, 256, (num_frames, 9, 16, 3), np.uint8)
    return coarse.repeat(8, axis=1).repeat(8, axis=2)


def watch_frames(
    checkpoint: Path, frames: UInt8Array, *, step: int = 1, marks: tuple[str, ...] = ()
) -> VisualSequence:
    """Keep every ``step``-th token of each frame; with 1 nothing is pruned."""
    encoder = VisionEncoder(str(checkpoint), device="cpu", dtype=torch.float32)
    features = encoder.encode(frames)
    newline = features.newline.expand(*features.grid.shape[:2], 1, -1)
    rows = torch.cat([features.grid, newline], dim=2).flatten(1, 2)
    flat = torch.cat([features.base, rows], dim=1)
    kept = torch.arange(0, flat.shape[1], step)
    return VisualSequence(
        features=tuple(flat[:, kept]),
        keep_indices=(kept,) * len(frames),
        marks=marks or ("",) * len(frames),
        frame_length=flat.shape[1],
    )


def load_model(folder: Path, **options: Any) -> LanguageModel:
    settings = {"device": "cpu", "dtype": torch.float32} | options
    model = LanguageModel(str(folder), **settings)
    model.load()
    return model


def answer(model: LanguageModel, question: str, sampling: SamplingOptions = GREEDY) -> list[int]:
    clip = model._clip
    assert clip is not None
    list(model.answer(model.prompt(question, clip.marks), sampling))
    return list(model.token_ids)


def fresh_answer(model: LanguageModel, clip: VisualSequence, question: str) -> list[int]:
    model.set_clip(clip)
    return answer(model, question)


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> LanguageModel:
    return load_model(checkpoint)


@pytest.fixture(scope="module")
def clip(checkpoint: Path) -> VisualSequence:
    return watch_frames(checkpoint, random_frames(0))


@pytest.fixture(scope="module")
def reference(checkpoint: Path) -> Any:
    """Answer as transformers does: (frames, question) -> token ids."""
    processor = AutoProcessor.from_pretrained(checkpoint)
    whole = LlavaNextForConditionalGeneration.from_pretrained(checkpoint).eval()

    def generate(frames: UInt8Array, question: str) -> list[int]:
        content = [{"type": "image"}] * len(frames) + [{"type": "text", "text": question}]
        text = processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True
        )
        inputs = processor(
            images=list(frames), text=text, add_special_tokens=False, return_tensors="pt"
        )
        with torch.inference_mode():
            ids = whole.generate(**inputs, max_new_tokens=24, do_sample=False)
        tokens: list[int] = ids[0, inputs["input_ids"].shape[1] :].tolist()
        return tokens

    return generate


@pytest.mark.parametrize("seed", [0, 1])
def test_unpruned_frames_are_answered_as_transformers_does(
    checkpoint: Path, model: LanguageModel, reference: Any, seed: int
) -> None:
    frames = random_frames(seed)
    model.set_clip(watch_frames(checkpoint, frames))
    for question in QUESTIONS:
        assert answer(model, question) == reference(frames, question)


def test_answers_follow_the_question_and_the_frames(checkpoint: Path, model: LanguageModel) -> None:
    clips = [watch_frames(checkpoint, random_frames(seed)) for seed in range(3)]
    answers = [
        tuple(fresh_answer(model, clip, question)) for clip in clips for question in QUESTIONS
    ]
    assert len(set(answers)) == len(answers)
    assert max(map(len, answers)) == 24


def test_the_order_of_frames_matters(checkpoint: Path, model: LanguageModel) -> None:
    frames = random_frames(0)
    forward = fresh_answer(model, watch_frames(checkpoint, frames), QUESTIONS[0])
    backward = fresh_answer(model, watch_frames(checkpoint, frames[::-1].copy()), QUESTIONS[0])
    assert forward != backward


def test_the_pieces_make_up_the_text_of_the_tokens(
    model: LanguageModel, clip: VisualSequence
) -> None:
    model.set_clip(clip)
    pieces = list(model.answer(model.prompt(QUESTIONS[0], clip.marks), GREEDY))
    tokenizer = model.processor.tokenizer
    assert "".join(pieces) == tokenizer.decode(model.token_ids, skip_special_tokens=True)
    assert len(pieces) > 1
    assert all(pieces)


@pytest.fixture
def lengths(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Number of positions in each forward pass of the language model."""
    passes: list[int] = []
    forward = model._model.model.forward

    def spy(*args: Any, **options: Any) -> Any:
        embeds = options.get("inputs_embeds")
        passes.append((options["input_ids"] if embeds is None else embeds).shape[1])
        return forward(*args, **options)

    monkeypatch.setattr(model._model.model, "forward", spy)
    return passes


def test_a_clip_is_prefilled_once(
    model: LanguageModel, clip: VisualSequence, lengths: list[int]
) -> None:
    model.set_clip(clip)
    prompts = [model.prompt(question, clip.marks) for question in QUESTIONS]
    for prompt in prompts:
        list(model.answer(prompt, SamplingOptions(max_new_tokens=2)))
    prefix = 3 * clip.frame_length + sum(map(len, prompts[0].frame_segments))
    questions = [[len(prompt.question), 1] for prompt in prompts]
    assert lengths == [prefix, *chain.from_iterable(questions)]
    model.set_clip(clip)
    model.prefill(prompts[0])
    assert lengths[-1] == prefix


def test_later_answers_are_those_of_a_fresh_model(
    model: LanguageModel, clip: VisualSequence
) -> None:
    fresh = [fresh_answer(model, clip, question) for question in QUESTIONS]
    model.set_clip(clip)
    assert [answer(model, question) for question in QUESTIONS] == fresh
    assert [answer(model, question) for question in reversed(QUESTIONS)] == fresh[::-1]


def test_an_answer_that_is_broken_off_leaves_the_next_one_whole(
    model: LanguageModel, clip: VisualSequence
) -> None:
    expected = fresh_answer(model, clip, QUESTIONS[1])
    model.set_clip(clip)
    pieces: Iterator[str] = model.answer(model.prompt(QUESTIONS[0], clip.marks), GREEDY)
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    assert answer(model, QUESTIONS[1]) == expected


def test_marks_are_part_of_the_prompt(checkpoint: Path, model: LanguageModel) -> None:
    frames = random_frames(0)
    plain = watch_frames(checkpoint, frames)
    marked = watch_frames(checkpoint, frames, marks=("[0.0s] ", "[1.0s] ", "[2.0s] "))
    other = watch_frames(checkpoint, frames, marks=("[5.0s] ", "[6.0s] ", "[7.0s] "))
    answers = {tuple(fresh_answer(model, clip, QUESTIONS[0])) for clip in (plain, marked, other)}
    assert len(answers) == 3


def test_positions_differ_only_where_something_is_pruned(
    checkpoint: Path, model: LanguageModel, clip: VisualSequence
) -> None:
    pruned = watch_frames(checkpoint, random_frames(0), step=2)
    question = QUESTIONS[0]
    original, original_pruned = (replace(each, compact_positions=False) for each in (clip, pruned))
    assert fresh_answer(model, original, question) == fresh_answer(model, clip, question)
    compact_answer = fresh_answer(model, pruned, question)
    num_kept = sum(
        map(len, [*pruned.features, *model.prompt(question, pruned.marks).frame_segments])
    )
    assert model._positions.tolist() == list(range(num_kept))
    assert fresh_answer(model, original_pruned, question) != compact_answer
    steps = {after - before for before, after in pairwise(model._positions.tolist())}
    assert steps == {1, 2}


def test_drawn_answers_repeat_with_their_seed(model: LanguageModel, clip: VisualSequence) -> None:
    model.set_clip(clip)
    hot = [SamplingOptions(max_new_tokens=12, temperature=1.0, seed=seed) for seed in range(4)]
    answers = [tuple(answer(model, QUESTIONS[0], sampling)) for sampling in hot]
    assert [tuple(answer(model, QUESTIONS[0], sampling)) for sampling in hot] == answers
    assert len(set(answers)) > 1
    assert len(answer(model, QUESTIONS[0], SamplingOptions(max_new_tokens=3))) == 3
