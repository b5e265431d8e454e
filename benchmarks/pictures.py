"""Draw the pictures of README and documentation from stored results: python benchmarks/pictures.py

Reads the newest benchmarks/results/*.json of run.py (those of --quick left out) and of accuracy.py, writes
docs/_static/speed.svg and docs/_static/accuracy.svg. Ground and colours show on light and on dark pages.

Lives here: what is drawn and how it looks. Must not: measurements.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot, ticker  # noqa: E402

RESULTS = Path(__file__).parent / "results"
STATIC = Path(__file__).parents[1] / "docs" / "_static"
GREY = "#7b7f86"
LIBRARIES = {  # name in the results: name in the picture, colour, marker
    "softloss": ("softloss", "#e5484d", "D"),
    "numpy": ("NumPy", "#4a90d9", "o"),
    "scipy": ("SciPy", "#12a594", "v"),
    "torch": ("PyTorch", "#f2810d", "s"),
    "jax": ("JAX", "#a371f7", "^"),
    "numba": ("Numba", "#46a758", "P"),
    "onnxruntime": ("ONNX Runtime", "#c2a000", "X"),
}
SPEED = {  # case of run.py: its name in the picture
    "softmax 10": "softmax, 10",
    "softmax 64x1000": "softmax, 64 × 1000",
    "softmax 2048x32000": "softmax, 2048 × 32 000",
    "softmax 1000000x10": "softmax, 1 000 000 × 10",
    "log_softmax 64x1000": "log-softmax, 64 × 1000",
    "logsumexp 128x50257": "logsumexp, 128 × 50 257",
    "cross_entropy 64x1000": "cross-entropy, 64 × 1000",
    "cross_entropy 128x50257": "cross-entropy, 128 × 50 257",
    "cross_entropy_and_grad 2048x32000": "… with gradient, 2048 × 32 000",
    "cross_entropy_and_grad 1000000x10": "… with gradient, 1 000 000 × 10",
    "binary_cross_entropy_with_logits 1000000": "BCE with logits, 1 000 000",
    "sigmoid 1000000": "sigmoid, 1 000 000",
}


def newest(pattern: str, field: str) -> tuple[Path, dict[str, Any]] | None:
    """The latest results whose file name fits and whose rows have `field`."""
    found = []
    for path in RESULTS.glob(pattern):
        document = json.loads(path.read_text())
        if "quick" not in path.stem and document.get("rows") and field in document["rows"][0]:
            found.append((document["date"], path, document))
    return max(found, key=lambda entry: entry[0])[1:] if found else None


def dots(
    path: Path, rows: list[tuple[str, dict[str, float]]], label: str, note: str, line: float, floor: float
) -> None:
    """One line for each row, one mark for each library, on a logarithmic axis."""
    style = {"text.color": GREY, "axes.labelcolor": GREY, "axes.edgecolor": GREY, "font.size": 11, "svg.hashsalt": "0"}
    with pyplot.rc_context(style):
        figure, axes = pyplot.subplots(figsize=(9, 1.8 + 0.36 * len(rows)), layout="constrained")
        axes.axvline(line, color=LIBRARIES["softloss"][1], linewidth=1.2, alpha=0.7)
        peers = len(LIBRARIES) - 1
        for place, (library, (name, colour, marker)) in enumerate(LIBRARIES.items()):
            beside = 0 if library == "softloss" else 0.5 * ((place - 0.5) / peers - 0.5)  # equal values side by side
            points = [
                (max(values[library], floor), i + beside) for i, (_, values) in enumerate(rows) if library in values
            ]
            if points:
                size = 60 if library == "softloss" else 36
                axes.scatter(*zip(*points, strict=True), s=size, c=colour, marker=marker, label=name, zorder=3)
        axes.set(xscale="log", xlabel=f"{label}\n{note}", ylim=(len(rows) - 0.5, -0.5))
        axes.set_yticks(range(len(rows)), [name for name, _ in rows])
        axes.tick_params(colors=GREY, which="both", left=False)
        axes.grid(axis="x", color=GREY, alpha=0.35)
        axes.grid(axis="y", color=GREY, alpha=0.15)
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        figure.legend(loc="outside upper center", ncols=7, framealpha=0, labelcolor=GREY, columnspacing=1, fontsize=10)
        if max(max(values.values()) for _, values in rows) < 100:
            axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
            axes.xaxis.set_minor_formatter(ticker.NullFormatter())
        figure.savefig(path, transparent=True, metadata={"Date": None})
        pyplot.close(figure)
    print(f"written: {path}")


def draw_speed(document: dict[str, Any]) -> None:
    """Time of each library over that of softloss, results freshly allocated, one thread."""
    of_case = {row["name"]: row for row in document["rows"] if (row["variant"], row["threads"]) == ("fresh", 1)}
    rows = [
        (
            name,
            {"softloss": 1.0}
            | {key: of_case[case]["ratio"][key] for key in LIBRARIES if key in of_case[case]["ratio"]},
        )
        for case, name in SPEED.items()
        if case in of_case
    ]
    note = f"float32, one thread, {document['cpu']}, {document['softloss']['isa']}, {document['date']}"
    dots(
        STATIC / "speed.svg",
        rows,
        "time, as a multiple of softloss's (left of the line: faster than softloss)",
        note,
        1,
        0,
    )


def draw_accuracy(document: dict[str, Any]) -> None:
    """Largest error of each library in each case of float32."""
    rows = [(row["name"].replace("_", "-"), row["max"]) for row in document["rows"] if row["dtype"] == "float32"]
    note = f"float32, {document['cpu']}, {document['date']}"
    label = "largest error in units in the last place (the line: what softloss promises)"
    dots(STATIC / "accuracy.svg", rows, label, note, 2, 0.1)


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    STATIC.mkdir(exist_ok=True)
    for pattern, field, draw in (("*.json", "ratio", draw_speed), ("*.json", "max", draw_accuracy)):
        found = newest(pattern, field)
        if found is None:
            print(f"no results with {field} in {RESULTS}")
            continue
        print(f"from {found[0]}")
        draw(found[1])


if __name__ == "__main__":
    main()
