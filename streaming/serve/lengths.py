"""How long texts may be, told before anything is made of them."""

from collections.abc import Iterable

from streaming.sample import open_checkpoint
from streaming.serve.chat import Chat
from streaming.serve.failures import RequestError

_LETTERS_PER_TOKEN = 16
"""A longer text cannot fit a context, and is not tokenized to find that out."""


def check_length(texts: Iterable[str], model: str, most_letters: int) -> None:
    """Refuse texts that are too long together, or cannot fit the context, before they are read.

    Args:
        texts: of one prompt.
        model: of which the context is.
        most_letters: that are taken of any model.

    Raises:
        RequestError: says so.
    """
    context = open_checkpoint(model).template.context_length
    num_letters = sum(map(len, texts))
    if num_letters > most_letters:
        text = f"the text has {num_letters} letters, and at most {most_letters} are taken here"
        raise RequestError(400, "text_too_long", text)
    if num_letters > _LETTERS_PER_TOKEN * context:
        raise RequestError(
            400,
            "context_length_exceeded",
            f"the text is longer than the model's context of {context} tokens",
        )


def texts_of(chat: Chat) -> list[str]:
    """Return all that is said in a conversation, and may be answered."""
    return [chat.question, *(turn.text for turn in chat.question.earlier), *chat.choices]
