import json
import math

import pytest

from tests.streaming.bench.conftest import MakePoint, MakeTrial


def test_figures_are_medians_with_quartiles(make_point: MakePoint) -> None:
    row = make_point(1.0, 2.0, 3.0, 4.0, 9.0).to_json()
    assert row["critical_path_seconds"] == (3.0, 2.0, 4.0)
    assert row["first_token_seconds"] == (1.5, 1.0, 2.0)
    assert row["answer_seconds_p50"] == 3.0
    assert row["answer_seconds_p95"] == pytest.approx(8.0)
    assert row["frames_per_second"] == pytest.approx(8 / 3)
    assert row["questions_per_second"] == 4.0
    assert row["cpu_seconds_per_video_hour"] == pytest.approx(3.0 * 100)
    assert row["peak_memory_bytes_sum"] == 4 * 2**20
    assert len(row["trials"]) == 5
    json.dumps(row)


def test_stages_stand_in_the_order_of_a_clips_way(make_point: MakePoint) -> None:
    row = make_point(1.0).to_json()
    assert list(row["stage_seconds"]) == ["open", "decode", "encode", "prefill"]
    assert row["stage_seconds_sum"] == 2.0


def test_utilization_is_a_share_of_the_peak(make_point: MakePoint) -> None:
    # 1e9 operations in 0.5 s of 1e10 a second, and in 0.25 s
    assert make_point(1.0).utilization() == pytest.approx({"vision": 0.2, "prefill": 0.4})


def test_without_a_trial_there_is_a_reason(make_point: MakePoint) -> None:
    row = make_point(error="out of memory").to_json()
    assert (row["remark"], row["trials"]) == ("out of memory", [])


def test_a_picture_has_no_hours(make_point: MakePoint, make_trial: MakeTrial) -> None:
    point = make_point(trials=[make_trial(video_seconds=0.0)])
    assert math.isnan(point.to_json()["cpu_seconds_per_video_hour"])
