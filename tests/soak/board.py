"""What all processes of a soak share: the phase, the counts, and a journal each."""

from __future__ import annotations

import mmap
import os
import time
from enum import IntEnum
from pathlib import Path


class Phase(IntEnum):
    """What the parent asks the others to do."""

    STOP = 0
    BUSY = 1  # all do what they are there for
    PAUSE = 2  # only pruners do, so that soon no pull is under way
    REST = 3  # nor do they, so that the next prune meets much that is old and unreferenced
    STILL = 4  # pruners do, and some writers pull what is in place: nothing shows that they do
    ALONE = 5  # pruners do, and one writer, so that a pull is under way that nothing shows yet
    QUIET = 6  # pruners do, with an age of 0, as nobody pulls; and models are renamed


class Count(IntEnum):
    """What each process counts."""

    PULLS = 0
    COMMITTED = 1
    IN_PLACE = 2  # of the committed: all blobs were found in place
    ABANDONED = 3  # given up on purpose
    FAILED = 4  # given up as a blob that was just fetched was gone again
    LATE = 5  # given up as it took longer than the promise allows
    DELETES = 6
    RESTORES = 7
    INCOMPLETE = 8  # restores refused as a blob was gone
    COLLECTIONS = 9
    STOPPED = 10  # collections that met half a manifest
    REMOVED = 11  # blobs that collections removed
    ERRORS = 12
    TOLD = 13  # errors where some must be, as there are outages
    AGAIN = 14  # blobs that were gone by the time that a writer asked for them to be kept
    CREATED = 15  # of the committed: made here, not pulled
    COPIED = 16  # of the committed: copied in with cp or rsync, with times of long ago
    RENAMES = 17
    IN_PARTS = 18  # slow downloads in parts that came
    STUCK_FILES = 19  # files that nobody could touch for a while
    UNTOUCHED = 20  # failures that collections reported because of those
    QUIET = 21  # collections with an age of 0
    UNSETTLED = 22  # collections that removed nothing, as models came and went
    FORGOTTEN = 23  # deleted models that were removed for good on request


EVENTS = (
    *(Count.PULLS, Count.DELETES, Count.RESTORES, Count.COLLECTIONS, Count.STOPPED),
    *(Count.RENAMES, Count.IN_PARTS, Count.FORGOTTEN),
)


class Board:
    """Memory that all processes share: the phase, and a row of counts for each process."""

    def __init__(self, rows: int) -> None:
        self._cells = memoryview(mmap.mmap(-1, 8 * (1 + rows * len(Count)))).cast("q")
        self._rows = rows

    @property
    def phase(self) -> Phase:
        return Phase(self._cells[0])

    @phase.setter
    def phase(self, phase: Phase) -> None:
        self._cells[0] = phase

    def count(self, row: int, what: Count, number: int = 1) -> None:
        self._cells[1 + row * len(Count) + what] += number

    def total(self, what: Count) -> int:
        return sum(self._cells[1 + row * len(Count) + what] for row in range(self._rows))


class Journal:
    """
    What one process did, appended to a file: it outlives the process, and each restart of it.

    A line is ``<moment> <what> <key> <details>``. Moments are of the clock that all processes of a
    machine share. What a line begins and no line ends was cut off by a kill, before the next start.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self.write("start", "-")

    def write(self, what: str, key: str, details: str = "") -> None:
        os.write(self._file, f"{time.monotonic():.6f} {what} {key} {details}\n".encode())
