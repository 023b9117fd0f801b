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
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from explore.bucket_world import BucketWorld, bucket_world
from explore.bucket_world import full as in_buckets
from explore.combinations import Combination
from explore.scenes import World, world
from mutations.table import Mutation, load
from mutations.trial import ROOT

_PULL = Combination(("prune", "pull"), "few", 1)
_PULL_AT_REST = Combination(("prune", "pull"), "few+rest", 1)
_RESUMED = Combination(("prune", "pull-resumed"), "few+rest+download", 2)
_TOUCH = Combination(("prune", "pull-touch"), "few+rest", 2)
_ALL = Combination(("prune-all", "pull-kept"), "few", 1)

#: What to take out, and what is tried first. Those joined by + cover for one another.
CONTROLS = {
    "second-mark": Combination(("prune", "pull-gone"), "few+rest", 1),
    "second-look-at-the-trash": Combination(("prune", "pull-unlink"), "few+rest", 2),
    "put-back": _PULL,
    "hold": _PULL,
    "hold-in-use": _PULL,
    "look-for-use": _PULL,
    "second-look-for-use": Combination(("prune", "create-found"), "few+rest", 3),
    "look-for-use+second-look-for-use": _PULL,
    "own-changes": _PULL_AT_REST,
    "own-changes-foreign": Combination(("prune-later", "pull"), "few+rest", 1),
    "look-for-pulls": _RESUMED,
    "look-for-pulls-before": _RESUMED,
    "look-for-pulls+look-for-pulls-before": _RESUMED,
    "pause": _PULL_AT_REST,
    "heal-of-earlier-runs": Combination(("prune", "pull"), "few", 1, kills=True),
    "all-back-on-failure": Combination(("prune", "pull-gone"), "few+rest", 1),
    "deleted-models-are-roots": Combination(("prune", "pull"), "rest+nolinks", 1),
    "forget-before-second-mark": Combination(("prune", "restore"), "few+rest", 2),
    "all-reads-again": _ALL,
    "all-judges-the-time-again": _ALL,
    "all-looks-at-the-trash": _ALL,
    "touched-aside": _TOUCH,
    "purge-looks-again": _TOUCH,
    "touched-aside+purge-looks-again": _TOUCH,
    "reading-at-rest": Combination(("prune", "rename"), "few+rest", 2),
    "first-reading-at-rest": Combination(("prune", "rename"), "few+rest", 1),
    "folders-are-watched": Combination(("prune", "rename-back"), "few+rest", 2),
    "pull-stops-setting-aside": _PULL,
    "no-room": Combination(("prune", "pull"), "few+full", 1),
    "age": _PULL,
    "deleted-by-writes": _PULL,
    "trash-holds-blobs": Combination(("unlink", "restore-kept"), "few", 1),
    "restore-never-overwrites": Combination(("restore", "pull-gone"), "few", 1),
    "pardon-never-overwrites": Combination(("prune", "pull"), "few", 1),
    "pardon-makes-young": _PULL,
    "racily-clean": Combination(("prune", "copy"), "few", 2),
    "age-by-ctime": Combination(("prune", "rsync"), "few+rest", 1),
    "manifest-goes-first": Combination(("prune", "restore"), "few", 1),
    "restore-order": Combination(("prune", "restore"), "few", 1),
    "restore-whole": Combination(("restore", "sweep"), "few+nolinks", 1),
    # In a bucket.
    "conditional-tombstone": Combination(("unlink", "unlink2"), "bucket", 1),
    "restore-into-a-bucket-never-overwrites": Combination(("restore", "restore2"), "bucket", 1),
    "second-look-of-keep": Combination(("prune", "pull-found-keep"), "bucket", 2),
    "removers-at-work": Combination(("prune", "pull-found-keep"), "bucket", 1),
    "marks-are-listed-first": Combination(("prune", "pull-keep"), "bucket", 1),
}


def _combinations() -> Iterator[Combination]:
    """What is tried besides, the quick ones first."""
    others = ("pull", "copy", "rename", "create", "pull-aside", "pull-touch", "rsync", "unlink")
    firsts = [("prune", other) for other in others]
    firsts += [("prune-all", "pull-kept"), ("restore", "pull-gone"), ("prune", "restore")]
    for kills in (False, True):
        for actors in firsts:
            for scene in ("use", "rest"):
                yield Combination(actors, scene, 1, kills=kills)


def _notice(first: Combination, seconds: float) -> dict[str, Any]:
    """Explore until something is broken, and tell what noticed it."""
    tried, used = 0, 0.0
    in_bucket = first.scene == "bucket"
    opened: Callable[[], AbstractContextManager[World | BucketWorld]]
    opened = bucket_world if in_bucket else world
    others = in_buckets() if in_bucket else [*_combinations()]
    with opened() as here:
        for combination in (first, *others):
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


def _try_out(name: str, mutations: list[Mutation], seconds: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="control-") as folder:
        package = Path(folder, "registry_wsgi")
        shutil.copytree(ROOT / package.name, package, ignore=shutil.ignore_patterns("__pycache__"))
        for mutation in mutations:
            path, text = mutation.apply(package)
            path.write_text(text, encoding="utf-8")
        paths = os.pathsep.join([folder, str(ROOT / "tests")])
        done = subprocess.run(
            [sys.executable, "-m", "explore.controls", "--child", name, f"--seconds={seconds}"],
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
        print(json.dumps(_notice(CONTROLS[options.names[0]], options.seconds)))
        return 0
    known, unnoticed = load(), 0
    for name in options.names:
        found = _try_out(name, [known[part] for part in name.split("+")], options.seconds)
        unnoticed += "by" not in found
        by, there, what = (found.get(key, "-") for key in ("by", "there", "what"))
        print(f"{name} | {by} | {there} | {found['schedules']} | {what}", flush=True)
    return int(unnoticed > 0)


if __name__ == "__main__":
    sys.exit(main())
