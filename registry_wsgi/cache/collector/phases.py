"""The phases of a run, in their order. Each takes what the one before gave."""

from __future__ import annotations

import itertools
import logging
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from ...errors import ModelExistsError, NoRoomError, RegistryError, StoreError
from ...names import Name
from ...stores.base import Blob, Condemned, Deleted, Store
from ..manifest import blob_name, mentioned_blobs
from ..patterns import matches
from .limits import Activity, Limits
from .progress import Progress, counted
from .reader import Reader, is_model
from .references import References
from .report import PruneReport, Tally
from .suspects import NOT_ASIDE, Run, Suspects

__all__ = ["collect"]

_log = logging.getLogger("registry_wsgi")


def collect(
    store: Store,
    limits: Limits,
    *,
    every_model: bool = False,
    deleted_only: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> PruneReport:
    """Run once over *store*."""
    expired = store.deleted(limits.cutoff)
    if deleted_only and not expired:
        return PruneReport(dry_run=dry_run)
    census = take_census(store, limits, expired, every_model=every_model, progress=progress)
    doomed = judge(store, limits, census, deleted_only=deleted_only, progress=progress)
    if dry_run:
        tally = foretell(store, limits, census, doomed)
    else:
        tally = Sweep(store, limits, census, progress).run(doomed)
        store.tidy(limits.abandoned_before(deleted_only=deleted_only))
    return tally.report(limits.hold, len(census.old.protected), dry_run=dry_run)


# 1. What is there, and who needs it


@dataclass
class OldModels:
    """With ``all=True``: the models that are old enough to go, each with what it was then."""

    go: dict[str, int] = field(default_factory=dict)
    blobs: set[str] = field(default_factory=set)
    protected: set[str] = field(default_factory=set)

    def protects(self, key: str, patterns: Iterable[str]) -> bool:
        name = Name.from_key(key)
        if any(matches(name, pattern) for pattern in patterns):
            self.protected.add(key)
        return key in self.protected


@dataclass
class Expired:
    """The deleted models that go: each with the blobs that the trash holds for it."""

    held: dict[Deleted, dict[str, Blob]] = field(default_factory=dict)
    blobs: set[str] = field(default_factory=set)


@dataclass
class Census:
    """All that phase 1 has found out."""

    references: References
    reader: Reader
    activity: Activity
    expired: Expired
    old: OldModels

    def reason(self, name: str) -> str:
        canonical = blob_name(name)
        if canonical is None:
            return "partial"
        if canonical in self.expired.blobs:
            return "expired"
        return "all" if canonical in self.old.blobs else "unreferenced"


def take_census(
    store: Store,
    limits: Limits,
    expired: list[Deleted],
    *,
    every_model: bool,
    progress: Progress | None,
) -> Census:
    """
    List, then read. The order is what makes it safe:

    - what is aside, then the blobs: one that is put back in between is seen in its place;
    - the blobs, then the manifests: a manifest that comes later can only save blobs;
    - the trash, the manifests, the trash: a model on its way from one to the other is seen.
    """
    references = References()
    reader = Reader(store, references, progress)
    activity = Activity(in_use=limits.is_recent(store.blobs_changed()))
    references.add_aside(store.condemned())
    references.add_listed(counted(progress, "listing blobs", store.blobs()))
    census = Census(references, reader, activity, look_at_expired(store, expired), OldModels())
    reader.mark_trash(but=expired)
    patterns = list(store.protected()) if every_model else []
    for key, manifest in reader.all():
        old = every_model and manifest.modified <= limits.cutoff and is_model(key)
        if old and not census.old.protects(key, patterns):
            census.old.go[key] = hash(manifest.data)
            census.old.blobs |= mentioned_blobs(manifest.data)
        else:
            reader.mark(key, manifest)
    reader.mark_trash(but=expired)
    return census


def look_at_expired(store: Store, entries: list[Deleted]) -> Expired:
    found = Expired()
    for entry in entries:
        try:
            manifest = store.read_deleted(entry)
        except StoreError as error:
            _log.warning("removed all the same: %s", error)
            manifest = None
        names = mentioned_blobs(manifest.data) if manifest else set()
        found.blobs |= names
        looks = {name: store.blob_in_trash(entry, name) for name in names}
        found.held[entry] = {name: blob for name, blob in looks.items() if blob is not None}
    return found


# 2. What is old enough to be set aside


def judge(
    store: Store, limits: Limits, census: Census, *, deleted_only: bool, progress: Progress | None
) -> Suspects:
    """Look at what nothing needs; that also shows whether a pull is under way."""
    # To delete a model makes and removes links to its blobs, which changes their ctime: of these
    # only a write counts.
    deleted = {blob.content for blobs in census.expired.held.values() for blob in blobs.values()}
    references = census.references
    names = counted(
        progress, "looking at blobs", references.unneeded(), references.count_unneeded()
    )
    doomed = Suspects()
    for name, blob in store.look(names):
        changed = blob.written if blob.content in deleted else blob.changed
        census.activity.pull = census.activity.pull or limits.is_recent(changed)
        if deleted_only and blob_name(name) not in census.expired.blobs:
            continue
        if changed <= limits.cutoff:
            doomed.add(name, NOT_ASIDE, blob)
    return doomed


def look_aside(store: Store, limits: Limits, census: Census) -> Suspects:
    """Look at what earlier runs have left aside and nothing needs."""
    suspects = Suspects()
    shared: dict[Run, Run] = {}
    for blob, look in store.look_aside(census.references.aside()):
        if not store.sets_aside:  # it is in its place, and can still grow
            census.activity.pull = census.activity.pull or limits.is_recent(look.written)
        run = blob.when, blob.id
        suspects.add(blob.name, shared.setdefault(run, run), look)
    return suspects


def foretell(store: Store, limits: Limits, census: Census, doomed: Suspects) -> Tally:
    """Count what a run would do."""
    tally = Tally()
    for blobs in census.expired.held.values():
        tally.model("expired", blobs.values())
    for _ in census.old.go:
        tally.model("all", ())
    earlier = look_aside(store, limits, census)
    hidden = store.sets_aside
    for suspects in (earlier, doomed):
        for blob, look in suspects:
            since = blob.when if blob.id else limits.now
            if blob.id and limits.was_in_use(look, since):
                continue
            if limits.must_wait(since, census.activity, hidden=hidden):
                tally.hold(since, look)
            else:
                tally.blob(census.reason(blob.name), look)
    return tally


# 3. The sweep: set aside, read again, put back, remove


class Sweep:
    """The part of a run that changes the store."""

    def __init__(
        self, store: Store, limits: Limits, census: Census, progress: Progress | None
    ) -> None:
        self.store = store
        self.limits = limits
        self.census = census
        self.references = census.references
        self.activity = census.activity
        self.progress = progress
        self.tally = Tally()

    def run(self, doomed: Suspects) -> Tally:
        self.put_back(self.references.pardons)
        self.references.pardons.clear()
        for key in self.census.old.go:
            if self.remove_old(key):
                self.tally.model("all", ())
        earlier = look_aside(self.store, self.limits, self.census)
        # Once more, as what follows looks like use itself.
        self.activity.in_use |= self.limits.is_recent(self.store.blobs_changed())
        with self.all_back_if_this_fails(doomed):
            no_room = self.condemn(doomed)
            # Expired models go before manifests are read again: then nobody can restore one, and
            # whoever just has is seen.
            self.forget_expired()
            if not (earlier or doomed):
                return self.tally
            # A pull is looked for before and after the second reading. One that ends in between was
            # seen before, or its manifest is read; one that begins in between is seen after.
            self.look_for_pulls()
            self.mark_again()
        self.look_for_pulls()
        self.put_back(self.references.pardons)
        self.put_back(blob for blob, look in earlier if self.is_young(blob, look))
        self.put_back(
            blob for blob, _ in doomed if blob.id and self.references.is_needed(blob.name)
        )
        self.purge(earlier, doomed)
        if no_room:
            for blob, plan in doomed:
                if not blob.id and not self.references.is_needed(blob.name):
                    self.remove_in_place(blob.name, plan)
        return self.tally

    def remove_old(self, key: str) -> bool:
        store, old = self.store, self.census.old
        before = self.census.reader.one(key)
        if before is None or before.modified > self.limits.cutoff:
            return False
        if hash(before.data) != old.go[key] or old.protects(key, store.protected()):
            return False  # it has changed, or is protected, since: the second reading marks it
        try:
            entry = store.discard(key, (), self.limits.now)
        except NoRoomError as error:
            _log.warning("%s: kept for now: %s", key, error)
            return False
        if entry is None:
            return False
        manifest = store.read_deleted(entry)
        if manifest is None or hash(manifest.data) == old.go[key]:
            return store.forget(entry)
        # Another manifest was written in that moment: it goes back, unless a third is there by now.
        with suppress(ModelExistsError):
            store.recover(entry)
        return False

    def condemn(self, doomed: Suspects) -> bool:
        """Set *doomed* aside, and tell whether there was no room for some."""
        at = 0
        run = NOT_ASIDE
        try:
            for blob in counted(
                self.progress,
                "setting blobs aside",
                self.store.condemn(doomed.names, self.limits.now),
                len(doomed),
            ):
                if run != (blob.when, blob.id):
                    run = blob.when, blob.id
                at = doomed.names.index(blob.name, at)
                doomed.runs[at] = run
        except NoRoomError as error:
            # A full disk must still be freed: these go right after the second reading.
            _log.warning("blobs are removed without being set aside first: %s", error)
            return True
        return False

    @contextmanager
    def all_back_if_this_fails(self, doomed: Suspects) -> Iterator[None]:
        try:
            yield
        except BaseException:
            for blob, _ in doomed:
                if blob.id:
                    with suppress(RegistryError):
                        self.put_back([blob])
            raise

    def forget_expired(self) -> None:
        for entry, blobs in self.census.expired.held.items():
            if self.store.forget(entry):
                self.tally.model("expired", blobs.values())

    def mark_again(self) -> None:
        reader = self.census.reader
        reader.mark_trash()
        reader.mark_changed()
        reader.mark_trash()

    def look_for_pulls(self) -> None:
        """Look whether something has come or grown since the blobs were listed."""
        if self.activity.pull or self.limits.quiet:
            return
        for name in self.store.blobs():
            if name not in self.references or name in self.references.files:
                blob = self.store.blob(name)
                if blob is not None and self.limits.is_recent(blob.changed):
                    self.activity.pull = True
                    return

    def is_young(self, blob: Condemned, look: Blob) -> bool:
        needed = self.references.is_needed(blob.name)
        return not needed and self.limits.was_in_use(look, blob.when)

    def waits(self, since: float) -> bool:
        return self.limits.must_wait(since, self.activity, hidden=self.store.sets_aside)

    def put_back(self, blobs: Iterable[Condemned]) -> None:
        store = self.store
        for blob in blobs:
            self.references.keep(blob.name)
            if not store.pardon(blob):
                # A pull has written a new one in its place. If that is as large, ours can go.
                ours, theirs = store.condemned_blob(blob), store.blob(blob.name)
                if ours is not None and theirs is not None and theirs.size >= ours.size:
                    deque(store.purge([(blob, float("inf"))]), maxlen=0)

    def purge(self, *suspects: Suspects) -> None:
        """Remove what is set aside and still not needed, unless it has to wait."""
        plans: dict[Condemned, Blob] = {}  # of those that the store is at

        def chosen(
            steps: Iterable[tuple[Condemned, Blob]], *, waits: bool
        ) -> Iterator[tuple[Condemned, float]]:
            for blob, plan in steps:
                unneeded = blob.id and not self.references.is_needed(blob.name)
                if unneeded and self.waits(blob.when) == waits:
                    plans[blob] = plan
                    yield blob, plan.written

        total = sum(map(len, suspects))
        steps = counted(self.progress, "removing blobs", itertools.chain(*suspects), total)
        for blob, gone in self.store.purge(chosen(steps, waits=False)):
            plan = plans.pop(blob)
            if gone:
                self.tally.blob(self.census.reason(blob.name), plan)
            else:
                self.put_back([blob])  # written to since: somebody means to use it
        rest = (blob for blob, _ in chosen(itertools.chain(*suspects), waits=True))
        for blob, look in self.store.look_aside(rest):
            if look.written > plans.pop(blob).written:
                self.put_back([blob])
            else:
                self.tally.hold(blob.when, look)

    def remove_in_place(self, name: str, plan: Blob) -> None:
        """Remove a blob that there was no room to set aside."""
        look = self.store.blob(name)
        if look is None or look.written > plan.written:
            return
        if self.waits(self.limits.now):
            self.tally.hold(self.limits.now, look)
        elif self.store.remove_blob(name):
            self.tally.blob(self.census.reason(name), plan)
