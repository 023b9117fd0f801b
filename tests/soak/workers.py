"""What the processes of a soak do: they pull, delete, restore, prune and watch."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from kit import trees, views
from registry_wsgi.cache.collector.sweep import Sweep
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
from soak.board import Board, Count, Journal, Phase
from soak.places import Place
from soak.settings import Settings


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


ROLES: dict[str, Callable[[Worker], None]] = {
    "writer": write,
    "deleter": delete,
    "restorer": restore,
    "pruner": prune,
    "watcher": watch,
}
