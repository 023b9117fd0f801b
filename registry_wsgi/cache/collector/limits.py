"""The times of one run: what is old, what is recent, and what has to wait. No I/O."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from ...durations import to_micros
from ...stores.base import Blob

__all__ = ["Activity", "Limits"]


@dataclass(slots=True)
class Activity:
    """
    Signs of other programs at work. They only ever add up.

    Attributes:
        in_use: A blob came or went recently: a pull may have begun that shows no sign yet.
        pull: An unfinished or unneeded blob changed recently: a pull is under way.
    """

    in_use: bool = False
    pull: bool = False


@dataclass(frozen=True)
class Limits:
    """
    Args:
        time: Now, in seconds since the epoch.
        age: How old something must be to go. 0: nobody else is at work, and nothing is waited for.
        in_flight: How recent a change means a pull under way.
        hold: How long at most pulls hold back what is set aside.
    """

    time: float
    age: float
    in_flight: float
    hold: float

    @cached_property
    def now(self) -> float:
        """The time to the microsecond, as stores keep it."""
        return to_micros(self.time) / 1_000_000

    @cached_property
    def quiet(self) -> bool:
        return self.age == 0

    @cached_property
    def cutoff(self) -> float:
        """What was changed up to here is old. (At age 0 even what another clock dates later.)"""
        return math.inf if self.quiet else self.time - self.age

    @cached_property
    def recent(self) -> float:
        return self.time - self.in_flight

    def is_recent(self, when: float) -> bool:
        return not self.quiet and when > self.recent

    def abandoned_before(self, *, deleted_only: bool) -> float:
        """Until when a half-done delete in the trash counts as abandoned."""
        if self.quiet and not deleted_only:
            return math.inf
        return min(self.cutoff, self.recent)

    def was_in_use(self, look: Blob, since: float) -> bool:
        """Tell whether a blob was young when it was set aside, by a run that was then killed."""
        return not self.quiet and look.written > since - min(self.age, self.in_flight)

    def must_wait(self, since: float, activity: Activity, *, hidden: bool) -> bool:
        """
        Tell whether what is aside since then waits for a later run.

        ======= ===== ==== ====== =========================================================
        hidden  quiet pull in use waits
        ======= ===== ==== ====== =========================================================
        any     yes   any  any    no
        yes     no    yes  any    until the hold is over
        yes     no    no   yes    until ``in_flight`` is over (a pull would show by then)
        yes     no    no   no     no
        no      no    yes  any    as long as there is a pull: it still finds the blob
        no      no    no   any    until the hold is over, and in no case in the run that marks it
        ======= ===== ==== ====== =========================================================
        """
        if self.quiet:
            return False
        hold_is_over = since + self.hold <= self.now
        if not hidden:
            return activity.pull or not hold_is_over or since >= self.now
        if hold_is_over:
            return False
        return activity.pull or (activity.in_use and since > self.recent)
