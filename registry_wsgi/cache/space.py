"""
What takes the space of a store, and what each command would free.

The reading comes first (`read_needs`, `files_of`); the rest (`Ledger`, `list_orphans`) is without
I/O. Each content counts once, whatever names it has, and as what it is needed for most: by models
in place, then by the trash.
"""

from __future__ import annotations

import logging
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import NamedTuple

from ..durations import moment
from ..errors import InvalidManifestError, OutOfReachError, StoreError, escape
from ..stores.base import Deleted, Disk, File, Manifest, Store, SurveyedStore
from ..stores.layout import WORKSHOPS, entry_time
from .downloads import download_of
from .manifest import blob_name, is_blob_name, mentioned_blobs, needed_blobs
from .reach import check_for_absent_manifests, is_empty_host, why_unknown
from .reading import name_of, read_models

__all__ = [
    "Amount",
    "Freed",
    "Ledger",
    "Orphan",
    "Space",
    "disk_of",
    "files_of",
    "hold_back",
    "list_orphans",
    "measure",
    "measure_own",
    "read_needs",
]

_log = logging.getLogger("registry_wsgi")

# What a content may be needed for, most first: of several names of a content the first one counts.
_KINDS = ("own", "shared", "trash", "aside", "unfinished", "unneeded", "rest")

# A folder of Ollama's create.
_WORKSHOP = re.compile(rf"(?:{'|'.join(WORKSHOPS)})[^/]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Amount:
    """
    Some of the space of a store.

    Attributes:
        files: How many contents there are; a content with several names is one.
        size: Their bytes.
        taken: How many bytes of the disk they take, with their folders: as ``du`` counts them. In a
            bucket the same as *size*.
    """

    files: int = 0
    size: int = 0
    taken: int = 0


@dataclass(frozen=True, slots=True)
class Freed:
    """
    What a command would free.

    Attributes:
        now: How many bytes of the disk now.
        later: How many more later, when what takes them is old enough.
        first: When the first of these do (UTC); None if there are none.
        last: When the last of these do (UTC).
        size: The bytes of all the files that go, now and later, as `registry_wsgi.PruneReport` has
            them. They differ from those of the disk where a file is sparse or compressed.
    """

    now: int = 0
    later: int = 0
    first: datetime | None = None
    last: datetime | None = None
    size: int = 0


@dataclass(frozen=True, slots=True)
class Space:
    """
    What takes the space of a store.

    Attributes:
        disk: The bytes of the disk that the blobs are on. None if there is none, as for a bucket.
        free: How many of them can still be written.
        other: How many of them other files take.
        models: How many models there are.
        deleted: How many are in the trash.
        own: What a single model needs.
        shared: What several models need.
        trash: What only the trash needs, and the trash itself.
        aside: What a prune has set aside.
        unneeded: What nothing needs.
        unfinished: Downloads and creates that are not done, be they under way or given up.
        rest: Manifests, folders and all else.
        total: All of these.
        frees: What would free how much: ``prune``; ``prune --age 0``, which takes even what a pull
            under way has; ``forget *``. While a pull is under way they free that later.
        unreadable: The models whose manifests cannot be read. No blob is removed until they are
            deleted or put right.
        out_of_reach: Why nobody knows which models there are, so that nothing is free: a disk is
            not mounted, say. None: all manifests are within reach.
        held: Why ``prune`` and ``forget *`` free nothing now but later, at the latest from the time
            on that *frees* has: a download is under way or was of late. None: they do.
    """

    disk: int | None
    free: int | None
    other: int | None
    models: int
    deleted: int
    own: Amount
    shared: Amount
    trash: Amount
    aside: Amount
    unneeded: Amount
    unfinished: Amount
    rest: Amount
    total: Amount
    frees: Mapping[str, Freed]
    unreadable: tuple[str, ...] = ()
    out_of_reach: str | None = None
    held: str | None = None


@dataclass(frozen=True, slots=True)
class Orphan:
    """
    A file that nothing needs: a blob, all files of one download, or a folder of Ollama's create.

    Attributes:
        file: Its name among the blobs; of what lies elsewhere, the path below the models directory.
        files: How many files these are.
        size: Their bytes.
        taken: How many bytes of the disk they take.
        changed: When one of them last changed (UTC).
        cause: What has probably left it there: ``interrupted download``, ``unfinished create``,
            ``delete by another program``, ``set aside by a prune``, ``foreign``. Of a blob it is
            ``unknown: a manifest cannot be read`` if that is so: such a model may need it.
        goes: From when on ``prune`` takes it (UTC), if nobody is using it. None: a manifest cannot
            be read, so that nothing goes.
    """

    file: str
    files: int
    size: int
    taken: int
    changed: datetime
    cause: str
    goes: datetime | None


def measure(store: Store, retention: float, now: float) -> Space:
    """Measure the space of *store*; *retention* and *now* are in seconds."""
    return _read_ledger(store, retention, now).space(disk_of(store))


def measure_own(store: Store, retention: float, now: float) -> tuple[int, int | None]:
    """
    Measure what *store* alone takes (`Ledger.outside` is left out), and what is free of its disk.

    Both are in bytes. Where there is no disk, None is free.
    """
    ledger, disk = _read_ledger(store, retention, now), disk_of(store)
    return ledger.space(disk).total.taken - ledger.outside, disk and disk.free


def _read_ledger(store: Store, retention: float, now: float) -> Ledger:
    ledger = Ledger(read_needs(store, retention), now)
    for file in files_of(store):
        ledger.add(file)
    return ledger


def disk_of(store: Store) -> Disk | None:
    """Look at the disk of *store*; None if there is none."""
    return store.disk() if isinstance(store, SurveyedStore) else None


def hold_back(space: Space, why: str, until: float) -> Space:
    """Make of what is free now something that is free later, *until* seconds after the epoch."""
    frees = dict(space.frees)
    for command in ("prune", "forget *"):
        freed, when = frees[command], moment(until)
        if freed.now:
            frees[command] = Freed(
                0,
                freed.now + freed.later,
                min(freed.first or when, when),
                max(freed.last or when, when),
                freed.size,
            )
    return replace(space, frees=frees, held=why)


def list_orphans(store: Store, retention: float) -> list[Orphan]:
    """
    List what nothing needs, the largest first; *retention* is in seconds.

    Raises:
        StoreError: The manifests or a part of them are out of reach, as for a prune.
    """
    needs = read_needs(store, retention)
    groups: defaultdict[str, _Group] = defaultdict(_Group)
    traceless = False
    for file in files_of(store):
        place = needs.place(file)
        traceless = traceless or place.is_blob_without_a_trace
        if place.kind in ("aside", "unfinished", "unneeded") and place.group:
            groups[place.group].add(file, place)
    needs.check_reach(traceless=traceless)
    known = not needs.unreadable
    orphans = [group.orphan(name, retention, known=known) for name, group in groups.items()]
    return sorted(orphans, key=lambda orphan: (-orphan.size, orphan.file))


#: Gets what `read_needs` has read of a model.
Each = Callable[[str | Deleted, Manifest, Iterable[str]], None]


def _ignore(place: str | Deleted, manifest: Manifest, blobs: Iterable[str]) -> None:
    """Make nothing of what was read."""


class _Place(NamedTuple):
    """What a file is needed for, from when on it may go, and the name of what goes with it."""

    kind: str
    goes: float = math.inf
    group: str = ""

    @property
    def is_blob_without_a_trace(self) -> bool:
        """Whether it is a blob that no model needs, and that none in the trash did."""
        return self.kind == "unneeded" and is_blob_name(self.group)


@dataclass
class Needs:
    """
    What needs the blobs of a store.

    Attributes:
        retention: How long what nothing needs is kept, in seconds.
        users: How many models need each blob.
        trash: When the last of the deleted models that need a blob is removed, by blob.
        entries: When an entry of the trash is removed, by its id.
        models: How many models there are.
        unreadable: The names of the models whose manifests cannot be read.
        out_of_reach: Why part of the manifests is out of reach. None: none is known to be.
        empty_hosts: The hosts whose folders have nothing in them.
        trashed: The entries of the trash.
    """

    retention: float
    users: Counter[str] = field(default_factory=Counter)
    trash: dict[str, float] = field(default_factory=dict)
    entries: dict[str, float] = field(default_factory=dict)
    models: int = 0
    unreadable: list[str] = field(default_factory=list)
    out_of_reach: StoreError | None = None
    empty_hosts: list[str] = field(default_factory=list)
    trashed: list[Deleted] = field(default_factory=list)

    def check_reach(self, *, traceless: bool) -> None:
        """
        Check that it is known which models there are, by the rule of the collector.

        Args:
            traceless: Whether there are blobs that no model needs, and that none in the trash did.

        Raises:
            StoreError: It is not, as a disk may be missing: an `OutOfReachError`, or what a store
                raises that lists no blobs.
        """
        if self.out_of_reach is not None:
            raise self.out_of_reach
        found = self.models + len(self.unreadable)
        check_for_absent_manifests(found, self.empty_hosts, lambda: traceless, lambda: self.trashed)

    def place(self, file: File) -> _Place:
        """Tell what *file* is needed for."""
        top, _, below = file.path.partition("/")
        workshop = _WORKSHOP.match(file.path)
        if workshop and (file.folder or file.path != workshop[0]):
            return _Place("unfinished", file.changed + self.retention, workshop[0])
        if top == "blobs" and not file.folder and "/" not in below:
            return self._blob(below, file)
        if top == "blobs" and below.startswith("condemned/"):
            top, below = "condemned", below[10:]
        if top == "condemned" and below:
            return _Place("aside", 0, "" if file.folder else below.partition("/")[2])
        if top == "trash" and below:
            entry = below.partition("/")[0]
            return _Place("trash", self._entry(entry))
        if top in self.entries:
            return _Place("trash", self.entries[top])
        return _Place("rest")

    def _blob(self, name: str, file: File) -> _Place:
        blob = blob_name(name) or ""
        users = self.users[blob]
        if users:
            return _Place("own" if users == 1 else "shared")
        if blob in self.trash:
            return _Place("trash", self.trash[blob])
        download = None if blob else download_of(name)
        kind = "unfinished" if download else "unneeded"
        return _Place(kind, file.changed + self.retention, download or name)

    def _entry(self, entry: str) -> float:
        when = self.entries.get(entry)
        # Without a manifest: a delete that was killed has left it.
        return (entry_time(entry) or math.inf) + self.retention if when is None else when


def read_needs(store: Store, retention: float, each: Each = _ignore) -> Needs:
    """
    Read all manifests of *store*, and its trash.

    Args:
        store: Which store.
        retention: How long what nothing needs is kept, in seconds.
        each: Called for each model with the key of its manifest or its entry in the trash, with
            the manifest, and with the names of the blobs that it needs.
    """
    needs = Needs(retention)
    try:
        if isinstance(store, SurveyedStore):  # its blobs are listed in another way by `files_of`
            next(iter(store.blobs()), None)
        needs.empty_hosts += (one.path for one in store.folders() if is_empty_host(one))
    except StoreError as error:
        needs.out_of_reach = error

    def parse(key: str, manifest: Manifest) -> Iterable[str]:
        try:
            return needed_blobs(manifest.data)
        except InvalidManifestError as error:
            refuse(key, error)
            return mentioned_blobs(manifest.data)

    def refuse(key: str, error: StoreError | None) -> None:
        stop = why_unknown(key, error)
        if stop is None:
            return
        _log.warning("manifests/%s: %s", escape(key), error)
        if isinstance(stop, OutOfReachError):
            needs.out_of_reach = needs.out_of_reach or stop
        if key.count("/") == 3:
            needs.unreadable.append(str(name_of(key) or key))

    for key, manifest, blobs in read_models(store.read_all(), parse, refuse):
        needs.models += 1
        needs.users.update(set(blobs))
        each(key, manifest, blobs)
    for entry, found in store.read_all_deleted():
        needs.trashed.append(entry)
        expires = entry.expires(retention)
        needs.entries[entry.id] = max(expires, needs.entries.get(entry.id, expires))
        # A blob is as old as the last delete of a model that needs it.
        goes = max(expires, entry.when + retention)
        if not isinstance(found, Manifest):
            continue
        mentioned = mentioned_blobs(found.data)
        for name in mentioned:
            needs.trash[name] = max(goes, needs.trash.get(name, goes))
        each(entry, found, mentioned)
    return needs


def files_of(store: Store) -> Iterator[File]:
    """List the files of *store*: where it knows no disk, the blobs alone."""
    if isinstance(store, SurveyedStore):
        yield from store.survey()
        return
    aside = {blob.name: blob for blob in store.condemned()}
    for name, look in store.look(store.blobs()):
        if name not in aside or store.sets_aside:
            yield File(f"blobs/{name}", look.content, look.size, look.size, 1, look.changed)
    for blob, look in store.look_aside(aside.values()):
        path = f"condemned/{blob.id}/{blob.name}"
        yield File(path, look.content, look.size, look.size, 1, look.changed)


class _Group:
    """Files that go together. There may be a million groups of one."""

    __slots__ = ("changed", "files", "place", "size", "taken")

    def __init__(self) -> None:
        self.files = self.size = self.taken = 0
        self.changed = 0.0
        self.place = _Place("rest")

    def add(self, file: File, place: _Place) -> None:
        self.files += not file.folder
        self.size += file.size
        self.taken += file.taken
        self.changed = max(self.changed, file.changed)
        self.place = place

    def goes(self, retention: float) -> float:
        """Tell from when on they may go: they are as young as the youngest."""
        return self.changed + (0 if self.place.kind == "aside" else retention)

    def orphan(self, name: str, retention: float, *, known: bool) -> Orphan:
        """Describe them; *known* is whether all manifests can be read."""
        changed = moment(self.changed)
        goes = moment(self.goes(retention)) if known else None
        download = self.place.kind == "unfinished" and is_blob_name(name)
        file = f"{name}-partial" if download else name
        cause = self._cause(name, known=known)
        return Orphan(file, self.files, self.size, self.taken, changed, cause, goes)

    def _cause(self, name: str, *, known: bool) -> str:
        if self.place.kind == "aside":
            return "set aside by a prune"
        if self.place.kind == "unfinished":
            return "interrupted download" if is_blob_name(name) else "unfinished create"
        if not blob_name(name):
            return "foreign"
        return "delete by another program" if known else "unknown: a manifest cannot be read"


class Ledger:
    """
    The sum of the space of many files.

    Args:
        needs: What needs them.
        now: The time in seconds since the epoch.
    """

    def __init__(self, needs: Needs, now: float) -> None:
        self._needs = needs
        self._now = now
        self._traceless = False
        self._amounts = {kind: [0, 0, 0] for kind in _KINDS}
        self._frees = {command: _Sum() for command in ("prune", "prune --age 0", "forget *")}
        self._downloads: defaultdict[str, _Group] = defaultdict(_Group)
        # Of content with several names: the best of their places, and how many were seen.
        self._linked: dict[Hashable, tuple[File, _Place, int]] = {}

    def add(self, file: File) -> None:
        place = self._needs.place(file)
        self._traceless = self._traceless or place.is_blob_without_a_trace
        if file.links != 1:
            _, other, seen = self._linked.get(file.content, (file, place, 0))
            kind = min(place.kind, other.kind, key=_KINDS.index)
            place = _Place(kind, max(place.goes, other.goes))
            self._linked[file.content] = file, place, seen + 1
        elif place.kind == "unfinished":
            self._downloads[place.group].add(file, place)
        else:
            self._count(place, not file.folder, file.size, file.taken)

    @property
    def outside(self) -> int:
        """How many bytes that content takes which has another name outside of the store."""
        return sum(file.taken for file, _, seen in self._linked.values() if seen < file.links)

    def space(self, disk: Disk | None) -> Space:
        """Sum it up."""
        for file, place, seen in self._linked.values():
            # With another name outside of the store, the space stays.
            goes = place.goes if seen >= file.links else math.inf
            self._count(place._replace(goes=goes), 1, file.size, file.taken)
        for group in self._downloads.values():
            place = group.place._replace(goes=group.goes(self._needs.retention))
            self._count(place, group.files, group.size, group.taken)
        parts = {kind: Amount(*numbers) for kind, numbers in self._amounts.items()}
        total = Amount(*map(sum, zip(*self._amounts.values(), strict=True)))
        out_of_reach = None
        try:
            self._needs.check_reach(traceless=self._traceless)
        except StoreError as error:
            out_of_reach = str(error)
        stopped = bool(self._needs.unreadable or out_of_reach)
        return Space(
            disk=disk and disk.size,
            free=disk and disk.free,
            other=disk and max(disk.used - total.taken, 0),
            models=self._needs.models,
            deleted=len(self._needs.trashed),
            total=total,
            frees={
                command: Freed() if stopped else some.freed()
                for command, some in self._frees.items()
            },
            unreadable=tuple(self._needs.unreadable),
            out_of_reach=out_of_reach,
            held=None,
            **parts,
        )

    def _count(self, place: _Place, files: int, size: int, taken: int) -> None:
        numbers = self._amounts[place.kind]
        for index, number in enumerate((files, size, taken)):
            numbers[index] += number
        if place.goes == math.inf:
            return
        self._frees["prune"].add(size, taken, place.goes, self._now)
        self._frees["prune --age 0"].add(size, taken, 0, self._now)
        if place.kind == "trash":
            self._frees["forget *"].add(size, taken, 0, self._now)


class _Sum:
    """What goes now, and what goes later."""

    def __init__(self) -> None:
        self.now = self.later = self.size = 0
        self.first, self.last = math.inf, 0.0

    def add(self, size: int, taken: int, goes: float, now: float) -> None:
        self.size += size
        if goes <= now:
            self.now += taken
        elif taken:
            self.later += taken
            self.first, self.last = min(goes, self.first), max(goes, self.last)

    def freed(self) -> Freed:
        if not self.later:
            return Freed(self.now, size=self.size)
        return Freed(self.now, self.later, moment(self.first), moment(self.last), self.size)
