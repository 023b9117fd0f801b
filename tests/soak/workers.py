"""What the processes of a soak do: they pull, delete, restore, prune and watch."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import functools
import json
import os
import random
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from kit import trees, views
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
from registry_wsgi.stores.base import Store
from soak.board import Board, Count, Journal, Phase
from soak.places import Place
from soak.settings import Settings


@dataclasses.dataclass
class Worker:
    """
    What a process has: its slot among all, its journals, and its own dice.

    Attributes:
        running: A file that this process has locked. A program that it starts keeps it locked, also
            when this process is killed; the next process in the slot begins when it is free.
    """

    settings: Settings
    place: Place
    board: Board
    slot: int
    generation: int
    journal: Journal
    second: Journal
    locks: Path
    running: int
    rng: random.Random

    @functools.cached_property
    def pulling(self) -> int:
        """A lock: pulls share it, and whoever prunes with an age of 0 has it alone."""
        return os.open(self.locks / "pulling", os.O_RDWR | os.O_CREAT)

    @contextlib.contextmanager
    def alone(self, how: int) -> Iterator[bool]:
        """Take that lock (*how*: as for `fcntl.flock`), and tell whether it was free."""
        try:
            fcntl.flock(self.pulling, how)
        except BlockingIOError:
            yield False
            return
        try:
            yield True
        finally:
            fcntl.flock(self.pulling, fcntl.LOCK_UN)

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

    def rest(self, longest: float) -> None:
        """Pause, but not beyond the end of the round."""
        until = time.monotonic() + self.rng.random() * longest
        while time.monotonic() < until and self.board.phase != Phase.STOP:
            time.sleep(0.02)

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
            with worker.alone(fcntl.LOCK_SH):
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
    ways = ("pull", "create", "cp", "rsync")
    shares = (1, settings.created, settings.copied, settings.rsynced)
    way = rng.choices(ways, shares)[0]
    data = json.dumps(document).encode() + b"\n" * (way == "create")
    cut = rng.randrange(len(data)) if rng.random() < 0.1 else len(data)
    abandon_at = rng.randrange(len(layers) + 2) if rng.random() < 0.1 and not still else None

    worker.count(Count.PULLS)
    begun = sign = time.monotonic()
    silent = lead = 0.0  # the longest time without anything to see, and that before the first
    fetched: list[str] = []
    locks = (worker.pulling, worker.running)
    if way in ("cp", "rsync"):
        fetched = [name for name in (*layers, config) if not place.look(name)]
        files = {f"blobs/{name}": settings.pool[name] for name in (*layers, config)}
        if (still and fetched) or not place.copy_in(way, worker.slot, files, locks):
            worker.count(Count.ABANDONED)
            return
        silent = time.monotonic() - begun
        sign = time.monotonic()
    for step, name in enumerate([] if way in ("cp", "rsync") else [*layers, config]):
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
        bring = place.create if way == "create" else place.download
        if not bring(name, settings.pool[name], worker.pause):
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
    if way in ("cp", "rsync"):
        if not place.copy_in(way, worker.slot, {f"manifests/{key}": data}, locks):
            worker.journal.write("told", key)
            worker.count(Count.FAILED)
            return
    else:
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
    worker.count(Count.CREATED, way == "create")
    worker.count(Count.COPIED, way in ("cp", "rsync"))


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
