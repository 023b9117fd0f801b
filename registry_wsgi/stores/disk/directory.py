"""
Open directories.

A path may lead elsewhere a moment after it was checked: whoever may write in the store can put a
symbolic link in the place of a directory. So whatever changes files here holds the directory open,
and names the file in it. A link is followed only where that is asked for, and only if it leads to a
place within the store.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import ParamSpec, Self

from ...errors import StoreError
from .system import ABSENT, is_kept_open, tolerated

__all__ = ["Directory", "if_there", "remove_tree"]

_P = ParamSpec("_P")

# Enough to reach what is in a directory, also in one that may not be listed.
_REACH = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC

# What some file systems say when a directory is to be synced, as they cannot, or need not.
_NOT_SYNCED = (errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EROFS)

# How often to try where another may be making, or renaming, the same file.
_TRIES = 8

# More levels than anything has that we make.
_DEEPEST = 16


class Directory:
    """
    A directory that is held open. It is a context manager, which closes it.

    What it makes belongs to the owner of the models directory, with the mode of that. Its methods
    raise `OSError`.

    Attributes:
        path: Where it was when it was opened, for messages.
    """

    __slots__ = ("_file", "_owner", "_top", "path")

    def __init__(self, file: int, path: str, top: Directory | None = None) -> None:
        self._file = file
        self.path = path
        self._top: Directory = top or self
        self._owner: os.stat_result = top._owner if top else os.fstat(file)

    @classmethod
    def at(cls, path: str) -> Self:
        """Open the models directory, wherever links put it."""
        return cls(os.open(path, _REACH), path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it. Closing it once more does nothing."""
        file, self._file = self._file, -1
        if file >= 0:
            with suppress(OSError):  # nothing was written to it that could fail to be
                os.close(file)

    # Other directories

    def descend(
        self, parts: Iterable[str], *, follow: bool = False, leave: bool = False, make: bool = False
    ) -> Self:
        """
        Open the directory that *parts* lead to from here.

        Args:
            parts: The name of one directory in each other; at least one.
            follow: Follow symbolic links to places within the models directory.
            leave: Follow symbolic links that lead out of it, too.
            make: Make the directories that are not there.

        Raises:
            StoreError: A symbolic link is in the way that is not followed.
        """
        here = self
        try:
            for part in parts:
                there = here._enter(part, follow=follow, leave=leave, make=make)
                if here is not self:
                    here.close()
                here = there
        except BaseException:
            if here is not self:
                here.close()
            raise
        return here

    def make(self, name: str) -> Self:
        """Make the directory *name*, and open it."""
        with self._named(name):
            return self._make(name)

    def _make(self, name: str) -> Self:
        os.mkdir(name, stat.S_IMODE(self._owner.st_mode) & 0o777, dir_fd=self._file)
        file = os.open(name, _LIST | os.O_NOFOLLOW, dir_fd=self._file)
        self._adopt(file, stat.S_IMODE(self._owner.st_mode) & 0o2777)
        return type(self)(file, f"{self.path}/{name}", self._top)

    def hand_over(self) -> None:
        """Give this directory to the owner of the models directory, if root made it for himself."""
        status = os.stat(".", dir_fd=self._file)
        if os.geteuid() == 0 and status.st_uid == 0 != self._owner.st_uid:
            file = os.open(".", _LIST, dir_fd=self._file)
            try:
                self._adopt(file, stat.S_IMODE(self._owner.st_mode) & 0o2777)
            finally:
                os.close(file)

    @contextmanager
    def _named(self, name: str) -> Iterator[None]:
        """Put the whole path into an error of the system, which knows only *name*."""
        try:
            yield
        except OSError as error:
            if error.filename == name:
                error.filename = f"{self.path}/{name}"
            raise

    def _enter(self, name: str, *, follow: bool, leave: bool, make: bool) -> Self:
        path = f"{self.path}/{name}"
        try:
            with self._named(name):
                file = os.open(name, _REACH | os.O_NOFOLLOW, dir_fd=self._file)
        except FileNotFoundError:
            if not make:
                raise
            try:
                return self.make(name)
            except FileExistsError:  # another made it just now, or a link leads nowhere
                return self._enter(name, follow=follow, leave=leave, make=False)
        except OSError as error:
            if error.errno not in (errno.ENOTDIR, errno.ELOOP) or not self.is_link(name):
                raise
            if not (follow or leave):
                raise StoreError(
                    f"{path}: is a symbolic link, which is not followed here"
                ) from error
            file = os.open(name, _REACH, dir_fd=self._file)
            found = type(self)(file, path, self._top)
            if not (leave or found._is_inside()):
                found.close()
                raise StoreError(
                    f"{path}: is a symbolic link that leads out of {self._top.path}, where nothing"
                    " is changed; mount the directory there instead (mount --bind)"
                ) from error
            return found
        return type(self)(file, path, self._top)

    def _is_inside(self) -> bool:
        top, place = os.stat(".", dir_fd=self._top._file), "."
        here = os.stat(place, dir_fd=self._file)
        while not os.path.samestat(here, top):
            place += "/.."
            above = os.stat(place, dir_fd=self._file)
            if os.path.samestat(above, here):
                return False
            here = above
        return True

    # What is in it

    def names(self) -> list[str]:
        """List all names."""
        file = os.open(".", _LIST, dir_fd=self._file)
        try:
            return os.listdir(file)
        finally:
            os.close(file)

    def stat(self, name: str) -> os.stat_result:
        """Look at *name*, without following it."""
        return os.stat(name, dir_fd=self._file, follow_symlinks=False)

    def has(self, name: str) -> bool:
        """Tell whether something is at *name*, be it a link that leads nowhere."""
        try:
            self.stat(name)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def check_writable(self) -> None:
        """
        Find out whether names in it can be changed.

        Raises:
            PermissionError: They cannot.
        """
        if not os.access(".", os.W_OK | os.X_OK, dir_fd=self._file, effective_ids=True):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), self.path)

    def device(self) -> int:
        """Tell which device it is on."""
        return os.stat(".", dir_fd=self._file).st_dev

    def is_link(self, name: str) -> bool:
        """Tell whether *name* is a symbolic link."""
        try:
            return stat.S_ISLNK(self.stat(name).st_mode)
        except OSError:
            return False

    def is_directory(self, name: str, *, follow: bool = False) -> bool:
        """Tell whether *name* is a directory; with *follow*, or a link to one."""
        try:
            status = os.stat(name, dir_fd=self._file, follow_symlinks=follow)
        except OSError as error:
            if error.errno not in ABSENT:
                raise
            return False
        return stat.S_ISDIR(status.st_mode)

    def open(self, name: str) -> int:
        """Open the file *name* for reading, without following it."""
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW
        return os.open(name, flags, dir_fd=self._file)

    def read_link(self, name: str) -> str:
        """Tell where the symbolic link *name* leads."""
        return os.readlink(name, dir_fd=self._file)

    # Changes

    def create(self, name: str) -> int:
        """Make the file *name*, which must not be there, and open it for writing."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        file = os.open(name, flags, 0o666, dir_fd=self._file)
        self._adopt(file, stat.S_IMODE(self._owner.st_mode) & 0o666)
        return file

    def append(self, name: str) -> int:
        """Open the file *name* to write at its end, without following it; make it if need be."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW
        for _ in range(_TRIES):  # others may make it, or rename it, just now
            with suppress(FileNotFoundError):
                return os.open(name, flags, dir_fd=self._file)
            with suppress(FileExistsError):
                os.close(self.create(name))
        return os.open(name, flags, dir_fd=self._file)

    def symlink(self, target: str, name: str) -> None:
        """Make the symbolic link *name*, which must not be there."""
        os.symlink(target, name, dir_fd=self._file)

    def link(self, name: str, folder: Directory, other: str) -> None:
        """Give the file *name* a second name, *other* in *folder*, which must not be there."""
        os.link(name, other, src_dir_fd=self._file, dst_dir_fd=folder._file, follow_symlinks=False)

    def rename(self, name: str, folder: Directory, other: str) -> None:
        """Move the file *name* to *other* in *folder*, in the place of what is there."""
        os.rename(name, other, src_dir_fd=self._file, dst_dir_fd=folder._file)

    def touch(self, name: str) -> None:
        """Set the times of the file *name* to now."""
        os.utime(name, dir_fd=self._file, follow_symlinks=False)

    def date(self, when: float) -> None:
        """Set the time of the last change of this directory."""
        os.utime(".", (when, when), dir_fd=self._file)

    def unlink(self, name: str) -> bool:
        """Remove the file *name*; False if it was gone already."""
        try:
            os.unlink(name, dir_fd=self._file)
        except FileNotFoundError:
            return False
        return True

    def rmdir(self, name: str) -> None:
        """Remove the directory *name*, which must be empty."""
        os.rmdir(name, dir_fd=self._file)

    def sync(self) -> None:
        """Wait until the names in it are on the disk."""
        file = os.open(".", _LIST, dir_fd=self._file)
        try:
            with tolerated(*_NOT_SYNCED):
                os.fsync(file)
        finally:
            os.close(file)

    def _adopt(self, file: int, mode: int) -> None:
        """Give what we have made to the owner of the models directory, as far as we may."""
        owner, status = self._owner, os.fstat(file)
        if (status.st_uid, status.st_gid) != (owner.st_uid, owner.st_gid):
            try:
                os.fchown(file, owner.st_uid, owner.st_gid)
            except OSError:
                with suppress(OSError):  # only root may give away, but any may share with a group
                    os.fchown(file, -1, owner.st_gid)
            status = os.fstat(file)
        if stat.S_IMODE(status.st_mode) != mode:
            with suppress(OSError):  # some file systems have no modes
                os.fchmod(file, mode)


def if_there(
    open_it: Callable[_P, Directory], *args: _P.args, **kwargs: _P.kwargs
) -> Directory | None:
    """Open a directory by *open_it*; None if it is not there."""
    try:
        return open_it(*args, **kwargs)
    except OSError as error:
        if error.errno in ABSENT:
            return None
        raise


def remove_tree(folder: Directory, name: str, depth: int = 0) -> None:
    """
    Remove the directory *name* in *folder* and all in it, as far as that can be done.

    Links are removed, not followed. What is gone already is no error.

    Raises:
        OSError: Something could not be removed; the rest is gone.
    """
    try:
        here = folder.descend([name])
    except FileNotFoundError:
        return
    except (NotADirectoryError, StoreError):
        folder.unlink(name)
        return
    failure: OSError | None = None
    with here:
        for entry in here.names():
            try:
                if here.is_directory(entry):
                    if depth == _DEEPEST:
                        raise OSError(errno.ENAMETOOLONG, "is nested too deep", entry)
                    remove_tree(here, entry, depth + 1)
                else:
                    here.unlink(entry)
            except OSError as error:
                if not (error.errno == errno.EBUSY and is_kept_open(entry)):
                    failure = failure or error
    if failure is not None:
        raise failure
    # ENOTEMPTY: somebody is adding files; `tidy` comes again later.
    with tolerated(errno.ENOENT, errno.ENOTDIR, errno.ENOTEMPTY, errno.EEXIST):
        folder.rmdir(name)
