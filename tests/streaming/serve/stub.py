"""A service that answers without a model, when it is told to."""

import threading
import time
from collections.abc import Callable, Generator
from typing import Any

from streaming.options import Options
from streaming.result import Answer
from streaming.serve.chat import Chat
from streaming.serve.patience import Patience
from streaming.serve.progress import EncodeProgress
from streaming.serve.served import Served


class StubEngine:
    """Has failed, or not."""

    failure: Exception | None = None


class StubService:
    """Yields pieces for as long as it is let; each answer is counted while it is made."""

    model = "embedded"
    options = Options()

    def __init__(self, *pieces: str, error: Exception | None = None) -> None:
        self.engine = StubEngine()
        self.pieces = pieces
        self.error = error
        self.go_on = threading.Event()
        self.go_on.set()
        self.running = 0

    def answer(
        self, chat: Chat, patience: Patience, tell: Callable[[EncodeProgress], object]
    ) -> Generator[str | Served, None, None]:
        self.running += 1
        try:
            for number, piece in enumerate(self.pieces):
                while number and not self.go_on.is_set():
                    patience.check()
                    time.sleep(0.01)
                yield piece
            if self.error is not None:
                raise self.error
            answer = make_answer("".join(self.pieces))
            yield Served(answer=answer, warm=False, pictures={})
        finally:
            self.running -= 1


def make_answer(text: str) -> Answer:
    counts: dict[str, Any] = dict.fromkeys(
        ("budget", "num_unpruned_tokens", "num_entering_tokens", "num_text_tokens",
         "num_answer_tokens", "num_tiles", "num_encoded_tiles"), 1,
    )  # fmt: skip
    return Answer(
        video="clip.mp4", question="Why?", answer=text, model="embedded", frames=(), seconds={},
        elapsed_seconds=1.0, peak_memory_bytes={}, warnings=(), config={}, **counts,
    )  # fmt: skip
