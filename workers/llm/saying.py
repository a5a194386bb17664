"""Saying an answer token by token: what is to be read, and what is drawn from the logits after it.

An answer is a generator. It yields token ids that the model is to read next and is sent the logits
(vocabulary,) of what follows them; it returns what was said. So answers that take turns at one
model need no thread each.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from workers.llm.answer import SamplingOptions

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
) -> Saying[tuple[int, ...]]:
    """Say an answer up to a token that ends it, or as long as it may be.

    Args:
        question: token ids of all that comes before the answer.
        controls: of this answer alone: its generator is used up.
        max_new_tokens: at least 1.
        push: gets every token as it comes.
    """
    ids, unread = question, question
    while len(ids) < len(question) + max_new_tokens:
        token = _draw(controls, ids, (yield unread))
        push(token)
        ids, unread = (*ids, token), (token,)
        if token in controls.end_tokens:
            break
    return ids[len(question) :]


def _take(
    model: Any, input_ids: Any, logits_processor: Any, generation_config: Any, **_: Any
) -> Any:
    return logits_processor, generation_config


def _draw(controls: Controls, ids: tuple[int, ...], logits: torch.Tensor) -> int:
    scores = logits[None].float()
    if len(controls.processors):
        scores = controls.processors(torch.tensor([ids], device=logits.device), scores)
    if controls.generator is None:
        return int(scores.argmax(dim=-1))
    probabilities = scores.softmax(dim=-1)
    return int(torch.multinomial(probabilities, num_samples=1, generator=controls.generator))
