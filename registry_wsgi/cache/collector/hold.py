"""Whether what a run would set aside now has to wait for a later one."""

from __future__ import annotations

from ...stores.base import Store
from .census import take_census
from .judge import judge, look_for_pulls, look_for_use
from .limits import Activity, Limits
from .progress import Progress

__all__ = ["look_for_hold"]


def look_for_hold(
    store: Store, limits: Limits, progress: Progress | None = None
) -> Activity | None:
    """
    Find out whether a run that begins now would leave what it sets aside to a later run.

    Where blobs are only marked, as in a bucket, each run does that. There only a pull counts.

    Returns:
        The signs of other programs at work because of which it would; None if it would not.

    Raises:
        InvalidManifestError: A manifest cannot be read.
        OutOfReachError: A part of the manifests is out of reach.
        StoreError: The storage failed.
    """
    census = take_census(store, limits, [], every_model=False, progress=progress)
    judge(store, limits, census, deleted_only=True, progress=progress)
    look_for_pulls(store, limits, census)
    activity = census.activity
    if not store.sets_aside:
        return activity if activity.pull else None
    look_for_use(store, limits, activity)
    return activity if limits.must_wait(limits.now, activity, hidden=True) else None
