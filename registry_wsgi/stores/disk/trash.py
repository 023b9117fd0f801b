"""
The trash: one directory for each deleted model.

On a disk so full that no directory can be made, the manifest alone is moved, as a rename needs no
room: to a file beside ``trash``, ``trash-<when>-<random>-<key>``, with the key percent-encoded.
Such a model can be restored for as long as its blobs stay in ``blobs``.
"""

from __future__ import annotations

import errno
import logging
import os
import re
from collections import deque
from collections.abc import Container, Iterable, Iterator
from contextlib import ExitStack, suppress
from typing import NamedTuple
from urllib.parse import quote as percent_encode
from urllib.parse import unquote as percent_decode

from ...errors import ModelExistsError, StoreError, UntouchableError
from ...names import Name
from ..base import Blob, Deleted, Manifest, Read
from ..layout import checked, checked_key, entry_id, entry_time, tried, was_kept
from .blobs import Blobs, spelled
from .directory import Directory, if_there, remove_tree
from .entries import keys_in_entry
from .mounts import layers_at
from .places import TRIES, Part
from .system import (
    ABSENT,
    NO_LINKS,
    NO_ROOM,
    Reported,
    listed,
    look_at,
    read_manifest,
    tolerated,
)
from .transfer import copy_file, copy_out, empty_up, sync_down

__all__ = ["Trash"]

_log = logging.getLogger("registry_wsgi")

_FLAT = re.compile(r"trash-(.{27}-.{8}(?:\.\d+s)?)-(.+)", re.ASCII)


class _Place(NamedTuple):
    """Where the manifest of an entry is: the directories from the models directory on, its name."""

    folders: list[str]
    name: str


class Trash(Blobs, Part):
    """A `~registry_wsgi.stores.base.TrashStore` in the directory ``trash``."""

    _unlisted: dict[str, StoreError]  # why an entry could not be listed, by its id

    # Deleting

    def discard(
        self, key: str, blobs: Iterable[str], when: float, keep: float | None = None
    ) -> Deleted | None:
        path = self.places.manifest(key)
        *folders, tag = key.split("/")
        names = [checked(name) for name in blobs]
        with Reported(path), ExitStack() as stack:
            top = stack.enter_context(self.places.open())
            source = if_there(self.places.shared, top, "manifests", *folders)
            if source is None:
                return None
            stack.enter_context(source)
            for _ in range(TRIES):
                if source.is_directory(tag, follow=True) or not source.has(tag):
                    return None
                run = entry_id(when, keep)
                try:
                    entry = self._move(top, source, key, names, run)
                except FileNotFoundError:
                    # Another removed the manifest, or the directories that we have just made.
                    continue
                if entry == run:  # else there may be no room to make the directories again
                    empty_up(top, ["manifests", *folders])
                return Deleted(entry_time(run) or when, entry, key)
        raise StoreError(f"{self.places.trash}/{run}: is removed again and again")

    def _move(self, top: Directory, source: Directory, key: str, blobs: list[str], run: str) -> str:
        """Move the manifest into a new entry of the trash, and return the id of the entry."""
        *folders, tag = key.split("/")
        try:
            with self.places.ours(top, "trash", make=True) as trash, trash.make(run) as entry:
                try:
                    with entry.descend(["manifests", *folders], make=True) as target:
                        if blobs:
                            self._hold(top, entry, blobs)
                        try:
                            source.rename(tag, target, tag)
                        except OSError as error:
                            if error.errno != errno.EXDEV:
                                raise
                            copy_out(source, tag, trash, run, ["manifests", *folders])
                except OSError:
                    # The manifest was not moved. (After a Ctrl-C it may have been.)
                    with suppress(OSError):
                        remove_tree(trash, run)
                    raise
        except OSError as error:
            name = f"trash-{run}-{percent_encode(key, safe='')}"
            # No room for a directory; or the trash is of another user who did not share it.
            if error.errno not in {*NO_ROOM, errno.EACCES} or len(name) > 255:
                raise
            try:
                source.rename(tag, top, name)
            except FileNotFoundError:
                raise
            except OSError:
                raise error from None
            return name
        return run

    def _hold(self, top: Directory, entry: Directory, blobs: list[str]) -> None:
        """Give the *blobs* that are there a second name in *entry*."""
        source = if_there(top.descend, ["blobs"], leave=True)
        if source is None:
            return
        with source, entry.make("blobs") as target:
            layers = layers_at(source.device())
            for name in blobs:
                present = self._present(name)
                if not source.has(present) or (
                    layers and layers.copies(f"{source.path}/{present}")
                ):
                    continue
                try:
                    source.link(present, target, present)
                except (FileNotFoundError, FileExistsError):
                    continue
                except OSError as error:
                    if error.errno not in NO_LINKS:
                        raise
                    place = f"{source.path}/{present}"
                    _log.debug("%s: held without a hard link: %s", place, error.strerror)

    # Looking

    def deleted(self, before: float | None = None, keep: float | None = None) -> list[Deleted]:
        trash = self.places.trash
        found = []
        for when, entry in self.places.entries(trash, before):
            if not was_kept(when, entry, before, keep):
                continue
            try:
                found += [Deleted(when, entry, key) for key in keys_in_entry(f"{trash}/{entry}")]
            except StoreError as error:  # `read_deleted` raises it
                self._unlisted[entry] = error
                found.append(Deleted(when, entry, ""))
        with Reported(self.places.root):
            for name in listed(self.places.root):
                match = _FLAT.fullmatch(name)
                when_or_none = entry_time(match[1]) if match else None
                if (
                    match
                    and when_or_none is not None
                    and was_kept(when_or_none, match[1], before, keep)
                ):
                    found.append(Deleted(when_or_none, name, percent_decode(match[2])))
        return sorted(found)

    def read_deleted(self, entry: Deleted) -> Manifest | None:
        place = self._place(entry)
        path = self.places.without_links(*place.folders, place.name)
        with Reported(path), tolerated(errno.EINVAL, *ABSENT):
            # A relative link leads on from where it was before the delete, and will be again.
            home = os.path.dirname(self.places.manifest(entry.key))
            path = os.path.normpath(os.path.join(home, os.readlink(path)))
        return read_manifest(path)

    def read_all_deleted(self, known: Container[Deleted] = ()) -> Iterator[tuple[Deleted, Read]]:
        entries = (entry for entry in self.deleted() if entry not in known)
        return ((entry, tried(self.read_deleted, entry)) for entry in entries)

    def blob_in_trash(self, entry: Deleted, name: str) -> Blob | None:
        path = self.places.without_links("trash", entry.id, "blobs", name)
        look = look_at(path, self.places.blobs)
        if look is None:
            folder = os.path.dirname(path)
            with Reported(folder):
                other = spelled(listed(folder), name)
            if other is not None:
                look = look_at(f"{folder}/{other}", self.places.blobs)
        return look

    # Restoring

    def recover_blob(self, entry: Deleted, name: str) -> bool:
        path = self.places.blob(name)
        with Reported(path), ExitStack() as stack:
            top = stack.enter_context(self.places.open())
            source = if_there(self.places.ours, top, "trash", entry.id, "blobs")
            if source is None:
                return False
            stack.enter_context(source)
            for _ in range(TRIES):
                held = name if source.has(name) else spelled(source.names(), name)
                if held is None:
                    return False
                with self.places.shared(top, "blobs", make=True) as blobs:
                    try:
                        _take_place(source, held, blobs, name if blobs.has(name) else held)
                    except FileNotFoundError:
                        continue
                    # It is on the disk before the trash lets go of the blob.
                    blobs.sync()
                    return True
        raise StoreError(f"{path}: its place is removed again and again")

    def recover(self, entry: Deleted) -> bool:
        path = self.places.manifest(entry.key)
        place = self._place(entry)
        folders = entry.key.split("/")[:-1]
        with Reported(path), self.places.open() as top:
            if place.folders:
                source = if_there(top.descend, place.folders)
            else:
                source = if_there(self.places.open)
            if source is None:
                return False
            with source:
                if not self._place_manifest(top, source, place.name, entry.key):
                    return False
        # From here on the model is back. So a failure must not say that it is not.
        try:
            with Reported(path), self.places.open() as top:
                sync_down(top, ["manifests", *folders])
            self.forget(entry)
        except StoreError as error:
            _log.warning("%s: restored, and still in the trash: %s", entry.key, error)
        return True

    def _place_manifest(self, top: Directory, source: Directory, name: str, key: str) -> bool:
        *folders, tag = key.split("/")
        for _ in range(TRIES):
            try:
                with self.places.shared(top, "manifests", *folders, make=True) as target:
                    try:
                        _give_place(source, name, target, tag)
                    except FileExistsError as error:
                        # A restore that was killed half-way has left the same file in both places.
                        with suppress(FileNotFoundError):
                            if os.path.samestat(source.stat(name), target.stat(tag)):
                                return True
                        if target.has(tag) and not target.is_directory(tag, follow=True):
                            raise ModelExistsError(Name.from_key(key)) from error
                        continue
                    return True
            except FileNotFoundError:
                if not source.has(name):
                    empty_up(top, ["manifests", *folders])
                    return False
            except (OSError, StoreError):
                empty_up(top, ["manifests", *folders])
                raise
        path = self.places.manifest(key)
        raise StoreError(f"{path}: its place is taken, or is removed again and again")

    # Removing

    def forget(self, entry: Deleted) -> bool:
        place = self._place(entry)
        path = "/".join([self.places.root, *place.folders, place.name])
        with Reported(path), self.places.open() as top:
            if not place.folders:
                return top.unlink(place.name)
            found = False
            with tolerated(*ABSENT), self.places.ours(top, "trash", entry.id) as folder:
                folder.check_writable()  # else something of the entry would stay for ever
            # The manifest goes first: from then on nobody restores from this entry.
            with tolerated(*ABSENT), top.descend(place.folders) as folder:
                found = folder.unlink(place.name)
            # Another manifest in the same entry keeps that, with what it holds.
            if not any(keys_in_entry(f"{self.places.trash}/{entry.id}")):
                self._drop(top, entry.id)
            return found

    def _drop(self, top: Directory, entry: str) -> None:
        """Remove an entry without a manifest. What cannot be removed is left to a later `tidy`."""
        path = f"{self.places.trash}/{entry}"
        with Reported(path), tolerated(*ABSENT), self.places.ours(top, "trash") as trash:
            remove_tree(trash, checked(entry))

    def _abandoned_deletes(self, before: float) -> dict[str, list[Blob]]:
        return {f"trash/{entry}": self._held(entry) for entry in self._half_made(before)}

    def _half_made(self, before: float) -> Iterator[str]:
        """List the entries without a manifest that are of the moment *before*, or earlier."""
        for _, entry in self.places.entries(self.places.trash, before):
            try:
                if not any(keys_in_entry(f"{self.places.trash}/{entry}")):
                    yield entry
            except StoreError as error:
                _log.warning("%s", error)

    def _held(self, entry: str) -> list[Blob]:
        """Look at the blobs in an entry. Those out of reach are left out."""
        folder = f"{self.places.trash}/{entry}/blobs"
        with suppress(StoreError), Reported(folder):
            self.places.refuse_link(folder)
            looks = [look_at(f"{folder}/{name}", self.places.blobs) for name in listed(folder)]
            return [look for look in looks if look is not None]
        return []

    def _tidy_deletes(self, before: float) -> dict[str, StoreError]:
        """Remove the entries that are half made; the failures, by the place of the entry."""
        failures: dict[str, StoreError] = {}
        for entry in self._half_made(before):
            try:
                with Reported(self.places.root), self.places.open() as top:
                    self._drop(top, entry)
            except UntouchableError as error:
                failures[f"trash/{entry}"] = error
        return failures

    def _place(self, entry: Deleted) -> _Place:
        if _FLAT.fullmatch(entry.id):
            checked_key(entry.key)
            return _Place([], checked(entry.id))
        if not entry.key:
            path = f"{self.places.trash}/{checked(entry.id)}"
            deque(keys_in_entry(path), maxlen=0)  # raises why, if that is still so
            raise self._unlisted.get(entry.id) or StoreError(f"{path}: could not be listed")
        *folders, tag = checked_key(entry.key).split("/")
        return _Place(["trash", checked(entry.id), "manifests", *folders], tag)


def _take_place(source: Directory, name: str, blobs: Directory, place: str) -> None:
    """Put a blob in the place of another, which may be too short."""
    # By way of a second link and a rename, as that also takes the place of a blob that is there.
    # (To rename a link over another to the same file does nothing.)
    spare = f"{name}.{os.urandom(4).hex()}"
    try:
        source.link(name, source, spare)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        # A file of another owner: the trash has to give up its own link.
        source.rename(name, blobs, place)
        return
    try:
        source.rename(spare, blobs, place)
    finally:
        source.unlink(spare)


def _give_place(source: Directory, name: str, target: Directory, tag: str) -> None:
    """Give the manifest *name* the second name *tag*, never taking that of another."""
    try:
        source.link(name, target, tag)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        # Without links there is no way to make a file appear whole and never over another. Killed
        # here, this leaves an empty manifest, which stops a sweep, and the trash still has ours.
        copy_file(source, name, target, tag)
