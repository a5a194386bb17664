"""The README's code runs as it stands."""

import re
from pathlib import Path

import pytest
from PIL import Image

README = Path(__file__).parents[1] / "README.md"


def test_mr_pruner_on_plain_transformers(
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    block = re.search(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    code = block[1].replace("llava-hf/llama3-llava-next-8b-hf", str(checkpoint))
    Image.radial_gradient("L").resize((160, 90)).convert("RGB").save(tmp_path / "image.jpg")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(code, names)
    assert capsys.readouterr().out.strip()
    features, kept, output = names["features"], names["kept"], names["output"]
    assert len(kept) == len(features) // 10  # type: ignore[arg-type]
    assert output.shape[1] > int(names["stays"].sum())  # type: ignore[attr-defined]
