"""What came of an exploration: a broken schedule is told in a few lines."""

from __future__ import annotations

from itertools import groupby
from typing import Protocol

import pytest

from explore.checks import shown
from explore.combinations import Combination
from explore.schedule import Schedule, Stage
from explore.seam import Storage
from explore.search import Exploration


class Explorable(Protocol):
    """A world."""

    stage: Stage

    @property
    def disk(self) -> Storage: ...

    def explore(self, *names: str, scene: str) -> Exploration: ...


def expect_whole(here: Explorable, combination: Combination) -> None:
    """Try all schedules of *combination*, and fail with the story of the first that is broken."""
    options = {"kills": combination.kills}
    exploration = here.explore(*combination.actors, scene=combination.scene)
    found = exploration.run(combination.preemptions, stop=True, **options)
    for fault in found.faults.values():
        story = tell(exploration, here.disk, here.stage, fault.schedule, **options)
        pytest.fail(f"{fault.what}, with {fault.preemptions} preemptions:\n{story}", pytrace=False)
    print(f"{combination}: {found.schedules} schedules, {found.seconds:.1f} s")
    assert found.complete
    assert found.schedules >= combination.least, "fewer orders are tried than were"


def tell(
    exploration: Exploration, disk: Storage, stage: Stage, schedule: Schedule, **options: bool
) -> str:
    """Play *schedule* once more: a line for each turn, with what it changed and where it ended."""
    stage.journal = []
    exploration.play(schedule, **options)
    journal, stage.journal = stage.journal, None
    lines = []
    for play, turn in groupby(journal, key=lambda entry: entry[0]):
        steps = [step for _, step, _ in turn]
        changes = [step for step in steps if step[0] in (*stage.changing, "sleep")]
        last = steps[-1]
        told = [*changes[:3], *([("…",)] if len(changes) > 6 else []), *changes[3:][-3:]]
        if last not in changes:
            told.append(last)
        words = (shown(disk, " ".join([step[0], " -> ".join(step[1:])])) for step in told)
        lines.append(f"  {play.actor.name}: " + "; ".join(words))
    lines += [
        f"  {p.actor.name} {p.status}: {shown(disk, repr(p.result)):.150}" for p in stage.plays
    ]
    return "\n".join(lines)
