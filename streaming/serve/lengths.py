"""How long texts may be, told before anything is made of them."""

from collections.abc import Iterable

from streaming.sample import open_checkpoint
from streaming.serve.chat import Chat
from streaming.serve.failures import RequestError

_LETTERS_PER_TOKEN = 16
"""A longer text cannot fit a context, and is not tokenized to find that out."""


def check_length(texts: Iterable[str], model: str) -> None:
    """Refuse texts that cannot fit the context together, before they are tokenized.

    Raises:
        RequestError: says so.
    """
    context = open_checkpoint(model).template.context_length
    if sum(map(len, texts)) > _LETTERS_PER_TOKEN * context:
        raise RequestError(
            400,
            "context_length_exceeded",
            f"the text is longer than the model's context of {context} tokens",
        )


def texts_of(chat: Chat) -> list[str]:
    """Return all that is said in a conversation, and may be answered."""
    return [chat.question, *(turn.text for turn in chat.question.earlier), *chat.choices]
