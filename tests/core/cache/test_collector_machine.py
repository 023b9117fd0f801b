"""
Any order of pulls, deletes, restores, prunes and times, against a simple model of what must be.

The store is real, the clock is not: it starts at the present (files are dated by the system) and
only the distance that it runs ahead counts as age.
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

import pytest

from kit.clocks import DAY, HOUR, Clock
from kit.effort import Effort
from kit.scenes import DiskScene, MemoryScene, full
from kit.trees import HOST, blob, manifest

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

from registry_wsgi import ModelCache
from registry_wsgi.errors import ModelExistsError, ModelNotFoundError, OutOfReachError

RETENTION = 7 * DAY
MODELS = st.sampled_from(["a", "b", "c"])
LAYERS = st.lists(st.sampled_from([b"1", b"2", b"3", b"4"]), min_size=1, max_size=3, unique=True)
CONFIG = b"{}"


class Machine(RuleBasedStateMachine):
    """The rules, and what must hold after each."""

    scene: DiskScene | MemoryScene

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.began = self.clock.now
        self.models: dict[str, list[bytes]] = {}
        self.trash: list[tuple[float, str, list[bytes]]] = []
        # A pull that has looked at its blobs and not committed yet: when it began.
        self.pulls: dict[str, tuple[float, list[bytes]]] = {}
        self.scene = self.make_scene()
        self.cache = ModelCache(
            self.scene.store, hold=10 * DAY, in_flight=30 * DAY, clock=self.clock
        )

    def make_scene(self) -> DiskScene | MemoryScene:
        """An empty store."""
        raise NotImplementedError

    def put(self, data: bytes) -> None:
        """Write a blob, now."""
        self.scene.blob(data, age=0)

    def commit(self, model: str, layers: list[bytes]) -> None:
        """Write a manifest, now."""
        self.scene.put_manifest(full(model), manifest(*layers, config=CONFIG))
        self.models[model] = layers

    @initialize()
    def begin(self) -> None:
        """One model is there from the start."""
        self.pull("a", [b"1", b"2"])

    @rule(model=MODELS, layers=LAYERS)
    def pull(self, model: str, layers: list[bytes]) -> None:
        """Pull a model in one go."""
        self.look(layers)
        self.commit(model, layers)

    @rule(model=MODELS, layers=LAYERS)
    def begin_pull(self, model: str, layers: list[bytes]) -> None:
        """Use what is there, download the rest, and leave the manifest for later."""
        if model not in self.pulls:
            self.look(layers)
            # What is still to come: something of it changes as long as the pull goes on.
            self.put(b"part of " + model.encode())
            self.pulls[model] = self.clock.now, layers

    @rule(model=MODELS)
    def end_pull(self, model: str) -> None:
        """Write the manifest of a pull that was begun."""
        if model in self.pulls:
            _, layers = self.pulls.pop(model)
            self.commit(model, layers)
            # It may need what was set aside: from the next run on it has it.
            self.cache.prune()
            self.expire(RETENTION)

    def look(self, layers: list[bytes]) -> None:
        for data in [*layers, CONFIG]:
            if self.scene.store.blob(blob(data)) is None:
                self.put(data)

    @rule(model=MODELS)
    def delete(self, model: str) -> None:
        """Delete: it works exactly if there is such a model."""
        assert self.cache.unlink(model) == (model in self.models)
        if model in self.models:
            self.trash.append((self.clock.now, model, self.models.pop(model)))

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
        first = min((began for began, _ in self.pulls.values()), default=self.clock.now)
        if self.began <= self.clock.now + hours * HOUR < first + 9 * DAY:
            self.clock.now += hours * HOUR
            for model in self.pulls:
                self.put(b"part of " + model.encode())

    @rule(age=st.sampled_from([None, HOUR, 3 * DAY, 30 * DAY]), deleted_only=st.booleans())
    def prune(self, age: float | None, deleted_only: bool) -> None:
        """Prune: exactly what has expired goes from the trash, and the plan was right."""
        try:
            plan = self.cache.prune(age=age, dry_run=True, deleted_only=deleted_only)
        except OutOfReachError:
            # No model is left, and a blob in its place was of no model that is in the trash.
            deleted = {data for _, _, layers in self.trash for data in [*layers, CONFIG]}
            assert not self.models
            assert {*self.scene.store.blobs()} - {*map(blob, deleted)}
            with pytest.raises(OutOfReachError):
                self.cache.prune(age=age, deleted_only=deleted_only)
            return
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
        assert {*self.scene.store.blobs()} == {*map(blob, needed)}
        assert list(self.scene.store.condemned()) == []

    def expire(self, age: float) -> int:
        gone = [entry for entry in self.trash if entry[0] <= self.clock.now - age]
        self.trash = [entry for entry in self.trash if entry not in gone]
        return len(gone)

    @invariant()
    def models_are_whole(self) -> None:
        """Every model is listed, no other is, and each has all its blobs."""
        listed = {model.name for model in self.cache.models()}
        assert listed == {f"{HOST}/library/{model}:latest" for model in self.models}
        assert self.scene.broken() == []

    @invariant()
    def the_deleted_can_be_restored(self) -> None:
        """Every deleted model that has not gone is whole."""
        deleted = self.cache.deleted()
        assert len(deleted) == len(self.trash)
        assert all(model.restorable for model in deleted)


class DiskMachine(Machine):
    """On disk."""

    def make_scene(self) -> DiskScene:
        """An empty store in a folder of its own."""
        self.folder = tempfile.TemporaryDirectory()
        return DiskScene(Path(self.folder.name, "models"), self.clock)

    def teardown(self) -> None:
        """Remove the store."""
        self.folder.cleanup()


class MemoryMachine(Machine):
    """In memory."""

    def make_scene(self) -> MemoryScene:
        """An empty store."""
        return MemoryScene(self.clock)


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

# An example has up to thirty steps: fewer of them take as long as many elsewhere.
AT_LENGTH = settings(
    BOUNDS, max_examples=Effort(everything=True).examples(0) // 40, derandomize=False
)


@pytest.mark.exhaustive
class TestOnDiskAtLength(DiskMachine.TestCase):  # type: ignore[misc, valid-type]
    """On disk, with many examples."""

    settings = AT_LENGTH


@pytest.mark.exhaustive
class TestInMemoryAtLength(MemoryMachine.TestCase):  # type: ignore[misc, valid-type]
    """In memory, with many examples."""

    settings = AT_LENGTH
