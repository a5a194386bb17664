"""The routes: a plain ASGI application over a service that answers."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from streaming.serve.chat import Chat, read_chat
from streaming.serve.failures import RequestError, bad_request, explain
from streaming.serve.files import Files, StoredFile
from streaming.serve.guard import Guard
from streaming.serve.metrics import CONTENT_TYPE, Metrics
from streaming.serve.options import ServerOptions
from streaming.serve.patience import ClientLeftError, Patience
from streaming.serve.pump import Pump
from streaming.serve.reply import DONE, Reply, event
from streaming.serve.service import Served, Service
from workers.version import package_version

_CLIENT_LEFT = 499
_BLOCK_BYTES = 2**20
_MULTIPART_BYTES = 2**20
"""What a form takes beside the file in it."""
_PLAYABLE = {
    ".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/mp4", ".webm": "video/webm",
    ".mkv": "video/x-matroska", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png",
    ".webp": "image/webp", ".gif": "image/gif",
}  # fmt: skip
"""What a file is served as, by the ending of its name: never as a page or a script."""


def create_app(
    service: Service,
    files: Files,
    options: ServerOptions,
    *,
    api_key: str | None = None,
    is_ready: Callable[[], bool] = lambda: True,
) -> Guard:
    """Return the application.

    Args:
        service: answers.
        files: takes uploads.
        options: of the server.
        api_key: that clients must show on every path but ``/health``, None for none.
        is_ready: whether the models are loaded.
    """
    app = FastAPI(title="mr-stream", docs_url=None, redoc_url=None, openapi_url=None)
    pump = Pump(options.load.max_queue)
    metrics = Metrics(lambda: pump.running)
    started = int(time.time())

    async def tell(request: Request, error: Exception) -> Response:
        told = explain(error)
        metrics.failed(told.code)
        return JSONResponse(told.to_json(), told.status, told.headers())

    async def tell_http(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        code = {404: "not_found", 405: "method_not_allowed"}.get(status, "invalid_request")
        message = {404: "there is nothing at this path", 405: "not by this method"}
        return await tell(
            request, RequestError(status, code, message.get(status, "the request is not valid"))
        )

    app.add_exception_handler(RequestError, tell)
    app.add_exception_handler(HTTPException, tell_http)
    app.add_exception_handler(Exception, tell)

    @app.get("/health")
    async def health() -> Response:
        if service.engine.failure is not None:
            return JSONResponse({"status": "failed"}, 503)
        if not is_ready():
            return JSONResponse({"status": "starting"}, 503, {"Retry-After": "2"})
        return JSONResponse({"status": "ok"})

    @app.get("/version")
    async def version() -> dict[str, str]:
        return {"version": package_version()}

    @app.get("/metrics")
    async def metrics_text() -> Response:
        return Response(metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [_model(service.model, started)]}

    @app.get("/v1/models/{model:path}")
    async def model(model: str) -> dict[str, Any]:
        _check_model(model, service.model)
        return _model(model, started)

    @app.post("/v1/files")
    async def upload(request: Request) -> dict[str, Any]:
        async with request.form(max_files=1, max_fields=8) as form:
            part = form.get("file")
            if not isinstance(part, UploadFile):
                raise bad_request("the form must hold a file", "file")
            return (await _keep(files, part)).to_json()

    @app.get("/v1/files")
    async def list_files() -> dict[str, Any]:
        data = [file.to_json() for file in files.uploads()]
        return {"object": "list", "data": data, "has_more": False}

    @app.get("/v1/files/{file_id}")
    async def get_file(file_id: str) -> dict[str, Any]:
        return files.get(file_id).to_json()

    @app.get("/v1/files/{file_id}/content")
    async def get_content(file_id: str) -> Response:
        file = files.get(file_id)
        ending = "." + file.name.rpartition(".")[2].lower()
        kind = _PLAYABLE.get(ending, "application/octet-stream")
        return FileResponse(file.path, media_type=kind)

    @app.delete("/v1/files/{file_id}")
    async def delete_file(file_id: str) -> dict[str, Any]:
        files.delete(file_id)
        return {"id": file_id, "object": "file", "deleted": True}

    @app.post("/v1/chat/completions")
    async def complete(request: Request) -> Response:
        started = time.perf_counter()
        chat = read_chat(await _read_json(request), service.options)
        _check_model(chat.model, service.model)
        if chat.options.generation.max_new_tokens > options.load.max_answer_tokens:
            most = options.load.max_answer_tokens
            raise bad_request(f"max_tokens must be at most {most} here", "max_tokens")
        patience = Patience(options.load.request_seconds)
        pieces = pump.run(lambda: service.answer(chat, patience), patience)
        watcher = asyncio.create_task(_watch(request, patience))
        try:
            first = await anext(pieces)
            seconds = time.perf_counter() - started
            if chat.stream:
                events = _events(chat, service.model, first, pieces, seconds, metrics)
                return StreamingResponse(
                    events, media_type="text/event-stream", headers={"Cache-Control": "no-store"}
                )
            async with aclosing(_from(first, pieces)) as every:
                (served,) = [piece async for piece in every if isinstance(piece, Served)]
            metrics.answered(served, seconds)
            return JSONResponse(Reply(chat=chat).whole(served))
        except ClientLeftError:
            return Response(status_code=_CLIENT_LEFT)
        finally:
            watcher.cancel()

    return Guard(
        app,
        api_key=api_key,
        is_loopback=options.address.is_loopback,
        max_bytes=int(options.media.max_body_mib * 2**20),
        max_upload_bytes=files.max_file_bytes + _MULTIPART_BYTES,
        body_seconds=options.media.body_seconds,
    )


async def _read_json(request: Request) -> Any:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":  # which no page of another site sends without being asked
        raise RequestError(415, "content_type", "the body must be application/json")
    try:
        return json.loads(await request.body())
    except (ValueError, RecursionError):
        raise bad_request("the body is not valid JSON") from None


async def _watch(request: Request, patience: Patience) -> None:
    """Notice that the client leaves before its answer has begun."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    patience.leave()


async def _events(
    chat: Chat,
    model: str,
    first: str | Served,
    pieces: AsyncGenerator[str | Served, None],
    first_seconds: float,
    metrics: Metrics,
) -> AsyncIterator[bytes]:
    reply, blank = Reply(chat=chat), True
    yield reply.first(model)
    try:
        async with aclosing(_from(first, pieces)) as all_pieces:
            async for piece in all_pieces:
                if isinstance(piece, Served):
                    metrics.answered(piece, first_seconds)
                    yield reply.last(piece) + DONE
                    continue
                text = piece.lstrip() if blank else piece
                blank = blank and not text
                if text:
                    yield reply.piece(model, text)
    except ClientLeftError:
        return
    except Exception as error:
        told = explain(error)
        metrics.failed(told.code)
        yield event(told.to_json()) + DONE


async def _from(
    first: str | Served, pieces: AsyncGenerator[str | Served, None]
) -> AsyncGenerator[str | Served, None]:
    async with aclosing(pieces):
        yield first
        async for piece in pieces:
            yield piece


async def _keep(files: Files, part: UploadFile) -> StoredFile:
    def keep() -> StoredFile:
        with files.incoming() as incoming:
            while block := part.file.read(_BLOCK_BYTES):
                incoming.write(block)
            return files.keep(incoming, part.filename or "clip", uploaded=True)

    return await asyncio.to_thread(keep)


def _model(name: str, created: int) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": "mr-stream"}


def _check_model(asked: str | None, served: str) -> None:
    if asked not in (None, served):
        raise RequestError(404, "model_not_found", f"the model here is {served!r}", param="model")
