"""The history of a store, and on disk what an append may meet, and how the files stay small."""

from __future__ import annotations

import errno
import fcntl
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from kit.faults import failing
from kit.kinds import Kind
from kit.os_seam import Call, watched
from kit.trees import Tree
from kit.views import state
from registry_wsgi import DiskStore
from registry_wsgi.errors import StoreError
from registry_wsgi.stores.base import HistoryStore

#: More than the two files have at any time, in bytes.
BOUND = 300_000


@pytest.fixture
def store(tree: Tree) -> DiskStore:
    """An empty store."""
    return DiskStore(tree.root)


@pytest.fixture
def file(tree: Tree) -> Path:
    """The file that lines are appended to."""
    return tree.root / "history.jsonl"


def add(root: str, who: int, lines: int) -> None:
    """Append numbered lines."""
    store = DiskStore(root)
    for number in range(lines):
        store.append_history(f"{who} {number:06} {'x' * 140} end")


def taken(tree: Tree) -> int:
    """How many bytes the files of the history have."""
    return sum(path.stat().st_size for path in tree.root.glob("history*"))


def test_lines_come_back_in_order(kind: Kind) -> None:
    """Whichever process has added them, if the store keeps a history."""
    store, other = kind.store, kind.another()
    if not isinstance(store, HistoryStore):
        pytest.skip("this kind of store keeps none")
    assert isinstance(other, HistoryStore)
    assert store.history() == []
    for line in ("one", '{"two": 2}'):
        store.append_history(line)
    other.append_history("three")
    assert store.history() == other.history() == ["one", '{"two": 2}', "three"]
    assert not any(state(kind.store).values())


def test_it_stays_small_and_keeps_the_latest(tree: Tree, store: DiskStore) -> None:
    """Of thousands of lines several hundred stay: the last ones, in order."""
    add(store.root, 0, 4_000)
    numbers = [int(line.split()[1]) for line in store.history()]
    assert numbers == list(range(numbers[0], 4_000))
    assert len(numbers) >= 800
    assert taken(tree) < BOUND
    assert len([*tree.root.glob("history*")]) == 2


def test_many_processes_append_at_once(tree: Tree, store: DiskStore) -> None:
    """Each line is whole, none is there twice, and the files stay small."""
    with ProcessPoolExecutor(4) as pool:
        list(pool.map(add, [store.root] * 4, range(4), [1_200] * 4))
    lines = store.history()
    assert all(line.endswith(" end") and len(line) == 153 for line in lines)
    assert len(set(lines)) == len(lines) >= 800
    assert taken(tree) < BOUND


def test_a_broken_line_spoils_no_other(store: DiskStore, file: Path) -> None:
    """A line that a full disk or a power cut has broken off stays alone."""
    file.write_bytes(b'\n{"when": 1, "act')
    store.append_history("{}")
    assert store.history() == ['{"when": 1, "act', "{}"]
    file.write_bytes(b"\0" * 7)
    store.append_history("{}")
    assert store.history()[-1] == "{}"


def test_a_link_is_not_followed(tmp_path: Path, store: DiskStore, file: Path) -> None:
    """What it leads to is neither written nor read."""
    (tmp_path / "outside").write_text("mine\n")
    file.symlink_to(tmp_path / "outside")
    with pytest.raises(StoreError, match="history"):
        store.append_history("{}")
    assert (tmp_path / "outside").read_text() == "mine\n"
    assert store.history() == []


def test_a_file_with_another_name_is_left_as_it_is(
    tmp_path: Path, store: DiskStore, file: Path
) -> None:
    """A hard link may be that of somebody else's file, or of a backup: lines go to a new file."""
    (tmp_path / "outside").write_text("mine")
    file.hardlink_to(tmp_path / "outside")
    store.append_history("{}")
    assert (tmp_path / "outside").read_text() == "mine"
    assert store.history() == ["mine", "{}"]


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_no_file_is_left_alone(store: DiskStore, file: Path, make: object) -> None:
    """And nobody waits for a pipe to be read, or to be written."""
    assert callable(make)
    make(file)
    with pytest.raises(StoreError, match="history"):
        store.append_history("{}")
    assert store.history() == []
    if file.is_fifo():
        reader = os.open(file, os.O_RDONLY | os.O_NONBLOCK)
        try:
            with pytest.raises(StoreError, match="not a file"):
                store.append_history("{}")
        finally:
            os.close(reader)


def test_only_one_of_several_renames_it(tree: Tree, store: DiskStore, file: Path) -> None:
    """While another is about to, a line goes into the file as it is, and nobody waits."""
    file.write_bytes(b"\nx" * 70_000)
    with file.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        store.append_history("one")
        assert [path.name for path in tree.root.glob("history*")] == ["history.jsonl"]
    store.append_history("two")
    assert file.read_text() == "\ntwo"
    assert store.history()[-3:] == ["x", "one", "two"]


def test_one_that_was_renamed_meanwhile_is_not_taken_for_the_new_one(
    tree: Tree, store: DiskStore, file: Path
) -> None:
    """Else the few lines of the new one would take the place of all those before."""
    file.write_bytes(b"\nx" * 70_000)

    def rename(call: Call) -> None:
        if call.path == str(file) and file.stat().st_size > 1_000:
            file.rename(tree.root / "history.old.jsonl")
            file.write_bytes(b"\none")

    with watched(rename, ["fstat"]):
        store.append_history("two")
    lines = store.history()
    assert lines[-2:] == ["one", "two"]
    assert len(lines) == 70_002


def test_without_locks_it_is_renamed_all_the_same(store: DiskStore, file: Path) -> None:
    """As on some network file systems."""
    file.write_bytes(b"\nx" * 70_000)
    real = fcntl.flock

    def refuse(*args: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    fcntl.flock = refuse
    try:
        store.append_history("two")
    finally:
        fcntl.flock = real
    assert file.read_text() == "\ntwo"


def test_where_it_cannot_be_renamed_it_stops_growing(store: DiskStore, file: Path) -> None:
    """With twice the bytes at which it should have been renamed."""
    file.write_bytes(b"\nx" * 140_000)
    with watched(failing(errno.EACCES, "rename")), pytest.raises(StoreError, match="history"):
        store.append_history("one")
    assert file.stat().st_size == 280_000


def test_of_a_huge_file_of_somebody_else_only_the_end_is_read(store: DiskStore, file: Path) -> None:
    """As much as the history can have, and not a gigabyte."""
    with file.open("wb") as sparse:
        sparse.truncate(1 << 30)
    assert sum(map(len, store.history())) < 1_000_000
