"""Routes that tell of the server: its health, its version, its model, its numbers."""

import time
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response

from streaming.serve.failures import RequestError
from streaming.serve.metrics import CONTENT_TYPE, Metrics
from streaming.serve.service import Service
from workers.version import package_version


class Status:
    """Tells of a service.

    Args:
        service: that answers.
        metrics: of the server.
        is_ready: whether the models are loaded.
    """

    def __init__(self, service: Service, metrics: Metrics, is_ready: Callable[[], bool]) -> None:
        self._service = service
        self._metrics = metrics
        self._is_ready = is_ready
        self._created = int(time.time())

    def add_to(self, app: FastAPI) -> None:
        """Add the routes."""
        app.get("/health")(self.health)
        app.get("/version")(self.version)
        app.get("/metrics")(self.metrics)
        app.get("/v1/models")(self.models)
        app.get("/v1/models/{model:path}")(self.model)

    async def health(self) -> Response:
        """Tell whether questions are answered: 200, or 503 with why not."""
        if self._service.engine.failure is not None:
            return JSONResponse({"status": "failed"}, 503)
        if not self._is_ready():
            return JSONResponse({"status": "starting"}, 503, {"Retry-After": "2"})
        return JSONResponse({"status": "ok"})

    async def version(self) -> dict[str, str]:
        """Tell the version of the package."""
        return {"version": package_version()}

    async def metrics(self) -> Response:
        """Tell the numbers, as Prometheus reads them."""
        return Response(self._metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    async def models(self) -> dict[str, Any]:
        """List the one model there is."""
        return {"object": "list", "data": [self._model()]}

    async def model(self, model: str) -> dict[str, Any]:
        """Tell of the model, if it is asked for by its name."""
        check_model(model, self._service.model)
        return self._model()

    def _model(self) -> dict[str, Any]:
        return {
            "id": self._service.model,
            "object": "model",
            "created": self._created,
            "owned_by": "mr-stream",
            "mr_stream": self._service.offer(),
        }


def check_model(asked: str | None, served: str) -> None:
    """Refuse another model than the one that is served; none stands for it.

    Raises:
        RequestError: names the model that is served.
    """
    if asked not in (None, served):
        raise RequestError(404, "model_not_found", f"the model here is {served!r}", param="model")
