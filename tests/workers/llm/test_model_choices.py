"""The language model answers with one of the choices it is given."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoProcessor, LlavaNextForConditionalGeneration

from tests.workers.llm.visual import (
    QUESTIONS,
    Asker,
    identified,
    random_frames,
    show_frames,
)
from workers.checkpoint import EMBEDDED, locate
from workers.errors import ContextError
from workers.llm.answer import GeneratedAnswer, SamplingOptions
from workers.llm.choices import END, list_choices, next_tokens
from workers.visual import VisualSequence

GREEDY = SamplingOptions(max_new_tokens=1)
COLORS = ["red", "blue", "a red car", "a red cat and two dogs"]


@pytest.fixture(scope="module")
def asker(checkpoint: Path) -> Asker:
    return Asker(checkpoint)


@pytest.fixture(scope="module")
def clip(checkpoint: Path) -> VisualSequence:
    return show_frames(checkpoint, random_frames(0))


@pytest.fixture(scope="module")
def embedded() -> tuple[Asker, VisualSequence]:
    """The embedded model, whose tokenizer knows every letter, and a clip."""
    folder = Path(locate(EMBEDDED))
    return Asker(folder), show_frames(folder, random_frames(0))


def choose(
    asker: Asker,
    visual: VisualSequence,
    choices: list[str],
    sampling: SamplingOptions = GREEDY,
    question: str = QUESTIONS[0],
) -> GeneratedAnswer:
    prompt = asker.template.build(question, [""] * len(visual), choices)
    piece, answer = asker.model.generate(visual, prompt, sampling)
    assert isinstance(answer, GeneratedAnswer)
    assert piece == answer.text
    ids = {choice.text: choice.token_ids for choice in prompt.choices}
    assert answer.token_ids == ids[answer.text]
    return answer


letters = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
special = st.sampled_from(["</s>", "<image>", "<s>", "<pad>", "<unk>"])
any_text = st.lists(letters | special, min_size=1, max_size=3).map(" ".join).filter(str.strip)
text_of_known_words = st.lists(
    st.sampled_from(["a", "red", "cat", "two", "dogs", "street"]), min_size=1, max_size=4
).map(" ".join)


def sets_of(texts: st.SearchStrategy[str]) -> st.SearchStrategy[list[str]]:
    return st.lists(texts, min_size=2, max_size=6, unique_by=str.strip)


drawn_or_greedy = st.builds(
    SamplingOptions,
    max_new_tokens=st.just(1),
    temperature=st.sampled_from([0.0, 1.0, 50.0]),
    seed=st.integers(0, 5),
)


@settings(max_examples=60, deadline=None)
@given(sets_of(text_of_known_words), drawn_or_greedy)
def test_the_answer_is_one_of_the_choices(
    asker: Asker, clip: VisualSequence, choices: list[str], sampling: SamplingOptions
) -> None:
    assert choose(asker, clip, choices, sampling).text in choices


@settings(max_examples=60, deadline=None)
@given(sets_of(any_text), st.booleans(), drawn_or_greedy)
def test_the_answer_is_one_of_any_texts_of_which_some_begin_others(
    embedded: tuple[Asker, VisualSequence],
    choices: list[str],
    doubled: bool,
    sampling: SamplingOptions,
) -> None:
    longer = [f"{choice.strip()} {choice.strip()}" for choice in choices]
    offered = list({choice.strip(): choice for choice in [*choices, *longer * doubled]}.values())
    assert choose(*embedded, offered, sampling).text in offered


def test_every_choice_is_drawn_in_time(asker: Asker, clip: VisualSequence) -> None:
    drawn = [
        choose(asker, clip, COLORS, SamplingOptions(temperature=3.0, seed=seed)).text
        for seed in [*range(60), *range(60)]
    ]
    assert drawn[:60] == drawn[60:]
    assert set(drawn) == set(COLORS)


def test_greedy_choices_are_those_of_transformers(
    checkpoint: Path, asker: Asker, clip: VisualSequence
) -> None:
    processor = AutoProcessor.from_pretrained(checkpoint)
    whole = LlavaNextForConditionalGeneration.from_pretrained(checkpoint).eval()
    end = whole.generation_config.eos_token_id
    assert isinstance(end, int)
    frames = list(random_frames(0))
    said = []
    for question in QUESTIONS:
        for choices in (COLORS, ["one", "one or two", "two", "the street"]):
            content = [{"type": "image"}] * len(frames)
            listed: Any = {"type": "text", "text": list_choices(question, choices)}
            text = processor.apply_chat_template(
                [{"role": "user", "content": [*content, listed]}], add_generation_prompt=True
            )
            inputs = processor(
                images=frames, text=text, add_special_tokens=False, return_tensors="pt"
            )
            start = inputs["input_ids"].shape[1]
            offered = asker.template.build(question, [""] * 3, choices).choices

            def allowed(
                _: int, ids: torch.Tensor, start: int = start, offered: Any = offered
            ) -> Any:
                following = next_tokens(offered, tuple(ids[start:].tolist()))
                return [end if token == END else token for token in following]

            with torch.inference_mode():
                ids = whole.generate(
                    **inputs, max_new_tokens=99, do_sample=False, prefix_allowed_tokens_fn=allowed
                )
            expected = [token for token in ids[0, start:].tolist() if token != end]
            assert list(choose(asker, clip, choices, question=question).token_ids) == expected
            said.append(tuple(expected))
    assert len(set(said)) > 2


def test_choices_leave_no_trace(asker: Asker, clip: VisualSequence) -> None:
    free = asker.ask(clip, QUESTIONS[0])
    choose(asker, clip, COLORS)
    assert asker.ask(clip, QUESTIONS[0]) == free
    (entry,) = asker.model._prefixes._entries.values()
    prefix, _ = entry
    assert prefix.cache.get_seq_length() == len(prefix.positions)


@pytest.mark.parametrize("layer", [1, 2])
def test_choices_go_on_from_what_fastv_kept(
    checkpoint: Path, clip: VisualSequence, layer: int
) -> None:
    asker = Asker(checkpoint)
    thinned = identified(clip, prune_layer=layer, num_keep=20)
    first = choose(asker, thinned, COLORS)
    assert first.keep_indices is not None
    assert sum(map(len, first.keep_indices)) == 20
    again = choose(asker, thinned, COLORS)
    assert again.token_ids == first.token_ids
    everything = identified(clip, prune_layer=layer, num_keep=len(clip.features))
    for question in QUESTIONS:
        kept = choose(asker, everything, COLORS, question=question)
        assert kept.text == choose(asker, clip, COLORS, question=question).text


def test_original_positions_go_on_behind_the_gaps(asker: Asker, clip: VisualSequence) -> None:
    original = identified(clip, compact_positions=False)
    assert choose(asker, original, COLORS).text == choose(asker, clip, COLORS).text


def test_a_long_choice_is_counted_and_not_the_limit(asker: Asker, clip: VisualSequence) -> None:
    endless = SamplingOptions(max_new_tokens=40_000)
    assert choose(asker, clip, COLORS, endless).text in COLORS
    long = ["red " * 33_000, "blue"]
    with pytest.raises(ContextError, match=r"shorten the choices and lower --budget, or ask less"):
        choose(asker, clip, long)
