"""What others do to a store on disk beside pulls: rename, download slowly, get in the way."""

from __future__ import annotations

import fcntl
import json
import os
import time
from contextlib import ExitStack
from typing import cast

from kit import trees
from kit.downloads import Download
from soak.board import Count, Phase
from soak.disk import Disk
from soak.workers import Worker

_ALWAYS = (Phase.BUSY, Phase.PAUSE, Phase.REST, Phase.STILL, Phase.ALONE)


def rename(worker: Worker) -> None:
    """Rename a model again and again, and pause, so that readings come to rest in between."""
    disk, rng = cast("Disk", worker.place), worker.rng
    for phase in worker.turns(*_ALWAYS, Phase.QUIET):
        old = rng.choice(worker.settings.keys)
        for _ in range(200 if phase == Phase.QUIET else rng.choice((1, 5, 100))):
            if worker.board.phase == Phase.STOP:
                break
            with ExitStack() as stack:
                free = [k for k in worker.settings.keys if not disk.tree.path(k).exists()]
                new = rng.choice(free if free and rng.random() < 0.9 else worker.settings.keys)
                try:
                    for key in (old, new):
                        lock = os.open(
                            worker.locks / key.replace("/", "_"), os.O_WRONLY | os.O_CREAT
                        )
                        stack.callback(os.close, lock)
                        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    break  # a pull is at it
                read = time.monotonic()
                make = disk.rename_model(old, new)
                if old == new or make is None:
                    break
                if time.monotonic() - read > worker.settings.retention / 4:
                    break
                # One line of the journal at a time is under way: both at once, in two journals.
                worker.journal.write("put", new, "rename")
                worker.second.write("delete", old)
                removed = make()
                worker.journal.write("done", new)
                worker.second.write("done" if removed else "none", old)
                worker.count(Count.RENAMES)
            old = new
            worker.pause(0.006)
        if phase != Phase.QUIET:
            worker.rest(0.8)


def fetch(worker: Worker) -> None:
    """
    Pull models of two blobs, the second slowly and in parts; stop and resume now and then.

    For as long as the second one comes, a pull shows: so the first stays in its place, and no file
    of the second one goes.
    """
    disk, rng, settings = cast("Disk", worker.place), worker.rng, worker.settings
    patience = settings.age + settings.hold
    key = f"example.com/models/slow-{worker.slot}/latest"
    for _ in worker.turns(*_ALWAYS):
        worker.rest(7)
        long = rng.random() < 0.3
        seconds = patience * rng.uniform(1.4, 1.8) if long else rng.uniform(3, 5) * settings.age
        slow = _SlowPull(worker, disk, seconds)
        with worker.alone(fcntl.LOCK_SH):
            _pull_slowly(slow, key, found=not long)


def _pull_slowly(slow: _SlowPull, key: str, *, found: bool) -> None:
    settings = slow.worker.settings
    if not slow.comes() or (found and not slow.keeps_what_it_found()):
        return
    if slow.sign - slow.begun < settings.hold / 2 and slow.silent < settings.in_flight / 2:
        slow.write_manifest(key)


class _SlowPull:
    """A pull of one small blob, and of one that takes its time."""

    def __init__(self, worker: Worker, disk: Disk, seconds: float) -> None:
        self.worker = worker
        self.disk = disk
        self.seconds = seconds
        self.small = worker.rng.randbytes(60)
        self.large = worker.rng.randbytes(worker.rng.randint(800, 3_000))
        self.begun = self.sign = time.monotonic()
        self.silent = 0.0  # the longest time without anything to see
        size = len(self.large) // 24 + 1
        self.download = Download(disk.tree.blobs, self.large, size, self._pause)

    def _pause(self) -> None:
        until = time.monotonic() + self.seconds / 24
        while True:
            now = time.monotonic()
            self.silent, self.sign = max(self.silent, now - self.sign), now
            if self.worker.board.phase in (Phase.STOP, Phase.QUIET):
                raise _OverError
            if now >= until:
                return
            # Ollama writes as the bytes come.
            with self.download.content.open("r+b") as file:
                file.write(self.large[:1])
            time.sleep(min(0.03, until - now))

    def comes(self) -> bool:
        """Download both, and tell whether they came; if the second one cannot, say so."""
        worker = self.worker
        small = trees.blob(self.small)
        self.disk.create(small, self.small, lambda: None)
        self.sign = time.monotonic()
        try:
            self.download.start(worker.rng.randint(0, 3))
            if worker.rng.random() < 0.3:  # stopped, and resumed later, also after a prune
                worker.rest(2)
                self.silent = float("inf")
            for trial in range(4):
                try:
                    if self.download.resume():
                        worker.count(Count.IN_PARTS)
                        return True
                except FileNotFoundError:
                    self.silent = float("inf")
                if trial < 3:  # the first time a prune may just have been at it
                    self.seconds = min(self.seconds, 0.5)
                    time.sleep(0.3)
        except _OverError:
            return False
        left = [path.name.partition("-partial")[2] for path in self.download.files()]
        worker.journal.write("broken", "-", f"a download fails again and again: {left} are left")
        for path in self.download.files():
            path.unlink(missing_ok=True)
        return False

    def keeps_what_it_found(self) -> bool:
        """See that the first blob is there; if it is gone though the pull showed, say so."""
        small = trees.blob(self.small)
        try:
            if self.disk.look(small):
                return True
            # A run that was killed may have set it aside: the next one puts it back.
            self.download.content.write_bytes(self.large)
            while self.sign - self.begun < self.worker.settings.hold / 2:
                self._pause()
                if self.disk.look(small):
                    return True
        except (_OverError, FileNotFoundError):
            return False
        finally:
            self.download.content.unlink(missing_ok=True)
        if self.silent < self.worker.settings.in_flight / 2:
            self.worker.journal.write("broken", "-", f"set aside while a pull showed: {small}")
        return False

    def write_manifest(self, key: str) -> None:
        """Write a model of both."""
        worker, disk = self.worker, self.disk
        document = json.loads(trees.manifest(self.large, config=self.small))
        document["pull"] = identity = f"{worker.slot}.{worker.generation}.{worker.rng.random()}"
        worker.journal.write("put", key, identity)
        disk.write_manifest(key, [json.dumps(document).encode()])
        now = time.monotonic()
        how = {"spent": now - self.begun, "silent": max(self.silent, now - self.sign)}
        worker.journal.write("done", key, f"{identity} {json.dumps(how)}")


class _OverError(Exception):
    """The round is over."""


def block(worker: Worker) -> None:
    """Leave blobs and downloads that nobody can move or remove, root included, for some time."""
    disk, rng = cast("Disk", worker.place), worker.rng
    for _ in worker.turns(*_ALWAYS):
        data = rng.randbytes(50)
        path = disk.tree.blobs / (trees.blob(data) + rng.choice(["", "-partial"]))
        path.write_bytes(data)
        try:
            with disk.untouchable(path):
                worker.count(Count.STUCK_FILES)
                until = time.monotonic() + rng.uniform(1, 3)
                while time.monotonic() < until and worker.board.phase != Phase.STOP:
                    time.sleep(0.02)
        except FileNotFoundError:
            pass
        path.unlink(missing_ok=True)
        worker.rest(3)
    disk.free()
