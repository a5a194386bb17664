"""What ``--dtype auto`` means on a CPU. Neither torch nor a weight is loaded for it."""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from workers.checkpoint import locate, read_config
from workers.process import ModelOptions

_CPU_INFO = Path("/proc/cpuinfo")
_HALF_PRECISION = ("bfloat16", "float16")


@lru_cache(maxsize=4)
def cpu_dtype(model: str) -> str:
    """Return bfloat16 where it gains and loses nothing, else float32: torch's names.

    It gains where this CPU multiplies matrices of it (``amx_bf16``): a tower of CLIP-L's width is
    three times as fast as in float32, Llama-3-8B's layers four times in the prefill. With
    ``avx512_bf16`` alone both take 1.3 times as long, without either three times (measured). And it
    loses nothing where the checkpoint is in half precision: one in float32, as the embedded model
    is, was evaluated so.

    Args:
        model: what the user calls the checkpoint.

    Raises:
        ModelError: it cannot be found.
    """
    config = read_config(locate(model))
    stored = config.get("dtype") or config.get("torch_dtype")
    return "bfloat16" if stored in _HALF_PRECISION and _multiplies_bfloat16() else "float32"


def settled_model(options: ModelOptions) -> ModelOptions:
    """Return the options with what an auto ``dtype`` is on this process' CPU, for all workers."""
    return replace(options, cpu_dtype=cpu_dtype(options.model))


def _multiplies_bfloat16() -> bool:
    """Return whether the kernel names AMX for bfloat16 among this CPU's flags; only Linux does."""
    if not _CPU_INFO.exists():
        return False
    with _CPU_INFO.open(encoding="utf-8") as lines:
        flags = next((line for line in lines if line.startswith("flags")), "")
    return "amx_bf16" in flags.split()
