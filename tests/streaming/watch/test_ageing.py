import pytest

from streaming.watch.ageing import Ageing


@pytest.mark.parametrize(("window", "num_levels"), [(2, 1), (2, 4), (3, 3), (8, 5)])
def test_each_level_is_half_as_dense_as_the_one_before(window: int, num_levels: int) -> None:
    ageing = Ageing(window, num_levels)
    for num_frames in range(1, 700):
        ageing.add()
        levels = ageing.levels
        behind, before = num_frames, 0
        for level in range(num_levels):
            held = [frame for frame, at in levels.items() if at == level]
            step = 2**level
            assert held == list(range(behind - step * len(held), behind, step))
            assert all(frame % step == 0 for frame in held)
            assert len(held) <= window
            if level and held:  # the level before is as full as it can be
                assert before >= window - 1
            behind = held[0] if held else behind
            before = len(held)


def test_what_is_held_is_never_more_than_was_held_and_the_new_frame() -> None:
    ageing, before = Ageing(4, 3), dict[int, int]()
    for number in range(200):
        moves = {move.frame: move.level for move in ageing.add()}
        after = ageing.levels
        expected = {**before, number: 0} | {f: at for f, at in moves.items() if at is not None}
        for frame in (frame for frame, at in moves.items() if at is None):
            del expected[frame]
        assert after == dict(sorted(expected.items()))
        assert all(level >= before.get(frame, 0) for frame, level in after.items())
        before = after
    assert len(before) <= 12


@pytest.mark.parametrize(("window", "num_levels"), [(1, 1), (2, 0)])
def test_less_than_two_frames_or_one_level_is_refused(window: int, num_levels: int) -> None:
    with pytest.raises(ValueError, match="two frames on a level, one level"):
        Ageing(window, num_levels)
