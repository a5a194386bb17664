"""python -m training.plot --run runs/embedded --output curves.svg: what was learned, and when."""

import argparse
import json
from collections import defaultdict
from pathlib import Path

from training.arguments import folder_of

Curve = list[tuple[float, float]]
_COLORS = (
    "#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b",
    "#e377c2", "#7f7f7f", "#bcbd22", "#17becf", "#393b79", "#637939", "#000000", "#e7ba52",
)  # fmt: skip
_WIDTH, _HEIGHT, _MARGIN, _LEGEND = 640, 240, 44, 150
_WINDOW = 20


def read_curves(path: Path, prefix: str) -> dict[str, Curve]:
    """Return the logged figures whose names begin with ``prefix``, which is cut off."""
    curves: dict[str, Curve] = defaultdict(list)
    for line in path.read_text().splitlines():
        logged = json.loads(line)
        for name, value in logged.items():
            if name.startswith(prefix) and name not in ("step", "seconds"):
                curves[name.removeprefix(prefix)].append((logged["step"], value))
    return dict(curves)


def smooth(curve: Curve, window: int = _WINDOW) -> Curve:
    """Return the running mean over ``window`` logged values."""
    smoothed = []
    for index, (step, _) in enumerate(curve):
        recent = [value for _, value in curve[max(0, index - window + 1) : index + 1]]
        smoothed.append((step, sum(recent) / len(recent)))
    return smoothed


def panel(title: str, curves: dict[str, Curve], top: int, highest: float) -> str:
    """Return one diagram as SVG: steps across, 0 to ``highest`` upwards."""
    last = max((curve[-1][0] for curve in curves.values()), default=1)
    left, right = _MARGIN, _MARGIN + _WIDTH
    bottom = top + _HEIGHT
    parts = [f'<text x="{left}" y="{top - 8}" font-weight="bold">{title}</text>']
    for tick in range(5):
        y = bottom - _HEIGHT * tick / 4
        parts.append(f'<path d="M{left} {y}H{right}" stroke="#ddd"/>')
        parts.append(f'<text x="4" y="{y + 4}">{highest * tick / 4:.2f}</text>')
        x = left + _WIDTH * tick / 4
        parts.append(f'<text x="{x - 10}" y="{bottom + 16}">{last * tick / 4:.0f}</text>')
    for number, (name, curve) in enumerate(sorted(curves.items())):
        points = " ".join(
            f"{left + _WIDTH * step / last:.1f},{bottom - _HEIGHT * min(value / highest, 1.0):.1f}"
            for step, value in curve
        )
        color = _COLORS[number % len(_COLORS)]
        parts.append(f'<polyline points="{points}" fill="none" stroke="{color}"/>')
        y = top + 12 + 15 * number
        parts.append(f'<text x="{right + 10}" y="{y}" fill="{color}">{name}</text>')
    return "\n".join(parts)


def draw(run: Path) -> str:
    """Return the curves of a run as one SVG picture."""
    vision, language = run / "vision.jsonl", run / "language.jsonl"
    checked = read_curves(vision, "check/")
    shares = {k: v for k, v in checked.items() if k.endswith(("_base", "_high"))}
    by_type = {k: smooth(v) for k, v in read_curves(language, "right/").items()}
    losses = {
        "answers": smooth(read_curves(language, "")["answers"]),
        "all": smooth(read_curves(language, "")["loss"]),
    }
    curves = [
        ("vision stage: share of tokens right, held-out pictures", shares, 1.0),
        ("language stage: share of answers right, fresh clips", by_type, 1.0),
        ("language stage: loss", losses, 3.0),
    ]
    panels = [
        panel(title, lines, 40 + 300 * place, top)
        for place, (title, lines, top) in enumerate(curves)
    ]
    size = f'width="{_MARGIN + _WIDTH + _LEGEND}" height="{20 + 300 * len(curves)}"'
    style = 'xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" font-size="12"'
    body = "\n".join(panels)
    return f'<svg {style} {size}>\n<rect width="100%" height="100%" fill="#fff"/>\n{body}\n</svg>\n'


def main() -> None:
    """Write the curves of one run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=folder_of("language.jsonl"), required=True)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    options.output.write_text(draw(options.run))


if __name__ == "__main__":
    main()
