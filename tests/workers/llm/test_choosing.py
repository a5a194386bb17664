"""Whatever a model prefers, it says one of the choices."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from workers.errors import ModelError
from workers.llm.answer import SamplingOptions
from workers.llm.choices import Choice
from workers.llm.choosing import choose as say_choice

VOCABULARY, ENDS = 6, (5, 4)
GREEDY = SamplingOptions()


class Reader:
    """A model whose next token is weighed by what it has read so far."""

    def __init__(self, seed: int = 0, logits: torch.Tensor | None = None) -> None:
        self.read: tuple[int, ...] = ()
        self.calls = 0
        self._seed, self._logits = seed, logits

    def __call__(self, tokens: tuple[int, ...]) -> torch.Tensor:
        assert tokens
        self.calls += 1
        self.read += tokens
        if self._logits is not None:
            return self._logits
        generator = torch.Generator().manual_seed(hash((self._seed, self.read)) % 2**31)
        return 9 * torch.randn(VOCABULARY, generator=generator)


def choose(
    reader: Reader,
    question: tuple[int, ...],
    choices: list[Choice],
    sampling: SamplingOptions,
    ends: tuple[int, ...],
) -> Choice:
    saying = say_choice(question, choices, sampling, ends)
    unread = next(saying)
    while True:
        try:
            unread = saying.send(reader(unread))
        except StopIteration as end:
            chosen: Choice = end.value
            return chosen


def made(*lists: tuple[int, ...]) -> list[Choice]:
    return [Choice(text=str(ids), token_ids=ids) for ids in lists]


token_lists = st.lists(
    st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=5).map(tuple),
    min_size=2,
    unique=True,
)


@given(token_lists, st.integers(0, 99), st.sampled_from([0.0, 0.001, 1.0, 100.0]))
def test_one_of_the_choices_is_said(
    lists: list[tuple[int, ...]], seed: int, temperature: float
) -> None:
    sampling = SamplingOptions(max_new_tokens=1, temperature=temperature, seed=seed)
    reader = Reader(seed)
    choices = made(*lists)
    chosen = choose(reader, (1, 2), choices, sampling, ENDS)
    assert chosen in choices
    assert reader.read == (1, 2, *chosen.token_ids)[: len(reader.read)]
    assert reader.calls <= len(chosen.token_ids) + 1


def test_where_there_is_one_way_only_the_model_is_not_asked() -> None:
    logits = torch.tensor([9.0, 0, 0, 0, 0, 0])
    reader = Reader(logits=logits)
    chosen = choose(reader, (3,), made((1, 2, 0, 0), (1, 2, 3, 3), (1, 2, 3, 2)), GREEDY, ENDS)
    assert chosen.token_ids == (1, 2, 0, 0)
    assert (reader.read, reader.calls) == ((3, 1, 2), 1)


@pytest.mark.parametrize(
    ("end_logits", "said"), [((0.0, 0.0), (1, 2)), ((2.0, 0.0), (1,)), ((0.9, 0.9), (1,))]
)
def test_a_choice_that_begins_another_ends_where_the_model_would_end(
    end_logits: tuple[float, float], said: tuple[int, ...]
) -> None:
    logits = torch.tensor([9.0, 9.0, 1.0, 9.0, *end_logits])
    assert choose(Reader(logits=logits), (3,), made((1,), (1, 2)), GREEDY, ENDS).token_ids == said


def test_without_an_end_token_no_choice_may_begin_another() -> None:
    assert choose(Reader(), (3,), made((1,), (2,)), GREEDY, ()) is not None
    with pytest.raises(ModelError, match=r"names no token that ends an answer, .*reword one"):
        choose(Reader(), (3,), made((1,), (1, 2)), GREEDY, ())


def test_draws_follow_the_probabilities_and_the_seed() -> None:
    logits = torch.tensor([0.0, 9.0, torch.tensor(3.0).log().item(), 9.0, 9.0, 9.0])
    said = [
        choose(
            Reader(logits=logits),
            (3,),
            made((0,), (2,)),
            SamplingOptions(temperature=1.0, seed=seed),
            ENDS,
        ).token_ids
        for seed in [*range(400), *range(400)]
    ]
    assert said[:400] == said[400:]
    assert 0.68 < said[:400].count((2,)) / 400 < 0.82
