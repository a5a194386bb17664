"""The embedded checkpoint truly answers, end to end, on clips it has never seen."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import AutoProcessor, LlavaNextForConditionalGeneration

from streaming.config import Options
from streaming.pipeline import open_pool
from training.make_set import draw_set
from training.measure import Tally
from training.measure_pipeline import measure
from workers.checkpoint import locate
from workers.run.pool import Pool

OPTIONS = Options(executor="local", max_new_tokens=5)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty clips of one to eight frames, of all shapes, drawn with a seed of their own."""
    folder: Path = tmp_path_factory.mktemp("clips")
    draw_set(folder, seed=99, clips_per_kind=1, num_frames=(1, 2, 4, 8))
    return folder


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with open_pool(OPTIONS) as pool:
        yield pool


def share_right(tally: Tally) -> float:
    right, asked = (sum(count[index] for count in tally.values()) for index in (0, 1))
    assert asked > 80
    return right / asked


# Measured on all twenty clips (178 questions): 1.00 and 0.78; guessing gets about 0.35.
@pytest.mark.parametrize(("keep_ratio", "least"), [(1.0, 0.93), (0.1, 0.65)])
def test_it_answers_most_questions(
    pool: Pool, clips: Path, keep_ratio: float, least: float
) -> None:
    options = replace(OPTIONS, keep_ratio=keep_ratio)
    assert share_right(measure(pool, options, clips, every=2)) >= least


def test_it_is_an_ordinary_checkpoint_of_transformers() -> None:
    folder = Path(locate("embedded"))
    assert sum(file.stat().st_size for file in folder.iterdir()) < 20_000_000
    model = LlavaNextForConditionalGeneration.from_pretrained(folder)
    processor = AutoProcessor.from_pretrained(folder)
    assert model.config.image_token_id == processor.image_token_id
