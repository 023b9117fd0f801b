"""
The policy: what a delete means, how long it can be undone, and what a prune may remove.

`Cache` is the seam between the middleware and whatever holds models: any object with its two
methods serves. `ModelCache` is the one that ships, over any `registry_wsgi.stores.base.Store`.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from ..durations import Duration, moment, to_seconds
from ..errors import (
    InvalidManifestError,
    InvalidNameError,
    ModelExistsError,
    ModelIncompleteError,
    ModelNotFoundError,
    ModelProtectedError,
    StoreError,
    escape,
)
from ..names import Name
from ..stores.base import Blob, Deleted, Read, Store
from .collector import Limits, Progress, PruneReport, collect
from .manifest import mentioned_blobs, parse_manifest
from .observer import Observer, tell
from .patterns import matches, normalize
from .verifier import Verifier, VerifyReport

__all__ = ["Cache", "DeletedModel", "Model", "ModelCache", "PruneReport", "Usage"]

_log = logging.getLogger("registry_wsgi")


class Cache(Protocol):
    """
    What `registry_wsgi.LocalRegistry` asks of the thing that holds the models.

    Any object with these two methods serves; nothing is to be inherited. Both may be called from
    several threads at once. An exception from either is a 500 to the client and goes to the log.
    """

    def unlink(self, name: str) -> bool:
        """
        Delete the model *name*.

        Args:
            name: The name as the client sent it; its grammar has been checked
                (`registry_wsgi.names.Name.parse` fills in what it leaves out).

        Returns:
            True if this call deleted it, False if there is no such model.

        Raises:
            registry_wsgi.errors.InvalidNameError: The name is none that this cache takes; the
                client is answered 400.
            registry_wsgi.errors.ModelProtectedError: It is not to be deleted; the client is
                answered 403.
        """

    def prune(self) -> object:
        """Remove what is no longer needed. Called after each delete; the result is not used."""


@dataclass(frozen=True, slots=True)
class Model:
    """
    A model in the store.

    Attributes:
        name: Its full name, ``host/namespace/model:tag``.
        size: The bytes of all its blobs, as its manifest has them.
        shared: How many of those bytes other models use too, so that deleting it does not free
            them.
        modified: When its manifest was last changed (UTC).
        protected: Whether it is not to be deleted.
    """

    name: str
    size: int
    shared: int
    modified: datetime
    protected: bool = False

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class DeletedModel:
    """
    A model in the trash.

    Attributes:
        name: Its full name, ``host/namespace/model:tag``.
        size: The bytes of all its blobs, as its manifest has them.
        deleted: When it was deleted (UTC).
        expires: From when on a prune may remove it for good (UTC).
        restorable: Whether its manifest can be read and all its blobs are there.
        missing: The digests of blobs that are gone, ``sha256:<hex>``.
    """

    name: str
    size: int
    deleted: datetime
    expires: datetime
    restorable: bool
    missing: tuple[str, ...]

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Usage:
    """
    The space that some models take together.

    Attributes:
        size: The bytes of all their blobs, each counted once.
        shared: How many of those bytes other models use too, so that deleting these does not free
            them.
    """

    size: int
    shared: int


class ModelCache:
    """
    Models in a store: deleted with a way back, and removed only when nothing needs them.

    Args:
        store: Where the models are.
        retention: How long a deleted model can be restored. 0: a delete is final, and what it
            leaves unreferenced goes with the prune that follows it.
        in_flight: How recent a change among unfinished or unreferenced blobs must be to be taken
            for a pull under way.
        hold: How long at most what is to be removed waits for pulls under way.
        clock: The time in seconds since the epoch.

    Attributes:
        observer: Told of each change (`registry_wsgi.cache.observer.Observer`). None: nobody.

    Durations are `datetime.timedelta`, seconds, or written (``"7d"``).

    Raises:
        InvalidDurationError: One of the durations is none.
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
        self._clock = clock
        self.observer: Observer | None = None

    def __repr__(self) -> str:
        return f"ModelCache({self.store!r})"

    def unlink(self, name: str) -> bool:
        """
        Move the model *name* into the trash.

        On success it is no longer listed, its blobs stay, and `restore` brings it back for as long
        as the retention lasts. On failure it is in its place. What it costs does not depend on how
        many models there are, unless the name differs from the stored one in case.

        Returns:
            True if this call deleted it; of several at once, one gets True. False if there is no
            such model.

        Raises:
            InvalidNameError: *name* is no valid name.
            ModelProtectedError: The model is protected.
            StoreError: The storage failed.
        """
        key = self.store.find(Name.parse(name))
        if key is None:
            return False
        found = Name.from_key(key)
        pattern = self.protected_by(str(found))
        if pattern is not None:
            raise ModelProtectedError(found, pattern)
        # A manifest that cannot be read can still be deleted: that is the way out when one stops
        # the sweep. So every digest that stands in it counts, well-formed or not.
        try:
            manifest = self.store.read(key)
        except StoreError as error:
            _log.warning("deleted all the same: %s", error)
            manifest = None
        blobs = mentioned_blobs(manifest.data) if manifest else ()
        if self.store.discard(key, blobs, self._clock()) is None:
            return False
        tell(self.observer, lambda observer: observer.deleted(str(found)))
        return True

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
        return kept

    def unprotect(self, pattern: str) -> bool:
        """
        Take back what `protect` was told. What other patterns stand for too stays protected.

        Returns:
            False if *pattern* did not protect anything.

        Raises:
            InvalidNameError: *pattern* is neither a valid name nor a pattern of names.
            StoreError: The storage failed.
        """
        return self.store.unprotect(normalize(pattern))

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

    def models(self) -> list[Model]:
        """
        List the models, by name.

        A manifest that cannot be read is left out, with a warning in the log that names it.

        Raises:
            StoreError: The storage failed.
        """
        found = list(self._models())
        users = Counter(blob for _, _, blobs in found for blob in blobs)
        patterns = self.protected()
        return sorted(
            (
                Model(
                    str(name),
                    _total(blobs.values()),
                    _total(size for blob, size in blobs.items() if users[blob] > 1),
                    moment(modified),
                    any(matches(name, pattern) for pattern in patterns),
                )
                for name, modified, blobs in found
            ),
            key=lambda model: model.name,
        )

    def usage(self, names: Iterable[str]) -> Usage:
        """
        Add up the space that the models *names* take together.

        A name that no model has, and a model whose manifest cannot be read, count nothing.

        Raises:
            InvalidNameError: One of *names* is no valid name.
            StoreError: The storage failed.
        """
        wanted = {self.store.find(Name.parse(name)) for name in names}
        ours: dict[str, int | None] = {}
        theirs: set[str] = set()
        for name, _, blobs in self._models():
            if name.key in wanted:
                ours |= blobs
            else:
                theirs.update(blobs)  # not |=: of a dict's keys that makes a new set each time
        shared = _total(size for blob, size in ours.items() if blob in theirs)
        return Usage(_total(ours.values()), shared)

    def deleted(self) -> list[DeletedModel]:
        """
        List the models in the trash, the latest delete first.

        Raises:
            StoreError: The storage failed.
        """
        trash = []
        for entry, name, found in self._trash():
            blobs: dict[str, int | None] | None = {}
            try:
                blobs = _deleted_blobs(entry, found)
                readable = True
            except InvalidManifestError as error:
                _log.warning("%s", error)
                readable = False
            if blobs is not None:
                trash.append((entry, name, blobs, readable))
        looks = dict(self.store.look({blob for _, _, blobs, _ in trash for blob in blobs}))
        models = []
        for entry, name, blobs, readable in trash:
            _, missing = self._missing(entry, blobs, looks)
            models.append(
                DeletedModel(
                    str(name),
                    _total(blobs.values()),
                    moment(entry.when),
                    moment(entry.when + self.retention),
                    readable and not missing,
                    missing,
                )
            )
        return models

    def restore(self, name: str) -> str:
        """
        Bring a deleted model back: the latest of that name, if it was deleted more than once.

        On success it is listed again, with all its blobs, and no longer in the trash. On failure
        nothing has changed, but for blobs that may be back in their place.

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
        wanted = Name.parse(name)
        unreadable = None
        for entry in reversed(self.store.deleted()):
            found = _name(entry)
            if found is None or found.key.lower() != wanted.key.lower():
                continue
            try:
                blobs = _deleted_blobs(entry, self.store.read_deleted(entry))
            except InvalidManifestError as error:
                unreadable = error
                continue
            if blobs is not None and self._restore(entry, found, blobs):
                return str(found)
        raise unreadable or ModelNotFoundError(f"{wanted}: no deleted model has this name")

    def _restore(self, entry: Deleted, name: Name, blobs: dict[str, int | None]) -> bool:
        place = self.store.find(name)
        if place is not None and place != entry.key:  # the same name in another case
            raise ModelExistsError(Name.from_key(place))
        held, missing = self._missing(entry, blobs, dict(self.store.look(blobs)))
        if missing:
            raise ModelIncompleteError(name, missing)
        if place is None and not all(self.store.recover_blob(entry, blob) for blob in held):
            return False  # it has just been restored, or removed for good, by another
        # The manifest comes last: whoever sees the model finds it whole.
        if not self.store.recover(entry):
            return False
        tell(self.observer, lambda observer: observer.restored(str(name)))
        return True

    def prune(
        self,
        *,
        age: Duration | None = None,
        all: bool = False,  # noqa: A002 - the name is that of the promised option
        dry_run: bool = False,
        deleted_only: bool = False,
        progress: Progress | None = None,
    ) -> PruneReport:
        """
        Remove for good what was deleted, or is needed by nothing, for longer than the age.

        On success no model that is listed, and none that can be restored, lacks a blob for it. On
        failure what was set aside so far is put back; if that fails too, or the process is killed,
        the next run does it. Any number of runs may be under way at once.

        Args:
            age: How long ago; None: the retention. 0: all that is deleted or not needed, at once,
                as if no pull were under way.
            all: Also models whose manifest is older than *age*, unless they are protected. Their
                blobs stay for as long as a model that stays uses them.
            dry_run: Touch nothing, and report what would go.
            deleted_only: Leave out what is needed by nothing but was not deleted. When nothing has
                expired this only lists the trash, however large the store is. The middleware
                prunes so after a delete.
            progress: Called with what is being done, how much is done, and how much there is (or
                None) every thousand steps.

        Raises:
            InvalidDurationError: *age* is none.
            InvalidManifestError: A manifest cannot be read, so nobody knows which blobs it needs.
                The message names it. Nothing is removed.
            StoreError: The storage failed.
        """
        limits = Limits(
            self._clock(),
            self.retention if age is None else to_seconds(age),
            self.in_flight,
            self.hold,
        )
        begun = time.monotonic()
        report = collect(
            self.store,
            limits,
            every_model=all,
            deleted_only=deleted_only,
            dry_run=dry_run,
            progress=progress,
        )
        if not dry_run:
            seconds = time.monotonic() - begun
            tell(
                self.observer,
                lambda observer: observer.pruned(report, seconds, deleted_only=deleted_only),
            )
        return report

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
        return Verifier(
            self.store, wanted, deep=deep, repair=repair, threads=threads, progress=progress
        ).run()

    def _models(self) -> Iterator[tuple[Name, float, dict[str, int | None]]]:
        for key, found in self.store.read_all():
            try:
                name = Name.from_key(key)
                if isinstance(found, StoreError):
                    raise found
                if found is not None:
                    yield name, found.modified, parse_manifest(found.data)
            except (InvalidNameError, StoreError) as error:
                _log.warning("manifests/%s: %s", escape(key), error)

    def _trash(self) -> list[tuple[Deleted, Name, Read]]:
        """Read the manifests in the trash, the latest first."""
        found = dict(self.store.read_all_deleted())
        entries = ((entry, _name(entry)) for entry in sorted(found, reverse=True))
        return [(entry, name, found[entry]) for entry, name in entries if name]

    def _missing(
        self, entry: Deleted, blobs: dict[str, int | None], looks: Mapping[str, Blob]
    ) -> tuple[list[str], tuple[str, ...]]:
        """Tell which blobs only the trash still has, and the digests of those that are gone."""
        held, missing = [], []
        for name, size in blobs.items():
            if _is_whole(looks.get(name), size):
                continue
            if _is_whole(self.store.blob_in_trash(entry, name), size):
                held.append(name)
            else:
                missing.append(name.replace("-", ":"))
        return held, tuple(missing)


def _name(entry: Deleted) -> Name | None:
    try:
        return Name.from_key(entry.key)
    except InvalidNameError:
        return None


def _deleted_blobs(entry: Deleted, found: Read) -> dict[str, int | None] | None:
    try:
        if isinstance(found, StoreError):
            raise found
        return None if found is None else parse_manifest(found.data)
    except InvalidManifestError as error:
        raise InvalidManifestError(f"{entry.id}/{entry.key}: {error}") from error


def _is_whole(blob: Blob | None, size: int | None) -> bool:
    return blob is not None and size in (None, blob.size)


def _total(sizes: Iterable[int | None]) -> int:
    return sum(size or 0 for size in sizes)
