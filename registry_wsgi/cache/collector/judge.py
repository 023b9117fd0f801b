"""Phase 2: what is old enough to go, and what has to wait."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from ...stores.base import Blob, Store
from ..downloads import download_of, removal_order
from ..manifest import blob_name
from .census import Census
from .limits import Activity, Limits
from .progress import Progress, counted
from .suspects import NOT_ASIDE, Run, Suspects

__all__ = [
    "Download",
    "Plan",
    "judge",
    "look_aside",
    "look_for_pulls",
    "look_for_use",
    "youngest",
]

#: The files of an unfinished download, in the order in which they can be removed.
Download = list[tuple[str, Blob]]


@dataclass
class Plan:
    """
    What a run is to do about the blobs that nothing needs.

    Attributes:
        doomed: Blobs to be set aside.
        downloads: Unfinished downloads to be removed.
        waiting: Blobs that would go, were there no pull: when they go all the same, their names
            and looks.
    """

    doomed: Suspects = field(default_factory=Suspects)
    downloads: list[Download] = field(default_factory=list)
    waiting: list[tuple[float, str, Blob]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.doomed or self.downloads)

    def keep(self, is_kept: Callable[[str], bool]) -> None:
        """Take those blobs out of *doomed* for whose names *is_kept* is true."""
        if any(map(is_kept, self.doomed.names)):
            self.doomed = self.doomed.chosen(lambda name, _: not is_kept(name))

    def wait_for_pulls(self, limits: Limits, census: Census) -> None:
        """While a pull shows, move to *waiting* whatever it may still use."""
        due = limits.due(pull=census.activity.pull)
        if due == limits.cutoff:
            return
        patience = limits.age + limits.hold
        for blob, look in self.doomed:
            if look.changed > due and not census.references.is_needed(blob.name):
                self.waiting.append((look.changed + patience, blob.name, look))
        self.doomed = self.doomed.chosen(lambda _, look: look.changed <= due)
        for download in self.downloads:
            if youngest(download) > due:
                when = youngest(download) + patience
                self.waiting += ((when, name, look) for name, look in download)
        self.downloads = [some for some in self.downloads if youngest(some) <= due]


def judge(
    store: Store, limits: Limits, census: Census, *, deleted_only: bool, progress: Progress | None
) -> Plan:
    """Look at the blobs that nothing needs; that also shows whether a pull is under way."""
    # The hard links of a delete change the ctime of its blobs. So for these only a write counts.
    held = {blob.content for blobs in census.expired.held.values() for blob in blobs.values()}
    references, activity = census.references, census.activity
    names = counted(
        progress, "looking at blobs", references.unneeded(), references.count_unneeded()
    )
    plan = Plan()
    downloads: defaultdict[str, Download] = defaultdict(list)
    for name, look in store.look(names):
        blob = look._replace(changed=look.written) if look.content in held else look
        canonical = blob_name(name)
        deleted = census.expired.deleted.get(canonical or "")
        # A blob that was written before its model was deleted is that model's, not a later pull's.
        if limits.is_recent(blob.changed) and (deleted is None or blob.changed > deleted):
            activity.pull = True
        if deleted_only and deleted is None:
            continue
        download = download_of(name) if canonical is None else None
        if download is not None:
            downloads[download].append((name, blob))
            continue
        if deleted is not None:
            blob = blob._replace(changed=max(blob.changed, deleted))
        if blob.changed <= limits.cutoff:
            plan.doomed.add(name, NOT_ASIDE, blob)
    for files in downloads.values():
        if youngest(files) <= limits.cutoff:
            plan.downloads.append(sorted(files, key=lambda file: removal_order(file[0])))
    return plan


def look_aside(store: Store, limits: Limits, census: Census) -> Suspects:
    """Look at the blobs that earlier runs have left aside and nothing needs."""
    suspects = Suspects()
    shared: dict[Run, Run] = {}
    aside = (blob for blob in census.references.aside() if blob.when <= limits.before)
    if census.expired.only:
        aside = (blob for blob in aside if blob_name(blob.name) in census.expired.deleted)
    for blob, look in store.look_aside(aside):
        if not store.sets_aside:  # it is in its place, and can still grow
            census.activity.pull = census.activity.pull or limits.is_recent(look.written)
        run = blob.when, blob.id
        suspects.add(blob.name, shared.setdefault(run, run), look)
    return suspects


def look_for_pulls(store: Store, limits: Limits, census: Census) -> None:
    """Look whether something has come or grown since the blobs were listed."""
    activity, references = census.activity, census.references
    if activity.pull or limits.quiet:
        return
    if limits.is_recent(store.preparing()):
        activity.pull = True
        return
    # Where a pull may leave no trace, the last change of the store may have been part of one. So
    # for a full hold after that change a pull is taken to be under way.
    if not store.sets_aside and store.changed_unseen() + limits.hold > limits.now:
        activity.pull = True
        return
    for name in store.blobs():
        if references.may_be_a_pull(name):
            blob = store.blob(name)
            if blob is not None and limits.is_recent(blob.changed):
                activity.pull = True
                return


def look_for_use(
    store: Store, limits: Limits, activity: Activity, known: float | None = None
) -> float:
    """
    Look when somebody else last let a blob come or go.

    Args:
        known: The time of the last change that is accounted for. None: there was no look before.

    Returns:
        The time of the last change, whoever made it.
    """
    changed = store.blobs_changed()
    if changed != known:
        since, until = store.own_changes()
        used = min(since, changed) if changed < until else changed
        activity.used = max(activity.used, used)
        # A change since the last look is recent, whatever the clocks say.
        activity.in_use |= known is not None or limits.is_recent(used)
    return changed


def youngest(download: Download) -> float:
    """Tell when the youngest file of *download* last changed: the whole is as young."""
    return max(look.changed for _, look in download)
