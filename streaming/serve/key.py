"""The key that a server wants and a client shows: from a file, else from the environment."""

import os

from workers.errors import InputError

KEY_VARIABLE = "MR_STREAM_API_KEY"
_MOST_LETTERS = 4096


def read_key(file: str | None) -> str | None:
    """Return the key of a file, else of the environment, None without either.

    Raises:
        InputError: the file cannot be read, or what is given is no key.
    """
    if file is None:
        given = os.environ.get(KEY_VARIABLE)
        return _checked(given, KEY_VARIABLE) if given else None
    try:
        with open(file, encoding="utf-8") as opened:
            key = opened.read(_MOST_LETTERS)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "is not text"
        raise InputError(f"--api-key-file {file}: {reason}") from None
    return _checked(key, f"--api-key-file {file}")


def _checked(text: str, source: str) -> str:
    key = text.strip()
    if not key or len(key.split()) > 1 or not key.isascii():
        raise InputError(f"{source}: must hold one key, plain and without blanks")
    return key
