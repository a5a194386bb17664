import pytest
import torch
from torch import Tensor

from pruner.trees import merge_trees, tree_parents
from tests.pruner import loop_reference

NUM_FRAMES, NUM_TOKENS, DIM = 4, 7, 5
Link = tuple[int, int, int]


def segment(seed: int) -> tuple[Tensor, Tensor]:
    """A scene whose tokens move to other places, and which of them take part."""
    generator = torch.Generator().manual_seed(seed)
    scene = torch.randn(NUM_TOKENS, DIM, generator=generator)
    moved = [scene[torch.randperm(NUM_TOKENS, generator=generator)] for _ in range(NUM_FRAMES)]
    tokens = torch.stack(moved)
    noise = 0.25 * torch.randn(tokens.shape, generator=generator)
    return tokens + noise, torch.rand(NUM_FRAMES, NUM_TOKENS, generator=generator) < 0.8


def slow_links(tokens: Tensor, free: Tensor) -> list[tuple[float, Link]]:
    """(cosine, (frame, place, place in the frame before)), most similar first."""
    frames, links = tokens.double().tolist(), []
    for frame in range(1, len(frames)):
        parents = free[frame - 1].nonzero()[:, 0].tolist()
        for place in free[frame].nonzero()[:, 0].tolist():
            token, before = frames[frame][place], frames[frame - 1]
            cosine, best = max((loop_reference.cosine(token, before[p]), p) for p in parents)
            if cosine > 0.8:
                links.append((cosine, (frame, place, best)))
    return sorted(links, key=lambda link: -link[0])


def links_of(parents: Tensor) -> set[Link]:
    linked = (parents >= 0).nonzero().tolist()
    return {(frame, place, int(parents[frame, place])) for frame, place in linked}


@pytest.mark.parametrize("at_most", [0, 3, 8, 28])
@pytest.mark.parametrize("seed", range(3))
def test_links_equal_the_loop(seed: int, at_most: int) -> None:
    tokens, free = segment(seed)
    expected = slow_links(tokens, free)
    assert len(expected) > 8
    parents = tree_parents(tokens, free, at_most=at_most)
    assert links_of(parents) == {link for _, link in expected[:at_most]}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_root_is_the_mean_of_its_tree(dtype: torch.dtype) -> None:
    tokens, free = segment(1)
    tokens = tokens.to(dtype)
    parents = tree_parents(tokens, free, at_most=28)
    merged = torch.stack(list(merge_trees(tokens, parents))[::-1])
    members: dict[tuple[int, int], list[Tensor]] = {}
    for frame in range(NUM_FRAMES):
        for place in range(NUM_TOKENS):
            root = frame, place
            while (parent := int(parents[root])) >= 0:
                root = root[0] - 1, parent
            members.setdefault(root, []).append(tokens[frame, place].double())
    assert max(map(len, members.values())) == NUM_FRAMES
    for root, own in members.items():
        mean = torch.stack(own).mean(dim=0)
        torch.testing.assert_close(merged[root].double(), mean, rtol=1e-5, atol=1e-6)
        assert len(own) > 1 or torch.equal(merged[root], tokens[root].to(merged))


def test_a_token_that_moves_stays_in_its_tree() -> None:
    scene = torch.eye(4)
    tokens = torch.stack((scene, scene.roll(1, 0), scene.roll(2, 0)))
    parents = tree_parents(tokens, torch.ones(3, 4, dtype=torch.bool), at_most=12)
    assert parents.tolist() == [[-1] * 4, [3, 0, 1, 2], [3, 0, 1, 2]]


def test_zero_vectors_and_what_takes_no_part_hang_on_nothing() -> None:
    tokens = torch.ones(2, 2, 3)
    tokens[1, 1] = 0
    free = torch.tensor([[False, True], [True, True]])
    assert tree_parents(tokens, free, at_most=4).tolist() == [[-1, -1], [1, -1]]
    assert (tree_parents(tokens, torch.zeros_like(free), at_most=4) == -1).all()
