"""
The collector: which blobs nothing needs, and how they are removed so that no model ever lacks one.

Other programs put models into the same store at any moment, without a lock, and without a word: a
pull that finds a blob in its place uses it as it is. So a blob goes in two phases.

1. The names of all blobs are listed, and only then every manifest is read: a blob that is not
   listed cannot be removed, and a manifest written after the listing can only save blobs. A
   manifest that cannot be read ends the run here, before anything is touched.
2. What no manifest needs and has not changed for long enough is *condemned*: renamed aside, so that
   a pull that looks for it from now on fetches it anew.
3. The manifests that are new or have changed meanwhile are read. What they need is *pardoned*: put
   back, as if just written. So is what was touched in the meantime.
4. The rest is *purged*. But while a pull is under way (it may have seen a blob before it was set
   aside), the rest stays aside for a later run, until there is no pull or the hold is over. And
   while the store is in use, so that a pull may have begun that has left no trace yet, what is set
   aside stays there for as long as a pull can go without one.

Each step is a single rename, link or unlink, and each run begins with what earlier ones have left
aside, so a run may be killed anywhere, and any number may work at once.
"""

from __future__ import annotations

from .limits import Limits
from .phases import collect
from .progress import Progress
from .report import PruneReport, Removed

__all__ = ["Limits", "Progress", "PruneReport", "Removed", "collect"]
