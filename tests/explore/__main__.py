"""Try all schedules of some actors, and print what comes of it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from explore.actors import OTHERS, OURS
from explore.scenes import SCENES, world
from explore.story import tell


def main(argv: Sequence[str] | None = None) -> int:
    """Explore; 1 if something was broken."""
    parser = argparse.ArgumentParser(
        prog="explore",
        description=__doc__,
        epilog="actors: " + ", ".join([*OURS, *OTHERS]) + "; scenes: " + ", ".join(SCENES),
    )
    parser.add_argument("actors", nargs="+", help="two or three of those below; prune2 is another")
    parser.add_argument(
        "--scene", action="append", help="of those below, joined by +; may come again"
    )
    parser.add_argument("--preemptions", "-k", type=int, default=2)
    parser.add_argument("--kills", action="store_true", help="one actor may be killed")
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after that time")
    parser.add_argument("--raw", action="store_true", help="know no state again")
    parser.add_argument("--all", action="store_true", help="switch at every step")
    options = parser.parse_args(argv)
    broken = False
    with world() as here:
        for scene in options.scene or ["use"]:
            exploration = here.explore(
                *options.actors, scene=scene, all_matter=options.all, memory=not options.raw
            )
            found = exploration.run(
                options.preemptions, kills=options.kills, seconds=options.seconds
            )
            print(
                f"{' '.join(options.actors)} in {scene}: {found.schedules} schedules,"
                f" {len(found.finals)} ends, {found.seconds:.1f} s"
                f" ({found.played / found.seconds:.0f} a second),"
                f" {'complete' if found.complete else 'not complete'}, {len(found.faults)} faults"
            )
            for fault in found.faults.values():
                broken = True
                print(f"! {fault.what}: after {fault.schedules} schedules,", end=" ")
                print(f"{fault.preemptions} preemptions")
                print(tell(exploration, here.disk, here.stage, fault.schedule, kills=options.kills))
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
