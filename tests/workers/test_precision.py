import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from workers.errors import ModelError
from workers.precision import cpu_dtype

ROOT = Path(__file__).parents[2]


@pytest.fixture
def cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file in which the kernel describes a CPU; not there yet."""
    path = tmp_path / "cpuinfo"
    monkeypatch.setattr("workers.precision._CPU_INFO", path)
    cpu_dtype.cache_clear()
    yield path
    cpu_dtype.cache_clear()


def write_config(folder: Path, **config: str) -> str:
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("sse avx512_bf16 amx_bf16 amx_tile", "bfloat16"),
        ("sse avx512f avx512_bf16", "float32"),
        ("sse amx_bf16x", "float32"),
        ("", "float32"),
    ],
)
def test_a_cpu_works_in_bfloat16_where_it_multiplies_matrices_of_it(
    cpu: Path, tmp_path: Path, flags: str, expected: str
) -> None:
    cpu.write_text(f"processor\t: 0\nmodel name\t: amx_bf16\nflags\t\t: {flags}\n")
    assert cpu_dtype(write_config(tmp_path, dtype="bfloat16")) == expected


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"dtype": "float16"}, "bfloat16"),
        ({"torch_dtype": "float16"}, "bfloat16"),
        ({"dtype": "float32"}, "float32"),
        ({}, "float32"),
    ],
)
def test_only_a_checkpoint_in_half_precision_is_rounded(
    cpu: Path, tmp_path: Path, config: dict[str, str], expected: str
) -> None:
    cpu.write_text("flags : amx_bf16\n")
    assert cpu_dtype(write_config(tmp_path, **config)) == expected


def test_the_embedded_model_stays_what_it_was_evaluated_as(cpu: Path) -> None:
    cpu.write_text("flags : amx_bf16\n")
    assert cpu_dtype("embedded") == "float32"


def test_a_system_that_tells_nothing_of_its_cpu_works_in_float32(cpu: Path, tmp_path: Path) -> None:
    assert cpu_dtype(write_config(tmp_path, dtype="bfloat16")) == "float32"


def test_a_model_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ModelError, match="unknown model"):
        cpu_dtype("no such model")


def test_no_torch_is_needed() -> None:
    code = """
import sys
from workers.precision import cpu_dtype
print(cpu_dtype("embedded"), "torch" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "float32 False"
