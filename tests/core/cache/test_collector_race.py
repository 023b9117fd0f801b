"""
The race, made exact: a writer at every step of a collection.

The writer is Ollama's pull: it looks whether a blob is in its place, uses it if so (newer versions
touch it, older ones do not) or else writes it, and then writes the manifest.
"""

from __future__ import annotations

import itertools
import os
import shutil
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from kit.effort import Effort
from kit.faults import without_links
from kit.os_seam import Call, Seam
from kit.trees import Tree, blob, broken, manifest
from registry_wsgi import DiskStore, ModelCache, RegistryError
from registry_wsgi.errors import (
    InvalidManifestError,
    ModelExistsError,
    ModelIncompleteError,
    ModelNotFoundError,
)
from registry_wsgi.stores.base import Deleted

WEEK = timedelta(days=7).total_seconds()
LATER = time.time() + 2 * WEEK  # the clock of these tests is ahead
STEPS = [
    *("find", "manifests", "read", "version", "blobs", "blob", "remove_blob", "condemned"),
    *("condemned_blob", "pardon", "discard", "deleted", "read_deleted", "blob_in_trash"),
    *("recover_blob", "recover", "forget", "tidy"),
]
pytestmark = pytest.mark.usefixtures("hasty")
TOUCHING = pytest.mark.parametrize("touching", [True, False], ids=["touching", "not touching"])


class Stepped(DiskStore):
    """A store that calls *hooks*, each once, before the step of that number."""

    def __init__(self, root: Path, hooks: dict[int, Callable[[], object]]) -> None:
        super().__init__(root)
        self.hooks = hooks
        self.steps = 0
        self.condemning: int | None = None
        self.judging: int | None = None
        self.reading: int | None = None

    def step(self) -> None:
        """Count a step, and do what is to be done before it."""
        hook = self.hooks.pop(self.steps, None)
        self.steps += 1
        if hook is not None:
            hook()

    def __getattribute__(self, name: str) -> Any:
        if name in STEPS:
            self.step()
        return super().__getattribute__(name)

    def condemn(self, *arguments: Any) -> Any:
        """Set aside, with a step before each blob and after the last."""
        self.condemning = self.steps
        return self._stepped(super().condemn(*arguments))

    # What takes many is many steps.

    def read_all(self) -> Any:
        return self._stepped(super().read_all())

    def versions(self) -> Any:
        self.reading = self.steps
        return self._stepped(super().versions())

    def look(self, *arguments: Any) -> Any:
        self.judging = self.steps
        return self._stepped(super().look(*arguments))

    def look_aside(self, *arguments: Any) -> Any:
        return self._stepped(super().look_aside(*arguments))

    def purge(self, *arguments: Any) -> Any:
        return self._stepped(super().purge(*arguments))

    def read_all_deleted(self, *arguments: Any) -> Any:
        return self._stepped(super().read_all_deleted(*arguments))

    def _stepped(self, taken: Iterable[Any]) -> Any:
        self.step()
        for one in taken:
            yield one
            self.step()


class Pull:
    """A pull of a model that needs an old blob which nothing needed."""

    def __init__(self, tree: Tree, name: str, *, touching: bool) -> None:
        self.tree = tree
        self.name = name
        self.touching = touching

    def look(self) -> None:
        """Use the blobs that are there, and write the others."""
        for data in (b"old", b"{}"):
            path = self.tree.blobs / blob(data)
            if not path.exists():
                path.write_bytes(data)
            elif self.touching:
                os.utime(path, (LATER, LATER))

    def commit(self) -> None:
        """Write the manifest."""
        self.tree.write(self.name, manifest(b"old"))

    def whole(self) -> None:
        """Both at once."""
        self.look()
        self.commit()

    def begin(self) -> None:
        """Look, and begin to download something else."""
        self.look()
        path = self.tree.blobs / "sha256-123-partial"
        path.write_bytes(b"half")
        os.utime(path, (LATER, LATER))


def scene(root: Path) -> Tree:
    """A store with something for each step: kept, expired, unreferenced, and left aside."""
    tree = Tree(root)
    tree.add("kept", b"kept", b"shared")
    tree.add("gone", b"gone", b"shared")
    tree.add_blob(b"old")
    tree.add_blob(b"older")
    os.utime(tree.add_blob(b"aside"), (time.time() - WEEK, time.time() - WEEK))
    store = DiskStore(tree.root)
    assert ModelCache(store, clock=lambda: time.time() - 60).unlink("gone")
    list(store.condemn([blob(b"aside")], time.time()))
    # Where there is no model, nothing is removed.
    stays = tree.write("example.com/resident/none/latest", b'{"layers": []}')
    os.utime(stays, (2 * LATER, 2 * LATER))
    time.sleep(0.03)  # so that no manifest is read once more as it was written just now
    return tree


def cache_of(store: DiskStore) -> ModelCache:
    """A cache two weeks later; in a store at rest, its prunes pause for an instant."""
    cache = ModelCache(store, clock=lambda: LATER)
    cache.pause = 1e-6
    return cache


def run(tree: Tree, hooks: dict[int, Callable[[], object]], **options: Any) -> int:
    """Collect with *hooks*, those that come too late after it, and tell how many steps it took."""
    store = Stepped(tree.root, hooks)
    try:
        cache_of(store).prune(**options)
    finally:
        # A manifest that was written just before is read once more, so the steps differ a little.
        steps = store.steps
        for step in sorted(hooks):
            hooks.pop(step)()
    return steps


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> int:
    """How many steps a collection of the scene takes."""
    return run(scene(tmp_path_factory.mktemp("count") / "m"), {})


def test_undisturbed_it_removes_all_that_nothing_needs(tmp_path: Path) -> None:
    """What the writers save below does go when there are none."""
    tree = scene(tmp_path / "m")
    report = cache_of(DiskStore(tree.root)).prune()
    assert (report.models, report.blobs, report.held_blobs) == (1, 4, 0)
    assert {path.name for path in tree.blobs.iterdir()} == {*map(blob, [b"kept", b"shared", b"{}"])}


@TOUCHING
def test_a_pull_at_any_step_loses_nothing(tmp_path: Path, steps: int, touching: bool) -> None:
    """Whenever a pull uses the blob and commits, the model is whole after the run and the next."""
    for step in range(steps + 1):
        tree = scene(tmp_path / str(step))
        pull = Pull(tree, "new", touching=touching)
        run(tree, {step: pull.whole})
        assert broken(tree.root) == [], step  # at once, not only after the next run
        cache_of(DiskStore(tree.root)).prune()
        assert broken(tree.root) == [], step
        assert tree.path("new").exists()


@TOUCHING
def test_a_pull_over_several_steps_loses_nothing(
    tmp_path: Path, steps: int, touching: bool, effort: Effort
) -> None:
    """A pull that has looked, downloads and commits later: whole after the next run, if in time."""
    pairs = itertools.combinations(range(steps + 1), 2)
    for number, (look, commit) in enumerate(effort.choose(pairs, 80)):
        tree = scene(tmp_path / str(number))
        pull = Pull(tree, "new", touching=touching)
        run(tree, {look: pull.begin, commit: pull.commit})
        cache_of(DiskStore(tree.root)).prune()
        assert broken(tree.root) == [], (look, commit)


class SlowPull(Pull):
    """A pull of two old blobs that nothing needed: it looks, downloads what is absent, commits."""

    def __init__(self, tree: Tree) -> None:
        super().__init__(tree, "new", touching=False)
        self.absent: list[Path] = []

    def look(self) -> None:
        """See which of the two are absent."""
        paths = [self.tree.blobs / blob(data) for data in (b"old", b"older")]
        self.absent = [path for path in paths if not path.exists()]

    def first_byte(self) -> None:
        """Begin to download what is absent, or something else that the model needs as well."""
        for path in self.absent or [self.tree.blobs / blob(b"{}")]:
            partial = path.with_name(f"{path.name}-partial")
            partial.write_bytes(b"half")
            os.utime(partial, (LATER, LATER))

    def look_and_begin(self) -> None:
        """Both at once."""
        self.look()
        self.first_byte()

    def commit(self) -> None:
        """End the download, and write the manifest."""
        for path in self.tree.blobs.glob("*-partial"):
            path.unlink()
        for path in self.absent:
            path.write_bytes(b"old" if path.name == blob(b"old") else b"older")
            os.utime(path, (LATER, LATER))
        self.tree.write(self.name, manifest(b"old", b"older"))


@pytest.mark.parametrize("shows", ["while manifests are read", "before"])
def test_a_pull_that_shows_on_one_side_of_the_second_reading_is_waited_for(
    tmp_path: Path, steps: int, effort: Effort, shows: str
) -> None:
    """It shows only until the manifests are read again, or only from then on: whole in the end."""
    undisturbed = Stepped(scene(tmp_path / "count").root, {})
    cache_of(undisturbed).prune()
    begun, last = undisturbed.condemning, undisturbed.reading
    assert begun is not None
    assert last is not None
    # A download that ends before the reading begins is seen by that.
    ends = range(last, steps) if shows == "before" else effort.choose(range(begun + 4, last + 1), 6)
    for look in range(begun, begun + 4):
        for later in ends:
            tree = scene(tmp_path / f"{look}-{later}")
            pull = SlowPull(tree)
            if shows == "before":
                run(tree, {look: pull.look_and_begin, later: pull.commit})
            else:
                run(tree, {look: pull.look, later: pull.first_byte})
                pull.commit()
            cache_of(DiskStore(tree.root)).prune()
            assert broken(tree.root) == [], (look, later)


@pytest.mark.parametrize("shows", [False, True], ids=["nothing shows", "a download shows"])
def test_a_pull_that_touches_what_it_uses_may_take_its_time(
    tmp_path: Path, steps: int, shows: bool
) -> None:
    """What was touched is in its place after the run, or was not there to be touched."""
    for step in range(steps):
        tree = scene(tmp_path / str(step))
        pull = Pull(tree, "new", touching=True)
        run(tree, {step: pull.begin if shows else pull.look})
        pull.commit()
        assert broken(tree.root) == [], step


def test_a_pull_that_nothing_shows_is_waited_for_in_a_store_in_use(tmp_path: Path) -> None:
    """It looks, waits for its first byte for the rest of the run, and commits: whole in the end."""
    for step in itertools.count():
        tree = scene(tmp_path / str(step))
        pull = Pull(tree, "new", touching=False)

        def look(tree: Tree = tree, pull: Pull = pull) -> None:
            os.utime(tree.blobs, (LATER, LATER))  # something came, and went
            pull.look()

        store = Stepped(tree.root, {step: look})
        report = cache_of(store).prune()
        assert store.condemning is not None
        if step >= store.condemning:  # from there on this run itself looks like use
            break
        assert report.held_blobs >= 2, step
        pull.commit()
        cache_of(DiskStore(tree.root)).prune()
        assert broken(tree.root) == [], step
    assert step > 10


def test_a_pull_that_shows_within_the_pause_is_waited_for_in_a_store_at_rest(
    tmp_path: Path, steps: int
) -> None:
    """It looks at any step before the pause, and its first byte comes in the pause."""
    for step in range(steps):
        tree = scene(tmp_path / str(step))
        pull = SlowPull(tree)
        looked: list[bool] = []

        def look(pull: SlowPull = pull, looked: list[bool] = looked) -> None:
            if not looked:
                pull.look()
            looked.append(True)

        def progress(
            what: str, *more: object, pull: SlowPull = pull, looked: list[bool] = looked
        ) -> None:
            if what == "waiting for pulls to show":
                if looked:
                    pull.first_byte()
                looked.append(False)

        run(tree, {step: look}, progress=progress)
        assert False in looked, step
        if looked[0] is False:
            break
        pull.commit()
        cache_of(DiskStore(tree.root)).prune()
        assert broken(tree.root) == [], step
    assert step > 10


def test_what_comes_and_goes_within_the_pause_is_waited_for(tmp_path: Path) -> None:
    """The temporary file of a create that drops it, as the blob is there, shows a create."""
    tree = scene(tmp_path / "m")
    pull = SlowPull(tree)

    def progress(what: str, *more: object) -> None:
        if what == "waiting for pulls to show":
            spare = tree.blobs / "sha256-123"
            spare.touch()
            spare.unlink()
            os.utime(tree.blobs, (LATER, LATER))  # the clock of files may not have gone on

    store = DiskStore(tree.root)
    pull.look()
    assert cache_of(store).prune(progress=progress).held_blobs == 3
    pull.commit()
    cache_of(store).prune()
    assert broken(tree.root) == []


def test_a_manifest_that_changes_within_a_tick_is_read_again(tmp_path: Path, steps: int) -> None:
    """One that is rewritten in place, with the same size and times, has another content."""
    for step in range(steps):
        tree = scene(tmp_path / str(step))
        path = tree.write("tick", manifest(b"xyz"))
        tree.add_blob(b"xyz")
        status = path.stat()

        def rewrite(tree: Tree = tree, path: Path = path, status: os.stat_result = status) -> None:
            Pull(tree, "tick", touching=False).whole()
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

        run(tree, {step: rewrite})
        assert broken(tree.root) == [], step


def test_a_pull_that_outlasts_the_hold_is_not_promised(tmp_path: Path) -> None:
    """What looked before a blob was set aside, and commits after the hold, may find it gone."""
    tree = scene(tmp_path / "m")
    pull = Pull(tree, "new", touching=False)
    pull.begin()
    now = time.time() + 2 * WEEK
    cache = ModelCache(DiskStore(tree.root), clock=lambda: now)
    assert cache.prune().held_blobs == 3
    now += timedelta(hours=23).total_seconds()
    os.utime(tree.blobs / "sha256-123-partial", (now, now))
    assert cache.prune().held_blobs == 3
    now += timedelta(hours=1).total_seconds()
    os.utime(tree.blobs / "sha256-123-partial", (now, now))
    assert cache.prune().blobs == 3
    pull.commit()
    cache.prune()
    assert len(broken(tree.root)) == 1


def test_a_restore_at_any_step_is_whole_or_refused(tmp_path: Path, steps: int) -> None:
    """A model whose time is over comes back with all its blobs, or not at all."""
    outcomes = set()
    for step in range(steps):
        tree = scene(tmp_path / str(step))

        def restore(tree: Tree = tree) -> None:
            try:
                ModelCache(DiskStore(tree.root)).restore("gone")
                outcomes.add("restored")
            except (ModelNotFoundError, ModelExistsError):
                outcomes.add("refused")

        run(tree, {step: restore})
        cache_of(DiskStore(tree.root)).prune()
        assert broken(tree.root) == [], step
    assert outcomes == {"restored", "refused"}


class Halfway(DiskStore):
    """A store whose restores stop before the manifest goes back."""

    entry: Deleted | None = None

    def recover(self, entry: Deleted) -> bool:
        self.entry = entry
        return False


def test_a_restore_that_takes_its_time_is_whole_or_refused(tmp_path: Path, steps: int) -> None:
    """It finds all blobs before a collection begins, and puts the manifest back at any step."""
    outcomes = set()
    for step in range(steps):
        tree = scene(tmp_path / str(step))
        slow = Halfway(tree.root)
        with pytest.raises(ModelNotFoundError):
            ModelCache(slow).restore("gone")
        entry = slow.entry
        assert entry is not None

        def recover(tree: Tree = tree, entry: Deleted = entry) -> None:
            outcomes.add(DiskStore(tree.root).recover(entry))

        run(tree, {step: recover})
        cache_of(DiskStore(tree.root)).prune()
        assert broken(tree.root) == [], step
    assert outcomes == {True, False}


def test_a_prune_at_any_call_of_a_restore_without_links_leaves_it_whole_or_refused(
    tmp_path: Path, effort: Effort
) -> None:
    """Without hard links a restore copies the manifest: no prune in its midst makes that broken."""
    outcomes = set()
    tree = scene(tmp_path / "count")
    with Seam(tree.root, without_links) as calls:
        cache_of(DiskStore(tree.root)).restore("gone")
    for number in effort.choose(range(len(calls.calls)), 60):
        tree = scene(tmp_path / str(number))
        cache = cache_of(DiskStore(tree.root))

        def prune(call: Call, number: int = number, cache: ModelCache = cache) -> None:
            if call.number == number:
                # The copy may have its name, and not all of its bytes.
                with suppress(InvalidManifestError):
                    cache.prune()
            without_links(call)

        with Seam(tree.root, prune):
            try:
                cache.restore("gone")
                outcomes.add("restored")
            except (ModelNotFoundError, ModelIncompleteError):
                outcomes.add("refused")
        cache.prune()
        assert broken(tree.root) == [], number
        shutil.rmtree(tree.root)
    assert outcomes == {"restored", "refused"} or effort.everything  # of which this is a part


def test_a_delete_at_any_step_can_be_undone(tmp_path: Path, steps: int) -> None:
    """A model that is deleted while a collection runs comes back whole."""
    for step in range(steps):
        tree = scene(tmp_path / str(step))
        later = cache_of(DiskStore(tree.root))
        run(tree, {step: lambda later=later: later.unlink("kept")})  # type: ignore[misc]
        later.restore("kept")
        assert tree.path("kept").exists()
        assert broken(tree.root) == [], step


def test_a_model_that_is_pulled_and_deleted_again_can_be_restored(
    tmp_path: Path, steps: int
) -> None:
    """One that a collection sees neither among the manifests nor, at first, in the trash."""
    store = Stepped(scene(tmp_path / "count").root, {})
    cache_of(store).prune()
    assert store.condemning is not None
    for step in range(store.condemning + 1, steps):
        tree = scene(tmp_path / str(step))
        later = cache_of(DiskStore(tree.root))
        pull = Pull(tree, "new", touching=False)
        run(tree, {store.condemning: pull.whole, step: lambda later=later: later.unlink("new")})  # type: ignore[misc]
        later.restore("new")
        assert broken(tree.root) == [], step
        cache_of(DiskStore(tree.root)).prune()
        assert broken(tree.root) == [], step


@pytest.mark.parametrize("options", [{}, {"all": True}, {"age": 3600.0}])
def test_a_second_collection_at_any_step_does_no_harm(
    tmp_path: Path, steps: int, options: dict[str, Any]
) -> None:
    """Two at once, and a pull between them: whole in the end, and nothing is left over."""
    for step in range(steps):
        tree = scene(tmp_path / str(step))

        def other(tree: Tree = tree) -> None:
            cache_of(DiskStore(tree.root)).prune(**options)
            Pull(tree, "new", touching=False).whole()

        run(tree, {step: other}, **options)
        cache_of(DiskStore(tree.root)).prune()
        assert broken(tree.root) == [], step
        assert list(tree.trash.iterdir()) == []
        assert [path for path in (tree.root / "condemned").iterdir() if any(path.iterdir())] == []


@pytest.mark.parametrize("ahead", [True, False], ids=["its time too", "its content alone"])
def test_a_model_that_is_pulled_anew_is_not_old(tmp_path: Path, steps: int, ahead: bool) -> None:
    """With `all`, a manifest that changes after it was found to be old stays, whatever its time."""
    undisturbed = Stepped(scene(tmp_path / "count").root, {})
    cache_of(undisturbed).prune(all=True)
    assert undisturbed.judging is not None
    for step in range(steps + 10):
        tree = scene(tmp_path / str(step))

        def again(tree: Tree = tree) -> None:
            path = tree.add("kept", b"new weights")
            if ahead:
                os.utime(path, (LATER, LATER))

        run(tree, {step: again}, all=True)
        cache_of(DiskStore(tree.root)).prune()
        assert broken(tree.root) == [], step
        if not tree.path("kept").exists():
            # It came before it was judged, and with it was too old by this clock.
            assert not ahead, step
            assert step < undisturbed.judging


def test_a_model_that_is_pulled_anew_as_it_was_is_not_old(tmp_path: Path, steps: int) -> None:
    """Nor is one that comes with the same content: it goes only if it came in that very moment."""
    gone = []
    for step in range(steps + 10):
        tree = scene(tmp_path / str(step))

        def again(tree: Tree = tree) -> None:
            tree.add("kept", b"kept", b"shared")
            os.utime(tree.path("kept"), (LATER, LATER))

        run(tree, {step: again}, all=True)
        cache_of(DiskStore(tree.root)).prune()
        assert broken(tree.root) == [], step
        if not tree.path("kept").exists():
            gone.append(step)
    assert len(gone) == 1


def test_a_manifest_that_is_half_written_stops_the_sweep(tmp_path: Path, steps: int) -> None:
    """One that cannot be read at the second look: what was set aside is back, and nothing gone."""
    stopped = 0
    for step in range(steps):
        tree = scene(tmp_path / str(step))
        before = {path.name for path in tree.blobs.iterdir()}
        try:
            run(tree, {step: lambda tree=tree: tree.write("half", b'{"layers": [')})  # type: ignore[misc]
        except RegistryError:
            stopped += 1
            assert before <= {path.name for path in tree.blobs.iterdir()}
        tree.write("half", manifest(b"old"))
        tree.add_blob(b"old")
        cache_of(DiskStore(tree.root)).prune()
        assert broken(tree.root) == [], step
    assert stopped > 3
