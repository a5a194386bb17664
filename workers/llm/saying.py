"""Saying an answer token by token: what is to be read, and what is drawn from the logits after it.

An answer is a generator. It yields token ids that the model is to read next and is sent the logits
(vocabulary,) of what follows them; it returns what was said. So answers that take turns at one
model need no thread each.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from workers.errors import ModelError
from workers.llm.answer import SamplingOptions

if TYPE_CHECKING:
    from workers.arrays import Int64Array
    from workers.llm.grammar import Grammar

Said = TypeVar("Said")
Saying = Generator[tuple[int, ...], torch.Tensor, Said]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Controls:
    """What transformers makes of a checkpoint's generation settings for one question.

    ``processors`` take token ids (1, length) and float32 logits (1, vocabulary) and return scores;
    of those the largest is said, or one is drawn with ``generator`` where there is one.
    """

    processors: Any
    generator: torch.Generator | None
    end_tokens: frozenset[int]


def read_controls(model: Any, question: tuple[int, ...], sampling: SamplingOptions) -> Controls:
    """Let a model of transformers prepare an answer as its ``generate`` would, and take that."""
    choice: dict[str, Any] = {"do_sample": sampling.temperature > 0}
    choice |= {"temperature": sampling.temperature} if sampling.temperature > 0 else {}
    processors, config = model.generate(
        input_ids=torch.tensor([question], device=model.device),
        max_new_tokens=sampling.max_new_tokens,
        custom_generate=_take,
        **choice,
    )
    generator = None
    if config.do_sample:
        generator = torch.Generator(model.device).manual_seed(sampling.seed)
    return Controls(
        processors=processors, generator=generator, end_tokens=end_tokens(config.eos_token_id)
    )


def end_tokens(eos_token_id: int | list[int] | None) -> frozenset[int]:
    """Return the tokens of which any ends an answer, as generation settings name them."""
    if eos_token_id is None:
        return frozenset()
    return frozenset([eos_token_id] if isinstance(eos_token_id, int) else eos_token_id)


def say(
    question: tuple[int, ...],
    controls: Controls,
    max_new_tokens: int,
    push: Callable[[int], object],
    grammar: "Grammar | None" = None,
) -> Saying[tuple[tuple[int, ...], bool]]:
    """Say an answer up to a token that ends it, or as long as it may be.

    With a grammar it ends where that does. Behind its first token the model is not asked where the
    grammar leaves one way only to go on.

    Args:
        question: token ids of all that comes before the answer.
        controls: of this answer alone: its generator is used up.
        max_new_tokens: at least 1.
        push: gets every token as it comes.
        grammar: that the answer follows; of this answer alone too.

    Returns:
        The token ids, one that ends it among them, and whether it was cut for its length.
    """
    ids, unread = question, question
    following: Int64Array | None = None
    for _ in range(max_new_tokens):
        if grammar is not None:
            following = grammar.next_tokens()
        if following is not None and len(following) == 1 and len(ids) > len(question):
            token = int(following[0])
        else:
            token, unread = _draw(controls, ids, (yield unread), following), ()
        push(token)
        ids, unread = (*ids, token), (*unread, token)
        if token in controls.end_tokens if grammar is None else grammar.take(token):
            return ids[len(question) :], False
    return ids[len(question) :], True


def _take(
    model: Any, input_ids: Any, logits_processor: Any, generation_config: Any, **_: Any
) -> Any:
    return logits_processor, generation_config


def _draw(
    controls: Controls,
    ids: tuple[int, ...],
    logits: torch.Tensor,
    following: "Int64Array | None" = None,
) -> int:
    scores = _only(following, logits[None].float())
    if len(controls.processors):
        scores = controls.processors(torch.tensor([ids], device=logits.device), scores)
        scores = _only(following, scores)
    if following is not None and scores.isneginf().all():
        raise ModelError(
            "the checkpoint's generation settings forbid every token that the schema allows"
        )
    if controls.generator is None:
        return int(scores.argmax(dim=-1))
    probabilities = scores.softmax(dim=-1)
    return int(torch.multinomial(probabilities, num_samples=1, generator=controls.generator))


def _only(following: "Int64Array | None", scores: torch.Tensor) -> torch.Tensor:
    """Return scores (1, vocabulary) with -inf for all but some tokens, if there is a choice."""
    if following is None:
        return scores
    allowed = torch.from_numpy(following).to(scores.device)
    only = torch.full_like(scores, -torch.inf)
    only[:, allowed] = scores[:, allowed]
    return only
