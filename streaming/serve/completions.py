"""The route for questions: an answer in one piece, or streamed as it comes."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from streaming.serve.chat import Chat, read_chat
from streaming.serve.failures import RequestError, bad_request, explain
from streaming.serve.metrics import Metrics
from streaming.serve.options import LoadOptions
from streaming.serve.patience import ClientLeftError, Patience
from streaming.serve.progress import EncodeProgress
from streaming.serve.pump import Place, Pump
from streaming.serve.reply import DONE, Reply, event
from streaming.serve.served import Served
from streaming.serve.service import Service
from streaming.serve.status import check_model
from streaming.serve.streams.answers import StreamAnswers

Piece = str | EncodeProgress | Served
Pieces = AsyncGenerator[Piece, None]
CLIENT_LEFT = 499
"""The status of a response that nobody gets, as proxies log it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Begun:
    """An answer of which the first piece has come."""

    chat: Chat
    started: float
    first: Piece
    rest: Pieces

    async def pieces(self) -> Pieces:
        """Yield all of it."""
        async with aclosing(self.rest):
            yield self.first
            async for piece in self.rest:
                yield piece

    def seconds(self) -> float:
        """Return how long ago it was asked for."""
        return time.perf_counter() - self.started


class Completions:
    """Answers chat completions.

    Args:
        service: answers.
        streams: answers what is asked about a stream.
        pump: runs it.
        metrics: of the server.
        load: how long an answer may take and be.
        most_pictures: of a clip.
    """

    def __init__(
        self,
        service: Service,
        streams: StreamAnswers,
        pump: Pump,
        metrics: Metrics,
        load: LoadOptions,
        most_pictures: int,
    ) -> None:
        self._service = service
        self._streams = streams
        self._pump = pump
        self._metrics = metrics
        self._load = load
        self._most_pictures = most_pictures

    def add_to(self, app: FastAPI) -> None:
        """Add the route."""
        app.post("/v1/chat/completions")(self.create)

    async def create(self, request: Request) -> Response:
        """Answer a question about a clip.

        What goes wrong before the first piece has a status of its own, also where it is streamed.
        """
        started = time.perf_counter()
        with self._pump.enter() as place:  # before a body is taken that could not be answered
            chat = await asyncio.to_thread(self._read, await read_json(request))
            return await self._answer(request, chat, place, started)

    async def _answer(self, request: Request, chat: Chat, place: Place, started: float) -> Response:
        patience = Patience(self._load.request_seconds)
        watcher = asyncio.create_task(_watch(request, patience))
        try:
            who = self._streams if chat.clip.is_stream else self._service
            pieces: Pieces = self._pump.run(
                lambda tell: who.answer(chat, patience, tell), patience, place
            )
            begun = _Begun(chat=chat, started=started, first=await anext(pieces), rest=pieces)
            return self._streamed(begun) if chat.stream else await self._whole(begun)
        except ClientLeftError:
            return Response(status_code=CLIENT_LEFT)
        finally:
            watcher.cancel()

    def _read(self, body: Any) -> Chat:
        chat = read_chat(body, self._service.options, self._most_pictures)
        check_model(chat.model, self._service.model)
        most = self._load.max_answer_tokens
        if chat.options.generation.max_new_tokens > most:
            raise bad_request(f"max_tokens must be at most {most} here", "max_tokens")
        return chat

    async def _whole(self, begun: _Begun) -> Response:
        first_seconds = begun.seconds()
        async with aclosing(begun.pieces()) as pieces:
            (served,) = [piece async for piece in pieces if isinstance(piece, Served)]
        self._metrics.answered(served, first_seconds)
        return JSONResponse(Reply(chat=begun.chat).whole(served))

    def _streamed(self, begun: _Begun) -> Response:
        headers = {"Cache-Control": "no-store"}
        return StreamingResponse(
            self._events(begun), media_type="text/event-stream", headers=headers
        )

    async def _events(self, begun: _Begun) -> AsyncIterator[bytes]:
        reply = Reply(chat=begun.chat)
        yield reply.first(self._service.model)
        try:
            async with aclosing(begun.pieces()) as pieces:
                async for event_bytes in self._written(reply, begun, pieces):
                    yield event_bytes
        except ClientLeftError:
            return
        except Exception as error:
            told = explain(error)
            self._metrics.failed(told.code)
            yield event(told.to_json()) + DONE

    async def _written(self, reply: Reply, begun: _Begun, pieces: Pieces) -> AsyncIterator[bytes]:
        """Yield the chunks of an answer, without the blanks before its text."""
        model, is_blank, first_seconds = self._service.model, True, None
        async for piece in pieces:
            if isinstance(piece, EncodeProgress):
                yield reply.progress(model, piece)
                continue
            if first_seconds is None:
                first_seconds = begun.seconds()
            if isinstance(piece, Served):
                self._metrics.answered(piece, first_seconds)
                yield reply.last(piece) + DONE
                continue
            text = piece.lstrip() if is_blank else piece
            is_blank = is_blank and not text
            if text:
                yield reply.piece(model, text)


async def read_json(request: Request) -> Any:
    """Return what the body of a request says, read in a thread, as it may be long.

    Raises:
        RequestError: it is no JSON, or does not say that it is.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":  # which no page of another site sends without being asked
        raise RequestError(415, "content_type", "the body must be application/json")
    try:
        return await asyncio.to_thread(json.loads, await request.body())
    except (ValueError, RecursionError):
        raise bad_request("the body is not valid JSON") from None


async def _watch(request: Request, patience: Patience) -> None:
    """Notice that the client leaves before its answer has begun."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    patience.leave()
