"""Moving a manifest where one rename does not do, and making sure that the disk has what moved."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from contextlib import suppress

from ...errors import StoreError
from .directory import Directory

__all__ = ["copy_file", "copy_out", "empty_up", "sync_down"]


def copy_file(source: Directory, name: str, target: Directory, other: str) -> None:
    """
    Copy *name* to *other* in *target*, which must not be there; return when the disk has the copy.

    Raises:
        OSError: It cannot be copied. Then nothing is there.
    """
    status = source.stat(name)
    if stat.S_ISLNK(status.st_mode):
        target.symlink(source.read_link(name), other)
        return
    # The name appears before the original is opened. A prune that later removes the original from
    # the trash meets an empty manifest, and stops; if one has removed the original already, opening
    # fails here. So a model never comes back after a prune has taken its blobs for unneeded.
    with os.fdopen(target.create(other), "wb") as copy:
        try:
            with os.fdopen(source.open(name), "rb") as original:
                shutil.copyfileobj(original, copy)
            copy.flush()
            with suppress(OSError):
                os.utime(copy.fileno(), ns=(status.st_atime_ns, status.st_mtime_ns))
            os.fsync(copy.fileno())
        except BaseException:
            with suppress(FileNotFoundError):
                # Another program may have put a manifest of its own there.
                if os.path.samestat(os.fstat(copy.fileno()), target.stat(other)):
                    target.unlink(other)
            raise
    target.sync()


def copy_out(source: Directory, name: str, trash: Directory, run: str, folders: list[str]) -> None:
    """
    Move the manifest *name* into an entry of the trash, which is on another mount.

    Nobody sees the copy before all of it is there and on the disk, and only then the manifest goes.

    Args:
        source: Where the manifest is.
        name: What it is called there, and in the trash.
        trash: The trash.
        run: The entry in it.
        folders: The directories in the entry that the manifest goes to. They are there.

    Raises:
        FileNotFoundError: The manifest is gone, or has changed meanwhile.
        OSError: It cannot be moved, and is where it was.
    """
    before = source.stat(name)
    with trash.descend([run]) as entry:
        copy_file(source, name, entry, "incoming")
        with entry.descend(folders) as target:
            entry.rename("incoming", target, name)
    sync_down(trash, [run, *folders])
    trash.sync()
    after = source.stat(name)
    times = (before.st_mtime_ns, before.st_ctime_ns) == (after.st_mtime_ns, after.st_ctime_ns)
    if not (times and os.path.samestat(before, after)):
        raise FileNotFoundError(errno.ENOENT, "was replaced just now", name)
    if not source.unlink(name):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
    with suppress(OSError):  # the disk has the copy: at worst a power cut brings the original back
        source.sync()


def empty_up(top: Directory, parts: list[str]) -> None:
    """Remove the directories that *parts* lead to, from the last one up, while they are empty."""
    # rmdir refuses, as one step, when a pull has put something in; whatever else it says, an empty
    # directory does no harm. What a link leads to stays: another link may lead there, too.
    with suppress(OSError, StoreError):
        for end in range(len(parts) - 1, 0, -1):
            with top.descend(parts[:end]) as folder:
                folder.rmdir(parts[end])


def sync_down(top: Directory, parts: list[str]) -> None:
    """Wait until the directories that *parts* lead to, and the names in them, are on the disk."""
    for end in range(len(parts), 0, -1):
        with top.descend(parts[:end], follow=True) as folder:
            folder.sync()
