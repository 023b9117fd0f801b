"""The stores in which the actors meet."""

from __future__ import annotations

import errno
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from explore.actors import (
    IN_FLIGHT,
    LIBRARY,
    NAMES,
    actor,
    blob_path,
    cache,
    content,
    pull,
    write,
)
from explore.checks import faults
from explore.schedule import Stage
from explore.seam import CHANGES, START, Disk
from explore.search import Exploration
from kit.clocks import DAY, HOUR
from kit.copies import in_memory
from registry_wsgi.cache.collector import PAUSE

#: What a scene is like. Several can be joined: ``rest+nolinks``.
SCENES = {
    "use": "a blob has come or gone ten minutes ago: what is set aside is held",
    "rest": "nothing has come or gone for two hours: one prune does it all",
    "download": "half of n has come, three hours ago",
    "few": "without the deleted model that has not expired, and without a blob aside",
    "nolinks": "there are no hard links",
    "blobs": "blobs/ is another file system",
    "manifests": "manifests/ is another file system",
    "owner": "the blobs belong to another user: we may neither link nor touch them",
    "full": "nothing can be made or moved, by us",
    "folds": "names are the same in any case, and kept in lower case",
    "parts": "a listing comes in two parts",
}


class World:
    """A store for explorations, in memory. All are of one process, so there is one at a time."""

    def __init__(self, disk: Disk, stage: Stage) -> None:
        self.disk = disk
        self.stage = stage

    def explore(self, *names: str, scene: str = "use", **options: Any) -> Exploration:
        """Prepare an exploration of the actors *names* in a fresh *scene*."""
        kinds = scene.split("+")
        at_rest = "rest" in kinds
        mould = self._build(kinds, at_rest=at_rest)
        unseen = PAUSE if at_rest else IN_FLIGHT
        held = not {"nolinks", "blobs", "owner", "full"}.intersection(kinds)
        actors = [actor(name, unseen=unseen, held=held) for name in names]

        models = {"kept", "stay", *(() if "few" in kinds else ("back",))}

        def check() -> list[str]:
            return faults(self.disk, self.stage, models)

        return Exploration(self.disk, self.stage, mould, actors, check, **options)

    def _build(self, kinds: list[str], *, at_rest: bool) -> list[tuple[Any, ...]]:
        """
        Make the store.

        kept: k s; gone (deleted, expired): g s; back (deleted, not expired): r s; each with c.
        stay, which nobody touches: c. Nothing needs o and x; x is aside, for two hours.
        """
        disk, stage = self.disk, self.stage
        stage.reset()
        disk.cast([(disk.root, None, "root", START, START)])
        disk.refuse = _refusal(kinds, stage)
        disk.folds, disk.in_parts = "folds" in kinds, "parts" in kinds
        disk.mount = next((f"{disk.root}/{k}" for k in kinds if k in ("blobs", "manifests")), None)
        disk.now = START - 30 * DAY * 10**9
        os.mkdir(f"{disk.root}/blobs")
        os.makedirs(f"{disk.root}/{LIBRARY}")
        few = "few" in kinds
        for letter in "o" if few else "ox":
            write(blob_path(disk, letter), content(letter))
        for name, layers in (("kept", "ks"), ("gone", "gs"), ("back", "rs"))[: 2 if few else 3]:
            pull(name, layers)(disk)
        for name, days in (("gone", 8), ("back", 1))[: 1 if few else 2]:
            disk.now = START - days * DAY * 10**9
            assert cache(disk).unlink(name)
        disk.now = START - DAY * 10**9
        pull("stay", "")(disk)
        disk.now = START - 2 * HOUR * 10**9
        if not few:
            assert len(list(cache(disk).store.condemn([NAMES["x"]], disk.clock()))) == 1
        if "download" in kinds:
            disk.now = START - 3 * HOUR * 10**9
            write(f"{blob_path(disk, 'n')}-partial", content("n")[:2])
        disk.now = START - (2 * HOUR if at_rest else 600) * 10**9
        write(f"{disk.root}/blobs/passing", b"")
        os.unlink(f"{disk.root}/blobs/passing")
        disk.now = START
        return disk.snapshot()


def _refusal(kinds: list[str], stage: Stage) -> Any:
    def refuse(name: str, *paths: str) -> int | None:
        play = stage.running
        if name == "link" and "nolinks" in kinds:
            return errno.EPERM
        if play is None or play.actor.in_time == IN_FLIGHT:  # another program
            return None
        if "owner" in kinds and name in ("link", "utime") and "sha256-" in paths[0]:
            return errno.EPERM
        makes = name in CHANGES - {"unlink", "rmdir", "utime", "write"}
        return errno.ENOSPC if "full" in kinds and makes else None

    return refuse


@contextmanager
def world() -> Iterator[World]:
    """A world in a folder of its own, which goes in the end."""
    stage = Stage()
    disabled = logging.root.manager.disable
    with tempfile.TemporaryDirectory() as spare, in_memory(Path(spare)) as folder:
        stage.disk = disk = Disk(f"{folder}/models", stage)
        with disk.installed():
            logging.disable()
            try:
                yield World(disk, stage)
            finally:
                logging.disable(disabled)
                stage.reset()
                disk.close_all()
