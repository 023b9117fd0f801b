"""Try all schedules of some actors, and print what comes of it."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager

from explore.actors import OTHERS, OURS
from explore.bucket_world import ACTORS, BucketWorld, bucket_world
from explore.bucket_world import pairs as bucket_pairs
from explore.combinations import Combination, pairs, triples
from explore.scenes import SCENES, World, world
from explore.story import tell
from kit.effort import shard

_Many = Mapping[str, Callable[[], Sequence[tuple[str, ...]]]]
_MANY: _Many = {"pairs": pairs, "triples": triples}
_MANY_IN_BUCKETS: _Many = {"pairs": bucket_pairs}


def main(argv: Sequence[str] | None = None) -> int:
    """Explore; 1 if something was broken."""
    parser = argparse.ArgumentParser(
        prog="explore",
        description=__doc__,
        epilog=f"actors: {', '.join([*OURS, *OTHERS])}; scenes: {', '.join(SCENES)};"
        f" actors in a bucket: {', '.join(ACTORS)}",
    )
    parser.add_argument("actors", nargs="+", help="see below; prune2 is another; or pairs, triples")
    parser.add_argument("--scene", action="append", help="see below, joined by +; may be repeated")
    parser.add_argument("--bucket", action="store_true", help="meet in a bucket, not on a disk")
    parser.add_argument("-k", "--preemptions", type=int, default=2)
    parser.add_argument("--kills", action="store_true", help="one actor may be killed")
    parser.add_argument("--seconds", type=float, default=1e9, help="of the processor, for each")
    parser.add_argument("--raw", action="store_true", help="know no state again")
    parser.add_argument("--all", action="store_true", help="switch at every step")
    parser.add_argument("--shard", default="1/1", help="k/n: only the k-th of n parts")
    options = parser.parse_args(argv)
    many = _MANY_IN_BUCKETS if options.bucket else _MANY
    named: list[tuple[str, ...]] = [tuple(options.actors)]
    if options.actors[0] in many:
        named = [*many[options.actors[0]]()]
    todo = [
        Combination(actors, scene, options.preemptions, kills=options.kills)
        for actors in named
        for scene in (["bucket"] if options.bucket else options.scene or ["use"])
    ]
    total: Counter[str] = Counter()
    opened: Callable[[], AbstractContextManager[World | BucketWorld]]
    opened = bucket_world if options.bucket else world
    with opened() as here:
        for combination in shard(todo, options.shard):
            total += _explored(here, combination, options)
    print(", ".join(f"{what}: {count:,}" for what, count in total.items()))
    return int(total["faults"] > 0)


def _explored(
    here: World | BucketWorld, combination: Combination, options: argparse.Namespace
) -> Counter[str]:
    exploration = here.explore(
        *combination.actors,
        scene=combination.scene,
        all_matter=options.all,
        memory=not options.raw,
    )
    found = exploration.run(
        combination.preemptions, kills=combination.kills, seconds=options.seconds
    )
    print(
        f"{combination}: {found.schedules} schedules, {len(found.finals)} ends,"
        f" {found.seconds:.1f} s ({found.played / found.seconds:.0f} a second)"
        f"{'' if found.complete else ', NOT COMPLETE'}",
        flush=True,
    )
    for fault in found.faults.values():
        print(f"! {fault.what}: {fault.preemptions} preemptions, schedule {fault.schedules}")
        print(tell(exploration, here.disk, here.stage, fault.schedule, kills=combination.kills))
    return Counter(
        combinations=1,
        complete=int(found.complete),
        schedules=found.schedules,
        played=found.played,
        ends=len(found.finals),
        faults=len(found.faults),
    )


if __name__ == "__main__":
    sys.exit(main())
