"""The application: every route, behind the guard. A plain ASGI object."""

from collections.abc import Callable

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from streaming.serve.completions import CLIENT_LEFT, Completions
from streaming.serve.failures import RequestError, explain
from streaming.serve.files import Files
from streaming.serve.guard import Guard
from streaming.serve.metrics import Metrics
from streaming.serve.options import ServerOptions
from streaming.serve.pictures import Pictures
from streaming.serve.pump import Pump
from streaming.serve.service import Service
from streaming.serve.static import page_routes
from streaming.serve.status import Status
from streaming.serve.streams.answers import StreamAnswers
from streaming.serve.streams.routes import StreamRoutes
from streaming.serve.streams.streams import Streams
from streaming.serve.uploads import Uploads

_MULTIPART_BYTES = 2**20
"""What a form takes beside the file in it."""
_HTTP_CODES = {404: ("not_found", "there is nothing at this path"), 405: ("not_allowed", "not so")}


def create_app(
    service: Service,
    files: Files,
    streams: Streams,
    options: ServerOptions,
    *,
    api_key: str | None = None,
    is_ready: Callable[[], bool] = lambda: True,
) -> Guard:
    """Return the application.

    Args:
        service: answers.
        files: takes uploads.
        streams: opens live sources.
        options: of the server.
        api_key: that clients must show on every path but ``/health``, None for none.
        is_ready: whether the models are loaded.
    """
    app = FastAPI(title="mr-stream", docs_url=None, redoc_url=None, openapi_url=None)
    pump = Pump(options.load.max_queue)
    metrics = Metrics(lambda: pump.running, lambda: pump.waiting, streams.totals)
    _tell_errors(app, metrics)
    app.router.routes.extend(page_routes())
    Status(service, metrics, is_ready).add_to(app)
    Uploads(files, options.load.max_queue).add_to(app)
    Pictures(service).add_to(app)
    StreamRoutes(streams, service.options, pump).add_to(app)
    about_streams = StreamAnswers(streams, service.model, options.load.max_text_letters)
    most_pictures = options.media.max_frames
    Completions(service, about_streams, pump, metrics, options.load, most_pictures).add_to(app)
    return Guard(
        app,
        api_key=api_key,
        is_loopback=options.address.is_loopback,
        max_bytes=int(options.media.max_body_mib * 2**20),
        max_upload_bytes=files.max_file_bytes + _MULTIPART_BYTES,
        body_seconds=options.media.body_seconds,
        public_host=options.address.public_host,
        failed=metrics.failed,
    )


def _tell_errors(app: FastAPI, metrics: Metrics) -> None:
    """Answer every error in OpenAI's form, and count it."""

    async def tell(request: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException):
            code, message = _HTTP_CODES.get(error.status_code, ("invalid_request", "not valid"))
            error = RequestError(error.status_code, code, message)
        told = explain(error)
        metrics.failed(told.code)
        return Response(told.body(), told.status, told.headers(), "application/json")

    for kind in (RequestError, HTTPException, Exception):
        app.add_exception_handler(kind, tell)
    app.add_exception_handler(ClientDisconnect, _nobody_hears)


async def _nobody_hears(request: Request, error: Exception) -> Response:
    """End a request whose client left while its body came, which is no failure."""
    return Response(status_code=CLIENT_LEFT)
