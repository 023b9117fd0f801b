"""When a model was last read, on real mounts: what is not known is never old."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from kit.clocks import DAY
from kit.trees import Tree, blob
from kit.users import SERVICE, STRANGER, run_as
from kit.worlds import Worlds, fill
from registry_wsgi import DiskStore, ModelCache

pytestmark = pytest.mark.world

WEIGHTS = b"weights".ljust(400 << 10)
NAME = blob(WEIGHTS)
UNKNOWN = "gives no sign of when it was last read"


def filled(place: Path) -> tuple[Tree, ModelCache]:
    """A store with one model that was read 40 days ago, and a clock ahead."""
    tree = Tree(place / "models")
    tree.add("smol", WEIGHTS)
    now = time.time() + 100 * DAY
    os.utime(tree.blobs / NAME, (now - 40 * DAY, now - 50 * DAY))
    return tree, ModelCache(DiskStore(tree.root), clock=lambda: now)


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "tmpfs"])
def test_a_read_shows(worlds: Worlds, kind: str) -> None:
    """And a model that is open stays, whatever its age."""
    tree, cache = filled(getattr(worlds, kind)())
    ((_, read),) = DiskStore(tree.root).last_reads([NAME])
    assert read == (tree.blobs / NAME).stat().st_atime
    with (tree.blobs / NAME).open("rb"):
        assert [*cache.evict(unused="30d", dry_run=True).kept.values()] == ["is open"]
    assert len(cache.evict(unused="30d").actions) == 1
    assert not tree.path("smol").exists()


@pytest.mark.parametrize("option", ["noatime", "ro"])
def test_where_no_read_shows_no_model_is_old(worlds: Worlds, option: str) -> None:
    """On a mount that is noatime, and on one that may only be read."""
    tree, _ = filled(worlds.tmpfs())
    place = worlds.bind(tree.root, worlds.folder("bound"))
    subprocess.run(["mount", "-o", f"remount,bind,{option}", place], check=True)
    cache = ModelCache(DiskStore(place), clock=lambda: time.time() + 100 * DAY)
    report = cache.evict(unused=0, max_used=0, recent=0, dry_run=True)
    assert [*report.kept.values()] == [UNKNOWN]
    assert not report.ok
    assert tree.path("smol").exists()


def test_in_a_lower_layer_nobody_can_tell(worlds: Worlds) -> None:
    """There no time ever moves, as in the image of a container."""
    lower = worlds.folder("lower")
    tree, _ = filled(lower)
    overlay = worlds.overlay(lower)
    cache = ModelCache(DiskStore(overlay.root / "models"), clock=lambda: time.time() + 100 * DAY)
    report = cache.evict(unused=0, recent=0, dry_run=True)
    assert [*report.kept.values()] == [UNKNOWN]
    assert tree.path("smol").exists()


@pytest.mark.parametrize("kind", ["ext4", "tmpfs", "xfs"])
def test_a_full_disk_is_freed(worlds: Worlds, kind: str) -> None:
    """To see whether reads show needs no room, nor does the eviction."""
    place = getattr(worlds, kind)()
    tree, cache = filled(place)
    other = b"other".ljust(400 << 10)
    tree.add("other", other)
    now = time.time() + 100 * DAY
    os.utime(tree.blobs / blob(other), (now - 9 * DAY, now - 50 * DAY))
    fill(place)
    assert os.statvfs(place).f_bavail * os.statvfs(place).f_frsize < 100_000
    report = cache.evict(min_free=300_000)
    assert report.ok, report
    assert not tree.path("smol").exists()
    assert tree.path("other").exists()
    assert os.statvfs(place).f_bavail * os.statvfs(place).f_frsize >= 300_000


def test_whether_anothers_file_is_open_nobody_can_tell(worlds: Worlds) -> None:
    """The system tells only its owner, and root."""
    tree, _ = filled(worlds.folder("plain"))
    for path in (tree.root, tree.blobs, tree.blobs / NAME):
        os.chown(path, STRANGER, STRANGER)
    code = "answer(DiskStore(sys.argv[1]).is_open(sys.argv[2]))"
    assert run_as(SERVICE, code, tree.root, NAME) is None
    assert run_as(STRANGER, code, tree.root, NAME) is False
    assert DiskStore(tree.root).is_open(NAME) is False
    (tree.blobs / NAME).chmod(0o600)
    assert run_as(SERVICE, code, tree.root, NAME) is None
