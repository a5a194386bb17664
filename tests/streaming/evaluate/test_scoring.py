import dataclasses

import numpy as np
import pytest

from streaming.evaluate.records import Failure, Record
from streaming.evaluate.scoring import Result, score


def record(
    row: str, clip: str, right: int, asked: int, *, kept: str = "0.1", seed: int = 0
) -> Record:
    return Record(
        key=(row, kept, seed),
        clip=clip,
        num_questions=asked,
        right={"color": right},
        asked={"color": asked},
        num_visual_tokens=10,
        num_entering_tokens=40,
        num_unpruned_tokens=100,
        seconds={"prefill": 0.5, "generate": 0.5},
    )


def one_row(records: list[Record]) -> Result:
    return score(records, rows=["a"], baseline="a", failures=[])


def test_accuracy_counts_questions_of_all_clips_and_seeds() -> None:
    records = [record("a", "x", 3, 4), record("a", "y", 0, 1), record("a", "x", 2, 4, seed=1)]
    (found,) = one_row(records).scores
    assert found.accuracy == dict.fromkeys(("color", "all", "mean of types"), pytest.approx(5 / 9))
    assert found.num_questions == {"color": 9, "all": 9}
    assert found.kept_share == pytest.approx(0.1)
    assert found.num_entering_tokens == 40
    assert found.questions_per_second == pytest.approx(9 / 3)
    assert found.seconds == {"prefill": pytest.approx(1.5 / 9), "generate": pytest.approx(1.5 / 9)}
    assert found.change is None


def test_in_the_mean_of_types_each_type_counts_alike() -> None:
    often, seldom = record("a", "x", 6, 8), record("a", "y", 0, 1)
    seldom = dataclasses.replace(seldom, right={"count": 1}, asked={"count": 2})
    (found,) = one_row([often, seldom]).scores
    assert found.accuracy["all"] == pytest.approx(7 / 10)
    assert found.accuracy["mean of types"] == pytest.approx((6 / 8 + 1 / 2) / 2)
    # Of two clips a resample may hold one only: its types alone are counted then.
    assert found.interval["mean of types"] == (pytest.approx(1 / 2), pytest.approx(6 / 8))


def test_an_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(1)
    hits = 0
    for _ in range(200):
        rights = generator.binomial(5, 0.7, size=40)
        records = [record("a", f"{i}", int(right), 5) for i, right in enumerate(rights)]
        low, high = one_row(records).scores[0].interval["all"]
        hits += low <= 0.7 <= high
    # 95 % of 200 is 190; five standard errors of that are 15, and 40 clips make it a bit narrow.
    assert 170 <= hits <= 200


def test_a_paired_difference_is_sharper_than_the_intervals_apart() -> None:
    generator = np.random.default_rng(0)
    hard = generator.integers(0, 6, size=50)
    rows = {"a": hard, "b": np.maximum(hard - 1, 0)}
    records = [
        record(row, f"{clip}", int(right), 5)
        for row, rights in rows.items()
        for clip, right in enumerate(rights)
    ]
    first, second = score(records, rows=["a", "b"], baseline="a", failures=[]).scores
    assert second.change == pytest.approx((rows["b"].sum() - hard.sum()) / 250)
    low, high = second.change_interval or (0.0, 0.0)
    assert low <= second.change <= high < 0
    assert high - low < first.interval["all"][1] - first.interval["all"][0]


def test_a_baseline_only_there_unpruned_serves_every_budget() -> None:
    records = [record("none", "x", 5, 5, kept="1"), record("b", "x", 4, 5)]
    gone = Failure(
        clip="y", num_questions=1, stage="plan", type="VideoOpenError", message="y.mp4: gone"
    )
    result = score(records, rows=["none", "b"], baseline="none", failures=[gone])
    assert [found.change for found in result.scores] == [None, pytest.approx(-0.2)]
    assert result.failures == (gone,)
