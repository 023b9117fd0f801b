"""
A fault at every call of the system: whatever fails or is killed, no model is lost.

Each test first counts the calls that an operation makes, then repeats it on a copy of the same
store, once for each call, with the fault at that call.
"""

from __future__ import annotations

import errno
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from kit.clocks import DAY, HOUR
from kit.copies import in_memory
from kit.effort import Effort
from kit.faults import Killed, failing_at, failing_from, interrupted_at, killed_at, without_links
from kit.os_seam import Call, Seam
from kit.plays import Play
from kit.scenes import DiskScene, full
from kit.trees import blob, layout, manifest
from registry_wsgi.cache.collector import PruneReport
from registry_wsgi.errors import (
    InvalidManifestError,
    ModelExistsError,
    ModelNotFoundError,
    NoRoomError,
    RegistryError,
    StoreError,
)

Act = Callable[[Call], None]
Make = Callable[[int], Act]

QUIET = PruneReport()
ALL = {"age": "7d", "all": True}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where the thousands of copies are made."""
    with in_memory(tmp_path) as path:
        yield path


pytestmark = [pytest.mark.moments, pytest.mark.usefixtures("trusting")]


def changing(calls: list[Call]) -> list[int]:
    """The numbers of those calls that change something."""
    return [call.number for call in calls if call.changes]


def reading(calls: list[Call]) -> list[int]:
    """The numbers of those calls that change nothing."""
    return [call.number for call in calls if not call.changes]


def every(calls: list[Call]) -> list[int]:
    """The numbers of all calls."""
    return [call.number for call in calls]


def in_child(operation: Callable[[], object]) -> int:
    """Run *operation* in a child process, and give the status with which that ended."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other tests may have left threads
        child = os.fork()
    if child == 0:
        try:
            operation()
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def exits_at(number: int) -> Act:
    """The process ends in call *number*, without a word."""

    def act(call: Call) -> None:
        if call.number == number:
            os._exit(77)

    return act


# The collector


def furnish(disk: DiskScene) -> None:
    """What a prune meets in a store that is well."""
    disk.model("keep", b"shared", b"keep's", age=HOUR)
    disk.model("old", b"shared", b"old's")
    disk.deleted("recent", b"recent's", b"shared", ago=DAY)
    disk.deleted("expired", b"expired's", b"shared", ago=8 * DAY)
    disk.blob(b"nobody's")
    disk.blob(b"nobody's, new", age=2 * HOUR)
    disk.partial(b"half")


def furnish_after_kills(disk: DiskScene) -> None:
    """What a prune meets where earlier ones, deletes and restores were killed."""
    store, root = disk.store, disk.tree.root
    disk.blob(b"again")
    disk.blob(b"aside")
    disk.blob(b"twice")
    disk.deleted("expired", b"expired's", ago=9 * DAY)
    with disk.clock.ago(2 * HOUR):
        names = [blob(data) for data in (b"again", b"aside", b"twice", b"expired's")]
        aside = list(store.condemn(names, disk.clock()))
    # This one is needed since.
    disk.put_manifest(full("again"), manifest(b"again", config=b"again"), age=HOUR)
    # The run was killed when it had put this one back, and not yet removed the other link.
    os.link(root / "condemned" / aside[2].id / aside[2].name, disk.tree.blobs / aside[2].name)
    # The manifest of a restore that was killed is in both places.
    disk.deleted("both", b"both's", ago=10 * DAY)
    (entry,) = (entry for entry in store.deleted() if "/both/" in entry.key)
    disk.tree.path("both").parent.mkdir(parents=True, exist_ok=True)
    os.link(disk.tree.trash / entry.id / "manifests" / entry.key, disk.tree.path("both"))
    # Of a delete that was killed the links are made, and the manifest is not moved.
    disk.deleted("half", b"half's", ago=10 * DAY)
    (entry,) = (entry for entry in store.deleted() if "/half/" in entry.key)
    disk.tree.path("half").parent.mkdir(parents=True, exist_ok=True)
    (disk.tree.trash / entry.id / "manifests" / entry.key).rename(disk.tree.path("half"))


class Collections(Play):
    """Prunes, and what is asked of the store after one that failed."""

    def __init__(
        self, folder: Path, fill: Callable[[DiskScene], None], options: dict[str, Any]
    ) -> None:
        super().__init__(folder, fill)
        self._options = options
        scene = self.scene()
        self.broken_at_first = set(scene.broken())
        self._expected = self._settle(scene)
        self.calls = self.calls_of(self.prune)

    def prune(self, scene: DiskScene) -> PruneReport:
        """What fails."""
        return scene.cache.prune(**self._options)

    def check(self, scene: DiskScene) -> None:
        """No model is hurt, the next run heals all, and the one after has nothing to do."""
        assert set(scene.broken()) <= self.broken_at_first
        assert self._settle(scene) == self._expected

    def _settle(self, scene: DiskScene) -> set[str]:
        self.prune(scene)
        assert scene.broken() == []
        assert not scene.aside()
        before = scene.snapshot()
        assert self.prune(scene) == QUIET
        assert scene.snapshot() == before
        if self._options:
            # The delete of a model that `--all` was about to remove may stand: then it expires.
            scene.clock.now += 8 * DAY
            self.prune(scene)
            assert scene.broken() == []
        return layout(scene.tree.root)


@pytest.fixture(
    params=[(furnish, {}), (furnish, ALL), (furnish_after_kills, {})],
    ids=["prune", "prune --all", "prune after kills"],
)
def collections(request: pytest.FixtureRequest, folder: Path) -> Collections:
    """Prunes with and without `--all`, and of what was left behind."""
    return Collections(folder, *request.param)


def test_the_stores_are_what_they_are_said_to_be(folder: Path) -> None:
    """The copies are true ones, and the runs meet enough calls of each kind."""
    well = Collections(folder / "well", furnish, ALL)
    scene = well.scene()
    assert (scene.models(), scene.trash()) == ({"keep", "old"}, {"recent", "expired"})
    assert (scene.tree.blobs / blob(b"shared")).stat().st_nlink == 3
    ill = Collections(folder / "ill", furnish_after_kills, {})
    scene = ill.scene()
    assert (scene.models(), scene.trash()) == ({"again", "both", "half"}, {"expired", "both"})
    assert scene.aside() == {blob(x) for x in (b"again", b"aside", b"twice", b"expired's")}
    assert (len(well.broken_at_first), len(ill.broken_at_first)) == (0, 1)
    calls = [*well.calls, *ill.calls]
    assert len(changing(calls)) > 50
    assert {call.name for call in calls} >= {
        *("rename", "link", "unlink", "rmdir", "mkdir", "utime"),
        *("open", "read", "close", "scandir", "getdents", "listdir", "stat", "lstat", "fstat"),
    }


def test_a_run_killed_anywhere_is_finished_by_the_next(collections: Collections) -> None:
    """The process ends before each call that changes something; the next run heals all."""
    for number, scene in collections.scenes(changing(collections.calls)):
        with Seam(scene.tree.root, killed_at(number)), pytest.raises(Killed):
            collections.prune(scene)
        collections.check(scene)


def test_a_run_that_exits_anywhere_is_finished_by_the_next(folder: Path) -> None:
    """The same with a real process that really ends."""
    collections = Collections(folder, furnish_after_kills, {})
    for number, scene in collections.scenes(changing(collections.calls)):
        seam = Seam(scene.tree.root, exits_at(number))

        def run(seam: Seam = seam, scene: DiskScene = scene) -> None:
            with seam:
                collections.prune(scene)

        assert in_child(run) == 77
        collections.check(scene)


def test_runs_killed_one_after_the_other_are_finished(collections: Collections) -> None:
    """Each run is killed one change later than the last, on the same store; then one may end."""
    scene = collections.scene()
    for killed in range(100):
        changes = 0

        def act(call: Call, killed: int = killed) -> None:
            nonlocal changes
            changes += call.changes
            if changes > killed:
                raise Killed

        try:
            with Seam(scene.tree.root, act):
                collections.prune(scene)
        except Killed:
            assert set(scene.broken()) <= collections.broken_at_first
        else:
            break
    else:
        pytest.fail("it never ends")
    assert killed > 5
    collections.check(scene)


def test_a_run_interrupted_anywhere_hurts_no_model(folder: Path) -> None:
    """Ctrl-C in any call ends the run, and what is done on the way out heals more than it hurts."""
    collections = Collections(folder, furnish, {})
    for number, scene in collections.scenes(every(collections.calls)):
        with Seam(scene.tree.root, interrupted_at(number)), suppress(KeyboardInterrupt):
            collections.prune(scene)
        collections.check(scene)


def test_any_call_that_reads_may_fail(collections: Collections, effort: Effort) -> None:
    """Whichever call fails, the error names a path and no model is hurt; the next run heals."""
    failed = 0
    moments = effort.choose(reading(collections.calls), 60)
    for number, scene in collections.scenes(moments):
        code = (errno.EIO, errno.EACCES)[number % 2]
        with Seam(scene.tree.root, failing_at(number, code)):
            failed += fails(collections, scene, code)
        collections.check(scene)
    assert failed > len(moments) / 5 or len(moments) < 20  # a part of a shard may have but two


@pytest.mark.parametrize(
    ("code", "fail"),
    [
        *((code, failing_at) for code in (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS)),
        *((code, failing_from) for code in (errno.ENOSPC, errno.EROFS)),
    ],
    ids=["ENOSPC", "EIO", "EACCES", "EROFS", "ENOSPC from then on", "EROFS from then on"],
)
def test_any_change_may_fail(
    collections: Collections, code: int, fail: Callable[[int, int], Act]
) -> None:
    """The disk gets full, or read-only, or loses its rights, for one call or from then on."""
    failed = 0
    for number, scene in collections.scenes(changing(collections.calls)):
        with Seam(scene.tree.root, fail(number, code)):
            failed += fails(collections, scene, code)
        collections.check(scene)
    assert failed > 3


def fails(collections: Collections, scene: DiskScene, code: int) -> bool:
    """Whether a run fails, or a part of it: then each error of ours names a path and its cause."""
    try:
        report = collections.prune(scene)
    except StoreError as error:
        assert str(scene.tree.root) in str(error)
        if isinstance(error.__cause__, OSError):
            assert error.__cause__.errno == code
            assert os.strerror(code) in str(error)
        assert isinstance(error, NoRoomError) == (code == errno.ENOSPC)
        return True
    for failure in report.failures:
        assert str(scene.tree.root) in failure
        assert os.strerror(code) in failure
    assert code == errno.EACCES or not report.failures  # what is no matter of one file ends the run
    return report.failed > 0


# Deletes and restores


def furnish_for_delete(disk: DiskScene) -> None:
    """A model to delete, and one beside it."""
    disk.model("smol", b"weights", b"template", age=HOUR)
    disk.model("other", b"weights", age=HOUR)


def furnish_for_restore(disk: DiskScene) -> None:
    """A deleted model, of which the trash alone has one blob, and another is there in part."""
    disk.deleted("smol", b"weights", b"template", ago=DAY)
    disk.model("other", b"other's", age=HOUR)
    (disk.tree.blobs / blob(b"weights")).unlink()
    (disk.tree.blobs / blob(b"template")).unlink()
    disk.put_blob(blob(b"template"), b"temp", age=HOUR)


class Undoing(Play):
    """A delete or a restore, and what is asked of the store after one that failed."""

    def __init__(self, folder: Path, what: str) -> None:
        fills = {"unlink": furnish_for_delete, "restore": furnish_for_restore}
        super().__init__(folder, fills[what.split(maxsplit=1)[0]])
        self.what = what
        self.calls = self.calls_of(self.run)
        scene = self.scene()
        self.run(scene)
        self._expected = self._settle(scene)

    def run(self, scene: DiskScene) -> object:
        """What fails."""
        if self.what == "restore":
            return scene.cache.restore("smol")
        return scene.cache.unlink("smol" if self.what == "unlink" else "SMOL")

    def check(self, scene: DiskScene, *, pruned: bool) -> None:
        """The model is listed whole or can be restored whole, and each can be done."""
        if pruned:
            scene.cache.prune()
        if "smol" in scene.models():
            assert scene.broken() == []
        else:
            assert [model.restorable for model in scene.cache.deleted()] == [True]
        assert self._settle(scene) == self._expected

    def _settle(self, scene: DiskScene) -> set[str]:
        if self.what == "restore":
            try:
                scene.cache.restore("smol")
            except ModelNotFoundError:
                assert scene.models() == {"smol", "other"}
        else:
            if "smol" in scene.models():
                assert scene.cache.unlink("smol")
            assert scene.models() == {"other"}
            scene.cache.restore("smol")
        assert scene.models() == {"smol", "other"}
        assert scene.broken() == []
        assert scene.cache.deleted() == []
        scene.clock.now += 8 * DAY
        scene.cache.prune()
        assert scene.broken() == []
        return layout(scene.tree.root)


@pytest.fixture(params=["unlink", "unlink, in another case", "restore"])
def undoing(request: pytest.FixtureRequest, folder: Path) -> Undoing:
    """A delete and a restore."""
    what = request.param.replace("unlink, in another case", "unlink SMOL")
    return Undoing(folder, what)


@pytest.mark.parametrize("pruned", [False, True], ids=["", "then a prune"])
def test_a_delete_or_restore_killed_anywhere_can_be_completed(
    undoing: Undoing, pruned: bool
) -> None:
    """The process ends before each call that changes something, and no model is lost."""
    for number, scene in undoing.scenes(changing(undoing.calls)):
        with Seam(scene.tree.root, killed_at(number)), pytest.raises(Killed):
            undoing.run(scene)
        undoing.check(scene, pruned=pruned)


def test_a_delete_or_restore_that_exits_anywhere_can_be_completed(undoing: Undoing) -> None:
    """The same with a real process that really ends."""
    for number, scene in undoing.scenes(changing(undoing.calls)):
        seam = Seam(scene.tree.root, exits_at(number))

        def run(seam: Seam = seam, scene: DiskScene = scene) -> None:
            with seam:
                undoing.run(scene)

        assert in_child(run) == 77
        undoing.check(scene, pruned=True)


def test_a_delete_or_restore_interrupted_anywhere_can_be_completed(undoing: Undoing) -> None:
    """Ctrl-C in any call loses no model."""
    for number, scene in undoing.scenes(every(undoing.calls)):
        with Seam(scene.tree.root, interrupted_at(number)), pytest.raises(KeyboardInterrupt):
            undoing.run(scene)
        undoing.check(scene, pruned=False)


def undoing_fails(undoing: Undoing, scene: DiskScene, act: Act, code: int) -> bool:
    """Whether it fails: then with an error that names a path, and the model is where it was."""
    listed = "smol" in scene.models()
    try:
        with Seam(scene.tree.root, act):
            done = undoing.run(scene)
    except RegistryError as error:
        assert isinstance(error, StoreError)
        assert str(scene.tree.root) in str(error)
        # A look that fails can be taken for "nothing there"; what then fails says something else.
        assert isinstance(error.__cause__, OSError)
        assert isinstance(error, NoRoomError) == (code == errno.ENOSPC)
        # A restore that cannot clear the trash has put the model back all the same.
        assert ("smol" in scene.models()) == listed or undoing.what == "restore"
        return True
    assert done
    assert ("smol" in scene.models()) != listed
    return False


def test_any_call_of_a_delete_or_restore_may_fail(undoing: Undoing) -> None:
    """Whichever call fails, the error names a path, and the model is not lost."""
    failed = 0
    for number, scene in undoing.scenes(reading(undoing.calls)):
        code = (errno.EIO, errno.EACCES)[number % 2]
        failed += undoing_fails(undoing, scene, failing_at(number, code), code)
        undoing.check(scene, pruned=False)
    assert failed > 1


@pytest.mark.parametrize(
    "code", [errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS], ids=errno.errorcode.get
)
@pytest.mark.parametrize("fail", [failing_at, failing_from], ids=["once", "from then on"])
def test_any_change_of_a_delete_or_restore_may_fail(
    undoing: Undoing, code: int, fail: Callable[[int, int], Act]
) -> None:
    """The disk gets full, or read-only, or loses its rights, and no model is lost."""
    failed = 0
    for number, scene in undoing.scenes(changing(undoing.calls)):
        failed += undoing_fails(undoing, scene, fail(number, code), code)
        undoing.check(scene, pruned=False)
    if undoing.what == "restore" or code not in (errno.ENOSPC, errno.EACCES):
        assert failed > 2  # a delete finds a way without a directory in the trash


# Without hard links


def test_a_run_without_links_killed_anywhere_is_finished_by_the_next(folder: Path) -> None:
    """Where there are no hard links, a prune that is killed is finished and healed as well."""

    def fill(disk: DiskScene) -> None:
        with Seam(disk.tree.root, without_links):
            furnish(disk)
            disk.blob(b"again")
            list(disk.store.condemn([blob(b"again")], disk.clock() - HOUR))
            disk.put_manifest(full("again"), manifest(b"again", config=b"again"), age=HOUR)

    def both(act: Act) -> Act:
        def acts(call: Call) -> None:
            act(call)
            without_links(call)

        return acts

    play = Play(folder, fill)
    scene = play.scene()
    with Seam(scene.tree.root, without_links) as seam:
        scene.cache.prune()
    expected = layout(scene.tree.root)
    assert {"keep", "old", "again"} == scene.models()
    assert scene.broken() == []
    for number, scene in play.scenes(changing(seam.calls)):
        with Seam(scene.tree.root, both(killed_at(number))), pytest.raises(Killed):
            scene.cache.prune()
        with Seam(scene.tree.root, without_links):
            scene.cache.prune()
            assert scene.broken() == []
            assert scene.prune() == QUIET
        assert layout(scene.tree.root) == expected


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_restore_without_links_killed_anywhere_can_be_completed(
    folder: Path, moment: str
) -> None:
    """At worst it leaves an empty manifest, which stops a sweep; then delete and restore again."""

    def fill(disk: DiskScene) -> None:
        with Seam(disk.tree.root, without_links):
            disk.deleted("smol", b"weights", ago=DAY)

    play = Play(folder, fill)
    scene = play.scene()
    with Seam(scene.tree.root, without_links) as seam:
        scene.cache.restore("smol")
    assert scene.broken() == []
    assert not scene.trash()
    unreadable = 0
    for number, scene in play.scenes(changing(seam.calls)):
        kill = killed_at(number)

        def before(call: Call, kill: Act = kill) -> None:
            if moment == "before":
                kill(call)
            without_links(call)

        after = kill if moment == "after" else without_links
        with Seam(scene.tree.root, before, after), suppress(Killed):
            scene.cache.restore("smol")
        with Seam(scene.tree.root, without_links):
            try:
                scene.cache.prune()
            except InvalidManifestError:
                unreadable += 1
                with pytest.raises(ModelExistsError):
                    scene.cache.restore("smol")
                assert scene.cache.unlink("smol")
            with suppress(ModelExistsError, ModelNotFoundError):
                scene.cache.restore("smol")
        assert scene.models() == {"smol"}
        assert scene.broken() == []
    assert unreadable == (moment == "after")
