"""
What an eviction lets go, so that limits are kept. No I/O, no clock: the same answer for the same
input.

1. Models that were not read for long enough go into the trash; and while even an empty trash would
   leave too little room, so do others, the least recently read first.
2. What a prune would remove anyhow goes for good, and then what is in the trash, the oldest first.
   It goes only as far as the limits want.

So these hold (*the trash* includes the models of step 1, as its youngest):

- Nothing that may not go does, nor what may have been read within ``recent``.
- A model is removed for good only after all that was in the trash before.
- Nothing is removed for good that frees nothing, as models in place need all that it has. What
  frees less than a hundredth of its size goes only where the limits are kept by that.
- A model that goes into the trash can be restored if the limits leave room for it.
- If no limit wants anything, nothing goes.
- If the models and the trash still take too much, nothing is left that may go and would free
  something: no model, and nothing in the trash.

Space is counted by content: what several models need, or the trash besides, is free once the last
of them is gone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..durations import Duration, to_seconds
from ..errors import ConfigurationError
from ..figures import counted
from ..sizes import Size, to_bytes

__all__ = ["DAY", "Action", "InPlace", "InTrash", "Plan", "Quota", "Stock", "make_plan", "span"]

DAY = 86_400.0

_FREES_NOTHING = "frees nothing, as others need all that it has"

#: The bytes that a model needs, by their content.
Blobs = Mapping[Any, int]


@dataclass(frozen=True, slots=True)
class InPlace:
    """
    A model in place.

    Attributes:
        name: Its full name.
        blobs: What it needs.
        used: When it was last read or came, at the latest, in seconds since the epoch.
        kept: Why it may not go. Empty: it may.
        weights: The content that tells whether it is read. Models with the same are one unit: they
            are read together, and free the space only together. None: it is a unit of its own.
        read: When it was last read, as far as is known. Of those that came at the same time, as in
            a store that was moved, the one that was not read for longer goes first.
    """

    name: str
    blobs: Blobs
    used: float
    kept: str = ""
    weights: Hashable = None
    read: float = 0.0


@dataclass(frozen=True, slots=True)
class InTrash:
    """
    A model in the trash.

    Attributes:
        id: What tells it from others in the trash.
        name: Its full name.
        blobs: What it needs.
        when: When it was deleted, in seconds since the epoch.
        expired: Whether a prune removes it anyhow.
    """

    id: str
    name: str
    blobs: Blobs
    when: float
    expired: bool = False


@dataclass(frozen=True, slots=True)
class Stock:
    """
    What there is.

    Attributes:
        models: The models in place.
        trash: Those in the trash.
        due: The bytes that nothing needs, and that a prune removes anyhow.
        rest: The bytes of all else that the store alone has, which an eviction cannot free.
        free: How many bytes of the disk are free. None: there is no disk.
    """

    models: Sequence[InPlace] = ()
    trash: Sequence[InTrash] = ()
    due: int = 0
    rest: int = 0
    free: int | None = None


@dataclass(frozen=True, slots=True)
class Quota:
    """
    What is wanted.

    Attributes:
        max_used: How many bytes the store may take: models, trash and all else, but for content
            that has another name outside of it. None: any number.
        min_free: How many bytes of the disk are to be free. None: any number.
        unused: After how many seconds without being read a model goes. None: never.
        recent: What may have been read within so many seconds stays.
        room: How many bytes of *max_used* the models leave to the trash and to the next pull.
    """

    max_used: int | None = None
    min_free: int | None = None
    unused: float | None = None
    recent: float = DAY
    room: int = 0

    @classmethod
    def of(
        cls,
        *,
        max_used: Size | None = None,
        min_free: Size | None = None,
        unused: Duration | None = None,
        recent: Duration = DAY,
        room: Size = 0,
    ) -> Quota:
        """
        Read what is wanted as people write it.

        Raises:
            InvalidDurationError: One of the durations is invalid.
            InvalidSizeError: One of the sizes is invalid.
        """
        return cls(
            None if max_used is None else to_bytes(max_used),
            None if min_free is None else to_bytes(min_free),
            None if unused is None else to_seconds(unused),
            to_seconds(recent),
            to_bytes(room),
        )

    def check(self) -> None:
        """
        Check that it can be kept.

        Raises:
            ConfigurationError: There is no limit; or there is *room*, and no *max_used* that is
                as large.
        """
        if self.max_used is self.min_free is self.unused is None:
            raise ConfigurationError("evict: give at least one of max_used, min_free and unused")
        if self.room and self.max_used is None:
            raise ConfigurationError("evict: room is a part of max_used: give that, too")
        if self.max_used is not None and self.room > self.max_used:
            raise ConfigurationError("evict: room is larger than max_used, of which it is a part")

    def tighter_than(self, other: Quota) -> str | None:
        """Name what here may let go more than *other* would; None if there is nothing."""
        pairs: dict[str, tuple[float | None, float | None]] = {
            "max_used": (self.max_used, other.max_used),
            "unused": (self.unused, other.unused),
            "recent": (self.recent, other.recent),
            # To want more free space, or more room, lets go more.
            "min_free": (_negative(self.min_free), _negative(other.min_free)),
            "room": (-self.room, -other.room),
        }
        for name, (ours, theirs) in pairs.items():
            if ours is not None and (theirs is None or ours < theirs):
                return name
        return None

    def short(self, used: int, free: int | None) -> int:
        """Tell how many bytes are still wanting when *used* are taken and *free* are free."""
        over = 0 if self.max_used is None else used - self.max_used
        under = 0 if self.min_free is None or free is None else self.min_free - free
        return max(over, under, 0)


@dataclass(frozen=True, slots=True)
class Action:
    """
    One step of an eviction.

    Attributes:
        kind: ``prune`` (what a prune removes anyhow), ``forget`` (one delete of a model, for good),
            ``evict`` (a model).
        model: The full name of the model. None for a prune.
        entry: The id of the delete in the trash. None for a prune, and before it is there.
        bytes: How many bytes of the disk that frees.
        reason: Why.
        final: Whether it is gone for good; else it is in the trash.
    """

    kind: str
    model: str | None
    entry: str | None
    bytes: int
    reason: str
    final: bool = True


@dataclass(frozen=True, slots=True)
class Plan:
    """
    What goes, in order, and what comes of it.

    Attributes:
        actions: The steps.
        units: For each model of an ``evict``, all models with the same weights.
        kept: Why a model does not go: its name, and the reason.
        used: How many bytes the store takes afterwards.
        free: How many bytes of the disk are free afterwards.
        short: How many bytes are still wanting then.
    """

    actions: Sequence[Action]
    units: Mapping[str, Sequence[str]]
    kept: Mapping[str, str]
    used: int
    free: int | None
    short: int


def make_plan(stock: Stock, quota: Quota, now: float) -> Plan:
    """Plan what to let go of *stock*, at the time *now* in seconds since the epoch."""
    plan = _plan(stock, quota, now, share=100)
    if plan.short:
        larger = _plan(stock, quota, now)
        return plan if larger.short else larger
    return plan


def _plan(stock: Stock, quota: Quota, now: float, share: int | None = None) -> Plan:
    """Plan; with *share*, leave in the trash what frees less than one part in that of its size."""
    planner = _Planner(stock, quota, now, share)
    evicted = planner.evict()
    actions = [*planner.prune(), *planner.forget(evicted)]
    return Plan(
        actions,
        {model.name: unit.names for unit in evicted for model in unit.models},
        planner.kept,
        planner.total,
        planner.free,
        planner.short,
    )


@dataclass(frozen=True)
class _Unit:
    """Models with the same weights."""

    models: Sequence[InPlace]

    @cached_property
    def used(self) -> float:
        return max(model.used for model in self.models)

    @cached_property
    def read(self) -> float:
        return max(model.read for model in self.models)

    @cached_property
    def names(self) -> list[str]:
        return [model.name for model in self.models]

    def why_kept(self, quota: Quota, now: float) -> Iterator[tuple[str, str]]:
        """Say for each of them why it may not go; nothing if all may."""
        first = next((model for model in self.models if model.kept), None)
        for model in self.models:
            if first is not None:
                other = f"has the same weights as {first.name}, which {first.kept}"
                yield model.name, model.kept or other
            elif now - self.used < quota.recent:
                yield model.name, f"may have been read within {span(quota.recent)}"


class _Planner:
    """The bookkeeping: who needs which content, and what is free when nobody does."""

    def __init__(self, stock: Stock, quota: Quota, now: float, share: int | None) -> None:
        self.stock = stock
        self.quota = quota
        self.now = now
        self.share = share
        self.kept: dict[str, str] = {}
        self.free = stock.free
        self.size: dict[Hashable, int] = {}
        for needed in (one.blobs for some in (stock.models, stock.trash) for one in some):
            self.size.update(needed)
        self.live = Counter(blob for model in stock.models for blob in model.blobs)
        self.held = Counter(blob for entry in stock.trash for blob in entry.blobs)
        self.total = stock.rest + stock.due + self._sum(self.size)
        self.living = self._sum(self.live)

    @property
    def short(self) -> int:
        return self.quota.short(self.total, self.free)

    def evict(self) -> list[_Unit]:
        """Choose the models that leave their places, the least recently read first."""
        waiting, staying = self._who_may_go()
        room_for_floor = self.quota.min_free is not None and self.free is not None
        reach = self.total - self.stock.rest - self._sum(staying)
        if room_for_floor and self.quota.short(0, (self.free or 0) + reach):
            room_for_floor = False  # others fill the disk: no model is to go for nothing
        evicted = []
        for unit in waiting:
            old = self.quota.unused is not None and self.now - unit.used > self.quota.unused
            if not old:
                if not self._is_tight(floor=room_for_floor):
                    continue
                blobs = {blob: size for model in unit.models for blob, size in model.blobs.items()}
                if not any(size for blob, size in blobs.items() if blob not in staying):
                    self.kept.update(dict.fromkeys(unit.names, _FREES_NOTHING))
                    continue
            evicted.append((unit, old))
            for model in unit.models:
                self.held.update(model.blobs.keys())
                self.living -= self._sum(_drop(self.live, model.blobs))
        return [unit for unit, old in evicted if old or not self._stays(unit)]

    def _stays(self, unit: _Unit) -> bool:
        """Put *unit* back if it frees nothing, as models that stay after all need what it has."""
        sizes = [one for model in unit.models for one in model.blobs.items()]
        if any(size and blob not in self.live for blob, size in sizes):
            return False
        for model in unit.models:
            _drop(self.held, model.blobs)
            self.live.update(model.blobs.keys())
        self.kept.update(dict.fromkeys(unit.names, _FREES_NOTHING))
        return True

    def prune(self) -> Iterator[Action]:
        """Remove what a prune removes anyhow, if room is wanted."""
        if not self.short:
            return
        expired = [entry for entry in self.stock.trash if entry.expired]
        for entry in expired:
            _drop(self.held, entry.blobs)
        blobs = [blob for entry in expired for blob in entry.blobs]
        freed = self._remove(blobs, self.stock.due)
        if freed or expired:
            yield Action("prune", None, None, freed, "nothing needs it, and room is wanted")

    def forget(self, evicted: Iterable[_Unit]) -> Iterator[Action]:
        """Empty the trash, the oldest first, as far as room is wanted; last come the *evicted*."""
        for entry in sorted(self.stock.trash, key=lambda entry: (entry.when, entry.id)):
            if entry.expired:
                continue  # the prune has it
            if not self.short:
                break
            if not self._could_free(entry.blobs):
                continue
            _drop(self.held, entry.blobs)
            reason = f"in the trash for {span(self.now - entry.when)}, and room is wanted"
            yield Action("forget", entry.name, entry.id, self._remove(entry.blobs), reason)
        for unit in evicted:
            reason = f"not read for {span(self.now - unit.used)}"
            for model in unit.models:
                final, freed = bool(self.short) and self._could_free(model.blobs), 0
                if final:
                    _drop(self.held, model.blobs)
                    freed = self._remove(model.blobs)
                yield Action("evict", model.name, None, freed, reason, final)

    def _who_may_go(self) -> tuple[list[_Unit], set[Hashable]]:
        """Sort the units that may go by when they were read; tell what content stays anyhow."""
        groups: dict[tuple[bool, Hashable], list[InPlace]] = {}
        for model in sorted(self.stock.models, key=lambda model: model.name):
            single = model.weights is None
            groups.setdefault((single, model.name if single else model.weights), []).append(model)
        waiting = []
        staying: set[Hashable] = set()
        for unit in map(_Unit, groups.values()):
            why = dict(unit.why_kept(self.quota, self.now))
            self.kept.update(why)
            if why:
                staying.update(blob for model in unit.models for blob in model.blobs)
            else:
                waiting.append(unit)
        waiting.sort(key=lambda unit: (unit.used, unit.read, unit.names))
        return waiting, staying

    def _is_tight(self, *, floor: bool) -> bool:
        """Tell whether even an empty trash would leave too little room."""
        least = self.stock.rest + self.living
        quota = self.quota
        if quota.max_used is not None and least > max(quota.max_used - quota.room, 0):
            return True
        if not floor or quota.min_free is None or self.free is None:
            return False
        return self.free + self.total - least < quota.min_free

    def _could_free(self, blobs: Iterable[Hashable]) -> bool:
        """Tell whether enough of *blobs* is space that no model in place needs."""
        sizes = {blob: self.size.get(blob, 0) for blob in blobs}
        freed = sum(size for blob, size in sizes.items() if blob not in self.live)
        return freed > 0 and (self.share is None or freed * self.share >= sum(sizes.values()))

    def _remove(self, blobs: Iterable[Hashable], more: int = 0) -> int:
        """Remove those of *blobs* that nobody needs any more, and tell what that frees."""
        gone = {blob for blob in blobs if blob not in self.live and blob not in self.held}
        freed = more + sum(self.size.pop(blob) for blob in gone)
        self.total -= freed
        if self.free is not None:
            self.free += freed
        return freed

    def _sum(self, blobs: Iterable[Hashable]) -> int:
        return sum(self.size[blob] for blob in blobs)


def _drop(count: Counter[Hashable], blobs: Iterable[Hashable]) -> list[Hashable]:
    """Take one user of each of *blobs* away, and tell which have none left."""
    gone = []
    for blob in blobs:
        count[blob] -= 1
        if not count[blob]:
            del count[blob]
            gone.append(blob)
    return gone


def _negative(number: int | None) -> int | None:
    return -number if number else None  # nothing free is wanted by 0, as without it


def span(seconds: float) -> str:
    """Write how long something takes or is ago, in the largest unit that fits."""
    for unit, length in (("days", DAY), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length:.0f} {unit}"
    return counted(int(max(seconds, 0)), "second")
