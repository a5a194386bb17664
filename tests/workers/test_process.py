import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from workers.errors import ModelError, ResourceError
from workers.process import (
    ModelOptions,
    limit_memory,
    prepare_process,
    prepare_torch,
    set_num_threads,
)


def python(code: str) -> str:
    """Return what a fresh interpreter prints."""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_settings_left_to_the_machine() -> None:
    options = ModelOptions()
    expected = {False: ("cpu", torch.float32), True: ("cuda", torch.bfloat16)}
    assert prepare_torch(options) == expected[torch.cuda.is_available()]


def test_threads_left_to_the_machine_are_as_torch_has_them_whatever_was_set_before() -> None:
    code = """
import torch
from workers.process import ModelOptions, prepare_torch
threads = torch.get_num_threads()
prepare_torch(ModelOptions(device="cpu"))
assert torch.get_num_threads() == threads
prepare_torch(ModelOptions(device="cpu", num_threads=threads + 1))
assert torch.get_num_threads() == threads + 1
prepare_torch(ModelOptions(device="cpu"))
print(torch.get_num_threads() == threads)
"""
    assert python(code) == "True"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_settings_asked_for_are_taken(dtype: str) -> None:
    options = ModelOptions(model="embedded", device="cpu", dtype=dtype)
    assert prepare_torch(options) == ("cpu", getattr(torch, dtype))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ModelError, match=r"^--device cuda: no GPU can be used here"):
        prepare_torch(ModelOptions(model="embedded", device="cuda", dtype="auto"))


def test_peak_memory_counts_what_was_used_and_given_back() -> None:
    code = """
import numpy as np
from workers.process import peak_memory_bytes
before = peak_memory_bytes()
np.ones(2**26, np.uint8)
print(peak_memory_bytes() - before)
"""
    assert 0.9 * 2**26 < int(python(code)) < 1.5 * 2**26


def test_memory_is_limited_to_what_is_private_and_held() -> None:
    code = """
import mmap
import numpy as np
from workers.process import is_short_of_memory, limit_memory
reserved = np.empty(2**30, np.uint8)
print(is_short_of_memory(2**60))
limit_memory(2**28)
print(is_short_of_memory(2**26), is_short_of_memory(2**29))
mmap.mmap(-1, 2**30).write(bytes(2**26))
kept = np.ones(2**26, np.uint8)
try:
    np.ones(2**28, np.uint8)
except MemoryError:
    print("refused")
kept = np.ones(2**26, np.uint8)
"""
    assert python(code).split() == ["False", "False", "True", "refused"]


def test_the_tightest_limit_holds() -> None:
    code = """
import resource
from workers.process import limit_memory
resource.setrlimit(resource.RLIMIT_DATA, (2**30, 2**31))
limit_memory(2**40)
print(resource.getrlimit(resource.RLIMIT_DATA) == (2**31, 2**31))
"""
    assert python(code) == "True"


def test_a_system_that_cannot_limit_memory_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.process._STATUS", tmp_path / "none")
    with pytest.raises(ResourceError, match=r"^--decoder-gib needs Linux: leave it out here$"):
        limit_memory(2**40)


def test_the_number_of_threads_is_taken() -> None:
    code = """
import torch
from workers.process import ModelOptions
from workers.process import prepare_torch
prepare_torch(ModelOptions(device="cpu", num_threads=3))
print(torch.get_num_threads())
"""
    assert python(code) == "3"


SETTINGS = ("GOMP_SPINCOUNT", "MKL_CBWR", "RAY_DEDUP_LOGS_SKIP_REGEX", "RAY_AUTH_MODE")


def test_a_process_is_prepared_once_and_what_is_set_stays(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environment = {"GOMP_SPINCOUNT": "7", "HOME": str(tmp_path)}
    monkeypatch.setattr("os.environ", environment)
    prepare_process()
    assert [environment.get(name) for name in SETTINGS] == ["7", "AUTO,STRICT", ".", None]
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").touch()
    prepare_process()
    assert environment["RAY_AUTH_MODE"] == "token"


def test_importing_the_stages_changes_no_environment() -> None:
    code = """
import os
before = dict(os.environ)
import workers.process, workers.stages, streaming.pipeline
print(dict(os.environ) == before)
"""
    assert python(code) == "True"


def test_threads_keep_the_number_that_each_has_set() -> None:
    found: dict[int, int] = {}
    both = threading.Barrier(2)

    def work(number: int) -> None:
        set_num_threads(number)
        both.wait(10)
        torch.ones(8, 8) @ torch.ones(8, 8)
        found[number] = torch.get_num_threads()

    threads = [threading.Thread(target=work, args=(number,)) for number in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {1: 1, 2: 2}
