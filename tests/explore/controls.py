"""
Take a protection out of a copy of the package, and see which combination notices first.

    cd tests
    python -m explore.controls
    python -m explore.controls second-mark hold --seconds 300

The protections are those of `mutations` that are about the order of steps.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from explore.combinations import Combination
from explore.scenes import world
from mutations.table import Mutation, load
from mutations.trial import ROOT

#: What to take out. Those joined by + cover for one another.
CONTROLS = (
    *("second-mark", "second-look-at-the-trash", "put-back", "hold", "hold-in-use"),
    *("look-for-use", "second-look-for-use", "look-for-use+second-look-for-use"),
    *("look-for-pulls", "look-for-pulls-before", "look-for-pulls+look-for-pulls-before"),
    *("pause", "heal-of-earlier-runs", "all-back-on-failure", "unreadable-manifest-stops"),
    *("deleted-models-are-roots", "forget-before-second-mark", "all-reads-again"),
    *("all-judges-the-time-again", "all-looks-at-the-trash", "touched-aside", "purge-looks-again"),
    *("touched-aside+purge-looks-again", "reading-at-rest", "first-reading-at-rest"),
    *("reading-at-rest+first-reading-at-rest", "folders-are-watched", "pull-stops-setting-aside"),
    *("no-room", "age", "deleted-by-writes", "trash-holds-blobs", "restore-never-overwrites"),
    *("pardon-never-overwrites", "pardon-makes-young", "racily-clean", "age-by-ctime"),
    *("manifest-goes-first", "restore-order", "restore-whole"),
)


def _combinations() -> Iterator[Combination]:
    """What is tried, the quick ones first."""
    firsts = [("prune", other) for other in ("pull", "copy", "rename", "create", "rsync")]
    firsts += [("prune", "pull-found"), ("prune", "pull-touch"), ("prune", "rename-back")]
    firsts += [("prune-deleted", "pull-gone"), ("prune-all", "pull-kept"), ("restore", "pull-gone")]
    firsts += [("prune", "unlink"), ("restore", "sweep"), ("prune", "restore"), ("prune", "prune2")]
    firsts += [("prune-later", "pull"), ("prune", "pull-unlink"), ("unlink", "restore-kept")]
    for kills in (False, True):
        for actors in firsts:
            for scene in ("use", "rest", "rest+nolinks"):
                yield Combination(actors, scene, 1, kills=kills)
    yield Combination(("prune", "pull"), "full", 1)
    for actors in firsts[:9]:
        yield Combination(actors, "use", 2)
        yield Combination(actors, "rest", 2)


def _notice(seconds: float) -> dict[str, Any] | None:
    """Explore until something is broken, and tell what noticed it."""
    tried, used = 0, 0.0
    with world() as here:
        for combination in _combinations():
            exploration = here.explore(*combination.actors, scene=combination.scene)
            found = exploration.run(
                combination.preemptions,
                kills=combination.kills,
                seconds=seconds - used,
                stop=True,
            )
            used += found.seconds
            tried += found.schedules
            for fault in found.faults.values():
                who, there = str(combination), fault.schedules
                return {"by": who, "what": fault.what, "schedules": tried, "there": there}
            if not found.complete:
                break
    return {"schedules": tried}


def _try_out(mutations: list[Mutation], seconds: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="control-") as folder:
        package = Path(folder, "registry_wsgi")
        shutil.copytree(ROOT / package.name, package, ignore=shutil.ignore_patterns("__pycache__"))
        for mutation in mutations:
            path, text = mutation.apply(package)
            path.write_text(text, encoding="utf-8")
        paths = os.pathsep.join([folder, str(ROOT / "tests")])
        done = subprocess.run(
            [sys.executable, "-m", "explore.controls", "--child", f"--seconds={seconds}"],
            env=os.environ | {"PYTHONPATH": paths},
            cwd=folder,
            stdout=subprocess.PIPE,
            check=True,
        )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Try them out, and print a line of a table for each; 1 if one is not noticed."""
    parser = argparse.ArgumentParser(prog="explore.controls", description=__doc__)
    parser.add_argument("names", nargs="*", default=CONTROLS)
    parser.add_argument("--seconds", type=float, default=100, help="of the processor, for each")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.child:
        print(json.dumps(_notice(options.seconds)))
        return 0
    known, unnoticed = load(), 0
    for name in options.names:
        found = _try_out([known[part] for part in name.split("+")], options.seconds)
        unnoticed += "by" not in found
        by, there, what = (found.get(key, "-") for key in ("by", "there", "what"))
        print(f"{name} | {by} | {there} | {found['schedules']} | {what}", flush=True)
    return int(unnoticed > 0)


if __name__ == "__main__":
    sys.exit(main())
