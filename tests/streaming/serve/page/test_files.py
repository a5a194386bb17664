"""The files of the page, without a browser."""

import re

import av
import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from streaming.serve.static import page_routes
from tests.streaming.serve.page.conftest import EXAMPLE, FOLDER
from training.demo import SEED, choose_clip
from training.draw import draw_frame, frame_moments
from training.make_set import PICTURES_PER_FRAME, SCALE
from training.questions import questions_of

FILES = sorted(FOLDER.iterdir())
INDEX = (FOLDER / "index.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def client() -> TestClient:
    return TestClient(Starlette(routes=page_routes()))


def test_the_page_and_its_files_are_sent_as_they_are(client: TestClient) -> None:
    assert client.get("/").text == INDEX
    for path in FILES:
        if path.name != "index.html":
            response = client.get(f"/page/{path.name}")
            assert response.content == path.read_bytes()
            kinds = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
            kind = response.headers["content-type"].partition(";")[0]
            assert kind == kinds.get(path.suffix, "video/mp4")


@pytest.mark.parametrize("path", ["/page/../static.py", "/page/%2e%2e/static.py", "/page/", "/x"])
def test_nothing_else_is_sent(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


def test_nothing_comes_from_elsewhere_and_no_code_or_style_is_inline() -> None:
    for path in FILES:
        if path.suffix in (".html", ".css", ".js"):
            text = path.read_text(encoding="utf-8")
            assert set(re.findall(r"https?://[^\"'`]+", text)) <= {"http://www.w3.org/2000/svg"}
            assert "innerHTML" not in text
            assert len(text.splitlines()) < 250
    assert not re.search(r"<script(?![^>]*src=)|<style|\son\w+=|\sstyle=", INDEX)


def test_the_example_is_the_clip_of_the_demo_and_its_questions_have_answers() -> None:
    clip, _ = choose_clip(SEED)
    with av.open(str(EXAMPLE)) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(pictures) == clip.num_frames * PICTURES_PER_FRAME
    moments = frame_moments(len(pictures), 0.5)
    for picture, moment in list(zip(pictures, moments, strict=True))[::5]:
        drawn = draw_frame(clip, moment, SCALE)
        assert np.abs(picture.astype(int) - drawn.astype(int)).mean() < 4
    offered = re.findall(r'<button class="plain" type="button">(.*?\?)</button>', INDEX)
    assert len(offered) == 4
    assert set(offered) <= {question.text for question in questions_of(clip)}
