"""What streams are called."""

import re
import secrets

_ID = re.compile(r"stream-[0-9a-f]{32}")


def new_stream_id() -> str:
    """Return an id that no other stream has, and nobody guesses."""
    return f"stream-{secrets.token_hex(16)}"


def is_stream_id(text: str) -> bool:
    """Tell the id of a stream from an address."""
    return _ID.fullmatch(text) is not None
