"""
Any order of pulls, deletes, restores, prunes and times, against a simple model of what must be.

The store is real, the clock is not: it starts at the present (files are dated by the system) and
only the distance that it runs ahead counts as age.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
import time
from pathlib import Path

import pytest

from kit.trees import HOST, Tree, blob, broken, manifest

pytest.importorskip("hypothesis")

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from registry_wsgi import DiskStore, MemoryStore, ModelCache
from registry_wsgi.errors import ModelExistsError, ModelNotFoundError

HOUR = 3600.0
DAY = 24 * HOUR
RETENTION = 7 * DAY
MODELS = st.sampled_from(["a", "b", "c"])
LAYERS = st.lists(st.sampled_from([b"1", b"2", b"3", b"4"]), min_size=1, max_size=3, unique=True)
CONFIG = b"{}"


class OnDisk:
    """A store in a directory, which other programs write to."""

    def __init__(self) -> None:
        self.folder = tempfile.mkdtemp()
        self.tree = Tree(Path(self.folder, "models"))
        self.store = DiskStore(self.tree.root)

    def has(self, data: bytes) -> bool:
        return (self.tree.blobs / blob(data)).exists()

    def put(self, data: bytes, now: float) -> None:
        path = self.tree.add_blob(data)
        os.utime(path, (now, now))

    def commit(self, model: str, layers: list[bytes], now: float) -> None:
        path = self.tree.write(model, manifest(*layers, config=CONFIG))
        os.utime(path, (now, now))

    def lacking(self) -> list[str]:
        return broken(self.tree.root)

    def close(self) -> None:
        shutil.rmtree(self.folder)


class InMemory:
    """A store in memory, with the same clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.store = MemoryStore(clock=lambda: self.now)

    def has(self, data: bytes) -> bool:
        return self.store.get_blob(blob(data)) is not None

    def put(self, data: bytes, now: float) -> None:
        self.now = now
        self.store.put_blob(blob(data), data)

    def commit(self, model: str, layers: list[bytes], now: float) -> None:
        self.now = now
        self.store.put_manifest(f"{HOST}/library/{model}/latest", manifest(*layers, config=CONFIG))

    def lacking(self) -> list[str]:
        report = ModelCache(self.store).verify(deep=True)
        return [problem.subject for problem in report.problems]

    def close(self) -> None:
        """There is nothing to remove."""


class Machine(RuleBasedStateMachine):
    """The rules, and what must hold after each."""

    place: OnDisk | InMemory

    def __init__(self) -> None:
        super().__init__()
        self.began = self.now = time.time()
        self.models: dict[str, list[bytes]] = {}
        self.trash: list[tuple[float, str, list[bytes]]] = []
        # A pull that has looked at its blobs and not committed yet: when it began.
        self.pulls: dict[str, tuple[float, list[bytes]]] = {}
        self.open()
        self.cache = ModelCache(
            self.place.store, hold=10 * DAY, in_flight=30 * DAY, clock=lambda: self.now
        )

    def open(self) -> None:
        """Make the store."""
        raise NotImplementedError

    def teardown(self) -> None:
        """Remove the store."""
        self.place.close()

    @initialize()
    def begin(self) -> None:
        """One model is there from the start."""
        self.pull("a", [b"1", b"2"])

    @rule(model=MODELS, layers=LAYERS)
    def pull(self, model: str, layers: list[bytes]) -> None:
        """Pull a model in one go."""
        self.look(layers)
        self.place.commit(model, layers, self.now)
        self.models[model] = layers

    @rule(model=MODELS, layers=LAYERS)
    def begin_pull(self, model: str, layers: list[bytes]) -> None:
        """Use what is there, download the rest, and leave the manifest for later."""
        if model not in self.pulls:
            self.look(layers)
            # What is still to come: something of it changes as long as the pull goes on.
            self.place.put(b"part of " + model.encode(), self.now)
            self.pulls[model] = self.now, layers

    @rule(model=MODELS)
    def end_pull(self, model: str) -> None:
        """Write the manifest of a pull that was begun."""
        if model in self.pulls:
            _, layers = self.pulls.pop(model)
            self.place.commit(model, layers, self.now)
            self.models[model] = layers
            # It may need what was set aside: from the next run on it has it.
            self.cache.prune()
            self.expire(RETENTION)

    def look(self, layers: list[bytes]) -> None:
        for data in [*layers, CONFIG]:
            if not self.place.has(data):
                self.place.put(data, self.now)

    @rule(model=MODELS)
    def delete(self, model: str) -> None:
        """Delete: it works exactly if there is such a model."""
        assert self.cache.unlink(model) == (model in self.models)
        if model in self.models:
            self.trash.append((self.now, model, self.models.pop(model)))

    @rule(model=MODELS)
    def restore(self, model: str) -> None:
        """Restore the latest: it works exactly if it is in the trash and its name is free."""
        found = [entry for entry in self.trash if entry[1] == model]
        if not found:
            with pytest.raises(ModelNotFoundError):
                self.cache.restore(model)
        elif model in self.models:
            with pytest.raises(ModelExistsError):
                self.cache.restore(model)
        else:
            latest = max(found, key=lambda entry: entry[0])
            self.cache.restore(model)
            self.trash.remove(latest)
            self.models[model] = latest[2]

    @rule(hours=st.sampled_from([1, 20, 100, 200, -1]))
    def wait(self, hours: int) -> None:
        """Let time pass, or set the clock back; a pull lasts less than the hold."""
        first = min((began for began, _ in self.pulls.values()), default=self.now)
        if self.began <= self.now + hours * HOUR < first + 9 * DAY:
            self.now += hours * HOUR
            for model in self.pulls:
                self.place.put(b"part of " + model.encode(), self.now)

    @rule(age=st.sampled_from([None, HOUR, 3 * DAY, 30 * DAY]), deleted_only=st.booleans())
    def prune(self, age: float | None, deleted_only: bool) -> None:
        """Prune: exactly what has expired goes from the trash, and the plan was right."""
        plan = self.cache.prune(age=age, dry_run=True, deleted_only=deleted_only)
        report = self.cache.prune(age=age, deleted_only=deleted_only)
        assert dataclasses.replace(plan, dry_run=False) == report
        assert report.models == self.expire(RETENTION if age is None else age)

    @precondition(lambda self: not self.pulls)
    @rule(every=st.booleans())
    def prune_all_now(self, every: bool) -> None:
        """Prune with age 0: nothing is left that is not needed."""
        self.cache.prune(age=0, all=every)
        self.trash.clear()
        if every:
            self.models.clear()
        needed = {data for layers in self.models.values() for data in [*layers, CONFIG]}
        assert {*self.place.store.blobs()} == {*map(blob, needed)}
        assert list(self.place.store.condemned()) == []

    def expire(self, age: float) -> int:
        gone = [entry for entry in self.trash if entry[0] <= self.now - age]
        self.trash = [entry for entry in self.trash if entry not in gone]
        return len(gone)

    @invariant()
    def models_are_whole(self) -> None:
        """Every model is listed, no other is, and each has all its blobs."""
        listed = {model.name for model in self.cache.models()}
        assert listed == {f"{HOST}/library/{model}:latest" for model in self.models}
        assert self.place.lacking() == []

    @invariant()
    def the_deleted_can_be_restored(self) -> None:
        """Every deleted model that has not gone is whole."""
        deleted = self.cache.deleted()
        assert len(deleted) == len(self.trash)
        assert all(model.restorable for model in deleted)


class DiskMachine(Machine):
    """On disk."""

    def open(self) -> None:
        """Make the store."""
        self.place = OnDisk()


class MemoryMachine(Machine):
    """In memory."""

    def open(self) -> None:
        """Make the store."""
        self.place = InMemory()


BOUNDS = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
TestOnDisk = DiskMachine.TestCase
TestOnDisk.settings = BOUNDS
TestInMemory = MemoryMachine.TestCase
TestInMemory.settings = BOUNDS
