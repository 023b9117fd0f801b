"""Which steps can matter to another actor: only there the turn is worth giving away."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable
from functools import cache

from explore.seam import CHANGES

#: A step: the name of the call, and the paths that it is about.
Step = tuple[str, ...]
Accessed = Callable[[Step], tuple[frozenset[str], frozenset[str]]]

# Steps whose result depends on what a directory has in it.
_LISTING = ("stat", "listdir", "scandir", "rmdir")


@cache
def accessed(step: Step) -> tuple[frozenset[str], frozenset[str]]:
    """
    Tell what *step* reads or changes, and what of that it changes.

    ``E`` is the entry of a name in its directory, ``L`` the list of all in a directory with its
    times, ``I`` the content and the times of a file. All names of one content count as one.
    """
    name, *paths = step
    touched: set[str] = set()
    changed: set[str] = set()
    for path in paths:
        content = "I" + _content_at(path)
        # No actor renames a directory, and only an empty one can be removed. So of those on the way
        # the last one tells for all.
        touched |= {"E" + path, content, "E" + os.path.dirname(path)}
        if name in _LISTING:
            touched.add("L" + path)
        if name in CHANGES:
            changed.add(content)
        stays = name in ("write", "utime") or (name == "link" and path == paths[0])
        if name in CHANGES and not stays:
            changed |= {"E" + path, "L" + os.path.dirname(path)}
    return frozenset(touched | changed), frozenset(changed)


def _content_at(path: str) -> str:
    key = path.rpartition("/manifests/")[2]
    if key != path:
        return key
    name = path.rpartition("/")[2]
    return name.partition(".")[0] if name.startswith("sha256-") else path


class Conflicts:
    """
    What is known of the steps of some actors. It is learnt while schedules are tried.

    Args:
        accessed: Tells what a step reads or changes, and what of that it changes.
        all_matter: Whether every step counts as one that matters.
    """

    def __init__(self, accessed: Accessed = accessed, *, all_matter: bool = False) -> None:
        self.accessed, self._all_matter = accessed, all_matter
        self._matter: dict[tuple[int, Step], bool] = {}
        self._late: set[tuple[int, Step]] = set()  # known to matter only after they were met
        self._touching: defaultdict[str, set[tuple[int, Step]]] = defaultdict(set)
        self._changing: defaultdict[str, set[tuple[int, Step]]] = defaultdict(set)

    def matters(self, actor: int, step: Step) -> bool:
        """Tell whether *step* of *actor* is worth a switch: the same until the next `learn`."""
        found = self._matter.get((actor, step))
        return self._meet(actor, step) if found is None else found

    def learn(self) -> bool:
        """Let all steps count that are known to matter by now, and tell whether there are more."""
        late, self._late = self._late, set()
        self._matter.update(dict.fromkeys(late, True))
        return bool(late)

    def _meet(self, actor: int, step: Step) -> bool:
        touched, changed = self.accessed(step)
        others = {
            other
            for here, there in ((touched, self._changing), (changed, self._touching))
            for thing in here
            for other in there[thing]
            if other[0] != actor
        }
        self._late |= {other for other in others if not self._matter[other]}
        for thing in touched:
            self._touching[thing].add((actor, step))
        for thing in changed:
            self._changing[thing].add((actor, step))
        self._matter[actor, step] = found = self._all_matter or bool(others)
        return found
