from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.workers.llm.test_fastv import MARKS, assert_untouched
from tests.workers.llm.test_model import (
    QUESTIONS,
    answer,
    fresh_answer,
    load_model,
    random_frames,
    watch_frames,
)
from workers.errors import InputError
from workers.llm.model import LanguageModel
from workers.llm.sequence import VisualSequence
from workers.messages import SamplingOptions


def cache_lengths(model: LanguageModel) -> list[int]:
    return [layer.get_seq_length() for layer in model._cache.layers]


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> LanguageModel:
    return load_model(checkpoint)


@pytest.fixture(scope="module")
def whole(checkpoint: Path) -> VisualSequence:
    return watch_frames(checkpoint, random_frames(0), marks=MARKS)


@pytest.fixture(scope="module")
def pruned(whole: VisualSequence) -> VisualSequence:
    return replace(whole, fastv_keep=20)


@pytest.mark.parametrize("layer", [1, 2])
def test_later_layers_hold_less(model: LanguageModel, whole: VisualSequence, layer: int) -> None:
    model.set_clip(replace(whole, fastv_keep=20, fastv_layer=layer))
    answer(model, QUESTIONS[0])
    num_text = sum(map(len, model.prompt(QUESTIONS[0], whole.marks).frame_segments))
    full = num_text + 3 * whole.frame_length
    assert cache_lengths(model) == [full] * layer + [num_text + 20] * (3 - layer)
    assert_untouched(model._model)


@pytest.mark.parametrize("extra", [0, 1000])
def test_keeping_all_is_not_pruning(
    model: LanguageModel, whole: VisualSequence, extra: int
) -> None:
    every = replace(whole, fastv_keep=3 * whole.frame_length + extra)
    for question in QUESTIONS:
        assert fresh_answer(model, every, question) == fresh_answer(model, whole, question)


def test_every_question_chooses_anew(model: LanguageModel, pruned: VisualSequence) -> None:
    fresh = [fresh_answer(model, pruned, question) for question in QUESTIONS]
    model.set_clip(pruned)
    kept = []
    for question, expected in zip(QUESTIONS, fresh, strict=True):
        assert answer(model, question) == expected
        kept.append(tuple(model.fastv_kept.tolist()))  # type: ignore[union-attr]
    assert len(set(kept)) == 3
    cache = model._cache
    assert answer(model, QUESTIONS[-1]) == fresh[-1]
    assert model._cache is cache
    assert answer(model, QUESTIONS[0]) == fresh[0]
    assert model._cache is not cache


def test_a_clip_without_fastv_is_answered_as_ever(
    model: LanguageModel, whole: VisualSequence, pruned: VisualSequence
) -> None:
    expected = [fresh_answer(model, whole, question) for question in QUESTIONS]
    thinned = fresh_answer(model, pruned, QUESTIONS[0])
    assert thinned != expected[0]
    model.set_clip(whole)
    assert [answer(model, question) for question in QUESTIONS] == expected
    assert model.fastv_kept is None
    assert len(set(cache_lengths(model))) == 1
    assert fresh_answer(model, pruned, QUESTIONS[0]) == thinned


def test_an_answer_that_is_broken_off_leaves_the_next_one_whole(
    model: LanguageModel, pruned: VisualSequence
) -> None:
    expected = fresh_answer(model, pruned, QUESTIONS[1])
    for question in QUESTIONS[:2]:
        pieces: Any = model.answer(model.prompt(question, pruned.marks), SamplingOptions())
        next(pieces)
        pieces.close()
    assert_untouched(model._model)
    assert answer(model, QUESTIONS[1]) == expected


def test_a_prefill_that_fails_leaves_the_model_as_it_was(
    model: LanguageModel, whole: VisualSequence, pruned: VisualSequence
) -> None:
    expected = fresh_answer(model, whole, QUESTIONS[0])
    broken = replace(pruned, features=tuple(part * torch.nan for part in pruned.features))
    with pytest.raises(ValueError, match="the attention is not finite"):
        fresh_answer(model, broken, QUESTIONS[0])
    assert_untouched(model._model)
    assert fresh_answer(model, whole, QUESTIONS[0]) == expected


@pytest.mark.parametrize("layer", [-1, 0, 3, 40])
def test_a_layer_the_model_lacks_is_refused(
    model: LanguageModel, pruned: VisualSequence, layer: int
) -> None:
    with pytest.raises(InputError, match=rf"--fastv-layer {layer} .* 3 layers, .* 1 to 2"):
        model.set_clip(replace(pruned, fastv_layer=layer))


def test_half_precision_works(checkpoint: Path, pruned: VisualSequence) -> None:
    model = load_model(checkpoint, dtype=torch.bfloat16)
    assert len(fresh_answer(model, pruned, QUESTIONS[0])) > 0
    assert len(model.fastv_kept.tolist()) == 20  # type: ignore[union-attr]
