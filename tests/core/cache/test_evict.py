"""`ModelCache.evict` on real files: what goes, what stays, and what is looked at once more."""

from __future__ import annotations

import dataclasses
import mmap
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from kit.clocks import DAY, HOUR
from kit.scenes import DiskScene, MemoryScene, name_of
from kit.trees import blob, fingerprint
from registry_wsgi.cache.evict import EvictReport
from registry_wsgi.cache.evict_plan import Action, make_plan
from registry_wsgi.errors import (
    BusyError,
    ConfigurationError,
    InvalidManifestError,
    InvalidSizeError,
    StoreError,
    UntouchableError,
)
from registry_wsgi.stores.base import Disk, WatchedStore

#: The bytes of the weights of each model: whole blocks, so that the disk has as many.
WEIGHTS = 400 << 10

#: The last model was read so many days ago, the one before it one more, and so on.
READ = {"five": 50, "four": 40, "three": 30, "two": 20, "one": 10}


def weights(name: str) -> bytes:
    return name.encode().ljust(WEIGHTS)


class Store(DiskScene):
    """Five models, all of which came long ago, and were last read at different times."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        for name, days in READ.items():
            self.model(name, weights(name), age=100 * DAY)
            self.read(name, days=days)
        self.use(age=30 * DAY)

    def weights_of(self, name: str) -> Path:
        return self.tree.blobs / blob(weights(name))

    def read(self, name: str, *, days: float) -> None:
        """Let the weights of a model have been read so many days ago, by the clock of the store."""
        path = self.weights_of(name)
        when = self.clock.now - days * DAY
        # A file that was not read since it was written could be read by the test without a trace.
        os.utime(path, (when, when - DAY))

    def evict(self, **options: Any) -> EvictReport:
        """Evict, after a dry run that touches nothing and reports the same steps."""
        before = fingerprint(self.tree.root)
        plan = self.cache.evict(**options, dry_run=True)
        assert fingerprint(self.tree.root) == before
        assert plan.dry_run
        report = self.cache.evict(**options)
        assert [without_entry(action) for action in report.actions] == [*plan.actions]
        assert report.ok == plan.ok
        assert report.kept == plan.kept
        # A few folders of ours come or go besides, each a block.
        assert abs(report.used - plan.used) < WEIGHTS / 4
        return report


def without_entry(action: Action) -> Action:
    return action if action.kind == "forget" else dataclasses.replace(action, entry=None)


def taken(store: DiskScene) -> int:
    return store.cache.space().total.taken


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """The models, and no broken one in the end."""
    store = Store(tmp_path / "models")
    if not dict(store.store.last_reads([blob(weights("one"))])):  # type: ignore[attr-defined]
        pytest.skip("this file system keeps no times of access")
    yield store
    assert store.broken() == []


def test_what_was_not_read_for_long_goes_into_the_trash(store: Store) -> None:
    """Nothing goes for good, and each can be restored."""
    report = store.evict(unused="25d")
    assert store.models() == {"one", "two"}
    assert store.trash() == {"three", "four", "five"}
    assert [action.final for action in report.actions] == [False] * 3
    assert report.freed == 0
    assert report.ok
    entry = next(action.entry for action in report.actions if action.model == name_of("three"))
    store.cache.restore("three", at=entry)
    assert store.models() == {"one", "two", "three"}
    # What comes back was not read, but it came.
    store.clock.now = time.time()
    assert store.cache.evict(unused="25d", dry_run=True).actions == []


def test_for_good_goes_only_what_a_limit_wants(store: Store) -> None:
    """The oldest of the trash before anything that was just let go; that stays if it can."""
    store.deleted("gone", weights("gone"), ago=2 * DAY)
    store.deleted("older", weights("older"), ago=3 * DAY)
    limit = taken(store) - WEIGHTS - WEIGHTS // 2
    report = store.evict(max_used=limit, room=limit - 4 * WEIGHTS - WEIGHTS // 2)
    assert report.ok
    assert store.trash() == {"five"}
    assert store.models() == {"one", "two", "three", "four"}
    assert [(action.kind, action.final) for action in report.actions] == [
        *(("forget", True), ("forget", True), ("evict", False))
    ]
    assert taken(store) <= limit
    assert report.freed == sum(action.bytes for action in report.actions) >= 2 * WEIGHTS


def test_the_least_recently_read_go_for_good_if_they_have_to(store: Store) -> None:
    """And no more of them than it takes."""
    report = store.evict(max_used=2 * WEIGHTS + WEIGHTS // 2)
    assert store.models() == {"one", "two"}
    assert store.trash() == set()
    assert report.ok
    assert report.used == taken(store)
    assert report.short == 0
    kinds = [(action.model, action.final) for action in report.actions]
    assert kinds == [(name_of(name), True) for name in ("five", "four", "three")]


def test_first_goes_what_a_prune_takes(store: Store) -> None:
    """If that is enough, no model goes, and what is in the trash stays."""
    store.blob(weights("nobody's"))
    store.deleted("gone", weights("gone"), ago=2 * DAY)
    report = store.evict(max_used=taken(store) - WEIGHTS // 2)
    assert [action.kind for action in report.actions] == ["prune"]
    assert len(store.models()) == 5
    assert store.trash() == {"gone"}


def test_what_is_needed_by_nothing_but_young_stays(store: Store) -> None:
    """The retention of a cache says how long it is kept, here as for a prune."""
    store.blob(weights("nobody's"), age=DAY)
    store.clock.now = time.time()
    report = store.cache.evict(max_used=0)
    assert not report.ok
    assert store.weights_of("nobody's").exists()
    assert len(store.models()) == 5  # they came just now, by the clock of the disk


def test_without_need_nothing_is_touched(store: Store) -> None:
    """Neither the trash nor what nothing needs."""
    store.blob(weights("nobody's"))
    store.deleted("gone", weights("gone"), ago=2 * DAY)
    before = fingerprint(store.tree.root)
    report = store.cache.evict(max_used="1TB", min_free=0, unused="90d")
    assert (report.actions, report.ok) == ([], True)
    assert fingerprint(store.tree.root) == before


def test_space_is_counted_by_content(store: Store) -> None:
    """What a model shares with one that stays is not free when it goes."""
    store.model("tuned", weights("one"), b"system")
    store.model("base", b"b".ljust(WEIGHTS * 2), weights("one"))
    os.utime(store.tree.blobs / blob(b"b".ljust(WEIGHTS * 2)), (0, 0))
    store.cache.protect("one")
    report = store.cache.evict(max_used=0, dry_run=True)
    freed = {action.model: action.bytes for action in report.actions}
    assert freed[name_of("base")] == WEIGHTS * 2
    assert report.kept[name_of("tuned")] == (
        f"has the same weights as {name_of('one')}, which is protected"
    )


def test_another_name_outside_of_the_store_keeps_the_space(store: Store, tmp_path: Path) -> None:
    """A hard link of somebody's, say: that counts nothing, in the plan and in the end."""
    os.link(store.weights_of("five"), tmp_path / "mine")
    assert store.evict(max_used=4 * WEIGHTS + WEIGHTS // 2).actions == []
    report = store.evict(max_used=3 * WEIGHTS + WEIGHTS // 2)
    assert report.ok
    assert report.used == taken(store) - WEIGHTS
    assert [(action.model, action.final) for action in report.actions] == [(name_of("four"), True)]
    assert store.models() == {"one", "two", "three", "five"}


def test_a_model_with_little_of_its_own_frees_that(store: Store, tmp_path: Path) -> None:
    """The oldest goes for its few blocks, and only one more for the rest that the limit wants."""
    store.model("six", weights("six"), b"s" * 9000, age=100 * DAY)
    store.read("six", days=60)
    store.use(age=30 * DAY)
    os.link(store.weights_of("six"), tmp_path / "mine")
    report = store.evict(max_used=4 * WEIGHTS + WEIGHTS // 2)
    assert report.ok
    freed = {action.model: action.bytes for action in report.actions}
    assert [*freed] == [name_of("six"), name_of("five")]
    assert freed[name_of("six")] < WEIGHTS / 4 < WEIGHTS <= freed[name_of("five")]
    assert store.models() == {"one", "two", "three", "four"}
    assert store.trash() == set()


# What stays


def test_a_protected_model_stays(store: Store) -> None:
    """By a pattern, and what a protected name is a link to."""
    store.cache.protect("f*")
    store.cache.protect("alias")
    store.tree.path("alias").parent.mkdir()
    store.tree.path("alias").symlink_to(store.tree.path("three"))
    report = store.cache.evict(unused=0, recent=0)
    assert store.models() == {"five", "four", "three", "alias"}
    assert report.kept[name_of("three")].endswith("is protected")


@pytest.mark.parametrize("how", ["open", "mapped"])
def test_a_model_that_somebody_has_open_stays(store: Store, how: str) -> None:
    """Also if only its memory is mapped, as Ollama does it."""
    with store.weights_of("five").open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if how == "mapped":
            file.close()
        store.read("five", days=50)
        report = store.evict(unused="45d")
        assert report.actions == []
        assert report.kept == {
            name_of("five"): "is open",
        }
        mapped.close()
    store.read("five", days=50)
    assert len(store.evict(unused="45d").actions) == 1


def test_what_may_have_been_read_of_late_stays(store: Store) -> None:
    """A time of access may be a day behind, and that counts."""
    store.read("five", days=1.9)
    store.read("four", days=2.1)
    report = store.evict(max_used=0)
    assert store.models() == {"five"}
    assert report.kept == {name_of("five"): "may have been read within 24 hours"}
    assert not report.ok
    assert report.short > WEIGHTS


def test_what_has_just_come_stays(store: Store) -> None:
    """A model that was pulled up to date, or restored."""
    store.clock.now = time.time() + HOUR
    report = store.cache.evict(max_used=0, recent="2h")
    assert len(store.models()) == 5
    assert {*report.kept.values()} == {"may have been read within 2 hours"}


def test_what_is_not_known_is_never_old(store: Store) -> None:
    """A blob written after it was last read, one that is a link, and one that is not there."""
    path = store.weights_of("five")
    when = store.clock.now
    os.utime(path, (when - 50 * DAY, when - 40 * DAY))
    moved = store.weights_of("four").rename(store.tree.root / "moved")
    store.weights_of("four").symlink_to(moved)
    report = store.cache.evict(unused=0, recent=0)
    assert store.models() == {"five", "four"}
    assert {*report.kept.values()} == {"gives no sign of when it was last read"}
    store.weights_of("four").unlink()
    moved.rename(store.weights_of("four"))


def test_where_reads_leave_no_trace_no_model_goes(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a mount that is noatime: there the time of a file without a name does not move."""
    real = os.fstat

    def never_read(file: int) -> os.stat_result:
        status = real(file)
        if status.st_nlink:
            return status
        times = {"st_atime": status.st_atime - 40 * DAY}
        return os.stat_result(tuple(status), times)

    monkeypatch.setattr(os, "fstat", never_read)
    report = store.cache.evict(max_used=0, unused=0, recent=0)
    assert len(store.models()) == 5
    assert {*report.kept.values()} == {"gives no sign of when it was last read"}


def test_to_look_leaves_no_trace(store: Store) -> None:
    """Neither a read, nor a change among the blobs, by which a prune tells that a pull goes on."""
    before = store.store.blobs_changed()
    paths = sorted(store.tree.blobs.iterdir())
    times = [path.stat().st_atime_ns for path in paths]
    store.cache.evict(max_used=0, dry_run=True)
    assert store.store.blobs_changed() == before
    assert [path.stat().st_atime_ns for path in paths] == times
    assert sorted(store.tree.blobs.iterdir()) == paths


def test_a_store_without_times_of_access_empties_its_trash() -> None:
    """In memory, as in a bucket, the models stay; what is in the trash goes, the oldest first."""
    scene = MemoryScene()
    scene.model("smol", b"s" * 100)
    for number in range(3):
        scene.deleted(f"gone{number}", f"{number}".encode() * 100, ago=(3 - number) * DAY)
    report = scene.cache.evict(max_used=250)
    assert scene.models() == {"smol"}
    assert scene.trash() == {"gone2"}
    assert report.ok
    assert report.free is None
    with pytest.raises(ConfigurationError, match="min_free is of a disk"):
        scene.cache.evict(min_free=1)


# What is looked at once more


def test_what_happens_after_the_plan_is_heeded(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that is protected, read, opened, changed or gone by then stays as it is."""
    opened = []

    def meanwhile() -> None:
        store.cache.protect("one")
        store.read("two", days=15)
        opened.append(store.weights_of("three").open("rb"))
        store.put_manifest(
            name_of("four").replace(":", "/"), store.tree.path("four").read_bytes() + b"\n"
        )
        store.cache.unlink("five")

    before(monkeypatch, meanwhile)
    report = store.cache.evict(max_used=0)
    opened[0].close()
    assert store.models() == {"one", "two", "three", "four"}
    assert store.trash() == {"five"}
    assert {name.rpartition("/")[2]: why for name, why in report.kept.items()} == {
        "one:latest": "is protected",
        "two:latest": "was read meanwhile",
        "three:latest": "is open",
        "four:latest": "has changed meanwhile",
        "five:latest": "has gone meanwhile",
    }
    assert report.actions == []
    assert not report.ok


def before(monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], object]) -> None:
    """Do something when the plan has been made, and before the first step."""

    def plan_and_go_on(*given: Any) -> Any:
        plan = make_plan(*given)
        meanwhile()
        return plan

    monkeypatch.setattr("registry_wsgi.cache.evict.make_plan", plan_and_go_on)


def test_a_model_opened_at_the_last_moment_can_be_restored(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has read its manifest before it went has its blobs: it stays in the trash."""
    files = []
    real = store.store.discard

    def discard(*given: Any) -> Any:
        files.append(store.weights_of("five").open("rb"))
        return real(*given)

    monkeypatch.setattr(store.store, "discard", discard)
    report = store.cache.evict(max_used=taken(store) - WEIGHTS // 2)
    for file in files:
        file.close()
    assert [action.final for action in report.actions] == [False]
    assert not report.ok
    assert store.cache.restore("five")


def hold(store: Store, why: str) -> str:
    """Let what goes be held, and tell the beginning of the reason."""
    if why == "pull":
        store.partial(b"x" * 100, age=60)
        return "a download is under way"
    store.use(age=60)
    return "the store was in use of late: what would go is held until 2"


@pytest.mark.parametrize("why", ["pull", "use"])
def test_what_would_only_be_set_aside_stays(store: Store, why: str) -> None:
    """Be it in place or in the trash, however often it is tried, and a dry run says the same."""
    store.deleted("gone", weights("gone"), ago=2 * DAY)
    store.blob(weights("nobody's"))
    for _ in range(2):
        reason = hold(store, why)
        planned = store.cache.evict(max_used=0, dry_run=True)
        report = store.evict(max_used=0)
        assert (report.ok, report.freed) == (False, 0)
        assert report.stopped is not None
        assert report.stopped.startswith(reason)
        assert planned.stopped == report.stopped
        assert report.kept[name_of("five")] == report.kept[name_of("gone")]
        assert report.kept[name_of("five")] == f"stays for now: {report.stopped}"
        assert store.models() == {*READ}
        assert store.trash() == {"gone"}
    # Once nobody is at work it goes.
    store.clock.now += 2 * HOUR
    assert store.cache.evict(max_used=0).freed >= 6 * WEIGHTS


def test_what_is_unused_goes_into_the_trash_all_the_same(store: Store) -> None:
    """That removes nothing."""
    hold(store, "use")
    report = store.evict(max_used=0, unused="35d")
    assert store.trash() == {"five", "four"}
    assert store.models() == {"one", "two", "three"}
    assert not report.ok


@pytest.mark.parametrize("why", ["pull", "use"])
def test_whoever_comes_after_the_plan_holds_back_what_goes(
    store: Store, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    """The first model that was let go is whole in the trash, and the run ends there."""
    real = store.store.discard

    def discard(*given: Any) -> Any:
        hold(store, why)
        return real(*given)

    monkeypatch.setattr(store.store, "discard", discard)
    report = store.cache.evict(max_used=0)
    assert (report.ok, report.freed) == (False, 0)
    assert report.stopped is not None
    assert report.stopped.startswith(hold(store, why))
    assert store.trash() == {"five"}
    assert len(store.models()) == 4
    assert [(action.final, action.bytes) for action in report.actions] == [(False, 0)]
    assert store.cache.restore("five")


def test_one_at_a_time(store: Store) -> None:
    """The second is told to wait, and does nothing; a dry run waits for nobody."""
    release = store.cache.claim()
    assert release is not None
    with pytest.raises(BusyError):
        store.cache.evict(max_used=0)
    assert store.cache.evict(max_used=0, dry_run=True).actions
    assert len(store.models()) == 5
    release()
    assert store.cache.evict(max_used=0).actions
    again = store.cache.claim()
    assert again is not None
    again()


def test_who_looks_at_the_same_time_does_not_count_as_a_user(store: Store) -> None:
    """Dry runs, as many as there are: what goes is what would go without them."""
    with ThreadPoolExecutor(1) as pool:
        done = threading.Event()

        def look() -> None:
            while not done.wait(0.002):
                store.store.is_open(blob(weights("five")))  # type: ignore[attr-defined]

        looks = pool.submit(look)
        try:
            report = store.cache.evict(unused="45d")
        finally:
            done.set()
        looks.result(60)
    assert store.models() == {*READ} - {"five"}
    assert report.kept == {}


def test_if_there_is_room_by_then_nothing_more_goes_for_good(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else has removed something since it was planned."""
    junk = store.tree.root / "junk"
    junk.write_bytes(b"x" * 3 * WEIGHTS)
    before(monkeypatch, junk.unlink)
    report = store.cache.evict(max_used=taken(store) - WEIGHTS)
    assert report.ok
    assert len(store.models() | store.trash()) == 5
    assert not any(action.final for action in report.actions)


def test_a_store_that_never_rests_is_not_judged(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is just being removed would look like something that stays."""
    monkeypatch.setattr("registry_wsgi.cache.stock._PAUSES", (0, 0))
    monkeypatch.setattr(store.store, "blobs_changed", iter(range(9)).__next__)
    with pytest.raises(StoreError, match="came and went all the while"):
        store.cache.evict(max_used=0)
    assert len(store.models()) == 5


class Full:
    """A disk of which others take what is freed."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch, part: float) -> None:
        real = store.store.disk  # type: ignore[attr-defined]
        first: Disk = real()

        def blocks() -> int:
            return sum(path.stat().st_blocks * 512 for path in store.tree.blobs.iterdir())

        begun = blocks()

        def disk() -> Disk:
            back = int((begun - blocks()) * part)
            return first._replace(free=1000 + back, used=first.used - back)

        monkeypatch.setattr(store.store, "disk", disk)
        monkeypatch.setattr("registry_wsgi.cache.evict._NOTICEABLE", WEIGHTS // 2)
        monkeypatch.setattr("registry_wsgi.cache.evict._PATIENCE", 0)


def test_a_disk_that_gets_little_back_ends_the_run(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One model has gone by then, and not all of them."""
    Full(store, monkeypatch, 0.4)
    report = store.cache.evict(min_free=4 * WEIGHTS)
    assert len(store.models()) == 4
    assert not report.ok
    assert report.stopped is not None
    assert "the disk has got back" in report.stopped


def test_a_disk_that_gets_half_back_does_not(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """But there is one plan: what it lacks in the end is for the next run."""
    Full(store, monkeypatch, 0.6)
    report = store.cache.evict(min_free=3 * WEIGHTS)
    assert len(store.models()) == 2
    assert report.stopped is None
    assert not report.ok


def cannot_set_aside(store: Store, monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let the weights of some models be immutable, say."""
    real = store.store.condemn
    fixed = {blob(weights(name)) for name in names}

    def condemn(blobs: Iterable[str], when: float) -> Iterator[Any]:
        for one in blobs:
            if one in fixed:
                raise UntouchableError(f"{one}: operation not permitted")
            yield from real([one], when)

    monkeypatch.setattr(store.store, "condemn", condemn)


def test_what_cannot_be_removed_is_not_counted(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is named, and the run ends before all models go for nothing."""
    cannot_set_aside(store, monkeypatch, *READ)
    report = store.cache.evict(max_used=2 * WEIGHTS)
    assert (report.ok, report.freed) == (False, 0)
    assert report.stopped == "1 file could not be moved or removed"
    assert [action.bytes for action in report.actions] == [0]
    assert [*report.failures] == [f"{blob(weights('five'))}: operation not permitted"]
    assert len(store.models()) == 4
    assert [model.restorable for model in store.cache.deleted()] == [True]


def test_nothing_is_forgotten_for_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither of two models goes that share weights, if those of one of them cannot be removed."""
    shared = weights("shared")
    store.deleted("stuck", weights("stuck"), weights("stuck more"), shared, ago=2 * DAY)
    store.deleted("other", b"little", shared, ago=2 * DAY)
    cannot_set_aside(store, monkeypatch, "stuck", "stuck more")
    report = store.cache.forget("stuck", "other", quiet_store=True)
    assert (report.models, report.blobs, report.failed) == (0, 0, 2)
    assert [model.restorable for model in store.cache.deleted()] == [True, True]
    for data in (b"little", shared):
        assert (store.tree.blobs / blob(data)).exists()


def test_a_part_that_cannot_be_removed_keeps_no_model(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If more than half of the space comes free, the model goes."""
    store.deleted("large", weights("large"), weights("larger"), weights("stuck"), ago=2 * DAY)
    cannot_set_aside(store, monkeypatch, "stuck")
    report = store.cache.forget("large", quiet_store=True)
    assert (report.models, report.bytes, report.failed) == (1, 2 * WEIGHTS, 1)


def test_a_failure_is_not_ok_even_if_the_limits_are_kept(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of two files that nothing needs cannot be removed: the other does."""
    store.blob(weights("nobody's"))
    store.blob(weights("nobody's either"))
    cannot_set_aside(store, monkeypatch, "nobody's")
    report = store.cache.evict(max_used=taken(store) - WEIGHTS // 2)
    assert (report.ok, report.short, report.stopped) == (False, 0, None)
    assert report.freed == WEIGHTS
    assert len(report.failures) == 1


def test_what_is_put_back_is_not_counted(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pull has begun to use it, say."""

    def purge(blobs: Iterable[Any]) -> Iterator[Any]:
        for one, _ in blobs:
            yield one, False

    monkeypatch.setattr(store.store, "purge", purge)
    report = store.cache.evict(max_used=2 * WEIGHTS)
    assert (report.ok, report.freed) == (False, 0)
    assert report.stopped == "what was to go was put back, as somebody uses it"
    assert [action.bytes for action in report.actions] == [0]
    assert store.weights_of("five").exists()
    assert len(store.models()) == 4


def test_small_files_count_the_blocks_that_they_take(store: Store) -> None:
    """In the plan and in the end, also where one goes by itself."""
    store.model("small", b"small", age=100 * DAY)
    path = store.tree.blobs / blob(b"small")
    when = store.clock.now - 60 * DAY
    os.utime(path, (when, when - DAY))
    store.use(age=30 * DAY)
    taken_by_it = path.stat().st_blocks * 512
    report = store.cache.evict(max_used=taken(store) - 1)
    assert [(action.model, action.bytes) for action in report.actions] == [
        (name_of("small"), taken_by_it)
    ]
    assert report.freed == taken_by_it


def test_a_floor_counts_what_the_disk_has(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many models go as it takes, and none if they cannot help."""
    Full(store, monkeypatch, 1)
    report = store.evict(min_free=2 * WEIGHTS)
    assert store.models() == {"one", "two", "three"}
    assert report.ok
    assert report.free is not None
    assert report.free >= 2 * WEIGHTS
    assert store.cache.evict(min_free="1PB").actions == []


def test_nothing_goes_beyond_what_was_shown(store: Store) -> None:
    """Neither a model that was not to go, nor for good what was to go into the trash."""
    store.deleted("gone", weights("gone"), ago=2 * DAY)
    limit = taken(store) - WEIGHTS // 2
    room = limit - 4 * WEIGHTS - WEIGHTS // 2
    shown = store.cache.evict(max_used=limit, room=room, dry_run=True)
    assert [(one.kind, one.final) for one in shown.actions] == [("forget", True), ("evict", False)]
    planned = store.cache.evict(max_used=2 * WEIGHTS + WEIGHTS // 2, within=shown, dry_run=True)
    report = store.cache.evict(max_used=2 * WEIGHTS + WEIGHTS // 2, within=shown)
    for one in (planned, report):
        assert [(each.model, each.final) for each in one.actions] == [
            *((name_of("gone"), True), (name_of("five"), False))
        ]
        assert one.stopped == "more would have to go than was shown"
        assert not one.ok
        assert one.kept == dict.fromkeys(
            map(name_of, ("four", "three")), "was not among what was shown"
        )
    assert abs(planned.short - report.short) < WEIGHTS / 4
    assert store.models() == {*READ} - {"five"}
    assert store.trash() == {"five"}


def test_a_prune_takes_nothing_that_came_after_what_was_shown(store: Store) -> None:
    """However the clock goes on."""
    store.blob(weights("nobody's"))
    shown = store.cache.evict(max_used=taken(store) - WEIGHTS // 2, dry_run=True)
    assert [action.kind for action in shown.actions] == ["prune"]
    store.clock.now += HOUR
    store.blob(weights("later"), age=0)
    store.clock.now += 9 * DAY
    assert store.cache.evict(max_used=0, within=shown).freed >= WEIGHTS
    assert store.weights_of("later").exists()
    assert not store.weights_of("nobody's").exists()


# What is refused


def test_a_limit_is_needed_and_has_to_be_valid(store: Store) -> None:
    """Nothing happens without one."""
    with pytest.raises(ConfigurationError, match="at least one of"):
        store.cache.evict()
    with pytest.raises(ConfigurationError, match="room is a part of max_used"):
        store.cache.evict(unused=0, room=1)
    with pytest.raises(ConfigurationError, match="room is larger than max_used"):
        store.cache.evict(max_used=1, room=2)
    with pytest.raises(InvalidSizeError, match='invalid size "many"'):
        store.cache.evict(max_used="many")
    with pytest.raises(InvalidSizeError):
        store.cache.evict(max_used=-1)
    assert len(store.models()) == 5


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_manifest_that_cannot_be_read_ends_it(store: Store, *, dry_run: bool) -> None:
    """Nobody knows what that needs: nothing is touched, and the message names it."""
    store.tree.path("one").write_bytes(b"{")
    with pytest.raises(InvalidManifestError, match=r"one:latest: its manifest cannot be read"):
        store.cache.evict(max_used=0, dry_run=dry_run)
    assert store.trash() == set()
    store.tree.path("one").unlink()


# Who reads


def test_whoever_opens_a_blob_while_it_is_looked_at_harms_nobody(store: Store) -> None:
    """The signal of the system that says so is one that ends no process."""
    watched: WatchedStore = store.store  # type: ignore[assignment]
    path = store.weights_of("one")
    child = os.fork()
    if not child:
        try:
            signal.alarm(60)
            while True:
                watched.is_open(path.name)
        finally:
            os._exit(1)
    try:
        ends = time.monotonic() + 0.3
        while time.monotonic() < ends:
            path.open("rb").close()
            opened = store.store.open_blob(path.name)
            assert opened is not None
            opened.close()
        assert os.waitpid(child, os.WNOHANG) == (0, 0)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_another_users_blob_may_be_open(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system does not tell, the model stays."""
    import fcntl

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    report = store.cache.evict(max_used=0)
    assert len(store.models()) == 5
    assert {*report.kept.values()} == {"may be open: nobody can tell"}


def test_a_storage_that_fails_is_an_error_and_loses_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was let go is in the trash."""

    def fail(*_: object, **__: object) -> Iterator[Any]:
        raise StoreError("blobs: input/output error")

    monkeypatch.setattr(store.store, "condemn", fail)
    with pytest.raises(StoreError):
        store.cache.evict(max_used=4 * WEIGHTS)
    assert store.models() | store.trash() == {*READ}
