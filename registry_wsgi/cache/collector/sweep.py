"""Phases 3 to 6: set aside, read again, put back, remove. The only part that changes the store."""

from __future__ import annotations

import itertools
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TypeVar

from ...errors import NoRoomError, RegistryError, StoreError, UntouchableError
from ...stores.base import Blob, Condemned, Deleted, Store
from ..manifest import blob_name, mentioned_blobs
from .census import Census
from .judge import Download, Plan, look_aside, look_for_pulls, look_for_use, youngest
from .limits import Limits
from .old import OldRemoval
from .progress import Progress, counted
from .report import Tally
from .suspects import NOT_ASIDE, Suspects

__all__ = ["Sweep", "foretell"]

_log = logging.getLogger("registry_wsgi")

_T = TypeVar("_T")
_U = TypeVar("_U")


def foretell(store: Store, limits: Limits, census: Census, plan: Plan) -> Tally:
    """Count what a sweep would do."""
    tally = Tally(census.reason)
    look_for_use(store, limits, census.activity)
    earlier = look_aside(store, limits, census)
    young = {blob.name for blob, look in earlier if limits.was_in_use(look, blob.when)}
    if census.settled:
        for entry in census.expired.held:
            tally.expired(entry, census.expired.sizes[entry], census.expired.held[entry])
        for key in census.old.go:
            tally.model("all", key, *census.old.looks[key])
    for suspects in (earlier, plan.doomed):
        for blob, look in suspects:
            if blob.name in young:
                continue
            since = blob.when if blob.id else limits.now
            if not census.settled or limits.must_wait(
                since, census.activity, hidden=store.sets_aside
            ):
                tally.hold(since, blob.name, look)
            else:
                tally.blob(blob.name, look)
    for download in plan.downloads:
        for name, look in download:
            tally.blob(name, look)
    for waiting in plan.waiting:
        tally.hold(*waiting)
    return tally


class Sweep:
    """
    One sweep of a store.

    Args:
        store: Which store.
        limits: The times that it goes by.
        census: What phase 1 has found out.
        progress: Told how far it is.
    """

    def __init__(
        self, store: Store, limits: Limits, census: Census, progress: Progress | None
    ) -> None:
        self.store = store
        self.limits = limits
        self.census = census
        self.references = census.references
        self.activity = census.activity
        self.progress = progress
        self.tally = Tally(census.reason)
        self.changed: float | None = None  # when a blob last came or went that we know of

    def run(self, plan: Plan) -> Tally:
        """Do what *plan* says, except for blobs that are needed by now, and count it."""
        pardons = self.references.take_pardons()
        self.put_back(pardons)
        earlier = look_aside(self.store, self.limits, self.census)
        young = [blob for blob, look in earlier if self.limits.was_in_use(look, blob.when)]
        self.put_back(young)
        plan.keep(self.references.is_needed)
        if self.census.settled:
            removal = OldRemoval(self.store, self.limits, self.census, self.tally)
            for key in removal.run():
                self.tally.model("all", key, *self.census.old.looks[key])
        with self.all_back_if_this_fails(plan.doomed):
            with self.own_change():
                no_room = bool(plan.doomed) and self.condemn(plan.doomed)
            if self.census.expired.only and not no_room:
                self.keep_what_would_free_little(plan.doomed)
            self.forget_expired()
            if not (earlier or plan):
                return self.tally_with(plan)
            self.pause(plan, earlier)
            self.look_for_use()  # a create that found its blob there has dropped its own by now
            self.look_for_pulls()
            self.mark_again()
        self.look_for_pulls()
        self.put_back(self.references.take_pardons())
        self.put_back(
            blob for blob, _ in plan.doomed if blob.id and self.references.is_needed(blob.name)
        )
        self.purge(earlier, plan.doomed)
        self.remove_downloads(plan.downloads)
        if no_room:
            for blob, look in plan.doomed:
                if not blob.id and not self.references.is_needed(blob.name):
                    self.remove_in_place(blob.name, look)
        return self.tally_with(plan)

    def condemn(self, doomed: Suspects) -> bool:
        """Set *doomed* aside, and tell whether there was no room for some."""
        at = 0
        run = NOT_ASIDE
        try:
            set_aside = self.each(
                lambda names: self.store.condemn(names, self.limits.now), doomed.names
            )
            for blob in counted(self.progress, "setting blobs aside", set_aside, len(doomed)):
                if run != (blob.when, blob.id):
                    run = blob.when, blob.id
                at = doomed.names.index(blob.name, at)
                doomed.runs[at] = run
                if self.store.sets_aside:
                    self.references.set_aside.add(blob.name)
        except NoRoomError as error:
            # A full disk must still be freed: the others go right after the second reading.
            _log.warning("blobs are removed without being set aside first: %s", error)
            return True
        return False

    def each(
        self, step: Callable[[Iterator[_T]], Iterator[_U]], blobs: Iterable[_T]
    ) -> Iterator[_U]:
        """Take *step* with *blobs*; after one that cannot be touched, go on with the rest."""
        rest = iter(blobs)
        while True:
            with self.failures_noted():
                yield from step(rest)
                return

    @contextmanager
    def failures_noted(self) -> Iterator[None]:
        """Note in the tally what cannot be touched. It stays as it is, for a later run."""
        try:
            yield
        except UntouchableError as error:
            self.tally.fail(error)

    @contextmanager
    def all_back_if_this_fails(self, doomed: Suspects) -> Iterator[None]:
        """Put all of *doomed* back if the body raises: nobody knows then what is needed."""
        try:
            yield
        except BaseException:
            for blob, _ in doomed:
                if blob.id:
                    with suppress(RegistryError):
                        self.put_back([blob])
            raise

    def keep_what_would_free_little(self, doomed: Suspects) -> None:
        """
        Keep each expired model of whose space not half would come free.

        A blob that could not be set aside stays: it is immutable, say. A model that is forgotten
        for that would be lost for nothing. The rest of the blobs of a kept model stays with it.
        """
        expired = self.census.expired.held
        sizes = {blob_name(blob.name) or "": look.size for blob, look in doomed}
        moved = {blob_name(blob.name) for blob, _ in doomed if blob.id}
        stays = {name for name in sizes.keys() - moved if self.store.blob(name) is not None}
        needed: dict[Deleted, set[str]] = {}
        for entry, held in expired.items() if stays else ():
            sizes.update((name, look.size) for name, look in held.items() if look.links == 1)
            with suppress(StoreError):
                manifest = self.store.read_deleted(entry)
                needed[entry] = mentioned_blobs(manifest.data) if manifest else set()

        def would_free_little(names: set[str]) -> bool:
            stuck = sum(sizes.get(name, 0) for name in names & stays)
            return bool(stuck) and 2 * stuck >= sum(sizes.get(name, 0) for name in names)

        while kept := [entry for entry, names in needed.items() if would_free_little(names)]:
            for entry in kept:  # what one of them has, stays with it, also for the others
                names = needed.pop(entry)
                stays |= names
                self.references.need(names)
                del expired[entry]

    def forget_expired(self) -> None:
        """Remove the expired models, if this run may remove anything."""
        expired = self.census.expired
        held_by = expired.held.items()
        for entry, held in counted(self.progress, "removing deleted models", held_by, len(held_by)):
            with self.failures_noted():  # such a model can still be restored, and keeps its blobs
                if self.census.settled and self.store.forget(entry):
                    self.tally.expired(entry, expired.sizes[entry], held)

    def mark_again(self) -> None:
        """Read what is new or has changed, the trash before the manifests and after them."""
        reader = self.census.reader
        reader.mark_trash()
        settled = reader.settle(patient=self.census.settled, deadline=self.limits.deadline)
        self.census.settled = self.census.settled and settled
        reader.mark_trash()

    def look_for_use(self) -> None:
        """Look whether somebody else has let a blob come or go, recently."""
        self.changed = look_for_use(self.store, self.limits, self.activity, self.changed)

    @contextmanager
    def own_change(self) -> Iterator[None]:
        """Count the change of the blobs in the body as our own, which is no sign of use."""
        self.look_for_use()
        yield
        self.changed = self.store.blobs_changed()

    def note_own_changes(self) -> None:
        """Record for the next run which changes of the blobs were surely ours."""
        self.look_for_use()
        if self.changed is not None:
            self.store.note_own_changes(self.activity.used, self.changed)

    def look_for_pulls(self) -> None:
        """Look whether a pull shows by now."""
        look_for_pulls(self.store, self.limits, self.census)

    def pause(self, plan: Plan, earlier: Suspects) -> None:
        """Give a pull that found a blob in its place before it was taken away time to show."""
        hurries = self.limits.quiet or self.limits.deadline is not None
        at_once = hurries or self.waits(self.limits.now)
        young = plan.doomed or any(self.limits.had_no_pause(blob.when) for blob, _ in earlier)
        if young and self.limits.pause and not at_once:
            if self.progress is not None:
                self.progress("waiting for pulls to show", 0, None)
            time.sleep(self.limits.pause)

    def waits(self, since: float) -> bool:
        """Tell whether what is aside since the moment *since* is left to a later run."""
        deadline = self.limits.deadline
        if deadline is not None and (
            self.limits.had_no_pause(since) or time.monotonic() > deadline
        ):
            return True
        hidden = self.store.sets_aside
        return not self.census.settled or self.limits.must_wait(since, self.activity, hidden=hidden)

    def put_back(self, blobs: Iterable[Condemned]) -> None:
        """Put *blobs* back in their places, and keep them."""
        for blob in blobs:
            self.references.keep(blob.name)
            with self.failures_noted(), self.own_change():
                self.put_one_back(blob)

    def put_one_back(self, blob: Condemned) -> None:
        """Put one blob back, or drop it if it has come again."""
        store = self.store
        if not store.pardon(blob):
            # A pull has written a new copy in its place. If that is at least as large, drop ours.
            ours, theirs = store.condemned_blob(blob), store.blob(blob.name)
            if ours is not None and theirs is not None and theirs.size >= ours.size:
                deque(store.purge([(blob, float("inf"))]), maxlen=0)

    def purge(self, *suspects: Suspects) -> None:
        """Remove what is set aside and still not needed, unless it has to wait."""
        plans: dict[Condemned, Blob] = {}  # how the blobs that the store is removing looked

        def chosen(
            steps: Iterable[tuple[Condemned, Blob]], *, waits: bool
        ) -> Iterator[tuple[Condemned, float]]:
            for blob, plan in steps:
                unneeded = blob.id and not self.references.is_needed(blob.name)
                if unneeded and self.waits(blob.when) == waits:
                    plans[blob] = plan
                    yield blob, plan.written

        steps = counted(
            self.progress,
            "removing blobs",
            itertools.chain(*suspects),
            sum(some.bytes for some in suspects),
            lambda step: step[1].size,
        )
        for blob, gone in self.each(self.store.purge, chosen(steps, waits=False)):
            plan = plans.pop(blob)
            if gone:
                self.tally.blob(blob.name, plan)
            else:
                self.put_back([blob])  # written to since: somebody means to use it
        rest = (blob for blob, _ in chosen(itertools.chain(*suspects), waits=True))
        for blob, look in self.store.look_aside(rest):
            plan = plans.pop(blob)
            if look.written > plan.written:
                self.put_back([blob])
            else:
                self.tally.hold(blob.when, blob.name, plan)

    def remove_downloads(self, downloads: Sequence[Download]) -> None:
        """Remove unfinished downloads."""

        def size(download: Download) -> int:
            return sum(look.size for _, look in download)

        steps = counted(
            self.progress, "removing downloads", downloads, sum(map(size, downloads)), size
        )
        for download in steps:
            self.remove_download(download)

    def remove_download(self, download: Download) -> None:
        """Remove the files of an unfinished download, unless somebody has resumed it."""
        looks = [self.store.blob(name) for name, _ in download]
        if any(
            look is None or look.changed > plan.changed
            for look, (_, plan) in zip(looks, download, strict=True)
        ):
            return
        due = self.limits.due(pull=self.activity.pull)
        if not self.census.settled or youngest(download) > due:
            for name, plan in download:
                self.tally.hold(self.limits.now, name, plan)
            return
        with self.failures_noted():
            for name, plan in download:
                self.remove(name, plan)

    def remove_in_place(self, name: str, plan: Blob) -> None:
        """Remove a blob that there was no room to set aside."""
        look = self.store.blob(name)
        if look is None or look.written > plan.written:
            return
        if self.waits(self.limits.now):
            self.tally.hold(self.limits.now, name, plan)
            return
        with self.failures_noted():
            self.remove(name, plan)

    def remove(self, name: str, plan: Blob) -> None:
        """Remove the blob *name*, which was seen as *plan*, and count it."""
        with self.own_change():
            gone = self.store.remove_blob(name)
        if gone:
            self.tally.blob(name, plan)

    def tally_with(self, plan: Plan) -> Tally:
        """Give the tally, with what this run has not even begun to remove."""
        for waiting in plan.waiting:
            self.tally.hold(*waiting)
        return self.tally
