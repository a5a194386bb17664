"""Questions asked at once share forward passes, and each answer is the one it would be alone."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.workers.llm.visual import Asker, identified, random_frames, show_frames
from workers.llm.answer import MOST_TOGETHER, GeneratedAnswer, SamplingOptions
from workers.llm.question import Question
from workers.llm.rows import Row
from workers.visual import VisualSequence

SHORT = SamplingOptions(max_new_tokens=12)
HOT = SamplingOptions(max_new_tokens=12, temperature=1.0, seed=5)
COLORS = ["red", "blue", "a red car", "a red cat and two dogs"]
TEXTS = [
    f"{words} the {thing}?"
    for thing in ("cat", "red car", "street")
    for words in ("What color is", "How many people are near", "Where, in all of this picture, is")
]


@pytest.fixture(scope="module")
def asker(checkpoint: Path) -> Asker:
    return Asker(checkpoint)


@pytest.fixture(scope="module")
def clip(checkpoint: Path) -> VisualSequence:
    return show_frames(checkpoint, random_frames(0))


def make_questions(
    asker: Asker, clip: VisualSequence, kinds: Sequence[tuple[SamplingOptions, Sequence[str]]]
) -> list[Question]:
    """Return a question of each text, of the kinds (sampling, choices) in turn."""
    found = []
    for number, text in enumerate(TEXTS):
        sampling, choices = kinds[number % len(kinds)]
        prompt = asker.template.build(text, [""] * len(clip), choices)
        found.append(Question(clip, prompt, replace(sampling, seed=number)))
    return found


def answer(questions: Sequence[Question]) -> list[Any]:
    """Return what comes of each: its text in pieces and its token ids, or its error."""
    return [_result(question) for question in questions]


def _result(question: Question) -> Any:
    try:
        *pieces, whole = question.pieces()
    except Exception as error:
        return error
    assert isinstance(whole, GeneratedAnswer)
    return pieces, whole.token_ids


def ask_together(asker: Asker, questions: Sequence[Question]) -> list[Any]:
    """Let all of them wait before the model's thread looks."""
    asker.model._waiting.extend(questions)
    asker.model._thread.submit(asker.model._serve)
    return answer(questions)


def ask_alone(asker: Asker, questions: Sequence[Question]) -> list[Any]:
    return [result for question in questions for result in ask_together(asker, [question])]


@pytest.fixture
def passes(asker: Asker) -> Iterator[list[int]]:
    """Tokens of each forward pass of the language model."""
    found: list[int] = []
    net = asker.model._decoder._model.model

    def note(module: Any, args: Any, options: Any) -> None:
        embeds = options.get("inputs_embeds")
        found.append((options["input_ids"] if embeds is None else embeds).shape[1])

    handle = net.register_forward_pre_hook(note, with_kwargs=True)
    yield found
    handle.remove()


KINDS: dict[str, list[tuple[SamplingOptions, Sequence[str]]]] = {
    "greedy": [(SHORT, ())],
    "drawn": [(HOT, ())],
    "choices": [(SHORT, COLORS)],
    "mixed": [(SHORT, ()), (HOT, COLORS), (replace(HOT, max_new_tokens=3), ())],
}


@pytest.mark.parametrize("kinds", KINDS.values(), ids=KINDS.keys())
def test_every_answer_is_that_of_the_question_alone(
    asker: Asker, clip: VisualSequence, kinds: list[tuple[SamplingOptions, Sequence[str]]]
) -> None:
    alone = ask_alone(asker, make_questions(asker, clip, kinds))
    assert ask_together(asker, make_questions(asker, clip, kinds)) == alone
    backward = make_questions(asker, clip, kinds)[::-1]
    assert ask_together(asker, backward)[::-1] == alone
    assert len({ids for _, ids in alone}) > 1


def test_forward_passes_are_shared(asker: Asker, clip: VisualSequence, passes: list[int]) -> None:
    kinds = KINDS["greedy"]
    ask_alone(asker, make_questions(asker, clip, kinds)[:1])  # the clip has been read
    passes.clear()
    alone = ask_alone(asker, make_questions(asker, clip, kinds)[:MOST_TOGETHER])
    num_alone, num_tokens = len(passes), sum(passes)
    passes.clear()
    assert ask_together(asker, make_questions(asker, clip, kinds)[:MOST_TOGETHER]) == alone
    longest = max(len(ids) for _, ids in alone)
    if asker.model._decoder._rows_are_alike:
        assert len(passes) == longest
        assert sum(passes) == num_tokens
    else:  # what is longer than a token is read by itself
        assert len(passes) == MOST_TOGETHER + longest - 1
        assert passes[MOST_TOGETHER:] == [MOST_TOGETHER] * (longest - 1)
    assert num_alone == sum(len(ids) for _, ids in alone)


def test_an_answer_that_ends_makes_room_for_the_next(
    asker: Asker, clip: VisualSequence, passes: list[int]
) -> None:
    kinds: Any = [(SamplingOptions(max_new_tokens=1), ())]
    questions = make_questions(asker, clip, kinds)
    assert len(questions) == MOST_TOGETHER + 1
    ask_together(asker, questions)
    length = len(questions[-1].prompt.question)
    assert passes[-1] == length


def test_logits_are_bit_for_bit_those_alone(checkpoint: Path, clip: VisualSequence) -> None:
    decoder = Asker(checkpoint).model._decoder
    prompts = [Asker(checkpoint).prompt(clip, text) for text in TEXTS[:5]]
    prefix = decoder.prefill(clip, prompts[0])
    texts = [prompt.question for prompt in prompts]
    rows = [Row(slot=slot) for slot in range(5)]
    read = [decoder.read(prefix, rows, texts)]
    read.append(decoder.read(prefix, rows[1:], [(7,), (8, 9), (5,), (6,)]))
    prefix.cache.forget_rows()
    for number, text in enumerate(texts):
        row = [Row(slot=3)]
        assert torch.equal(decoder.read(prefix, row, [text])[0], read[0][number])
        if number:
            later = [(7,), (8, 9), (5,), (6,)][number - 1]
            assert torch.equal(decoder.read(prefix, row, [later])[0], read[1][number - 1])


@pytest.mark.parametrize("num", [2, MOST_TOGETHER])
@pytest.mark.parametrize("prune_layer", [None, 2])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_row_does_not_depend_on_its_company(
    checkpoint: Path,
    clip: VisualSequence,
    num: int,
    prune_layer: int | None,
    dtype: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asker = Asker(checkpoint, dtype=dtype)
    # as on a machine where a row's bits depend on the number of rows
    monkeypatch.setattr(asker.model._decoder, "_rows_are_alike", False)
    clip = identified(clip, prune_layer=prune_layer, num_keep=20)
    decoder = asker.model._decoder
    texts = [asker.prompt(clip, text).question for text in TEXTS[:num]]
    prefix = decoder.prefill(clip, asker.prompt(clip, TEXTS[0]))
    rows = [Row(slot=slot) for slot in range(num)]
    decoder.read(prefix, rows, texts)
    together = decoder.read(prefix, rows, [(token,) for token in range(7, 7 + num)])
    for number in range(num):
        row = [Row(slot=0)]
        decoder.read(prefix, row, [texts[number]])
        assert torch.equal(decoder.read(prefix, row, [(7 + number,)])[0], together[number])


def test_the_prefix_is_held_once_and_rows_go(asker: Asker, clip: VisualSequence) -> None:
    ask_together(asker, make_questions(asker, clip, KINDS["greedy"]))
    ((prefix, num_tokens),) = asker.model._prefixes._entries.values()
    for layer in prefix.cache.layers:
        assert layer._held.shape[2] <= num_tokens + 12 + 64 + 64
        assert layer._tails.numel() == 0


def poison(asker: Asker, token: int) -> Callable[[], None]:
    """Fail in a layer whenever a token is read; return what ends that."""
    net = asker.model._decoder._model

    def look(module: Any, args: Any, options: Any) -> None:
        ids = options.get("input_ids")
        net.poison = ids is not None and token in ids[0].tolist()

    def fail(*args: Any) -> None:
        if net.poison:
            raise torch.OutOfMemoryError("pretended")

    handles = ExitStack()
    handles.callback(net.register_forward_pre_hook(look, with_kwargs=True).remove)
    handles.callback(net.model.layers[1].register_forward_pre_hook(fail).remove)
    return handles.close


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_question_that_fails_ends_no_other(
    checkpoint: Path, clip: VisualSequence, dtype: torch.dtype
) -> None:
    asker = Asker(checkpoint, dtype=dtype)
    questions = make_questions(asker, clip, KINDS["mixed"])
    expected = ask_alone(asker, make_questions(asker, clip, KINDS["mixed"]))
    others = {t for q in questions[:4] + questions[5:] for t in q.prompt.question}
    said = {token for _, ids in expected for token in ids}
    bad = next(i for i in range(5, 600) if i not in others | said)
    spoiled = replace(questions[4].prompt, question=(*questions[4].prompt.question, bad))
    questions[4] = Question(clip, spoiled, questions[4].sampling)
    mend = poison(asker, bad)
    found = ask_together(asker, questions)
    mend()
    assert isinstance(found[4], torch.OutOfMemoryError)
    assert found[:4] + found[5:] == expected[:4] + expected[5:]
    assert ask_together(asker, make_questions(asker, clip, KINDS["mixed"])) == expected


def test_an_answer_that_nobody_waits_for_leaves_the_others(
    asker: Asker, clip: VisualSequence, passes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asker.model._decoder._model.generation_config, "eos_token_id", None)
    kinds = KINDS["greedy"]
    expected = ask_alone(asker, make_questions(asker, clip, kinds))
    questions = make_questions(asker, clip, kinds)
    endless = Question(clip, questions[1].prompt, SamplingOptions(max_new_tokens=20_000))
    waiting = [questions[0], endless, *questions[2:]]
    asker.model._waiting.extend(waiting)
    asker.model._thread.submit(asker.model._serve)
    next(endless.pieces())
    endless.stop.set()
    assert answer([questions[0], *questions[2:]]) == [expected[0], *expected[2:]]
    assert ask_together(asker, make_questions(asker, clip, kinds)) == expected
    assert len(passes) < 10_000


def test_questions_about_another_clip_are_a_turn_of_their_own(
    checkpoint: Path, asker: Asker, clip: VisualSequence
) -> None:
    other = show_frames(checkpoint, random_frames(1))
    kinds = KINDS["mixed"]
    both = [clip, other, clip, other]
    expected = [ask_alone(asker, make_questions(asker, each, kinds)) for each in both]
    groups = [make_questions(asker, each, kinds) for each in both]
    found = ask_together_in_turns(asker, groups)
    assert found == expected


def ask_together_in_turns(asker: Asker, groups: list[list[Question]]) -> list[list[Any]]:
    """Let all questions wait at once, those of each group in a row."""
    for group in groups:
        asker.model._waiting.extend(group)
    for _ in groups:
        asker.model._thread.submit(asker.model._serve)
    return [answer(group) for group in groups]


def test_questions_that_prune_for_themselves_share_the_prefix_and_passes(
    asker: Asker, clip: VisualSequence, passes: list[int]
) -> None:
    pruned = identified(clip, prune_layer=2, num_keep=20)
    kinds = KINDS["mixed"]
    alone = ask_alone(asker, make_questions(asker, pruned, kinds))
    num_alone = len(passes)
    assert ask_together(asker, make_questions(asker, pruned, kinds)) == alone
    assert len(passes) - num_alone < num_alone / 2
    backward = make_questions(asker, pruned, kinds)[::-1]
    assert ask_together(asker, backward)[::-1] == alone
    assert len({ids for _, ids in alone}) > 1


@pytest.mark.parametrize("row_tokens", [1, 100])
def test_rows_that_hold_what_they_keep_stay_within_a_limit(
    checkpoint: Path, clip: VisualSequence, row_tokens: int
) -> None:
    asker = Asker(checkpoint, cache_tokens=row_tokens)
    decoder, prompt = asker.model._decoder, asker.prompt(clip, TEXTS[0])
    prefix = decoder.prefill(identified(clip, prune_layer=1, num_keep=20), prompt)
    num_kept = 20 + sum(map(len, prompt.frame_segments))
    assert 1 < 100 // num_kept < MOST_TOGETHER
    assert decoder.most_rows(prefix) == max(1, row_tokens // num_kept)


def test_threads_that_ask_at_once_get_their_own_answers(asker: Asker, clip: VisualSequence) -> None:
    expected = ask_alone(asker, make_questions(asker, clip, KINDS["mixed"]))
    found: dict[int, Any] = {}
    together = threading.Barrier(len(expected))

    def ask(number: int, question: Question) -> None:
        together.wait(timeout=60)
        *pieces, whole = asker.model.generate(clip, question.prompt, question.sampling)
        assert isinstance(whole, GeneratedAnswer)
        found[number] = pieces, whole.token_ids

    questions = make_questions(asker, clip, KINDS["mixed"])
    threads = [threading.Thread(target=ask, args=each) for each in enumerate(questions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=300)
    assert [found[number] for number in range(len(expected))] == expected
