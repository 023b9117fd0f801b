"""
A soak of the collector: pulls, deletes, restores and prunes in many processes, killed at random.

::

    cd tests
    python -m soak --events 200000 --seed 1
    python -m soak --s3 http://key:secret@host:port/bucket --events 50000

It keeps a store, in a directory or in a bucket, busy with processes of its own:

- **writers** pull models as Ollama does: for each layer, a blob that is in its place is used as it
  is (every other writer touches it, as newer versions do), and what is not there is downloaded bit
  by bit into ``blobs/sha256-<hex>-partial`` and renamed. What was downloaded is verified, and the
  manifest is written last, in place, often in two writes, so that readers meet half of one. Some
  pulls are given up half-way. Models share blobs, and what was left behind is referenced again.
  In a bucket a blob is there or not, and a manifest is written at once; before it a writer has the
  library keep the blobs, and uploads those that are gone. With ``--keeping 0`` none does: then a
  pull that ends while a run removes what it has found may break, as is documented (*excused*).
- **deleters** and **restorers** go through the library.
- **pruners** collect all the time, with durations of the order of a second instead of days.
- **the watcher** looks for a model with a blob that is neither in its place nor set aside. No run
  of the collector can heal that, only a download of the same blob by luck: it must never happen.
- **the parent** kills the others with SIGKILL at random moments and starts them anew. Now and then
  it lets the store fall still, so that prunes meet no pull, and then a single one. At the end of
  each round it stops all of them: then one prune must leave every listed model whole, by SHA-256,
  and the models listed must be those that the journals of all processes say. At the very end each
  deleted model that counts as restorable is restored and must be whole, and a prune with ``age=0``
  must leave nothing but what the models need.

With ``--outages`` the way to a bucket fails now and then, for all: a proxy drops, delays, refuses
and cuts off what it is asked, or the gateway is stopped. Then an error is no harm (*told*), but a
loss is.

The last line has the figures. The exit status is 1 if anything was broken: then the store is kept,
and the lines before say what was found and where.
"""

from __future__ import annotations

import argparse
import dataclasses
import fcntl
import functools
import hashlib
import json
import logging
import mmap
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import uuid
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import IntEnum
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import TypeVar, cast

from kit import s3, trees, views
from kit.weather import Gateway, Storm, Weather
from registry_wsgi.cache.collector.phases import Sweep
from registry_wsgi.cache.manifest import parse_manifest
from registry_wsgi.cache.model_cache import ModelCache
from registry_wsgi.errors import (
    InvalidManifestError,
    ModelExistsError,
    ModelIncompleteError,
    ModelNotFoundError,
    RegistryError,
    StoreError,
)
from registry_wsgi.names import Name
from registry_wsgi.stores.base import Condemned, Store
from soak.places import Bucket, Disk, Place

#: The protections that can be taken out, to see that the soak then fails.
PROTECTIONS = ("hold", "put-back", "second-mark")

_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True)
class Settings:
    """
    What a soak is made of. Times are in seconds.

    Attributes:
        events: How many events to stop after: pulls, deletes, restores, collections and kills.
        seconds: How long to go on at most.
        committed: How many pulls must have succeeded before that time counts.
        seed: What the random choices begin with. (When processes meet is up to the system.)
        writers: How many processes pull; *deleters*, *restorers* and *pruners* likewise.
        models: How many names there are to choose from; *contents*: how many blobs.
        age: The age of some prunes; the others take *retention*.
        in_flight: As for `ModelCache`; *hold* likewise.
        round: How long the processes run from one check of the whole store to the next.
        kills: How many processes are killed a second.
        latency: How long at most a writer that is alone waits for an answer before its download
            begins; of many, a tenth of that.
        calm: How long pulls pause at least; *rest*: in which share of that the pruners pause too.
        still: How long at most there are only pulls of what is in place.
        slow: How long at most a prune waits before and after it reads manifests anew, in a bucket.
        watch: How long the watcher waits from one look to the next.
        keeping: Which share of the writers have the library keep what they have pulled, where the
            place has a way.
        outages: How many outages of a bucket there are a minute.
        in_place: Which share of pulls choose from what is in place, so that nothing shows them.
        at_rest: Let pulls also begin in a store at rest, which is not promised to go well: nothing
            shows the first one before its download begins.
        go_on: After something was found broken, go on (it is deleted) instead of ending there.
        without: Which of `PROTECTIONS` is taken out.
    """

    events: int = 20_000
    seconds: float = 1_500
    committed: int = 0
    seed: int = 0
    writers: int = 10
    deleters: int = 2
    restorers: int = 1
    pruners: int = 3
    models: int = 40
    contents: int = 400
    age: float = 0.3
    retention: float = 2.0
    in_flight: float = 0.5
    hold: float = 4.0
    round: float = 20.0
    kills: float = 5.0
    latency: float = 0.2
    calm: float = 0.9
    rest: float = 0.5
    still: float = 1.0
    slow: float = 0.1
    watch: float = 0.02
    keeping: float = 1.0
    outages: float = 0.0
    in_place: float = 0.0
    at_rest: bool = False
    go_on: bool = False
    without: str | None = None

    @functools.cached_property
    def keys(self) -> list[str]:
        """The keys of the models: some hosts and namespaces, so that blobs are shared across."""
        places = ("registry.ollama.ai/library", "registry.ollama.ai/someone", "example.com/models")
        return [f"{places[i % 3]}/model-{i // 3}/latest" for i in range(self.models)]

    @functools.cached_property
    def pool(self) -> dict[str, bytes]:
        """The contents that models are made of, by the names of their blobs."""
        rng = random.Random(f"contents {self.seed}")
        pool = (rng.randbytes(rng.randint(20, 3_000)) for _ in range(self.contents))
        return {trees.blob(data): data for data in pool}


class Phase(IntEnum):
    """What the parent asks the others to do."""

    STOP = 0
    BUSY = 1  # all do what they are there for
    PAUSE = 2  # only pruners do, so that soon no pull is under way
    REST = 3  # nor do they, so that the next prune meets much that is old and unreferenced
    STILL = 4  # pruners do, and some writers pull what is in place: nothing shows that they do
    ALONE = 5  # pruners do, and one writer, so that a pull is under way that nothing shows yet


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


_EVENTS = (Count.PULLS, Count.DELETES, Count.RESTORES, Count.COLLECTIONS, Count.STOPPED)


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


@dataclasses.dataclass
class Worker:
    """What a process has: its slot among all, its journal, and its own dice."""

    settings: Settings
    place: Place
    board: Board
    slot: int
    generation: int
    journal: Journal
    locks: Path
    rng: random.Random

    def turns(self, *phases: Phase) -> Iterator[Phase]:
        """Yield the phase again and again while there is something to do, until all is to stop."""
        parent = os.getppid()
        while (phase := self.board.phase) != Phase.STOP and os.getppid() == parent:
            if phase in phases:
                yield phase
            else:
                time.sleep(0.005)

    def count(self, what: Count, number: int = 1) -> None:
        self.board.count(self.slot, what, number)

    def pause(self, longest: float = 0.003) -> None:
        time.sleep(self.rng.random() * longest)

    def cache(self) -> ModelCache:
        settings = self.settings
        return open_cache(self.place, settings)

    def error(self, error: Exception) -> None:
        """Note an error: what was under way may have happened or not."""
        expected = self.settings.outages > 0 and isinstance(error, StoreError)
        self.count(Count.TOLD if expected else Count.ERRORS)
        kind = "told" if expected else "error"
        self.journal.write(kind, "-", f"{type(error).__name__}: {error}")


def open_cache(place: Place, settings: Settings) -> ModelCache:
    """The library over *place*."""
    return ModelCache(
        place.store,
        retention=settings.retention,
        in_flight=settings.in_flight,
        hold=settings.hold,
    )


# What the processes do


def write(worker: Worker) -> None:
    """Pull models."""
    touch = worker.place.touches and worker.slot % 2 == 0
    versions: deque[list[str]] = deque(maxlen=4)
    phases = [Phase.BUSY]
    if not touch:  # which can be seen
        phases.append(Phase.STILL)
    if worker.slot == 1:
        phases.append(Phase.ALONE)
    for phase in worker.turns(*phases):
        key = worker.rng.choice(worker.settings.keys)
        lock = os.open(worker.locks / key.replace("/", "_"), os.O_WRONLY | os.O_CREAT)
        try:
            # One pull of a model at a time: two that write their manifests in place at once would
            # leave a mixture. A killed process loses its lock.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            in_place = worker.rng.random() < worker.settings.in_place
            pull(worker, key, versions, Phase.STILL if in_place else phase, touch=touch)
        except BlockingIOError:
            pass
        finally:
            os.close(lock)
        worker.pause(0.01 if phase == Phase.STILL else 0.03)


def pull(
    worker: Worker, key: str, versions: deque[list[str]], phase: Phase, *, touch: bool
) -> None:
    """
    Pull one model as Ollama does.

    Args:
        worker: Who pulls.
        key: Which model.
        versions: What was pulled before, under whatever name.
        phase: In `Phase.STILL` it is only something that is all in place, often what was pulled
            before and is not needed any more; in `Phase.ALONE` something that is half in place.
        touch: Whether to touch blobs that are in place.
    """
    rng, settings, place = worker.rng, worker.settings, worker.place
    still = phase == Phase.STILL
    present = [] if phase == Phase.BUSY else sorted(place.blobs() & settings.pool.keys())
    if phase != Phase.BUSY and len(present) < 6:
        return
    if still and versions and rng.random() < 0.6:
        layers = rng.choice(versions)
    elif phase == Phase.ALONE:
        absent = sorted(settings.pool.keys() - present)
        layers = rng.sample(present, 3) + rng.sample(absent, min(2, len(absent)))
    else:
        layers = rng.sample(present or list(settings.pool), rng.randint(3, 6))
    versions.append(layers)
    *layers, config = layers
    document = json.loads(
        trees.manifest(*map(settings.pool.__getitem__, layers), config=settings.pool[config])
    )
    document["pull"] = identity = f"{worker.slot}.{worker.generation}.{rng.getrandbits(64):x}"
    data = json.dumps(document).encode()
    cut = rng.randrange(len(data)) if rng.random() < 0.1 else len(data)
    abandon_at = rng.randrange(len(layers) + 2) if rng.random() < 0.1 and not still else None

    worker.count(Count.PULLS)
    begun = sign = time.monotonic()
    silent = lead = 0.0  # the longest time without anything to see, and that before the first
    fetched: list[str] = []
    for step, name in enumerate([*layers, config]):
        if step == abandon_at:
            if not place.look(name):
                place.download(name, settings.pool[name], worker.pause, part=rng.random() * 0.9)
            worker.count(Count.ABANDONED)
            return
        if place.touch(name) if touch else place.look(name):
            continue
        if still:
            worker.count(Count.ABANDONED)
            return
        # Ollama asks for the size of the blob first.
        worker.pause(settings.latency if phase == Phase.ALONE else settings.latency / 10)
        now = time.monotonic()
        if fetched:
            silent = max(silent, now - sign)
        else:
            lead = now - begun
        fetched.append(name)
        if not place.download(name, settings.pool[name], worker.pause):
            worker.count(Count.FAILED)
            return
        sign = time.monotonic()
    if not all(place.verify(name) for name in fetched):
        worker.count(Count.FAILED)
        return
    keeps = place.keeps and worker.slot <= settings.keeping * settings.writers
    asked = time.monotonic()
    if keeps:
        blobs = {name: settings.pool[name] for name in [*layers, config]}
        worker.count(Count.AGAIN, place.keep(blobs, worker.error))
        worker.journal.write("kept", key, identity)
    now = time.monotonic()
    hold, in_flight = place.limits(settings.hold, settings.in_flight)
    late = now - begun > hold / 2 or (keeps and now - asked > settings.hold / 4)
    if late or (fetched and max(lead, silent, now - sign) > in_flight / 2):
        worker.count(Count.LATE)  # the machine was busy: the promise is for pulls that go on
        return

    worker.journal.write("put", key, identity)
    pieces = [data[:cut], data[cut:]] if cut < len(data) else [data]
    place.write_manifest(key, pieces, lambda: worker.pause(0.001))
    now = time.monotonic()
    if fetched:
        silent = max(silent, now - sign)
    else:
        lead = now - begun
        worker.count(Count.IN_PLACE)
    how = {"fetched": len(fetched), "touched": touch, "spent": now - begun}
    how |= {"lead": lead, "silent": silent}
    worker.journal.write("done", key, f"{identity} {json.dumps(how)}")
    worker.count(Count.COMMITTED)


def delete(worker: Worker) -> None:
    """Delete models."""
    cache = worker.cache()
    for _ in worker.turns(Phase.BUSY):
        key = worker.rng.choice(worker.settings.keys)
        worker.journal.write("delete", key)
        deleted = False
        try:
            deleted = cache.unlink(str(Name.from_key(key)))
        except RegistryError as error:
            worker.error(error)
        worker.journal.write("done" if deleted else "none", key)
        worker.count(Count.DELETES, deleted)
        worker.pause(0.15)


def restore(worker: Worker) -> None:
    """Restore deleted models, if nothing is in their place."""
    cache = worker.cache()
    for _ in worker.turns(Phase.BUSY):
        entries = [e for e in cache.store.deleted() if cache.store.read(e.key) is None]
        if entries:
            key = worker.rng.choice(entries).key
            worker.journal.write("put", key, "restore")
            what = "none"
            try:
                cache.restore(str(Name.from_key(key)))
                worker.count(Count.RESTORES)
                what = "done"
            except ModelIncompleteError:
                worker.count(Count.INCOMPLETE)
            except (ModelNotFoundError, ModelExistsError, InvalidManifestError):
                pass  # a prune, a pull, or a delete of half a manifest
            except RegistryError as error:
                worker.error(error)
            worker.journal.write(what, key)
        worker.pause(0.1)


def prune(worker: Worker) -> None:
    """Collect."""
    cache = worker.cache()
    if not cache.store.sets_aside:
        note_removals(worker, cache.store)
    runs = [lambda: cache.prune(age=worker.settings.age)] * 3
    runs += [cache.prune, lambda: cache.prune(deleted_only=True)]
    for _ in worker.turns(Phase.BUSY, Phase.PAUSE, Phase.STILL, Phase.ALONE):
        try:
            report = worker.rng.choice(runs)()
            worker.count(Count.COLLECTIONS)
            worker.count(Count.REMOVED, report.blobs)
        except InvalidManifestError:
            worker.count(Count.STOPPED)
        except RegistryError as error:
            worker.error(error)
        worker.pause(0.03)


def note_removals(worker: Worker, store: Store) -> None:
    """
    Write down which blobs are removed for good, and when those who do began to read manifests anew.

    A store that only marks blobs promises less: `History.removed_unseen`. And as it is removed from
    in moments, while a large one takes its time, there is some time between the steps here.
    """
    mark_again, purge = Sweep.mark_again, store.purge
    journal, slow = worker.journal, worker.settings.slow
    began = 0.0

    def marks_again(self: Sweep) -> None:
        nonlocal began
        worker.pause(slow)
        began = time.monotonic()
        mark_again(self)
        worker.pause(slow)

    def noted(blobs: Iterable[tuple[Condemned, float]]) -> Iterator[tuple[Condemned, float]]:
        for blob, until in blobs:
            journal.write("remove", blob.name, f"{began} {time.time() - blob.when}")
            yield blob, until

    def purges(blobs: Iterable[tuple[Condemned, float]]) -> Iterator[tuple[Condemned, bool]]:
        yield from purge(noted(blobs))
        journal.write("removed", "-")

    Sweep.mark_again = marks_again  # type: ignore[method-assign]
    store.purge = purges  # type: ignore[method-assign]


def watch(worker: Worker) -> None:
    """Look for models that have lost a blob for good."""
    store = worker.place.store
    for _ in worker.turns(*list(Phase)[1:]):
        try:
            present = set(store.blobs())
            for key in views.keys(store):
                manifest = store.read(key)
                if manifest is None:
                    continue
                try:
                    wanted = set(parse_manifest(manifest.data)) - present
                except InvalidManifestError:
                    continue
                looked = time.monotonic()
                lost = sorted(name for name in wanted if _is_lost(store, name))
                again = store.read(key) if lost else None
                if again is not None and again.data == manifest.data:
                    identity = json.loads(manifest.data).get("pull", "-")
                    worker.journal.write("lost", key, f"{identity} {','.join(lost)} {looked}")
        except RegistryError as error:
            worker.error(error)
        time.sleep(worker.settings.watch)


def _is_lost(store: Store, name: str) -> bool:
    """Tell whether a blob is neither in place nor aside, so that no collector can put it back."""
    for _ in range(5):  # as it may just be on its way from one to the other
        if store.blob(name) or any(blob.name == name for blob in store.condemned()):
            return False
        time.sleep(0.002)
    return not store.blob(name)


def disable(protection: str | None) -> None:
    """Take a protection out of the collector, in this process and those that it starts."""
    if protection == "hold":
        # What is set aside goes at once, pull or no pull.
        Sweep.waits = lambda self, since: False  # type: ignore[method-assign]
    elif protection == "put-back":
        # What is needed again stays aside.
        Sweep.put_back = lambda self, blobs: None  # type: ignore[method-assign]
    elif protection == "second-mark":
        # Manifests are read once, before blobs are set aside.
        Sweep.mark_again = lambda self: None  # type: ignore[method-assign]


_ROLES: dict[str, Callable[[Worker], None]] = {
    "writer": write,
    "deleter": delete,
    "restorer": restore,
    "pruner": prune,
    "watcher": watch,
}


# The parent


@dataclasses.dataclass
class Slot:
    """A process that is started again after each kill."""

    number: int
    role: str
    generation: int = 0
    process: ForkProcess | None = None


@dataclasses.dataclass
class Outcome:
    """
    What a soak came to.

    Attributes:
        figures: The counts, by their names.
        broken: What the promise forbids and was found, a line each.
        excused: Models that lost a blob as the promise excludes: their pull was held up.
        errors: What processes raised.
    """

    figures: dict[str, int | float]
    broken: list[str]
    excused: list[str]
    errors: list[str]

    def __str__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in self.figures.items())

    def add(self, found: Findings) -> None:
        """Add what the check of one round found."""
        self.broken += found.broken
        self.excused += found.excused
        self.errors += found.errors

    @property
    def failed(self) -> bool:
        """Whether there is anything to look into."""
        return bool(self.broken or self.errors)

    @property
    def lines(self) -> dict[str, list[str]]:
        """What was found, by what it is called."""
        return {"error": self.errors, "excused": self.excused, "broken": self.broken}


@dataclasses.dataclass
class Findings:
    """What the check at the end of a round found; *moments*: when the watcher saw things break."""

    listed: set[str] = dataclasses.field(default_factory=set)
    broken: list[str] = dataclasses.field(default_factory=list)
    excused: list[str] = dataclasses.field(default_factory=list)
    errors: list[str] = dataclasses.field(default_factory=list)
    moments: list[float] = dataclasses.field(default_factory=list)


class Soak:
    """
    A soak over a place.

    Args:
        settings: How much of what.
        place: Where the models are. It may hold some from an earlier soak with the same seed.
        work: A directory for journals and locks, outside of the store.
        weather: What brings outages about.
    """

    def __init__(
        self, settings: Settings, place: Place, work: Path, weather: Weather | None = None
    ) -> None:
        self.settings = settings
        self._weather = weather
        self._weather_ends = 0.0
        self._outage = False
        self._outages = 0
        self.place = place
        self.work = work
        roles = ["watcher", *["writer"] * settings.writers, *["deleter"] * settings.deleters]
        roles += [*["restorer"] * settings.restorers, *["pruner"] * settings.pruners]
        self._slots = [Slot(number, role) for number, role in enumerate(roles)]
        self._board = Board(len(roles))
        self._rng = random.Random(f"parent {settings.seed}")
        self._context = multiprocessing.get_context("fork")
        self._interrupted = False
        self._kills = 0
        self._rounds = 0
        self._first: float | None = None  # when the first thing broke
        self._outcome = Outcome({}, [], [], [])
        (work / "locks").mkdir(parents=True, exist_ok=True)

    def run(self) -> Outcome:
        """Go on until there were enough events, or the time is up, or something is broken."""
        settings = self.settings
        disable(settings.without)
        # An exception could be lost: Python ignores those that are raised as it forks.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._interrupt)
        began = time.monotonic()
        deadline = began + settings.seconds
        listed = self._apart(self._listed)
        while True:
            over = self._round(deadline, listed)
            if self._interrupted:
                raise KeyboardInterrupt
            found = self._apart(self._check)
            listed = found.listed
            self._outcome.add(found)
            print(f"after {time.monotonic() - began:.0f} s: {self._events} events", file=sys.stderr)
            if found.broken and self._first is None:
                self._first = min(found.moments, default=time.monotonic()) - began
            if over or (self._outcome.broken and not settings.go_on):
                break
        if not self._outcome.broken:
            self._outcome.broken += self._apart(self._check_deleted)
            self._outcome.broken += self._apart(self._check_collected)
        self._outcome.figures = self._figures(time.monotonic() - began)
        return self._outcome

    def _apart(self, function: Callable[[], _T]) -> _T:
        """Call *function* in another process: this one opens no store, as it goes on to fork."""
        receiver, sender = self._context.Pipe(duplex=False)
        process = self._context.Process(target=lambda: sender.send(function()), daemon=True)
        process.start()
        sender.close()
        with receiver:
            try:
                return cast("_T", receiver.recv())
            finally:
                process.join()

    def _interrupt(self, number: int, frame: object) -> None:
        self._interrupted = True

    @property
    def _events(self) -> int:
        return sum(self._board.total(what) for what in _EVENTS) + self._kills

    def _round(self, deadline: float, listed: set[str]) -> bool:
        """Let the processes run for a while, and tell whether that was the last time."""
        self._rounds += 1
        self._journals().mkdir(parents=True)
        opening = Journal(self._journals() / "opening")
        for key in listed:
            opening.write("put", key, "before")
            opening.write("done", key)
        ends = time.monotonic() + self.settings.round
        if time.monotonic() < deadline:
            ends = min(deadline, ends)
        try:
            self._set_phase(Phase.BUSY)
            for slot in self._slots:
                self._start(slot)
            while time.monotonic() < ends and self._events < self.settings.events:
                if self._interrupted:
                    break
                time.sleep(self._rng.expovariate(self.settings.kills))
                self._kill_one()
                self._change_phase()
                self._change_weather()
            late = (
                time.monotonic() >= deadline
                and self._board.total(Count.COMMITTED) >= self.settings.committed
            )
            return late or self._events >= self.settings.events
        finally:
            self._stop()

    def _set_phase(self, phase: Phase) -> None:
        settings = self.settings
        lengths = {
            # Mostly short, sometimes long enough for the hold to be over while pulls go on.
            Phase.BUSY: self._rng.choice([0.2, 0.5, 1, 1, 2 * settings.hold]),
            # Until no pull seems to be under way, and what was deleted has expired.
            Phase.PAUSE: settings.calm,
            Phase.REST: settings.calm,
            Phase.STILL: self._rng.uniform(0.1, settings.still),
            Phase.ALONE: 0.5,
            Phase.STOP: 0.0,
        }
        self._board.phase = phase
        self._phase_ends = time.monotonic() + lengths[phase]

    def _change_phase(self) -> None:
        if time.monotonic() >= self._phase_ends:
            if self._board.phase in (Phase.PAUSE, Phase.REST):
                self._set_phase(self._rng.choice((Phase.BUSY, Phase.STILL, Phase.ALONE)))
                if not self.settings.at_rest:
                    self.place.stir()
            else:
                rests = self._rng.random() < self.settings.rest
                self._set_phase(Phase.REST if rests else Phase.PAUSE)

    def _change_weather(self) -> None:
        if self._weather is None or time.monotonic() < self._weather_ends:
            return
        if self._outage:
            self._clear_weather()
        else:
            self._weather.worsen(self._rng)
            self._outage = True
            self._outages += 1
            self._weather_ends = time.monotonic() + self._rng.uniform(0.2, 2)

    def _clear_weather(self) -> None:
        if self._weather is not None:
            self._weather.clear()
            self._outage = False
            wait = self._rng.expovariate(self.settings.outages / 60)
            self._weather_ends = time.monotonic() + wait

    def _start(self, slot: Slot) -> None:
        slot.generation += 1
        slot.process = self._context.Process(target=self._work, args=(slot,), daemon=True)
        slot.process.start()

    def _work(self, slot: Slot) -> None:
        """What a process runs."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which stops us
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        worker = Worker(
            settings=self.settings,
            place=self.place,
            board=self._board,
            slot=slot.number,
            generation=slot.generation,
            journal=Journal(self._journals() / str(slot.number)),
            locks=self.work / "locks",
            rng=random.Random(f"{self.settings.seed} {slot.number} {slot.generation}"),
        )
        while True:
            try:
                _ROLES[slot.role](worker)
                return
            except StoreError as error:
                worker.error(error)
                worker.pause(0.2)

    def _kill_one(self) -> None:
        """Kill a process, more often than not a pruner, and start it again."""
        pruners = self._rng.random() < 0.75
        choice = [s for s in self._slots if (s.role == "pruner") == pruners and s.role != "watcher"]
        slot = self._rng.choice(choice)
        self._end(slot, kill=True)
        self._kills += 1
        self._start(slot)

    def _end(self, slot: Slot, *, kill: bool) -> None:
        process, slot.process = slot.process, None
        if process is None:
            return
        if not kill:
            process.join(15)
        if process.is_alive():
            process.kill()
            process.join()
        if process.exitcode not in (0, -signal.SIGKILL):
            self._outcome.errors.append(f"{slot.role} {slot.number}: exit {process.exitcode}")
        process.close()

    def _stop(self) -> None:
        """End all processes: half of the pruners are killed, the others finish what they are at."""
        self._board.phase = Phase.STOP
        self._clear_weather()
        for slot in self._slots:
            if slot.process is not None:
                kill = slot.role == "pruner" and self._rng.random() < 0.5
                self._end(slot, kill=kill)
                self._kills += kill

    def _journals(self) -> Path:
        return self.work / f"journals-{self._rounds}"

    def _listed(self) -> set[str]:
        return {Name.parse(model.name).key for model in self._cache().models()}

    def _cache(self) -> ModelCache:
        return open_cache(self.place, self.settings)

    # The checks

    def _check(self) -> Findings:
        """Prune once, and see that what is listed is whole, and is what ought to be listed."""
        history = History(self._journals(), self.place.lag)
        found = Findings(errors=history.errors, moments=history.moments)
        cache = self._cache()
        for key in views.keys(cache.store):
            if not _is_readable(cache.store, key):
                # A writer was killed as it wrote: the documented way out is to delete the model.
                if history.cut_off(key):
                    cache.unlink(str(Name.from_key(key)))
                    history.forget(key)
                else:
                    found.broken.append(f"{key}: half a manifest that no killed writer has left")
        cache.prune(age=self.settings.age)

        hold, in_flight = self.place.limits(self.settings.hold, self.settings.in_flight)
        lacking = {lack for key in views.keys(cache.store) if (lack := _lacks(cache.store, key))}
        for key, identity, blobs in sorted(lacking | history.lost):
            pull = history.pulls.get(identity, {})
            late = pull.get("spent", 0) > hold
            late = late or max(pull.get("lead", 0), pull.get("silent", 0)) > in_flight
            late = late or history.removed_unseen(identity, blobs.split(","), self.settings.hold)
            line = f"{key}: lacks {blobs} (pull {identity} {json.dumps(pull)})"
            (found.excused if late else found.broken).append(line)
        found.broken += history.compare(self._listed())

        for key, _, _ in lacking:  # if that is excused, or the soak is to go on
            cache.unlink(str(Name.from_key(key)))
        if not (found.broken or found.errors):
            shutil.rmtree(self._journals())
        found.listed = self._listed()
        return found

    def _check_deleted(self) -> list[str]:
        """Restore all that can be restored, several of one name one after the other."""
        broken = []
        cache = self._cache()
        restorable = Counter(model.name for model in cache.deleted() if model.restorable)
        for model in cache.models():
            self._drop(cache, model.name)
        for name, number in restorable.items():
            for _ in range(number):
                try:
                    cache.restore(name)
                except RegistryError as error:
                    broken.append(f"{name}: cannot be restored: {error}")
                    break
                if lack := _lacks(cache.store, Name.parse(name).key):
                    broken.append(f"{name}: restored, and lacks {lack[2]}")
                if number > 1:
                    self._drop(cache, name)
        return broken

    def _drop(self, cache: ModelCache, name: str) -> None:
        """Take a model out of the list, without a trace."""
        entry = cache.store.discard(Name.parse(name).key, (), time.time())
        if entry is not None:
            cache.store.forget(entry)

    def _check_collected(self) -> list[str]:
        """See that a prune of a quiet store leaves what is needed, and no more."""
        cache = self._cache()
        before = self._listed()
        if self.place.at_work:
            # What killed processes have left holds up what it is about, until a prune removes it.
            time.sleep(self.place.at_work + 1)
            cache.prune(age=0)
        cache.prune(age=0)
        needed: set[str] = set()
        for key in views.keys(cache.store):
            manifest = cache.store.read(key)
            needed |= set(parse_manifest(manifest.data) if manifest else ())
        left = set(cache.store.blobs())
        broken = [f"prune(age=0): lacks {blob}" for blob in sorted(needed - left)]
        broken += [f"prune(age=0): leaves {blob}" for blob in sorted(left - needed)]
        broken += [f"prune(age=0): leaves {thing}" for thing in cache.store.condemned()]
        broken += [f"prune(age=0): leaves {thing}" for thing in cache.store.deleted()]
        broken += [f"prune(age=0): lists {key}, or not" for key in before ^ self._listed()]
        return broken

    def _figures(self, seconds: float) -> dict[str, int | float]:
        figures: dict[str, int | float] = {"events": self._events}
        figures |= {what.name.lower(): self._board.total(what) for what in Count}
        figures |= {"kills": self._kills, "rounds": self._rounds, "seconds": round(seconds, 1)}
        figures |= {"outages": self._outages, "errors": len(self._outcome.errors)}
        if self._first is not None:
            figures["first"] = round(self._first, 2)
        return figures | {
            "excused": len(self._outcome.excused),
            "broken": len(self._outcome.broken),
        }


class History:
    """
    What the journals of a round say.

    Operations of several processes on one model overlap, and then nobody knows which was first.
    But if each delete had ended when a pull or restore began, the model must be listed; and if each
    pull and restore had ended when a delete began, it must not.

    Args:
        journals: Their directory.
        lag: How long after a process was killed what it has asked for may still happen.

    Attributes:
        errors: What processes have raised.
        lost: Which models have lost which blobs: the key, the pull and the blobs.
        moments: When that was seen.
        pulls: What each pull says of itself; *written*: when its manifest was, at the latest.
    """

    def __init__(self, journals: Path, lag: float) -> None:
        self.errors: list[str] = []
        self.lost: set[tuple[str, str, str]] = set()
        self.moments: list[float] = []
        self.pulls: defaultdict[str, dict[str, float]] = defaultdict(dict)
        self._lag = lag
        self._losses: list[tuple[float, str, str, str]] = []
        self._puts: defaultdict[str, list[_Span]] = defaultdict(list)
        self._deletes: defaultdict[str, list[_Span]] = defaultdict(list)
        self._removals: defaultdict[str, list[_Removal]] = defaultdict(list)
        for path in journals.iterdir():
            self._read(path)
        for looked, key, pull, blobs in self._losses:
            self.lost.add((key, pull, blobs))
            self.moments.append(looked)

    def _read(self, path: Path) -> None:
        under_way: tuple[float, str, str, str] | None = None
        removals: list[_Removal] = []
        for line in path.read_text().splitlines():
            time_of, what, key, *details = line.split(" ")
            moment = float(time_of)
            if what in ("put", "delete"):
                under_way = moment, what, key, details[0]
            elif what == "remove":
                removals.append(_Removal(float(details[0]), float(details[1])))
                self._removals[key].append(removals[-1])
            elif what == "removed":
                while removals:
                    removals.pop().end = moment
            elif what == "lost":
                self._losses.append((float(details[2]), key, details[0], details[1]))
            elif what == "kept":
                self.pulls[details[0]]["kept"] = moment
            elif under_way is not None:  # "done", "none", an error or, after a kill, "start"
                cut_off = what in ("error", "told", "start")
                if cut_off:
                    moment += self._lag
                if what == "done" and details[0]:
                    self.pulls[details[0]] |= json.loads(" ".join(details[1:]))
                if what != "none":
                    self._add(*under_way, moment, cut_off=cut_off)
                under_way = None
            if what == "error":
                self.errors.append(line)
        if under_way is not None:
            self._add(*under_way, float("inf"), cut_off=True)

    def _add(
        self, begin: float, what: str, key: str, pull: str, end: float, *, cut_off: bool
    ) -> None:
        spans = self._puts if what == "put" else self._deletes
        spans[key].append(_Span(begin, end, cut_off))
        self.pulls[pull]["written"] = end

    def removed_unseen(self, pull: str, blobs: Iterable[str], hold: float) -> bool:
        """
        Tell whether the *blobs* that a pull found were removed as the promise excludes.

        That is, each was marked for *hold* seconds, and by a run that did not have to see the
        manifest, as it was not yet written when that began to read the manifests anew; and the pull
        has not had its blobs kept.
        """
        known = self.pulls[pull]
        if "written" not in known or "kept" in known:
            return False
        begun = known["written"] - known.get("spent", float("inf"))
        for blob in blobs:
            removals = [removal for removal in self._removals[blob] if removal.end >= begun]
            seen = (r.marked >= known["written"] or r.aside < hold for r in removals)
            if not removals or any(seen):
                return False
        return True

    def cut_off(self, key: str) -> bool:
        """Tell whether a process was killed, or failed, as it wrote the manifest at *key*."""
        return any(span.cut_off for span in self._puts[key])

    def forget(self, key: str) -> None:
        """Expect nothing of the model at *key*."""
        self._puts[key] = self._deletes[key] = []

    def compare(self, listed: set[str]) -> list[str]:
        """Say which models ought to be listed and are not, or the other way round."""
        wrong = []
        for key in sorted({*self._puts, *self._deletes, *listed}):
            puts, deletes = self._puts[key], self._deletes[key]
            whole_puts = [span for span in puts if not span.cut_off]
            whole_deletes = [span for span in deletes if not span.cut_off]
            if key not in listed:
                if any(all(d.end < put.begin for d in deletes) for put in whole_puts):
                    wrong.append(f"{key}: pulled or restored last, and not listed")
            elif any(all(put.end < d.begin for put in puts) for d in whole_deletes):
                wrong.append(f"{key}: deleted last, and listed")
            elif not puts:
                wrong.append(f"{key}: never pulled, and listed")
        return wrong


@dataclasses.dataclass(frozen=True)
class _Span:
    begin: float
    end: float
    cut_off: bool


@dataclasses.dataclass
class _Removal:
    """
    A blob that was removed for good.

    Attributes:
        marked: When the run that did began to read the manifests anew.
        aside: How long the blob had been set aside, in seconds.
        end: When the removal had ended.
    """

    marked: float
    aside: float
    end: float = float("inf")


def _is_readable(store: Store, key: str) -> bool:
    try:
        manifest = store.read(key)
        return manifest is None or parse_manifest(manifest.data) is not None
    except InvalidManifestError:
        return False


def _lacks(store: Store, key: str) -> tuple[str, str, str] | None:
    """Tell which blobs the model at *key* lacks, or has with other content; None if it is whole."""
    manifest = store.read(key)
    if manifest is None:
        return None
    lacking = []
    for name in parse_manifest(manifest.data):
        file = store.open_blob(name)
        if file is not None:
            with file:
                if f"sha256-{hashlib.sha256(file.read()).hexdigest()}" == name:
                    continue
        lacking.append(name)
    identity = json.loads(manifest.data).get("pull", "-")
    return (key, identity, ",".join(sorted(lacking))) if lacking else None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a soak over a directory or a bucket, print what it came to; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m soak",
        description="Soak the collector: pulls, deletes, restores and prunes in many processes,"
        " killed at random, after which every model must be whole.",
        epilog="The last line has the figures; the exit status is 1 if anything was broken, and"
        " then the store and the journals are kept.",
    )
    default = Settings()
    for name, kind, unit, text in _OPTIONS:
        usual = f"{getattr(default, name)}"
        if name in Bucket.usual:
            usual += f"; in a bucket {Bucket.usual[name]}"
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=kind, metavar=unit, help=f"{text} ({usual})"
        )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--store", type=Path, help="the directory of the store (a temporary one)")
    where.add_argument(
        "--s3",
        metavar="URL",
        help="a bucket instead, http://key:secret@host:port/bucket (and /prefix, else one that is"
        " removed in the end)",
    )
    parser.add_argument(
        "--keep", action="store_true", help="keep what would be removed in the end, in any case"
    )
    parser.add_argument(
        "--go-on", action="store_true", help="after something was broken, delete it and go on"
    )
    parser.add_argument(
        "--at-rest", action="store_true", help="let pulls begin in a store at rest too"
    )
    parser.add_argument(
        "--gateway",
        metavar="PATH",
        help="the ceph.conf of a Ceph that is running: an outage is that of a gateway of its own",
    )
    parser.add_argument("--without", choices=PROTECTIONS, help=argparse.SUPPRESS)
    options = vars(parser.parse_args(arguments))
    store, url, always_keep = (options.pop(name) for name in ("store", "s3", "keep"))
    gateway = options.pop("gateway")

    logging.getLogger("registry_wsgi").setLevel(logging.CRITICAL)
    work = Path(tempfile.mkdtemp(prefix="soak-", dir=store and store.parent))
    weather: Weather | None = None
    if url and options["outages"]:
        weather = Gateway(gateway) if gateway else Storm(s3.given(url).url)
    place = _bucket(url, weather) if url else Disk(store or work / "models")
    given = {name: value for name, value in options.items() if value is not None}
    keep = True
    try:
        outcome = Soak(Settings(**{**place.usual, **given}), place, work, weather).run()
        keep = outcome.failed or always_keep
        for found, lines in outcome.lines.items():
            for line in lines[:50]:
                print(f"{found}: {line}")
        if keep:
            print(f"the store is in {place}, the journals are in {work}")
        print(outcome)
        return int(outcome.failed)
    except KeyboardInterrupt:
        keep = always_keep
        print("interrupted", file=sys.stderr)
        return 130
    finally:
        if not keep:
            place.remove()
            shutil.rmtree(work)
        if weather is not None:
            weather.end()


def _bucket(url: str, weather: Weather | None) -> Bucket:
    endpoint = s3.given(url)
    bucket, _, prefix = endpoint.bucket.partition("/")
    endpoint = dataclasses.replace(endpoint, bucket=bucket)
    if weather is not None:
        endpoint = dataclasses.replace(endpoint, url=weather.url)
    return Bucket(
        endpoint,
        prefix or f"soak-{uuid.uuid4().hex[:12]}",
        temporary=not prefix,
        # Among outages it takes some time to try again and again.
        at_work=15 if weather else 4,
    )


_OPTIONS: list[tuple[str, Callable[[str], int | float], str, str]] = [
    ("events", int, "N", "stop after so many events"),
    ("seconds", float, "SECONDS", "stop after this time"),
    ("committed", int, "N", "but not before so many pulls have succeeded"),
    ("seed", int, "N", "what the random choices begin with"),
    ("writers", int, "N", "how many processes pull"),
    ("deleters", int, "N", "how many delete"),
    ("restorers", int, "N", "how many restore"),
    ("pruners", int, "N", "how many collect"),
    ("models", int, "N", "how many names of models there are"),
    ("contents", int, "N", "how many blobs there are to make models of"),
    ("age", float, "SECONDS", "the age of most prunes"),
    ("retention", float, "SECONDS", "how long deleted models are kept by the others"),
    ("in_flight", float, "SECONDS", "how recent a change means a pull under way"),
    ("hold", float, "SECONDS", "how long pulls hold back what is set aside"),
    ("round", float, "SECONDS", "the time from one check of the whole store to the next"),
    ("kills", float, "N", "how many processes are killed a second"),
    ("latency", float, "SECONDS", "the longest wait of a single writer before its download begins"),
    ("calm", float, "SECONDS", "how long pulls pause at least, now and then"),
    ("rest", float, "SHARE", "the share of that in which the pruners pause too"),
    ("still", float, "SECONDS", "how long at most there are only pulls of what is in place"),
    ("slow", float, "SECONDS", "how long at most a prune waits between its steps, in a bucket"),
    ("watch", float, "SECONDS", "how long the watcher waits from look to look"),
    ("keeping", float, "SHARE", "the share of writers that have their blobs kept, in a bucket"),
    ("outages", float, "N", "how many outages of a bucket there are a minute"),
    ("in_place", float, "SHARE", "the share of pulls that choose from what is in place"),
]


if __name__ == "__main__":
    sys.exit(main())
