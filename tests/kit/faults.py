"""Stores of known age, faults at any call of the system, and interleavings made exact."""

from __future__ import annotations

import dataclasses
import errno
import os
import shutil
import stat
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, cast

from kit.trees import HOST, Tree, blob, broken, digest, manifest
from kit.views import keys
from registry_wsgi import DiskStore, MemoryStore, ModelCache
from registry_wsgi.cache.collector import PruneReport
from registry_wsgi.cache.manifest import parse_manifest
from registry_wsgi.stores.base import Store

HOUR = 3_600
DAY = 24 * HOUR
OLD = 30 * DAY


class Clock:
    """
    The time that a cache goes by.

    It runs far ahead of the system's, so what a test makes is old until the test dates it. (The
    time of a file's last change of any kind cannot be set, the one of its last write can.)
    """

    def __init__(self, now: float | None = None) -> None:
        self.now: float = int(time.time()) + 1_000 * DAY if now is None else now

    def __call__(self) -> float:
        return self.now

    @contextmanager
    def ago(self, seconds: float) -> Iterator[None]:
        """Do something in the past."""
        self.now -= seconds
        try:
            yield
        finally:
            self.now += seconds


class Scene(ABC):
    """A store with a clock, filled with what is as old as a test wants it."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self.store = store
        self.clock = clock
        self.cache = ModelCache(store, clock=clock)

    @abstractmethod
    def put_blob(self, name: str, data: bytes, *, age: float = 0) -> None:
        """Put *data* in the place of the blob *name*."""

    @abstractmethod
    def put_manifest(self, key: str, data: bytes, *, age: float = 0) -> None:
        """Put *data* in the place of the manifest at *key*."""

    @abstractmethod
    def use(self, *, age: float) -> None:
        """Let a blob have come to the store, or gone, so long ago, and no later."""

    def blob(self, data: bytes, *, age: float = OLD) -> None:
        """Put a whole blob in place."""
        self.put_blob(blob(data), data, age=age)

    def partial(self, data: bytes, *, age: float = OLD) -> None:
        """Put the first half of a download in place."""
        self.put_blob(f"{blob(data)}-partial", data, age=age)

    def model(self, key: str, *layers: bytes, config: bytes = b"{}", age: float = OLD) -> None:
        """Put a model in place, and those of its blobs that are not there."""
        for data in (*layers, config):
            if self.store.blob(blob(data)) is None:
                self.blob(data, age=age)
        self.put_manifest(full(key), manifest(*layers, config=config), age=age)

    def deleted(self, key: str, *layers: bytes, ago: float, config: bytes = b"{}") -> None:
        """Put a model in place and delete it, *ago* seconds ago."""
        self.model(key, *layers, config=config)
        with self.clock.ago(ago):
            assert self.cache.unlink(name_of(full(key)))

    def kept(self) -> set[bytes]:
        """The content of all blobs."""
        return {self._content(name) for name in self.store.blobs()}

    def _content(self, name: str) -> bytes:
        file = self.store.open_blob(name)
        assert file is not None, name
        with file:
            return file.read()

    def aside(self) -> set[str]:
        """The names of what is set aside."""
        return {blob.name for blob in self.store.condemned()}

    def models(self) -> set[str]:
        """The keys of the models, shortened if they are in the library."""
        return {short(key) for key in keys(self.store)}

    def trash(self) -> set[str]:
        """The keys of the deleted models, shortened if they are in the library."""
        return {short(entry.key) for entry in self.store.deleted()}

    def broken(self) -> list[str]:
        """Each listed model that lacks a blob, or has one of other content."""
        found = []
        for key in keys(self.store):
            document = self.store.read(key)
            for name in parse_manifest(document.data) if document else ():
                file = self.store.open_blob(name)
                if file is None or blob(file.read()) != name:
                    found.append(f"{key}: {name}")
        return found

    def snapshot(self) -> object:
        """All there is, to tell whether anything was touched."""
        store = self.store
        blobs = {name: store.blob(name) for name in store.blobs()}
        aside = {blob: store.condemned_blob(blob) for blob in store.condemned()}
        deleted = {entry: store.read_deleted(entry) for entry in store.deleted()}
        return blobs, aside, deleted, {key: store.read(key) for key in keys(store)}

    def prune(self, **options: Any) -> PruneReport:
        """Prune, after a dry run that touches nothing and reports the same."""
        before = self.snapshot()
        plan = self.cache.prune(**options, dry_run=True)
        assert self.snapshot() == before
        assert plan.dry_run
        report = self.cache.prune(**options)
        assert report == dataclasses.replace(plan, dry_run=False)
        return report


class DiskScene(Scene):
    """A store on disk."""

    def __init__(self, root: Path, clock: Clock | None = None, mould: Mould | None = None) -> None:
        self.tree = Tree(root)
        if mould is not None:
            mould.cast(root)
        super().__init__(DiskStore(root), clock or Clock())

    def put_blob(self, name: str, data: bytes, *, age: float = 0) -> None:
        path = self.tree.blobs / name
        path.write_bytes(data)
        self.date(path, age)

    def put_manifest(self, key: str, data: bytes, *, age: float = 0) -> None:
        self.date(self.tree.write(key, data), age)

    def use(self, *, age: float) -> None:
        self.date(self.tree.blobs, age)

    def date(self, path: Path, age: float) -> None:
        """Make the last write of *path* that old."""
        when = self.clock() - age
        os.utime(path, (when, when), follow_symlinks=False)

    def broken(self) -> list[str]:
        return broken(self.tree.root)

    def snapshot(self) -> object:
        return state(self.tree.root)


class MemoryScene(Scene):
    """A store in memory."""

    store: MemoryStore

    def __init__(self, clock: Clock | None = None) -> None:
        clock = clock or Clock()
        super().__init__(MemoryStore(clock=clock), clock)

    def put_blob(self, name: str, data: bytes, *, age: float = 0) -> None:
        with self.clock.ago(age):
            self.store.put_blob(name, data)

    def put_manifest(self, key: str, data: bytes, *, age: float = 0) -> None:
        with self.clock.ago(age):
            self.store.put_manifest(key, data)

    def use(self, *, age: float) -> None:
        with self.clock.ago(age):
            self.store.put_blob("passing", b"")
            self.store.remove_blob("passing")


def full(key: str) -> str:
    """Complete a key of one part, which is of the library."""
    return key if "/" in key else f"{HOST}/library/{key}/latest"


def short(key: str) -> str:
    """Undo `full`."""
    return key.removeprefix(f"{HOST}/library/").removesuffix("/latest")


def name_of(key: str) -> str:
    """The name of the model at *key*."""
    head, _, tag = full(key).rpartition("/")
    return f"{head}:{tag}"


def layer(text: str, size: int) -> dict[str, object]:
    """A layer whose digest is written *text*."""
    return {"digest": text, "size": size}


def upper(data: bytes) -> str:
    """The digest of *data* in upper case."""
    return "sha256:" + digest(data).removeprefix("sha256:").upper()


def state(root: Path) -> dict[str, tuple[object, ...]]:
    """Everything at and below *root* with all that a touch of any kind would change."""
    found: dict[str, tuple[object, ...]] = {}
    for folder, names, files in os.walk(root):
        for name in (".", *names, *files):
            path = os.path.normpath(os.path.join(folder, name))
            status = os.lstat(path)
            regular = stat.S_ISREG(status.st_mode)
            content = Path(path).read_bytes() if regular and status.st_size < 1_000_000 else None
            found[path] = (
                *(status.st_ino, status.st_mode, status.st_nlink, status.st_size),
                *(status.st_mtime_ns, status.st_ctime_ns, content),
            )
    return found


class Mould:
    """Makes copies of a directory, with its times and with the hard links in it."""

    def __init__(self, root: Path) -> None:
        self._folders: list[str] = []
        self._files: list[tuple[str, bytes, int]] = []
        self._links: list[tuple[str, str]] = []
        first: dict[int, str] = {}
        for folder, _, files in os.walk(root):
            self._folders.append(os.path.relpath(folder, root))
            for name in files:
                path = Path(folder, name)
                status = path.stat()
                place = os.path.relpath(path, root)
                if status.st_ino in first:
                    self._links.append((first[status.st_ino], place))
                else:
                    first[status.st_ino] = place
                    self._files.append((place, path.read_bytes(), status.st_mtime_ns))

    def cast(self, root: Path) -> None:
        """Make a copy in *root*."""
        for folder in self._folders:
            os.makedirs(os.path.join(root, folder), exist_ok=True)
        for name, data, when in self._files:
            path = os.path.join(root, name)
            file = os.open(path, os.O_WRONLY | os.O_CREAT)
            os.write(file, data)
            os.utime(file, ns=(when, when))
            os.close(file)
        for one, other in self._links:
            os.link(os.path.join(root, one), os.path.join(root, other))


def layout(root: Path) -> set[str]:
    """All files, and the directories of ours, by path; without what differs from run to run."""
    found = set()
    for folder, names, files in os.walk(root):
        for name in (*names, *files):
            parts = Path(folder, name).relative_to(root).parts
            ours = parts[0] in ("trash", "condemned") and len(parts) > 1
            if ours or name in files:
                found.add("/".join([parts[0], "*", *parts[2:]] if ours else parts))
    return found


def dated(status: os.stat_result, when: float) -> os.stat_result:
    """The same as *status*, but for all times."""
    times = {f"st_{kind}time": float(when) for kind in "amc"}
    nanos = {f"st_{kind}time_ns": int(when) * 1_000_000_000 for kind in "amc"}
    return os.stat_result((*status[:7], *3 * [int(when)]), times | nanos)


# Faults


class Killed(BaseException):
    """The process is gone: no code of it runs any more."""


READING = ("open", "read", "close", "scandir", "listdir", "stat", "lstat", "fstat", "readlink")
CHANGING = (
    *("rename", "replace", "link", "symlink", "unlink", "remove", "rmdir", "mkdir", "utime"),
    *("write", "fsync", "chmod", "truncate", "ftruncate"),
)


@dataclasses.dataclass(frozen=True)
class Call:
    """
    A call of the system.

    Attributes:
        number: Which it is, from 0.
        name: The function of `os`.
        path: The path that it is about.
        changes: Whether it may change what is on disk.
    """

    number: int
    name: str
    path: str
    changes: bool

    def error(self, code: int) -> OSError:
        """The error *code* as this call would raise it."""
        return OSError(code, os.strerror(code), self.path)


def nothing(call: Call) -> None:
    """What a seam does when it only counts."""


class Seam:
    """
    Comes between `os` and everybody who calls it about something below *root*.

    While it is active, *before* is called before each such call, *after* after it. Either may raise
    in its place; calls that they make themselves go straight through.
    """

    def __init__(
        self,
        root: Path,
        before: Callable[[Call], None] = nothing,
        after: Callable[[Call], None] = nothing,
    ) -> None:
        self.calls: list[Call] = []
        self._root = str(root)
        self._before = before
        self._after = after
        self._files: dict[int, str] = {}
        self._originals: dict[str, Any] = {}
        self._active = False

    def __enter__(self) -> Self:
        for name in (*READING, *CHANGING):
            self._originals[name] = original = getattr(os, name)
            setattr(os, name, self._wrapped(name, original))
        # A generator that is closed after the process "is gone" raises where nobody catches.
        self._hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
        self._active = True
        return self

    def __exit__(self, *exc_info: object) -> None:
        sys.unraisablehook = self._hook
        for name, original in self._originals.items():
            setattr(os, name, original)

    @property
    def names(self) -> Counter[str]:
        """How often each function was called."""
        return Counter(call.name for call in self.calls)

    def _wrapped(self, name: str, original: Any) -> Any:
        def function(*args: Any, **options: Any) -> Any:
            path = self._files.get(args[0]) if type(args[0]) is int else args[0]
            if not (self._active and isinstance(path, str) and self._concerns(path)):
                return original(*args, **options)
            changes = name in CHANGING
            if name == "open":
                changes = bool(args[1] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
            call = Call(len(self.calls), name, path, changes)
            self.calls.append(call)
            failed = True
            try:
                self._do(self._before, call)
                failed = False
            finally:
                # Whatever it says, a file is closed then.
                if failed and name == "close":
                    self._files.pop(args[0])
                    original(*args)
            result = original(*args, **options)
            if name == "open":
                self._files[result] = path
            elif name == "close":
                self._files.pop(args[0])
            elif name == "scandir":
                result = _Entries(self, call, result)
            try:
                self._do(self._after, call)
            except BaseException:
                if name == "open":  # whoever is gone leaves no file open
                    self._originals["close"](result)
                raise
            return result

        return function

    def _concerns(self, path: str) -> bool:
        return path.startswith(self._root)

    def _do(self, act: Callable[[Call], None], call: Call) -> None:
        self._active = False
        try:
            act(call)
        finally:
            self._active = True

    def _read_entries(self, call: Call) -> None:
        if self._active:
            call = Call(len(self.calls), "getdents", call.path, False)
            self.calls.append(call)
            self._do(self._before, call)


class _Entries:
    """What `os.scandir` returns: reading the directory is a call of its own, which may fail."""

    def __init__(self, seam: Seam, call: Call, entries: Any) -> None:
        self._seam = seam
        self._call: Call | None = call
        self._entries = entries

    def __iter__(self) -> _Entries:
        return self

    def __next__(self) -> os.DirEntry[str]:
        if self._call is not None:
            call, self._call = self._call, None
            try:
                self._seam._read_entries(call)
            except BaseException:
                self._entries.close()
                raise
        return cast("os.DirEntry[str]", next(self._entries))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        self._entries.close()


def killed_at(number: int) -> Callable[[Call], None]:
    """From call *number* on, the process is gone."""

    def act(call: Call) -> None:
        if call.number >= number:
            raise Killed

    return act


def interrupted_at(number: int) -> Callable[[Call], None]:
    """Ctrl-C in call *number*; what then runs still runs."""

    def act(call: Call) -> None:
        if call.number == number:
            raise KeyboardInterrupt

    return act


def failing_at(number: int, code: int) -> Callable[[Call], None]:
    """Call *number* fails with *code*."""

    def act(call: Call) -> None:
        if call.number == number:
            raise call.error(code)

    return act


def failing_from(number: int, code: int) -> Callable[[Call], None]:
    """From call *number* on, all that would change something fails with *code*."""

    def act(call: Call) -> None:
        if call.number >= number and call.changes:
            raise call.error(code)

    return act


def without_links(call: Call) -> None:
    """There are no hard links on this file system."""
    if call.name == "link":
        raise call.error(errno.EPERM)


def full_disk(code: int = errno.ENOSPC) -> Callable[[Call], None]:
    """Nothing can be made or moved; files and directories can be removed."""

    def act(call: Call) -> None:
        if call.changes and call.name not in ("unlink", "rmdir", "utime"):
            raise call.error(code)

    return act


@contextmanager
def in_memory(folder: Path) -> Iterator[Path]:
    """A folder in memory, where the system has that, as thousands of stores take their time."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield folder
        return
    with tempfile.TemporaryDirectory(dir=memory) as path:
        yield Path(path)


class Play:
    """One operation on copies of one store, each time with another fault."""

    def __init__(self, folder: Path, furnish: Callable[[DiskScene], None]) -> None:
        self._folder = folder
        folder.mkdir(exist_ok=True)
        self._clock = Clock()
        first = DiskScene(folder / "first", self._clock)
        furnish(first)
        self._mould = Mould(first.tree.root)
        self._made = 0

    def scene(self) -> DiskScene:
        """A fresh copy of the store."""
        self._made += 1
        root = self._folder / str(self._made)
        return DiskScene(root, Clock(self._clock.now), self._mould)

    def calls_of(self, operation: Callable[[DiskScene], object]) -> list[Call]:
        """The calls of the system that *operation* makes."""
        scene = self.scene()
        with Seam(scene.tree.root) as seam:
            operation(scene)
        return seam.calls

    def scenes(self, numbers: Iterable[int]) -> Iterator[tuple[int, DiskScene]]:
        """A fresh copy for each of *numbers*, removed when it has served."""
        for number in numbers:
            scene = self.scene()
            yield number, scene
            shutil.rmtree(scene.tree.root)


def changing(calls: list[Call]) -> list[int]:
    """The numbers of those calls that change something."""
    return [call.number for call in calls if call.changes]


# Interleavings


class Watched:
    """
    A store that calls *event* before and after each step that the collector takes.

    It gets the name of the step and what it is about. Of steps that list something, it is also
    called before each item is handed out.
    """

    def __init__(self, store: Store, event: Callable[[str, object], None]) -> None:
        self._store = store
        self._event = event

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if not callable(method):
            return method

        def step(*args: Any) -> Any:
            self._event(name, *args[:1] or (None,))
            result = method(*args)
            if isinstance(result, Iterator):
                return self._items(name, result)
            self._event(f"{name} done", None)
            return result

        return step

    def _items(self, name: str, items: Iterable[Hashable]) -> Iterator[Hashable]:
        for item in items:
            self._event(f"{name} item", item)
            yield item
        self._event(f"{name} done", None)


def watched(store: Store, event: Callable[[str, object], None]) -> Store:
    """Have *event* called at each step of *store*."""
    return cast("Store", Watched(store, event))


def doing_at(number: int, what: Callable[[], object]) -> Callable[[Call], None]:
    """Just before call *number*, somebody else does *what*."""

    def act(call: Call) -> None:
        if call.number == number:
            what()

    return act


@contextmanager
def system_clock(clock: Clock) -> Iterator[None]:
    """Have the system date what is touched by *clock*."""
    original = os.utime

    def utime(path: Any, times: Any = None, **options: Any) -> None:
        if times is None and "ns" not in options:
            times = (clock(), clock())
        original(path, times, **options)

    os.utime = utime
    try:
        yield
    finally:
        os.utime = original
