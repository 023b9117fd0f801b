"""The policy: what a delete means, how long it can be undone, and what a prune may remove."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from datetime import datetime, timedelta
from functools import partial
from operator import methodcaller

from ..durations import Duration, moment, to_seconds
from ..errors import (
    BusyError,
    InvalidNameError,
    ModelNotFoundError,
    ModelProtectedError,
    OutOfReachError,
    RegistryError,
    StoreError,
)
from ..names import Name
from ..sizes import Size
from ..stores.base import Deleted, Store
from .collector import (
    PAUSE,
    Limits,
    OutOfTimeError,
    Progress,
    PruneReport,
    collect,
    look_for_hold,
)
from .evict import Eviction, EvictReport
from .evict_plan import Quota
from .history import Change, add_deleters, is_prune_noted, note_change, read_history
from .listing import list_models, total, usage
from .manifest import mentioned_sizes
from .observer import Observer, tell
from .patterns import is_pattern, matches, normalize
from .protocol import follows_delete
from .reading import name_of
from .results import DeletedModel, Model, Usage
from .space import Orphan, Space, hold_back, list_orphans, measure
from .trash import entries_of, list_deleted, restore
from .under_way import Work, read_work, shown
from .verifier import Verifier, VerifyReport

__all__ = ["ModelCache"]

_log = logging.getLogger("registry_wsgi")

# How far our clock must be behind the time of a manifest to be taken for wrong, in seconds. The
# clocks of two machines that write in one store differ by less.
_FAR_BEHIND = 3_600

# How long the prune after a delete reads, in seconds: a client waits for it.
_AFTER_DELETE = 0.5

# How many models it removes at most.
_MOST_AFTER_DELETE = 100


class ModelCache:
    """
    Models in a store: deleted with a way back, and removed only when nothing needs them.

    Args:
        store: Where the models are.
        retention: How long a model that this cache deletes can be restored. It is kept with each
            deleted model, so that a cache with another retention heeds it. 0: a delete is final,
            and what it leaves unreferenced goes with a prune that follows it.
        in_flight: How recent a change among unfinished or unreferenced blobs must be to be taken
            for a pull under way.
        hold: How long at most what is to be removed waits for pulls under way.
        clock: The time in seconds since the epoch.

    Attributes:
        pause: How long a prune of a store at rest waits between its two phases, in seconds, so that
            a pull which has just looked at a blob shows. At first 2, and 0 with a *clock* of the
            caller's, which does not go on meanwhile.
        after_delete: How long the prune after a delete (`prune_deleted`) may take to find out what
            is needed, in seconds. At first 0.5, and infinite with a *clock* of the caller's.
        observer: Told of each change (`registry_wsgi.cache.observer.Observer`). None: nobody.
        recording: Whether changes are noted in the history of the store, and removals show to other
            processes (`under_way`). At first they are.

    Durations are `datetime.timedelta`, seconds, or written (``"7d"``).

    Raises:
        InvalidDurationError: One of the durations is invalid.
    """

    def __init__(
        self,
        store: Store,
        *,
        retention: Duration = timedelta(days=7),
        in_flight: Duration = timedelta(hours=1),
        hold: Duration = timedelta(days=1),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.store = store
        self.retention = to_seconds(retention)
        self.in_flight = to_seconds(in_flight)
        self.hold = to_seconds(hold)
        self.pause = PAUSE if clock is time.time else 0.0
        self.after_delete = _AFTER_DELETE if clock is time.time else math.inf
        self._clock = clock
        self.observer: Observer | None = None
        self.recording = True

    def __repr__(self) -> str:
        return f"ModelCache({self.store!r})"

    def unlink(self, name: str) -> bool:
        """
        Move the model *name* into the trash.

        On success it is no longer listed, its blobs stay, and `restore` brings it back for as long
        as the retention lasts. On failure it is in its place. What it costs does not depend on how
        many models there are, unless the name differs from the stored one in case.

        Args:
            name: Its name; or, of a model that `models` lists under the path of its manifest
                because that makes no valid name, this path.

        Returns:
            True if this call deleted it; of several at once, one gets True. False if there is no
            such model.

        Raises:
            InvalidNameError: *name* is no valid name.
            ModelProtectedError: The model is protected.
            StoreError: The storage failed.
        """
        return self._discard(name) is not None

    def _discard(self, name: str, action: str = "delete") -> Deleted | None:
        """Move the model *name* into the trash, as `unlink`, and give its entry there."""
        key = self._find(name)
        if key is None:
            return None
        found = name_of(key)
        patterns = self.protected()
        pattern = next((one for one in patterns if found and matches(found, one)), None)
        pattern = pattern or self._protected_by_link(key, patterns)
        if pattern is not None:
            raise ModelProtectedError(found or key, pattern)
        # A manifest that cannot be read stops each prune, and to delete it is the way out. So any
        # manifest can be deleted, and each digest in it counts, be it well-formed or not.
        try:
            manifest = self.store.read(key)
        except StoreError as error:
            _log.warning("deleted all the same: %s", error)
            manifest = None
        blobs = mentioned_sizes(manifest.data) if manifest else {}
        when = self._clock()
        if manifest is not None and manifest.written > when + _FAR_BEHIND:
            # The manifest seems to be written in the future, so our clock is wrong. By that clock
            # the retention would be over as soon as the clock is put right.
            when = manifest.written
        entry = self.store.discard(key, blobs, when, self.retention)
        if entry is not None:
            self._note(action, str(found or key), size=total(blobs.values()), entry=entry.id)
            tell(self.observer, lambda observer: observer.deleted(str(found or key)))
        return entry

    def protect(self, pattern: str) -> str:
        """
        Let no model that *pattern* stands for be deleted: a name or a pattern.

        On success `unlink` refuses and ``prune(all=True)`` passes over them, in every process that
        uses the store, whether they are there already or come later. A delete that is under way
        may still succeed. What is in the trash is not protected from a prune.

        Returns:
            The pattern as it is kept: in lower case, a name with its tag.

        Raises:
            InvalidNameError: *pattern* is neither a valid name nor a pattern of names.
            StoreError: The storage failed.
        """
        kept = normalize(pattern)
        self.store.protect(kept)
        self._note("protect", kept, models=0)
        return kept

    def unprotect(self, pattern: str) -> bool:
        """
        Take back a `protect` of *pattern*. A model that another pattern stands for stays protected.

        Returns:
            False if *pattern* did not protect anything.

        Raises:
            InvalidNameError: *pattern* is neither a valid name nor a pattern of names.
            StoreError: The storage failed.
        """
        kept = normalize(pattern)
        if not self.store.unprotect(kept):
            return False
        self._note("unprotect", kept, models=0)
        return True

    def protected(self) -> list[str]:
        """
        List the patterns of the models that are protected.

        Raises:
            StoreError: The storage failed.
        """
        return sorted(self.store.protected())

    def protected_by(self, name: str) -> str | None:
        """
        Find the pattern that protects the model *name*, be there such a model or not.

        Raises:
            InvalidNameError: *name* is no valid name.
            StoreError: The storage failed.
        """
        parsed = Name.parse(name)
        return next((pattern for pattern in self.protected() if matches(parsed, pattern)), None)

    def find(self, name: str) -> str | None:
        """
        Look up a model, also one that `models` does not list because its manifest is damaged.

        Args:
            name: As for `unlink`.

        Returns:
            Its full name as the store has it, or the path of its manifest if that makes no valid
            name. None if there is no such model.

        Raises:
            InvalidNameError: *name* is no valid name.
            StoreError: The storage failed.
        """
        key = self._find(name)
        return None if key is None else str(name_of(key) or key)

    def models(self) -> list[Model]:
        """
        List the models, by name.

        A manifest that cannot be read is left out, with a warning in the log that names it.

        Raises:
            StoreError: The storage failed.
        """
        return list_models(self.store, self.protected())

    def usage(self, names: Iterable[str]) -> Usage:
        """
        Add up the space that the models *names* take together.

        A name that no model has, and a model whose manifest cannot be read, count nothing.

        Raises:
            InvalidNameError: One of *names* is no valid name.
            StoreError: The storage failed.
        """
        return usage(self.store, {self._find(name) for name in names})

    def space(self) -> Space:
        """
        Measure what takes the space of the store, and what each command would free.

        Each content counts once, in the blocks of the disk that it takes. Of a bucket only the
        blobs are known, and no disk. While a manifest cannot be read or be reached, no command
        frees anything, and the result says why. What a prune would only set aside, as a download
        shows, under way or of late, is free later.

        Raises:
            StoreError: The storage failed.
        """
        space = measure(self.store, self.retention, self._clock())
        if not (space.frees["prune"].now or space.frees["forget *"].now):
            return space
        held = self._look_for_hold(None)
        return space if held is None else hold_back(space, *held)

    def orphans(self) -> list[Orphan]:
        """
        List the files that nothing needs, the largest first.

        Raises:
            OutOfReachError: A part of the manifests is out of reach, so that nobody knows what is
                needed; as for `prune`, but however young the blobs are.
            StoreError: The storage failed.
        """
        return list_orphans(self.store, self.retention)

    def deleted(self) -> list[DeletedModel]:
        """
        List the models in the trash, the latest delete first.

        One whose manifest cannot be read is listed as not restorable, with a warning in the log
        that names it. Who deleted a model is known for as long as the history has that.

        Raises:
            StoreError: The storage failed.
        """
        models = list_deleted(self.store, self.retention)
        return add_deleters(self.store, models) if models else models

    def restore(self, name: str, *, at: datetime | str | None = None) -> str:
        """
        Bring a deleted model back.

        On success it is listed again, with all its blobs, and no longer in the trash. On failure
        nothing has changed, but for blobs that may be back in their place.

        Args:
            name: Its name.
            at: Which delete of that name: when it was (as the ``deleted`` of a
                `~registry_wsgi.cache.results.DeletedModel` says) or its id. None: the latest that
                is whole.

        Returns:
            Its full name, as it was deleted.

        Raises:
            InvalidNameError: *name* is no valid name.
            ModelNotFoundError: No deleted model has that name.
            ModelExistsError: A model of that name is in place.
            ModelIncompleteError: Some of its blobs are gone; the error has their digests.
            InvalidManifestError: Its manifest cannot be read.
            StoreError: The storage failed.
        """
        (restored,) = self.restore_each([(name, at)])
        if isinstance(restored, RegistryError):
            raise restored
        return restored

    def restore_each(
        self, wanted: Iterable[tuple[str, datetime | str | None]]
    ) -> Iterator[str | RegistryError]:
        """
        Bring several deleted models back, one after the other: `restore`, listing the trash once.

        Args:
            wanted: The names, each with which delete of it; None: the latest that is whole.

        Returns:
            For each, when it is done: the full name, or the error that `restore` raises. If the
            trash cannot be listed, each gets that error.
        """
        for restored in restore(self.store, wanted):
            if isinstance(restored, str):
                self._note("restore", restored)
                tell(self.observer, methodcaller("restored", restored))
            yield restored

    def prune(
        self,
        *,
        age: Duration | None = None,
        all: bool = False,  # noqa: A002 - the name is that of the promised option
        before: datetime | None = None,
        dry_run: bool = False,
        deleted_only: bool | None = None,
        quiet_store: bool = False,
        progress: Progress | None = None,
    ) -> PruneReport:
        """
        Remove for good what was deleted, or is needed by nothing, for longer than the age.

        On success no model that is listed, and none that can be restored, lacks a blob for it. On
        failure what was set aside so far is put back; if that fails too, or the process is killed,
        the next run does it. Any number of runs may be under way at once.

        Args:
            age: How long ago; None: the retention, and for a deleted model that of the cache which
                has deleted it. 0: all that is deleted or not needed, at once, as if no pull were
                under way.
            all: Also models whose manifest is older than *age*, unless they are protected. Their
                blobs stay for as long as a model that stays uses them.
            before: What was deleted, or has come, after this moment stays, whatever its age: when a
                dry run has ``begun``, say. What was not old enough at this moment, or had not
                expired, stays, too. A time without an offset is local.
            dry_run: Touch nothing, and report what would go.
            deleted_only: Leave out what is needed by nothing but was not deleted. When nothing has
                expired this only lists the trash, however large the store is. None: no, unless the
                middleware has just deleted a model, and no other argument is given: then this call
                is one of `prune_deleted`.
            quiet_store: Whether nobody else is at work: no download, no ``ollama create``, no copy.
                Then nothing waits for pulls. An *age* of 0 implies it.
            progress: Called with what is being done, how much is done, and how much there is (or
                None), some five times a second and for each hundredth part. Where files are
                removed these are bytes.

        Raises:
            InvalidDurationError: *age* is invalid.
            InvalidManifestError: A manifest cannot be read, so nobody knows which blobs it needs.
                The message names it. Nothing is removed.
            StoreError: The storage failed.
        """
        if deleted_only is None:
            if follows_delete() and age is None and before is None and not all and not dry_run:
                return self.prune_deleted()
            deleted_only = False
        seconds = self.retention if age is None else to_seconds(age)
        limits = Limits(
            self._clock(),
            seconds,
            self.in_flight,
            self.hold,
            quiet=quiet_store or (age is not None and seconds == 0),
            keep=self.retention if age is None else None,
            pause=self.pause,
            before=math.inf if before is None else before.timestamp(),
        )
        return self._collect(
            limits, every_model=all, deleted_only=deleted_only, dry_run=dry_run, progress=progress
        )

    def forget(
        self,
        *names: str,
        at: datetime | str | None = None,
        since: datetime | None = None,
        quiet_store: bool = False,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> PruneReport:
        """
        Remove deleted models for good, and free the space that they alone took.

        On success they cannot be restored any more, and every other model is as it was. If a pull
        under way may use a blob of theirs, they stay in the trash, and the report counts the blob
        as held. Where the store was in use of late, but no pull shows, the blobs are set aside for
        a later prune. On failure a model is in the trash, or its blobs are left to a later prune.

        Args:
            names: Their names. Each stands for all deletes of that name.
            at: Which delete: when it was or its id, as for `restore`. None: all.
            since: Only deletes at this time or later.
            quiet_store: Whether nobody else is at work: then nothing waits for pulls.
            dry_run: Touch nothing, and report what would go.
            progress: As for `prune`.

        Raises:
            InvalidNameError: One of *names* is no valid name.
            ModelNotFoundError: No deleted model has one of *names*; nothing has changed.
            InvalidManifestError: As for `prune`.
            StoreError: The storage failed.
        """
        entries = entries_of(self.store, names, at, since)
        return self._forget(entries, quiet_store=quiet_store, dry_run=dry_run, progress=progress)

    def foretell_removal(self, names: Iterable[str]) -> PruneReport:
        """
        Report what it would free to delete the models *names*, and to `forget` them at once.

        Nothing is touched. The report is that of a dry run of `forget`: if a pull under way may use
        a blob of theirs, no model goes, and the blob counts as held. A name that no model has
        counts nothing.

        Raises:
            InvalidNameError: One of *names* is no valid name.
            InvalidManifestError: As for `prune`.
            StoreError: The storage failed.
        """
        keys = {key for key in map(self._find, names) if key is not None}
        limits = Limits(self._clock(), 0, self.in_flight, self.hold)
        return collect(self.store, limits, only=[], as_deleted=keys, dry_run=True)

    def evict(
        self,
        *,
        max_used: Size | None = None,
        min_free: Size | None = None,
        unused: Duration | None = None,
        recent: Duration = timedelta(days=1),
        room: Size = 0,
        within: EvictReport | None = None,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> EvictReport:
        """
        Let models go that were not read for long, so that limits are kept.

        They go into the trash, the least recently read first. For good goes only as much as
        *max_used* or *min_free* want: first what a prune removes anyhow, then what is in the trash,
        the oldest first. While a pull shows, or may have begun as the store was in use of late,
        nothing goes for good that a ``forget`` or a prune would only set aside: only *unused* lets
        models go then, into the trash, and the report says why.

        A model stays that is protected, that a process has open, that may have been read or has
        come within *recent*, or of which nobody can tell when it was last read: where the file
        system keeps no times of access, and in a bucket. So do others with the same weights. All of
        this is looked at once more just before a model goes.

        On failure each model is in its place, or in the trash, or gone for good as it was to go.

        Args:
            max_used: How many bytes the store may take, with its trash. Content that has another
                name outside of the store, as a backup by hard links, does not count: to let it go
                frees nothing.
            min_free: How many bytes of the disk are to be free. If others fill the disk so that no
                eviction can free as much, no model goes for it.
            unused: Models that were not read for longer go, whatever room there is.
            recent: What may have been read within this time stays.
            room: How many bytes of *max_used* the models leave to the trash and to the next pull.
            within: Only what this report of a dry run has goes, too, and nothing for good that was
                to go into the trash. So nothing goes beyond what somebody was shown.
            dry_run: Touch nothing, and report what would go.
            progress: As for `prune`.

        Sizes are numbers of bytes, or written (``"200GB"``).

        Returns:
            What went, what stays and why, and whether the limits are kept. A limit that only what
            must stay exceeds is not kept.

        Raises:
            BusyError: Another one has the store (`claim`), to evict or to prune. Two at once would
                each look like a user of the models to the other.
            ConfigurationError: There is no limit; or there is *min_free*, and no disk; or *room*,
                and no *max_used* that is as large.
            InvalidDurationError: One of the durations is invalid.
            InvalidSizeError: One of the sizes is invalid.
            InvalidManifestError: As for `prune`.
            StoreError: The storage failed.
        """
        quota = Quota.of(
            max_used=max_used, min_free=min_free, unused=unused, recent=recent, room=room
        )
        before = None if within is None else within.begun
        eviction = Eviction(
            self.store,
            quota,
            self.retention,
            self._clock,
            discard=partial(self._discard, action="evict"),
            forget=partial(self._forget, progress=progress),
            prune=partial(self.prune, before=before, progress=progress),
            why_held=partial(self._why_held, progress),
            within=within,
        )
        if dry_run:
            return eviction.plan()
        release = self.claim()
        if release is None:
            raise BusyError("a prune or an eviction is under way")
        try:
            return eviction.run()
        finally:
            release()

    def _why_held(self, progress: Progress | None) -> str | None:
        """Say why what is removed now would only be set aside; None if it would be free."""
        held = self._look_for_hold(progress)
        return None if held is None else held[0]

    def _look_for_hold(self, progress: Progress | None) -> tuple[str, float] | None:
        """Say why what is removed now would only be set aside, and until when at the latest."""
        limits = Limits(self._clock(), 0, self.in_flight, self.hold, pause=self.pause)
        activity = look_for_hold(self.store, limits, progress)
        if activity is None:
            return None
        if activity.pull:
            return "a download is under way, and may use what would go", limits.time + self.hold
        until = activity.used + self.in_flight
        why = "the store was in use of late: what would go is held until"
        return f"{why} {moment(until):%Y-%m-%d %H:%M:%S} UTC", until

    def _forget(
        self,
        entries: list[Deleted],
        *,
        quiet_store: bool = False,
        dry_run: bool,
        progress: Progress | None,
    ) -> PruneReport:
        now = self._clock()
        # Another machine, whose clock is ahead, may have dated a delete in the future: it goes too.
        age = min([0.0, *(now - entry.when for entry in entries)])
        limits = Limits(now, age, self.in_flight, self.hold, quiet=quiet_store, pause=self.pause)
        return self._collect(limits, only=entries, dry_run=dry_run, progress=progress)

    def _collect(
        self,
        limits: Limits,
        *,
        every_model: bool = False,
        deleted_only: bool = False,
        only: list[Deleted] | None = None,
        dry_run: bool,
        progress: Progress | None,
    ) -> PruneReport:
        begun = time.monotonic()
        showing = (
            nullcontext(progress) if dry_run or not self.recording else shown(self.store, progress)
        )
        with showing as hook:
            report = collect(
                self.store,
                limits,
                every_model=every_model,
                deleted_only=deleted_only,
                only=only,
                dry_run=dry_run,
                progress=hook,
            )
        if not dry_run:
            seconds = time.monotonic() - begun
            trash_only = deleted_only or only is not None
            removed = report.models or report.blobs
            if removed or not (trash_only or self._is_prune_noted()):
                action = "forget" if only is not None else "expire" if deleted_only else "prune"
                names = [item.model for item in report.items if item.model]
                self._note(action, *names, models=report.models, size=report.bytes)
            tell(
                self.observer,
                lambda observer: observer.pruned(report, seconds, deleted_only=trash_only),
            )
        return report

    def claim(self) -> Callable[[], None] | None:
        """
        Be the only one to do a long piece of work (`registry_wsgi.stores.base.Store.claim`).

        Only `evict` heeds it. It is there so that of two who want to prune one can be told to wait.

        Returns:
            What gives the claim back, from any thread. None if another has it now.

        Raises:
            StoreError: The storage failed.
        """
        return self.store.claim()

    def prune_deleted(self) -> PruneReport:
        """
        Remove what has expired in the trash, after a delete, while the client waits.

        It does what `prune` does with *deleted_only*, and is bounded in time. It removes at most a
        hundred models. It gives up, and removes nothing, when it takes longer than *after_delete*
        to find out what is needed: the log says so, and a `prune` has to do it. And it never
        pauses. In a store at rest it only sets aside what the expired models alone needed, so that
        the next prune, or the next delete that is later by the *pause*, frees the space.

        Where part of the manifests is out of reach, nothing is removed, and the log says so. The
        delete stands; the next `prune` raises.

        Raises:
            InvalidManifestError: As for `prune`.
            StoreError: The storage failed.
        """
        limits = Limits(
            self._clock(),
            self.retention,
            self.in_flight,
            self.hold,
            keep=self.retention,
            pause=self.pause,
            deadline=time.monotonic() + self.after_delete,
            most=_MOST_AFTER_DELETE,
        )
        try:
            return self._collect(limits, deleted_only=True, dry_run=False, progress=None)
        except OutOfReachError as error:
            _log.warning("nothing is removed after a delete: %s", error)
        except OutOfTimeError:
            _log.warning(
                "what has expired in the trash is left to the next prune: to find out what is"
                " needed takes longer than the %s seconds that a delete may wait",
                self.after_delete,
            )
        return PruneReport()

    def verify(
        self,
        names: Iterable[str] | None = None,
        *,
        deep: bool = False,
        repair: bool = False,
        threads: int | None = None,
        progress: Progress | None = None,
    ) -> VerifyReport:
        """
        Check that models are whole: every blob there, of the size that the manifest says.

        Nothing is changed, unless *repair* is given: then what is missing or too short, and which
        the trash or an unfinished prune still has, is put back.

        Args:
            names: Which models; None: all.
            deep: Also read every blob and compare its SHA-256 with its name.
            repair: Put back what can be.
            threads: How many blobs to read at once; None: one for each processor, up to 8.
            progress: Called with what is being done, how much is done (bytes in a deep check), and
                how much there is (or None).

        Raises:
            InvalidNameError: One of *names* is no valid name.
            ModelNotFoundError: There is no model of one of *names*.
            StoreError: The storage failed.
        """
        wanted = None
        if names is not None:
            wanted = set()
            for name in map(Name.parse, names):
                key = self.store.find(name)
                if key is None:
                    raise ModelNotFoundError(f"{name}: there is no model of this name")
                wanted.add(Name.from_key(key))
        report = Verifier(
            self.store, wanted, deep=deep, repair=repair, threads=threads, progress=progress
        ).run()
        repaired = [problem.models for problem in report.problems if problem.repaired]
        if repaired:
            names = dict.fromkeys(name for models in repaired for name in models)
            self._note("repair", *names, models=len(names))
        return report

    def history(self) -> list[Change]:
        """
        List the last changes of the store, by whatever process, the latest first.

        The store keeps several hundred at least, on a disk in two files of at most 128 KiB each.
        Who made them is known of those over HTTP (``REMOTE_USER`` and the address), on the command
        line, and within `registry_wsgi.cache.history.acting`. A change that could not be noted, as
        the disk was full, say, is not there. A store without a history has none.
        Of prunes that removed nothing one is noted in half a day.

        Raises:
            StoreError: The storage failed.
        """
        return read_history(self.store)

    def under_way(self) -> Work | None:
        """
        Tell which removal of the store is under way, and how far it is, by whatever process.

        It shows once it has taken a second, on a disk. Of several at once the first one shows.

        Returns:
            None if there is none, it does not show, or the storage does not tell.
        """
        return read_work(self.store)

    def _note(
        self, action: str, *names: str, models: int = 1, size: int = 0, entry: str | None = None
    ) -> None:
        if self.recording:
            note_change(
                self.store, self._clock(), action, names, models=models, size=size, entry=entry
            )

    def _is_prune_noted(self) -> bool:
        return self.recording and is_prune_noted(self.store, self._clock())

    def _protected_by_link(self, key: str, patterns: Iterable[str]) -> str | None:
        """Find the name among *patterns* that is a link to the manifest at *key*."""
        here = None
        for pattern in patterns:
            if is_pattern(pattern):
                continue  # it would take a listing of all names to follow their links
            other = self.store.find(Name.parse(pattern))
            if other is not None and other != key:
                here = here or self.store.resolve(key, tag=False)
                if self.store.resolve(other) == here:
                    return pattern
        return None

    def _find(self, name: str) -> str | None:
        try:
            return self.store.find(Name.parse(name))
        except InvalidNameError:
            # Perhaps *name* is the path of a manifest that makes no valid name.
            if name.count("/") != 3 or name_of(name) is not None:
                raise
            there = any(key == name for key, _ in self.store.versions())
            if not there:
                raise
            return name
