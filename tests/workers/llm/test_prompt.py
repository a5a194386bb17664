from itertools import chain, pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlavaNextProcessor

from workers.errors import InputError, ModelError
from workers.llm.prompt import Prompt, build_prompt, join_positions, time_mark

QUESTIONS = ["What color is the cat?", "Why?", "  spaces kept  ", "line\nbreak", "naïve 猫 <s>"]


@pytest.fixture(scope="module")
def processor(checkpoint: Path) -> Any:
    return LlavaNextProcessor.from_pretrained(checkpoint)


def render(processor: Any, question: str, num_frames: int) -> str:
    content = [{"type": "image"}] * num_frames + [{"type": "text", "text": question}]
    text: str = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True
    )
    return text


def collapse(ids: list[int], image_token_id: int) -> list[int]:
    """Make one placeholder of each run of them; pictures here are never side by side."""
    kept = [True, *(pair != (image_token_id,) * 2 for pair in pairwise(ids))]
    return [token for token, keep in zip(ids, kept, strict=True) if keep]


def join(prompt: Prompt, image_token_id: int) -> list[int]:
    segments = [[*segment, image_token_id] for segment in prompt.frame_segments]
    return [*chain.from_iterable(segments), *prompt.question]


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("num_frames", [1, 2, 5])
def test_ids_are_those_of_the_processor(processor: Any, question: str, num_frames: int) -> None:
    prompt = build_prompt(processor, question, [""] * num_frames)
    images = list(np.zeros((num_frames, 72, 128, 3), np.uint8))
    expected = processor(
        images=images, text=render(processor, question, num_frames), add_special_tokens=False
    )["input_ids"][0]
    image_token_id = processor.image_token_id
    assert len(prompt.frame_segments) == num_frames
    assert join(prompt, image_token_id) == collapse(expected, image_token_id)
    assert prompt.num_text_tokens == sum(token != image_token_id for token in expected)


def test_the_opening_token_comes_once(processor: Any) -> None:
    prompt = build_prompt(processor, "Why?", [""])
    ids = [*prompt.frame_segments[0], *prompt.question]
    assert ids[0] == processor.tokenizer.bos_token_id
    assert ids.count(processor.tokenizer.bos_token_id) == 1


def test_the_opening_token_is_added_where_the_template_leaves_it_to_the_tokenizer(
    processor: Any,
) -> None:
    calls = []

    def tokenize(text: str, **options: Any) -> Any:
        calls.append((text, options))
        return processor.tokenizer(text, **options)

    tokenizer = type("Tokenizer", (), {"bos_token": "<s>", "__call__": staticmethod(tokenize)})
    stand_in = SimpleNamespace(
        image_token="<image>",
        image_token_id=processor.image_token_id,
        tokenizer=tokenizer(),
        apply_chat_template=lambda messages, **options: "<image>Why?",
    )
    build_prompt(stand_in, "Why?", [""])
    assert calls == [("<image>Why?", {"add_special_tokens": True})]


def test_a_mark_stands_right_before_its_frame(processor: Any) -> None:
    marks = [time_mark(0.0), time_mark(12.34), time_mark(3600)]
    assert marks == ["[0.0s] ", "[12.3s] ", "[3600.0s] "]
    prompt = build_prompt(processor, "Why?", marks)
    plain = build_prompt(processor, "Why?", [""] * 3)
    decode = processor.tokenizer.decode
    for marked, unmarked, mark in zip(
        prompt.frame_segments, plain.frame_segments, marks, strict=True
    ):
        assert decode(marked) == decode(unmarked) + mark
    assert prompt.question == plain.question


@pytest.mark.parametrize("question", ["<image>", "What is <image> here?"])
def test_a_question_cannot_spell_the_placeholder(processor: Any, question: str) -> None:
    with pytest.raises(InputError, match="the question contains '<image>', which the model"):
        build_prompt(processor, question, [""])


@pytest.mark.parametrize("rendered", ["Why?<image><image>", "<image>Why?", "<image><image>What?"])
def test_a_template_of_another_order_is_refused(processor: Any, rendered: str) -> None:
    stand_in = SimpleNamespace(
        image_token="<image>",
        image_token_id=processor.image_token_id,
        tokenizer=processor.tokenizer,
        apply_chat_template=lambda messages, **options: rendered,
    )
    with pytest.raises(ModelError, match="chat template does not put the images before the text"):
        build_prompt(stand_in, "Why?", ["", ""])


PROMPT = Prompt(frame_segments=((1, 2, 3), (4,), ()), question=(5, 6))
KEPT = [torch.tensor([0, 2, 9]), torch.tensor([4]), torch.tensor([1, 8])]


def test_compact_positions_have_no_gaps() -> None:
    positions = join_positions(PROMPT, KEPT, 10, compact=True)
    assert positions.dtype == torch.int64
    assert positions.tolist() == list(range(10))


def test_original_positions_are_those_of_the_unpruned_sequence() -> None:
    positions = join_positions(PROMPT, KEPT, 10, compact=False)
    first, second, third = [3, 5, 12], [14 + 4], [24 + 1, 24 + 8]
    assert positions.tolist() == [0, 1, 2, *first, 13, *second, *third]


def test_positions_agree_where_nothing_is_pruned() -> None:
    kept = [torch.arange(10)] * 3
    compact = join_positions(PROMPT, kept, 10, compact=True)
    assert torch.equal(compact, join_positions(PROMPT, kept, 10, compact=False))
    assert len(compact) == 34
