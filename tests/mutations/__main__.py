"""
Try mutations out, and print which test notices each.

The exit code is 1 if no test notices one of them, or if one does not apply any more.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from mutations.table import TIERS, Mutation, load
from mutations.trial import Outcome, check, try_out

_HEADINGS = ("mutation", "noticed by", "tier", "seconds")


def main(argv: Sequence[str] | None = None) -> int:
    """Try them out."""
    mutations = load()
    parser = argparse.ArgumentParser(prog="mutations", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these; see --list")
    parser.add_argument("--tier", choices=TIERS, help="only those that this tier should notice")
    parser.add_argument("--list", action="store_true", help="show them all, and try none")
    parser.add_argument("--docs", type=Path, help="also write the table into this file, as RST")
    options = parser.parse_args(argv)
    for name in options.names:
        if name not in mutations:
            parser.error(f"no mutation is named {name}; see --list")
    chosen = [mutations[name] for name in options.names or mutations]
    if options.tier:
        chosen = [mutation for mutation in chosen if mutation.tier == options.tier]
    if options.list:
        for mutation in chosen:
            print(f"{mutation.name} ({mutation.tier}): {mutation.promise}")
        return 0
    outcomes = [*map(_shown, check(map(_tried, chosen)))]
    print(*_table([_HEADINGS, *map(_cells, outcomes)]), sep="\n")
    if options.docs:
        options.docs.write_text("\n".join(_rst(outcomes)) + "\n", encoding="utf-8")
    return 0 if all(outcome.is_noticed for outcome in outcomes) else 1


def _tried(mutation: Mutation) -> Outcome:
    print(f"{mutation.name}: ", end="", file=sys.stderr, flush=True)
    outcome = try_out(mutation)
    print(f"{_test(outcome)}, {outcome.seconds:.1f} s", file=sys.stderr, flush=True)
    return outcome


def _shown(outcome: Outcome) -> Outcome:
    """Print what the table has no room for."""
    if outcome.problem:
        print(f"{outcome.mutation.name}: {outcome.problem}", file=sys.stderr, flush=True)
    return outcome


def _test(outcome: Outcome) -> str:
    """Name the test that has noticed by its file and its function."""
    if outcome.problem:
        return "CANNOT BE TOLD"
    path, _, function = outcome.noticed_by.partition("::")
    return f"{Path(path).name}::{function.partition('[')[0]}" if path else "NO TEST"


def _cells(outcome: Outcome) -> tuple[str, ...]:
    mutation = outcome.mutation
    return mutation.name, _test(outcome), mutation.tier, f"{outcome.seconds:.1f}"


def _table(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        yield "  ".join(cells).rstrip()


def _rst(outcomes: Iterable[Outcome]) -> Iterable[str]:
    yield from (".. list-table::", "   :header-rows: 1", "   :widths: 16 34 38 6 6", "")
    promises = ("promise that is taken away", "noticed by")
    yield from _rst_row([_HEADINGS[0], *promises, *_HEADINGS[2:]])
    for outcome in outcomes:
        name, test, *rest = _cells(outcome)
        yield from _rst_row([f"``{name}``", outcome.mutation.promise, f"``{test}``", *rest])


def _rst_row(cells: Iterable[str]) -> Iterable[str]:
    for number, cell in enumerate(cells):
        yield f"   {' ' if number else '*'} - {cell}"


if __name__ == "__main__":
    sys.exit(main())
