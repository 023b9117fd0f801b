"""
The collector: which blobs nothing needs, and how they are removed so that no model ever lacks one.

Other programs put models into the same store at any moment, without a lock, and without a word: a
pull that finds a blob in its place uses it as it is. So the safety lies in the order of the steps.
This is the one place that gives the reasons.

1. **Census** (`census`). What is aside is listed, then the blobs, then the trash, the manifests and
   the trash again are read.

   - What is aside is listed before the blobs: a blob that is put back in between is seen in its
     place.
   - The blobs are listed before the manifests are read: a blob that comes later is not listed, so
     it cannot be removed, and a manifest that comes later can only save blobs.
   - The trash is read before and after the manifests: a model that is deleted or restored
     meanwhile is seen on one of the two sides.

   What cannot be read, or not be reached, ends the run here, before anything is touched.
2. **Judgement** (`judge`). What no manifest needs is looked at. What changed recently shows that a
   pull is under way. What has not changed for the age is *doomed*; while a pull shows, only what
   has not changed for the age and the hold.
3. **Setting aside** (`sweep`). Doomed blobs are *condemned*: renamed aside, so that a pull that
   looks for one from now on fetches it anew. An unfinished download is not set aside: its pull
   would not find it. In a store at rest, a pull that looked before may not show yet: it gets a
   *pause* to begin its next download. A run for which a client waits does not pause: it leaves
   what it sets aside to a later run.
4. **Reading again**. What is new or has changed is read. A pull is looked for before and after
   that: one that ends in between was seen before, or its manifest is read; one that begins in
   between is seen after. Expired models are forgotten before that: from then on nobody can restore
   one, and the manifest of one that was just restored is read.
5. **Putting back**. What is needed after all, or was touched meanwhile, is *pardoned*: put back, as
   if just written.
6. **Removal**. The rest is *purged*; abandoned downloads, and the folders of creates that were
   killed, are removed. While a pull shows, which may have seen a blob before it was set aside, the
   rest stays aside for a later run, until there is no pull or the hold is over. While the store is
   in use, so that a pull may have begun which shows nothing yet, what is aside stays there for as
   long as a pull can go without a sign.

A walk through many folders is not one step. A model that another program renames (it copies the
manifest and removes the old one) can be missed under both names. So a reading counts only if it was
*at rest* (`reader`): no manifest and no folder changed, came or went from before it was listed
until the reading ended. Else what has moved is read again. Before blobs are set aside there must
have been such a reading, and another before any is removed; if the store never comes to rest,
nothing is.

Each step is a single rename, link or unlink, and each run begins with what earlier ones have left
aside, so a run may be killed anywhere, and any number may work at once.
"""

from __future__ import annotations

from .collect import collect
from .hold import look_for_hold
from .limits import PAUSE, Limits
from .progress import OutOfTimeError, Progress
from .report import Item, PruneReport, Removed

__all__ = [
    "PAUSE",
    "Item",
    "Limits",
    "OutOfTimeError",
    "Progress",
    "PruneReport",
    "Removed",
    "collect",
    "look_for_hold",
]
