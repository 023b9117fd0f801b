"""A bucket that keeps old versions: the delete marker first, the exact version later."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kit import inside
from kit.bucket_seam import Seam, caching
from kit.clocks import Clock
from kit.effort import Effort
from kit.faults import Killed
from kit.kinds import VersionedKind
from kit.trees import blob, manifest
from kit.views import content, purge
from registry_wsgi import ModelCache
from registry_wsgi.errors import StoreError
from registry_wsgi.stores.base import Condemned

KEY = "registry.ollama.ai/library/smol/latest"
NAME = "sha256-aa"


@pytest.fixture
def kind(tmp_path: Path) -> VersionedKind:
    """An empty store in a bucket that keeps old versions."""
    return VersionedKind(tmp_path, Clock())


class Versions:
    """What another program sees of the versions of a bucket."""

    def __init__(self, kind: VersionedKind) -> None:
        self.client = kind.endpoint.botocore()
        self.bucket = kind.endpoint.bucket
        self.prefix = f"{kind.client.prefix}/blobs/"

    def __call__(self, name: str = "") -> tuple[int, int]:
        """How many versions and how many delete markers there are of one blob, or of all."""
        page = self.client.list_object_versions(Bucket=self.bucket, Prefix=self.prefix + name)
        return len(page.get("Versions", ())), len(page.get("DeleteMarkers", ()))


def condemn(kind: VersionedKind, *names: str) -> list[Condemned]:
    """Set blobs aside now."""
    return list(kind.another().condemn(names, time.time()))


def test_a_blob_is_hidden_first_and_its_version_goes_later(kind: VersionedKind) -> None:
    """No pull finds what the first run has set aside; the run after the hold leaves no version."""
    kind.put(KEY, b"weights")
    kind.put_blob(NAME, b"nobody's")
    versions = Versions(kind)
    kind.clock.move(days=8)
    report = caching(kind).prune()
    assert (report.blobs, report.held_blobs, report.held_bytes) == (0, 1, 8)
    assert content(kind.store, NAME) is None
    assert versions(NAME) == (1, 1)
    kind.clock.move(days=1)
    plan = caching(kind).prune(dry_run=True)
    report = caching(kind).prune()
    assert (report.blobs, report.bytes, report.held_blobs) == (1, 8, 0)
    assert (plan.blobs, plan.bytes, plan.held_blobs) == (1, 8, 0)
    assert versions() == (2, 0)
    assert caching(kind).verify(deep=True).ok


def test_one_run_does_it_all_in_a_quiet_store(kind: VersionedKind) -> None:
    """With ``age=0`` nothing is left of what nothing needs, and all of what is needed."""
    kind.put(KEY, b"weights")
    for number in range(70):  # more than are asked for one by one
        kind.put_blob(f"sha256-{number:064x}", b"x")
    assert caching(kind).prune(age=0).blobs == 70
    assert Versions(kind)() == (2, 0)
    assert caching(kind).prune(age=0).blobs == 0


def test_what_is_needed_again_is_shown_by_the_next_run(kind: VersionedKind) -> None:
    """A pull that saw the blobs before they were hidden, and ends after: nothing is uploaded."""
    kind.put("h/n/m/t", config=b"of another")  # in a store without models nothing goes
    for data in (b"weights", b"{}"):
        kind.put_blob(blob(data), data)
    versions = Versions(kind)
    kind.clock.move(days=8)
    assert caching(kind).prune().held_blobs == 2
    assert versions() == (3, 2)
    kind.put_blob = lambda name, data: None  # type: ignore[method-assign]
    kind.put(KEY, b"weights")
    assert not caching(kind).verify().ok
    kind.clock.move(days=2)
    report = caching(kind).prune()
    assert (report.blobs, report.held_blobs) == (0, 0)
    assert caching(kind).verify(deep=True).ok
    assert versions() == (3, 0)


def test_a_check_that_repairs_shows_what_is_hidden(kind: VersionedKind) -> None:
    """Until the next run, ``verify --repair`` brings back what a model lacks."""
    kind.put(KEY, b"weights")
    condemn(kind, blob(b"weights"))
    assert not caching(kind).verify().ok
    caching(kind).verify(repair=True)
    assert caching(kind).verify(deep=True).ok


def test_a_writer_finds_what_is_hidden_by_asking(kind: VersionedKind) -> None:
    """`keep` shows it; what is gone for good it tells."""
    kind.put_blob(NAME, b"weights")
    kind.put_blob("sha256-bb", b"other")
    _, other = condemn(kind, NAME, "sha256-bb")
    assert purge(kind.store, other)
    assert kind.another().keep([NAME, "sha256-bb", "sha256-cc"]) == ["sha256-bb", "sha256-cc"]
    assert content(kind.store, NAME) == b"weights"
    assert Versions(kind)() == (1, 0)
    assert list(kind.store.condemned()) == []


def test_what_comes_before_the_delete_is_not_lost(
    kind: VersionedKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A blob written between the mark and the delete that hides it is brought back."""
    kind.put_blob(NAME, b"old")
    store = kind.another()

    def late(bucket: Any, *keys: str) -> None:
        if f"blobs/{NAME}" in keys:
            time.sleep(1.1)  # times are whole seconds
            kind.put_blob(NAME, b"new")
        delete(bucket, *keys)

    delete = inside.replace_method(monkeypatch, "requests", "delete", late)
    before = store.blob(NAME)
    [aside] = store.condemn([NAME], time.time())
    monkeypatch.undo()
    assert content(store, NAME) is None
    look = store.condemned_blob(aside)
    assert look.written > before.written
    assert list(store.purge([(aside, before.written)])) == [(aside, False)]
    assert list(store.purge([(aside, math.inf)])) == [(aside, False)]
    assert store.pardon(aside)
    assert content(store, NAME) == b"new"
    assert list(store.condemned()) == []


def test_what_comes_and_goes_before_the_removal_is_not_lost(
    kind: VersionedKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another blob of the name, written and deleted just then, is shown rather than forgotten."""
    kind.put_blob(NAME, b"old")
    [aside] = condemn(kind, NAME)
    store = kind.another()

    def late(tombstones: Any, meta: Any) -> Any:
        kind.put_blob(NAME, b"new")
        kind.sweep_blob(NAME)
        return take(tombstones, meta)

    take = inside.replace_method(monkeypatch, "tombstones", "take", late)
    assert list(store.purge([(aside, math.inf)])) == [(aside, False)]
    assert content(store, NAME) == b"new"


def test_a_delete_that_fails_half_way_is_undone(
    kind: VersionedKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some are hidden and some are not: the run ends with the error, and all are in their place."""
    names = ["sha256-aa", "sha256-bb", "sha256-cc"]
    for name in names:
        kind.put_blob(name, b"nobody's")

    def half(bucket: Any, *keys: str) -> None:
        if keys[0].startswith("blobs/"):
            delete(bucket, *keys[:2])
            raise StoreError("the store answers SlowDown")
        delete(bucket, *keys)

    with monkeypatch.context() as patch:
        delete = inside.replace_method(patch, "requests", "delete", half)
        with pytest.raises(StoreError, match="SlowDown"):
            caching(kind).prune(age=0)
    assert sorted(kind.store.blobs()) == names
    assert Versions(kind)() == (3, 0)


def test_what_was_overwritten_stays_as_it_is(kind: VersionedKind) -> None:
    """It was no blob before, and is none after: it neither goes nor comes back."""
    kind.put_blob(NAME, b"overwritten")
    kind.put_blob(NAME, b"nobody's")
    [aside] = condemn(kind, NAME)
    assert purge(kind.store, aside)
    assert content(kind.store, NAME) is None
    assert Versions(kind)() == (1, 1)


def test_what_others_delete_is_theirs(kind: VersionedKind) -> None:
    """A blob that somebody has deleted by hand can be brought back by hand."""
    kind.put_blob(NAME, b"theirs")
    kind.sweep_blob(NAME)
    kind.clock.move(days=30)
    assert caching(kind).prune(age=0).blobs == 0
    assert Versions(kind)() == (1, 1)


def test_many_are_listed_by_the_page(kind: VersionedKind, monkeypatch: pytest.MonkeyPatch) -> None:
    """However the pages fall, each blob has all of its versions and its delete markers."""
    names = [f"sha256-{number:02}" for number in range(5)]
    for name in names:
        for data in (b"first", b"second"):
            kind.put_blob(name, data)
    kind.put_blob("sha256-99", b"visible")
    condemn(kind, *names)
    store = kind.another()
    versions = inside.versions_of(store)
    listing = inside.botocore_of(store).get_paginator("list_object_versions")
    pages = listing.paginate
    for size in (1, 2, 3, 1_000):
        config = {"PaginationConfig": {"PageSize": size}}
        inside.replace_method(
            monkeypatch,
            "botocore",
            "pages",
            lambda _, operation, key, config=config, **parameters: pages(
                Bucket=kind.endpoint.bucket, **parameters, **config
            ),
        )
        found = versions.find_all({*names[1:], "sha256-99", "sha256-gone"})
        assert {*found} == {*names[1:], "sha256-99"}
        for name in names[1:]:
            history = found[name]
            assert history == versions.find(name)
            assert [meta.size for meta in history.older] == [6, 5]
            assert (history.current, len(history.markers)) == (None, 1)
        assert found["sha256-99"].current.size == 7


def test_a_mark_without_a_delete_is_taken_off_later(
    kind: VersionedKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of a run that was killed between the two goes, but not while it may be at work."""
    kind.put_blob(NAME, b"nobody's")
    with monkeypatch.context() as patch:
        inside.hide_nothing(patch)
        condemn(kind, NAME)
    assert content(kind.store, NAME) == b"nobody's"
    assert list(kind.store.blobs()) == [NAME]
    assert caching(kind).prune(age=0).blobs == 0  # it is marked, and may be hidden at any moment
    assert len([*kind.store.condemned()]) == 1
    assert kind.another().keep([NAME]) == []
    assert not kind.another().pardon(next(iter(kind.store.condemned())))
    assert not kind.another().remove_blob(NAME)
    assert len([*kind.store.condemned()]) == 1
    kind.tune(at_work=-5)
    caching(kind).prune(age=0)
    assert caching(kind).prune(age=0).blobs == 1
    assert Versions(kind)() == (0, 0)


def test_marking_that_takes_too_long_hides_nothing(kind: VersionedKind) -> None:
    """What others may take for left is not acted upon."""
    kind.put_blob(NAME, b"nobody's")
    kind.tune(marking=-1)
    with pytest.raises(StoreError, match="took more than"):
        caching(kind).prune(age=0)
    assert content(kind.store, NAME) == b"nobody's"


class Refusing:
    """A client with credentials that may do less."""

    def __init__(self, client: Any, *refused: str) -> None:
        self._client = client
        self._refused = refused

    def __getattr__(self, name: str) -> Any:
        if name not in self._refused:
            return getattr(self._client, name)

        def refuse(**parameters: Any) -> Any:
            from botocore.exceptions import ClientError

            raise ClientError({"Error": {"Code": "AccessDenied"}}, name)

        return refuse


def refusing(kind: VersionedKind, *refused: str) -> Any:
    """A store of the same bucket, with credentials that may do less."""
    store = kind.another()
    inside.ask_through(store, Refusing(kind.endpoint.botocore(), *refused))
    return store


@pytest.mark.parametrize("refused", ["get_bucket_versioning", "delete_objects", "mfa"])
def test_who_may_not_touch_versions_marks_as_in_any_bucket(
    kind: VersionedKind,
    refused: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is hidden that could not be shown again; the log says that it takes its room."""
    kind.put_blob(NAME, b"nobody's")
    store = refusing(kind, refused)
    if refused == "mfa":
        monkeypatch.setattr(
            inside.botocore_of(store),
            "get_bucket_versioning",
            lambda **_: {"Status": "Enabled", "MFADelete": "Enabled"},
            raising=False,
        )
    assert not store.sets_aside
    [aside] = store.condemn([NAME], time.time())
    assert "keeps old versions" in caplog.text
    assert ("MFA" if refused == "mfa" else "AccessDenied") in caplog.text
    assert content(store, NAME) == b"nobody's"
    assert purge(store, aside)
    assert Versions(kind)() == (1, 1)


def test_who_may_not_touch_versions_stops_where_blobs_are_hidden(kind: VersionedKind) -> None:
    """Nothing is removed, and above all no marker: it tells the others what is hidden."""
    kind.put(KEY, b"weights")
    condemn(kind, blob(b"weights"))
    kind.put_blob(NAME, b"nobody's")
    store = refusing(kind, "get_bucket_versioning")
    with pytest.raises(
        StoreError, match=r"hidden as old versions, and these cannot be had.*Access"
    ):
        ModelCache(store).prune(age=0)
    assert store.keep([blob(b"weights"), NAME]) == [blob(b"weights")]
    assert content(store, NAME) == b"nobody's"
    caching(kind).prune(age=0)
    assert caching(kind).verify(deep=True).ok


def suspended(kind: VersionedKind) -> Any:
    """
    A store of the same bucket, once it was told to keep no more versions.

    moto would forget all that there are, so that it is only said to be so.
    """
    store = kind.another()
    client = SimpleNamespace(
        get_paginator=inside.botocore_of(store).get_paginator,
        create_multipart_upload=inside.botocore_of(store).create_multipart_upload,
        abort_multipart_upload=inside.botocore_of(store).abort_multipart_upload,
        delete_object=inside.botocore_of(store).delete_object,
        delete_objects=inside.botocore_of(store).delete_objects,
        get_bucket_versioning=lambda **_: {"Status": "Suspended"},
    )
    inside.ask_through(store, client)
    return store


def test_what_is_hidden_when_versioning_is_suspended_is_shown_or_removed(
    kind: VersionedKind,
) -> None:
    """Versions are kept no more, but those that are there are looked after."""
    versions = Versions(kind)
    kind.put(KEY, b"weights")
    zero, one, two, three = (blob(b"%d" % number) for number in range(4))
    for name in (zero, one, two, three):
        kind.put_blob(name, b"x")
    names = [blob(b"weights"), zero, one, two]
    assert len([*kind.another().condemn(names, time.time() + 7 * 86_400)]) == 4
    kind.put_blob(two, b"anew")
    store = suspended(kind)
    assert not store.sets_aside
    asides = [*store.condemned()]
    assert len(asides) == 4
    assert store.pardon(next(aside for aside in asides if aside.name == zero))
    assert content(store, zero) == b"x"
    kind.clock.move(days=9)
    cache = ModelCache(store, clock=kind.clock)
    assert cache.prune().held_blobs == 2
    assert content(store, zero) == b"x"  # only marked
    assert versions(one) == (0, 0)
    assert content(store, two) == b"anew"
    assert versions(two) == (1, 1)
    assert cache.verify(deep=True).ok


def test_the_setting_is_asked_for_before_each_delete(kind: VersionedKind) -> None:
    """Where versions are kept no more, a delete would be for good: then blobs are only marked."""
    kind.put_blob(NAME, b"nobody's")
    store = kind.another()
    assert store.sets_aside
    inside.ask_through(store, inside.botocore_of(suspended(kind)))
    assert len([*store.condemn([NAME], time.time())]) == 1
    assert content(store, NAME) == b"nobody's"


def test_what_is_marked_when_versioning_is_switched_on_is_marked_anew(
    kind: VersionedKind,
) -> None:
    """It was never hidden, and so nothing is removed on the strength of that mark."""
    for name in (NAME, "sha256-bb"):
        kind.put_blob(name, b"nobody's")
    asides = [*refusing(kind, "get_bucket_versioning").condemn([NAME, "sha256-bb"], time.time())]
    assert sorted(kind.store.blobs()) == [NAME, "sha256-bb"]
    assert kind.another().pardon(asides[0])
    assert caching(kind).prune(age=0).blobs == 1
    assert content(kind.store, "sha256-bb") == b"nobody's"
    assert caching(kind).prune(age=0).blobs == 1
    assert Versions(kind)() == (0, 0)


# Killed


def watch_all(monkeypatch: pytest.MonkeyPatch, hook: Callable[[], None]) -> None:
    """Call *hook* before each request of a store, be it through obstore or botocore."""

    def through_botocore(s3: Any, key: str) -> Any:
        hook()
        return reported(s3, key)

    Seam(monkeypatch, lambda *_: hook())
    reported = inside.replace_method(monkeypatch, "botocore", "reported", through_botocore)


def furnish(kind: VersionedKind) -> tuple[list[str], bytes]:
    """What a run meets, two hidden blobs that are needed again among it: what it is to keep."""
    needed = (b"weights", b"needed again", b"{}")
    for layer in needed:
        kind.put_blob(blob(layer), layer)
    kind.put_blob(NAME, b"nobody's")
    earlier = condemn(kind, blob(b"needed again"), blob(b"{}"))
    assert len(earlier) == 2
    data = manifest(b"weights", b"needed again", config=b"{}")
    kind.put_manifest(KEY, data)
    return sorted(map(blob, needed)), data


def run_until(
    kind: VersionedKind, at: int, broken: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> int:
    """Prune, with *broken* raised at request *at* and at each that follows; how many there were."""
    count = 0

    def hook() -> None:
        nonlocal count
        count += 1
        if count > at:
            raise broken(str(at))

    with monkeypatch.context() as patch, suppress(broken):
        store = kind.another()
        watch_all(patch, hook)
        ModelCache(store).prune(age=0)
    return count


@pytest.mark.parametrize("broken", [Killed, StoreError], ids=["killed", "failed"])
def test_a_run_that_ends_anywhere_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: type[BaseException], effort: Effort
) -> None:
    """
    Killed before any request, or failing there: the next run finishes it.

    What the run has hidden and a manifest needs by now is shown, and what nothing needs is gone
    after, with all of its versions.
    """
    whole = VersionedKind(tmp_path, Clock())
    whole.let_nobody_wait()
    furnish(whole)
    requests = run_until(whole, 1_000, broken, monkeypatch)
    assert requests > 20
    for at in effort.choose(range(requests + 1), 6):
        kind = VersionedKind(tmp_path, Clock())
        kind.let_nobody_wait()
        needed, data = furnish(kind)
        run_until(kind, at, broken, monkeypatch)
        store = kind.another()
        found = store.read(KEY)
        assert found is not None
        assert found.data == data
        ModelCache(kind.another()).prune(age=0)
        assert ModelCache(kind.another()).verify(deep=True).ok, at
        ModelCache(kind.another()).prune(age=0)
        assert [*kind.another().condemned()] == []
        assert sorted(kind.another().blobs()) == needed
        assert Versions(kind)() == (3, 0), at
