"""A schedule, told in a few lines."""

from __future__ import annotations

from itertools import groupby

from explore.checks import shown
from explore.schedule import Schedule, Stage
from explore.seam import CHANGES, Disk
from explore.search import Exploration


def tell(
    exploration: Exploration, disk: Disk, stage: Stage, schedule: Schedule, **options: bool
) -> str:
    """Play *schedule* once more: a line for each turn, with what it changed and where it ended."""
    stage.journal = []
    exploration.play(schedule, **options)
    journal, stage.journal = stage.journal, None
    lines = []
    for play, turn in groupby(journal, key=lambda entry: entry[0]):
        steps = [step for _, step, _ in turn]
        changes = [step for step in steps if step[0] in (*CHANGES, "sleep")]
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
