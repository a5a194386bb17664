"""The content of a message: its texts, and the clip it may hold, in any of the forms in use."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from streaming.serve.failures import RequestError, bad_request
from streaming.serve.streams.ids import is_stream_id

_FRAMES = "data:video/jpeg;base64,"
"""Begins a list of pictures in base64 with commas between them, as vLLM writes a clip of frames."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipPart:
    """Where a clip is: one address, or with ``is_pictures`` one for each of its pictures."""

    addresses: tuple[str, ...]
    is_pictures: bool

    @property
    def is_stream(self) -> bool:
        """Whether it is a stream of this server."""
        return not self.is_pictures and is_stream_id(self.addresses[0])


def too_many_pictures(most: int) -> RequestError:
    """Return the refusal of a clip of too many pictures."""
    return RequestError(413, "media_too_large", f"a clip may have at most {most} pictures")


def read_content(content: Any, where: str, most_pictures: int) -> tuple[str, ClipPart | None]:
    """Return the texts of a message, joined by line ends, and its clip if it has one.

    Args:
        content: a text, or a list of parts in any order.
        where: it stands, for errors.
        most_pictures: of a clip; of more no list is made.

    Raises:
        RequestError: a part of a form that is not taken, several clips, or too many pictures.
    """
    if isinstance(content, str):
        return content, None
    if not isinstance(content, list):
        raise bad_request(f"{where}.content must be a text or a list of parts", where)
    texts: list[str] = []
    videos: list[ClipPart] = []
    pictures: list[str] = []
    for number, part in enumerate(content):
        place = f"{where}.content[{number}]"
        kind: Any = part.get("type") if isinstance(part, dict) else None
        if kind == "text":
            texts.append(_text(part, "text", place))
        elif kind == "image_url":
            pictures.append(_url(part, "image_url", place))
        elif isinstance(kind, str) and kind in _VIDEOS:
            videos.append(_VIDEOS[kind](part, place, most_pictures))
        else:
            known = ", ".join(["text", "image_url", *_VIDEOS])
            raise bad_request(f"{place}.type must be one of {known}", place)
        if len(videos) + bool(pictures) > 1:
            raise bad_request("a message holds one clip: one video, or pictures", where)
    if pictures:
        videos.append(ClipPart(addresses=tuple(pictures), is_pictures=True))
    return "\n".join(texts), videos[0] if videos else None


def _video_url(part: Mapping[str, Any], place: str, most_pictures: int) -> ClipPart:
    address = _url(part, "video_url", place)
    if address[: len(_FRAMES)].lower() == _FRAMES:
        if address.count(",") > most_pictures:  # one before each
            raise too_many_pictures(most_pictures)
        frames = address[len(_FRAMES) :].split(",")
        pictures = tuple(f"data:image/jpeg;base64,{frame}" for frame in frames)
        return ClipPart(addresses=pictures, is_pictures=True)
    return ClipPart(addresses=(address,), is_pictures=False)


def _input_video(part: Mapping[str, Any], place: str, most_pictures: int) -> ClipPart:
    value = part.get("input_video")
    if not isinstance(value, dict) or set(value) - {"data", "format"}:
        raise bad_request(f"{place}.input_video must hold data and format", place)
    return ClipPart(
        addresses=(f"data:video/mp4;base64,{_text(value, 'data', place)}",), is_pictures=False
    )


def _frames(part: Mapping[str, Any], place: str, most_pictures: int) -> ClipPart:
    frames = part.get("video")
    if isinstance(frames, str):
        return ClipPart(addresses=(frames,), is_pictures=False)
    if not isinstance(frames, list) or not frames:
        raise bad_request(f"{place}.video must be an address, or a list of pictures", place)
    if len(frames) > most_pictures:
        raise too_many_pictures(most_pictures)
    if not all(isinstance(frame, str) for frame in frames):
        raise bad_request(f"{place}.video must be a list of addresses", place)
    return ClipPart(addresses=tuple(frames), is_pictures=True)


def _file(part: Mapping[str, Any], place: str, most_pictures: int) -> ClipPart:
    value = part.get("file")
    if not isinstance(value, dict) or set(value) != {"file_id"}:
        raise bad_request(f"{place}.file must hold a file_id", place)
    return ClipPart(addresses=(_text(value, "file_id", place),), is_pictures=False)


_VIDEOS: Mapping[str, Callable[[Mapping[str, Any], str, int], ClipPart]] = {
    "video_url": _video_url,
    "input_video": _input_video,
    "video": _frames,
    "file": _file,
}
"""How parts that are a clip are read, by type."""


def _url(part: Mapping[str, Any], name: str, place: str) -> str:
    value = part.get(name)
    if isinstance(value, str):
        return value
    if not isinstance(value, dict):
        raise bad_request(f"{place}.{name} must hold a url", place)
    return _text(value, "url", place)


def _text(part: Mapping[str, Any], name: str, place: str) -> str:
    value = part.get(name)
    if not isinstance(value, str):
        raise bad_request(f"{place} must hold {name}, a text", place)
    return value
