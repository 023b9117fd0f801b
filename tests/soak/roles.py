"""Who is at work in a soak."""

from __future__ import annotations

from collections.abc import Callable

from soak import collecting, others, workers
from soak.workers import Worker

ROLES: dict[str, Callable[[Worker], None]] = {
    "writer": workers.write,
    "deleter": workers.delete,
    "restorer": workers.restore,
    "pruner": collecting.prune,
    "forgetter": collecting.forget,
    "watcher": workers.watch,
    "renamer": others.rename,
    "fetcher": others.fetch,
    "blocker": others.block,
}
