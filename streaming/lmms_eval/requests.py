"""What lmms-eval asks, in this project's terms. Nothing of lmms-eval is imported here."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from streaming.command import Parser
from streaming.flags import add_options, change, read_options
from streaming.options import Options
from streaming.ranges import flag
from workers.arrays import UInt8Array
from workers.errors import InputError, VideoOpenError

_NEUTRAL = {"num_beams": 1, "repetition_penalty": 1, "top_p": 1, "top_k": 0}
"""Generation options that are not supported, with the value at which they change nothing."""

_DRAWING_ONLY = ("top_p", "top_k")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EvalRequest:
    """One question about one video, or about pictures in order.

    ``video`` is a path, empty where there are ``pictures``: (height, width, 3) RGB. ``options`` are
    the run's with what the task asks for; ``until`` are texts at which the answer ends, themselves
    not in it.
    """

    question: str
    video: str
    pictures: tuple[UInt8Array, ...]
    options: Options
    until: tuple[str, ...]

    def clip_key(self) -> tuple[str, str, Options]:
        """Return what two requests share that are about the same clip. Cost: O(pixels)."""
        digest = hashlib.sha256(repr([picture.shape for picture in self.pictures]).encode())
        for picture in self.pictures:
            digest.update(picture.tobytes())
        return self.video, digest.hexdigest(), self.options

    def cut_answer(self, text: str) -> str:
        """Return the answer without blanks around it, up to the first of ``until``."""
        text = text.strip()
        for ending in self.until:
            text = text.partition(ending)[0]
        return text.strip()


def read_model_args(given: Mapping[str, object]) -> Options:
    """Read ``--model_args``: the options of ``streaming.ask`` by name, ``config`` for a file.

    Raises:
        InputError: a name or a value is not valid; names the nearest valid option.
    """
    words = []
    for name, value in given.items():
        if isinstance(value, bool):
            words.append(flag(name if value else f"no_{name}"))
        else:
            words.append(f"{flag(name)}={value}")
    parser = Parser(prog="--model_args", add_help=False, allow_abbrev=False)
    add_options(parser, without=("bank", "bank_gib"))
    try:
        return read_options(parser.parse_args(words))
    except InputError as error:
        raise InputError(f"--model_args: {error}") from None


def read_request(
    messages: Sequence[Mapping[str, Any]], generation: Mapping[str, Any], options: Options
) -> EvalRequest:
    """Read a chat of lmms-eval.

    The images or the video of the chat go before its text, wherever in the text they stood, as
    LLaVA-NeXT's own template places them. Images have no time, so ``num_frames``, ``fps``,
    ``start``, ``end``, ``timestamps`` and ``decoder`` do not apply to them; a part of a video that
    the task names goes before ``start`` and ``end`` of the run.

    Args:
        messages: of one user turn with images or one video.
        generation: the task's generation options.
        options: of the run.

    Raises:
        InputError: a request of another shape, or a generation option that is not supported.
        VideoOpenError: an image given by its path cannot be read.
    """
    if [message["role"] for message in messages] != ["user"]:
        roles = ", ".join(str(message["role"]) for message in messages) or "none"
        raise InputError(f"a request is one user turn, but this one has the turns: {roles}")
    content = messages[0]["content"]
    question = "".join(part["text"] for part in content if part["type"] == "text")
    images = [part["url"] for part in content if part["type"] == "image"]
    videos = [part for part in content if part["type"] == "video"]
    kinds = {str(part["type"]) for part in content}
    if kinds - {"text", "image", "video"} or len(videos) > 1 or bool(videos) == bool(images):
        raise InputError(
            f"a request holds one video or some images, but this one {len(videos)} videos and "
            f"{len(images)} images (kinds: {', '.join(sorted(kinds)) or 'none'}): {question!r}"
        )
    if not question.strip():
        raise InputError("a request without a question")
    until = generation.get("until") or ()
    settings = _generation_settings(generation, options)
    video, settings = _read_video(videos[0], settings) if videos else ("", settings)
    pictures = tuple(map(_read_image, images))
    if pictures:
        settings |= {"num_frames": len(pictures), "fps": None, "start": None, "end": None}
        settings |= {"timestamps": False, "decoder": "pyav"}
    return EvalRequest(
        question=question,
        video=video,
        pictures=pictures,
        options=change(options, settings, source="the task"),
        until=tuple(filter(None, (until,) if isinstance(until, str) else until)),
    )


def unknown_settings(generation: Mapping[str, Any]) -> list[str]:
    """Return the generation options that mean nothing here; many tasks name other models' own."""
    known = {"max_new_tokens", "temperature", "do_sample", "until", *_NEUTRAL}
    return sorted(set(generation) - known)


def _generation_settings(generation: Mapping[str, Any], options: Options) -> dict[str, Any]:
    """Return ``max_new_tokens`` and ``temperature``; what a task leaves open is the run's."""
    temperature = generation.get("temperature")
    if temperature is None:
        temperature = options.generation.temperature or float(generation.get("do_sample") is True)
    if generation.get("do_sample") is False:
        temperature = 0.0
    for name, neutral in _NEUTRAL.items():
        value = generation.get(name)
        matters = temperature > 0 or name not in _DRAWING_ONLY
        if matters and value is not None and value != neutral:
            raise InputError(f"the generation option {name}={value} is not supported")
    longest = generation.get("max_new_tokens")
    return {
        "temperature": float(temperature),
        "max_new_tokens": options.generation.max_new_tokens if longest is None else int(longest),
    }


def _read_video(part: Mapping[str, Any], settings: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the path, and the settings with the part of the video that is asked about."""
    video = part["url"]
    window = {"start": part.get("start_time"), "end": part.get("end_time")}
    if isinstance(video, Mapping):
        window = {"start": video.get("video_start"), "end": video.get("video_end")}
        video = video.get("path") or video.get("url")
    if not isinstance(video, str) or not video:
        raise InputError(f"a video must be given by its path, not {video!r}")
    return video, settings | {name: value for name, value in window.items() if value is not None}


def _read_image(image: Any) -> UInt8Array:
    if isinstance(image, str):
        try:
            with Image.open(image) as opened:
                return np.asarray(opened.convert("RGB"))
        except OSError as error:
            raise VideoOpenError(f"{image}: not a readable image ({error})") from None
    if not isinstance(image, Image.Image):
        raise InputError(f"an image must be a PIL image or a path, not {type(image).__name__}")
    return np.asarray(image.convert("RGB"))
