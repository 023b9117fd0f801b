"""
The collector: which blobs nothing needs, and how they are removed so that no model ever lacks one.

Other programs put models into the same store at any moment, without a lock, and without a word: a
pull that finds a blob in its place uses it as it is. So a blob goes in two phases.

1. The names of all blobs are listed, and only then every manifest is read: a blob that is not
   listed cannot be removed, and a manifest written after the listing can only save blobs. A
   manifest that cannot be read ends the run here, before anything is touched.
2. What no manifest needs and has not changed for long enough is *condemned*: renamed aside, so that
   a pull that looks for it from now on fetches it anew.
3. The manifests that are new or have changed meanwhile are read. What they need is *pardoned*: put
   back, as if just written. So is what was touched in the meantime.
4. The rest is *purged*. But while a pull is under way (it may have seen a blob before it was set
   aside), the rest stays aside for a later run, until there is no pull or the hold is over. And
   while the store is in use, so that a pull may have begun that has left no trace yet, what is set
   aside stays there for as long as a pull can go without one.

Each step is a single rename, link or unlink, and each run begins with what earlier ones have left
aside, so a run may be killed anywhere, and any number may work at once.
"""

from __future__ import annotations

import itertools
import logging
import math
from array import array
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from .durations import moment, to_micros
from .errors import (
    InvalidManifestError,
    InvalidNameError,
    ModelExistsError,
    NoRoomError,
    RegistryError,
    StoreError,
    escape,
)
from .manifest import blob_name, is_blob_name, mentioned_blobs, needed_blobs
from .names import Name
from .patterns import matches
from .stores.base import Blob, Condemned, Deleted, Manifest, Read, Store

__all__ = ["Collector", "Progress", "PruneReport", "Removed"]

_log = logging.getLogger("registry_wsgi")

_T = TypeVar("_T")

#: Called with what is being done, how much of it is done and how much there is (None: not known).
Progress = Callable[[str, int, int | None], None]

# A run of the collector that has set something aside: when, and its id. None has an empty one.
_Run = tuple[float, str]
_NO_RUN = (0.0, "")

_EVERY = 1_000  # how many steps there are from one call of a progress hook to the next


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
        reasons: The same by reason: ``expired`` (deleted longer ago than the age), ``all`` (older
            than the age, with ``all=True``), ``partial`` (an unfinished download or another file
            that is no blob), ``unreferenced`` (nothing needs it).
        held_blobs: How many blobs are set aside, or would be, for a later run to remove, because a
            pull is under way or may be.
        held_bytes: How many bytes these have.
        held_until: When the first of them goes at the latest, should pulls go on (UTC).
        protected: With ``all=True``: how many models are older than the age, and stay because they
            are protected.
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


class Collector:
    """
    One run over a store.

    Args:
        store: What to collect in.
        now: The time of the run, in seconds since the epoch.
        age: How long something must have been deleted, unreferenced or (with *every_model*)
            unchanged to go, in seconds. 0: the store is quiet, and nothing is waited for.
        in_flight: How recent a change means a pull under way, in seconds.
        hold: How long at most pulls hold back what is set aside, in seconds.
        every_model: Whether models older than *age* go too, but for those that are protected.
        progress: Called now and then.
    """

    def __init__(
        self,
        store: Store,
        *,
        now: float,
        age: float,
        in_flight: float,
        hold: float,
        every_model: bool = False,
        progress: Progress | None = None,
    ) -> None:
        self._store = store
        # As a store keeps it, so that a dry run reports the same.
        self._now = to_micros(now) / 1_000_000
        self._quiet = age == 0
        # A time may lie in the future (another clock wrote it); at age 0 all goes all the same.
        self._cutoff = math.inf if self._quiet else now - age
        self._grace = min(age, in_flight)
        self._recent = now - in_flight
        self._hold = hold
        self._every_model = every_model
        self._progress = progress

        # The names of the blobs, and whether something needs them; first what is listed, in the end
        # what is known. There may be millions: what is kept of each is little.
        self._listed: dict[str, bool] = {}
        self._files: set[str] = set()  # those of them that may grow: unfinished downloads, say
        # Whether blobs have come or gone of late, and whether one of them shows a pull under way.
        self._in_use = False
        self._pull = False
        # Names that mean the same blob as another: upper-case digits.
        self._other_names: defaultdict[str, set[str]] = defaultdict(set)
        self._aside: dict[str, tuple[_Run, ...]] = {}  # what earlier runs have set aside
        self._trash: set[Deleted] = set()  # what is deleted and was read: it never changes
        self._pardons: list[Condemned] = []
        self._known: set[int] = set()  # the manifests that were read, each with its version
        self._old: dict[str, int] = {}  # with every_model: which manifests go, with their content
        self._protected: set[str] = set()  # which of those would go, were they not protected
        self._needed_by_old: set[str] = set()
        self._needed_by_expired: set[str] = set()

    def run(self, *, dry_run: bool = False, deleted_only: bool = False) -> PruneReport:
        """
        Collect.

        Args:
            dry_run: Touch nothing, and report what would go.
            deleted_only: Only remove what was deleted, and the blobs that nothing else needs. When
                none of it is old enough, this only lists the trash.
        """
        store = self._store
        expired = store.deleted(self._cutoff)
        # What looks abandoned may be a delete under way, unless the store is said to be quiet.
        abandoned = (
            math.inf if self._quiet and not deleted_only else min(self._cutoff, self._recent)
        )
        if deleted_only and not expired:
            return PruneReport(dry_run=dry_run)

        self._list()
        tally = _Tally()
        held = self._look_at_expired(expired)
        self._mark(expired)
        # What the trash holds a link to is what was deleted, and its links came and went with that:
        # only a write would make it young again.
        deleted = {blob.content for blobs in held.values() for blob in blobs.values()}
        doomed = _Suspects()
        for name, blob in self._look_at_unneeded():
            changed = blob.written if blob.content in deleted else blob.changed
            self._pull = self._pull or self._is_recent(changed)
            if deleted_only and blob_name(name) not in self._needed_by_expired:
                continue
            if changed <= self._cutoff:
                doomed.add(name, _NO_RUN, blob)

        if dry_run:
            self._plan(tally, expired, held, doomed)
            return self._report(tally, dry_run=True)

        for aside in self._pardons:
            self._put_back(aside)
        self._pardons.clear()
        for key in self._old:
            if self._remove_old(key):
                tally.model("all", ())
        self._sweep(tally, doomed, held)
        store.tidy(abandoned)
        return self._report(tally, dry_run=False)

    def _report(self, tally: _Tally, *, dry_run: bool) -> PruneReport:
        return tally.report(self._hold, len(self._protected), dry_run=dry_run)

    # Phase 1

    def _list(self) -> None:
        self._look_for_use()
        # What is aside before the names: a blob that is put back between the two is seen.
        runs: dict[_Run, tuple[_Run]] = {}  # one for all blobs of a run
        for blob in self._store.condemned():
            run = blob.when, blob.id
            self._aside[blob.name] = self._aside.get(blob.name, ()) + runs.setdefault(run, (run,))
            self._classify(blob.name)
        self._listed = dict.fromkeys(self._counted("listing blobs", self._store.blobs()), False)
        # Nearly all are in lower case, and there may be a million of them.
        for name in self._listed:
            if name != name.lower():
                self._classify(name)

    def _classify(self, name: str) -> None:
        canonical = blob_name(name)
        if canonical is not None and canonical != name:
            self._other_names[canonical].add(name)

    def _look_at_expired(self, expired: list[Deleted]) -> dict[Deleted, dict[str, Blob]]:
        """Look at the blobs that the trash holds for what has expired."""
        held = {}
        for entry in expired:
            try:
                manifest = self._store.read_deleted(entry)
            except StoreError as error:
                _log.warning("removed all the same: %s", error)
                manifest = None
            names = mentioned_blobs(manifest.data) if manifest else set()
            self._needed_by_expired |= names
            looks = {name: self._store.held_blob(entry, name) for name in names}
            held[entry] = {name: blob for name, blob in looks.items() if blob is not None}
        return held

    def _mark(self, expired: list[Deleted]) -> None:
        # The trash before and after the manifests: what is deleted or restored meanwhile is in one
        # of them at the right time.
        self._mark_deleted(expired)
        patterns = list(self._store.protected()) if self._every_model else []
        for key, manifest in self._counted("reading manifests", self._read_all()):
            if manifest is None:
                continue
            if (
                self._every_model
                and manifest.modified <= self._cutoff
                and _is_model(key)
                and not self._is_kept(key, patterns)
            ):
                self._old[key] = hash(manifest.data)
                self._needed_by_old |= mentioned_blobs(manifest.data)
            else:
                if manifest.version is not None:
                    self._known.add(hash((key, manifest.version)))
                self._mark_manifest(key, manifest)
        self._mark_deleted(expired)

    def _mark_deleted(self, gone: Iterable[Deleted]) -> None:
        for entry, found in self._store.read_all_deleted(self._trash.union(gone)):
            self._trash.add(entry)
            if isinstance(found, InvalidManifestError):
                # It was deleted because of that, say. No one restores it.
                _log.warning("%s", found)
            elif isinstance(found, StoreError):
                raise found
            elif found is not None:
                self._need(mentioned_blobs(found.data))

    def _read_all(self) -> Iterator[tuple[str, Manifest | None]]:
        for key, found in self._store.read_all():
            yield key, found if isinstance(found, Manifest) else self._readable(key, found)

    def _is_kept(self, key: str, patterns: Iterable[str]) -> bool:
        """Tell whether an old model is protected by one of *patterns*, and if so count it."""
        name = Name.from_key(key)
        if any(matches(name, pattern) for pattern in patterns):
            self._protected.add(key)
        return key in self._protected

    def _read(self, key: str) -> Manifest | None:
        try:
            return self._readable(key, self._store.read(key))
        except InvalidManifestError as error:
            return self._readable(key, error)

    def _readable(self, key: str, found: Read) -> Manifest | None:
        if isinstance(found, InvalidManifestError):
            self._object(key, found)
            return None
        if isinstance(found, StoreError):
            raise found
        if found is None:
            _log.warning("manifests/%s: not a file, or gone: skipped", escape(key))
        return found

    def _mark_manifest(self, key: str, manifest: Manifest) -> None:
        try:
            self._need(needed_blobs(manifest.data))
        except InvalidManifestError as error:
            self._object(key, error)
            self._need(mentioned_blobs(manifest.data))

    def _object(self, key: str, error: InvalidManifestError) -> None:
        """Stop the run for a manifest that cannot be read, unless nothing lists it as a model."""
        if _is_model(key):
            raise InvalidManifestError(
                f"manifests/{key}: {error}; no blob is removed until this model is deleted or its"
                " manifest is put right"
            ) from error
        _log.warning("manifests/%s: not a manifest, skipped", escape(key))

    def _need(self, blobs: Collection[str]) -> None:
        listed, aside, other_names = self._listed, self._aside, self._other_names
        for blob in blobs:
            if blob in listed:
                listed[blob] = True
        if aside or other_names:  # mostly there are none
            for blob in blobs:
                if blob in aside:
                    self._pardon(blob)
                if blob in other_names:
                    self._need(other_names[blob])

    def _pardon(self, name: str) -> None:
        self._pardons += (Condemned(*run, name) for run in self._aside.pop(name))

    def _look_at_unneeded(self) -> Iterator[tuple[str, Blob]]:
        total = len(self._listed) - sum(self._listed.values())
        return self._store.look(self._counted("looking at blobs", self._unneeded(), total))

    def _unneeded(self) -> Iterator[str]:
        for name, needed in self._listed.items():
            if not needed:
                if not is_blob_name(name):
                    self._files.add(name)
                yield name

    # Phase 2

    def _remove_old(self, key: str) -> bool:
        store = self._store
        before = self._read(key)
        if before is None or before.modified > self._cutoff or hash(before.data) != self._old[key]:
            return False  # it was pulled anew since it was judged, and is looked at again below
        if self._is_kept(key, store.protected()):
            return False  # since just now, and it is looked at again, too
        try:
            entry = store.discard(key, (), self._now)
        except NoRoomError as error:
            _log.warning("%s: kept for now: %s", key, error)
            return False
        if entry is None:
            return False
        manifest = store.read_deleted(entry)
        if manifest is None or hash(manifest.data) == self._old[key]:
            return store.forget(entry)
        # It was pulled anew in that moment.
        with suppress(ModelExistsError):  # and once more: then this one stays in the trash
            store.recover(entry)
        return False

    def _sweep(
        self, tally: _Tally, doomed: _Suspects, held: dict[Deleted, dict[str, Blob]]
    ) -> None:
        earlier = self._look_aside()
        self._look_for_use()  # again, as what follows will look like use itself
        try:
            no_room = self._condemn(doomed)
            # From here on nobody restores what has expired; before the manifests are read again, as
            # somebody may just have.
            for entry, blobs in held.items():
                if self._store.forget(entry):
                    tally.model("expired", blobs.values())
            if not (earlier or doomed):
                return
            # A pull is looked for on both sides of the second mark: one that ends meanwhile is
            # seen before it, or has its manifest read, and one that begins is seen after it.
            self._look_for_pulls()
            self._mark_again()
        except BaseException:
            # Nobody knows any more what is needed: back with it.
            for blob, _ in doomed:
                if blob.id:
                    with suppress(RegistryError):
                        self._put_back(blob)
            raise
        self._look_for_pulls()
        for blob in self._pardons:
            self._put_back(blob)
        for blob, look in earlier:
            if not self._listed.get(blob.name) and self._was_in_use(blob, look):
                self._put_back(blob)
        for name, run in zip(doomed.names, doomed.runs, strict=True):
            if run != _NO_RUN and self._listed[name]:
                self._put_back(Condemned(*run, name))
        self._purge(tally, earlier, doomed)
        if no_room:
            for blob, plan in doomed:
                if not blob.id and not self._listed[blob.name]:
                    self._remove(tally, blob.name, plan)

    def _condemn(self, doomed: _Suspects) -> bool:
        """Set *doomed* aside, and tell whether there was no room for some."""
        condemned = self._store.condemn(doomed.names, self._now)
        at = 0
        run = _NO_RUN
        try:
            for blob in self._counted("setting blobs aside", condemned, len(doomed)):
                if run != (blob.when, blob.id):
                    run = blob.when, blob.id
                at = doomed.names.index(blob.name, at)
                doomed.runs[at] = run
        except NoRoomError as error:
            # A full disk must still be freed: these go right after the manifests are read again.
            _log.warning("blobs are removed without being set aside first: %s", error)
            return True
        return False

    def _put_back(self, blob: Condemned) -> None:
        store = self._store
        self._listed[blob.name] = True
        if not store.pardon(blob):
            # Another has come in its place meanwhile. Unless that is not whole (yet), it will do.
            ours, theirs = store.condemned_blob(blob), store.blob(blob.name)
            if ours is not None and theirs is not None and theirs.size >= ours.size:
                deque(store.purge([(blob, math.inf)]), maxlen=0)

    def _mark_again(self) -> None:
        store = self._store
        self._mark_deleted(())
        for key, version in self._counted("checking manifests", store.versions()):
            if version is None or hash((key, version)) not in self._known:
                manifest = self._read(key)
                if manifest is not None:
                    self._mark_manifest(key, manifest)
        self._mark_deleted(())

    def _look_for_use(self) -> None:
        self._in_use = self._in_use or self._is_recent(self._store.blobs_changed())

    def _look_for_pulls(self) -> None:
        """Look whether something has come or grown since the blobs were listed."""
        if self._pull or self._quiet:
            return
        for name in self._store.blobs():
            if name not in self._listed or name in self._files:
                blob = self._store.blob(name)
                if blob is not None and self._is_recent(blob.changed):
                    self._pull = True
                    return

    def _purge(self, tally: _Tally, *suspects: _Suspects) -> None:
        """Remove what is set aside and still not needed, unless it is held."""
        plans: dict[Condemned, Blob] = {}  # of those that the store is at

        def waiting(
            steps: Iterable[tuple[Condemned, Blob]], *, held: bool
        ) -> Iterator[tuple[Condemned, float]]:
            for blob, plan in steps:
                if blob.id and not self._listed.get(blob.name) and self._is_held(blob.when) == held:
                    plans[blob] = plan
                    yield blob, plan.written

        total = sum(map(len, suspects))
        steps = self._counted("removing blobs", itertools.chain(*suspects), total)
        for blob, gone in self._store.purge(waiting(steps, held=False)):
            plan = plans.pop(blob)
            if gone:
                tally.blob(self._reason(blob.name), plan)
            else:
                self._put_back(blob)  # touched meanwhile: somebody means to use it
        rest = (blob for blob, _ in waiting(itertools.chain(*suspects), held=True))
        for blob, look in self._store.look_aside(rest):
            if look.written > plans.pop(blob).written:
                self._put_back(blob)
            else:
                tally.hold(blob.when, look)

    def _remove(self, tally: _Tally, name: str, plan: Blob) -> None:
        """Remove a blob that there was no room to set aside."""
        look = self._store.blob(name)
        if look is None or look.written > plan.written:
            return
        if self._is_held(self._now):
            tally.hold(self._now, look)
        elif self._store.remove_blob(name):
            tally.blob(self._reason(name), plan)

    def _was_in_use(self, blob: Condemned, look: Blob) -> bool:
        """Tell whether a blob was in use when an earlier run set it aside and was killed."""
        return not self._quiet and look.written > blob.when - self._grace

    def _is_held(self, since: float) -> bool:
        """Tell whether what was set aside at a time stays there for a later run."""
        if self._quiet:
            return False
        over = since + self._hold <= self._now
        if not self._store.sets_aside:
            # Where it is only marked, a pull still finds it: the mark comes first and the hold
            # after, and however long the hold has been over, a pull under way may count on it.
            return self._pull or not over or since >= self._now
        # A pull shows itself when its first own blob begins to grow. Until then only what others
        # left behind tells that the store is in use.
        return not over and (self._pull or (self._in_use and since > self._recent))

    def _is_recent(self, changed: float) -> bool:
        return not self._quiet and changed > self._recent

    def _look_aside(self) -> _Suspects:
        """Look at what earlier runs have left aside and nothing needs."""
        suspects = _Suspects()
        aside = (Condemned(*run, name) for name, runs in self._aside.items() for run in runs)
        shared: dict[_Run, _Run] = {}
        for blob, look in self._store.look_aside(aside):
            if not self._store.sets_aside:  # it is in its place, and can still grow
                self._pull = self._pull or self._is_recent(look.written)
            run = blob.when, blob.id
            suspects.add(blob.name, shared.setdefault(run, run), look)
        return suspects

    def _reason(self, name: str) -> str:
        canonical = blob_name(name)
        if canonical is None:
            return "partial"
        if canonical in self._needed_by_expired:
            return "expired"
        return "all" if canonical in self._needed_by_old else "unreferenced"

    def _plan(
        self,
        tally: _Tally,
        expired: list[Deleted],
        held: dict[Deleted, dict[str, Blob]],
        doomed: _Suspects,
    ) -> None:
        for entry in expired:
            tally.model("expired", held[entry].values())
        for _ in self._old:
            tally.model("all", ())
        for blob, look in self._look_aside():
            if self._was_in_use(blob, look):
                continue
            if self._is_held(blob.when):
                tally.hold(blob.when, look)
            else:
                tally.blob(self._reason(blob.name), look)
        for blob, look in doomed:
            if self._is_held(self._now):
                tally.hold(self._now, look)
            else:
                tally.blob(self._reason(blob.name), look)

    def _counted(self, what: str, steps: Iterable[_T], total: int | None = None) -> Iterable[_T]:
        return steps if self._progress is None else _count(self._progress, what, steps, total)


def _count(progress: Progress, what: str, steps: Iterable[_T], total: int | None) -> Iterator[_T]:
    done = 0
    for step in steps:
        if done % _EVERY == 0:
            progress(what, done, total)
        yield step
        done += 1
    progress(what, done, done if total is None else total)


def _is_model(key: str) -> bool:
    try:
        Name.from_key(key)
    except InvalidNameError:
        return False
    return True


class _Suspects:
    """Blobs that may have to go, each as it looked first. Of a million they take 32 megabytes."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.runs: list[_Run] = []  # that have set them aside
        self._sizes = array("q")
        self._written = array("d")
        self._linked: dict[int, Blob] = {}  # those whose content has other names

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[tuple[Condemned, Blob]]:
        for i, name in enumerate(self.names):
            size, written = self._sizes[i], self._written[i]
            blob = self._linked.get(i) or Blob(size, written, written, None)
            yield Condemned(*self.runs[i], name), blob

    def add(self, name: str, run: _Run, blob: Blob) -> None:
        self.names.append(name)
        self.runs.append(run)
        self._sizes.append(blob.size)
        self._written.append(blob.written)
        if blob.links != 1:
            self._linked[len(self.names) - 1] = blob


class _Tally:
    """Counts what goes, and the space that is free when all names of a content are gone."""

    def __init__(self) -> None:
        self._models: defaultdict[str, int] = defaultdict(int)
        self._blobs: defaultdict[str, int] = defaultdict(int)
        self._bytes: defaultdict[str, int] = defaultdict(int)
        # Of content with several names: how many have gone, the look, and the reason of a blob.
        self._shared: dict[Hashable, tuple[int, Blob, str | None]] = {}
        self._held = Removed()
        self._first_held: float | None = None

    def model(self, reason: str, held: Iterable[Blob]) -> None:
        self._models[reason] += 1
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

    def report(self, hold: float, protected: int, *, dry_run: bool) -> PruneReport:
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
        )
