"""What the stores that are laid out as Ollama lays out its models have in common."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

from ..durations import to_micros
from ..errors import StoreError

__all__ = [
    "MANIFEST_SIZE",
    "TOMBSTONE",
    "WORKSHOPS",
    "checked",
    "checked_key",
    "digits_of",
    "entry_id",
    "entry_keep",
    "entry_time",
    "kept_for",
    "stamp_after",
    "tried",
    "was_kept",
]

_T = TypeVar("_T")
_U = TypeVar("_U")

#: Manifests are a few kilobytes. What is larger than this is something else, and is not read.
MANIFEST_SIZE = 16 << 20

#: How a tombstone begins: a store in a bucket writes one over a manifest before it removes that.
#: One that a killed delete has left is no manifest, also where the bucket was copied to a disk.
TOMBSTONE = b"registry-wsgi removes this object; it can be deleted. "

#: How the names of folders begin in which Ollama makes blobs: beside the blobs, what it converts;
#: among them, what it puts together. It removes such a folder in the end, unless it is killed.
WORKSHOPS = ("ollama-safetensors", "blobs/split-gguf-")

# Nearly all names that can be one part of a path. The others are looked at more closely.
_USUAL_PART = re.compile(r"[^./\0][^/\0]*")
_USUAL_KEY = re.compile(rf"{_USUAL_PART.pattern}(?:/{_USUAL_PART.pattern}){{3}}")
# Without regard to case, as some file systems list all names in lower case.
_ENTRY = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T(\d\d)-(\d\d)-(\d\d)\.(\d{6})Z-[0-9a-f]{8}(?:\.\d{1,15}s)?",
    re.ASCII | re.IGNORECASE,
)
# How long an entry is kept. It follows the random part of the id, or the number that a store in
# memory has instead.
_KEPT = re.compile(r"(?:Z-[0-9a-f]{8}|^\d{12})\.(\d{1,15})s", re.ASCII | re.IGNORECASE)
_DIGEST = re.compile(r"sha256[-:]([0-9a-f]{64})", re.ASCII | re.IGNORECASE)


def checked(part: str) -> str:
    """
    Refuse what cannot be one part of a path.

    Raises:
        StoreError: *part* would lead elsewhere.
    """
    if _USUAL_PART.fullmatch(part):
        return part
    if not part or part in (".", "..") or "/" in part or "\0" in part:
        raise StoreError(f"{part!r:.300}: not the name of a file in a store")
    return part


def checked_key(key: str) -> str:
    """
    Refuse what is no ``host/namespace/model/tag``.

    Raises:
        StoreError: *key* is not the path of a manifest.
    """
    if _USUAL_KEY.fullmatch(key):
        return key
    parts = key.split("/")
    if len(parts) != 4:
        raise StoreError(f"{key!r:.700}: not the key of a manifest")
    return "/".join(map(checked, parts))


def tried(read: Callable[[_T], _U], what: _T) -> _U | StoreError:
    """Read *what*, one of many. Its error is returned, so that the others are read all the same."""
    try:
        return read(what)
    except StoreError as error:
        return error


def entry_id(when: float, keep: float | None = None) -> str:
    """
    Make a new name for an entry of the trash, or of what is set aside.

    Args:
        when: The moment of the entry, in seconds since the epoch.
        keep: For how long the entry is to be kept, in seconds. None: the name does not say.
    """
    kept = "" if keep is None else kept_for(keep)
    return f"{_stamp(when)}-{os.urandom(4).hex()}{kept}"


def kept_for(keep: float) -> str:
    """Make the part of the name of an entry that says for how many seconds it is to be kept."""
    return f".{math.ceil(keep)}s"


def entry_time(entry: str) -> float | None:
    """Tell the moment in the name of an entry; None if it is no such name."""
    match = _ENTRY.fullmatch(entry)
    if match is None:
        return None
    try:
        return datetime(*map(int, match.groups()), tzinfo=UTC).timestamp()  # type: ignore[arg-type, misc]
    except ValueError:
        return None


def entry_keep(entry: str) -> float | None:
    """Tell for how many seconds the entry of that name is to be kept; None if it does not say."""
    match = _KEPT.search(entry)
    return None if match is None else float(match[1])


def was_kept(when: float, entry: str, now: float | None, keep: float | None) -> bool:
    """
    Tell whether an entry of the trash is one that `TrashStore.deleted` lists.

    Args:
        when: The moment of the entry.
        entry: Its name.
        now: As *before* of that method.
        keep: As *keep* of that method.
    """
    if now is None:
        return True
    if keep is None:
        return when <= now
    own = entry_keep(entry)
    return when + (keep if own is None else own) <= now


def digits_of(name: str) -> str | None:
    """
    Tell the digits of the digest that is the name of a blob, in lower case; None if it is no blob.

    Other programs have written ``sha256-<hex>`` and ``sha256:<hex>``, with digits in any case.
    """
    match = _DIGEST.fullmatch(name)
    return None if match is None else match[1].lower()


def stamp_after(when: float | None) -> str:
    """
    Make a text that sorts after the ids of all entries up to *when*, give or take a second.

    If *when* is None, it sorts after all ids.
    """
    try:
        return "9999" if when is None else _stamp(when + 1)
    except (OverflowError, ValueError, OSError):  # before or after all years
        return "9999" if when is not None and when > 0 else ""


def _stamp(when: float) -> str:
    seconds, micros = divmod(to_micros(when), 1_000_000)
    stamp = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H-%M-%S")
    return f"{stamp}.{micros:06d}Z"
