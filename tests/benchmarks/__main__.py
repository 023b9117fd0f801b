"""
Measure, and print each figure beside its goal.

    tox -e bench
    tox -e bench -- --rows prune,import --scale 0.1

Every figure is a ratio from this run: what is compared is measured in turns, so that a busy machine
slows down both sides, and the median over all rounds counts.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import werkzeug  # noqa: F401 - so that the first row does not load it

from benchmarks.measure import Row, processor_time
from benchmarks.rows import ROWS, Bench
from benchmarks.trees import Trees

_HEADINGS = ("what", "measured", "goal", "", "detail")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmarks."""
    options = _parse(argv)
    if options.buckets:
        from benchmarks.buckets import measure  # it needs obstore

        _print_table([*measure(options.buckets, options.delays)])
        return 0
    if options.stores:
        options.stores.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="benchmarks-", dir=options.stores) as temporary:
        folder = options.stores or Path(temporary)
        clock = processor_time if options.cpu else time.perf_counter
        bench = Bench(Trees(folder, Path(temporary)), options.scale, options.rounds, clock)
        machine = _machine(folder, "processor time" if options.cpu else "time on the wall")
        started = time.perf_counter()
        rows: list[Row] = []
        for name in options.rows:
            print(f"measuring: {name}", file=sys.stderr, flush=True)
            rows += ROWS[name](bench)
        machine["time"] = f"{datetime.now(UTC):%Y-%m-%d}, {_minutes(started)}"
    if options.scale != 1:
        print(f"All sizes are multiplied by {options.scale:g}: the goals do not apply.\n")
    print(*(f"{name}: {value}" for name, value in machine.items()), sep="\n")
    print()
    _print_table([_HEADINGS, *(row.cells() for row in rows)])
    if options.docs:
        from benchmarks.page import write  # it needs matplotlib

        write(options.docs, machine, rows, bench.curves)
    return 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("tox -e bench --", description=__doc__.split("\n")[1])
    parser.add_argument(
        "--rows",
        type=_names,
        default=list(ROWS),
        metavar="A,B",
        help=f"measure only these, of {', '.join(ROWS)}",
    )
    parser.add_argument(
        "--scale", type=float, default=1.0, metavar="F", help="multiply all sizes, for a trial"
    )
    parser.add_argument(
        "--rounds",
        type=_rounds,
        default=5,
        metavar="N",
        help="measure each side so often; default: 5",
    )
    parser.add_argument(
        "--cpu",
        action="store_true",
        help="count the time of the processor, where the machine is busy with other things, too;"
        " does not apply to gunicorn and to two threads",
    )
    parser.add_argument(
        "--stores",
        type=Path,
        metavar="FOLDER",
        help="keep the large stores here for further runs; default: a temporary folder (TMPDIR)",
    )
    parser.add_argument(
        "--docs", type=Path, metavar="FOLDER", help="also write table and plot for the docs here"
    )
    parser.add_argument(
        "--buckets",
        type=lambda text: [int(size) for size in text.split(",")],
        metavar="N,N",
        help="instead, count requests and seconds over buckets of so many models",
    )
    parser.add_argument(
        "--delays",
        type=lambda text: [float(delay) for delay in text.split(",")],
        default=[0.0],
        metavar="MS,MS",
        help="with --buckets: let each request take so many milliseconds longer",
    )
    return parser.parse_args(argv)


def _names(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in ROWS:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(ROWS)}")
    return names


def _rounds(text: str) -> int:
    rounds = int(text)
    if rounds < 2:
        raise argparse.ArgumentTypeError("at least 2, to tell how far they differ")
    return rounds


def _machine(folder: Path, clock: str) -> dict[str, str]:
    """What the figures depend on."""
    cpu = platform.processor() or platform.machine()
    memory = ""
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.split(": ")[1] for line in lines if line.startswith("model name")), cpu)
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        memory = f", {pages >> 30} GiB"
    kind = subprocess.run(
        ["df", "--output=fstype", folder],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=False,
    ).stdout.split()
    file_system = kind[-1] if kind else "not known"
    return {
        "machine": f"{os.cpu_count()} x {cpu}{memory}, load {os.getloadavg()[0]:.1f} at the start",
        "system": f"{platform.system()} {platform.release()}, file system {file_system}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "counted": clock,
    }


def _minutes(started: float) -> str:
    return f"took {(time.perf_counter() - started) / 60:.1f} minutes"


def _print_table(lines: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print("  ".join(cells).rstrip())


if __name__ == "__main__":
    sys.exit(main())
