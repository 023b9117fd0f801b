"""Who meets whom in which tier of the tests."""

from __future__ import annotations

from itertools import combinations
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
DEFAULT = (
    Combination(("prune", "pull"), "few", 2, 600),
    Combination(("prune", "copy"), "few", 2, 80),
    Combination(("prune", "rename"), "few", 2, 380),
    Combination(("prune", "create"), "few", 1, 40),
    Combination(("prune", "restore"), "few+nolinks", 1, 250),
    Combination(("prune-deleted", "pull-gone"), "few+rest", 1, 40),
)

_PRUNES = ("prune", "prune-later", "prune-age", "prune-all", "prune-deleted", "prune-dry")
_OTHER_OURS = ("unlink", "restore", "restore-back", "restore-kept", "verify", "protect")
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
    others = ("pull", "pull-found", "pull-gone", "pull-kept", "copy", "rename", "rsync")
    more = (*others, "restore", "verify")
    return [(*two, third) for two in ours for third in more if third not in two]


def _full() -> list[Combination]:
    found = [
        Combination(pair, scene, 1) for pair in pairs() for scene in ("use", "rest", "nolinks")
    ]
    for other in ("pull", "create", "restore", "copy", "rename"):
        found += [Combination(("prune", other), scene, 2) for scene in ("use", "rest", "nolinks")]
    return found


#: Those of the exhaustive tier.
FULL = _full()
