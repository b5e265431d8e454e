"""Draw every picture of stored measurements: python benchmarks/pictures.py

Reads benchmarks/results/*.json of run.py, accuracy.py and sweep.py, those of --quick left out. The newest of each CPU
give the pictures of README and documentation, a panel for each CPU: docs/_static/speed.svg, options.svg and sweep.svg.
The newest of accuracy.py gives accuracy.svg: errors do not depend on the CPU. Each file of run.py gets two pictures
beside it: all its cases against the best peer, and against the roof. Ground and colours show on light and on dark
pages. README shows speed.svg and accuracy.svg, which are in git; others are drawn where they are needed.

Lives here: what is drawn and how it looks. Must not: measurements.
"""

from __future__ import annotations

import argparse
import json
from math import prod
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot, ticker  # noqa: E402
from peers import NAMES  # noqa: E402

RESULTS = Path(__file__).parent / "results"
STATIC = Path(__file__).parents[1] / "docs" / "_static"
GREY, RED, BLUE, GREEN = "#7b7f86", "#e5484d", "#4a90d9", "#46a758"
MARKS = {  # of each library: colour, shape
    "softloss": (RED, "D"),
    "numpy": (BLUE, "o"),
    "scipy": ("#12a594", "v"),
    "torch": ("#f2810d", "s"),
    "jax": ("#a371f7", "^"),
    "numba": (GREEN, "P"),
    "onnxruntime": ("#c2a000", "X"),
}
COLOURS = [RED, BLUE, GREEN, "#f2810d", "#a371f7", "#12a594", "#c2a000"]
STYLE = {"text.color": GREY, "axes.labelcolor": GREY, "axes.edgecolor": GREY, "svg.hashsalt": "0"}
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
OPTIONS = {
    "cross_entropy 6144x512 soft-targets": "soft targets, 6144 × 512",
    "cross_entropy 1000000x10 soft-targets": "soft targets, 1 000 000 × 10",
    "cross_entropy 6144x512 smoothing": "label smoothing, 6144 × 512",
    "cross_entropy 1000000x10 smoothing": "label smoothing, 1 000 000 × 10",
    "cross_entropy_and_grad 6144x512 smoothing": "… with gradient, 6144 × 512",
    "cross_entropy 6144x512 weights": "class weights, 6144 × 512",
    "cross_entropy 1000000x10 none": 'reduction="none", 1 000 000 × 10',
    "softmax 6144x512 where": "softmax, where=, 6144 × 512",
    "softmax_backward 6144x512": "softmax_backward, 6144 × 512",
    "softmax_topk 100000x63 k=1": "softmax_topk, k = 1, 100 000 × 63",
    "token_logprobs 1000000x10 k=0": "token_logprobs, 1 000 000 × 10",
    "softmax 4096x512 order=F": "softmax, Fortran order, 4096 × 512",
    "softmax 4096x512 stride=2": "softmax, every other column, 4096 × 512",
    "logsumexp 100000x10 b": "logsumexp with b, 100 000 × 10",
    "kl_divergence 100000x10": "kl_divergence, 100 000 × 10",
    "sample 64x50257 top-p": "sample, top_p = 0.9, 64 × 50 257",
}
Document = dict[str, Any]
Series = tuple[dict[str, Any], list[tuple[float, float]]]  # how marks look; value and place of each
Panel = tuple[str, list[Series]]  # title, marks


# ---- style --------------------------------------------------------------------------------------------------------


def picture(path: Path, names: list[str], panels: list[Panel], label: str, line: float, log: bool = True) -> None:
    """One line of marks for each name, and a vertical reference line; many names are set in a smaller font. The names
    stand at the left of the first panel and hold for all of them."""
    font, inches = (11, 0.36) if len(names) < 40 else (8, 0.17)
    with pyplot.rc_context(STYLE | {"font.size": font}):
        figure, all_axes = panels_in_a_row(len(panels), (4, 5, 2 + inches * len(names)))
        for axes, (heading, series) in zip(all_axes, panels, strict=True):
            axes.axvline(line, color=RED, linewidth=1.2, alpha=0.7)
            axes.set_title(heading, fontsize=font - 1, color=GREY)
            draw_marks(axes, series, log)
            axes.set(ylim=(len(names) - 0.5, -0.5))
            axes.set_yticks(range(len(names)), names)
        figure.supxlabel(label, fontsize=font)
        add_legend(figure, all_axes, columns=7)
        save(figure, path)


def draw_marks(axes: Any, series: list[Series], log: bool) -> None:
    for look, points in series:
        if points:
            axes.scatter(*zip(*points, strict=True), zorder=3, **look)
    axes.set(xscale="log" if log else "linear")
    if log and axes.get_xlim()[1] < 200:
        axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
        axes.xaxis.set_minor_formatter(ticker.NullFormatter())
    axes.tick_params(colors=GREY, which="both", left=False)
    axes.grid(axis="x", color=GREY, alpha=0.35)
    axes.grid(axis="y", color=GREY, alpha=0.15)
    for edge in ("top", "right", "left"):
        axes.spines[edge].set_visible(False)


def panels_in_a_row(count: int, inches: tuple[float, float, float]) -> tuple[Any, Any]:
    """A figure of `count` panels with one y axis; inches: left of the panels, width of each panel, height."""
    left, width, height = inches
    size = (left + width * count, height)
    figure, axes = pyplot.subplots(1, count, figsize=size, layout="constrained", sharey=True, squeeze=False)
    return figure, axes[0]


def add_legend(figure: Any, all_axes: Any, columns: int) -> None:
    """Above the panels, the labels of all of them, each once."""
    entries = [zip(*axes.get_legend_handles_labels(), strict=True) for axes in all_axes]
    legend = {label: handle for panel in entries for handle, label in panel}
    look = {"ncols": columns, "framealpha": 0, "labelcolor": GREY, "columnspacing": 1}
    figure.legend(legend.values(), legend.keys(), loc="outside upper center", **look)


def title(document: Document, isa: str, date: str) -> str:
    return f"{document['cpu']}\n{isa}, {date}"


def save(figure: Any, path: Path) -> None:
    figure.savefig(path, transparent=True, metadata={"Date": None})
    pyplot.close(figure)
    print(f"drawn: {path}")


def of_libraries(rows: list[tuple[str, dict[str, float]]], floor: float = 0) -> list[Series]:
    """A mark for each library in each row. Equal values do not overlap; values below `floor` are drawn at `floor`."""
    series = []
    for place, (library, (colour, marker)) in enumerate(MARKS.items()):
        mine = library == "softloss"
        beside = 0 if mine else 0.5 * ((place - 0.5) / (len(MARKS) - 1) - 0.5)
        look = {"label": NAMES[library], "s": 60 if mine else 36, "c": colour, "marker": marker}
        points = [(max(values[library], floor), i + beside) for i, (_, values) in enumerate(rows) if library in values]
        series.append((look, points))
    return series


# ---- the pictures -------------------------------------------------------------------------------------------------


def title_of_run(document: Document) -> str:
    return title(document, document["softloss"]["isa"], document["date"])


def draw_speed(documents: list[Document], cases: dict[str, str], file: str) -> None:
    """Time of each library divided by that of softloss, for newly allocated results and one thread."""
    panels = []
    for document in documents:
        of_case = {row["name"]: row for row in document["rows"] if (row["variant"], row["threads"]) == ("fresh", 1)}
        rows = [
            (name, {"softloss": 1.0} | of_case[case]["ratio"] if case in of_case else {})
            for case, name in cases.items()
        ]
        if any(values for _, values in rows):
            panels.append((title_of_run(document), of_libraries(rows)))
    label = "time, as a multiple of softloss's (left of the line: faster than softloss); float32, one thread"
    if panels:
        picture(STATIC / file, list(cases.values()), panels, label, line=1)


def draw_accuracy(document: Document) -> None:
    """Largest error of each library in each case of float32."""
    rows = [(row["name"].replace("_", "-"), row["max"]) for row in document["rows"] if row["dtype"] == "float32"]
    label = "largest error in units in the last place (the line: what softloss promises; at the edge: 0.1 and less)"
    panel = (f"float32, {document['cpu']}, {document['date']}", of_libraries(rows, floor=0.1))
    picture(STATIC / "accuracy.svg", [name for name, _ in rows], [panel], label, line=2)


def draw_cases(document: Document, stem: Path) -> None:
    """All cases of a run: how much faster than the best peer, and, on one thread, what fraction of the roof."""
    rows = document["rows"]
    compared = [(row, row["ratio"][row["best_peer"]]) for row in rows if row["best_peer"]]
    alone = [row for row in rows if row["threads"] == 1 and prod(row["case"]["shape"]) > 10]
    roofed = [(row, 1 / row["x_roof"]) for row in alone if row["x_roof"]]
    for values, kind, label in (
        (compared, "peers", "times faster than the best peer (right of the line: ahead)"),
        (roofed, "roof", "fraction of what the machine allows (the line: the roof)"),
    ):
        names = list(dict.fromkeys(row["name"] for row, _ in values))
        series = []
        for threads in sorted({row["threads"] for row, _ in values}):
            for variant in ("fresh", "out"):
                colour = BLUE if threads == 1 else GREEN
                look = {"s": 16, "edgecolors": colour, "facecolors": colour if variant == "out" else "none"}
                look["label"] = f"{threads} thread{'s' * (threads > 1)}, {variant}"
                chosen = [pair for pair in values if (pair[0]["threads"], pair[0]["variant"]) == (threads, variant)]
                series.append((look, [(value, names.index(row["name"])) for row, value in chosen]))
        path = stem.with_name(f"{stem.name}-{kind}.svg")
        picture(path, names, [(title_of_run(document), series)], label, line=1, log=kind == "peers")


def draw_sweep(documents: list[Document]) -> None:
    """Time for each element over the length of rows, float32, in the cache and in memory."""
    operations = dict.fromkeys(curve["operation"] for document in documents for curve in document["curves"])
    colours = dict(zip(operations, COLOURS, strict=False))
    with pyplot.rc_context(STYLE | {"font.size": 11}):
        figure, all_axes = panels_in_a_row(len(documents), (3, 6, 5))
        for axes, document in zip(all_axes, documents, strict=True):
            draw_curves(axes, document, colours)
        figure.supxlabel("length of rows (float32, one thread)", fontsize=11)
        all_axes[0].set_ylabel("nanoseconds for each element")
        add_legend(figure, all_axes, columns=2)
        save(figure, STATIC / "sweep.svg")


def draw_curves(axes: Any, document: Document, colours: dict[str, str]) -> None:
    """The curves of one CPU, on the instruction set that was measured last."""
    curves = [curve for curve in document["curves"] if curve["dtype"] == "float32" and curve["operation"] in colours]
    isa, date = curves[-1]["isa"], curves[-1]["date"]
    for curve in curves:
        if curve["isa"] == isa:
            dashes = "-" if curve["place"] == "cache" else ":"
            label = f"{curve['operation'].replace('_', '-')}, {curve['place']}"
            times = curve["nanoseconds"]
            colour = colours[curve["operation"]]
            axes.plot([int(n) for n in times], list(times.values()), dashes, color=colour, label=label)
    axes.set(xscale="log", yscale="log")
    axes.set_title(title(document, isa, date), fontsize=10, color=GREY)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(ticker.FormatStrFormatter("%g"))
    axes.tick_params(colors=GREY, which="both")
    axes.grid(color=GREY, alpha=0.25)
    for edge in ("top", "right"):
        axes.spines[edge].set_visible(False)


def stored(kind: str) -> list[tuple[Path, Document]]:
    """The stored results whose names end so, oldest first; those of run.py have no ending."""
    found = []
    for path in RESULTS.glob("*.json"):
        ending = path.stem.rsplit("-", 1)[-1]
        if kind == (ending if ending.isalpha() else ""):
            found.append((path, json.loads(path.read_text())))
    return sorted(found, key=lambda entry: (entry[1].get("date", ""), entry[0].stat().st_mtime))


def newest_of_each_cpu(kind: str) -> list[Document]:
    return list({document["cpu"]: document for _, document in stored(kind)}.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--docs", action="store_true", help="only the pictures of the documentation that are not in git"
    )
    options = parser.parse_args()
    runs = newest_of_each_cpu("")
    draw_speed(runs, OPTIONS, "options.svg")
    if sweeps := newest_of_each_cpu("sweep"):
        draw_sweep(sweeps)
    if options.docs:
        return
    for path, document in stored(""):
        draw_cases(document, path.with_suffix(""))
    draw_speed(runs, SPEED, "speed.svg")
    for _, document in stored("accuracy")[-1:]:
        draw_accuracy(document)


if __name__ == "__main__":
    main()
