"""The key that a server wants and a client shows: from a file, else from the environment."""

import os

from workers.errors import InputError

KEY_VARIABLE = "MR_STREAM_API_KEY"
_MOST_LETTERS = 4096


def read_key(file: str | None) -> str | None:
    """Return the key of a file, else of the environment, None without either.

    Raises:
        InputError: the file cannot be read, or holds no key.
    """
    if file is None:
        return os.environ.get(KEY_VARIABLE) or None
    try:
        with open(file, encoding="utf-8") as opened:
            key = opened.read(_MOST_LETTERS).strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "is not text"
        raise InputError(f"--api-key-file {file}: {reason}") from None
    if not key or len(key.split()) > 1 or not key.isascii():
        raise InputError(f"--api-key-file {file}: must hold one key, plain and without blanks")
    return key
