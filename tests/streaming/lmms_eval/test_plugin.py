"""How lmms-eval finds and makes the model, with its classes faked."""

import importlib
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.lmms_eval.fake_lmms_eval import FakeModel, install
from workers.errors import InputError
from workers.vision.geometry import DEFAULT_PINPOINTS, TileGeometry

ROOT = Path(__file__).parents[3]


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    install(monkeypatch)
    return importlib.import_module("streaming.lmms_eval.model")


def test_the_entry_point_gives_the_manifest_of_the_class(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    ((name, value),) = declared["lmms_eval.models"].items()
    entry = importlib.metadata.EntryPoint(name, value, "lmms_eval.models")
    manifest = entry.load()()
    assert manifest.model_id == name == "mr_stream"
    path, _, class_name = manifest.chat_class_path.rpartition(".")
    made = getattr(importlib.import_module(path), class_name)
    assert issubclass(made, FakeModel)
    assert made.is_simple is False


def test_the_entry_point_needs_neither_lmms_eval_nor_torch_to_be_imported() -> None:
    code = (
        "import sys; sys.modules['lmms_eval'] = None\n"
        "import streaming.lmms_eval.plugin, streaming.lmms_eval.requests\n"
        "print(sorted({'torch', 'transformers', 'ray'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("model_args", "message"),
    [
        ({"keepratio": 0.1}, "--model_args: unrecognized .*; did you mean --keep-ratio"),
        ({"batch_size": "4"}, "batch_size = '4' must be 1"),
        ({"batch_size": "auto", "max_batch_size": 8}, "batch_size = 'auto' must be 1"),
    ],
)
def test_arguments_that_are_not_valid(
    module: Any, model_args: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        module.MrStream(**model_args)


def test_only_free_generation_is_offered(module: Any) -> None:
    model = module.MrStream(executor="local")
    for name in ("loglikelihood", "generate_until_multi_round"):
        with pytest.raises(NotImplementedError, match="mr_stream answers"):
            getattr(model, name)([])


def test_the_documented_ratios_keep_as_many_tokens_as_published() -> None:
    page = (ROOT / "docs" / "lmms-eval.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \d+ % \| ([\d,]+) of ([\d,]+) \| ([\d.]+) \| ([\d.]+) \|$", page, re.M)
    tiles = TileGeometry(tile_size=336, patch_size=14, pinpoints=DEFAULT_PINPOINTS)
    square = tiles.frame(672, 672)
    assert [float(nominal) for *_, nominal, _ in rows] == [0.5, 0.3, 0.1, 0.05]
    for published, unpruned, nominal, ratio in rows:
        tokens = int(float(nominal) * square.num_tokens) + square.rows
        assert (published, unpruned) == (f"{tokens:,}", f"{square.num_tokens:,}")
        assert int(float(ratio) * square.num_tokens) == tokens
        assert page.count(ratio) >= 2
