"""A question on its way through a model's thread."""

from collections.abc import Hashable, Iterator
from queue import SimpleQueue
from threading import Event
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from tokenizers import Tokenizer

from workers.arrays import Int64Array
from workers.llm.answer import GeneratedAnswer, SamplingOptions
from workers.llm.decoder import Decoder
from workers.llm.detokenizer import TextStream
from workers.llm.prompt import Prompt
from workers.llm.saying import Saying
from workers.visual import VisualSequence

if TYPE_CHECKING:
    from workers.llm.grammar import Grammar


class Said(NamedTuple):
    """An answer's text and token ids, and whether it ended for its length."""

    text: str
    token_ids: tuple[int, ...]
    is_cut: bool = False


class Question:
    """What is asked, and a queue into which the answer's text and its end are put.

    Args:
        visual: what is shown of the clip.
        prompt: about it.
        sampling: greedy or drawn.
        grammar: that the answer follows, at its beginning; None where it is free.
    """

    def __init__(
        self,
        visual: VisualSequence,
        prompt: Prompt,
        sampling: SamplingOptions,
        grammar: "Grammar | None" = None,
    ) -> None:
        self.visual = visual
        self.prompt = prompt
        self.sampling = sampling
        self._grammar = grammar
        self.prefill_seconds = 0.0
        self.stop = Event()
        """Set when nobody waits for the answer any more."""
        self._news: SimpleQueue[str | GeneratedAnswer | BaseException] = SimpleQueue()

    @property
    def key(self) -> Hashable:
        """What questions share that go on from the same prefix."""
        return self.visual.visual_id, self.prompt.frame_segments

    def pieces(self) -> Iterator[str | GeneratedAnswer]:
        """Yield the text as it comes, then the whole answer; raise what it failed with."""
        while True:
            piece = self._news.get()
            if isinstance(piece, BaseException):
                raise piece
            yield piece
            if isinstance(piece, GeneratedAnswer):
                return

    def say(self, decoder: Decoder, tokenizer: Tokenizer) -> Saying[Said]:
        """Say the answer, and put its text into the queue."""
        if self.prompt.choices:
            chosen = yield from decoder.choose(self.prompt, self.sampling)
            self._news.put(chosen.text)
            return Said(chosen.text, chosen.token_ids)
        text = TextStream(tokenizer, self._news.put)
        token_ids, is_cut = yield from decoder.say(
            self.prompt, self.sampling, text.push, self._grammar
        )
        text.finish()
        return Said(text.text.strip(), token_ids, is_cut)

    def end(self, said: Said, seconds: float, kept: torch.Tensor | None) -> None:
        """Put the whole answer into the queue, with the seconds that it took to say.

        ``kept`` are places among the visual tokens, ascending, if they were chosen for it.
        """
        self._news.put(
            GeneratedAnswer(
                text=said.text,
                token_ids=said.token_ids,
                num_text_tokens=self.prompt.num_text_tokens,
                seconds={"prefill": self.prefill_seconds, "generate": seconds},
                keep_indices=None if kept is None else _by_frame(self.visual, kept),
                is_cut=said.is_cut,
            )
        )

    def fail(self, error: BaseException) -> None:
        """Put what ended the answer into the queue."""
        self._news.put(error)


def _by_frame(visual: VisualSequence, kept: torch.Tensor) -> tuple[Int64Array, ...]:
    """Return the indices within every frame of some of the visual tokens."""
    places = kept.cpu().numpy()
    ends = np.searchsorted(places, np.cumsum(visual.counts))
    return tuple(np.split(visual.keep_indices[places], ends[:-1]))
