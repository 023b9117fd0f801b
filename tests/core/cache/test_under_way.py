"""How far a removal is, as another process sees it; and that no removal depends on that."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from kit.clocks import Clock
from kit.inside import show_work_at_once
from kit.os_seam import Call, watched
from kit.trees import Tree
from registry_wsgi import DiskStore, MemoryStore, ModelCache
from registry_wsgi.cache.history import acting
from registry_wsgi.cache.under_way import Work

WORKER = """
import sys, time
from registry_wsgi import DiskStore
with DiskStore(sys.argv[1]).show_work() as show:
    show('{"what": "removing blobs", "done": 3, "total": 9}')
    print(flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def file(tree: Tree) -> Path:
    """Where it shows."""
    return tree.root / "under-way.json"


@pytest.fixture
def cache(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> ModelCache:
    """Something to remove, which shows from its first step on."""
    show_work_at_once(monkeypatch)
    tree.add("smol", b"weights")
    tree.add_blob(b"orphan")
    return ModelCache(DiskStore(tree.root), clock=Clock.far_ahead())


def seen_during(cache: ModelCache, tree: Tree) -> list[Work | None]:
    """What another one who has the store sees, at each step of a prune."""
    other, seen = ModelCache(DiskStore(tree.root)), list[Work | None]()
    cache.prune(progress=lambda *_: seen.append(other.under_way()))
    assert cache.orphans() == []
    return seen


def test_a_prune_shows_while_it_lasts(cache: ModelCache, tree: Tree, file: Path) -> None:
    """What it does, how far it is and who runs it; nothing before, after, or of a dry run."""
    assert cache.under_way() is None
    with acting("ada", "CLI host"):
        seen = seen_during(cache, tree)
    assert None not in seen
    assert Work("removing blobs", 0, 6, "ada", "CLI host") in seen
    assert cache.under_way() is None
    assert not file.exists()
    cache.prune(dry_run=True, progress=lambda *_: seen.append(cache.under_way()))
    assert seen[-1] is None


def test_a_process_that_is_killed_shows_no_longer(
    cache: ModelCache, tree: Tree, file: Path
) -> None:
    """It has the file locked for as long as it lives; the next prune takes the file over."""
    command = [sys.executable, "-c", WORKER, str(tree.root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        worker.stdout.readline()
        assert cache.under_way() == Work("removing blobs", 3, 9)
        # Of two at once the first one shows, and the other one does not take its file away.
        assert set(seen_during(cache, tree)) == {Work("removing blobs", 3, 9)}
        assert cache.under_way() == Work("removing blobs", 3, 9)
        worker.kill()
    assert file.exists()
    assert cache.under_way() is None
    tree.add_blob(b"orphan")
    assert Work("removing blobs", 0, 6) in seen_during(cache, tree)
    assert not file.exists()


def test_an_old_line_shows_nothing(cache: ModelCache, file: Path) -> None:
    """Where files cannot be locked, a killed process shows for some minutes; a wrong clock too."""
    with cache.store.show_work() as show:  # type: ignore[attr-defined]
        show("{}")
        assert cache.under_way() == Work()
        for ago in (600, -600):
            os.utime(file, (time.time() - ago,) * 2)
            assert cache.under_way() is None


@pytest.mark.parametrize("line", ["", "[]", "{", "[" * 3_999, '{"done": -1, "total": "x"}', "\xff"])
def test_a_broken_line_tells_that_there_is_work(cache: ModelCache, file: Path, line: str) -> None:
    """And no more."""
    with cache.store.show_work() as show:  # type: ignore[attr-defined]
        show("{}")
        file.write_bytes(line.encode("latin-1"))
        assert cache.under_way() == Work()


@pytest.mark.parametrize("what", ["a link", "a folder", "a pipe", "two names"])
def test_what_is_not_ours_stays(cache: ModelCache, tree: Tree, file: Path, what: str) -> None:
    """The prune goes on without showing."""
    mine = tree.root.parent / "mine"
    mine.write_text("mine")
    makers: dict[str, Any] = {
        "a link": lambda: file.symlink_to(mine),
        "a folder": file.mkdir,
        "a pipe": lambda: os.mkfifo(file),
        "two names": lambda: file.hardlink_to(mine),
    }
    makers[what]()
    assert set(seen_during(cache, tree)) == {None}
    assert mine.read_text() == "mine"
    assert os.path.lexists(file)


def test_no_link_is_read(cache: ModelCache, tree: Tree, file: Path) -> None:
    """The file that it leads to may be of somebody else, who has it locked."""
    theirs = tree.root.parent / "theirs"
    with theirs.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        file.symlink_to(theirs)
        assert cache.under_way() is None
        file.unlink()
        theirs.rename(file)
        assert cache.under_way() == Work()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EIO])
@pytest.mark.parametrize("name", ["write", "ftruncate", "open", "unlink"])
def test_what_fails_hinders_no_prune(cache: ModelCache, tree: Tree, name: str, number: int) -> None:
    """A full disk, say."""
    met = []

    def act(call: Call) -> None:
        if call.name == name and "under-way" in call.path:
            met.append(call)
            raise call.error(number)

    with watched(act, [name]):
        seen_during(cache, tree)
    assert met
    assert cache.under_way() is None


def test_a_store_that_shows_nothing() -> None:
    """It is not asked."""
    cache = ModelCache(MemoryStore())
    cache.prune()
    assert cache.under_way() is None
