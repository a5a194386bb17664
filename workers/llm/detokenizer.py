"""Token ids to text, piece by piece."""

from collections.abc import Callable

from tokenizers import Tokenizer


class TextStream:
    """Text of an answer whose tokens come one by one; special tokens have none.

    A piece comes out once its letters are whole: several tokens can make one. It is what the newest
    tokens add to the text of those right before them, on which theirs can depend.

    Args:
        tokenizer: of the checkpoint.
        emit: gets every piece that is not empty.
    """

    def __init__(self, tokenizer: Tokenizer, emit: Callable[[str], object]) -> None:
        self._tokenizer = tokenizer
        self._emit = emit
        self._pieces: list[str] = []
        self._recent: list[int] = []
        self._num_emitted = 0

    @property
    def text(self) -> str:
        """All pieces so far."""
        return "".join(self._pieces)

    def push(self, token: int) -> None:
        """Take the next token."""
        self._recent.append(token)
        whole = self._decode(self._recent)
        if not whole.endswith("\N{REPLACEMENT CHARACTER}"):
            self._take(whole)

    def finish(self) -> None:
        """Emit what is left, with a replacement character for letters that stay incomplete."""
        self._take(self._decode(self._recent))

    def _take(self, whole: str) -> None:
        piece = whole[len(self._decode(self._recent[: self._num_emitted])) :]
        if piece:
            self._recent = self._recent[self._num_emitted :]
            self._pieces.append(piece)
            self._emit(piece)
        self._num_emitted = len(self._recent)

    def _decode(self, tokens: list[int]) -> str:
        return self._tokenizer.decode(tokens, skip_special_tokens=True)
