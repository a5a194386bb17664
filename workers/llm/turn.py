"""The questions about one prefix that a model answers together, and what becomes of each."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from tokenizers import Tokenizer

from workers.llm.decoder import Decoder, Prefix
from workers.llm.question import Question, Said
from workers.llm.rows import Row
from workers.llm.saying import Saying


@dataclass(slots=True, kw_only=True, eq=False)
class _Answer:
    """An answer being said; ``unread`` is what it wants read next."""

    question: Question
    row: Row
    saying: Saying[Said]
    unread: tuple[int, ...]
    seconds: float


class Turn:
    """Says several answers at a time, each of which comes out as it would alone.

    A forward pass takes what every answer wants read next: the question, then a token (see
    :mod:`workers.llm.rows`). One that ends makes room for the next. What goes wrong
    with one ends that one only: a pass that fails is made again for each of its answers alone. The
    seconds of a pass are shared equally by the answers in it.

    Args:
        decoder: used by nobody else meanwhile.
        tokenizer: of the same checkpoint.
        prefix: of the clip; its cache has rows meanwhile.
        take: returns the next question about it, None while there is none.
    """

    def __init__(
        self,
        decoder: Decoder,
        tokenizer: Tokenizer,
        prefix: Prefix,
        take: Callable[[], Question | None],
    ) -> None:
        self._decoder, self._tokenizer = decoder, tokenizer
        self._prefix, self._take = prefix, take
        self._answers: list[_Answer] = []
        self._slots = list(range(decoder.most_rows(prefix)))
        self._reports: list[Callable[[], None]] = []

    def run(self) -> None:
        """Answer until there are no more questions."""
        while self._fill():
            self._read(list(self._answers))
            self._report()

    def _report(self) -> None:
        """Tell who waits what has ended: once no tensor is left to be freed, as they may exit."""
        reports, self._reports = self._reports, []
        for report in reports:
            report()

    def _fill(self) -> bool:
        """Begin answers while there is room; return whether there are any."""
        for answer in [answer for answer in self._answers if answer.question.stop.is_set()]:
            self._leave(answer)
        while self._slots and (question := self._take()) is not None:
            self._begin(question)
        return bool(self._answers)

    def _begin(self, question: Question) -> None:
        start = time.perf_counter()
        saying = question.say(self._decoder, self._tokenizer)
        try:
            unread = next(saying)
        except BaseException as error:
            question.fail(error)
            return
        self._answers.append(
            _Answer(
                question=question,
                row=Row(slot=self._slots.pop(0), num_question=len(question.prompt.question)),
                saying=saying,
                unread=unread,
                seconds=time.perf_counter() - start,
            )
        )

    def _read(self, answers: list[_Answer]) -> None:
        """Read on in some answers together, and let each go on from what follows."""
        start = time.perf_counter()
        rows, texts = [each.row for each in answers], [each.unread for each in answers]
        prunes = [self._prefix.pruning is not None and not row.length for row in rows]
        try:
            logits = self._decoder.read(self._prefix, rows, texts)
        except BaseException as error:
            self._despair(answers, error)
            return
        seconds = (time.perf_counter() - start) / len(answers)
        for answer, row, reads_the_clip in zip(answers, logits, prunes, strict=True):
            if reads_the_clip:
                answer.question.prefill_seconds += seconds
            else:
                answer.seconds += seconds
            self._say(answer, row)

    def _despair(self, answers: list[_Answer], error: BaseException) -> None:
        """Read on in each answer alone; one that fails alone has failed."""
        if len(answers) == 1:
            self._leave(answers[0])
            self._reports.append(partial(answers[0].question.fail, error))
            return
        for answer in answers:
            self._read([answer])

    def _say(self, answer: _Answer, logits: torch.Tensor) -> None:
        """Let an answer go on from what was read."""
        start = time.perf_counter()
        try:
            answer.unread = answer.saying.send(logits)
            answer.seconds += time.perf_counter() - start
        except StopIteration as end:
            self._leave(answer)
            seconds = answer.seconds + time.perf_counter() - start
            kept = self._decoder.kept_visual(self._prefix, answer.row)
            ended = partial(answer.question.end, end.value, seconds, kept)
            self._reports.append(ended)
        except BaseException as error:
            self._leave(answer)
            self._reports.append(partial(answer.question.fail, error))

    def _leave(self, answer: _Answer) -> None:
        """Take an answer out; whoever waits for it hears of that afterwards."""
        self._answers.remove(answer)
        self._slots.insert(0, answer.row.slot)
        if not self._answers:
            self._prefix.cache.forget_rows()
