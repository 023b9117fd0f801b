"""What a run reports, and how it is counted."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from ...durations import moment
from ...errors import StoreError
from ...stores.base import Blob

__all__ = ["PruneReport", "Removed", "Tally"]

_log = logging.getLogger("registry_wsgi")

# Of a million files that cannot be touched nobody wants to read all names.
_MOST_FAILURES = 100


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
class PruneReport:
    """
    What a prune removed, or would have removed.

    A dry run and a run on an unchanged store report the same.

    Attributes:
        models: How many models are gone for good.
        blobs: How many blobs were removed.
        bytes: How many bytes the storage gets back. Content that has several names counts once,
            and only when the last of them goes.
        dry_run: True if nothing was touched.
        reasons: The same by reason: ``expired`` (deleted longer ago than the age, or left in
            the trash by a delete that was killed), ``all`` (older than the age, with ``all=True``),
            ``partial`` (an unfinished download or another file that is no blob), ``unreferenced``
            (nothing needs it).
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


class Tally:
    """Counts what goes, and the space that is free when all names of a content are gone."""

    def __init__(self) -> None:
        self._models: defaultdict[str, int] = defaultdict(int)
        self._blobs: defaultdict[str, int] = defaultdict(int)
        self._bytes: defaultdict[str, int] = defaultdict(int)
        # Of content with several names: how many have gone, the look, and the reason of a blob.
        self._shared: dict[Hashable, tuple[int, Blob, str | None]] = {}
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

    def model(self, reason: str, held: Iterable[Blob]) -> None:
        self._models[reason] += 1
        self.release(held)

    def release(self, held: Iterable[Blob]) -> None:
        """Count what the trash lets go of."""
        for blob in held:
            self._count(blob, None)

    def blob(self, reason: str, blob: Blob) -> None:
        self._blobs[reason] += 1
        if blob.links == 1:
            self._bytes[reason] += blob.size
        else:
            self._count(blob, reason)

    def hold(self, when: float, blob: Blob) -> None:
        self._held = Removed(0, self._held.blobs + 1, self._held.bytes + blob.size)
        self._first_held = when if self._first_held is None else min(when, self._first_held)

    def _count(self, blob: Blob, reason: str | None) -> None:
        gone, _, known = self._shared.get(blob.content, (0, blob, None))
        self._shared[blob.content] = gone + 1, blob, known or reason

    def report(self, hold: float, protected: int, *, dry_run: bool, unsettled: bool) -> PruneReport:
        """Sum it up; *hold* is how long what is held waits at most, in seconds."""
        for gone, blob, reason in self._shared.values():
            if gone >= blob.links:
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
            held_until=None if first is None else moment(first + hold),
            protected=protected,
            failures=tuple(self._failures),
            failed=self._failed,
            unsettled=unsettled,
        )
