"""All schedules with few preemptions, the fewest first."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from explore.conflicts import Accessed, Conflicts, accessed
from explore.schedule import Actor, Schedule, Stage
from explore.seam import Storage

_NEVER = 99


@dataclass(frozen=True)
class Fault:
    """
    A schedule after which something does not hold.

    Attributes:
        what: What is wrong.
        preemptions: How many it takes at least.
        schedule: The first such schedule.
        schedules: How many were tried until then.
    """

    what: str
    preemptions: int
    schedule: Schedule
    schedules: int


@dataclass
class Found:
    """
    What came of an exploration.

    Attributes:
        schedules: How many were tried, without those that only served to learn which steps matter.
        ended: How many of them led to a state that was not known.
        finals: The different ends, each as a hash.
        played: How many were tried at all.
        complete: Whether all were tried.
        faults: What was wrong in the end, by what it is.
    """

    schedules: int = 0
    ended: int = 0
    finals: set[int] = field(default_factory=set)
    played: int = 0
    complete: bool = True
    seconds: float = 0.0
    faults: dict[str, Fault] = field(default_factory=dict)


class Exploration:
    """
    The schedules of *actors* on a store.

    Args:
        disk: Where the store is.
        stage: What plays the schedules. It is the one that *disk* tells of its steps.
        mould: The store as it is in the beginning.
        actors: Who works on it.
        check: Tells what is wrong in the end.
        accessed: Tells what a step reads and changes.
        all_matter: Whether to switch at every step.
        memory: Whether states are known again. Without, the ends must be the same.
    """

    def __init__(
        self,
        disk: Storage,
        stage: Stage,
        mould: list[tuple[Any, ...]],
        actors: list[Actor],
        check: Callable[[], list[str]],
        *,
        accessed: Accessed = accessed,
        all_matter: bool = False,
        memory: bool = True,
    ) -> None:
        self._disk, self._stage, self._mould, self._check = disk, stage, mould, check
        self._memory = memory
        self._checked: dict[int, list[str]] = {}  # what was wrong, by the end
        stage.actors = actors
        stage.conflicts = Conflicts(accessed, all_matter=all_matter)

    def run(
        self, preemptions: int, *, kills: bool = False, seconds: float = 1e9, stop: bool = False
    ) -> Found:
        """
        Try the schedules.

        Args:
            preemptions: How often the turn is taken away at most.
            kills: Whether one actor may be killed, which counts like a preemption.
            seconds: How long to go on at most.
            stop: Whether to end with the first fault.
        """
        begun, played = time.process_time(), 0
        self._checked.clear()
        while True:
            found = Found()
            done = self._search(found, preemptions, kills, begun + seconds, stop)
            played += found.schedules
            if done:
                break
        found.played, found.seconds = played, time.process_time() - begun
        return found

    def play(self, schedule: Schedule, *, kills: bool = False) -> None:
        """Play *schedule* once more."""
        self._disk.cast(self._mould)
        self._stage.play(schedule, {}, 0, kills=kills)

    def _search(
        self, found: Found, preemptions: int, kills: bool, until: float, stop: bool
    ) -> bool:
        """Try what is known to matter; True if there is no more to learn, or no time."""
        visited: dict[int, int] = {} if self._memory else _Forgetful()
        todo: list[list[Schedule]] = [[()], *([] for _ in range(preemptions))]
        for level, schedules in enumerate(todo):
            for schedule in schedules:  # more are added on the way
                if time.process_time() > until:
                    found.complete = False
                    return True
                found.schedules += 1
                self._disk.cast(self._mould)
                ended = self._stage.play(schedule, visited, level, kills=kills)
                if self._stage.conflicts.learn():
                    return False  # from the beginning, as more steps are known to matter
                for number, turn, cost, state in self._stage.choices:
                    then = level + cost
                    if then <= preemptions and visited.get(state, _NEVER) > then:
                        visited[state] = then
                        todo[then].append((*schedule, (number, turn)))
                if ended:
                    found.ended += 1
                    self._judge(found, schedule, level)
                    if found.faults and stop:
                        return True
            schedules.clear()
        return True

    def _judge(self, found: Found, schedule: Schedule, level: int) -> None:
        final = self._stage.state(0)
        found.finals.add(final)
        if final not in self._checked:
            self._checked[final] = self._check()
        for what in self._checked[final]:
            if what not in found.faults:
                found.faults[what] = Fault(what, level, schedule, found.schedules)


class _Forgetful(dict[int, int]):
    """Remembers nothing."""

    def get(self, key: int, default: Any = None) -> Any:
        return default
