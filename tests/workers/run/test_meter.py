from typing import Any

import numpy as np
import pytest

from pruner import FrameLayout
from workers.messages import AllocateRequest, EncodeNews, EncodeRequest, Note, ReadNews
from workers.run.call_job import CallJob
from workers.run.meter import COUNTERS, ClientMeter, readings
from workers.run.queue import Unit
from workers.visual import KeptFrame


class Metric:
    """Keeps what it is told, by tags."""

    def __init__(self, name: str, description: str, tag_keys: tuple[str, ...]) -> None:
        self.tag_keys = tag_keys
        self.told: list[tuple[str, float, dict[str, str]]] = []

    def inc(self, value: float, tags: dict[str, str]) -> None:
        assert tuple(tags) == self.tag_keys
        self.told.append(("inc", value, tags))

    def set(self, value: float, tags: dict[str, str]) -> None:
        assert tuple(tags) == self.tag_keys
        self.told.append(("set", value, tags))


def test_readings_go_to_the_metric_of_their_name_with_its_tag() -> None:
    made: dict[str, Metric] = {}

    def make(name: str, **about: Any) -> Metric:
        made[name] = Metric(name, **about)
        return made[name]

    meter = ClientMeter(make, make)
    meter.add("stream_frames_total", 8, "read")
    meter.add("stream_frames_total", 0, "read")
    meter.add("stream_tokens_kept_total", 5)
    meter.set("stream_queue_depth", 0, "llm")
    assert made["stream_frames_total"].told == [("inc", 8, {"stage": "read"})]
    assert made["stream_tokens_kept_total"].told == [("inc", 5, {})]
    assert made["stream_queue_depth"].told == [("set", 0, {"kind": "llm"})]


def kept(num_tokens: int, num_timestamp_tokens: int) -> KeptFrame:
    return KeptFrame(
        frame_index=0,
        pts_seconds=0.0,
        layout=FrameLayout(num_base=16, rows=0, columns=0),
        keep_indices=np.arange(num_tokens),
        num_timestamp_tokens=num_timestamp_tokens,
        base_informativeness=1.0,
        grid_informativeness=0.0,
        novelty=1.0,
    )


def unit(request: Any) -> Unit:
    return Unit(job=CallJob("llm", "a call"), request=request)


@pytest.mark.parametrize(
    ("request_type", "news", "expected"),
    [
        (
            AllocateRequest,
            ReadNews(num_covered=4, frame_indices=np.arange(3), pts_seconds=np.arange(3.0)),
            [("stream_frames_total", 3, "read")],
        ),
        (
            EncodeRequest,
            EncodeNews(prune_seconds=(0.5, 0.25), num_encoded_tiles=9),
            [("stream_stage_seconds_total", 0.75, "prune"), ("stream_frames_total", 2, "encode")],
        ),
        (AllocateRequest, (kept(4, 0), kept(2, 1)), [("stream_tokens_kept_total", 7, "")]),
    ],
)
def test_results_count_seconds_and_frames(
    request_type: type, news: Any, expected: list[tuple[str, float, str]]
) -> None:
    arguments: dict[str, Any] = {"allocation": None}
    if request_type is EncodeRequest:
        arguments = {"tiles": None, "prunings": (), "frame_indices": np.arange(2)}
    note = Note(news=news, seconds={"decode": 0.25}, peak_memory_bytes=1)
    found = list(readings(unit(request_type(**arguments)), note))
    assert found == [("stream_stage_seconds_total", 0.25, "decode"), *expected]
    assert all(name in COUNTERS for name, _, _ in found)
