"""The part of docs/performance.rst that is measured: a table, and a plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.measure import Row

# What a Go program with the handler of Ollama took on a machine like the one of our CI, in seconds
# by the number of models (five layers each, ext4, all in memory).
_GO = {
    "Go handler: DELETE, which prunes": {10: 2.2e-3, 1_000: 94e-3, 10_000: 0.838, 100_000: 8.9},
    "Go handler: DELETE without the prune": {
        10: 0.27e-3,
        1_000: 2.8e-3,
        10_000: 17e-3,
        100_000: 0.15,
    },
}


def write(
    folder: Path,
    machine: Mapping[str, str],
    rows: Sequence[Row],
    curves: Mapping[str, Mapping[int, float]],
) -> None:
    """Write ``performance-table.inc`` and ``performance.svg`` into *folder*."""
    lines = [*(f":{name}: {value}" for name, value in machine.items()), ""]
    lines += [".. list-table::", "   :header-rows: 1", "   :widths: 40 12 12 36", ""]
    cells = [("what", "measured", "goal", "", "detail"), *(row.cells() for row in rows)]
    for what, measured, goal, verdict, detail in cells:
        lines += [f"   * - {what}", f"     - {measured}"]
        lines += [f"     - {goal} {verdict}".rstrip(), f"     - {detail}".rstrip()]
    (folder / "performance-table.inc").write_text("\n".join(lines) + "\n")
    if curves:
        _plot(folder / "performance.svg", curves)


def _plot(path: Path, curves: Mapping[str, Mapping[int, float]]) -> None:
    mpl.rcParams["svg.fonttype"] = "none"  # text stays text: a small file
    mpl.rcParams["svg.hashsalt"] = "registry-wsgi"  # what is equal is drawn into equal files
    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for style, kinds in (("--", _GO), ("-", curves)):
        for name, points in kinds.items():
            sizes = sorted(points)
            axes.plot(sizes, [points[size] for size in sizes], style, marker="o", label=name)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("models in the store, five layers each")
    axes.set_ylabel("seconds")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(path, metadata={"Date": None})
