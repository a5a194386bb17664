import pytest

from workers.vision.anchors import anchor_of, chunk_in_group


def test_the_first_of_sixteen_frames_is_their_anchor() -> None:
    assert [anchor_of(frame) for frame in range(40)] == [0] * 16 + [16] * 16 + [32] * 8


@pytest.mark.parametrize(
    ("most", "size"), [(1, 1), (2, 2), (3, 2), (4, 4), (7, 4), (8, 8), (15, 8), (16, 16), (99, 16)]
)
def test_a_chunk_is_the_largest_that_divides_a_group(most: int, size: int) -> None:
    assert chunk_in_group(most) == size
    assert size == max(each for each in range(1, most + 1) if 16 % each == 0)
