"""What a run reports, and how it is counted."""

from __future__ import annotations

import heapq
import logging
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from ...durations import moment
from ...errors import StoreError
from ...stores.base import Blob, Deleted
from ..reading import name_of
from .limits import Limits

__all__ = ["Item", "PruneReport", "Removed", "Tally"]

_log = logging.getLogger("registry_wsgi")

# Of a million files that cannot be touched nobody wants to read all names.
_MOST_FAILURES = 100

# How many models, and how many files, are named: the largest.
_MOST_ITEMS = 1_000


@dataclass(frozen=True, slots=True)
class Removed:
    """
    What went, or would go, for one reason.

    Attributes:
        models: How many models.
        blobs: How many blobs.
        bytes: How many bytes the storage gets back.
    """

    models: int = 0
    blobs: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Item:
    """
    A model or a file that went, or would go, or has to wait.

    Attributes:
        reason: As in the ``reasons`` of a `registry_wsgi.PruneReport`.
        model: The full name of the model; the path of its manifest if that makes no valid name.
            None for a file.
        file: The name of the file among the blobs; the entry of the trash (``trash/<id>``) of what
            a killed delete has left there. None for a model.
        when: Since when it may go (UTC). A deleted model, and a file that only such models needed:
            the delete. Else the last change.
        bytes: Of a model, those of all its blobs, as its manifest has them. Of a file, those that
            the storage gets back: none if its content has another name that stays.
        held: Whether it is left for a later run, because a pull is under way or may be.
    """

    reason: str
    model: str | None
    file: str | None
    when: datetime
    bytes: int
    held: bool = False


@dataclass(frozen=True, slots=True)
class PruneReport:
    """
    What a prune removed, or would have removed.

    A dry run and a run on an unchanged store report the same. Two reports are equal if all their
    numbers are.

    Attributes:
        models: How many models are gone for good.
        blobs: How many blobs were removed.
        bytes: How many bytes the storage gets back. Content that has several names counts once,
            and only when the last of them goes.
        dry_run: True if nothing was touched.
        reasons: The same by reason: ``expired`` (deleted longer ago than the age, or left in
            the trash by a delete that was killed), ``all`` (older than the age, with ``all=True``),
            ``partial`` (an unfinished download or create, or another file that is no blob),
            ``unreferenced`` (nothing needs it).
        held_blobs: How many blobs are left for a later run to remove, because a pull is under way
            or may be.
        held_bytes: How many bytes these have.
        held_until: When the first of them goes at the latest, should pulls go on (UTC).
        protected: With ``all=True``: how many models are older than the age, and stay because they
            are protected.
        failures: The files that could not be moved or removed, each with why: it is immutable, busy
            or another user's. They stop nothing else. At most a hundred; *failed* counts them all.
        failed: How many failures there were.
        unsettled: True if models came and went all the while that they were read. Nothing that was
            not read is evidence then, and nothing was removed: run again.
        items: What went, by name: the models, then the files, the largest first. At most a thousand
            of each.
        left_out: How many more there were.
        begun: When this run began, by the clock of the cache (UTC): the *before* with which a later
            one takes nothing that was deleted or has come since.
    """

    models: int = 0
    blobs: int = 0
    bytes: int = 0
    dry_run: bool = False
    reasons: Mapping[str, Removed] = field(default_factory=dict)
    held_blobs: int = 0
    held_bytes: int = 0
    held_until: datetime | None = None
    protected: int = 0
    failures: Sequence[str] = ()
    failed: int = 0
    unsettled: bool = False
    items: Sequence[Item] = field(default=(), compare=False)
    left_out: int = field(default=0, compare=False)
    begun: datetime | None = field(default=None, compare=False)


# The bytes, the name, the reason, when, and whether it is held: a tuple, of which there may be a
# million, until the largest are known.
_Row = tuple[int, str, str, float, bool]


class _Largest:
    """The largest of many items."""

    def __init__(self) -> None:
        self.rows: list[_Row] = []
        self.left_out = 0

    def add(self, *row: *_Row) -> None:
        if len(self.rows) < _MOST_ITEMS:
            heapq.heappush(self.rows, row)
        else:
            heapq.heappushpop(self.rows, row)
            self.left_out += 1

    def items(self, *, models: bool) -> Iterator[Item]:
        for size, name, reason, when, held in sorted(self.rows, key=lambda row: (-row[0], row)):
            model, file = (name, None) if models else (None, name)
            yield Item(reason, model, file, moment(when), size, held)


class Tally:
    """
    Counts what goes, and the space that is free when all names of a content are gone.

    Args:
        reason_of: Tells why the blob of a name goes.
    """

    def __init__(self, reason_of: Callable[[str], str]) -> None:
        self._reason_of = reason_of
        self._named = _Largest()
        self._files = _Largest()
        self._models: defaultdict[str, int] = defaultdict(int)
        self._blobs: defaultdict[str, int] = defaultdict(int)
        self._bytes: defaultdict[str, int] = defaultdict(int)
        # Of content with several names: how many have gone, a name and look, the reason of a blob.
        self._shared: dict[Hashable, tuple[int, str, Blob, str | None]] = {}
        self._held = Removed()
        self._first_held: float | None = None
        self._failures: list[str] = []
        self._failed = 0

    def fail(self, error: StoreError) -> None:
        """Note that something could not be touched."""
        self._failed += 1
        if self._failed <= _MOST_FAILURES:
            self._failures.append(str(error))
            _log.warning("left where it is: %s", error)

    def expired(self, entry: Deleted, size: int, held: Mapping[str, Blob]) -> None:
        """Count a deleted model of *size* bytes, and what the trash held for it."""
        self.model("expired", entry.key, entry.when, size)
        self.release(held.items())

    def model(self, reason: str, key: str, when: float, size: int) -> None:
        """Count the model at *key*, of *size* bytes, that may go since *when*."""
        self._models[reason] += 1
        self._named.add(size, str(name_of(key) or key), reason, when, False)

    def release(self, held: Iterable[tuple[str, Blob]]) -> None:
        """Count what the trash lets go of."""
        for name, blob in held:
            self._count(name, blob, None)

    def blob(self, name: str, blob: Blob) -> None:
        """Count the blob or file *name*."""
        reason = self._reason_of(name)
        self._blobs[reason] += 1
        if blob.links == 1:
            self._bytes[reason] += blob.size
            self._files.add(blob.size, name, reason, blob.changed, False)
        else:
            self._count(name, blob, reason)

    def hold(self, when: float, name: str, blob: Blob) -> None:
        """Count the blob or file *name*, which waits since *when*."""
        self._held = Removed(0, self._held.blobs + 1, self._held.bytes + blob.size)
        self._first_held = when if self._first_held is None else min(when, self._first_held)
        self._files.add(blob.size, name, self._reason_of(name), blob.changed, True)

    def _count(self, name: str, blob: Blob, reason: str | None) -> None:
        gone, other, look, known = self._shared.get(blob.content, (0, name, blob, None))
        if known and reason:  # the other name of it has the bytes
            self._files.add(0, name, reason, blob.changed, False)
        elif reason:
            other, look = name, blob
        self._shared[blob.content] = gone + 1, other, look, known or reason

    def report(
        self, limits: Limits, protected: int, *, dry_run: bool, unsettled: bool
    ) -> PruneReport:
        """Sum it up."""
        for gone, name, blob, reason in self._shared.values():
            free = gone >= blob.links
            if reason or free:
                size = blob.size if free else 0
                self._files.add(size, name, reason or "expired", blob.changed, False)
            if free:
                if reason is None:  # only the trash still had it
                    self._blobs["expired"] += 1
                self._bytes[reason or "expired"] += blob.size
        reasons = {
            reason: Removed(self._models[reason], self._blobs[reason], self._bytes[reason])
            for reason in sorted({*self._models, *self._blobs})
        }
        first = self._first_held
        return PruneReport(
            models=sum(self._models.values()),
            blobs=sum(self._blobs.values()),
            bytes=sum(self._bytes.values()),
            dry_run=dry_run,
            reasons=reasons,
            held_blobs=self._held.blobs,
            held_bytes=self._held.bytes,
            held_until=None if first is None else moment(first + limits.hold),
            protected=protected,
            failures=tuple(self._failures),
            failed=self._failed,
            unsettled=unsettled,
            items=(*self._named.items(models=True), *self._files.items(models=False)),
            left_out=self._named.left_out + self._files.left_out,
            begun=moment(limits.now),
        )
