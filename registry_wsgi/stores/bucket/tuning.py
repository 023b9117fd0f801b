"""The sizes and times that a store in a bucket works with, each with its reason, in one place."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Tuning"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """
    How a store in a bucket paces its requests, and how long it waits for other processes.

    The defaults are safe on every store that the documentation names. The times belong together:
    *marking* must stay well below *at_work*, and every process that uses a bucket must have the
    same *at_work*.

    Attributes:
        page: How many objects are listed, or deleted, by one request. S3 allows 1,000.
        threads: How many requests are under way at once, where there are many.
        few: Up to how many objects are looked at one by one. Of more, the listing is read: one
            page of it costs as much as one look.
        density: How many entries of a listing are read for each object that is looked for in it.
            Of a listing that has more others among them, the objects are looked at one by one, so
            that a few objects never cost all pages of a large bucket.
        index_after: From how many objects on that had to be read a reading writes the index at
            once, rather than leaving that to the next prune.
        attempts: How often a step is taken again because the object was changed just before it.
        at_work: For how long a tombstone or a mark may belong to a process that is still at work,
            in seconds. It must be longer than the few requests that follow it can take (each is
            given *read_timeout*, and repeated), plus the difference of the clocks. Until then
            nobody removes a tombstone or takes its place, as that process deletes whatever is
            there.
        marking: How long it may take from the first mark of a batch to the delete that hides its
            blobs, in seconds. Later than *at_work* others may take the marks for abandoned.
        opening: How long the request that opens a bucket waits for an answer, in seconds. It is
            tried twice: a store that accepts and never answers is given up before the time limit
            of a worker of a server.
        patience: How long *restore* and *protect* wait for a process that is just removing what
            is in their place, in seconds.
        poll: How long such a wait sleeps between two looks, in seconds.
        bury_pauses: How long to wait before each further try to remove a tombstone, in seconds.
        clock_skew: How much the clock here and that of the store may differ, in seconds. Ages are
            meaningless with more.
        probe_age: From what age on the object that a look at the store leaves is not that of a
            process at work, in seconds.
    """

    page: int = 1_000
    threads: int = 16
    few: int = 50
    density: int = 100
    index_after: int = 200
    attempts: int = 10
    at_work: float = 600
    marking: float = 150
    opening: float = 4
    patience: float = 5
    poll: float = 0.05
    bury_pauses: tuple[float, ...] = (0.1, 0.5, 2.0)
    clock_skew: float = 300
    probe_age: float = 3600
