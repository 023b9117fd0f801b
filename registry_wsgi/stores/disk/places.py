"""
Where things are in a models directory, and the guards on the way there.

Names come from manifests, from HTTP clients and from directories that others may write in. Each is
checked before it becomes part of a path. Whatever changes a file opens the directories on the way,
one in another, from the models directory on (`registry_wsgi.stores.disk.directory`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from ...errors import OutOfReachError, StoreError
from ..layout import checked, checked_key, entry_time, stamp_after
from .directory import Directory
from .system import Reported, listed, status_of

__all__ = ["TRIES", "Part", "Places"]

#: A directory can be tidied away by another process just before it is used: it is made again, but
#: not for ever.
TRIES = 10


class Places:
    """
    The paths of one store.

    Args:
        root: The models directory.

    Raises:
        StoreError: *root* is no directory, or cannot be reached.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = os.path.abspath(root)
        self.blobs = os.path.join(self.root, "blobs")
        self.manifests = os.path.join(self.root, "manifests")
        self.trash = os.path.join(self.root, "trash")
        self.condemned = os.path.join(self.root, "condemned")
        self.protected = os.path.join(self.root, "protected")
        with Reported(self.root):
            # Looked at through `.`, as a directory that cannot be entered is of no use.
            if status_of(os.path.join(self.root, ".")) is None:
                there = os.path.lexists(self.root)
                raise StoreError(f"{self.root}: {'not a' if there else 'no such'} directory")
            below = os.path.join(self.root, "models")
            ours = any(map(os.path.exists, (self.blobs, self.manifests, self.trash)))
            if not ours and os.path.isdir(os.path.join(below, "manifests")):
                raise StoreError(f"{self.root}: has no models, but {below} does: give that")
            above, name = os.path.split(self.root)
            parts = ("blobs", "manifests")
            if not ours and name in parts and {*parts} <= {*os.listdir(above)}:
                raise StoreError(f"{self.root}: is a part of {above}: give that")

    # Paths, to read from

    def manifest(self, key: str) -> str:
        """Tell where the manifest at *key* is."""
        return f"{self.manifests}/{checked_key(key)}"

    def blob(self, name: str) -> str:
        """Tell where the blob *name* is."""
        return f"{self.blobs}/{checked(name)}"

    # Open directories, to change something in

    def open(self) -> Directory:
        """Open the models directory."""
        return Directory.at(self.root)

    @staticmethod
    def ours(top: Directory, *parts: str, make: bool = False) -> Directory:
        """
        Open a directory that only we use: there, no symbolic link is followed.

        Raises:
            StoreError: A symbolic link is in the way.
        """
        first, *rest = map(checked, parts)
        found = top.descend([first], make=make)
        if make:
            found.hand_over()
        if not rest:
            return found
        with found:
            return found.descend(rest, make=make)

    @staticmethod
    def shared(top: Directory, *parts: str, make: bool = False) -> Directory:
        """
        Open a directory that other programs use too.

        Raises:
            StoreError: A symbolic link puts the directory outside of the models directory.
        """
        return top.descend(map(checked, parts), follow=True, make=make)

    # Entries

    def entries(self, path: str, before: float | None = None) -> Iterator[tuple[float, str]]:
        """
        List the entries of the trash, or of what is set aside, with their moments.

        Args:
            path: Which directory.
            before: Only those of this moment, or earlier.
        """
        self.refuse_link(path)
        # The names sort by time, so that those of a full trash need not be parsed.
        last = stamp_after(before)
        with Reported(path):
            for entry in listed(path):
                # Some file systems list all names in lower case.
                if entry.upper() > last.upper():
                    continue
                when = entry_time(entry)
                if when is None or (before is not None and when > before):
                    continue
                if not os.path.islink(f"{path}/{entry}"):  # we make no links here
                    yield when, entry

    def without_links(self, *parts: str) -> str:
        """
        Make the path of a file in a directory of ours, to read it.

        Raises:
            StoreError: One of the directories on the way is a symbolic link.
        """
        path = self.root
        for part in parts[:-1]:
            path = f"{path}/{checked(part)}"
            self.refuse_link(path)
        return f"{path}/{checked(parts[-1])}"

    @staticmethod
    def refuse_link(path: str) -> None:
        """Refuse to go on if the directory of ours at *path* is a symbolic link."""
        if os.path.islink(path):
            raise StoreError(f"{path}: is a symbolic link, which is not followed here")

    # Guards

    def check_layout(self) -> None:
        """
        Refuse to list blobs where not all models that need them are known.

        Raises:
            StoreError: There are models that are not understood here, or no models at all.
        """
        if listed(os.path.join(self.root, "manifests-v2")):
            raise StoreError(
                f"{self.root}: has models under manifests-v2, which a newer Ollama writes and which"
                " are not understood here: no blob is removed"
            )
        if not os.path.isdir(self.manifests) and not self.is_empty():
            raise OutOfReachError(
                f"{self.manifests}: no such directory, so it is not known which blobs are needed"
            )

    def is_empty(self) -> bool:
        """Tell whether nothing was ever kept here, as in a directory that was just made."""
        return not any(
            listed(path) for path in (self.manifests, self.blobs, self.trash, self.condemned)
        )


class Part:
    """What serves one of the protocols of a store, and finds its way by *places*."""

    places: Places
