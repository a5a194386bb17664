"""What the actors need of a cluster, worked out before anything is started."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from workers.errors import ResourceError


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterOptions:
    """How many actors, and which Ray cluster: ``address`` None is a private one on this machine."""

    num_decoders: int = 1
    num_encoders: int = 1
    num_llms: int = 1
    address: str | None = None

    @property
    def num_actors(self) -> int:
        """Decoders, encoders and language models."""
        return self.num_decoders + self.num_encoders + self.num_llms


def plan_bundles(
    options: ClusterOptions, device: str, resources: Mapping[str, float]
) -> list[dict[str, float]]:
    """Return the resources of each actor: the language models, the encoders, the decoders.

    Every actor takes one CPU. Where the cluster has GPUs and ``device`` is not ``"cpu"``,
    each language model and each encoder take a whole one if there are enough, else equal parts.

    Args:
        options: how many actors.
        device: "auto", "cpu" or a CUDA device.
        resources: what the cluster has in all, by Ray's names.

    Raises:
        ResourceError: too few CPUs, or a GPU is demanded and there is none.
    """
    num_cpus = resources.get("CPU", 0)
    if num_cpus < options.num_actors:
        raise ResourceError(
            f"{options.num_decoders} decoders, {options.num_encoders} encoders and "
            f"{options.num_llms} language model{'s' * (options.num_llms != 1)} need "
            f"{options.num_actors} CPUs, the cluster has "
            f"{num_cpus:g}: lower --num-decoders, --num-encoders or --num-llms"
        )
    num_gpus = 0 if device == "cpu" else resources.get("GPU", 0)
    if device.startswith("cuda") and not num_gpus:
        raise ResourceError("--device cuda: the cluster has no GPU; use --device cpu or auto")
    model = {"CPU": 1.0}
    if num_gpus:
        # Ray counts in steps of 1/10000; rounded down so that the parts always fit together.
        sharing = math.ceil((options.num_encoders + options.num_llms) / num_gpus)
        model["GPU"] = int(1000 / sharing) / 1000
    return [dict(model) for _ in range(options.num_encoders + options.num_llms)] + [
        {"CPU": 1.0} for _ in range(options.num_decoders)
    ]


def describe_resources(bundles: list[dict[str, float]]) -> str:
    """Return the sum of bundles as text, such as ``4 CPU, 1 GPU``."""
    names = [name for name in ("CPU", "GPU") if any(bundle.get(name) for bundle in bundles)]
    sums = (f"{sum(bundle.get(name, 0) for bundle in bundles):g} {name}" for name in names)
    return ", ".join(sums) or "nothing"
