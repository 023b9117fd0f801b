"""One run of the collector, from the first phase to the last."""

from __future__ import annotations

import logging
from collections.abc import Collection

from ...durations import moment
from ...stores.base import Deleted, Store
from .census import check_manifests, take_census
from .judge import Plan, judge, look_for_pulls
from .limits import Limits
from .progress import Progress, in_time
from .report import PruneReport
from .suspects import Suspects
from .sweep import Sweep, foretell

__all__ = ["collect"]

_log = logging.getLogger("registry_wsgi")


def collect(
    store: Store,
    limits: Limits,
    *,
    every_model: bool = False,
    deleted_only: bool = False,
    only: list[Deleted] | None = None,
    as_deleted: Collection[str] = (),
    dry_run: bool = False,
    progress: Progress | None = None,
) -> PruneReport:
    """
    Run once over *store*.

    Args:
        only: Deleted models. They go now, with the blobs that they alone needed, and nothing else.
        as_deleted: For a dry run: the keys of models in place, which count as if they were deleted
            and among *only*.
    """
    expired = find_expired(store, limits)[: limits.most] if only is None else only
    deleted_only = deleted_only or only is not None
    if deleted_only and not (expired or as_deleted or _is_left_in_a_hurry(store, limits)):
        return PruneReport(dry_run=dry_run, begun=moment(limits.now))
    watch = in_time(progress, limits.deadline)
    census = take_census(
        store,
        limits,
        expired,
        every_model=every_model,
        as_deleted=as_deleted if dry_run else (),
        progress=watch,
    )
    census.expired.only = only is not None
    plan = judge(store, limits, census, deleted_only=deleted_only, progress=watch)
    if plan.doomed and store.sets_aside:
        census.settled = census.reader.is_complete() or census.reader.settle(
            but_old=True, deadline=limits.deadline
        )
        plan.keep(census.references.is_needed)
    census.reader.progress = progress  # the sweep is not cut short
    if not census.settled:
        plan = Plan()
    elif plan.doomed and not limits.quiet:
        check_manifests(store, census)
    if plan:
        look_for_pulls(store, limits, census)
    plan.wait_for_pulls(limits, census)
    if only is not None and plan.waiting:
        # These models stay in the trash, so that the caller can name them once more. Without them
        # the blobs would have to grow old first.
        plan.doomed = Suspects()
        census.expired.held.clear()
    blobs = bool(plan) or census.references.any_aside
    before = limits.abandoned_before(deleted_only=deleted_only) if only is None else 0.0
    abandoned = store.abandoned(before, creates=not deleted_only)
    if blobs or census.old.go or census.expired.held or abandoned:
        store.check_places(census.old.go, blobs=blobs)
    if dry_run:
        tally = foretell(store, limits, census, plan)
    else:
        sweep = Sweep(store, limits, census, progress)
        tally = sweep.run(plan)
    # The folders of creates are looked for once more if there are any: they may be in use by now.
    creates = any(not place.startswith("trash/") for place in abandoned)
    failures = {} if dry_run else store.tidy(before, creates=creates)
    if blobs and not dry_run:
        sweep.note_own_changes()  # last, as the tidying changes what keeps it
    for place, held in abandoned.items():
        if place in failures:
            tally.fail(failures[place])
        elif place.startswith("trash/"):
            tally.release((place, blob) for blob in held)
        else:
            for blob in held:
                tally.blob(place, blob)
    if not census.settled:
        _log.warning(
            "models came and went all the while that they were read, so it is not known what is"
            " needed, and nothing was removed: prune again"
        )
    return tally.report(
        limits, len(census.old.protected), dry_run=dry_run, unsettled=not census.settled
    )


def _is_left_in_a_hurry(store: Store, limits: Limits) -> bool:
    """Tell whether a run for which a client waited has left blobs aside that may go by now."""
    if limits.deadline is None or not store.sets_aside:
        return False
    return any(not limits.had_no_pause(blob.when) for blob in store.condemned())


def find_expired(store: Store, limits: Limits) -> list[Deleted]:
    """List the deleted models whose time is over, be it theirs, ours, or the age of this run."""
    if limits.keep is None:
        return store.deleted(limits.cutoff)
    until = min(max(limits.time, limits.now), limits.before)
    expired = store.deleted(until, limits.keep)
    return [entry for entry in expired if entry.when <= limits.before]
