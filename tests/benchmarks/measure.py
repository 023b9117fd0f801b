"""Measuring two things side by side, and what is said about it."""

from __future__ import annotations

import gc
import resource
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

#: Does something once, and tells how many seconds that took; what it prepares is not counted.
Side = Callable[[], float]


@dataclass(frozen=True)
class Row:
    """
    A row of the table.

    Attributes:
        what: What was measured.
        goal: What the value may be at most, or has to be at least; None: it is for information.
        value: What it is; None: it could not be measured.
        unit: Of the value and of the goal.
        at_least: Whether more is better.
        detail: What it is made of, or why there is nothing.
    """

    what: str
    goal: float | None
    value: float | None
    unit: str = "x"
    at_least: bool = False
    detail: str = ""

    @property
    def verdict(self) -> str:
        """``ok``, ``NOT``, ``skipped``, or nothing where there is no goal."""
        if self.value is None:
            return "skipped"
        if self.goal is None:
            return ""
        good = self.value >= self.goal if self.at_least else self.value <= self.goal
        return "ok" if good else "NOT"

    def cells(self) -> tuple[str, str, str, str, str]:
        """The row as text: what, measured, goal, verdict, detail."""
        goal = "" if self.goal is None else f"{'≥' if self.at_least else '≤'} {self.goal:g}"
        value = "" if self.value is None else f"{self.value:.2f}"
        unit = "" if self.unit == "x" else f" {self.unit}"
        return (
            self.what,
            value and value + unit,
            goal and goal + unit,
            self.verdict,
            self.detail,
        )


def alternate(sides: Sequence[Side], rounds: int) -> list[list[float]]:
    """
    Measure each of *sides* once in every round, each round beginning with another.

    So whatever else the machine does disturbs all of them alike.

    Returns:
        The seconds of each side, by round.
    """
    seconds: list[list[float]] = [[] for _ in sides]
    for number in range(rounds):
        for place in range(len(sides)):
            side = (number + place) % len(sides)
            gc.collect()
            seconds[side].append(sides[side]())
    return seconds


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median, over the rounds, of how many times as long ours took."""
    return statistics.median(one / other for one, other in zip(ours, theirs, strict=True))


def compared(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """Both medians, and between which values half of the ratios lie."""
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    low, _, high = statistics.quantiles(ratios, method="inclusive")
    pair = f"{duration(statistics.median(ours))} / {duration(statistics.median(theirs))}"
    return f"{pair}; half of {len(ratios)} rounds {low:.2f} to {high:.2f}"


def processor_time() -> float:
    """How many seconds the processors have worked for this process and those it has waited for."""
    own, others = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + others.ru_utime + others.ru_stime


def duration(seconds: float) -> str:
    """A time for people."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"
