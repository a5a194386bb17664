"""A token that stands for several weighs as many wherever it is attended to."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import DynamicCache

from tests.workers.llm.fastv_reference import slow_answer
from tests.workers.llm.test_fastv import KINDS, make_model
from tests.workers.llm.test_together import ask_alone, ask_together, make_questions
from tests.workers.llm.visual import (
    QUESTIONS,
    Asker,
    identified,
    random_frames,
    show_frames,
)
from workers.llm import row_attention
from workers.llm.answer import SamplingOptions
from workers.llm.proportional import SizedTokens
from workers.llm.rows import Row
from workers.visual import VisualSequence

SHORT = SamplingOptions(max_new_tokens=12)


@pytest.fixture(scope="module")
def plain(checkpoint: Path) -> VisualSequence:
    return show_frames(checkpoint, random_frames(0))


@pytest.fixture(scope="module")
def sized(plain: VisualSequence) -> VisualSequence:
    sizes = np.random.default_rng(0).integers(1, 60, len(plain.features))
    seen = np.arange(len(plain)) * 3  # the others could not be decoded
    return identified(plain, sizes=sizes, frame_indices=seen)


def said(asker: Asker, clip: VisualSequence, *texts: tuple[int, ...]) -> torch.Tensor:
    """The logits (texts, vocabulary) behind each of some texts, read one after another."""
    decoder, row = asker.model._decoder, Row(slot=0)
    prefix = decoder.prefill(clip, asker.prompt(clip, QUESTIONS[0]))
    return torch.cat([decoder.read(prefix, [row], [text]) for text in texts])


@pytest.mark.parametrize("layer", [None, 1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_those_of_a_plain_loop_over_the_layers(
    checkpoint: Path, tmp_path: Path, sized: VisualSequence, kind: str, layer: int | None
) -> None:
    asker = make_model(checkpoint, tmp_path / kind, kind)
    priority = np.random.default_rng(1).permutation(len(sized.features))
    changes: dict[str, Any] = {"num_keep": 15, "priority": priority, "reserve": 0.4}
    clip = identified(sized, prune_layer=layer, **changes if layer else {})
    for question in QUESTIONS:
        prompt = asker.prompt(clip, question)
        with torch.inference_mode():
            slow = slow_answer(asker.model._decoder._model, clip, prompt, 12)
        assert asker.ask(clip, question, sampling=SHORT) == slow.token_ids


@pytest.mark.parametrize("layer", [None, 1])
def test_sizes_change_what_is_said_and_sizes_of_one_change_no_bit(
    checkpoint: Path, plain: VisualSequence, sized: VisualSequence, layer: int | None
) -> None:
    asker = Asker(checkpoint)
    texts = [asker.prompt(plain, QUESTIONS[0]).question, (7,), (8, 9)]
    ones = identified(plain, sizes=np.ones(len(plain.features), np.int64))
    clips = [identified(each, prune_layer=layer, num_keep=999) for each in (plain, ones, sized)]
    expected, same, other = [said(asker, clip, *texts) for clip in clips]
    assert torch.equal(same, expected)
    assert (other - expected).abs().max() > 0.05


@pytest.mark.parametrize("kind", ["llama", "mistral_window"])
def test_a_prefix_that_is_read_in_parts_is_read_as_a_whole(
    checkpoint: Path,
    tmp_path: Path,
    sized: VisualSequence,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asker = make_model(checkpoint, tmp_path / kind, kind)
    texts = [asker.prompt(sized, QUESTIONS[0]).question, (7,)]
    whole = said(asker, sized, *texts)
    monkeypatch.setattr(row_attention, "MOST_QUERIES", 5)
    torch.testing.assert_close(said(asker, sized, *texts), whole, atol=1e-5, rtol=0)


def test_a_token_of_size_three_is_attended_to_as_three_are(
    checkpoint: Path, plain: VisualSequence
) -> None:
    """As transformers attends to copies of its keys and values, in its own cache."""
    asker = Asker(checkpoint)
    decoder, prompt = asker.model._decoder, asker.prompt(plain, QUESTIONS[0])
    sizes = np.ones(len(plain.features), np.int64)
    sizes[[2, 7]] = 3, 2
    clip = identified(plain, sizes=sizes)
    first = len(prompt.frame_segments[0])
    prefix, copies = decoder.prefill(clip, prompt), DynamicCache()
    length, question = len(prefix.positions), prompt.question
    places = sorted([*range(length), first + 2, first + 2, first + 7])
    for number, layer in enumerate(prefix.cache.layers):
        copies.update(*layer._held[:, :, places].split(1), number)
    with torch.inference_mode():
        expected = decoder._model(
            input_ids=torch.tensor([question]),
            position_ids=torch.arange(length, length + len(question))[None],
            past_key_values=copies,
        ).logits[0, -1:]
    torch.testing.assert_close(said(asker, clip, question), expected, atol=1e-4, rtol=0)
    assert (said(asker, plain, question) - expected).abs().max() > 0.01


def test_tokens_weigh_no_more_than_the_model_has_context_for(plain: VisualSequence) -> None:
    is_visual = torch.tensor([False] + [True] * len(plain.features) + [False])
    sizes = np.random.default_rng(2).integers(1, 9, len(plain.features))
    total = int(sizes.sum())
    kept = torch.arange(3, len(is_visual))  # without the text before, and two visual tokens
    for context in (total // 3, total - 1, total, 2 * total):
        sized = SizedTokens(identified(plain, sizes=sizes), is_visual, context)
        for bias, places in ((sized.log_sizes(), slice(None)), (sized.log_sizes(kept), kept)):
            assert bias is not None
            own = is_visual[places]
            assert bias[~own].tolist() == [0.0] * int((~own).sum())
            assert bias[own].exp().sum() == pytest.approx(min(total, context), rel=1e-4)
    ones = identified(plain, sizes=np.ones_like(sizes))
    assert SizedTokens(ones, is_visual, 5).log_sizes() is None


def test_questions_asked_together_are_answered_as_alone(
    checkpoint: Path, sized: VisualSequence
) -> None:
    asker = Asker(checkpoint)
    kinds: Any = [(SHORT, ()), (SHORT, ["red", "a red car"])]
    for clip in (sized, identified(sized, prune_layer=1, num_keep=20)):
        alone = ask_alone(asker, make_questions(asker, clip, kinds))
        assert ask_together(asker, make_questions(asker, clip, kinds)) == alone
        assert not any(isinstance(each, Exception) for each in alone)


def test_half_precision_works(checkpoint: Path, sized: VisualSequence) -> None:
    asker = Asker(checkpoint, dtype=torch.bfloat16)
    for clip in (sized, identified(sized, prune_layer=2, num_keep=20)):
        assert len(asker.ask(clip, QUESTIONS[0])) > 0
