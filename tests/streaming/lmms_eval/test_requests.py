from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from streaming.flags import change
from streaming.lmms_eval.requests import EvalRequest, read_request
from streaming.options import Options
from workers.errors import InputError, VideoOpenError
from workers.video.decode import read_pictures
from workers.video.images import open_images
from workers.video.segments import cut_segments


def changed(**values: Any) -> Options:
    return change(Options(), values, source="the test")


OPTIONS = changed(executor="local", num_frames=4, max_new_tokens=7)
TEXT = {"type": "text", "text": "What is this?"}
VIDEO = {"type": "video", "url": "clip.mp4"}


def image(*size: int, seed: int = 0, mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(pixels).convert(mode)


def picture_part(*size: int, seed: int = 0) -> dict[str, Any]:
    return {"type": "image", "url": image(*size, seed=seed)}


def read(*content: Any, options: Options = OPTIONS, **generation: Any) -> EvalRequest:
    return read_request([{"role": "user", "content": content}], generation, options)


def test_a_video_is_its_path_and_the_options_of_the_run() -> None:
    request = read(VIDEO, TEXT)
    assert (request.video, request.question) == ("clip.mp4", "What is this?")
    assert request.pictures == request.until == ()
    assert request.options == OPTIONS


@pytest.mark.parametrize(
    "part",
    [
        VIDEO | {"start_time": 2.0, "end_time": 5.0},
        VIDEO | {"url": {"type": "video", "path": "clip.mp4", "video_start": 2, "video_end": 5}},
        VIDEO | {"url": {"url": "clip.mp4", "video_start": 2.0, "video_end": 5.0}},
    ],
)
def test_a_part_of_a_video_goes_before_that_of_the_run(part: dict[str, Any]) -> None:
    request = read(part, TEXT, options=changed(start=1.0, end=9.0))
    assert request.video == "clip.mp4"
    assert (request.options.frames.start, request.options.frames.end) == (2, 5)
    rest = read(VIDEO | {"start_time": 3.0}, TEXT, options=changed(start=1.0, end=9.0))
    assert (rest.options.frames.start, rest.options.frames.end) == (3, 9)


def test_images_have_no_time() -> None:
    options = changed(
        fps=2.0, start=1.0, end=2.0, timestamps=True, decoder="decord", keep_ratio=0.1
    )
    request = read(picture_part(5, 4), picture_part(5, 4, seed=1), TEXT, options=options)
    assert request.options == changed(num_frames=2, keep_ratio=0.1)
    assert request.video == ""
    assert [picture.shape for picture in request.pictures] == [(4, 5, 3), (4, 5, 3)]


def test_text_is_joined_and_images_keep_their_order() -> None:
    first, second = picture_part(3, 2), picture_part(3, 2, seed=1)
    request = read({"type": "text", "text": "A"}, first, {"type": "text", "text": " B"}, second)
    assert request.question == "A B"
    for picture, part in zip(request.pictures, (first, second), strict=True):
        np.testing.assert_array_equal(picture, np.asarray(part["url"]))


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "1"])
def test_images_become_rgb_as_pil_does_it(mode: str, tmp_path: Path) -> None:
    drawn = image(7, 5, mode=mode)
    drawn.save(tmp_path / "image.png")
    expected = np.asarray(drawn.convert("RGB"))
    for url in (drawn, str(tmp_path / "image.png")):
        (picture,) = read({"type": "image", "url": url}, TEXT).pictures
        np.testing.assert_array_equal(picture, expected)


def test_pictures_are_a_clip_of_the_very_same_pixels() -> None:
    sizes = [(1, 1), (61, 97), (333, 17), (61, 97), (640, 480)]
    request = read(*(picture_part(*size, seed=seed) for seed, size in enumerate(sizes)), TEXT)
    source = open_images(request.pictures)
    assert (source.num_frames, request.options.frames.num_frames) == (5, 5)
    segments = cut_segments(
        "clip", source, np.arange(5), decoder="pyav", frames_per_chunk=2, max_chunks=2
    )
    shown = [
        picture
        for segment in segments
        for chunk in read_pictures(segment)
        for picture in chunk.pictures
    ]
    for picture, expected in zip(shown, request.pictures, strict=True):
        np.testing.assert_array_equal(picture, expected)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([TEXT], "holds one video or some images, but this one 0 videos and 0 images"),
        ([VIDEO, VIDEO, TEXT], "but this one 2 videos and 0 images"),
        ([VIDEO, picture_part(2, 2), TEXT], "but this one 1 videos and 1 images"),
        ([VIDEO, {"type": "audio", "url": "a.wav"}, TEXT], r"\(kinds: audio, text, video\)"),
        ([VIDEO], "a request without a question"),
        ([VIDEO | {"url": 5}, TEXT], "a video must be given by its path, not 5"),
        ([{"type": "image", "url": b"x"}, TEXT], "must be a PIL image or a path, not bytes"),
    ],
)
def test_requests_of_another_shape(content: list[Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(*content)


def test_an_image_that_cannot_be_read_is_named() -> None:
    with pytest.raises(VideoOpenError, match=r"^missing\.png: not a readable image"):
        read({"type": "image", "url": "missing.png"}, TEXT)


@pytest.mark.parametrize("roles", [[], ["system", "user"], ["user", "assistant", "user"]])
def test_requests_of_several_turns(roles: list[str]) -> None:
    messages = [{"role": role, "content": [VIDEO, TEXT]} for role in roles]
    with pytest.raises(InputError, match=f"has the turns: {', '.join(roles) or 'none'}$"):
        read_request(messages, {}, OPTIONS)


def test_the_same_clip_is_known_by_pixels_path_and_options() -> None:
    one, two = picture_part(4, 3), picture_part(4, 3, seed=1)
    requests = [
        read(VIDEO, TEXT),
        read(VIDEO | {"url": "other.mp4"}, TEXT),
        read(VIDEO | {"start_time": 1.0}, TEXT),
        read(VIDEO, TEXT, max_new_tokens=1),
        read(one, TEXT),
        read(two, TEXT),
        read(one, two, TEXT),
        read(two, one, TEXT),
    ]
    assert len({request.clip_key() for request in requests}) == len(requests)
    again = read({"type": "image", "url": one["url"].copy()}, {"type": "text", "text": "And?"})
    assert again.clip_key() == requests[4].clip_key()
