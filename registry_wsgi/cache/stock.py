"""What an eviction has to know of a store: who needs which content, and when it was last read."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Container, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ..errors import InvalidManifestError, OutOfReachError, StoreError, escape
from ..stores.base import Deleted, File, Manifest, Store, WatchedStore
from .evict_plan import DAY, InPlace, InTrash, Stock
from .manifest import blob_name
from .patterns import matches
from .reading import name_of
from .space import Ledger, disk_of, files_of, read_needs

__all__ = ["Look", "Resident", "last_reads", "look_at", "protection", "take_stock"]

# How long to wait before each try to take stock, in seconds.
_PAUSES = (0, 0.05, 0.2, 0.5, 1, 3)


@dataclass(frozen=True, slots=True)
class Resident:
    """
    A model in place, as it was when the stock was taken.

    Attributes:
        key: Where its manifest is.
        manifest: Its manifest.
        blobs: The names of the blobs that it needs.
        weights: The name of the largest of them. None: none of them is there.
        read: When it was last read then; see `Look`.
    """

    key: str
    manifest: Manifest
    blobs: Sequence[str]
    weights: str | None
    read: float = 0.0


@dataclass(frozen=True, slots=True)
class Look:
    """
    What one look at a model has found.

    Attributes:
        read: When it was last read, as far as the storage tells, in seconds since the epoch. 0 if
            that is not known.
        used: When it was last read or came, at the latest, in seconds since the epoch.
        kept: Why it may not go, whatever its age. Empty: it may.
    """

    read: float
    used: float
    kept: str


def last_reads(store: Store, models: Iterable[Resident]) -> dict[str, float]:
    """Tell when the weights of *models* were last read, by their names, of those that are known."""
    names = {model.weights for model in models if model.weights is not None}
    return dict(store.last_reads(names)) if isinstance(store, WatchedStore) else {}


def look_at(
    store: Store,
    model: Resident,
    reads: Mapping[str, float],
    is_protected: Callable[[str], bool],
    now: float,
) -> Look:
    """
    Look whether a model may go.

    Args:
        store: Where it is.
        model: The model.
        reads: What `last_reads` tells. (All models are looked at together: if this fails for a
            moment, no other model is to go in the place of one.)
        is_protected: Tells whether the model at a key is protected.
        now: The time in seconds since the epoch.
    """
    came = model.manifest.modified
    if name_of(model.key) is None:
        return Look(0, came, "has no valid name")
    if is_protected(model.key):
        return Look(0, came, "is protected")
    if model.weights is None:
        return Look(0, came, "has no blobs here")
    read = reads.get(model.weights)
    if read is None or not isinstance(store, WatchedStore):
        return Look(0, came, "gives no sign of when it was last read")
    # A time of access may lag behind by a day.
    used = max(min(now, read + DAY), came)
    for blob in model.blobs:
        if (is_open := store.is_open(blob)) is not False:
            return Look(read, used, "is open" if is_open else "may be open: nobody can tell")
    return Look(read, used, "")


def protection(store: Store) -> Callable[[str], bool]:
    """Read what is protected now: give a function that tells it of the model at a key."""
    patterns = list(store.protected())
    if not patterns:
        return lambda _: False

    def matched(key: str) -> bool:
        name = name_of(key)
        return name is not None and any(matches(name, pattern) for pattern in patterns)

    # What a protected name leads to by a link is protected, too.
    real = {store.resolve(key) for key, _ in store.versions() if matched(key)}
    return lambda key: matched(key) or store.resolve(key) in real


def take_stock(store: Store, retention: float, now: float) -> tuple[Stock, dict[str, Resident]]:
    """
    Find out what is in *store*.

    The stock is taken anew if something was removed meanwhile. What somebody else is just removing
    would look like something that stays, and more would go than has to.

    Args:
        store: Which store.
        retention: How long what nothing needs is kept, in seconds.
        now: The time in seconds since the epoch.

    Returns:
        The stock, and the models in place by their full names.

    Raises:
        InvalidManifestError: A manifest cannot be read, so nobody knows which blobs it needs.
        StoreError: The storage failed, or did not come to rest.
    """
    for pause in _PAUSES:
        time.sleep(pause)
        before = _mark(store)
        taken = _take_stock(store, retention, now)
        if _mark(store) == before:
            return taken
    raise StoreError("blobs came and went all the while: try again")


def _mark(store: Store) -> Hashable:
    """Make what is equal for as long as nothing is deleted, restored, set aside or removed."""
    return store.blobs_changed(), frozenset(store.condemned()), frozenset(store.deleted())


def _take_stock(store: Store, retention: float, now: float) -> tuple[Stock, dict[str, Resident]]:
    models: dict[str, tuple[Manifest, Sequence[str]]] = {}
    trash: dict[Deleted, Sequence[str]] = {}

    def each(place: str | Deleted, manifest: Manifest, blobs: Iterable[str]) -> None:
        if isinstance(place, Deleted):
            trash[place] = list(blobs)
        else:
            models[place] = manifest, list(dict.fromkeys(blobs))

    needs = read_needs(store, retention, each)
    needs.check_reach(traceless=False)
    if needs.unreadable:
        unreadable = InvalidManifestError(
            f"{escape(needs.unreadable[0])}: its manifest cannot be read, so nobody knows which"
            " blobs it needs: delete it or put it right"
        )
        unreadable.model = needs.unreadable[0]
        raise unreadable
    ledger = Ledger(needs, now)
    needed_by_each = (*(blobs for _, blobs in models.values()), *trash.values())
    contents = _Contents(
        (blob for blobs in needed_by_each for blob in blobs), {entry.id for entry in trash}
    )
    for file in files_of(store):
        ledger.add(file)
        contents.add(file)
    space = ledger.space(disk_of(store))
    if space.out_of_reach is not None:
        raise OutOfReachError(space.out_of_reach)

    is_protected = protection(store)
    residents: dict[str, Resident] = {}
    for key, (manifest, blobs) in models.items():
        name = str(name_of(key) or key)
        residents[name] = Resident(key, manifest, blobs, contents.of(blobs)[1])
    reads = last_reads(store, residents.values())
    in_place = []
    for name, model in residents.items():
        found, weights = contents.of(model.blobs)
        look = look_at(store, model, reads, is_protected, now)
        residents[name] = replace(model, read=look.read)
        unit = None if weights is None else contents.blobs[weights]
        in_place.append(InPlace(name, found, look.used, look.kept, unit, look.read))
    in_trash = [
        InTrash(
            entry.id,
            str(name_of(entry.key) or entry.key),
            contents.of(blobs, entry.id)[0],
            entry.when,
            entry.expires(retention) <= now,
        )
        for entry, blobs in trash.items()
    ]
    counted: dict[Hashable, int] = {}
    lasting: set[Hashable] = set()
    for needed in (one.blobs for one in in_place):
        counted.update(needed)
        lasting.update(needed)
    for entry in in_trash:
        counted.update(entry.blobs)
        if not entry.expired:
            lasting.update(entry.blobs)
    # What only expired models need is among what a prune removes: it is not counted twice.
    expired = sum(size for content, size in counted.items() if content not in lasting)
    due = max(space.frees["prune"].now - expired, 0)
    # With another name outside of the store, the space stays whatever goes: it does not count.
    rest = max(space.total.taken - ledger.outside - sum(counted.values()) - due, 0)
    return Stock(in_place, in_trash, due, rest, space.free), residents


class _Contents:
    """The content of each blob that a model needs, in place or in the trash."""

    def __init__(self, wanted: Iterable[str], entries: Container[str]) -> None:
        self.blobs: dict[str, Hashable] = {}
        self._wanted = {*wanted}
        self._entries = entries
        self._held: defaultdict[str, dict[str, Hashable]] = defaultdict(dict)
        self._files: dict[Hashable, tuple[File, int]] = {}

    def add(self, file: File) -> None:
        top, _, below = file.path.partition("/")
        name = blob_name(below.rpartition("/")[2])
        if file.folder or name is None or name not in self._wanted:
            return
        if top == "blobs" and "/" not in below:
            self.blobs[name] = file.content
        elif top == "trash":
            entry = below.partition("/")[0]
            if entry not in self._entries:
                return  # a delete that was killed has left it, and it has the content for now
            self._held[entry][name] = file.content
        _, seen = self._files.get(file.content, (file, 0))
        self._files[file.content] = file, seen + 1

    def of(self, blobs: Iterable[str], entry: str = "") -> tuple[dict[Hashable, int], str | None]:
        """
        Tell the bytes that *blobs* take, by content, and the name of the largest of them.

        Args:
            blobs: Their names.
            entry: The id of the delete whose blobs they are.
        """
        found: dict[Hashable, int] = {}
        largest, most = None, -1
        held = self._held.get(entry, {})
        for name in blobs:
            for content in {self.blobs.get(name), held.get(name)} - {None}:
                file, seen = self._files[content]
                # With another name outside of the store, the space stays.
                if seen >= file.links:
                    found[content] = file.taken
                if (file.size, name) > (most, largest or "") and name in self.blobs:
                    largest, most = name, file.size
        return found, largest
