"""Opening a clip in a worker, which may die of it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.clips import draw_clip, paint_frame
from workers.errors import VideoOpenError, WorkerError
from workers.messages import SourceRequest
from workers.run.engine import Engine
from workers.run.local import LocalWorker
from workers.run.worker import Results, Worker, WorkerDiedError, WorkerHungError
from workers.stages import ReadStage
from workers.video.images import ImageSource
from workers.video.source import open_source
from workers.video.video_index import VideoIndex


class Frail(LocalWorker):
    """A decoder that dies for a while."""

    def __init__(self, deaths: Sequence[WorkerDiedError]) -> None:
        super().__init__("decoder-0", ReadStage)
        self.deaths = list(deaths)

    def call(self, request: Any, inputs: Sequence[Any]) -> Results:
        if self.deaths:
            raise self.deaths.pop(0)
        return super().call(request, inputs)

    def replace(self) -> None:
        pass


@contextmanager
def running(*deaths: WorkerDiedError) -> Iterator[Engine]:
    decoders: list[Worker] = [Frail(deaths)]
    engine = Engine({"decoder": decoders, "encoder": [], "llm": []})
    engine.start()
    try:
        yield engine
    finally:
        engine.close()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(draw_clip(tmp_path_factory.mktemp("opened") / "clip.mp4", num_frames=9))


HANGS, DIES = WorkerHungError("not heard of"), WorkerDiedError("killed")


@pytest.mark.parametrize("deaths", [[], [HANGS], [DIES] * 3])
def test_what_is_opened_by_a_worker_is_what_is_opened_here(
    clip: str, deaths: list[WorkerDiedError]
) -> None:
    with running(*deaths) as engine:
        opened = engine.open(SourceRequest(paths=(clip,)), "the clip")
    expected = open_source(clip)
    assert isinstance(opened, VideoIndex)
    assert isinstance(expected, VideoIndex)
    assert opened.identity == expected.identity
    assert np.array_equal(opened.pts, expected.pts)


def test_pictures_are_opened_as_one_clip(tmp_path: Path) -> None:
    paths = tuple(str(tmp_path / f"{number}.png") for number in range(2))
    for number, path in enumerate(paths):
        Image.fromarray(paint_frame(number)).save(path)
    with running() as engine:
        opened = engine.open(SourceRequest(paths=paths, pictures=True), "the pictures")
    assert isinstance(opened, ImageSource)
    assert opened.pictures == paths


@pytest.mark.parametrize("deaths", [[HANGS] * 2, [DIES] * 4])
def test_a_clip_that_workers_die_of_is_given_up(clip: str, deaths: list[WorkerDiedError]) -> None:
    text = rf"^the clip: opening it killed its worker {len(deaths)} times"
    with running(*deaths) as engine:
        with pytest.raises(WorkerError, match=text):
            engine.open(SourceRequest(paths=(clip,)), "the clip")
        assert engine.failure is None
        assert engine.open(SourceRequest(paths=(clip,)), "the clip").num_frames == 9


def test_what_is_no_clip_is_told(tmp_path: Path) -> None:
    path = tmp_path / "text.mp4"
    path.write_text("hello")
    with running() as engine, pytest.raises(VideoOpenError, match="is not a video"):
        engine.open(SourceRequest(paths=(str(path),)), "the clip")
