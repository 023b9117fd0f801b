"""An eviction that is killed or fails at any moment: no model is lost that was not to go."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from kit.clocks import DAY
from kit.copies import in_memory
from kit.effort import Effort
from kit.faults import Killed, failing_at, killed_at
from kit.os_seam import Act, Seam
from kit.plays import Play
from kit.scenes import DiskScene
from registry_wsgi.cache.evict import EvictReport
from registry_wsgi.errors import RegistryError

pytestmark = pytest.mark.moments

WEIGHTS = 80 << 10
LIMIT = 2 * WEIGHTS + WEIGHTS // 2

#: So many days ago each came and was last read. The last two fit.
AGES = {"five": 50, "four": 40, "three": 30, "two": 20, "one": 10}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where the copies are made."""
    with in_memory(tmp_path) as path:
        yield path


def furnish(disk: DiskScene) -> None:
    for name, days in AGES.items():
        disk.model(name, name.encode().ljust(WEIGHTS), age=days * DAY)
    disk.deleted("gone", b"gone".ljust(WEIGHTS), ago=2 * DAY)
    disk.blob(b"nobody's".ljust(WEIGHTS))
    disk.use(age=30 * DAY)


def unread(disk: DiskScene) -> None:
    """Let each blob have been read when it was written; that the test reads it leaves no trace."""
    for path in disk.tree.blobs.iterdir():
        written = path.stat().st_mtime_ns
        os.utime(path, ns=(written + 1, written))


def evict(disk: DiskScene) -> EvictReport:
    return disk.cache.evict(max_used=LIMIT)


def killed(number: int) -> Act:
    return killed_at(number)


def failing(number: int) -> Act:
    return failing_at(number, errno.EIO)


@pytest.mark.timeout(600)  # in the exhaustive tier
@pytest.mark.parametrize("fault", [killed, failing])
def test_whenever_it_ends_nothing_is_lost(
    folder: Path, effort: Effort, fault: Callable[[int], Act]
) -> None:
    """What was not to go is in place, what was to go went in order, and the next goes on."""
    play = Play(folder / "play", furnish)
    first = play.scene()
    unread(first)
    with Seam(first.tree.root) as seam:
        evict(first)
    changing = [call.number for call in seam.calls if call.changes]
    assert len(changing) > 50
    for number, disk in play.scenes(effort.choose(changing, 15)):
        unread(disk)
        with Seam(disk.tree.root, fault(number)), suppress(Killed, RegistryError):
            evict(disk)
        unread(disk)
        assert disk.broken() == [], number
        assert {"one", "two"} <= disk.models(), number
        left = disk.models() | disk.trash()
        if fault is killed:  # what cannot be touched stops nobody else
            assert in_order(left), number
            assert "gone" not in left or {*AGES} <= left, number
        # What was half removed is put back and young, or a killed delete has it for now: then one
        # more may have to go.
        assert evict(disk).stopped is None, number
        assert "one" in disk.models(), number
        assert disk.broken() == [], number


def in_order(left: set[str]) -> bool:
    """Whether those that are gone were not read for longer than any that is left."""
    names = [name for name in AGES if name in left]
    return names == [*AGES][-len(names) :]
