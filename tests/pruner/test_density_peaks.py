import math

import pytest
import torch
from torch import Tensor

from pruner.density_peaks import density_peaks


def slow_peaks(tokens: Tensor, num_clusters: int) -> tuple[list[int], list[int]]:
    rows = tokens.double().tolist()
    distances = [[math.dist(one, two) / math.sqrt(len(one)) for two in rows] for one in rows]
    nearest = [sorted(row)[: min(num_clusters, 7)] for row in distances]
    density = [math.exp(-sum(d * d for d in own) / len(own)) for own in nearest]
    farthest = max(max(row) for row in distances)

    def is_denser(one: int, two: int) -> bool:
        return (-density[one], one) < (-density[two], two)

    scores = []
    for place, row in enumerate(distances):
        denser = [row[other] for other in range(len(rows)) if is_denser(other, place)]
        scores.append(density[place] * min(denser, default=farthest))
    order = sorted(range(len(rows)), key=lambda place: (-scores[place], place))
    centres = sorted(order[:num_clusters])
    clusters = [
        min(range(len(centres)), key=lambda own: (row[centres[own]], own)) for row in distances
    ]
    return centres, clusters


@pytest.mark.parametrize("num_clusters", [1, 2, 5, 9, 30])
@pytest.mark.parametrize("seed", range(3))
def test_clusters_equal_the_loop(seed: int, num_clusters: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(30, 4, generator=generator)
    centres, cluster_of = density_peaks(tokens, num_clusters)
    assert (centres.tolist(), cluster_of.tolist()) == slow_peaks(tokens, num_clusters)


def test_far_groups_of_several_sizes_are_the_clusters() -> None:
    generator = torch.Generator().manual_seed(0)
    group = torch.tensor([0, 1, 1, 2, 1, 0, 1, 2, 1, 1, 1, 2, 0])
    tokens = 10.0 * torch.eye(3)[group] + 0.1 * torch.randn(13, 3, generator=generator)
    centres, cluster_of = density_peaks(tokens, 3)
    assert sorted(group[centres].tolist()) == [0, 1, 2]
    assert torch.equal(group[centres][cluster_of], group)


def test_equal_tokens_go_by_index_and_a_centre_stands_for_itself() -> None:
    centres, cluster_of = density_peaks(torch.ones(6, 2), 3)
    assert centres.tolist() == [0, 1, 2]
    assert cluster_of.tolist() == [0, 1, 2, 0, 0, 0]


@pytest.mark.parametrize("num_clusters", [0, 4])
def test_a_cluster_has_a_token(num_clusters: int) -> None:
    with pytest.raises(ValueError, match="clusters have a token each"):
        density_peaks(torch.ones(3, 2), num_clusters)
