"""
The blobs of a bucket: how they are looked at, set aside, put back and removed.

A blob that is set aside stays where it is, and has a marker that says which blob is meant. Where a
bucket of S3 keeps old versions, a delete comes right after, which hides it.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO

from ...errors import StoreError, quote
from ..base import Blob, Condemned
from ..layout import checked, entry_id, entry_time
from .index import Indices
from .requests import Bucket, Content, Meta
from .retry import ChangedError, retry
from .s3 import S3
from .tombstones import Tombstones, is_tombstone
from .uploads import Uploads, is_upload
from .versions import History, Versions

__all__ = ["Blobs"]

_log = logging.getLogger("registry_wsgi")


@dataclass(frozen=True, slots=True)
class _Marker:
    """What the marker of a blob says, and the object it is."""

    blob: Condemned
    means: tuple[Any, ...]  # its fingerprint
    hides: bool  # whether a delete was to follow
    meta: Meta


@dataclass(frozen=True, slots=True)
class _Aside:
    """A blob that is set aside, with what else there is of it."""

    marker: _Marker
    meta: Meta
    history: History

    @property
    def is_hidden(self) -> bool:
        return self.meta != self.history.current


class Blobs:
    """
    The part of `~registry_wsgi.stores.bucket.ObjectStore` that is about blobs.

    What its methods do is said in `~registry_wsgi.stores.base.Store`.

    Args:
        bucket: Where they are.
        tombstones: What removes markers.
        indices: What knows markers that were read before.
        s3: The bucket, for what obstore cannot.

    Attributes:
        versions: The old versions of the blobs.
    """

    def __init__(self, bucket: Bucket, tombstones: Tombstones, indices: Indices, s3: S3) -> None:
        self._bucket = bucket
        self._tuning = bucket.tuning
        self._tombstones = tombstones
        self._indices = indices
        self._uploads = Uploads(s3)
        self.versions = Versions(s3)
        # The markers that a run has read, by their blobs.
        self._known: dict[str, _Marker] = {}

    def names(self) -> Iterator[str]:
        # The markers first: a blob that loses its marker meanwhile is left out, and stays.
        aside = {_name(meta) for meta in self._markers()}
        hides = self.versions.on  # then what is listed is in its place, marked or not
        for meta in self._bucket.objects("blobs"):
            name = _name(meta)
            if "/" not in name and (hides or name not in aside):
                yield name
        yield from (name for name in self._uploads.names() if name not in aside)

    def look(self, names: Iterable[str]) -> Iterator[tuple[str, Blob]]:
        for some in self._bucket.batches(names):
            for name, meta in self._presents(some).items():
                yield name, _look(meta)

    def open(self, name: str) -> BinaryIO | None:
        meta = self._present(name)
        return None if meta is None else self._bucket.open(meta.key)

    def remove(self, name: str) -> bool:
        aside = next(self.condemn([name], time.time()), None)
        if aside is None:  # another has marked it
            marker = self._marker(name)
            aside = marker.blob if marker else None
        return aside is not None and any(gone for _, gone in self.purge([(aside, math.inf)]))

    # What is set aside

    def condemn(self, names: Iterable[str], when: float) -> Iterator[Condemned]:
        run = entry_id(when)
        moment_of_run = entry_time(run) or when
        for some in self._bucket.batches(names):
            self.versions.ask()  # where they are not kept any more, a delete would be for good
            hides = self.versions.on
            begun = time.monotonic()
            metas = self._heads(some)

            def mark(name: str, metas: dict[str, Meta] = metas, hides: bool = hides) -> str | None:
                marker = {
                    "id": run,
                    "means": metas[name].fingerprint,
                    "hides": hides and not is_upload(name),
                }
                return self._bucket.create(f"condemned/{name}", json.dumps(marker).encode())

            there = [name for name in some if name in metas]
            tokens = [*self._bucket.at_once(mark, there)]
            marked = [name for name, token in zip(there, tokens, strict=True) if token is not None]
            failed = None
            if hides and marked:
                try:
                    self._hide(marked, begun)
                except StoreError as error:  # some may be hidden: all are to be put back
                    failed = error
            for name in marked:
                yield Condemned(moment_of_run, run, name)
            if failed is not None:
                raise failed

    def _hide(self, names: list[str], begun: float) -> None:
        limit = self._tuning.marking
        if time.monotonic() > begun + limit:
            raise StoreError(
                f"{self._bucket.name}/condemned/: to mark {len(names)} blobs took more than"
                f" {limit} seconds: they stay in their place"
            )
        self._bucket.delete(*(f"blobs/{name}" for name in names if not is_upload(name)))

    def condemned(self) -> Iterator[Condemned]:
        self.versions.ask()
        known = {}
        for _, found in self._indices.read("condemned", self._markers(), self._tombstones.get):
            if isinstance(found, StoreError):
                raise found
            if found is not None and (marker := _parse_marker(found)):
                known[marker.blob.name] = marker
        if not self.versions.kept and any(marker.hides for marker in known.values()):
            raise StoreError(
                f"{self._bucket.name}: has blobs that are hidden as old versions, and these cannot"
                f" be had: {self.versions.refused or 'no versions are kept any more'}"
            )
        self._known = known
        return iter(sorted(marker.blob for marker in known.values()))

    def look_aside(self, blobs: Iterable[Condemned]) -> Iterator[tuple[Condemned, Blob]]:
        for some in self._bucket.batches(blobs):
            for aside in self._found(self._markers_of(some)):
                yield aside.marker.blob, _look(aside.meta)

    def pardon(self, blob: Condemned) -> bool:
        # There is no way to make it young, and no need: it would be marked anew, and wait anew.
        marker = next(iter(self._markers_of([blob])), None)
        if marker is None:
            return False
        history = self._history(blob.name)
        if history.hidden is None and marker.hides:  # another is there, or it still is
            return False
        if not self._tombstones.take(marker.meta):
            return False
        self._show({blob.name: history})
        self._tombstones.bury(marker.meta.key)
        return blob.name in self._heads([blob.name])

    def purge(self, blobs: Iterable[tuple[Condemned, float]]) -> Iterator[tuple[Condemned, bool]]:
        for some in self._bucket.batches(blobs):
            until = dict(some)

            def fits(aside: _Aside, until: dict[Condemned, float] = until) -> bool:
                meta, marker = aside.meta, aside.marker
                return meta.fingerprint == marker.means and meta.modified <= until[marker.blob]

            markers = self._markers_of([*until])
            if self.versions.kept:
                # What is not hidden may be about to be; and what came too late stays hidden.
                found = [*self._found(markers)]
                late = {aside.marker.blob for aside in found if aside.is_hidden and not fits(aside)}
                yield from ((blob, False) for blob in late)
                markers = [aside.marker for aside in found if aside.marker.blob not in late]
            # As long as its tombstone is there nobody marks a blob anew: one process removes it.
            won = self._bucket.at_once(lambda marker: self._tombstones.take(marker.meta), markers)
            taken = [marker for marker, ours in zip(markers, won, strict=True) if ours]
            found = [*self._found(taken)]
            gone = [aside for aside in found if fits(aside)]
            left = [aside for aside in found if not fits(aside)]
            self._show({aside.marker.blob.name: aside.history for aside in left})
            self._remove(gone)
            self._tombstones.bury(*(marker.meta.key for marker in taken))
            yield from ((aside.marker.blob, True) for aside in gone)
            yield from ((aside.marker.blob, False) for aside in left)

    def _remove(self, asides: list[_Aside]) -> None:
        """Remove blobs for good, those in their place and those hidden."""
        hidden = {aside.marker.blob.name: aside for aside in asides if aside.is_hidden}
        keys = []
        for aside in asides:
            if is_upload(aside.marker.blob.name):
                self._uploads.abort(aside.marker.blob.name)
            elif not aside.is_hidden:
                keys.append(aside.meta.key)
        self._bucket.delete(*keys)
        self.versions.destroy(
            (name, aside.meta.version or "null") for name, aside in hidden.items()
        )
        # Only now: without its delete markers a pull would have found it. If it was written over
        # what was there before, that stays hidden.
        histories = {name: aside.history for name, aside in hidden.items()}
        self._show({name: found for name, found in histories.items() if len(found.older) == 1})

    def keep(self, names: Iterable[str], wait: float) -> list[str]:
        gone = []
        end = time.monotonic() + wait
        pauses = (0,) * (self._tuning.attempts - 1)
        for name in names:
            key = f"condemned/{checked(name)}"
            retry(partial(self._unmark, key, end), on=ChangedError, pauses=pauses)
            if self._present(name) is None:
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
        mark = self._tombstones.settled(key, end - time.monotonic())
        if mark is None:
            return
        changed = ChangedError(f"{self._bucket.name}/{key}: is changed again and again")
        found = self._bucket.get(key)
        if found is None or found.meta.fingerprint != mark.fingerprint:
            raise changed  # another run has just begun to remove the blob, say
        name = _name(mark)
        history = self._history(name)
        if history.hidden is None:
            if is_tombstone(found.data):
                return  # of a process that was killed
            marker = _parse_marker(found)
            if marker is not None and marker.hides:
                # It may be just about to be hidden: by its mark a prune brings it back.
                return
        if not self._tombstones.take(mark):
            raise changed
        self._show({name: history})
        self._tombstones.bury(key)

    def finish(self, name: str, found: Content) -> None:
        """Take away the marker or the tombstone *found*, if a killed process has left it."""
        if self._is_left(name, found) and self._tombstones.take(found.meta):
            self._show({name: self._history(name)})
            self._tombstones.bury(found.meta.key)

    def forget_markers(self) -> None:
        """Read them again, from now on."""
        self._known = {}

    def _show(self, histories: Mapping[str, History]) -> None:
        """Bring back those blobs that are hidden; what hides nothing any more goes too."""
        self.versions.destroy(
            (name, id_)
            for name, history in histories.items()
            if history.current is None
            for id_ in history.markers
        )

    def _present(self, name: str) -> Meta | None:
        return self._presents([name]).get(name)

    def _heads(self, names: Sequence[str]) -> dict[str, Meta]:
        """Look at the blobs *names*: one by one if they are few, else by the page."""
        found = self._listed("blobs", names) if len(names) > self._tuning.few else {}
        rest = [name for name in names if name not in found]
        metas = self._bucket.at_once(self._blob, rest)
        return found | {name: meta for name, meta in zip(rest, metas, strict=True) if meta}

    def _listed(self, folder: str, names: Sequence[str]) -> dict[str, Meta]:
        """Look for *names* in the listing of *folder*."""
        found = {}
        wanted = {*map(checked, names)}
        first, last = min(wanted), max(wanted)
        for meta in self._bucket.objects(folder, after=f"{folder}/{first[:-1]}"):
            name = _name(meta)
            if name in wanted:
                found[name] = meta
            elif name > last:
                break
        return found

    def _blob(self, name: str) -> Meta | None:
        if is_upload(name):
            return self._uploads.look(name)
        return self._bucket.head(f"blobs/{checked(name)}")

    def _history(self, name: str) -> History:
        """Look at all versions of the blob *name*, where old ones are kept, or else at itself."""
        if self.versions.kept and not is_upload(name):
            return self.versions.find(checked(name))
        return History(self._blob(name))

    def _histories(self, names: Sequence[str]) -> dict[str, History]:
        """Look at all versions of the blobs *names*."""
        if not self.versions.kept:
            metas = self._heads(names)
            return {name: History(metas.get(name)) for name in names}
        found = self.versions.find_all({*names}) if len(names) > self._tuning.few else {}
        rest = [name for name in names if name not in found]
        return found | dict(zip(rest, self._bucket.at_once(self._history, rest), strict=True))

    def _presents(self, names: Sequence[str]) -> dict[str, Meta]:
        """Look at the blobs *names*, or at those with upper-case digits if only these are there."""
        found = self._heads(names)
        others = {}
        for name in names:
            prefix, dash, digits = name.partition("-")
            if name not in found and digits != digits.upper() and not is_upload(name):
                others[f"{prefix}{dash}{digits.upper()}"] = name
        return found | {others[other]: meta for other, meta in self._heads([*others]).items()}

    def _markers(self) -> Iterator[Meta]:
        for meta in self._bucket.objects("condemned"):
            if "/" not in _name(meta) and not self._tombstones.is_one(meta):
                yield meta

    def _marker(self, name: str) -> _Marker | None:
        """Read the marker of the blob *name*."""
        found = self._tombstones.get(f"condemned/{checked(name)}")
        return None if found is None else _parse_marker(found)

    def _markers_of(self, blobs: Sequence[Condemned]) -> list[_Marker]:
        """Read the markers of *blobs*, but for those that are as they were read before."""
        markers = []
        # Where writes have numbers, none takes the place of what was only listed.
        if len(blobs) > self._tuning.few and not self._bucket.numbers:
            now = self._listed("condemned", [blob.name for blob in blobs])
            markers = [
                marker
                for blob in blobs
                if (marker := self._known.get(blob.name))
                and (meta := now.get(blob.name))
                and meta.fingerprint == marker.meta.fingerprint
            ]
        names = {marker.blob.name for marker in markers}
        rest = [blob.name for blob in blobs if blob.name not in names]
        markers += [marker for marker in self._bucket.at_once(self._marker, rest) if marker]
        wanted = {*blobs}
        return [marker for marker in markers if marker.blob in wanted]

    def _found(self, markers: Sequence[_Marker]) -> Iterator[_Aside]:
        """Look for what *markers* have set aside."""
        histories = self._histories([marker.blob.name for marker in markers])
        for marker in markers:
            history = histories[marker.blob.name]
            meta = self._meant(marker, history)
            if meta is None:
                self._tombstones.leftovers.add(marker.meta.key)
            else:
                yield _Aside(marker, meta, history)

    def _meant(self, marker: _Marker, history: History) -> Meta | None:
        """Tell what *marker* has set aside; None if that is gone, or not set aside (yet)."""
        if history.hidden is not None:
            # Not the one that is meant, if another came before the delete: its time tells.
            return history.hidden
        if marker.hides or (self.versions.on and not is_upload(marker.blob.name)):
            return next((meta for meta in history.older if meta.fingerprint == marker.means), None)
        return history.current

    def _is_left(self, name: str, found: Content) -> bool:
        """Tell whether the marker or tombstone *found* of the blob *name* has no use any more."""
        if is_tombstone(found.data):
            return not self._tombstones.is_fresh(found.meta)
        marker = _parse_marker(found)
        if marker is None or (marker.hides and self._tombstones.is_fresh(marker.meta)):
            return False  # the delete may be about to follow
        return self._meant(marker, self._history(name)) is None


def _parse_marker(found: Content) -> _Marker | None:
    try:
        document = json.loads(found.data)
        run, means, hides = document["id"], tuple(document["means"]), document["hides"]
        when = entry_time(run)
    except (ValueError, LookupError, TypeError):
        when = None
    if when is None:
        _log.warning("%s: not a marker, skipped", quote(found.meta.key))
        return None
    return _Marker(Condemned(when, run, _name(found.meta)), means, hides, found.meta)


def _name(meta: Meta) -> str:
    """Tell the name of the blob that *meta* is, or is the marker of."""
    return meta.key.partition("/")[2]


def _look(meta: Meta) -> Blob:
    return Blob(meta.size, meta.modified, meta.modified, meta.key)
