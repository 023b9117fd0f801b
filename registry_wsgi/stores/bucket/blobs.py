"""
The blobs of a bucket: how they are listed, looked at, set aside, put back and removed.

What is set aside gets a mark (`.marks`). What else is done with it, and how it is removed for good,
depends on the kind of bucket (`.removal`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import BinaryIO

from ...errors import StoreError
from ..base import Blob, Condemned
from ..layout import checked, entry_id, entry_time
from .lookup import Indices, Lookup, name_of
from .marks import Mark, Marks, parse
from .pacing import ChangedError, until_unchanged
from .removal import Aside, EndUpload, MarkAndHide, MarkOnly, Removal
from .requests import Bucket, Content, Meta
from .s3 import S3
from .tombstones import Tombstones, is_tombstone
from .uploads import Uploads, is_upload
from .versions import Versions

__all__ = ["Blobs"]


class Blobs:
    """
    The part of `~registry_wsgi.stores.bucket.ObjectStore` that is about blobs.

    `~registry_wsgi.stores.base.Store` says what its methods do.

    Args:
        bucket: Where they are.
        tombstones: Removes marks.
        indices: Has marks that were read before.
        s3: The bucket, for requests that obstore does not have.

    Attributes:
        uploads: The unfinished uploads of blobs.
        versions: The old versions of the blobs.
        marks: The marks of those that are set aside.
    """

    def __init__(self, bucket: Bucket, tombstones: Tombstones, indices: Indices, s3: S3) -> None:
        self._bucket = bucket
        self._tombstones = tombstones
        self.uploads = Uploads(s3, shown=not bucket.is_one_by_one)
        self._lookup = Lookup(bucket, self.uploads)
        self.versions = Versions(s3)
        self.marks = Marks(bucket, tombstones, indices)
        self._mark_only = MarkOnly(bucket, self._lookup)
        self._mark_and_hide = MarkAndHide(bucket, self.versions)
        self._end_upload = EndUpload(bucket, self.uploads)

    def names(self) -> Iterator[str]:
        # The marks are listed first: a blob that loses its mark meanwhile is left out, and stays.
        aside = {name_of(meta) for meta in self.marks.metas()}
        hides = self.versions.on  # then each blob that is listed is in its place, marked or not
        for meta in self._bucket.objects("blobs"):
            name = name_of(meta)
            if "/" not in name and (hides or name not in aside):
                yield name
        yield from (name for name in self.uploads.names() if name not in aside)

    def look(self, names: Iterable[str]) -> Iterator[tuple[str, Blob]]:
        # Sorted, so that each batch is found in pages of the listing that no other batch needs.
        for some in self._bucket.batches(sorted(names)):
            for name, meta in self._lookup.in_any_case(some).items():
                yield name, _look(meta)

    def open(self, name: str) -> BinaryIO | None:
        meta = self._lookup.in_any_case([name]).get(name)
        return None if meta is None else self._bucket.open(meta.key)

    def remove(self, name: str) -> bool:
        aside = next(self.condemn([name], time.time()), None)
        if aside is None:  # another has marked it
            mark = self.marks.read(name)
            aside = mark.blob if mark else None
        return aside is not None and any(gone for _, gone in self.purge([(aside, math.inf)]))

    # What is set aside

    def condemn(self, names: Iterable[str], when: float) -> Iterator[Condemned]:
        run = entry_id(when)
        moment_of_run = entry_time(run) or when
        for some in self._bucket.batches(names):
            self.versions.ask()  # if the bucket keeps none any more, a delete would be for good
            begun = time.monotonic()
            there = list(self._lookup.many(some).values())
            put = partial(self._put_mark, run)
            fresh = zip(there, self._bucket.at_once(put, there), strict=True)
            done = {name_of(meta) for meta, marked in fresh if marked}
            marked = [name for name in some if name in done]
            failed: StoreError | None = None
            try:
                self._hide(marked, begun)
            except StoreError as error:  # some may be hidden: all are to be put back
                failed = error
            for name in marked:
                yield Condemned(moment_of_run, run, name)
            if failed is not None:
                raise failed

    def _put_mark(self, run: str, meta: Meta) -> bool:
        return self.marks.put(meta, run, hides=self._removal(name_of(meta)).hides)

    def _hide(self, names: Sequence[str], begun: float) -> None:
        """Hide the blobs *names*, which were marked from the moment *begun* on."""
        limit = self._bucket.tuning.marking
        for removal, some in self._by_removal(names):
            if removal.hides and time.monotonic() > begun + limit:
                raise StoreError(
                    f"{self._bucket.name}/condemned/: to mark {len(some)} blobs took more than"
                    f" {limit:g} seconds: they stay in their place"
                )
            removal.hide(some)

    def condemned(self) -> Iterator[Condemned]:
        self.versions.ask()
        marks = list(self.marks.read_all())
        if not self.versions.kept and any(mark.hides for mark in marks):
            raise StoreError(
                f"{self._bucket.name}: has blobs that are hidden as old versions, and these cannot"
                f" be had: {self.versions.refused or 'no versions are kept any more'}"
            )
        return iter(sorted(mark.blob for mark in marks))

    def look_aside(self, blobs: Iterable[Condemned]) -> Iterator[tuple[Condemned, Blob]]:
        for some in self._bucket.batches(blobs):
            for aside in self._found(self.marks.read_those_of(some)):
                yield aside.mark.blob, _look(aside.meta)

    def pardon(self, blob: Condemned) -> bool:
        # An object cannot be made young, and need not: it would get a new mark and a new hold.
        mark = next(iter(self.marks.read_those_of([blob])), None)
        if mark is None:
            return False
        removal = self._removal(blob.name)
        history = removal.histories([blob.name])[blob.name]
        if mark.hides and history.hidden is None:
            # Nothing is hidden: the blob was uploaded anew, or the delete has not happened yet.
            return False
        tombstone = self._tombstones.take(mark.meta)
        if tombstone is None:
            return False
        removal.show([(blob.name, history)])
        self._tombstones.bury(tombstone)
        return blob.name in self._lookup.many([blob.name])

    def purge(self, blobs: Iterable[tuple[Condemned, float]]) -> Iterator[tuple[Condemned, bool]]:
        for some in self._bucket.batches(blobs):
            until = dict(some)
            marks = {mark.blob.name: mark for mark in self.marks.read_those_of([*until])}
            for removal, names in self._by_removal([*marks]):
                yield from self._purge(removal, [marks[name] for name in names], until)

    def _purge(
        self, removal: Removal, marks: list[Mark], until: dict[Condemned, float]
    ) -> Iterator[tuple[Condemned, bool]]:
        def fits(aside: Aside) -> bool:
            return aside.is_unchanged and aside.meta.modified <= until[aside.mark.blob]

        if removal.looks_first:
            # Leave a mark whose delete has not happened yet, and a hidden version that is not the
            # one that was marked.
            found = [*self._found(marks)]
            late = {aside.mark.blob for aside in found if aside.is_hidden and not fits(aside)}
            yield from ((blob, False) for blob in late)
            marks = [aside.mark for aside in found if aside.mark.blob not in late]
        # While the tombstone of its mark is there, nobody marks a blob anew. So one process
        # removes the blob.
        won = self._bucket.at_once(lambda mark: self._tombstones.take(mark.meta), marks)
        taken = [mark for mark, ours in zip(marks, won, strict=True) if ours]
        found = [*self._found(taken)]
        gone = [aside for aside in found if fits(aside)]
        left = [aside for aside in found if not fits(aside)]
        removal.show((aside.name, aside.history) for aside in left)
        changed = removal.remove(gone)
        self._tombstones.bury_many(*(mark.meta.key for mark in taken))
        yield from ((aside.mark.blob, aside.meta.key not in changed) for aside in gone)
        yield from ((aside.mark.blob, False) for aside in left)

    def keep(self, names: Iterable[str], wait: float) -> list[str]:
        gone = []
        end = time.monotonic() + wait
        for name in names:
            key = f"condemned/{checked(name)}"
            until_unchanged(partial(self._unmark, key, end), self._bucket.tuning)
            if name not in self._lookup.in_any_case([name]):
                gone.append(name)
        return gone

    def _unmark(self, key: str, end: float) -> None:
        """
        Take the mark at *key* off the blob that it is on, and show the blob if it is hidden.

        Args:
            key: Where the mark is.
            end: Until when to wait for a run that is just removing the blob (monotonic seconds).

        Raises:
            ChangedError: Another has changed the mark just now.
        """
        meta = self._tombstones.settled(key, end - time.monotonic())
        if meta is None:
            return
        changed = ChangedError(f"{self._bucket.name}/{key}: is changed again and again")
        found = self._bucket.get(key)
        if found is None or found.meta.fingerprint != meta.fingerprint:
            raise changed  # another run has just begun to remove the blob, say
        name = name_of(meta)
        removal = self._removal(name)
        history = removal.histories([name])[name]
        if history.hidden is None:
            if is_tombstone(found.data):
                return  # a process that was killed has left it
            mark = parse(found)
            if mark is not None and mark.hides:
                # The blob may be just about to be hidden: by the mark a prune brings it back.
                return
        tombstone = self._tombstones.take(meta)
        if tombstone is None:
            raise changed
        removal.show([(name, history)])
        self._tombstones.bury(tombstone)

    def finish(self, name: str, found: Content) -> None:
        """Take away the mark or the tombstone *found*, if a killed process has left it."""
        tombstone = self._tombstones.take(found.meta) if self._is_left(name, found) else None
        if tombstone is not None:
            removal = self._removal(name)
            removal.show(removal.histories([name]).items())
            self._tombstones.bury(tombstone)

    def _is_left(self, name: str, found: Content) -> bool:
        """Tell whether the mark or tombstone *found* of the blob *name* has no use any more."""
        if is_tombstone(found.data):
            return not self._tombstones.is_fresh(found.meta)
        mark = parse(found)
        if mark is None or (mark.hides and self._tombstones.is_fresh(mark.meta)):
            return False  # the delete may be about to follow
        removal = self._removal(name)
        return removal.meant(mark, removal.histories([name])[name]) is None

    def _removal(self, name: str) -> Removal:
        """Tell in which way the blob *name* is removed."""
        if is_upload(name):
            return self._end_upload
        return self._mark_and_hide if self.versions.kept else self._mark_only

    def _by_removal(self, names: Sequence[str]) -> Iterator[tuple[Removal, Sequence[str]]]:
        """Divide *names* by the way in which these blobs are removed."""
        uploads = [name for name in names if is_upload(name)]
        blobs = [name for name in names if not is_upload(name)] if uploads else names
        for some in (blobs, uploads):
            if some:
                yield self._removal(some[0]), some

    def _found(self, marks: Sequence[Mark]) -> Iterator[Aside]:
        """Look for what *marks* have set aside."""
        by_name = {mark.blob.name: mark for mark in marks}
        for removal, names in self._by_removal([*by_name]):
            histories = removal.histories(names)
            for name in names:
                mark, history = by_name[name], histories[name]
                meta = removal.meant(mark, history)
                if meta is None:
                    self._tombstones.leftovers.add(mark.meta.key)
                else:
                    yield Aside(mark, meta, history)


def _look(meta: Meta) -> Blob:
    return Blob(meta.size, meta.modified, meta.modified, meta.key)
