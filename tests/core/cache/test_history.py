"""The history: which changes are noted, by whom, and that no change depends on that."""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from kit.clocks import DAY
from kit.faults import failing_at
from kit.os_seam import CHANGING, READING, Call, watched
from kit.scenes import DiskScene, MemoryScene, Scene
from kit.trees import HOST, Tree, blob
from registry_wsgi import DiskStore, MemoryStore, ModelCache
from registry_wsgi.cache.history import Change, acting
from registry_wsgi.errors import ModelProtectedError

NAME = f"{HOST}/library/smol:latest"


@pytest.fixture(params=["disk", "memory"])
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Scene:
    """A store of each kind, with one model."""
    made = DiskScene(tmp_path / "models") if request.param == "disk" else MemoryScene()
    made.inhabit()
    made.model("smol", b"weights", config=b"{}")
    return made


def told(cache: ModelCache) -> list[tuple[Any, ...]]:
    """What the history says happened, the latest first."""
    return [(one.action, one.names, one.models, one.bytes) for one in cache.history()]


def test_each_change_is_noted(scene: Scene) -> None:
    """What, of which models, and how many bytes; the latest first."""
    cache = scene.cache
    assert cache.history() == []
    cache.protect("smol")
    with pytest.raises(ModelProtectedError):
        cache.unlink("smol")
    cache.unprotect("smol")
    assert not cache.unprotect("smol")
    cache.unlink("smol")
    cache.restore("smol")
    cache.unlink("smol")
    cache.prune(dry_run=True)
    cache.forget("smol", quiet_store=True, dry_run=True)
    cache.forget("smol", quiet_store=True)
    cache.prune()
    assert told(cache) == [
        ("prune", (), 0, 0),
        ("forget", (NAME,), 1, 9),
        ("delete", (NAME,), 1, 9),
        ("restore", (NAME,), 1, 0),
        ("delete", (NAME,), 1, 9),
        ("unprotect", ("smol:latest",), 0, 0),
        ("protect", ("smol:latest",), 0, 0),
    ]
    assert {change.when.timestamp() for change in cache.history()} == {scene.clock()}


def test_what_has_expired_is_noted_apart_from_a_prune(scene: Scene) -> None:
    """The prune after a delete that removed nothing is not."""
    scene.cache.unlink("smol")
    scene.cache.prune_deleted()
    with scene.clock.ago(-8 * DAY):
        scene.cache.prune_deleted()
        scene.cache.prune_deleted()
    assert [one[:3] for one in told(scene.cache)] == [
        ("expire", (NAME,), 1),
        ("delete", (NAME,), 1),
    ]


def test_prunes_that_remove_nothing_do_not_fill_the_history(scene: Scene) -> None:
    """One in half a day says when the last was; one that removed something is always there."""
    cache, begun = scene.cache, scene.clock()
    for hour in range(24):
        with scene.clock.ago(-hour * 3_600):
            cache.prune()
    assert [one.when.timestamp() - begun for one in cache.history()] == [12 * 3_600, 0]
    cache.unlink("smol")
    cache.prune(age=0)
    assert told(cache)[0][:3] == ("prune", (NAME,), 1)


def test_a_repair_is_noted(tree: Tree) -> None:
    """With the models that are whole again."""
    tree.add("smol", b"weights")
    cache = ModelCache(DiskStore(tree.root))
    cache.unlink("smol")
    (tree.blobs / blob(b"weights")).unlink()
    tree.add("smol")
    tree.write("smol", (tree.root / "trash").glob("*/manifests/*/*/*/*").__next__().read_bytes())
    cache.verify()
    assert len(cache.history()) == 1
    assert cache.verify(repair=True).ok
    assert told(cache)[0] == ("repair", (NAME,), 1, 0)


def test_a_prune_of_many_models_names_the_first(tree: Tree) -> None:
    """A line stays short, and has the number of all."""
    for number in range(30):
        tree.add(f"m{number:02}", b"weights")
    cache = ModelCache(DiskStore(tree.root))
    cache.prune(age=0, all=True)
    [change] = cache.history()
    assert change.models == 30
    assert len(change.names) == 20
    assert max(map(len, (tree.root / "history.jsonl").read_text().split("\n"))) < 4_000


def test_it_says_who(scene: Scene) -> None:
    """Whoever is named by `acting` in this thread, and nobody else."""
    other = threading.Thread(target=scene.cache.protect, args=("a",))
    with acting("alice", "HTTP from 192.0.2.7"):
        scene.cache.unlink("smol")
        other.start()
        other.join()
        with acting("bob"):
            scene.cache.restore("smol")
    scene.cache.unlink("smol")
    assert [(change.user, change.source) for change in scene.cache.history()] == [
        (None, None),
        ("bob", None),
        (None, None),
        ("alice", "HTTP from 192.0.2.7"),
    ]


def test_a_delete_has_the_id_of_what_is_in_the_trash(scene: Scene) -> None:
    """So that one of several deletes of a name is found."""
    scene.cache.unlink("smol")
    assert [change.id for change in scene.cache.history()] == [scene.cache.deleted()[0].id]


def test_other_lines_are_passed_over(tree: Tree) -> None:
    """Broken ones, foreign ones, and some that a stranger made to do harm."""
    tree.add("smol", b"weights")
    cache = ModelCache(DiskStore(tree.root))
    lines = [
        *("{", "null", "[]", "7", '{"when": 1}', '{"action": "delete"}', "[" * 90_000),
        '{"when": "now", "action": "delete"}',
        '{"when": 1, "action": ["delete"]}',
        '{"when": 1, "action": "delete", "names": 3}',
        f'{{"when": 1, "action": "delete", "models": {"9" * 5_000}}}',
        "\xff\xfe",
    ]
    (tree.root / "history.jsonl").write_bytes("\n".join(lines).encode("latin-1"))
    assert cache.history() == []
    cache.unlink("smol")
    assert [change.action for change in cache.history()] == ["delete"]


def test_values_of_other_kinds_are_left_out(tree: Tree) -> None:
    """And a moment past the calendar is its end."""
    fields = {"when": 1e300, "action": "delete", "names": [1, "a"], "models": -1, "bytes": "x"}
    line = json.dumps({**fields, "user": 7, "source": ["x"], "id": {}})
    (tree.root / "history.jsonl").write_text(f"{line}\n")
    [change] = ModelCache(DiskStore(tree.root)).history()
    assert change == Change(change.when, "delete", ("a",))
    assert change.when.year == 9999


def test_whatever_fails_the_change_stands(tree: Tree) -> None:
    """Each call of the system that has to do with the history may fail."""
    cache = ModelCache(DiskStore(tree.root))
    tree.add("smol", b"weights")

    def calls(act: Callable[[Call], None]) -> list[Call]:
        seen: list[Call] = []

        def count(call: Call) -> None:
            if "history" in call.path:
                seen.append(call)
                act(Call(len(seen) - 1, call.name, call.path, call.changes))

        with watched(count, (*CHANGING, *READING)):
            assert cache.unlink("smol")
        cache.recording = False
        cache.restore("smol")
        cache.recording = True
        return seen

    for there in (False, True):
        number = len(calls(lambda _: None))
        assert number >= 4
        for moment in range(number):
            if not there:
                (tree.root / "history.jsonl").unlink(missing_ok=True)
            calls(failing_at(moment, errno.ENOSPC))
    assert {change.action for change in cache.history()} == {"delete"}


def test_a_store_of_somebody_else_has_none() -> None:
    """Or one that fails in its own way: the change stands."""

    class Plain(MemoryStore):
        append_history = history = None  # type: ignore[assignment]

    class Broken(MemoryStore):
        def append_history(self, line: str) -> None:
            raise RuntimeError(line)

    for kind in (Plain, Broken):
        scene = MemoryScene()
        scene.model("smol", b"weights")
        cache = ModelCache(kind())
        cache.protect("a")
        assert cache.protected() == ["a:latest"]
        assert cache.history() == []


def test_it_can_be_turned_off(scene: Scene) -> None:
    """For one cache."""
    scene.cache.recording = False
    scene.cache.unlink("smol")
    assert scene.cache.history() == []


def test_it_takes_its_part_of_the_space(tree: Tree) -> None:
    """It is counted with manifests and the rest, and is nothing that nobody needs."""
    tree.add("smol", b"weights")
    cache = ModelCache(DiskStore(tree.root), retention=timedelta(days=1))
    before = cache.space().rest
    cache.protect("other")
    assert cache.space().rest.files == before.files + 2  # that of the protection, too
    assert cache.orphans() == []
    assert cache.verify().ok


def test_what_an_eviction_lets_go_is_told_from_a_delete(tree: Tree) -> None:
    """By its action; who has started it is known as for a delete."""
    tree.add("smol", b"weights")
    read = time.time() - 40 * DAY
    for path in tree.blobs.iterdir():
        os.utime(path, (read, read - DAY))
    cache = ModelCache(DiskStore(tree.root), clock=lambda: time.time() + 90 * DAY)
    with acting("timer"):
        cache.evict(max_used=1)
    evicted = [change for change in cache.history() if change.action == "evict"]
    assert [(change.names, change.user) for change in evicted] == [((NAME,), "timer")]
