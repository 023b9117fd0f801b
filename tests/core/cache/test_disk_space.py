"""What takes the space of a store, and what would free it: the numbers are those of du."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections import deque
from dataclasses import fields
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from kit.clocks import DAY, HOUR, OLD, Clock
from kit.kinds import BucketKind
from kit.requirements import require_command
from kit.scenes import DiskScene, MemoryScene, Scene, full
from kit.trees import blob, manifest
from registry_wsgi import ModelCache
from registry_wsgi.cache.space import Amount, Freed, Space
from registry_wsgi.durations import moment
from registry_wsgi.errors import StoreError

PARTS = ("own", "shared", "trash", "aside", "unneeded", "unfinished", "rest")


@pytest.fixture
def disk(tmp_path: Path) -> DiskScene:
    """A store with some of everything, each file of a length of its own."""
    disk = DiskScene(tmp_path / "models")
    disk.model("one", b"1" * 5_000, b"s" * 9_000)
    disk.model("two", b"2" * 6_000, b"s" * 9_000)
    disk.deleted("old", b"o" * 20_000, b"s" * 9_000, b"b" * 3_000, ago=6 * DAY)
    disk.deleted("late", b"l" * 30_000, b"b" * 3_000, ago=HOUR)
    disk.blob(b"n" * 40_000, age=2 * DAY)
    disk.partial(b"p" * 50_000, age=3 * DAY)
    disk.put_blob(f"{blob(b'p' * 50_000)}-partial-0", b"{}", age=DAY)
    disk.put_blob("notes.txt", b"f" * 7_000, age=2 * DAY)
    work = disk.tree.root / "ollama-safetensors45"
    work.mkdir()
    (work / "tensors").write_bytes(b"t" * 11_000)
    disk.blob(b"a" * 60_000)
    run = disk.store.condemn([blob(b"a" * 60_000)], disk.clock.now - HOUR)
    deque(run, maxlen=0)
    return disk


def du(*paths: Path) -> int:
    """What ``du`` says, in bytes."""
    require_command("du")
    done = subprocess.run(
        ["du", "-sc", "--block-size=1", *paths], check=True, capture_output=True, text=True
    )
    return int(done.stdout.splitlines()[-1].split()[0])


def check(space: Space) -> Space:
    """The parts are the whole."""
    for number in fields(Amount):
        parts = sum(getattr(getattr(space, part), number.name) for part in PARTS)
        assert parts == getattr(space.total, number.name)
    return space


def test_each_content_counts_once_and_as_du_does(disk: DiskScene) -> None:
    """To the block, with hard links, sparse files, links, folders and what is none of ours."""
    root = disk.tree.root
    with (root / "blobs" / "sparse").open("wb") as sparse:
        sparse.truncate(10**12)
    os.symlink("/etc/passwd", root / "blobs" / "link")
    (root / "else").mkdir()
    (root / "else" / "file").write_bytes(b"e" * 12_345)
    os.link(root / "else" / "file", root / "else" / "again")
    space = check(disk.cache.space())
    assert space.total.taken == du(root)
    assert (space.models, space.deleted) == (2, 2)
    assert (space.own.files, space.own.size) == (2, 11_000)
    assert (space.shared.files, space.shared.size) == (2, 9_002)  # with the config
    assert space.trash.size >= 53_000
    assert (space.aside.files, space.aside.size) == (1, 60_000)
    assert (space.unfinished.files, space.unfinished.size) == (3, 61_002)
    assert space.disk is not None
    assert space.free is not None
    assert space.other is not None
    assert 0 < space.free < space.disk
    assert space.other < space.disk


def test_du_agrees_with_what_a_prune_frees(disk: DiskScene) -> None:
    """With an age of 0, and one when something has grown old; before it and after it."""
    space = disk.cache.space()
    assert space.frees["prune"].now > 60_000  # aside, and notes.txt
    for days in (0, 2, 4, 6, 8):
        disk.clock.now += days * DAY
        space, before = disk.cache.space(), du(disk.tree.root)
        assert before == space.total.taken
        disk.cache.prune(quiet_store=True)
        assert before - du(disk.tree.root) == space.frees["prune"].now
    assert space.frees["prune"].first is None
    assert disk.cache.space().frees == {
        "prune": Freed(),
        "prune --age 0": Freed(),
        "forget *": Freed(),
    }


@pytest.mark.parametrize("command", ["prune --age 0", "forget *"])
def test_du_agrees_with_what_a_command_frees(disk: DiskScene, command: str) -> None:
    freed = disk.cache.space().frees[command]
    before = du(disk.tree.root)
    if command == "forget *":
        disk.cache.forget("old", "late", quiet_store=True)
    else:
        disk.cache.prune(age=0)
    assert before - du(disk.tree.root) == freed.now > 0
    assert (freed.later, freed.first, freed.last) == (0, None, None)


def test_the_size_of_what_goes_is_that_of_a_report(disk: DiskScene) -> None:
    """But for the manifests in the trash, which a report does not count."""
    manifests = sum(
        path.stat().st_size for path in disk.tree.root.glob("trash/*/manifests/*/*/*/*")
    )
    frees = disk.cache.space().frees
    size = disk.cache.prune(age=0, dry_run=True).bytes + manifests
    assert frees["prune"].size == frees["prune --age 0"].size == size


def test_later_has_a_first_and_a_last_time(disk: DiskScene) -> None:
    """Those at which a prune finds something old enough."""
    freed = disk.cache.space().frees["prune"]
    assert freed.first is not None
    assert freed.last is not None
    now = moment(disk.clock.now)
    assert abs(freed.first - now - timedelta(days=1)) < timedelta(seconds=1)  # `old`
    assert abs(freed.last - now - timedelta(days=7, hours=-1)) < timedelta(seconds=1)  # `late`
    everything = disk.cache.space().frees["prune --age 0"].now
    assert freed.now + freed.later == everything


def test_content_with_a_name_elsewhere_is_not_free(disk: DiskScene) -> None:
    """It counts, but no command frees it."""
    before = disk.cache.space()
    os.link(disk.tree.blobs / blob(b"n" * 40_000), disk.tree.root.parent / "elsewhere")
    after = disk.cache.space()
    assert after.total == before.total
    lost = before.frees["prune --age 0"].now - after.frees["prune --age 0"].now
    assert 40_000 <= lost < 50_000


def test_while_a_manifest_cannot_be_read_nothing_is_free(disk: DiskScene) -> None:
    """As no prune removes anything; what it mentions is its own."""
    disk.tree.write("broken", b'{"layers": "' + blob(b"n" * 40_000).encode() + b'"}')
    space = disk.cache.space()
    assert space.unreadable == ("registry.ollama.ai/library/broken:latest",)
    assert set(space.frees.values()) == {Freed()}
    assert space.own.size == 51_000
    assert space.unneeded.size == 7_000


def test_while_a_manifest_cannot_be_read_no_cause_is_named(disk: DiskScene) -> None:
    """The model may need any of the blobs, be they mentioned in what is left of it or not."""
    disk.tree.write("broken", b"{")
    found = {one.file: one for one in disk.cache.orphans()}
    assert found[blob(b"n" * 40_000)].cause == "unknown: a manifest cannot be read"
    assert found["notes.txt"].cause == "foreign"
    assert {one.goes for one in found.values()} == {None}


def _take_away(disk: DiskScene, how: str) -> None:
    """Put the manifests out of reach."""
    manifests = disk.tree.manifests
    if how == "gone":
        manifests.rename(manifests.with_name("gone"))
    elif how == "empty":
        shutil.rmtree(manifests)
        manifests.mkdir()
    elif how == "empty host":
        (manifests / "hf.co").mkdir()
    else:
        (manifests / "hf.co").symlink_to(manifests / "unmounted")


@pytest.mark.parametrize("how", ["gone", "empty", "empty host", "link to nowhere"])
def test_with_manifests_out_of_reach_nothing_is_free(disk: DiskScene, how: str) -> None:
    """All say so as a prune does: the list of what nothing needs is not one to remove by."""
    total = disk.cache.space().total.size
    assert disk.cache.space().out_of_reach is None
    _take_away(disk, how)
    disk.clock.now += 30 * DAY
    with pytest.raises(StoreError) as refused:
        disk.cache.prune()
    for call in (
        disk.cache.orphans,
        partial(disk.cache.evict, max_used=0, dry_run=True),
        partial(disk.cache.evict, max_used=0),
    ):
        with pytest.raises(refused.type, match=re.escape(str(refused.value))):
            call()
    space = check(disk.cache.space())
    assert space.out_of_reach == str(refused.value)
    assert set(space.frees.values()) == {Freed()}
    assert abs(space.total.size - total) < 10_000


def test_blobs_on_another_disk_count_there(disk: DiskScene, tmp_path: Path) -> None:
    """A link leads there; the free space is that of the disk they are on."""
    blobs = disk.tree.blobs.rename(tmp_path / "elsewhere")
    disk.tree.blobs.symlink_to(blobs)
    assert disk.cache.space().total.taken == du(disk.tree.root, blobs)


def test_of_a_store_without_a_disk_the_blobs_are_known() -> None:
    """As of a bucket."""
    scene = MemoryScene()
    scene.model("smol", b"weights", b"shared")
    scene.model("other", b"shared")
    scene.blob(b"orphan")
    space = check(scene.cache.space())
    assert (space.disk, space.free, space.other) == (None, None, None)
    assert (space.own, space.unneeded) == (Amount(1, 7, 7), Amount(1, 6, 6))
    assert space.frees["prune"] == Freed(6, size=6)


def test_of_a_bucket_the_blobs_are_known(tmp_path: Path) -> None:
    """What is set aside is only marked there, and counts once."""
    bucket = BucketKind(tmp_path, Clock())
    bucket.put_manifest(full("smol"), manifest(b"weights"))
    for data in (b"weights", b"{}", b"orphan", b"aside"):
        bucket.put_blob(blob(data), data)
    deque(bucket.store.condemn([blob(b"aside")], time.time()), maxlen=0)
    cache = ModelCache(bucket.store)
    space = check(cache.space())
    assert (space.disk, space.models) == (None, 1)
    assert (space.own, space.unneeded, space.aside) == (
        *(Amount(2, 9, 9), Amount(1, 6, 6), Amount(1, 5, 5)),
    )
    assert space.frees["prune --age 0"] == Freed(11, size=11)
    assert {one.file: one.cause for one in cache.orphans()} == {
        blob(b"orphan"): "delete by another program",
        blob(b"aside"): "set aside by a prune",
    }


def test_a_folder_of_a_create_is_named_as_what_goes(disk: DiskScene) -> None:
    """By its place; it is no deleted model."""
    (item,) = [
        item
        for item in disk.cache.prune(age=0, dry_run=True).items
        if item.file == "ollama-safetensors45"
    ]
    assert (item.reason, item.bytes, item.held) == ("partial", 11_000, False)


def test_orphans_are_named_with_their_cause_and_when_they_go(disk: DiskScene) -> None:
    """All files of one download are one, and so is a folder of Ollama's create."""
    root = disk.tree.root
    (root / "blobs" / "split-gguf-123").mkdir()
    (root / "blobs" / "split-gguf-123" / "part").write_bytes(b"x" * 99)
    disk.put_blob("copy4567", b"x" * 98)
    orphans = {orphan.file: orphan for orphan in disk.cache.orphans()}
    download = f"{blob(b'p' * 50_000)}-partial"
    assert {
        file: (orphan.files, orphan.size, orphan.cause) for file, orphan in orphans.items()
    } == {
        blob(b"a" * 60_000): (1, 60_000, "set aside by a prune"),
        blob(b"n" * 40_000): (1, 40_000, "delete by another program"),
        download: (2, 50_002, "interrupted download"),
        "notes.txt": (1, 7_000, "foreign"),
        "blobs/split-gguf-123": (1, 99, "unfinished create"),
        "copy4567": (1, 98, "unfinished create"),
        "ollama-safetensors45": (1, 11_000, "unfinished create"),
    }
    assert [orphan.size for orphan in orphans.values()] == sorted(
        (orphan.size for orphan in orphans.values()), reverse=True
    )
    goes = orphans[download].goes
    assert goes is not None
    assert abs(goes - moment(disk.clock.now) - timedelta(days=6)) < timedelta(seconds=1)
    disk.clock.now = goes.timestamp() - 1
    assert (disk.tree.blobs / download).exists()
    disk.cache.prune(quiet_store=True)
    assert (disk.tree.blobs / download).exists()
    disk.clock.now += 2
    disk.cache.prune(quiet_store=True)
    assert not (disk.tree.blobs / download).exists()


@pytest.mark.parametrize("kind", ["disk", "memory"])
def test_a_store_in_which_all_is_needed_has_no_orphans(tmp_path: Path, kind: str) -> None:
    """What the trash needs is none either."""
    scene: Scene = DiskScene(tmp_path / "models") if kind == "disk" else MemoryScene()
    scene.model("smol", b"weights", age=OLD)
    scene.deleted("gone", b"other", ago=HOUR)
    assert scene.cache.orphans() == []
    assert scene.cache.space().unneeded == Amount()
