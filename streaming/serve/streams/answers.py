"""A chat completion about a stream: about what is held of it at that moment."""

import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import replace

from streaming.flags import change
from streaming.options import Options
from streaming.pipeline import ask
from streaming.result import Answer, BankUse, seconds_of_a_question
from streaming.serve.chat import Chat
from streaming.serve.failures import bad_request, explain
from streaming.serve.lengths import check_length, texts_of
from streaming.serve.patience import Patience
from streaming.serve.progress import EncodeProgress
from streaming.serve.schemas import check_served_form
from streaming.serve.served import Served
from streaming.serve.streams.streams import Streams
from streaming.watch.plan import LivePlan
from workers.errors import InputError, StreamError

_PER_QUESTION = ("budget", "max_new_tokens", "temperature", "seed", "json_schema")
"""Options that change nothing of what is held."""


class StreamAnswers:
    """Answers questions about streams.

    Args:
        streams: of the server.
        model: what clients call the model.
        most_letters: of a conversation.
    """

    def __init__(self, streams: Streams, model: str, most_letters: int) -> None:
        self._streams = streams
        self._most_letters = most_letters
        self._model = model

    def answer(
        self, chat: Chat, patience: Patience, tell: Callable[[EncodeProgress], object]
    ) -> Generator[str | Served, None, None]:
        """Yield the answer's text as it comes, then the whole with its record.

        There is no progress to ``tell`` of: what is held is encoded.

        Raises:
            RequestError: there is no such stream, nothing of it yet, or the question is refused.
            StreamError: a worker failed.
            ClientLeftError: nobody waits any more.
        """
        started = time.perf_counter()
        stream = self._streams.get(chat.clip.addresses[0])
        chat = replace(chat, options=_settled(stream.plan.options, chat))
        check_length(texts_of(chat), chat.options.model.model, self._most_letters)
        check_served_form(chat.options.generation, chat.choices)
        plan = _plan(stream.plan, chat.options)
        try:
            watched, reached = stream.look(plan)
            pieces = ask(
                self._streams.engine,
                watched,
                chat.question,
                choices=chat.choices,
                check=patience.check,
            )
            with closing(pieces):
                for piece in pieces:
                    if isinstance(piece, Answer):
                        elapsed = time.perf_counter() - started
                        whole = self._shown(piece, stream.plan.budget, elapsed)
                        yield Served(answer=whole, warm=True, pictures={}, reached_seconds=reached)
                    else:
                        yield piece
        except StreamError as error:
            raise explain(error) from None

    def _shown(self, answer: Answer, budget: int, elapsed_seconds: float) -> Answer:
        """Return an answer with its own seconds, not those of the stream."""
        return replace(
            answer,
            model=self._model,
            seconds=seconds_of_a_question(answer.seconds),
            elapsed_seconds=elapsed_seconds,
            bank=BankUse(hit=True, made_for_budget=budget),
        )


def _settled(options: Options, chat: Chat) -> Options:
    """Return the options of a stream with what a question may change of them."""
    for name in chat.changes:
        if name not in _PER_QUESTION:
            raise bad_request(
                f"mr_stream.{name} is not taken with a stream: it was settled when the stream was "
                "opened, and what is held depends on it",
                f"mr_stream.{name}",
            )
    try:
        return change(options, chat.changes, source="")
    except InputError as error:
        raise explain(error) from None


def _plan(plan: LivePlan, options: Options) -> LivePlan:
    """Return the plan of a question: the stream's, at no larger a budget."""
    budget = options.budget.budget or plan.budget
    if budget > plan.budget:
        reason = f"the stream is held for a budget of {plan.budget}: ask with no more"
        raise bad_request(f"mr_stream.budget {budget}: {reason}", "mr_stream.budget")
    return replace(plan, budget=budget, options=options)
