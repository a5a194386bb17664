import pytest

from workers.errors import ResourceError
from workers.run.placement import ClusterOptions, describe_resources, plan_bundles

SIX = ClusterOptions(num_decoders=3, num_encoders=2)


def test_without_gpus_every_actor_takes_one_cpu() -> None:
    assert plan_bundles(SIX, "auto", {"CPU": 6.0}) == [{"CPU": 1.0}] * 6


def test_gpus_are_not_touched_on_request() -> None:
    assert plan_bundles(SIX, "cpu", {"CPU": 6.0, "GPU": 4.0}) == [{"CPU": 1.0}] * 6


@pytest.mark.parametrize("num_gpus", [3.0, 8.0])
@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_models_take_a_whole_gpu_where_there_are_enough(num_gpus: float, device: str) -> None:
    model, decoder = {"CPU": 1.0, "GPU": 1.0}, {"CPU": 1.0}
    bundles = plan_bundles(SIX, device, {"CPU": 64.0, "GPU": num_gpus})
    assert bundles == [model] * 3 + [decoder] * 3


@pytest.mark.parametrize(("num_gpus", "part"), [(1.0, 0.333), (2.0, 0.5)])
def test_models_share_gpus_in_equal_parts(num_gpus: float, part: float) -> None:
    bundles = plan_bundles(SIX, "auto", {"CPU": 6.0, "GPU": num_gpus})
    assert bundles[:3] == [{"CPU": 1.0, "GPU": part}] * 3
    assert bundles[3:] == [{"CPU": 1.0}] * 3


@pytest.mark.parametrize("num_encoders", range(1, 12))
@pytest.mark.parametrize("num_gpus", [1.0, 2.0, 3.0, 7.0])
def test_parts_fit_together_on_the_gpus(num_encoders: int, num_gpus: float) -> None:
    options = ClusterOptions(num_encoders=num_encoders)
    bundles = plan_bundles(options, "auto", {"CPU": 99.0, "GPU": num_gpus})
    parts = [bundle["GPU"] for bundle in bundles if "GPU" in bundle]
    assert len(parts) == num_encoders + 1
    assert len(set(parts)) == 1
    # A part lies on one GPU: Ray never gives out pieces of two.
    assert int(1 / parts[0]) * num_gpus >= len(parts)


def test_bundles_are_separate_objects() -> None:
    bundles = plan_bundles(SIX, "auto", {"CPU": 6.0, "GPU": 1.0})
    assert len({id(bundle) for bundle in bundles}) == 6


@pytest.mark.parametrize("num_cpus", [0.0, 2.0, 5.0, 5.5])
def test_too_few_cpus_are_named_with_a_remedy(num_cpus: float) -> None:
    message = (
        rf"^3 decoders, 2 encoders and 1 language model need 6 CPUs, the cluster has "
        rf"{num_cpus:g}: lower --num-decoders, --num-encoders or --num-llms$"
    )
    with pytest.raises(ResourceError, match=message):
        plan_bundles(SIX, "auto", {"CPU": num_cpus})


def test_a_cluster_that_tells_nothing_has_nothing() -> None:
    with pytest.raises(ResourceError, match="need 6 CPUs, the cluster has 0"):
        plan_bundles(SIX, "auto", {})


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_gpu_that_is_not_there_is_an_error(device: str) -> None:
    with pytest.raises(ResourceError, match=r"^--device cuda: the cluster has no GPU"):
        plan_bundles(SIX, device, {"CPU": 6.0})


@pytest.mark.parametrize(
    ("bundles", "text"),
    [
        ([{"CPU": 1.0, "GPU": 0.5}, {"CPU": 2.0, "GPU": 0.5}], "3 CPU, 1 GPU"),
        ([{"CPU": 1.5}], "1.5 CPU"),
        ([{"GPU": 0.0, "memory": 1e9}], "nothing"),
        ([], "nothing"),
    ],
)
def test_resources_in_words(bundles: list[dict[str, float]], text: str) -> None:
    assert describe_resources(bundles) == text
