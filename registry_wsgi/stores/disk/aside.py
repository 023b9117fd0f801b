"""
What is set aside.

A blob is set aside by a rename into ``condemned``. Where ``blobs`` is on a mount of its own, this
is ``blobs/condemned``, as a rename cannot lead from one mount to another. (Ollama cleans ``blobs``
when it starts, but removes no directory that is not empty.)
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, suppress

from ...errors import StoreError
from ..base import Blob, Condemned
from ..layout import checked, entry_id, entry_time
from .directory import Directory, if_there
from .places import TRIES, Part, Places
from .system import (
    ABSENT,
    NO_LINKS,
    TICK,
    UNTOUCHABLE,
    Reported,
    blob_of,
    is_kept_open,
    last_change,
    listed,
    look_at,
    status_of,
    store_error,
)

__all__ = ["Aside"]

_log = logging.getLogger("registry_wsgi")

_CONDEMNED = "condemned"


class Aside(Part):
    """An `~registry_wsgi.stores.base.AsideStore` in the directory ``condemned``."""

    sets_aside = True

    def condemn(self, names: Iterable[str], when: float) -> Iterator[Condemned]:
        path = self.places.blobs
        with ExitStack() as stack:
            with Reported(path):
                self.places.check_layout()
                top = stack.enter_context(self.places.open())
                try:
                    blobs = stack.enter_context(self.places.shared(top, "blobs"))
                except FileNotFoundError:
                    return
            run = entry_id(when)
            moment = entry_time(run) or when
            target = stack.enter_context(closing(_Run(self.places, top, blobs, run)))
            for name in names:
                try:
                    taken = target.take(checked(name))
                except OSError as error:
                    failure = store_error(error, f"{path}/{name}")
                    raise failure from error
                else:
                    if taken:
                        yield Condemned(moment, run, name)

    def condemned(self) -> Iterator[Condemned]:
        runs = {
            (when, run, folder)
            for folder in self._folders()
            for when, run in self.places.entries(folder)
        }
        for when, run, folder in sorted(runs):
            try:
                names = sorted(listed(f"{folder}/{run}"))
            except OSError as error:
                if error.errno not in UNTOUCHABLE:
                    raise store_error(error, f"{folder}/{run}") from error
                _log.warning("%s", store_error(error, f"{folder}/{run}"))  # another user's
                continue
            for name in names:
                if not is_kept_open(name):
                    yield Condemned(when, run, name)

    def condemned_blob(self, blob: Condemned) -> Blob | None:
        return self._look(self._paths(blob.id), blob.name)

    def look_aside(self, blobs: Iterable[Condemned]) -> Iterator[tuple[Condemned, Blob]]:
        run, folders = None, []
        for blob in blobs:
            if blob.id != run:  # not for each of a million
                run, folders = blob.id, self._paths(blob.id)
            look = self._look(folders, blob.name)
            if look is not None:
                yield blob, look

    def pardon(self, blob: Condemned, *, replace: bool = False) -> bool:
        name = checked(blob.name)
        path = f"{self.places.condemned}/{checked(blob.id)}/{name}"
        with Reported(path), self.places.open() as top:
            folder = if_there(self._open, top, blob.id)
            if folder is None:
                return False
            with folder, self.places.shared(top, "blobs", make=True) as blobs:
                return _put_back(folder, blobs, name, replace=replace)

    def purge(self, blobs: Iterable[tuple[Condemned, float]]) -> Iterator[tuple[Condemned, bool]]:
        run = None
        with ExitStack() as stack:
            with Reported(self.places.root):
                top = stack.enter_context(self.places.open())
            opened = stack.enter_context(ExitStack())
            for blob, until in blobs:
                name = checked(blob.name)
                try:
                    if blob.id != run:  # not for each of a million
                        run = None
                        opened.close()
                        folder = opened.enter_context(self._open(top, blob.id))
                        run = blob.id
                    gone = self._purge(folder, name, until)
                except OSError as error:
                    if error.errno not in ABSENT:
                        failure = store_error(error, f"{self.places.condemned}/{blob.id}/{name}")
                        raise failure from error
                else:
                    if gone is not None:
                        yield blob, gone

    # The two times of the directory `condemned` record which changes of `blobs` were ours. Its
    # mtime is set to when somebody else last changed `blobs`. That moves its ctime, which nobody
    # can set, to now. Any later change of the directory moves both times, and the record is gone.

    def own_changes(self) -> tuple[float, float]:
        for folder in self._folders():
            with Reported(folder):
                status = status_of(folder)
            if status is not None and stat.S_ISDIR(status.st_mode):
                return status.st_mtime, status.st_ctime
        return 0.0, 0.0

    def note_own_changes(self, since: float, changed: float) -> None:
        for path in self._folders():
            if self._note(path, since, changed):
                return
        # On a full disk the directory could not be made. After what was removed there is room.
        self._note(self.places.condemned, since, changed, make=True)

    def _note(self, path: str, since: float, changed: float, *, make: bool = False) -> bool:
        """Note our own changes by the times of the directory *path*; False if it cannot be had."""
        parts = os.path.relpath(path, self.places.root).split("/")
        with suppress(OSError, StoreError), self.places.open() as top:
            with self.places.shared(top, *parts, make=make) as folder:
                folder.date(since)
                if self.own_changes()[1] <= changed:
                    time.sleep(TICK)  # so that what follows has another time
                    folder.date(since)
                if last_change(self.places.blobs) != changed:
                    folder.date(time.time())  # somebody else was at work just now
            return True
        return False

    def _look(self, folders: list[str], name: str) -> Blob | None:
        for folder in folders:
            look = look_at(f"{folder}/{checked(name)}", self.places.blobs, dangling=True)
            if look is not None:
                return look
        return None

    def _purge(self, folder: Directory, name: str, until: float) -> bool | None:
        status = folder.stat(name)
        path = f"{folder.path}/{name}"
        look = blob_of(status, path, self.places.blobs, dangling=True)
        if look is None:  # no file: not ours
            return None
        if look.written > until:
            return False
        return True if folder.unlink(name) else None

    def _tidy_runs(self) -> None:
        """Remove the directories of runs in which nothing is left."""
        for path in self._folders():
            for _, run in self.places.entries(path):
                with suppress(OSError, StoreError), self.places.open() as top:
                    parts = os.path.relpath(path, self.places.root).split("/")
                    with self.places.shared(top, *parts) as folder:
                        folder.rmdir(run)  # refuses if it is not empty

    def _folders(self) -> list[str]:
        return [self.places.condemned, f"{self.places.blobs}/{_CONDEMNED}"]

    def _paths(self, run: str) -> list[str]:
        """Tell where the blobs of a run are: where blobs is on a mount, in one of two places."""
        found = []
        for folder in self._folders():
            path = f"{folder}/{checked(run)}"
            for part in (folder, path):
                self.places.refuse_link(part)
            found.append(path)
        return found

    def _open(self, top: Directory, run: str) -> Directory:
        """
        Open the directory of a run.

        Raises:
            OSError: There is none.
        """
        try:
            return self.places.ours(top, _CONDEMNED, run)
        except (FileNotFoundError, NotADirectoryError):
            with self.places.shared(top, "blobs") as blobs:
                return self.places.ours(blobs, _CONDEMNED, run)


class _Run:
    """Where one run sets blobs aside: a directory that is made when the first one comes."""

    def __init__(self, places: Places, top: Directory, blobs: Directory, run: str) -> None:
        self._places = places
        self._top = top
        self._blobs = blobs
        self._run = run
        self._folder: Directory | None = None
        self._inner = False  # whether blobs is on a mount of its own

    def take(self, name: str) -> bool:
        """
        Move the blob *name* here; False if it is gone.

        Raises:
            OSError: It cannot be moved.
            StoreError: Nothing can be moved.
        """
        for _ in range(TRIES):
            try:
                if self._folder is None and not self._blobs.has(name):
                    return False
                self._blobs.rename(name, self._folder or self._make(), name)
            except FileNotFoundError:
                if not self._blobs.has(name):
                    return False
                self.close()  # the directory is gone: another has just tidied it
            except OSError as error:
                if error.errno != errno.EXDEV or self._inner:
                    raise
                self.close()
                self._inner = True
            else:
                return True
        return False

    def _make(self) -> Directory:
        home = self._blobs if self._inner else self._top
        try:
            self._folder = self._places.ours(home, _CONDEMNED, self._run, make=True)
        except FileNotFoundError:  # another has just tidied it
            raise
        except OSError as error:
            raise store_error(error, f"{home.path}/{_CONDEMNED}") from error
        return self._folder

    def close(self) -> None:
        """Close the directory, and remove it if nothing is in it."""
        if self._folder is None:
            return
        self._folder.close()
        self._folder = None
        home = self._blobs if self._inner else self._top
        with suppress(OSError, StoreError), self._places.ours(home, _CONDEMNED) as folder:
            folder.rmdir(self._run)


def _put_back(folder: Directory, blobs: Directory, name: str, *, replace: bool) -> bool:
    # The file is touched first, so that it is young as soon as it is back. One of another owner
    # cannot be touched; it goes back all the same.
    with suppress(OSError):
        folder.touch(name)
    if replace:
        return _move(folder, blobs, name)
    try:
        folder.link(name, blobs, name)
    except FileNotFoundError:
        return False
    except FileExistsError:
        # A run that was killed here has left the same file in both places.
        if not _same_file(folder, blobs, name):
            return False
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        # A rename replaces whatever is there, so look first.
        return not blobs.has(name) and _move(folder, blobs, name)
    folder.unlink(name)
    return True


def _move(folder: Directory, blobs: Directory, name: str) -> bool:
    if _same_file(folder, blobs, name):  # then a rename does nothing
        folder.unlink(name)
        return True
    try:
        folder.rename(name, blobs, name)
    except FileNotFoundError:
        return False
    return True


def _same_file(folder: Directory, other: Directory, name: str) -> bool:
    try:
        one, two = folder.stat(name), other.stat(name)
    except FileNotFoundError:
        return False
    return os.path.samestat(one, two) and not stat.S_ISDIR(one.st_mode)
