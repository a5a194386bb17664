"""The process a stage runs in: its environment, its threads, its device and its memory."""

import ctypes
import logging
import os
import re
import resource
import threading
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from workers.errors import ModelError, ResourceError

if TYPE_CHECKING:
    import torch


_STATUS = Path("/proc/self/status")
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
    llm_weights: str = "dtype"
    """How the language model's weights are held: in ``dtype``, or as ``"int8"``."""
    llm_server: str | None = None
    """URL of a vLLM server that holds the language model, instead of loading it."""
    llm_key_file: str | None = None
    """Of the key that the server asks for."""
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
    # Where torchao is installed, transformers imports it, and both warn of kernels for other GPUs.
    for name in ("torchao", "torch.utils._pytree"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # Ray would not show a cluster that asks for one the token it has itself put there.
    if os.path.exists(os.path.expanduser("~/.ray/auth_token")):
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def prepare_torch(options: ModelOptions) -> "tuple[str, torch.dtype]":
    """Set how many threads this thread's operators take, and settle what ``"auto"`` means here.

    Returns:
        Device name and dtype: by default a GPU and bfloat16 where there is one, else the CPU and
        float32.

    Raises:
        ModelError: a GPU is demanded and this process sees none.
    """
    import torch

    set_num_threads(options.num_threads or _default_threads())
    device = options.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    elif device == "cuda" and not torch.cuda.is_available():
        raise ModelError("--device cuda: no GPU can be used here; use --device cpu or auto")
    name = options.dtype
    if name == "auto":
        name = "float32" if device == "cpu" else "bfloat16"
    return device, getattr(torch, name)


def set_num_threads(number: int) -> None:
    """Let operators that this thread calls take so many threads, whatever others do."""
    import torch

    torch.get_num_threads()  # else the first operator takes the number that was set last anywhere
    torch.set_num_threads(number)


@cache
def _default_threads() -> int:
    """Return torch's own number of threads: what it is before it is set for the first time."""
    import torch

    return torch.get_num_threads()


def limit_memory(num_bytes: int) -> None:
    """Let this process hold at most so much private memory; what asks for more gets a MemoryError.

    The kernel counts private writable memory (RLIMIT_DATA), and so neither code nor the shared
    memory of Ray's object store, which may be larger than any limit worth setting (with RLIMIT_AS
    that would count: 3.3 GiB in an idle actor, measured). It counts what is reserved, such as
    threads' stacks, which are hardly used: what is reserved beyond what is held now is added.

    Raises:
        ResourceError: this system tells no process what it holds.
    """
    held, reserved = _status_bytes("RssAnon"), _status_bytes("VmData")
    if not reserved:
        raise ResourceError("--decoder-gib needs Linux: leave it out here")
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    limit = num_bytes + max(0, reserved - held)
    if most != resource.RLIM_INFINITY:
        limit = min(limit, most)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, most))


def is_short_of_memory(num_bytes: int) -> bool:
    """Return whether a limit on this process leaves it less than this; False without a limit."""
    limit, _ = resource.getrlimit(resource.RLIMIT_DATA)
    return limit != resource.RLIM_INFINITY and limit - _status_bytes("VmData") < num_bytes


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
    if not _STATUS.exists():  # macOS, where ru_maxrss is in bytes
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return _status_bytes("VmHWM")  # not ru_maxrss: a forked process starts with its parent's


def _status_bytes(name: str) -> int:
    """Return what the kernel says of this process' memory, 0 where it says nothing."""
    status = _STATUS.read_text(encoding="ascii") if _STATUS.exists() else ""
    match = re.search(rf"^{name}:\s+(\d+) kB", status, re.MULTILINE)
    return int(match[1]) * 1024 if match else 0
