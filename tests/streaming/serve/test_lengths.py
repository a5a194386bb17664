from pathlib import Path

import pytest

from streaming.sample import open_checkpoint
from streaming.serve.failures import RequestError
from streaming.serve.lengths import check_length


def test_texts_are_measured_together(checkpoint: Path) -> None:
    check_length(["a" * 30, "b" * 20], str(checkpoint), 50)
    with pytest.raises(RequestError, match="has 51 letters, and at most 50 are taken here"):
        check_length(["a" * 31, "b" * 20], str(checkpoint), 50)


def test_what_cannot_fit_the_context_is_refused_however_much_is_taken(checkpoint: Path) -> None:
    context = open_checkpoint(str(checkpoint)).template.context_length
    check_length(["a" * 16 * context], str(checkpoint), 10**9)
    with pytest.raises(RequestError, match=f"longer than the model's context of {context} tokens"):
        check_length(["a" * (16 * context + 1)], str(checkpoint), 10**9)
