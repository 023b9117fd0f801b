"""The folders in which Ollama makes blobs, beside the blobs and among them."""

from __future__ import annotations

import os
from collections.abc import Iterator

from ...errors import StoreError, UntouchableError
from ..base import Blob
from ..layout import WORKSHOPS
from .directory import remove_tree
from .places import Places
from .system import Reported, look_at

__all__ = ["files_of_abandoned", "preparing", "remove_abandoned"]


def preparing(root: str) -> float:
    """Tell when something last changed in one of these folders; 0 if there are none."""
    return max((_changed(f"{root}/{place}") for place in _workshops(root)), default=0.0)


def files_of_abandoned(places: Places, before: float) -> dict[str, list[Blob]]:
    """Look at the files in each folder where nothing has changed after the moment *before*."""
    found = {}
    for place in _abandoned(places, before):
        looks = (look_at(path) for path in _paths(f"{places.root}/{place}", folders=False))
        found[place] = [look for look in looks if look is not None]
    return found


def remove_abandoned(places: Places, before: float) -> dict[str, StoreError]:
    """Remove these folders; tell why one of them, or something in it, cannot be removed."""
    failures: dict[str, StoreError] = {}
    for place in _abandoned(places, before):
        *above, name = place.split("/")
        try:
            with Reported(f"{places.root}/{place}"), places.open() as top:
                if above:
                    with places.shared(top, *above) as folder:
                        remove_tree(folder, name)
                else:
                    remove_tree(top, name)
        except UntouchableError as error:
            failures[place] = error
    return failures


def _abandoned(places: Places, before: float) -> list[str]:
    root = places.root
    with Reported(root):
        return [place for place in _workshops(root) if _changed(f"{root}/{place}") <= before]


def _workshops(root: str) -> Iterator[str]:
    for start in WORKSHOPS:
        folder, slash, prefix = start.rpartition("/")
        try:
            with os.scandir(f"{root}/{folder}") as entries:
                found = [
                    folder + slash + entry.name
                    for entry in entries
                    if entry.name.startswith(prefix) and entry.is_dir(follow_symlinks=False)
                ]
        except (FileNotFoundError, NotADirectoryError):
            continue
        yield from found


def _changed(folder: str) -> float:
    times = [0.0]
    for path in _paths(folder):
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            continue
        times += status.st_mtime, status.st_ctime
    return max(times)


def _paths(folder: str, *, folders: bool = True) -> Iterator[str]:
    for place, _, files in os.walk(folder):
        if folders:
            yield place
        yield from (f"{place}/{file}" for file in files)
