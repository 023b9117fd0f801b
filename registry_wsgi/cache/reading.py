"""Reading manifests: the one way of the lists, of the check and of the collector."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from ..errors import InvalidManifestError, InvalidNameError, StoreError
from ..names import Name
from ..stores.base import Blob, Manifest, Read

__all__ = ["Refuse", "is_left_by_others", "is_whole", "name_of", "read_models"]

_T = TypeVar("_T")

# Files that file managers leave in any folder. By their names they could be the tags of models.
_LEFT_BY_OTHERS = {"desktop.ini", "thumbs.db"}

#: Called for each key whose manifest cannot be read, with the error (None: there is no file, or it
#: is gone). Each reader has its own policy here: to stop, to warn, or to report a problem.
Refuse = Callable[[str, StoreError | None], None]


def read_models(
    found: Iterable[tuple[str, Read]], parse: Callable[[str, Manifest], _T], refuse: Refuse
) -> Iterator[tuple[str, Manifest, _T]]:
    """
    Go through the manifests that a store has read, and parse each.

    Args:
        found: What the store has read, by key.
        parse: Turns a manifest into what the caller needs. If it raises an `InvalidManifestError`,
            *refuse* gets that.
        refuse: Gets the keys of manifests that cannot be read.

    Returns:
        The key, the manifest and what *parse* made of it, for each that can be read.
    """
    for key, manifest in found:
        if not isinstance(manifest, Manifest):
            refuse(key, manifest)
            continue
        try:
            parsed = parse(key, manifest)
        except InvalidManifestError as error:
            refuse(key, error)
        else:
            yield key, manifest, parsed


def name_of(key: str) -> Name | None:
    """Tell the name of the model whose manifest is at *key*; None if that is no valid name."""
    try:
        return Name.from_key(key)
    except InvalidNameError:
        return None


def is_left_by_others(key: str) -> bool:
    """Tell whether what is at *key* is a file that file managers leave in any folder."""
    return key.rpartition("/")[2].lower() in _LEFT_BY_OTHERS


def is_whole(blob: Blob | None, size: int | None) -> bool:
    """Tell whether a blob is there and has the size that a manifest says (None: any)."""
    return blob is not None and size in (None, blob.size)
