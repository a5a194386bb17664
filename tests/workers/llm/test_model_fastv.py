from pathlib import Path

import numpy as np
import pytest
import torch

from tests.workers.llm.test_fastv import assert_untouched, key_lengths
from tests.workers.llm.visual import (
    QUESTIONS,
    Asker,
    identified,
    random_frames,
    show_frames,
)
from workers.arrays import Int64Array
from workers.errors import InputError
from workers.llm.decoder import Prefix
from workers.llm.rows import Row
from workers.visual import VisualSequence


def held_prefixes(asker: Asker) -> list[Prefix]:
    return [entry for entry, _ in asker.model._prefixes._entries.values()]


def lengths(prefix: Prefix) -> list[int]:
    return [layer.get_seq_length() for layer in prefix.cache.layers]


def kept(asker: Asker, visual: VisualSequence, question: str) -> tuple[Int64Array, ...]:
    indices = asker.whole(visual, question).keep_indices
    assert indices is not None
    return indices


@pytest.fixture
def asker(checkpoint: Path) -> Asker:
    return Asker(checkpoint)


@pytest.fixture(scope="module")
def whole(checkpoint: Path) -> VisualSequence:
    return show_frames(checkpoint, random_frames(0))


@pytest.fixture(scope="module")
def pruned(whole: VisualSequence) -> VisualSequence:
    return identified(whole, prune_layer=2, num_keep=20)


@pytest.mark.parametrize("layer", [1, 2])
def test_later_layers_hold_less(
    asker: Asker, whole: VisualSequence, layer: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    visual = identified(whole, prune_layer=layer, num_keep=20)
    prompt = asker.prompt(whole, QUESTIONS[0])
    num_text = sum(map(len, prompt.frame_segments))
    full, question = num_text + len(whole.features), len(prompt.question)
    decoder, row = asker.model._decoder, Row(slot=0)
    prefix = decoder.prefill(visual, prompt)
    for text, read in ((prompt.question, question), ((7,), question + 1)):
        with key_lengths(monkeypatch) as attended:
            decoder.read(prefix, [row], [text])
        assert attended == [full + read] * layer + [num_text + 20 + read] * (3 - layer)
    assert lengths(prefix) == [full] * layer + [0] * (3 - layer)
    asker.ask(visual, QUESTIONS[0])
    assert asker.model._prefixes.num_tokens == full
    assert_untouched(asker.model._decoder._model)


@pytest.mark.parametrize("extra", [0, 1000])
def test_keeping_all_is_not_pruning(asker: Asker, whole: VisualSequence, extra: int) -> None:
    every = identified(whole, prune_layer=2, num_keep=len(whole.features) + extra)
    for question in QUESTIONS:
        assert asker.ask(every, question) == asker.ask(whole, question)
    assert np.array_equal(np.concatenate(kept(asker, every, QUESTIONS[0])), whole.keep_indices)


def test_every_question_chooses_anew(
    checkpoint: Path, asker: Asker, pruned: VisualSequence
) -> None:
    fresh = [Asker(checkpoint).whole(pruned, question) for question in QUESTIONS]
    choices = set()
    for question, expected in zip(QUESTIONS, fresh, strict=True):
        answer = asker.whole(pruned, question)
        assert answer.token_ids == expected.token_ids
        assert answer.keep_indices is not None
        assert sum(map(len, answer.keep_indices)) == 20
        choices.add(tuple(tuple(each.tolist()) for each in answer.keep_indices))
    assert len(choices) == 3
    assert len(held_prefixes(asker)) == 1
    assert asker.ask(pruned, QUESTIONS[0]) == list(fresh[0].token_ids)


def test_frames_keep_their_own_indices(checkpoint: Path, asker: Asker) -> None:
    thinned = show_frames(checkpoint, random_frames(3), step=3)
    visual = identified(thinned, prune_layer=2, num_keep=9)
    indices = kept(asker, visual, QUESTIONS[0])
    frames = np.split(thinned.keep_indices, np.cumsum(thinned.counts)[:-1])
    assert sum(map(len, indices)) == 9
    for each, available in zip(indices, frames, strict=True):
        assert set(each.tolist()) <= set(available.tolist())
        assert np.array_equal(each, np.unique(each))


def test_a_clip_without_fastv_is_answered_as_ever(
    asker: Asker, whole: VisualSequence, pruned: VisualSequence
) -> None:
    expected = [asker.ask(whole, question) for question in QUESTIONS]
    thinned = asker.ask(pruned, QUESTIONS[0])
    assert thinned != expected[0]
    assert [asker.ask(whole, question) for question in QUESTIONS] == expected
    assert asker.whole(whole, QUESTIONS[0]).keep_indices is None
    assert asker.ask(pruned, QUESTIONS[0]) == thinned


def test_an_answer_that_is_broken_off_leaves_the_next_one_whole(
    checkpoint: Path, asker: Asker, pruned: VisualSequence
) -> None:
    expected = Asker(checkpoint).ask(pruned, QUESTIONS[1])
    for question in QUESTIONS[:2]:
        pieces = asker.pieces(pruned, question)
        next(pieces)
        pieces.close()
    assert asker.ask(pruned, QUESTIONS[1]) == expected
    assert_untouched(asker.model._decoder._model)


def test_a_choice_that_fails_leaves_the_model_as_it_was(
    asker: Asker, whole: VisualSequence, pruned: VisualSequence
) -> None:
    expected = asker.ask(whole, QUESTIONS[0])
    broken = identified(pruned, features=pruned.features * np.float32(np.nan))
    with pytest.raises(ValueError, match="the attention is not finite"):
        asker.ask(broken, QUESTIONS[0])
    assert_untouched(asker.model._decoder._model)
    assert asker.ask(whole, QUESTIONS[0]) == expected


@pytest.mark.parametrize("layer", [-1, 0, 3, 40])
def test_a_layer_the_model_lacks_is_refused(
    asker: Asker, pruned: VisualSequence, layer: int
) -> None:
    with pytest.raises(InputError, match=rf"--fastv-layer {layer} .* 3 layers, .* 1 to 2"):
        asker.ask(identified(pruned, prune_layer=layer), QUESTIONS[0])


def test_what_is_read_behind_the_question_at_once_has_no_say(
    asker: Asker, pruned: VisualSequence
) -> None:
    question = asker.prompt(pruned, QUESTIONS[0]).question
    prefix = asker.model._decoder.prefill(pruned, asker.prompt(pruned, QUESTIONS[0]))
    alone, told, untold = Row(slot=0), Row(slot=0, num_question=len(question)), Row(slot=0)
    for row, text in ((alone, question), (told, (*question, 9, 7)), (untold, (*question, 9, 7))):
        asker.model._decoder.read(prefix, [row], [text])
    assert alone.kept is not None
    assert untold.kept is not None
    assert told.kept is not None
    assert torch.equal(told.kept, alone.kept)
    assert not torch.equal(untold.kept, alone.kept)


def test_half_precision_works(checkpoint: Path, pruned: VisualSequence) -> None:
    asker = Asker(checkpoint, dtype=torch.bfloat16)
    assert len(asker.ask(pruned, QUESTIONS[0])) > 0
    assert sum(map(len, kept(asker, pruned, QUESTIONS[0]))) == 20
