from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoProcessor, LlavaNextForConditionalGeneration

from tests.workers.llm.visual import (
    GREEDY,
    QUESTIONS,
    Asker,
    identified,
    random_frames,
    show_frames,
)
from workers.arrays import UInt8Array, pack
from workers.errors import ContextError
from workers.llm.answer import MOST_TOGETHER, GeneratedAnswer, SamplingOptions
from workers.visual import VisualSequence


@pytest.fixture(scope="module")
def asker(checkpoint: Path) -> Asker:
    return Asker(checkpoint)


@pytest.fixture(scope="module")
def clip(checkpoint: Path) -> VisualSequence:
    return show_frames(checkpoint, random_frames(0))


@pytest.fixture(scope="module")
def reference(checkpoint: Path) -> Any:
    """Answer as transformers does: (frames, question) -> token ids."""
    processor = AutoProcessor.from_pretrained(checkpoint)
    whole = LlavaNextForConditionalGeneration.from_pretrained(checkpoint).eval()

    def generate(frames: list[UInt8Array], question: str) -> list[int]:
        content = [{"type": "image"}] * len(frames) + [{"type": "text", "text": question}]
        text = processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True
        )
        inputs = processor(images=frames, text=text, add_special_tokens=False, return_tensors="pt")
        with torch.inference_mode():
            ids = whole.generate(**inputs, max_new_tokens=24, do_sample=False)
        tokens: list[int] = ids[0, inputs["input_ids"].shape[1] :].tolist()
        return tokens

    return generate


@pytest.mark.parametrize("seed", [0, 1])
def test_unpruned_frames_are_answered_as_transformers_does(
    checkpoint: Path, asker: Asker, reference: Any, seed: int
) -> None:
    frames = list(random_frames(seed))
    visual = show_frames(checkpoint, frames)
    for question in QUESTIONS:
        assert asker.ask(visual, question) == reference(frames, question)


def test_frames_of_different_sizes_are_answered_as_transformers_does(
    checkpoint: Path, asker: Asker, reference: Any
) -> None:
    wide, *_ = random_frames(2)
    frames = [wide, wide.transpose(1, 0, 2).copy(), wide[:, :72].copy()]
    visual = show_frames(checkpoint, frames)
    assert len(set(visual.frame_lengths.tolist())) > 1
    original = identified(visual, compact_positions=False)
    for question in QUESTIONS:
        expected = reference(frames, question)
        assert asker.ask(visual, question) == expected
        assert asker.ask(original, question) == expected


def test_answers_follow_the_question_and_the_frames(checkpoint: Path, asker: Asker) -> None:
    clips = [show_frames(checkpoint, random_frames(seed)) for seed in range(3)]
    answers = [tuple(asker.ask(clip, question)) for clip in clips for question in QUESTIONS]
    assert len(set(answers)) == len(answers)
    assert max(map(len, answers)) == 24


def test_the_order_of_frames_matters(checkpoint: Path, asker: Asker, clip: VisualSequence) -> None:
    backward = show_frames(checkpoint, random_frames(0)[::-1].copy())
    assert asker.ask(clip, QUESTIONS[0]) != asker.ask(backward, QUESTIONS[0])


def test_the_pieces_make_up_the_text_of_the_tokens(
    checkpoint: Path, asker: Asker, clip: VisualSequence
) -> None:
    *pieces, answer = asker.pieces(clip, QUESTIONS[0])
    assert isinstance(answer, GeneratedAnswer)
    decode = AutoProcessor.from_pretrained(checkpoint).tokenizer.decode
    assert "".join(pieces) == decode(answer.token_ids, skip_special_tokens=True)
    assert answer.text == "".join(pieces).strip()
    assert answer.num_text_tokens == asker.prompt(clip, QUESTIONS[0]).num_text_tokens
    assert answer.keep_indices is None
    assert answer.seconds.keys() == {"prefill", "generate"}
    assert len(pieces) > 1
    assert all(pieces)


@pytest.fixture
def lengths(asker: Asker, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Number of positions in each forward pass of the language model."""
    passes: list[int] = []
    net = asker.model._decoder._model.model
    forward = net.forward

    def spy(*args: Any, **options: Any) -> Any:
        embeds = options.get("inputs_embeds")
        passes.append((options["input_ids"] if embeds is None else embeds).shape[1])
        return forward(*args, **options)

    monkeypatch.setattr(net, "forward", spy)
    return passes


def test_a_clip_is_read_once(checkpoint: Path, asker: Asker, lengths: list[int]) -> None:
    visual = show_frames(checkpoint, random_frames(7))
    prompts = [asker.prompt(visual, question) for question in QUESTIONS]
    for prompt in prompts:
        list(asker.model.generate(visual, prompt, SamplingOptions(max_new_tokens=2)))
    prefix = len(visual.features) + sum(map(len, prompts[0].frame_segments))
    # where a row's bits depend on the number of rows, single tokens are filled up
    single = 1 if asker.model._decoder._rows_are_alike else MOST_TOGETHER
    questions = [[len(prompt.question), single] for prompt in prompts]
    assert lengths == [prefix, *chain.from_iterable(questions)]


def test_timestamps_are_part_of_the_prompt(asker: Asker, clip: VisualSequence) -> None:
    stamps = [[""] * 3, ["[0.0s] ", "[1.0s] ", "[2.0s] "], ["[5.0s] ", "[6.0s] ", "[7.0s] "]]
    answers = {tuple(asker.ask(clip, QUESTIONS[0], stamps=each)) for each in stamps}
    assert len(answers) == 3


def test_positions_differ_only_where_something_is_pruned(
    checkpoint: Path, asker: Asker, clip: VisualSequence
) -> None:
    pruned = show_frames(checkpoint, random_frames(0), step=2)
    question = QUESTIONS[0]
    original, original_pruned = (
        identified(each, compact_positions=False) for each in (clip, pruned)
    )
    assert asker.ask(original, question) == asker.ask(clip, question)
    assert asker.ask(original_pruned, question) != asker.ask(pruned, question)


def test_drawn_answers_repeat_with_their_seed(asker: Asker, clip: VisualSequence) -> None:
    hot = [SamplingOptions(max_new_tokens=12, temperature=1.0, seed=seed) for seed in range(4)]
    answers = [tuple(asker.ask(clip, QUESTIONS[0], sampling=each)) for each in hot]
    assert [tuple(asker.ask(clip, QUESTIONS[0], sampling=each)) for each in hot] == answers
    assert len(set(answers)) > 1
    assert len(asker.ask(clip, QUESTIONS[0], sampling=SamplingOptions(max_new_tokens=3))) == 3


def test_features_travel_as_bits(asker: Asker, clip: VisualSequence) -> None:
    half = torch.from_numpy(clip.features).bfloat16()
    as_bits = identified(clip, features=pack(half), dtype="bfloat16")
    as_floats = identified(clip, features=pack(half.float()))
    assert as_bits.features.dtype == np.uint16
    assert asker.ask(as_bits, QUESTIONS[0]) == asker.ask(as_floats, QUESTIONS[0])


def test_a_question_that_leaves_the_context_is_refused(asker: Asker, clip: VisualSequence) -> None:
    expected = asker.ask(clip, QUESTIONS[0])
    with pytest.raises(ContextError, match=r"model's context holds 32768: lower --max-new-tokens"):
        asker.ask(clip, QUESTIONS[0], sampling=SamplingOptions(max_new_tokens=32_768))
    with pytest.raises(ContextError, match=r"tokens of the question .* shorter by"):
        asker.ask(clip, "What color is the cat? " * 6_000)
    assert asker.ask(clip, QUESTIONS[0]) == expected


def test_a_prompt_about_other_frames_is_refused(asker: Asker, clip: VisualSequence) -> None:
    prompt = asker.template.build("Why?", [""] * 2)
    with pytest.raises(ValueError, match=r"another number of frames: .* = 2 .* = 3"):
        list(asker.model.generate(clip, prompt, GREEDY))
