"""The process a stage runs in: its environment, its threads, its device and its memory."""

import ctypes
import os
import re
import resource
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from workers.errors import ModelError

if TYPE_CHECKING:
    import torch


LOADING = threading.RLock()
"""Held while a model is loaded: libraries are not made to be imported by two threads at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions:
    """Which checkpoint a worker loads and how; ``dtype`` and ``device`` are torch's names."""

    model: str = "embedded"
    device: str = "auto"
    dtype: str = "auto"
    cache_tokens: int = 16_384
    """Prompt tokens whose keys and values a language model keeps for later questions."""
    num_threads: int = 0
    """Threads of one worker's tensor operations; 0 leaves torch's default."""


def prepare_process() -> None:
    """Set what torch and Ray read from the environment when they are first imported.

    For whoever owns the process (a command, an actor) to call first; what is set already stays.
    """
    # OpenMP's threads spin while they wait, which for long makes encoding ten times as slow on
    # cores shared with other work (measured).
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    # A matrix product must not depend on how many threads share it.
    os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
    # Ray would print each worker's death, at length, to stdout.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
    # And it would not show a cluster that asks for one the token it has itself put there.
    if os.path.exists(os.path.expanduser("~/.ray/auth_token")):
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def prepare_torch(options: ModelOptions) -> "tuple[str, torch.dtype]":
    """Set this process' number of threads, and settle what ``"auto"`` means here.

    Returns:
        Device name and dtype: by default a GPU and bfloat16 where there is one, else the CPU and
        float32.

    Raises:
        ModelError: a GPU is demanded and this process sees none.
    """
    import torch

    if options.num_threads:
        torch.set_num_threads(options.num_threads)
    device = options.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    elif device == "cuda" and not torch.cuda.is_available():
        raise ModelError("--device cuda: no GPU can be used here; use --device cpu or auto")
    name = options.dtype
    if name == "auto":
        name = "float32" if device == "cpu" else "bfloat16"
    return device, getattr(torch, name)


def release_memory() -> None:
    """Give freed memory back to the system, where the C library is one that holds on to it.

    Small results that stay stand between the large blocks that were freed around them, and glibc
    neither reuses nor returns these by itself: resident memory grew by more than a picture with
    each frame (measured), with nothing left alive. Cost: about a millisecond.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def peak_memory_bytes() -> int:
    """Return this process' peak resident memory, shared pages included."""
    status = Path("/proc/self/status")
    if not status.exists():  # macOS, where ru_maxrss is in bytes
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Not ru_maxrss: a forked process starts with its parent's.
    match = re.search(r"VmHWM:\s+(\d+) kB", status.read_text(encoding="ascii"))
    return int(match[1]) * 1024 if match else 0
