"""Who meets whom in which tier of the tests."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from explore.actors import OTHERS


class Combination(NamedTuple):
    """
    One exploration.

    Attributes:
        actors: Who meets.
        scene: Where.
        preemptions: How many at most.
        least: How many schedules there must be at least.
        kills: Whether one of them may be killed.
    """

    actors: tuple[str, ...]
    scene: str
    preemptions: int
    least: int = 2
    kills: bool = False

    def __str__(self) -> str:
        kills = "+kill" if self.kills else ""
        return f"{'-'.join(self.actors)}-{self.scene}-{self.preemptions}{kills}"


#: Those of the default tier. The numbers are some less than were counted, as these change a little
#: with the code. Where they fall, fewer orders are tried, and somebody should know why.
QUICK = (
    Combination(("prune", "copy"), "few", 2, 110),
    Combination(("prune", "rename"), "few", 1, 30),
    Combination(("prune", "create"), "few+rest", 1, 100),
    # A pull that only looks shows by the end of a pause. Those after deletes leave it to others.
    Combination(("prune-deleted", "pull-gone"), "few+rest", 1, 90),
    Combination(("after-deletes", "pull-gone"), "few+rest", 1, 400),
)
#: Those that take more than ten seconds.
LONGER = (
    # A pull downloads anew what this very run has set aside, and is seen by that.
    Combination(("prune", "pull-found"), "few", 2, 450),
    Combination(("prune", "rename"), "few", 2, 580),
    # A restore without links writes a manifest, which a prune must see, or find the trash empty.
    Combination(("prune", "restore"), "few+nolinks", 1, 400),
)

_PRUNES = ("prune", "prune-later", "prune-age", "prune-all", "prune-deleted", "prune-dry")
_OTHER_OURS = (
    *("unlink", "restore", "restore-back", "restore-kept", "forget", "forget-back"),
    *("verify", "protect"),
)
# What Ollama's own clean-up takes from a model that comes back meanwhile is out of our hands.
_CLEANERS = {"rm", "rename", "rename-up", "rename-back", "sweep"}


def pairs() -> list[tuple[str, ...]]:
    """Every two of whom at least one is ours."""
    found: list[tuple[str, ...]] = [
        (prune, other) for prune in _PRUNES for other in (*_OTHER_OURS, *OTHERS)
    ]
    found += [(one, other) for one, other in combinations(_PRUNES, 2)]
    found += [(one, f"{one}2") for one in ("prune", "unlink", "restore")]
    found += combinations(_OTHER_OURS, 2)
    return found + [
        (one, other) for one in _OTHER_OURS for other in OTHERS if other not in _CLEANERS
    ]


def triples() -> list[tuple[str, ...]]:
    """Two of ours, and one more."""
    ours = [("prune", other) for other in ("prune2", "unlink", "restore", "verify")]
    ours += [("prune-later", "restore"), ("prune-all", "prune"), ("unlink", "restore-kept")]
    others = ("pull", "pull-aside", "pull-gone", "pull-kept", "copy", "rename", "rsync")
    more = (*others, "restore", "verify")
    return [(*two, third) for two in ours for third in more if third not in two]


#: What a combination of the exhaustive tier must have tried, by its name: counted once.
_COUNTED = {
    name: int(count)
    for name, count in map(
        str.split,
        Path(__file__).with_name("schedules.txt").read_text(encoding="utf-8").splitlines(),
    )
}


def counted(combination: Combination) -> Combination:
    """Ask *combination* for half of the schedules that it had when they were counted."""
    return combination._replace(least=_COUNTED.get(str(combination), 2) // 2)


def full() -> list[Combination]:
    """Those of the exhaustive tier."""
    found = [
        Combination(pair, scene, 1) for pair in pairs() for scene in ("use", "rest", "nolinks")
    ]
    elsewhere = ("rest+blobs", "rest+manifests", "rest+owner", "full", "folds", "rest+parts")
    for other in (*_OTHER_OURS, *OTHERS):
        found += [Combination(("prune", other), scene, 1) for scene in elsewhere]
        found += [Combination(("prune", other), scene, 1, kills=True) for scene in ("use", "rest")]
    for other in ("pull", "create", "restore", "copy", "rename"):
        found += [Combination(("prune", other), scene, 2) for scene in ("use", "rest", "nolinks")]
    resumed = ("prune", "pull-resumed")
    found += [Combination(resumed, scene, 2) for scene in ("download", "rest+download")]
    found += [Combination(("prune", "create-found"), "few+rest", 3)]
    found += [Combination(actors, "rest", 1) for actors in triples()]
    return [counted(combination) for combination in found]
