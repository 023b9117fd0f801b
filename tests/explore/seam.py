"""The seam at `os`: each call on the store is a step of an actor, and times are virtual."""

from __future__ import annotations

import errno
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol, Self

#: The functions of `os` as they are without the seam.
REAL: dict[str, Callable[..., Any]] = {
    name: getattr(os, name)
    for name in (
        *("stat", "lstat", "fstat", "access", "readlink", "open", "close", "read", "write"),
        *("listdir", "scandir", "mkdir", "rmdir", "unlink", "rename", "link", "utime"),
        *("urandom", "fdopen"),
    )
}
#: The steps that change something.
CHANGES = {"create", "write", "mkdir", "rmdir", "unlink", "rename", "link", "utime"}
#: When the actors begin, in nanoseconds since the epoch. The times of files look like those of a
#: file system whose clock is fine.
START = 2_000_000_000_001_234_567

_BILLION = 1_000_000_000
_DEVICE = os.makedev(8, 1)


class Status(NamedTuple):
    """What `os.stat` gives here. A directory that is looked at in another has no times."""

    st_mode: int
    st_ino: Any
    st_dev: int
    st_nlink: int
    st_size: int
    st_mtime_ns: int
    st_ctime_ns: int
    st_uid: int = 0
    st_gid: int = 0

    @property
    def st_mtime(self) -> float:
        return self.st_mtime_ns / _BILLION

    @property
    def st_ctime(self) -> float:
        return self.st_ctime_ns / _BILLION

    @property
    def st_atime_ns(self) -> int:
        return self.st_mtime_ns


class Turns(Protocol):
    """Who is told of the steps. While the scene is made, and in the end, that is nobody."""

    def step(self, name: str, *paths: str) -> None:
        """Come to a step; this may be the end of the turn."""

    def saw(self, what: object) -> None:
        """Note what a step has told the actor."""

    def did(self, name: str, *paths: str) -> None:
        """Note that a step has changed something."""

    def new_name(self) -> str:
        """Name a file that this step makes: the same in all schedules in which nothing differs."""

    def random(self, size: int) -> bytes:
        """Give bytes that no other call of any actor gets."""

    def sleep(self, seconds: float) -> bool:
        """Sleep; False if it is no actor that wants to."""


class Storage(Protocol):
    """Where actors meet."""

    now: int
    root: str

    def cast(self, mould: list[tuple[Any, ...]]) -> None:
        """Have nothing but what *mould* has."""


class Disk:
    """
    A directory whose calls are steps.

    Attributes:
        now: The time, in nanoseconds.
        refuse: Tells with which error a step fails, if it does: ``refuse(name, *paths)``.
        mount: The path of what is on another file system.
        in_parts: Whether others may act in the midst of a listing.
        folds: Whether all names are kept in lower case, and found in any.
        outside: What was changed elsewhere.
    """

    def __init__(self, root: str, turns: Turns) -> None:
        self.root = root
        self.turns = turns
        self.now = START
        self.refuse: Callable[..., int | None] | None = None
        self.mount: str | None = None
        self.in_parts = self.folds = False
        self.outside: list[str] = []
        self.files: dict[int, str] = {}  # the paths of what is open
        self.times: dict[int, list[Any]] = {}  # by inode: what it is called, mtime, ctime
        REAL["mkdir"](root)
        self._made(root, "root")

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Come between `os` and all who call it, and give them the virtual time."""
        clock = time.time, time.time_ns, time.sleep
        hook, trace = sys.unraisablehook, sys.gettrace()
        looks = ("stat", "lstat", "fstat", "access", "readlink", "read")
        for name in (*looks, *CHANGES - {"create"}):
            setattr(os, name, self._call(name, REAL[name]))
        for name, function in (
            ("open", self._open),
            ("close", self._close),
            ("fdopen", self._fdopen),
            ("urandom", self.turns.random),
            ("listdir", lambda path=".": [e.name for e in self._list("listdir", path)]),
            ("scandir", lambda path=".": _Entries(self._list("scandir", path))),
        ):
            setattr(os, name, function)
        time.time, time.time_ns, time.sleep = self.clock, self._clock_ns, self._sleep(clock[2])  # type: ignore[assignment]
        # What is closed after its actor was killed raises where nobody catches.
        sys.unraisablehook = lambda _: None
        sys.settrace(None)  # coverage takes the calls of one greenlet for those of another
        try:
            yield
        finally:
            sys.settrace(trace)
            sys.unraisablehook = hook
            time.time, time.time_ns, time.sleep = clock
            for name, real in REAL.items():
                setattr(os, name, real)

    def clock(self) -> float:
        """Tell the time in seconds."""
        return self._clock_ns() / _BILLION

    def _clock_ns(self) -> int:
        self.turns.saw(self.now)
        return self.now

    def _sleep(self, real: Callable[[float], None]) -> Callable[[float], None]:
        return lambda seconds: None if self.turns.sleep(seconds) else real(seconds)

    # Calls

    def _path(self, given: Any, folder: int | None) -> str | None:
        """Tell which file of the store is meant; None: none."""
        if isinstance(given, int):
            return self.files.get(given)
        if not isinstance(given, str):
            return None
        if folder is not None:
            above = self.files.get(folder)
            return above if above is None or given == "." else f"{above}/{given}"
        return given.removesuffix("/.") if given.startswith(self.root) else None

    def _fold(self, given: Any) -> Any:
        if not (self.folds and isinstance(given, str)):
            return given
        inside = given.startswith(self.root)
        return self.root + given[len(self.root) :].lower() if inside else given.lower()

    def _call(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        two = name in ("rename", "link")

        def call(*args: Any, **options: Any) -> Any:
            args = tuple(map(self._fold, args))
            one = self._path(args[0], options.get("src_dir_fd" if two else "dir_fd"))
            paths = [one, self._path(args[1], options.get("dst_dir_fd"))] if two else [one]
            if None in paths:
                if name in CHANGES and isinstance(args[0], str):
                    self.outside.append(f"{name} {args}")
                return real(*args, **options)
            return self._step(name, real, paths, args, options)

        return call

    def _step(self, name: str, real: Any, paths: Any, args: Any, options: Any) -> Any:
        changes = name in CHANGES
        # Times of a directory are looked at by its whole path alone.
        timed = name == "stat" and options.get("dir_fd") is None
        self.turns.step(name if changes or timed or name == "read" else "lstat", *paths)
        try:
            if changes:
                self._check(name, *paths)
            if name == "utime":
                return self._utime(paths[0], args, options)
            inode = REAL["lstat"](paths[0]).st_ino if name == "unlink" else None
            result = real(*args, **options)
        except OSError as error:
            self.turns.saw(error.errno)
            raise
        if changes:
            self._changed(name, paths, inode)
        elif name in ("read", "access", "readlink"):
            self.turns.saw(result)
        else:
            result = self._status(result, paths[0], timed=timed)
        return result

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.turns.saw(error.errno)
            raise

    def _check(self, name: str, *paths: str) -> None:
        code = self.refuse(name, *paths) if self.refuse else None
        if self.mount and len({path.startswith(f"{self.mount}/") for path in paths}) > 1:
            code = errno.EXDEV
        if code:
            raise OSError(code, os.strerror(code), *paths[:1])

    def _status(self, real: os.stat_result, path: str, *, timed: bool) -> Status:
        called, *times = self.times[real.st_ino]
        folder = stat.S_ISDIR(real.st_mode)
        size = (1, 0) if folder else (real.st_nlink, real.st_size)
        times = [0, 0] if folder and not timed else times
        device = _DEVICE + bool(self.mount and path.startswith(f"{self.mount}/"))
        found = Status(real.st_mode, called, device, *size, *times)
        self.turns.saw(found)
        return found

    def _utime(self, path: str, args: Any, options: Any) -> None:
        at = {key: options[key] for key in options if key not in ("ns", "times")}
        look = REAL["stat"](args[0], **at)
        given = options.get("ns") or (args[1:2] and [int(when * _BILLION) for when in args[1]])
        self.times[look.st_ino][1:] = given[1] if given else self.now, self.now
        self.turns.did("utime", path)

    def _changed(self, name: str, paths: list[str], inode: int | None) -> None:
        if name == "mkdir":
            self._made(paths[0], self.turns.new_name())
        elif name == "write":
            self.times[REAL["lstat"](paths[0]).st_ino][1:] = self.now, self.now
        elif name in ("rename", "link"):
            inode = REAL["lstat"](paths[1]).st_ino
        if inode is not None:
            self.times[inode][2] = self.now
        if name != "write":
            self._touch(paths if name == "rename" else paths[-1:])
        self.turns.did(name, *paths)

    def _touch(self, paths: list[str]) -> None:
        for path in paths:
            self.times[REAL["lstat"](os.path.dirname(path)).st_ino][1:] = self.now, self.now

    def _made(self, path: str, called: str) -> None:
        self.times[REAL["lstat"](path).st_ino] = [called, self.now, self.now]

    def _open(self, given: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        given = self._fold(given)
        path = self._path(given, dir_fd)
        if path is None:
            return int(REAL["open"](given, flags, mode, dir_fd=dir_fd))
        name = "create" if flags & os.O_CREAT else "open"
        self.turns.step(name, path)
        with self._told():
            new = name == "create" and not _is_there(path)
            self._check(name, path) if new else None
            file: int = REAL["open"](given, flags, mode, dir_fd=dir_fd)
        self.files[file] = path
        if new:
            self._made(path, self.turns.new_name())
            self._touch([path])
        if new or flags & os.O_TRUNC:
            self.times[REAL["fstat"](file).st_ino][1:] = self.now, self.now
            self.turns.did(name, path)
        self.turns.saw(self.times[REAL["fstat"](file).st_ino][0])
        return file

    def _close(self, file: int) -> None:
        self.files.pop(file, None)
        REAL["close"](file)

    def _fdopen(self, file: int, *args: Any, **options: Any) -> Any:
        return _Stream(file) if file in self.files else REAL["fdopen"](file, *args, **options)

    def _list(self, name: str, given: Any) -> list[os.DirEntry[str]]:
        given = self._fold(given)
        path = self._path(given, None)
        if path is None:
            with REAL["scandir"](given) as entries:
                return list(entries)
        self.turns.step(name, path)
        with self._told():
            found = self._entries(given)
        if self.in_parts and len(found) > 1:
            del found[(len(found) + 1) // 2 :]
            self.turns.step(name, path)
            found += [entry for entry in self._entries(given) if entry.name > found[-1].name]
        return found

    def _entries(self, given: Any) -> list[os.DirEntry[str]]:
        with REAL["scandir"](given) as entries:
            found = sorted(entries, key=_name)
        self.turns.saw(tuple(entry.name for entry in found))
        return found

    # The whole store

    def close_all(self) -> None:
        """Close what killed actors have left open."""
        for file in list(self.files):
            self._close(file)

    def snapshot(self) -> list[tuple[Any, ...]]:
        """All there is, each with its content and its times."""
        found: list[tuple[Any, ...]] = []
        first: dict[int, str] = {}
        for folder, _, files in _walk(self.root):
            for path in (folder, *(f"{folder}/{name}" for name in files)):
                inode = REAL["lstat"](path).st_ino
                kind: object = None
                if path != folder:
                    kind = first.get(inode) or _content(path)
                    first.setdefault(inode, path)
                found.append((path, kind, *self.times[inode]))
        return found

    def cast(self, mould: list[tuple[Any, ...]]) -> None:
        """Have nothing but what *mould* has, which `snapshot` gave."""
        self.close_all()
        _clear(self.root)
        self.times.clear()
        self.outside.clear()
        self.now = START
        for path, kind, *times in mould:
            if kind is None:
                REAL["mkdir"](path)
            elif isinstance(kind, str):
                REAL["link"](kind, path)
            else:
                file = REAL["open"](path, os.O_WRONLY | os.O_CREAT)
                REAL["write"](file, kind)
                REAL["close"](file)
            self.times[REAL["lstat"](path).st_ino] = times


class _Stream:
    """What `os.fdopen` gives."""

    def __init__(self, file: int) -> None:
        self._file = file

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._file)

    def fileno(self) -> int:
        return self._file

    def read(self, size: int = 1 << 20) -> bytes:
        return os.read(self._file, size)

    def write(self, data: bytes) -> int:
        return os.write(self._file, data)

    def flush(self) -> None:
        pass


class _Entries:
    """What `os.scandir` gives."""

    def __init__(self, entries: list[os.DirEntry[str]]) -> None:
        self._entries = iter(entries)

    def __iter__(self) -> Iterator[os.DirEntry[str]]:
        return self._entries

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass


def _name(entry: os.DirEntry[str]) -> str:
    return entry.name


def _is_there(path: str) -> bool:
    try:
        REAL["lstat"](path)
    except OSError:
        return False
    return True


def _content(path: str) -> bytes:
    file = REAL["open"](path, os.O_RDONLY)
    try:
        return bytes(REAL["read"](file, 1 << 20))
    finally:
        REAL["close"](file)


def _walk(folder: str) -> Iterator[tuple[str, list[str], list[str]]]:
    with REAL["scandir"](folder) as entries:
        found = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
    folders = [name for name, is_folder in found if is_folder]
    yield folder, folders, [name for name, is_folder in found if not is_folder]
    for name in folders:
        yield from _walk(f"{folder}/{name}")


def _clear(root: str) -> None:
    for folder, _, files in reversed(list(_walk(root))):
        for name in files:
            REAL["unlink"](f"{folder}/{name}")
        REAL["rmdir"](folder)
