"""Who meets whom in a bucket, and what must hold in the end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import combinations, product
from typing import Any

from explore.actors import LETTERS, LIBRARY, NAMES, content, mentioned, model
from explore.bucket import CHANGES, Bucket, Mould, accessed
from explore.checks import shown
from explore.combinations import Combination, counted
from explore.schedule import Actor, Stage
from explore.seam import START
from explore.search import Exploration
from kit.clocks import DAY
from kit.trees import HOST
from registry_wsgi import ModelCache
from registry_wsgi.errors import (
    ModelExistsError,
    ModelIncompleteError,
    ModelNotFoundError,
    StoreError,
)

Act = Callable[[Bucket], object]


def cache(bucket: Bucket) -> ModelCache:
    """A cache as a process of its own opens it."""
    return ModelCache(bucket.store(), clock=bucket.clock)


def pull(layers: str, *, keep: bool = False) -> Act:
    """
    A program that puts the model ``new`` into the bucket, and uploads what it does not find.

    Args:
        layers: The letters of its blobs.
        keep: Whether it tells the library which blobs it counts on.
    """

    def upload(bucket: Bucket, names: list[str]) -> None:
        for name in names:
            bucket.write(f"blobs/{name}", content(LETTERS[name]))

    def act(bucket: Bucket) -> bool:
        names = [NAMES[letter] for letter in layers + "c"]
        upload(bucket, [name for name in names if not bucket.has(f"blobs/{name}")])
        if keep:
            try:
                upload(bucket, bucket.store().keep(names))
            except StoreError:  # a prune that is just removing one does not come to an end
                return False
        bucket.write(f"{LIBRARY}/new/latest", model(layers))
        return True

    return act


def ours(method: str, *args: Any, **options: Any) -> Act:
    """A call of the library."""
    return lambda bucket: getattr(cache(bucket), method)(*args, **options)


_REFUSED = (ModelNotFoundError, ModelExistsError, ModelIncompleteError)

#: Who acts, by name: what it does, and the models that may be gone for good.
ACTORS: dict[str, tuple[Act, str]] = {
    "prune": (ours("prune"), "gone"),
    "prune-deleted": (ours("prune", deleted_only=True), "gone"),
    "unlink": (ours("unlink", "kept"), ""),
    "restore": (ours("restore", "gone"), ""),
    "restore-back": (ours("restore", "back"), ""),
    "forget": (ours("forget", "back"), "back"),
    "verify": (ours("verify", repair=True), ""),
    "pull": (pull("nox"), ""),
    "pull-found": (pull("o"), ""),
    "pull-keep": (pull("nox", keep=True), ""),
    "pull-found-keep": (pull("o", keep=True), ""),
}

#: What a restore of the expired model tells.
GONE = f"{HOST}/library/gone:latest"

#: What docs/buckets.rst does not promise: a pull that does not call ``keep`` finds a blob a day or
#: longer after that was marked, and writes its manifest when a prune has removed the blob.
EXCUSED = {"pull": {"new lacks o"}, "pull-found": {"new lacks o"}}


def pairs() -> list[tuple[str, str]]:
    """Every two of whom one removes or deletes something."""
    ours = ("prune", "prune-deleted", "unlink", "restore", "restore-back", "forget", "verify")
    found = [("prune", "prune2"), ("unlink", "unlink2"), ("restore", "restore2")]
    return [*found, *combinations(ours, 2), *product(ours, [*ACTORS][len(ours) :])]


#: Those of the default tier.
DEFAULT = tuple(
    Combination(actors, "bucket", 1, least)
    for actors, least in (
        (("prune", "unlink"), 30),
        (("prune", "restore"), 30),
        (("prune", "verify"), 8),
        (("prune", "pull"), 20),
        (("prune", "pull-found-keep"), 40),
    )
)


def full() -> list[Combination]:
    """Those of the exhaustive tier."""
    found = [Combination(pair, "bucket", 1, kills=True) for pair in pairs()]
    found += [Combination(pair, "bucket", 2) for pair in pairs()]
    return [counted(combination) for combination in found]


def actor(name: str) -> Actor:
    """Make the actor *name*; a number at its end tells two of a kind apart."""
    act, loses = ACTORS[name.rstrip("0123456789")]
    makes = "new" if name.startswith("pull") else ""
    return Actor(name, act, _REFUSED, frozenset(loses.split()), makes)


class BucketWorld:
    """
    A bucket for explorations.

    Attributes:
        excused: What may be wrong, by the name of the actor to whom it is not promised.
    """

    def __init__(self) -> None:
        self.excused = EXCUSED
        self.stage = Stage(CHANGES)
        self.stage.disk = self.disk = Bucket(self.stage)

    def explore(self, *names: str, scene: str = "bucket", **options: bool) -> Exploration:
        """Prepare an exploration of the actors *names*; there is one scene."""
        return Exploration(
            self.disk,
            self.stage,
            self._mould(),
            [actor(name) for name in names],
            self._faults,
            accessed=accessed,
            **options,
        )

    def _mould(self) -> Mould:
        """
        Make the store.

        kept: k s; gone (deleted, expired): g s; back (deleted, not expired): r s; each with c.
        stay, which nobody touches: c. Nothing needs o and x; o is marked, for two days.
        """
        bucket = self.disk
        self.stage.reset()
        bucket.cast([])
        models = {"kept": "ks", "gone": "gs", "back": "rs", "stay": ""}
        old = START - 30 * DAY * 10**9
        for letter in "ckgrsox":
            bucket.put(f"blobs/{NAMES[letter]}", content(letter), old)
        for name, layers in models.items():
            bucket.put(f"{LIBRARY}/{name}/latest", model(layers), old)
        for days, work in (
            (8, lambda: cache(bucket).unlink("gone")),
            (2, lambda: cache(bucket).unlink("back")),
            (2, lambda: [*bucket.store().condemn([NAMES["o"]], bucket.clock())]),
        ):
            bucket.now = START - days * DAY * 10**9
            assert work()
        return bucket.snapshot()

    def _faults(self) -> list[str]:
        """Tell what is wrong after the actors have ended, and after a prune two days later."""
        bucket, library, found = self.disk, cache(self.disk), list[str]()
        for play in self.stage.plays:
            if isinstance(play.result, Exception) and not isinstance(play.result, _REFUSED):
                error = f"{type(play.result).__name__}: {shown(bucket, str(play.result))}"
                found.append(f"{play.actor.name} raised {error}")
        lost = {name for play in self.stage.plays for name in play.actor.loses}
        made = {play.actor.makes for play in self.stage.plays if play.result is True}
        back = {"gone" for play in self.stage.plays if play.result == GONE}
        lasting = ({"kept", "back"} | back | made) - lost - {""}
        bucket.now += 2 * DAY * 10**9
        library.prune()
        found += self._broken()
        listed = {path.split("/")[0] for path in bucket.objects(LIBRARY)}
        for deleted in library.deleted():
            name = deleted.name.rpartition("/")[2].partition(":")[0]
            if not deleted.restorable:
                found.append(f"in the trash, {name} lacks blobs")
            elif name not in listed:
                library.restore(name)
                listed.add(name)
        found += [f"{name} is neither listed nor in the trash" for name in lasting - listed]
        found += self._broken()
        for _ in range(1 + self.stage.killed):  # the first takes away what the killed one has left
            library.prune(age=0)
        found += self._broken()
        needed = set().union(*map(mentioned, bucket.objects(LIBRARY).values()))
        left = {*bucket.objects("condemned"), *bucket.objects("trash")}
        left |= {*bucket.objects("blobs")} - needed
        found += [f"left over: {shown(bucket, ' '.join(sorted(left)))}"] if left else []
        return sorted({*found} - self._excused())

    def _broken(self) -> list[str]:
        blobs, found = self.disk.objects("blobs"), []
        for path, document in self.disk.objects(LIBRARY).items():
            needed = sorted(LETTERS[name] for name in mentioned(document))
            lacks = [letter for letter in needed if blobs.get(NAMES[letter]) != content(letter)]
            if lacks:
                found.append(f"{path.split('/')[0]} lacks {''.join(lacks)}")
        return found

    def _excused(self) -> set[str]:
        names = [play.actor.name for play in self.stage.plays]
        return set().union(*(self.excused.get(name, ()) for name in names))


@contextmanager
def bucket_world() -> Iterator[BucketWorld]:
    """A world, until the end."""
    made, disabled = BucketWorld(), logging.root.manager.disable
    with made.disk.installed():
        logging.disable()
        try:
            yield made
        finally:
            logging.disable(disabled)
            made.stage.reset()
