"""The times of one run: what is old, what is recent, and what has to wait. No I/O."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from ...durations import to_micros
from ...stores.base import Blob

__all__ = ["PAUSE", "Activity", "Limits"]

#: How long a prune of a store at rest waits after setting blobs aside, in seconds. A pull that
#: found one of them in its place asks the registry for its next blob, and shows once that comes.
#: The first byte took 50 to 190 milliseconds on the busy machine where this was measured.
PAUSE = 2.0


@dataclass(slots=True)
class Activity:
    """
    Signs of other programs at work. They only ever add up.

    Attributes:
        in_use: A blob came or went recently: a pull may have begun that shows no sign yet.
        used: When somebody else last let a blob come or go, in seconds since the epoch.
        pull: An unfinished or unneeded blob changed recently: a pull is under way.
    """

    in_use: bool = False
    used: float = 0.0
    pull: bool = False


@dataclass(frozen=True)
class Limits:
    """
    The times that one run goes by.

    Args:
        time: Now, in seconds since the epoch.
        age: How old something must be to go, in seconds. Less than 0: even a blob or a delete that
            is dated so far in the future goes.
        in_flight: How recent a change must be to mean a pull under way, in seconds.
        hold: How long at most pulls hold a removal back, in seconds.
        quiet: Whether the operator says that nobody else is at work.
        keep: How long a deleted model is kept if its entry does not say, in seconds. None: the age
            decides, whatever the entry says.
        pause: How long a run waits after setting blobs aside in a store at rest, so that a pull
            which has looked at one of them shows, in seconds.
        before: What was deleted or has come after this moment stays, in seconds since the epoch.
            So does what was not old enough, or had not expired, at this moment.
        deadline: By when a run for which a client waits must know what is needed, by
            ``time.monotonic()``. Such a run does not pause: what it sets aside is left to a later
            run. None: nobody waits.
        most: How many deleted models go at most: those that expired first. None: all.
    """

    time: float
    age: float
    in_flight: float
    hold: float
    quiet: bool = False
    keep: float | None = None
    pause: float = 0
    before: float = math.inf
    deadline: float | None = None
    most: int | None = None

    @cached_property
    def now(self) -> float:
        """The time to the microsecond, as stores keep it."""
        return to_micros(self.time) / 1_000_000

    @cached_property
    def judged(self) -> float:
        """The time by which things are old enough to go: now, or *before* if that is earlier."""
        return min(self.time, self.before)

    @cached_property
    def cutoff(self) -> float:
        """
        Up to when something must have changed last to be old.

        In a quiet store everything is at least 0 seconds old: also a file that another machine,
        whose clock is ahead, has dated in the future.
        """
        old = math.inf if self.quiet and self.age <= 0 else self.judged - self.age
        return min(old, self.before)

    def due(self, *, pull: bool) -> float:
        """
        Tell up to when a blob must have changed last to be set aside, or a download to go.

        ===== ==== ==================================================
        quiet pull up to
        ===== ==== ==================================================
        yes   any  any moment
        no    no   the age ago
        no    yes  the age and the hold ago
        ===== ==== ==================================================
        """
        if pull and not self.quiet:
            return min(self.judged - self.age - self.hold, self.before)
        return self.cutoff

    @cached_property
    def recent(self) -> float:
        """From when on a change is recent."""
        return self.time - self.in_flight

    def is_recent(self, when: float) -> bool:
        """Tell whether a change at *when* means that somebody is at work."""
        return not self.quiet and when > self.recent

    def abandoned_before(self, *, deleted_only: bool) -> float:
        """
        Tell until when a half-made entry in the trash counts as left by a killed delete.

        A younger one may be a delete still running, unless the store is quiet and the age is 0.
        """
        if self.quiet and self.age <= 0 and not deleted_only:
            return self.before
        return min(self.cutoff, self.recent)

    def was_in_use(self, look: Blob, since: float) -> bool:
        """Tell whether a blob was young when it was set aside, by a run that was then killed."""
        return not self.quiet and look.written > since - min(self.age, self.in_flight)

    def had_no_pause(self, since: float) -> bool:
        """Tell whether a pull that has looked at a blob before the moment *since* may not show."""
        return since + self.pause > self.now

    def must_wait(self, since: float, activity: Activity, *, hidden: bool) -> bool:
        """
        Tell whether what is aside since the moment *since* waits for a later run.

        *hidden* is whether other programs no longer find a blob that is aside. A blob that is only
        marked is in its place, and a pull may use it even after the hold. So it never goes while a
        pull shows, nor in the run that marked it.

        ======= ===== ==== ====== =========================================================
        hidden  quiet pull in use waits
        ======= ===== ==== ====== =========================================================
        any     yes   any  any    no
        yes     no    yes  any    until the hold is over
        yes     no    no   yes    until ``in_flight`` is over (a pull would show by then)
        yes     no    no   no     no
        no      no    yes  any    as long as there is a pull
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
