"""
A store in a directory, laid out as Ollama lays out its models.

::

    <root>/
        blobs/sha256-<hex>                                   content, and unfinished downloads
        manifests/<host>/<namespace>/<model>/<tag>           small JSON documents
        trash/<when>-<random>/                               one deleted model, a store of its own:
            manifests/<host>/<namespace>/<model>/<tag>           its manifest, moved here
            blobs/sha256-<hex>                                   hard links to its blobs
        condemned/<when>-<random>/                           what one prune has set aside:
            sha256-<hex>                                         a blob that nothing needs
        protected/<pattern>                                  empty files: what is not to be deleted,
                                                             percent-encoded

Only ``trash/``, ``condemned/`` and ``protected/`` are ours. Nothing of ours lies under ``blobs/``
(Ollama sweeps that at each start) or four levels deep under ``manifests/`` (Ollama would list it).

Every change is one ``rename``, ``link`` or ``unlink``, so a process may be killed between any two
of them. Hard links hold the content of a deleted model even when another program cleans ``blobs/``;
where the file system or its rights do not allow them, a delete does without, and the deleted model
can be restored for as long as its blobs stay in ``blobs/``.

No file outside the root is changed: keys and blob names are checked before they become paths, and a
directory that a symbolic link puts elsewhere is read, so that the blobs it names are kept, but
nothing is moved, made or removed in it.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Callable, Container, Hashable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO
from urllib.parse import quote as percent_encode
from urllib.parse import unquote as percent_decode

from ...errors import (
    InvalidManifestError,
    ModelExistsError,
    NoRoomError,
    OutOfReachError,
    StoreError,
    quote,
)
from ...names import Name
from ..base import Blob, Condemned, Deleted, Folder, Manifest, Read
from ..layout import MANIFEST_SIZE, checked, checked_key, entry_id, entry_time, stamp_after, tried
from .walk import folders, is_fresh, walk

__all__ = ["DiskStore"]

_log = logging.getLogger("registry_wsgi")

# What the system says when hard links are not to be had: other file system, none at all, a file of
# another owner (fs.protected_hardlinks), too many links to one file.
_NO_LINKS = {errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}

# What it says when nothing can be made or moved there.
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EXDEV}

# What it says when there is nothing at a path. A part of a legal name may be longer than the file
# system allows: then there is no such file either. A link that leads to itself leads nowhere.
_ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP}

# A directory can be tidied away by another process just before it is used: it is made again, but
# not for ever.
_TRIES = 10


class DiskStore:
    """
    A `~registry_wsgi.stores.base.Store` in a directory of the local file system.

    Args:
        root: The models directory: what ``OLLAMA_MODELS`` names, ``~/.ollama/models`` by default
            there. It must exist; ``blobs`` and ``manifests`` in it need not.

    Raises:
        StoreError: *root* is not a directory.
    """

    sets_aside = True

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = os.path.abspath(root)
        self._blobs = os.path.join(self.root, "blobs")
        self._manifests = os.path.join(self.root, "manifests")
        self._trash = os.path.join(self.root, "trash")
        self._condemned = os.path.join(self.root, "condemned")
        self._protected = os.path.join(self.root, "protected")
        if not os.path.isdir(self.root):
            raise StoreError(f"{self.root}: no such directory")

    def __repr__(self) -> str:
        return f"DiskStore({self.root!r})"

    # Manifests

    def find(self, name: Name) -> str | None:
        with _Reported(self._manifests):
            if _is_manifest(os.path.join(self._manifests, *name)):
                return name.key
            return _search(self._manifests, list(name))

    def read(self, key: str) -> Manifest | None:
        return _read_in_place(self._manifest(key))

    def read_all(self) -> Iterator[tuple[str, Read]]:
        for key, error in walk(self._manifests):
            # What a directory lists leads nowhere else, so that the keys need no check.
            yield key, error or tried(_read_in_place, f"{self._manifests}/{key}")

    def versions(self) -> Iterator[tuple[str, Hashable | None]]:
        for key, error in walk(self._manifests):
            if error is not None:
                raise error
            path = f"{self._manifests}/{key}"
            with _Reported(path):
                status = _stat(path)
            yield key, None if status is None else _version(status)

    def folders(self) -> Iterator[Folder]:
        return folders(self._manifests)

    # Blobs

    def blobs(self) -> Iterator[str]:
        with _Reported(self._blobs):
            self._check_layout()
            try:
                entries = os.scandir(self._blobs)
            except (FileNotFoundError, NotADirectoryError):
                return
            with entries:
                yield from [
                    entry.name for entry in entries if not entry.is_dir(follow_symlinks=False)
                ]

    def blobs_changed(self) -> float:
        with _Reported(self._blobs):
            status = _stat(self._blobs)
        return 0.0 if status is None else max(status.st_mtime, status.st_ctime)

    def blob(self, name: str) -> Blob | None:
        path = self._blob(name)
        return _blob(path) or _blob(self._present(path))

    def look(self, names: Iterable[str]) -> Iterator[tuple[str, Blob]]:
        return ((name, blob) for name in names if (blob := self.blob(name)))

    def open_blob(self, name: str) -> BinaryIO | None:
        path = self._present(self._blob(name))
        with _Reported(path):
            opened = _open(path)
            return None if opened is None else os.fdopen(opened[0], "rb", buffering=0)

    def remove_blob(self, name: str) -> bool:
        path = self._blob(name)
        self._check_inside(path)
        with _Reported(path):
            return _unlink(path)

    # What is set aside

    def condemn(self, names: Iterable[str], when: float) -> Iterator[Condemned]:
        with _Reported(self._blobs):
            self._check_layout()
        self._check_inside(self._blob("_"))
        run = entry_id(when)
        moment = entry_time(run) or when
        path = self._run(run)
        try:
            for name in names:
                source, target = self._blob(name), f"{path}/{name}"
                try:
                    os.rename(source, target)
                except FileNotFoundError:
                    # Either the blob is gone, or the directory is not there (yet).
                    with _Reported(source):
                        try:
                            os.makedirs(path, exist_ok=True)
                            os.rename(source, target)
                        except (FileNotFoundError, FileExistsError):
                            continue  # or another has just tidied it: the next run sets it aside
                except OSError as error:
                    raise _store_error(error, source) from error
                yield Condemned(moment, run, name)
        finally:
            with suppress(OSError):
                os.rmdir(path)

    def condemned(self) -> Iterator[Condemned]:
        for when, run in sorted(_entries(self._condemned, self.root)):
            with _Reported(run):
                names = _listdir(self._run(run))
            for name in sorted(names):
                yield Condemned(when, run, name)

    def condemned_blob(self, blob: Condemned) -> Blob | None:
        return _blob(self._aside(blob), links=True)

    def look_aside(self, blobs: Iterable[Condemned]) -> Iterator[tuple[Condemned, Blob]]:
        return ((blob, look) for blob in blobs if (look := self.condemned_blob(blob)))

    def pardon(self, blob: Condemned) -> bool:
        source, target = self._aside(blob), self._blob(blob.name)
        self._check_inside(target)
        with _Reported(source):
            try:
                # Touched first: as soon as it is back, it is young.
                os.utime(source, follow_symlinks=False)
                os.makedirs(self._blobs, exist_ok=True)
                os.link(source, target, follow_symlinks=False)
            except FileNotFoundError:
                return False
            except FileExistsError:
                # A run that was killed here has left the same file in both places.
                if not _same_file(source, target):
                    return False
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                # A rename takes the place of whatever is there, so it has to be looked for first.
                if os.path.lexists(target):
                    return False
                try:
                    os.rename(source, target)
                except FileNotFoundError:
                    return False
                return True
            _unlink(source)
            return True

    def purge(self, blobs: Iterable[tuple[Condemned, float]]) -> Iterator[tuple[Condemned, bool]]:
        run = None
        for blob, until in blobs:
            if blob.id != run:  # not for each of a million
                run, folder = blob.id, self._run(blob.id)
            path = f"{folder}/{checked(blob.name)}"
            look = _blob(path, links=True)
            if look is None:
                continue
            if look.written > until:
                yield blob, False
                continue
            try:
                os.unlink(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise _store_error(error, path) from error
            yield blob, True

    # Trash

    def discard(self, key: str, blobs: Iterable[str], when: float) -> Deleted | None:
        source = self._manifest(key)
        self._check_inside(source)
        with _Reported(source):
            if not _is_manifest(source):
                return None
        sources = [self._present(self._blob(name)) for name in blobs]
        for _ in range(_TRIES):
            run = entry_id(when)
            entry = self._entry(run)
            try:
                target = os.path.join(entry, "manifests", key)
                os.makedirs(os.path.dirname(target))
                if sources:
                    _link_blobs(sources, os.path.join(entry, "blobs"))
                os.rename(source, target)
            except OSError as error:
                with suppress(OSError):
                    _remove_tree(entry)
                if not isinstance(error, FileNotFoundError):
                    raise _store_error(error, source) from error
                if not os.path.lexists(source):
                    return None
            else:
                self._remove_empty(os.path.dirname(source))
                return Deleted(entry_time(run) or when, run, key)
        raise StoreError(f"{entry}: is removed again and again")

    def deleted(self, before: float | None = None) -> list[Deleted]:
        entries = []
        for when, entry in _entries(self._trash, self.root, before):
            keys = _keys(os.path.join(self._entry(entry), "manifests"))
            entries += [Deleted(when, entry, key) for key in keys]
        return sorted(entries)

    def read_deleted(self, entry: Deleted) -> Manifest | None:
        path = self._deleted_manifest(entry)
        with _Reported(path), _tolerated(errno.EINVAL, *_ABSENT):
            # A symbolic link leads on from where it was, and will be.
            place = os.path.dirname(self._manifest(entry.key))
            path = os.path.normpath(os.path.join(place, os.readlink(path)))
        return _read(path)

    def read_all_deleted(self, known: Container[Deleted] = ()) -> Iterator[tuple[Deleted, Read]]:
        entries = (entry for entry in self.deleted() if entry not in known)
        return ((entry, tried(self.read_deleted, entry)) for entry in entries)

    def blob_in_trash(self, entry: Deleted, name: str) -> Blob | None:
        path = self._held(entry, name)
        return _blob(path) or _blob(self._present(path))

    def recover_blob(self, entry: Deleted, name: str) -> bool:
        source = self._present(self._held(entry, name))
        target = self._blob(os.path.basename(source))
        self._check_inside(target)
        # By way of a second link and a rename, as that also takes the place of a blob that is too
        # short. (Renaming a link over another to the same file does nothing.)
        spare = f"{source}.{os.urandom(4).hex()}"
        with _Reported(target):
            for _ in range(_TRIES):
                try:
                    os.makedirs(self._blobs, exist_ok=True)
                    os.link(source, spare, follow_symlinks=False)
                    os.rename(spare, target)
                except FileNotFoundError:
                    if not os.path.lexists(source):
                        return False
                else:
                    return True
                finally:
                    _unlink(spare)
        raise StoreError(f"{target}: its place is removed again and again")

    def recover(self, entry: Deleted) -> bool:
        source, target = self._deleted_manifest(entry), self._manifest(entry.key)
        self._check_inside(target)
        with _Reported(target):
            for _ in range(_TRIES):
                try:
                    os.makedirs(os.path.dirname(target), exist_ok=True)
                    _place(source, target)
                except FileNotFoundError:
                    if not os.path.lexists(source):
                        self._remove_empty(os.path.dirname(target))
                        return False
                except FileExistsError as error:
                    # A restore that was killed half-way has left the same file in both places.
                    if _same_file(source, target):
                        break
                    if _is_manifest(target):
                        raise ModelExistsError(Name.from_key(entry.key)) from error
                else:
                    break
            else:
                raise StoreError(f"{target}: its place is taken, or is removed again and again")
        self.forget(entry)
        return True

    def forget(self, entry: Deleted) -> bool:
        path = self._entry(entry.id)
        with _Reported(path):
            # The manifest goes first: from then on nobody restores from this entry.
            found = _unlink(self._deleted_manifest(entry))
            _remove_tree(path)
        return found

    # What is protected

    def protected(self) -> Iterator[str]:
        _without_links(os.path.join(self._protected, "_"), self.root)
        with _Reported(self._protected):
            try:
                names = os.listdir(self._protected)
            except FileNotFoundError:
                return iter(())
        return map(percent_decode, names)

    def protect(self, pattern: str) -> None:
        path = self._protection(pattern)
        with _Reported(path):
            os.makedirs(self._protected, exist_ok=True)
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666))

    def unprotect(self, pattern: str) -> bool:
        path = self._protection(pattern)
        with _Reported(path):
            return _unlink(path)

    # What others do, and have left

    def claim(self) -> Callable[[], None] | None:
        import fcntl  # noqa: PLC0415 - not everywhere, and needed for nothing else

        with _Reported(self.root):
            file = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(file)
                return None
            except OSError as error:  # some network file systems have no locks for directories
                _log.debug("%s: cannot be locked: %s", self.root, error.strerror)

        def release() -> None:
            # Closing is not enough: a process that was forked meanwhile has the file, too.
            with suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_UN)
            os.close(file)

        return release

    def tidy(self, before: float) -> None:
        for _, run in _entries(self._condemned, self.root):
            with suppress(OSError):  # it is not empty, or gone
                os.rmdir(self._run(run))
        for _, entry in _entries(self._trash, self.root, before):
            path = self._entry(entry)
            if next(_keys(os.path.join(path, "manifests")), None) is None:
                with _Reported(path):
                    _remove_tree(path)

    # Paths

    def _manifest(self, key: str) -> str:
        return f"{self._manifests}/{checked_key(key)}"

    def _blob(self, name: str) -> str:
        return f"{self._blobs}/{checked(name)}"

    @staticmethod
    def _present(path: str) -> str:
        """Take *path*, or that with upper-case digits if only that is there."""
        # Ollama names a file as the manifest writes the digest, in any case.
        if not os.path.lexists(path):
            folder, name = os.path.split(path)
            prefix, dash, digits = name.partition("-")
            other = os.path.join(folder, prefix + dash + digits.upper())
            if os.path.lexists(other):
                return other
        return path

    def _entry(self, entry: str) -> str:
        # The trash is ours, and we make no symbolic links there.
        return _without_links(f"{self._trash}/{checked(entry)}", self.root)

    def _deleted_manifest(self, entry: Deleted) -> str:
        path = f"{self._trash}/{checked(entry.id)}/manifests/{checked_key(entry.key)}"
        return _without_links(path, self.root)

    def _held(self, entry: Deleted, name: str) -> str:
        path = f"{self._trash}/{checked(entry.id)}/blobs/{checked(name)}"
        return _without_links(path, self.root)

    def _run(self, run: str) -> str:
        return _without_links(f"{self._condemned}/{checked(run)}/_", self.root)[:-2]

    def _aside(self, blob: Condemned) -> str:
        path = f"{self._condemned}/{checked(blob.id)}/{checked(blob.name)}"
        return _without_links(path, self.root)

    def _protection(self, pattern: str) -> str:
        name = checked(percent_encode(pattern, safe=""))
        return _without_links(os.path.join(self._protected, name), self.root)

    def _check_layout(self) -> None:
        """Refuse to tell which blobs may go where not all that need them are known."""
        if _listdir(os.path.join(self.root, "manifests-v2")):
            raise StoreError(
                f"{self.root}: has models under manifests-v2, which a newer Ollama writes and which"
                " are not understood here: no blob is removed"
            )
        if not os.path.isdir(self._manifests):
            raise StoreError(
                f"{self._manifests}: no such directory, so it is not known which blobs are needed"
            )

    def _check_inside(self, path: str) -> None:
        """Refuse to change anything at *path* if a symbolic link puts it outside of the root."""
        for part in _directories(path, self.root):
            if os.path.islink(part) and not _inside(part, self.root):
                raise StoreError(f"{part}: is a symbolic link that leads out of {self.root}")

    def _remove_empty(self, path: str) -> None:
        """Remove the directories that a delete has left empty, from *path* up."""
        # rmdir refuses, as one step, when a pull has put something in; whatever else it says, the
        # delete is done and an empty directory does no harm.
        with suppress(OSError):
            while len(path) > len(self._manifests):
                os.rmdir(path)
                path = os.path.dirname(path)


class _Reported:
    """Raises what the system says as an error of ours. A class, as there are many of them."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, OSError):
            raise _store_error(error, self._path) from error


@contextmanager
def _tolerated(*numbers: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in numbers:
            raise


def _store_error(error: OSError, path: str) -> StoreError:
    kind = NoRoomError if error.errno in _NO_ROOM else StoreError
    return kind(f"{error.filename or path}: {error.strerror or error}")


def _directories(path: str, root: str) -> Iterator[str]:
    """The directories on the way from *path* up to *root*, without either."""
    end = path.rfind("/")
    while end > len(root):
        yield path[:end]
        end = path.rfind("/", 0, end)


def _entries(path: str, root: str, before: float | None = None) -> Iterator[tuple[float, str]]:
    """List the entries of the trash, or of what is set aside, with their moments."""
    _without_links(f"{path}/_", root)
    # The stamps sort by time, so that of a full trash little has to be read.
    last = stamp_after(before)
    with _Reported(path):
        for entry in _listdir(path):
            if entry > last:
                continue
            when = entry_time(entry)
            if when is None or (before is not None and when > before):
                continue
            if not os.path.islink(f"{path}/{entry}"):  # such a one is not ours
                yield when, entry


def _without_links(path: str, root: str) -> str:
    """Check that no directory on the way from *root* to *path* is a symbolic link."""
    for part in _directories(path, root):
        if os.path.islink(part):
            raise StoreError(f"{part}: is a symbolic link, which is not followed here")
    return path


def _inside(path: str, root: str) -> bool:
    root = os.path.realpath(root)
    return os.path.commonpath([root, os.path.realpath(path)]) == root


def _lstat(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise


def _is_manifest(path: str) -> bool:
    status = _lstat(path)
    if status is not None and stat.S_ISLNK(status.st_mode):
        # Also one that leads nowhere: it can be deleted.
        status = _stat(path) or status
    return status is not None and not stat.S_ISDIR(status.st_mode)


def _listdir(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError as error:
        if error.errno in _ABSENT:
            return []
        raise


def _search(path: str, parts: list[str]) -> str | None:
    """Find the first path below *path* that equals *parts* but for the case of ASCII letters."""
    wanted, rest = parts[0].lower(), parts[1:]
    for entry in sorted(_listdir(path)):
        if entry.isascii() and entry.lower() == wanted:
            below = os.path.join(path, entry)
            if not rest:
                if _is_manifest(below):
                    return entry
            elif (found := _search(below, rest)) is not None:
                return f"{entry}/{found}"
    return None


def _keys(root: str) -> Iterator[str]:
    """List the keys of the manifests in an entry of the trash, and warn of what else is there."""
    if os.path.islink(root):
        return
    for host in _names(root, folders=True):
        for namespace in _names(f"{root}/{host}", folders=True):
            place = f"{host}/{namespace}"
            for model in _names(f"{root}/{place}", folders=True):
                for tag in _names(f"{root}/{place}/{model}", folders=False):
                    yield f"{place}/{model}/{tag}"


def _names(path: str, *, folders: bool) -> list[str]:
    """Name the directories in *path*, or all but these; all at once, as it may change meanwhile."""
    names = []
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False) == folders:
                    names.append(entry.name)
                else:
                    _log.warning("%s: not a manifest, skipped", quote(entry.path))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise _store_error(error, path) from error
    return names


def _open(path: str) -> tuple[int, os.stat_result] | None:
    try:
        # Not blocking, as opening a named pipe would wait for a writer.
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in _ABSENT or error.errno == errno.ENXIO:  # a socket
            return None
        raise
    try:
        status = os.fstat(file)
    except OSError:
        os.close(file)
        raise
    if stat.S_ISREG(status.st_mode):
        return file, status
    os.close(file)
    return None


def _read(path: str) -> Manifest | None:
    try:
        opened = _open(path)
        if opened is None:
            return None
        file, status = opened
        try:
            size = status.st_size
            if size > MANIFEST_SIZE:
                raise InvalidManifestError(f"{path}: not a manifest: {size} bytes")
            # One byte more than there should be, to see if it grows while we read: then what we
            # have is not whole, and it will not be taken for a manifest.
            data = os.read(file, size + 1)
            while len(data) != size and (chunk := os.read(file, size + 1 - len(data))):
                data += chunk
        finally:
            os.close(file)
    except OSError as error:
        raise _store_error(error, path) from error
    modified = max(status.st_mtime, status.st_ctime)
    return Manifest(data, modified, _version(status), status.st_mtime)


def _read_in_place(path: str) -> Manifest | None:
    found = _read(path)
    if found is None and os.path.islink(path) and not os.path.exists(path):
        raise OutOfReachError(f"{path}: is a link that leads nowhere")
    return found


def _version(status: os.stat_result) -> Hashable | None:
    if is_fresh(status):
        return None
    # With the ctime, as some programs copy a file over another and set its mtime back.
    times = status.st_mtime_ns, status.st_ctime_ns
    return status.st_dev, status.st_ino, *times, status.st_size


def _blob(path: str, *, links: bool = False) -> Blob | None:
    """Look at a file; with *links*, also at a symbolic link that leads nowhere (from there)."""
    try:
        status = os.lstat(path)
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise _store_error(error, path) from error
    if stat.S_ISLNK(status.st_mode):
        return _linked_blob(path, status, links=links)
    if not stat.S_ISREG(status.st_mode):
        return None
    written = status.st_mtime
    content = status.st_dev, status.st_ino
    return Blob(status.st_size, max(written, status.st_ctime), written, content, status.st_nlink)


def _linked_blob(path: str, place: os.stat_result, *, links: bool) -> Blob | None:
    with _Reported(path):
        status = _stat(path)
    if status is None and links:
        times = place.st_mtime, place.st_ctime
        return Blob(0, max(times), place.st_mtime, (place.st_dev, place.st_ino), links=2)
    if status is None or not stat.S_ISREG(status.st_mode):
        return None
    return Blob(
        size=status.st_size,
        changed=max(status.st_mtime, status.st_ctime, place.st_ctime),
        written=max(status.st_mtime, place.st_mtime),
        content=(status.st_dev, status.st_ino),
        # A symbolic link takes no space itself, and its target stays when it goes.
        links=status.st_nlink + 1,
    )


def _unlink(path: str) -> bool:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    return True


def _link_blobs(sources: list[str], target: str) -> None:
    os.mkdir(target)
    for source in sources:
        place = os.path.join(target, os.path.basename(source))
        try:
            os.link(source, place, follow_symlinks=False)
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            _log.debug("%s: held without a hard link: %s", source, error.strerror)


def _place(source: str, target: str) -> None:
    """Give the file *source* the second name *target*, never taking that of another."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        manifest = _read(source)
        if manifest is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), source) from error
        # Without links there is no way to make a file appear whole and never over another. Killed
        # here, this leaves an empty manifest, which stops a sweep, and the trash still has ours.
        file = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            with os.fdopen(file, "wb") as stream:
                stream.write(manifest.data)
        except OSError:
            os.unlink(target)
            raise


def _same_file(one: str, other: str) -> bool:
    first, second = _lstat(one), _lstat(other)
    return first is not None and second is not None and os.path.samestat(first, second)


def _remove_tree(path: str) -> None:
    """Remove the directory *path* and all in it, without following links; all of it may be gone."""
    if os.path.islink(path):
        _unlink(path)
        return
    # Gone, or no directory: nothing of ours. Not empty: somebody is at it, and `tidy` comes again.
    with _tolerated(errno.ENOENT, errno.ENOTDIR, errno.ENOTEMPTY):
        for entry in list(os.scandir(path)):
            if entry.is_dir(follow_symlinks=False):
                _remove_tree(entry.path)
            else:
                _unlink(entry.path)
        os.rmdir(path)
