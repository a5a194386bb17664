"""The route for the pictures of a clip's frames, which an answer's evidence names."""

from fastapi import FastAPI
from fastapi.responses import Response

from streaming.serve.service import Service

_FOR_GOOD = {"Cache-Control": "private, max-age=31536000, immutable"}
"""What a clip's id and a frame name never changes."""
_MOST_DIGITS = 9


class Pictures:
    """Sends pictures as long as their clip is warm, whichever way it came.

    Args:
        service: that holds clips.
    """

    def __init__(self, service: Service) -> None:
        self._service = service

    def add_to(self, app: FastAPI) -> None:
        """Add the route."""
        app.get("/v1/clips/{clip_id}/frames/{frame}")(self.get)

    async def get(self, clip_id: str, frame: str) -> Response:
        """Return one frame's picture."""
        is_number = len(frame) <= _MOST_DIGITS and frame.isascii() and frame.isdigit()
        jpeg = self._service.picture(clip_id, int(frame) if is_number else -1)
        return Response(jpeg, headers=_FOR_GOOD, media_type="image/jpeg")
