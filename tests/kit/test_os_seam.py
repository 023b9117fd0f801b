"""The seam of `os` sees each call, by whatever the caller names the file."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from kit.faults import Killed, Once, failing, failing_at, killed_at
from kit.os_seam import Call, Seam, counted, watched


def test_a_call_below_a_descriptor_has_its_path(tmp_path: Path) -> None:
    """Whether the folder was opened before the seam or since."""
    before = os.open(tmp_path, os.O_RDONLY)
    with Seam(tmp_path) as seam:
        os.mkdir("one", dir_fd=before)
        since = os.open(tmp_path / "one", os.O_RDONLY)
        os.close(os.open("two", os.O_WRONLY | os.O_CREAT, dir_fd=since))
        os.rename("two", "three", src_dir_fd=since, dst_dir_fd=since)
        os.listdir(since)
        os.close(since)
    os.close(before)
    assert [(call.name, call.path.removeprefix(str(tmp_path))) for call in seam.calls] == [
        *(("mkdir", "/one"), ("open", "/one"), ("create", "/one/two"), ("close", "/one/two")),
        *(("rename", "/one/two"), ("listdir", "/one"), ("close", "/one")),
    ]
    assert [call.number for call in seam.calls if call.changes] == [0, 2, 4]


def test_what_is_elsewhere_is_let_through(tmp_path: Path) -> None:
    """A fault of one store is none of another."""
    (tmp_path / "here").mkdir()
    with Seam(tmp_path / "here", failing(errno.EIO, "mkdir")):
        (tmp_path / "there").mkdir()
        with pytest.raises(OSError, match="Input/output error"):
            (tmp_path / "here" / "in").mkdir()


def test_a_killed_process_does_nothing_more(tmp_path: Path) -> None:
    """Not even what it has in its `finally`; and no file stays open."""
    opened = len(os.listdir("/proc/self/fd"))

    def write() -> None:
        file = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
        try:
            os.write(file, b"x")
        finally:
            with pytest.raises(Killed):
                os.unlink(tmp_path / "file")
            os.close(file)

    with Seam(tmp_path, killed_at(1)), pytest.raises(Killed):
        write()
    assert (tmp_path / "file").read_bytes() == b""
    assert len(os.listdir("/proc/self/fd")) == opened


def test_the_reading_of_a_directory_may_fail(tmp_path: Path) -> None:
    """It is a call of its own, after the directory was opened."""
    (tmp_path / "a").touch()
    with (
        Seam(tmp_path, failing_at(1, errno.EIO)),
        os.scandir(tmp_path) as entries,
        pytest.raises(OSError, match="Input/output error"),
    ):
        next(entries)


def test_what_is_done_at_a_call_is_not_watched_itself(tmp_path: Path) -> None:
    """But what another thread does meanwhile is."""
    names: list[str] = []

    def act(call: Call) -> None:
        names.append(call.name)
        os.mkdir(tmp_path / "by the way")
        other = threading.Thread(target=os.rmdir, args=(tmp_path / "by the way",))
        if call.name == "rename":
            other.start()
            other.join()

    def once(call: Call) -> None:
        if call.name == "rmdir":
            names.append("rmdir of another")
        else:
            act(call)

    (tmp_path / "a").touch()
    with watched(once):
        os.rename(tmp_path / "a", tmp_path / "b")
    assert names == ["rename", "rmdir of another"]


def test_once_is_once_and_all_calls_are_counted(tmp_path: Path) -> None:
    """Both by the name of the function; what a listing gave is counted too."""
    once = Once("mkdir", lambda path: os.mkdir(path.with_name("first")))
    with watched(once), counted() as calls:
        os.mkdir(tmp_path / "a")
        os.mkdir(tmp_path / "b")
        os.listdir(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["a", "b", "first"]
    assert (calls["mkdir"], calls["listdir"], calls["entries"]) == (3, 1, 3)
