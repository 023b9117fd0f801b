"""
Carrying an eviction out: as planned once, and each step only if what it rests on still holds.

A model leaves its place by the same way as any delete, and for good by that of ``forget``: here no
blob is touched. There is one plan a run. Were models let go for as long as too little is free, a
snapshot, or a process that has the files open, would cost all of them: to remove such a file frees
nothing. So if the disk gets back less than half of what has gone, the run ends.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypeVar

from ..durations import moment
from ..errors import ConfigurationError, ModelProtectedError
from ..figures import counted
from ..stores.base import Deleted, Store, WatchedStore
from .collector import PruneReport
from .evict_plan import Action, Plan, Quota, Stock, make_plan, span
from .space import disk_of, measure_own
from .stock import Resident, last_reads, look_at, protection, take_stock

__all__ = ["EvictReport", "Eviction"]

_log = logging.getLogger("registry_wsgi")

_T = TypeVar("_T")

# Some file systems give the space of a removed file back only after a while, in seconds.
_PATIENCE = 40.0

# Less than this tells nothing, as other programs write, too: in bytes.
_NOTICEABLE = 16 << 20

# So much more than its bytes a few small files take of the disk: in bytes.
_ROUNDED_UP = 64 << 10


@dataclass(frozen=True, slots=True)
class EvictReport:
    """
    What an eviction let go, or would let go.

    Attributes:
        ok: Whether all limits are kept in the end, and nothing has failed.
        short: How many bytes are still wanting.
        used: How many bytes of the disk the store takes in the end, with its trash, but for content
            that has another name outside of it: to let that go frees nothing.
        free: How many bytes of the disk are free in the end. None: there is no disk.
        freed: How many bytes all steps together free. What could not be removed, was put back or is
            only set aside counts nothing.
        actions: The steps, in order.
        kept: Why models do not go: for each that stays for another reason than that it need not
            go, its full name and the reason.
        stopped: Why the run ended before its time. None: it did not.
        failures: What could not be moved or removed, each with why.
        dry_run: True if nothing was touched.
        begun: When this began, by the clock of the cache (UTC).
    """

    ok: bool
    short: int
    used: int
    free: int | None
    freed: int
    actions: Sequence[Action] = ()
    kept: Mapping[str, str] = field(default_factory=dict)
    stopped: str | None = None
    failures: Sequence[str] = ()
    dry_run: bool = False
    begun: datetime | None = field(default=None, compare=False)


class Eviction:
    """
    One eviction.

    Args:
        store: Where the models are.
        quota: What is wanted.
        retention: How long what nothing needs is kept, in seconds.
        clock: The time in seconds since the epoch.
        discard: Moves a model into the trash.
        forget: Removes deleted models for good; with *dry_run*, reports what that would do.
        prune: Removes what is no longer needed; with *dry_run*, reports what that would do.
        why_held: Says why what is removed now would only be set aside; None if it would be free.
        within: Only steps that this report has, too, are taken. None: any.

    Raises:
        ConfigurationError: There is no limit; or one for the disk, and no disk; or more *room*
            than there may be.
    """

    def __init__(
        self,
        store: Store,
        quota: Quota,
        retention: float,
        clock: Callable[[], float],
        *,
        discard: Callable[[str], Deleted | None],
        forget: Callable[..., PruneReport],
        prune: Callable[..., PruneReport],
        why_held: Callable[[], str | None],
        within: EvictReport | None = None,
    ) -> None:
        self._store = store
        self._quota = quota
        self._retention = retention
        self._clock = clock
        self._discard = discard
        self._forget = forget
        self._prune = prune
        self._why_held = why_held
        self._within = within
        self._begun = moment(clock())
        self._residents: Mapping[str, Resident] = {}
        self._taken = self._taken_of_disk()
        self._freed = 0
        self._done: list[Action] = []
        self._kept: dict[str, str] = {}
        self._failures: list[str] = []
        quota.check()
        if quota.min_free and self._taken is None:
            raise ConfigurationError("evict: min_free is of a disk, and this store has none")

    def plan(self) -> EvictReport:
        """Report what a run would do."""
        plan, less = self._make_plan()
        freed = sum(action.bytes for action in plan.actions)
        return EvictReport(
            *(not plan.short, plan.short, plan.used, plan.free, freed),
            *(plan.actions, plan.kept, less if plan.short else None),
            dry_run=True,
            begun=self._begun,
        )

    def run(self) -> EvictReport:
        """Let go what is to go."""
        plan, less = self._make_plan()
        self._kept.update(plan.kept)
        stopped = next((why for why in self._steps(plan) if why), None)
        used, free, short = self._measure()
        stopped = stopped or (less if short else None)
        if stopped:
            _log.warning("the eviction has ended early: %s", stopped)
        return EvictReport(
            *(not (short or self._failures), short, used, free, self._freed),
            *(self._done, self._kept, stopped, self._failures),
            begun=self._begun,
        )

    def _measure(self) -> tuple[int, int | None, int]:
        """Measure what is taken and what is free now, and how many bytes are still wanting."""
        used, free = measure_own(self._store, self._retention, self._clock())
        return used, free, self._quota.short(used, free)

    def _make_plan(self) -> tuple[Plan, str | None]:
        """Plan, and say why less goes than the limits want, if so."""
        now = self._clock()
        stock, self._residents = take_stock(self._store, self._retention, now)
        plan = make_plan(stock, self._quota, now)
        held = self._why_held() if any(action.final for action in plan.actions) else None
        if held is not None:
            plan = self._plan_while(held, plan, stock, now)
        if self._within is not None and (fewer := self._as_shown(plan, self._within)) != plan:
            return fewer, held or "more would have to go than was shown"
        return plan, held

    def _as_shown(self, plan: Plan, shown: EvictReport) -> Plan:
        """Take only those steps of *plan* that were *shown*, and none for good that was not."""
        steps = {(one.kind, one.model, one.entry): one for one in shown.actions}
        left = []
        kept = dict(plan.kept)
        for action in plan.actions:
            unit = plan.units.get(str(action.model), ()) if action.kind == "evict" else ()
            before = steps.get((action.kind, action.model, action.entry))
            if before is None or any(("evict", name, None) not in steps for name in unit):
                if action.kind == "evict":
                    kept[str(action.model)] = "was not among what was shown"
            elif action.final and not before.final:
                left.append(replace(action, bytes=0, final=False))
            else:
                left.append(action)
        more = sum(one.bytes for one in plan.actions) - sum(one.bytes for one in left)
        used, free = plan.used + more, None if plan.free is None else plan.free - more
        return Plan(left, plan.units, kept, used, free, self._quota.short(used, free))

    def _plan_while(self, held: str, plan: Plan, stock: Stock, now: float) -> Plan:
        """
        Plan only what costs nothing while what is removed would only be set aside.

        To remove a model for good would free nothing then. A prune goes as it always does.
        """
        rest = make_plan(stock, replace(self._quota, max_used=None, min_free=None), now)
        pruned = [action for action in plan.actions if action.kind == "prune"]
        if pruned:
            freed = self._prune(dry_run=True).bytes
            pruned = [replace(action, bytes=min(action.bytes, freed)) for action in pruned]
        freed = sum(action.bytes for action in pruned)
        goes = {action.model for action in (*pruned, *rest.actions)}
        stays = [str(action.model) for action in plan.actions if action.model not in goes]
        kept = {**plan.kept, **dict.fromkeys(stays, f"stays for now: {held}")}
        used, free = rest.used - freed, None if rest.free is None else rest.free + freed
        short = self._quota.short(used, free)
        return Plan([*pruned, *rest.actions], rest.units, kept, used, free, short)

    def _steps(self, plan: Plan) -> Iterator[str]:
        """Take the steps of *plan*, as often as asked; after each, say why to stop, if so."""
        for action in plan.actions:
            if action.kind == "prune":
                foretold = self._prune(dry_run=True)
                report = self._prune(dry_run=False)
                self._failures += report.failures
                if not report.unsettled:
                    self._note(_as_freed([action], report, foretold))
                yield self._check_disk()
        trash = [action for action in plan.actions if action.kind == "forget"]
        for batch in _growing(trash):
            entries = {entry.id: entry for entry in self._store.deleted()}
            there = [action for action in batch if action.entry in entries]
            yield self._forget_each([(action, entries[str(action.entry)]) for action in there])
        units: dict[tuple[str, ...], list[Action]] = {}
        for action in plan.actions:
            if action.kind == "evict":
                units.setdefault(tuple(plan.units[str(action.model)]), []).append(action)
        for some in _growing(list(units.values())):
            yield self._evict(some)

    def _why_not(self, names: Sequence[str]) -> str | None:
        """Say why a unit may no longer go: what was true when it was planned is looked at anew."""
        now = self._clock()
        is_protected = protection(self._store)
        reads = last_reads(self._store, [self._residents[name] for name in names])
        for name in names:
            model = self._residents[name]
            manifest = self._store.read(model.key)
            if manifest is None:
                return "has gone meanwhile"
            before = model.manifest
            if manifest.modified > before.modified or manifest.data != before.data:
                return "has changed meanwhile"
            model_now = replace(model, manifest=manifest)
            look = look_at(self._store, model_now, reads, is_protected, now)
            if look.kept:
                return look.kept
            if now - look.used < self._quota.recent:
                return f"may have been read within {span(self._quota.recent)}"
            if look.read > model.read:
                return "was read meanwhile"
        return None

    def _evict(self, units: Iterable[Sequence[Action]]) -> str:
        """Move models into the trash; those that are to go for good, out of it."""
        final = []
        for unit in units:
            why = self._why_not([str(action.model) for action in unit])
            if why is not None:
                self._kept.update((str(action.model), why) for action in unit)
                continue
            moved = [(action, entry) for action in unit if (entry := self._move(action))]
            final += [step for step in moved if step[0].final]
            self._done += [
                replace(action, entry=entry.id) for action, entry in moved if not action.final
            ]
        return self._forget_each([step for step in final if not self._is_opened(*step)])

    def _move(self, action: Action) -> Deleted | None:
        """Move a model into the trash; None if it is not there any more, or protected by now."""
        name = str(action.model)
        try:
            entry = self._discard(name)
        except ModelProtectedError as error:
            self._kept[name] = f"is protected, by {error.pattern}"
            return None
        if entry is None:
            self._kept[name] = "has gone meanwhile"
        else:
            _log.info("%s: moved into the trash: %s", name, action.reason)
        return entry

    def _is_opened(self, action: Action, entry: Deleted) -> bool:
        """
        Tell whether somebody has opened a model just before it went into the trash.

        They have read its manifest before. It stays in the trash, so that it can be restored.
        """
        name = str(action.model)
        blobs = self._residents[name].blobs
        store = self._store
        if not isinstance(store, WatchedStore) or not any(store.is_open(blob) for blob in blobs):
            return False
        self._leave([(action, entry)])
        return True

    def _leave(self, steps: Iterable[tuple[Action, Deleted]]) -> None:
        """Note which models have gone into the trash, and stay there."""
        self._done += [
            replace(action, entry=entry.id, bytes=0, final=False)
            for action, entry in steps
            if action.kind == "evict"
        ]

    def _forget_each(self, steps: Sequence[tuple[Action, Deleted]]) -> str:
        """
        Remove deleted models for good, and say why to stop, if so.

        If there is room enough by now, as somebody else has removed something, they stay.
        """
        if not steps:
            return ""
        if not self._measure()[2]:
            self._leave(steps)
            return ""
        entries = [entry for _, entry in steps]
        foretold = self._forget(entries, dry_run=True)
        if foretold.held_blobs:
            held = self._why_held()
            # Where blobs are only marked, as in a bucket, they are always held.
            if held or self._store.sets_aside:
                self._leave(steps)
                return held or "a download is under way, and may use what would go"
        report = self._forget(entries, dry_run=False)
        self._failures += report.failures
        left = {entry.id for entry in self._store.deleted()} if report.models < len(steps) else ()
        gone = []
        for action, entry in steps:
            if entry.id not in left:
                gone.append(replace(action, entry=entry.id))
            else:
                self._leave([(action, entry)])
        self._note(_as_freed(gone, report, foretold))
        if report.unsettled:
            return "models came and went all the while"
        if report.held_blobs:
            return self._why_held() or "what has gone is only set aside: a later prune frees it"
        if 2 * report.bytes < foretold.bytes:
            if not report.failed:
                return "what was to go was put back, as somebody uses it"
            return f"{counted(report.failed, 'file')} could not be moved or removed"
        return self._check_disk()

    def _note(self, actions: Iterable[Action]) -> None:
        """Count what has gone for good."""
        for action in actions:
            self._done.append(action)
            self._freed += action.bytes

    def _check_disk(self) -> str:
        """Say so if the disk has got back less than half of what was freed."""
        if self._taken is None or self._freed < _NOTICEABLE:
            return ""
        ends = time.monotonic() + _PATIENCE
        while True:
            got_back = self._taken - (self._taken_of_disk() or 0)
            if 2 * got_back >= self._freed:
                return ""
            if time.monotonic() >= ends:
                return (
                    f"{self._freed:,} bytes were removed, and the disk has got back"
                    f" {max(got_back, 0):,}: a snapshot or a process has the files still, or others"
                    " fill the disk"
                )
            time.sleep(1)

    def _taken_of_disk(self) -> int | None:
        disk = disk_of(self._store)
        return None if disk is None else disk.used


def _as_freed(
    actions: Sequence[Action], report: PruneReport, foretold: PruneReport
) -> Iterator[Action]:
    """
    Give each of *actions* the bytes that it has freed, as *report* has them.

    A report counts the bytes of files, a plan those of the disk: these count if all has gone that
    was *foretold*, and that is not far less than planned. Else no more counts than was reported.
    """
    planned = sum(action.bytes for action in actions)
    less = (
        report.held_blobs
        or report.bytes < foretold.bytes
        or 2 * (report.bytes + _ROUNDED_UP) < planned
    )
    left = report.bytes if less else planned
    for action in actions:
        freed = min(action.bytes, left)
        left -= freed
        yield replace(action, bytes=freed)


def _growing(items: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """Take one item, then two, then four: at most half of what has gone was not looked at."""
    start, size = 0, 1
    while start < len(items):
        yield items[start : start + size]
        start, size = start + size, size * 2
