"""The manifests in place."""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterator

from ...errors import OutOfReachError
from ...names import Name
from ..base import Folder, Manifest, Read
from ..layout import tried
from .places import Part
from .system import Reported, is_manifest, listed, read_manifest, status_of, version
from .walk import folders, walk

__all__ = ["Manifests"]


class Manifests(Part):
    """A `~registry_wsgi.stores.base.ManifestStore` in the directory ``manifests``."""

    def find(self, name: Name) -> str | None:
        root = self.places.manifests
        with Reported(root):
            if not is_manifest(os.path.join(root, *name)):
                return next(_matches(root, list(name)), None)
            if not _may_be_respelled(root, name):
                return name.key
            # The model has the name that the directories list. A file system that drops dots finds
            # `prod.` where it lists `prod`: that is another name, which may be protected.
            found = list(_matches(root, list(name)))
            return name.key if name.key in found else next(iter(found), None)

    def resolve(self, key: str, *, tag: bool = True) -> str:
        path = self.places.manifest(key)
        folder, name = os.path.split(path)
        real = os.path.realpath(path) if tag else os.path.join(os.path.realpath(folder), name)
        found = os.path.relpath(real, os.path.realpath(self.places.manifests))
        return found if found.count("/") == 3 and not found.startswith("../") else key

    def read(self, key: str) -> Manifest | None:
        return _read(self.places.manifest(key))

    def read_all(self) -> Iterator[tuple[str, Read]]:
        for key, error in walk(self.places.manifests):
            # No name that a directory lists leads out of it, so the keys need no check.
            yield key, error or tried(_read, f"{self.places.manifests}/{key}")

    def versions(self) -> Iterator[tuple[str, Hashable | None]]:
        for key, error in walk(self.places.manifests):
            if error is not None:
                raise error
            path = f"{self.places.manifests}/{key}"
            with Reported(path):
                # A link that leads nowhere has a version, too: its own.
                status = status_of(path) or status_of(path, follow=False)
            yield key, None if status is None else version(status)

    def folders(self) -> Iterator[Folder]:
        return folders(self.places.manifests)

    def unseen(self) -> Iterator[str]:
        root = self.places.root
        for folder, _, files in os.walk(os.path.join(root, "manifests-v2")):
            yield from (os.path.relpath(os.path.join(folder, file), root) for file in files)


def _read(path: str) -> Manifest | None:
    found = read_manifest(path)
    if found is None and os.path.islink(path) and not os.path.exists(path):
        raise OutOfReachError(f"{path}: is a link that leads nowhere")
    return found


def _matches(path: str, parts: list[str]) -> Iterator[str]:
    """List what below *path* equals *parts* but for the case of ASCII letters, in order."""
    wanted, rest = parts[0].lower(), parts[1:]
    for entry in sorted(listed(path)):
        if entry.isascii() and entry.lower() == wanted:
            below = os.path.join(path, entry)
            if rest:
                yield from (f"{entry}/{found}" for found in _matches(below, rest))
            elif is_manifest(below):
                yield entry


def _may_be_respelled(path: str, parts: tuple[str, ...]) -> bool:
    """
    Tell whether the directories may list something else than *parts*, which lead to a file.

    To list them would cost more the more models there are. So this looks whether the file system
    finds something by other letters, too. (Whether that is the same file is not asked: some file
    systems give a file a new number each time.)
    """
    for part in parts:
        other = part.swapcase()
        if part.endswith("."):
            return True
        if other != part and os.path.lexists(f"{path}/{other}"):
            return True
        path = f"{path}/{part}"
    return False
