import pytest
import torch
from torch import Tensor

from pruner import FrameLayout
from pruner.floc import floc, representatives
from tests.pruner import loop_reference

LAYOUT = FrameLayout(num_base=4, rows=2, columns=3)
NUM_FRAMES, DIM = 5, 6
NUM_CONTENT = LAYOUT.num_base + LAYOUT.num_grid
ALL = NUM_FRAMES * LAYOUT.num_tokens


def clusters(seed: int, num_tokens: int = NUM_FRAMES * NUM_CONTENT) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(7, DIM, generator=generator)
    cluster = torch.randint(7, (num_tokens,), generator=generator)
    return centres[cluster] + 0.4 * torch.randn(num_tokens, DIM, generator=generator)


def split(tokens: Tensor) -> tuple[Tensor, Tensor]:
    frames = tokens.unflatten(0, (-1, NUM_CONTENT))
    base, grid = frames.split([LAYOUT.num_base, LAYOUT.num_grid], dim=1)
    return base, grid.unflatten(1, (LAYOUT.rows, LAYOUT.columns))


def slow_value(cosines: list[list[float]], chosen: list[int]) -> float:
    return sum(max(row[own] for own in chosen) for row in cosines)


def slow_greedy(tokens: Tensor, num_keep: int) -> list[int]:
    """The facility location of every possible next set, from the beginning each time."""
    rows = tokens.double().tolist()
    cosines = [[loop_reference.cosine(one, two) for two in rows] for one in rows]
    chosen: list[int] = []
    while len(chosen) < num_keep:
        left = [place for place in range(len(rows)) if place not in chosen]
        chosen.append(max(left, key=lambda place: slow_value(cosines, [*chosen, place])))
    return chosen


def slow_choice(tokens: Tensor, budget: int) -> list[list[int]]:
    """Tokens in the order of choice, each new row with its newline, until the budget is spent."""
    taken: list[tuple[int, int]] = []
    for place in slow_greedy(tokens, min(budget, len(tokens))):
        frame, index = divmod(place, NUM_CONTENT)
        row, column = divmod(index - LAYOUT.num_base, LAYOUT.columns)
        start = LAYOUT.num_base + row * (LAYOUT.columns + 1)
        of_grid = [(frame, start + column), (frame, start + LAYOUT.columns)]
        taken += of_grid if row >= 0 else [(frame, index)]
    kept = list(dict.fromkeys(taken))[:budget]
    return [sorted(flat for frame, flat in kept if frame == own) for own in range(NUM_FRAMES)]


@pytest.mark.parametrize("seed", [0, 1, 2, 4])
def test_representatives_equal_the_loop(seed: int) -> None:
    tokens = clusters(seed)
    expected = slow_greedy(tokens, 20)
    assert representatives(tokens, 20).tolist() == expected
    assert representatives(tokens.double(), 20).tolist() == expected


@pytest.mark.parametrize("budget", [1, 2, 9, 26])
def test_a_choice_equals_the_loop(budget: int) -> None:
    kept = floc(*split(clusters(9)), budget)
    assert [own.tolist() for own in kept] == slow_choice(clusters(9), budget)


def test_lazy_and_plain_choice_are_one_where_many_tokens_repeat() -> None:
    """Whole numbers repeat and tie: gains of 0 and equal gains go to the lower index."""
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randint(-1, 2, (90, 2), generator=generator).float()
    chosen = representatives(tokens, 90)
    assert torch.equal(chosen.sort().values, torch.arange(90))
    units = torch.nn.functional.normalize(tokens, dim=1)
    values = [float((units @ units[chosen[: n + 1]].T).max(dim=1).values.sum()) for n in range(90)]
    gains = torch.tensor(values).diff()
    useful = int((gains > 1e-4).sum())
    assert useful < 8  # eight directions
    assert (gains[useful:] < 1e-4).all()
    assert (chosen[useful + 1 :].diff() > 0).all()


def test_each_choice_is_the_best_there_is_on_many_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pruner.floc._ROWS", 128)
    tokens = clusters(1, 700)
    units = torch.nn.functional.normalize(tokens.double(), dim=1)
    cosines = units @ units.T
    chosen = representatives(tokens, 60)
    for step in (1, 10, 59):
        covered = cosines[:, chosen[:step]].max(dim=1).values
        gains = (cosines - covered).clamp_min(0).sum(dim=1)
        assert gains[chosen[step]] >= gains.max() * (1 - 1e-4)


@pytest.mark.parametrize("budget", [0, 1, 17, ALL - 1, ALL, ALL + 3])
def test_the_budget_is_spent_exactly(budget: int) -> None:
    kept = floc(*split(clusters(0)), budget)
    assert sum(map(len, kept)) == min(budget, ALL)
    assert all((own.diff() > 0).all() and own.dtype == torch.int64 for own in kept)


def test_blocks_of_frames_get_their_part_and_choose_for_themselves() -> None:
    frames = clusters(2, 80 * NUM_CONTENT)
    kept = floc(*split(frames), 100)
    sizes = [len(own) for own in kept]
    assert [sum(sizes[:32]), sum(sizes[32:64]), sum(sizes[64:])] == [40, 40, 20]
    alone = floc(*split(frames[64 * NUM_CONTENT :]), 20)
    assert all(map(torch.equal, kept[64:], alone))


def test_what_is_shown_twice_is_kept_once() -> None:
    scene = torch.eye(NUM_CONTENT)
    clip = torch.cat((scene, torch.eye(NUM_CONTENT).flip(1), scene))
    base, grid = split(clip)
    assert [len(own) for own in floc(base, grid, LAYOUT.num_tokens)] == [LAYOUT.num_tokens, 0, 0]


def test_a_scale_is_no_likeness_and_zero_vectors_represent_nothing() -> None:
    tokens = clusters(4)
    scale = torch.linspace(0.1, 9, len(tokens))[:, None]
    assert torch.equal(representatives(tokens * scale, 15), representatives(tokens, 15))
    tokens[::2] = 0
    assert (representatives(tokens, 12) % 2 == 1).all()
    assert representatives(torch.zeros(3, 2), 5).tolist() == [0, 1, 2]


def test_what_does_not_fit_is_refused() -> None:
    base, grid = split(clusters(0))
    with pytest.raises(ValueError, match="budget"):
        floc(base, grid, -1)
    with pytest.raises(ValueError, match="frames or widths of the tokens differ"):
        floc(base[:2], grid, 5)
    with pytest.raises(ValueError, match="num_bad = 20"):
        floc(base * torch.nan, grid, 5)
