"""The page at ``/``: a few files, read once and sent as they are."""

from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_FOLDER = Path(__file__).with_name("page")
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mp4": "video/mp4",
    ".svg": "image/svg+xml",
}
_HEADERS = {"Cache-Control": "no-cache"}


def page_routes() -> list[Route]:
    """Return a route for each file of the page, and ``/`` for its ``index.html``.

    They are behind the key like every other path. No name comes from a request: what is not a file
    of the page has no route.
    """
    files = sorted(path for path in _FOLDER.iterdir() if path.suffix in _TYPES)
    return [_route(path) for path in files]


def _route(path: Path) -> Route:
    content, media_type = path.read_bytes(), _TYPES[path.suffix]

    def send(request: Request) -> Response:
        return Response(content, headers=_HEADERS, media_type=media_type)

    return Route("/" if path.name == "index.html" else f"/page/{path.name}", send)
