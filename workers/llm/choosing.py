"""Saying one of several choices: decoding that cannot leave the tokens they are made of."""

from collections.abc import Collection, Sequence

import torch

from workers.errors import ModelError
from workers.llm.answer import SamplingOptions
from workers.llm.choices import END, Choice, next_tokens
from workers.llm.saying import Saying


def choose(
    question: tuple[int, ...],
    choices: Sequence[Choice],
    sampling: SamplingOptions,
    end_tokens: Collection[int],
) -> Saying[Choice]:
    """Say the choice that a model says when it can say nothing else.

    Token by token, greedily or drawn among those with which some choice goes on; that a choice ends
    where another goes on weighs what the end tokens do together. Where there is one way only to go
    on, the model is not asked. A choice is said whole, however long: ``max_new_tokens`` is for
    other answers, and so is whatever a checkpoint's generation settings say of penalties or top-p.

    Args:
        question: token ids of all that comes before the answer.
        choices: of different tokens, at least one.
        sampling: greedy or drawn.
        end_tokens: token ids of which any ends an answer.

    Raises:
        ModelError: a choice begins with another, and there is no token to end that with.

    Cost: one reading for each token before which choices part, at least one.
    """
    generator = torch.Generator().manual_seed(sampling.seed)
    said: tuple[int, ...] = ()
    unread = question
    while (following := next_tokens(choices, said)) != [END]:
        token = following[0]
        if len(following) > 1:
            scores = _scores((yield unread), following, end_tokens)
            token = following[_pick(scores, sampling.temperature, generator)]
            unread = ()
        if token == END:
            break
        said, unread = (*said, token), (*unread, token)
    return next(choice for choice in choices if choice.token_ids == said)


def _scores(
    logits: torch.Tensor, following: Sequence[int], end_tokens: Collection[int]
) -> torch.Tensor:
    """Return the logits of the tokens that may follow, float64 on the CPU."""
    if END in following and not end_tokens:
        raise ModelError(
            "the checkpoint names no token that ends an answer, so of two choices of which one "
            "begins with the other the shorter cannot be said: reword one of them"
        )
    groups = [list(end_tokens) if token == END else [token] for token in following]
    logits = logits.double().cpu()
    return torch.stack([logits[group].logsumexp(0) for group in groups])


def _pick(scores: torch.Tensor, temperature: float, generator: torch.Generator) -> int:
    if temperature == 0:
        return int(scores.argmax())
    probabilities = (scores / temperature).softmax(0)
    return int(torch.multinomial(probabilities, 1, generator=generator))
