"""The language model answers by a schema, alone and beside other questions."""

import json
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import jsonschema
import pytest
import torch
from transformers import AutoProcessor, LlavaNextForConditionalGeneration

from tests.workers.llm.visual import QUESTIONS, Asker, random_frames, show_frames
from workers.errors import InputError, ModelError
from workers.llm.answer import GeneratedAnswer, SamplingOptions
from workers.llm.grammar import Grammar, read_vocabulary
from workers.llm.saying import Controls, say
from workers.visual import VisualSequence

SEEN = {
    "type": "object",
    "properties": {
        "color": {"enum": ["red", "a red car", 7]},
        "words": {"type": "array", "items": {"type": "string", "maxLength": 6}, "maxItems": 2},
        "moves": {"type": "boolean"},
    },
    "required": ["color", "words", "moves"],
    "additionalProperties": False,
}
NUMBER = {"type": "integer", "minimum": 0, "maximum": 999}
FREE = {"type": "string"}


def sampling(schema: Any, most: int = 99, **how: Any) -> SamplingOptions:
    return SamplingOptions(max_new_tokens=most, json_schema=json.dumps(schema), **how)


@pytest.fixture(scope="module")
def asker(checkpoint: Path) -> Asker:
    return Asker(checkpoint)


@pytest.fixture(scope="module")
def clip(checkpoint: Path) -> VisualSequence:
    return show_frames(checkpoint, random_frames(0))


def test_greedy_answers_are_those_of_transformers_kept_to_the_same_tokens(
    checkpoint: Path, asker: Asker, clip: VisualSequence
) -> None:
    processor = AutoProcessor.from_pretrained(checkpoint)
    whole = LlavaNextForConditionalGeneration.from_pretrained(checkpoint).eval()
    end = whole.generation_config.eos_token_id
    assert isinstance(end, int)
    vocabulary = read_vocabulary(str(checkpoint), [end])
    frames = list(random_frames(0))
    content: list[Any] = [{"type": "image"}] * len(frames)
    content.append({"type": "text", "text": QUESTIONS[0]})
    text = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True
    )
    inputs = processor(images=frames, text=text, add_special_tokens=False, return_tensors="pt")
    start = inputs["input_ids"].shape[1]
    for schema in (SEEN, NUMBER):

        def allowed(_: int, ids: torch.Tensor, schema: Any = schema) -> Any:
            grammar = Grammar(vocabulary, whole.config.text_config.vocab_size, json.dumps(schema))
            ended = [grammar.take(token) for token in ids[start:].tolist()]
            return [end] if ended[-1:] == [True] else grammar.next_tokens().tolist()

        with torch.inference_mode():
            ids = whole.generate(
                **inputs, max_new_tokens=99, do_sample=False, prefix_allowed_tokens_fn=allowed
            )
        answer = asker.whole(clip, QUESTIONS[0], sampling(schema))
        assert not answer.is_cut
        expected = [token for token in ids[0, start:].tolist() if token != end]
        assert [token for token in answer.token_ids if token != end] == expected
        jsonschema.validate(json.loads(answer.text), schema)


def test_draws_follow_the_schema_and_the_seed(asker: Asker, clip: VisualSequence) -> None:
    said = [
        asker.whole(clip, QUESTIONS[0], sampling(SEEN, temperature=3.0, seed=seed)).text
        for seed in [*range(6), *range(6)]
    ]
    assert said[:6] == said[6:]
    assert len(set(said)) == 6
    for text in said:
        jsonschema.validate(json.loads(text), SEEN)


def test_questions_that_share_passes_are_answered_as_alone(
    asker: Asker, clip: VisualSequence
) -> None:
    """Each row has a grammar of its own, or none, and an end of its own."""
    hows = [
        sampling(SEEN), sampling(SEEN, temperature=2.0, seed=4), SamplingOptions(max_new_tokens=9),
        sampling(NUMBER, temperature=1.0), sampling(FREE, 12), sampling(SEEN),
    ]  # fmt: skip
    asked = [(QUESTIONS[n % len(QUESTIONS)], how) for n, how in enumerate(hows)]
    alone = [asker.whole(clip, question, how) for question, how in asked]
    together: dict[int, GeneratedAnswer] = {}

    def ask(number: int) -> None:
        question, how = asked[number]
        together[number] = asker.whole(clip, question, how)

    threads = [Thread(target=ask, args=(number,)) for number in range(len(asked))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, answer in enumerate(alone):
        same = together[number]
        assert (same.token_ids, same.text, same.is_cut) == (
            answer.token_ids,
            answer.text,
            answer.is_cut,
        )


def test_an_answer_is_cut_where_it_may_be_no_longer(asker: Asker, clip: VisualSequence) -> None:
    whole = asker.whole(clip, QUESTIONS[0], sampling(SEEN))
    number = len(whole.token_ids)
    exact = asker.whole(clip, QUESTIONS[0], sampling(SEEN, number))
    assert (exact.text, exact.is_cut) == (whole.text, False)
    short = asker.whole(clip, QUESTIONS[0], sampling(SEEN, number - 1))
    assert short.is_cut
    assert whole.text.startswith(short.text)
    assert short.token_ids == whole.token_ids[:-1]


def test_pieces_come_as_they_are_said(asker: Asker, clip: VisualSequence) -> None:
    *pieces, answer = asker.pieces(clip, QUESTIONS[0], sampling(SEEN))
    assert "".join(pieces).strip() == answer.text
    assert len(pieces) > 5


def test_a_schema_without_a_grammar_fails_its_question_only(
    asker: Asker, clip: VisualSequence
) -> None:
    with pytest.raises(InputError, match="Unimplemented keys"):
        asker.whole(clip, QUESTIONS[0], sampling({"not": {}}))
    assert asker.whole(clip, QUESTIONS[0], sampling(NUMBER)).text.isdigit()


def test_settings_that_forbid_what_the_schema_allows_are_named(checkpoint: Path) -> None:
    def forbid(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return torch.full_like(scores, -torch.inf).index_fill(1, torch.tensor([1]), 0.0)

    class Processors(list[Any]):
        __call__ = staticmethod(forbid)

    grammar = Grammar(read_vocabulary(str(checkpoint), [2]), 400, json.dumps(SEEN))
    controls = Controls(processors=Processors([forbid]), generator=None, end_tokens=frozenset([2]))
    saying: Iterator[Any] = say((5,), controls, 9, lambda token: None, grammar)
    assert next(saying) == (5,)
    with pytest.raises(ModelError, match="generation settings forbid every token"):
        saying.send(torch.zeros(400))  # type: ignore[attr-defined]
