"""What every store promises (`registry_wsgi.stores.base`), asked of each kind of store."""

from __future__ import annotations

import itertools
import math
import random
import time
from collections.abc import Callable
from functools import partial

import pytest

from kit.kinds import Kind
from kit.races import race
from kit.trees import blob
from kit.views import content, keys, purge, state, version
from registry_wsgi.errors import ModelExistsError
from registry_wsgi.names import Name
from registry_wsgi.stores.base import Condemned, Deleted, Store

KEY = "registry.ollama.ai/library/smol/latest"
OTHER = "example.com/ns/other/v1"
WHEN = 1_700_000_000.123456

THREADS = 6


def attempts(kind: Kind) -> int:
    """How often to try a race: less where each call is a request, whose answer takes its time."""
    return 3 if kind.remote else 8


@pytest.fixture
def store(kind: Kind) -> Store:
    """The store of that kind."""
    return kind.store


def discard(store: Store, key: str = KEY, *blobs: str, when: float = WHEN) -> Deleted:
    """Move the manifest at *key* to the trash, where it is sure to be."""
    entry = store.discard(key, blobs, when)
    assert entry is not None
    return entry


def condemn(store: Store, *names: str, when: float = WHEN) -> list[Condemned]:
    """Set the blobs *names* aside."""
    return list(store.condemn(names, when))


# find


def test_a_name_is_found_by_its_key(kind: Kind) -> None:
    """A model is found under the key of its name."""
    kind.put_manifest(KEY, b"{}")
    assert kind.store.find(Name.from_key(KEY)) == KEY


@pytest.mark.parametrize(
    "key", [OTHER, "registry.ollama.ai/library/smol/v1", "registry.ollama.ai/library/smo/latest"]
)
def test_a_name_that_is_not_there_is_not_found(kind: Kind, key: str) -> None:
    """Any other name is not found, nor is any in an empty store."""
    assert kind.store.find(Name.from_key(key)) is None
    kind.put_manifest(KEY, b"{}")
    assert kind.store.find(Name.from_key(key)) is None


@pytest.mark.parametrize(
    "key",
    [
        "Registry.Ollama.AI/library/smol/latest",
        "registry.ollama.ai/LIBRARY/smol/latest",
        "registry.ollama.ai/library/sMol/latest",
        "registry.ollama.ai/library/smol/Latest",
        "REGISTRY.OLLAMA.AI/LIBRARY/SMOL/LATEST",
    ],
)
def test_case_does_not_matter(kind: Kind, key: str) -> None:
    """A name that differs in case alone is found, whichever of the two has capitals."""
    kind.put_manifest(key, b"{}")
    assert kind.store.find(Name.from_key(KEY)) == key
    assert kind.store.find(Name.from_key(key.swapcase())) == key


def test_the_exact_key_wins(kind: Kind) -> None:
    """Of several that differ in case alone, the exact one is found, first or last in order."""
    keys = [KEY, KEY.upper(), KEY.title(), "registry.ollama.ai/library/SMOL/latest"]
    for key in keys:
        kind.put_manifest(key, b"{}")
    for key in keys:
        assert kind.store.find(Name.from_key(key)) == key


def test_a_part_that_leads_nowhere_is_left_again(kind: Kind) -> None:
    """A host, namespace or model that comes first but lacks the rest does not hide another."""
    for key in (
        "REGISTRY.ollama.ai/library/other/latest",
        "Registry.ollama.ai/LIBRARY/smol/other",
        "Registry.ollama.ai/Library/SMOL/other",
        "Registry.ollama.ai/Library/Smol/LATEST",
    ):
        kind.put_manifest(key, b"{}")
    found = kind.store.find(Name.from_key(KEY))
    assert found == "Registry.ollama.ai/Library/Smol/LATEST"


def test_of_several_the_lexically_first_is_found(kind: Kind) -> None:
    """For any set of keys the exact one is found, else the first match, part by part."""
    parts = ("a", "A", "b", "B", "a-", "A0")
    every = list(itertools.product(parts, repeat=4))
    keys = random.Random(7).sample(every, 40)
    for key in keys:
        kind.put_manifest("/".join(key), b"{}")
    # Where each takes requests, not all: those that are there, and some of the others.
    some = [*keys, *random.Random(8).sample(every, 200)] if kind.remote else every
    for wanted in some:
        matches = [key for key in keys if "/".join(key).lower() == "/".join(wanted).lower()]
        expected = wanted if wanted in keys else min(matches, default=())
        assert kind.store.find(Name(*wanted)) == ("/".join(expected) or None)


# read, versions


def test_manifests_are_listed(kind: Kind) -> None:
    """The keys of all manifests are listed, once each."""
    assert keys(kind.store) == []
    for key in (KEY, OTHER):
        kind.put_manifest(key, b"{}")
    assert sorted(keys(kind.store)) == [OTHER, KEY]


@pytest.mark.parametrize("data", [b"", b"{}", b'{"layers": []}\n', bytes(range(256)) * 300])
def test_a_manifest_is_read_as_it_was_written(kind: Kind, data: bytes) -> None:
    """What is written is read, byte for byte, with the time of its writing."""
    kind.put_manifest(KEY, data)
    found = kind.store.read(KEY)
    assert found is not None
    assert found.data == data
    assert abs(found.modified - kind.clock.now) < 3600


def test_a_manifest_that_is_gone_has_no_content_and_no_version(store: Store) -> None:
    """Where there is no manifest, nothing is read, and the version is None."""
    assert store.read(KEY) is None
    assert version(store, KEY) is None


def test_a_version_is_a_value(kind: Kind) -> None:
    """A version can be kept and compared, and is not that of a manifest that is gone."""
    kind.put_manifest(KEY, b"{}")
    kind.settle()
    found = kind.store.read(KEY)
    assert found is not None
    assert found.version is not None
    assert found.version == version(kind.store, KEY)
    assert hash(found.version) == hash(version(kind.store, KEY))


def test_another_content_is_another_version(kind: Kind) -> None:
    """A manifest that was changed never has the version it had, be it of the same length."""
    seen = []
    for number in range(20):
        kind.put_manifest(KEY, b"%02d" % number)
        found = kind.store.read(KEY)
        assert found is not None
        seen += [(number, found.version), (number, version(kind.store, KEY))]
    for (one, first), (other, second) in itertools.combinations(seen, 2):
        assert one == other or None in (first, second) or first != second


def test_versions_are_listed_as_they_are_read(kind: Kind) -> None:
    """The list of versions has all manifests, each with the version that a read gives."""
    assert list(kind.store.versions()) == []
    for key in (KEY, OTHER):
        kind.put_manifest(key, b"{}")
    found = dict(kind.store.versions())
    assert {*found} == {KEY, OTHER}
    if version(kind.store, KEY) == version(kind.store, KEY):  # else it is too young to have one
        reads = {key: kind.store.read(key) for key in found}
        assert found == {key: manifest.version for key, manifest in reads.items() if manifest}
        assert found == {key: version(kind.store, key) for key in found}


def test_a_manifest_that_came_again_has_another_version(kind: Kind) -> None:
    """A manifest that was removed and written anew is not taken for the one before."""
    kind.put_manifest(KEY, b"{}")
    kind.settle()
    found = kind.store.read(KEY)
    assert found is not None
    discard(kind.store)
    kind.put_manifest(KEY, b"[]")
    kind.settle()
    assert version(kind.store, KEY) != found.version


# Blobs


def test_whatever_is_among_the_blobs_is_listed(kind: Kind) -> None:
    """Blobs, unfinished downloads and files of other names are listed alike."""
    names = {"sha256-aa", "sha256-bb-partial", "sha256-bb-partial-0", "note.txt", ".DS_Store"}
    assert list(kind.store.blobs()) == []
    for name in names:
        kind.put_blob(name, b"x")
    found = list(kind.store.blobs())
    assert set(found) == names
    assert len(found) == len(names)


@pytest.mark.parametrize("data", [b"", b"weights", bytes(100_000)])
def test_a_blob_can_be_looked_at_and_read(kind: Kind, data: bytes) -> None:
    """A blob has its size, its times and one name, and is read as it was written."""
    kind.put_blob("sha256-aa", data)
    look = kind.store.blob("sha256-aa")
    assert look is not None
    assert look.size == len(data)
    assert look.links == 1
    assert abs(look.changed - kind.clock.now) < 3600
    assert abs(look.written - kind.clock.now) < 3600
    assert content(kind.store, "sha256-aa") == data


def test_what_is_one_space_can_be_told(kind: Kind) -> None:
    """Two blobs are two spaces, and one looked at twice is one."""
    kind.put_blob("sha256-aa", b"x")
    kind.put_blob("sha256-bb", b"x")
    looks = [kind.store.blob(name) for name in ("sha256-aa", "sha256-aa", "sha256-bb")]
    one, again, other = (look.content for look in looks if look)
    assert one == again
    assert one != other


def test_a_blob_that_is_not_there_is_none(store: Store) -> None:
    """Where there is no blob, there is nothing to look at, to read or to remove."""
    assert store.blob("sha256-aa") is None
    assert store.open_blob("sha256-aa") is None
    assert store.remove_blob("sha256-aa") is False


def test_a_blob_is_removed_once(kind: Kind) -> None:
    """The first call removes the blob, the second has nothing to remove, others stay."""
    kind.put_blob("sha256-aa", b"x")
    kind.put_blob("sha256-bb", b"y")
    assert kind.store.remove_blob("sha256-aa") is True
    assert kind.store.remove_blob("sha256-aa") is False
    assert state(kind.store)["blobs"] == {"sha256-bb": b"y"}


def test_an_open_blob_is_read_to_its_end(kind: Kind) -> None:
    """Who has opened a blob reads all of it, even when it is removed meanwhile."""
    kind.put_blob("sha256-aa", bytes(100_000))
    file = kind.store.open_blob("sha256-aa")
    assert file is not None
    with file:
        kind.store.remove_blob("sha256-aa")
        assert file.read() == bytes(100_000)


@pytest.mark.parametrize("way", ["put", "removed", "condemned", "pardoned", "recovered"])
def test_what_comes_and_goes_among_the_blobs_shows(kind: Kind, way: str) -> None:
    """A store tells when a blob last came or went, in whatever way."""
    store, name = kind.store, blob(b"weights")
    kind.put(KEY, b"weights")
    entry = discard(store, KEY, name)
    aside = condemn(store, name) if way in ("pardoned", "recovered") else []
    steps: dict[str, Callable[[], object]] = {
        "put": lambda: kind.put_blob(blob(b"other"), b"other"),
        "removed": lambda: store.remove_blob(name),
        "condemned": lambda: condemn(store, name),
        "pardoned": lambda: store.pardon(aside[0]),
        "recovered": lambda: store.recover_blob(entry, name),
    }
    before = store.blobs_changed()
    if before == math.inf:
        pytest.skip("this store does not tell")
    kind.clock.move(seconds=1)
    time.sleep(0.02)  # longer than a tick of the clock that files are dated by
    steps[way]()
    assert store.blobs_changed() > before


# Setting blobs aside


def test_a_blob_that_is_set_aside_is_not_found_by_its_name(kind: Kind) -> None:
    """It is listed with what is set aside, with its size and the moment, and nowhere else."""
    kind.put_blob("sha256-aa", b"weights")
    kind.put_blob("sha256-bb", b"other")
    [aside] = condemn(kind.store, "sha256-aa")
    assert aside.name == "sha256-aa"
    assert WHEN - 0.001 <= aside.when <= WHEN
    assert list(kind.store.blobs()) == ["sha256-bb"]
    if kind.store.sets_aside:
        assert kind.store.blob("sha256-aa") is None
        assert kind.store.open_blob("sha256-aa") is None
    else:
        assert content(kind.store, "sha256-aa") == b"weights"
    assert list(kind.store.condemned()) == [aside]
    look = kind.store.condemned_blob(aside)
    assert look is not None
    assert look.size == 7


def test_what_is_set_aside_is_seen_by_others(kind: Kind) -> None:
    """Another process sees what is set aside, and can put it back."""
    kind.put_blob("sha256-aa", b"weights")
    asides = condemn(kind.store, "sha256-aa")
    another = kind.another()
    assert list(another.condemned()) == asides
    assert another.pardon(asides[0]) is True
    assert list(kind.store.condemned()) == []
    assert content(kind.store, "sha256-aa") == b"weights"


def test_blobs_are_set_aside_as_they_are_asked_for(kind: Kind) -> None:
    """One goes when it is asked for (remote, some go at once), and what is gone is left out."""
    for name in ("sha256-aa", "sha256-bb", "sha256-cc"):
        kind.put_blob(name, b"x")
    asides = kind.store.condemn(["gone", "sha256-aa", "gone-too", "sha256-bb", "sha256-cc"], WHEN)
    assert set(kind.store.blobs()) == {"sha256-aa", "sha256-bb", "sha256-cc"}
    assert next(iter(asides)).name == "sha256-aa"
    if not kind.remote:
        assert set(kind.store.blobs()) == {"sha256-bb", "sha256-cc"}
    assert next(iter(asides)).name == "sha256-bb"
    del asides
    left = [] if kind.remote else ["sha256-cc"]
    assert list(kind.store.blobs()) == left
    aside = [blob.name for blob in kind.store.condemned()]
    assert sorted([*aside, *left]) == ["sha256-aa", "sha256-bb", "sha256-cc"]


@pytest.mark.parametrize("names", [(), ("gone",), ("gone", "gone-too")])
def test_nothing_is_set_aside_where_nothing_is(kind: Kind, names: tuple[str, ...]) -> None:
    """No names, or only names of blobs that are gone, change nothing."""
    kind.put_blob("sha256-aa", b"x")
    before = state(kind.store)
    assert condemn(kind.store, *names) == []
    assert state(kind.store) == before


def test_what_was_set_aside_first_comes_first(kind: Kind) -> None:
    """What several runs have set aside is listed oldest first, each under its own run."""
    moments = [WHEN + 5, WHEN - 5, WHEN]
    for number, moment in enumerate(moments):
        kind.put_blob(f"sha256-0{number}", b"x")
        condemn(kind.store, f"sha256-0{number}", when=moment)
    found = list(kind.store.condemned())
    assert [blob.name for blob in found] == ["sha256-01", "sha256-02", "sha256-00"]
    assert len({blob.id for blob in found}) == 3


def test_a_pardon_puts_a_blob_back_once(kind: Kind) -> None:
    """The blob is in its place, unchanged and as if just written; a second pardon finds nothing."""
    kind.put_blob("sha256-aa", b"weights")
    [aside] = condemn(kind.store, "sha256-aa")
    set_aside = kind.store.condemned_blob(aside)
    assert kind.store.pardon(aside) is True
    assert content(kind.store, "sha256-aa") == b"weights"
    assert list(kind.store.condemned()) == []
    assert kind.store.condemned_blob(aside) is None
    look = kind.store.blob("sha256-aa")
    assert look is not None
    assert set_aside is not None
    assert look.written >= set_aside.written
    assert look.links == 1
    before = state(kind.store)
    assert kind.store.pardon(aside) is False
    assert purge(kind.store, aside) is False
    assert state(kind.store) == before


@pytest.mark.parametrize("data", [b"", b"weights", b"other, and longer"])
def test_a_pardon_never_overwrites(kind: Kind, data: bytes) -> None:
    """Another blob that has taken the place stays, and what is aside stays aside."""
    if not kind.store.sets_aside:
        pytest.skip("what is set aside stays in its place")
    kind.put_blob("sha256-aa", b"weights")
    [aside] = condemn(kind.store, "sha256-aa")
    kind.put_blob("sha256-aa", data)
    before = state(kind.store)
    assert kind.store.pardon(aside) is False
    assert state(kind.store) == before
    assert content(kind.store, "sha256-aa") == data
    look = kind.store.condemned_blob(aside)
    assert look is not None
    assert look.size == 7


def test_one_name_can_be_set_aside_twice(kind: Kind) -> None:
    """A blob that came again and is set aside again is another; one of the two is put back."""
    if not kind.store.sets_aside:
        pytest.skip("what is set aside stays in its place")
    kind.put_blob("sha256-aa", b"one")
    [first] = condemn(kind.store, "sha256-aa")
    kind.put_blob("sha256-aa", b"other")
    if not condemn(kind.store, "sha256-aa"):  # only once at a time, here
        assert content(kind.store, "sha256-aa") == b"other"
        assert purge(kind.store, first) is True
        [second] = condemn(kind.store, "sha256-aa")
        assert kind.store.pardon(second) is True
        assert content(kind.store, "sha256-aa") == b"other"
        return
    first, second = kind.store.condemned()
    assert first != second
    assert kind.store.pardon(first) is True
    assert kind.store.pardon(second) is False
    assert list(kind.store.condemned()) == [second]
    assert purge(kind.store, second) is True


@pytest.mark.parametrize("data", [b"", b"weights", b"other, and longer"])
def test_a_blob_that_came_again_loses_its_mark(kind: Kind, data: bytes) -> None:
    """Where a blob is only marked, one that takes its place is not marked twice, and is kept."""
    if kind.store.sets_aside:
        pytest.skip("what is set aside is not in its place")
    kind.put_blob("sha256-aa", b"weights")
    [aside] = condemn(kind.store, "sha256-aa")
    kind.put_blob("sha256-aa", data)
    assert condemn(kind.store, "sha256-aa") == []
    assert kind.store.pardon(aside) is True
    assert kind.store.pardon(aside) is False
    assert list(kind.store.condemned()) == []
    assert content(kind.store, "sha256-aa") == data
    [again] = condemn(kind.store, "sha256-aa")
    assert again != aside


def test_a_purge_removes_for_good_once(kind: Kind) -> None:
    """What is purged is gone; a second purge and a pardon find nothing; the others stay."""
    kind.put_blob("sha256-aa", b"x")
    kind.put_blob("sha256-bb", b"y")
    first, second = condemn(kind.store, "sha256-aa", "sha256-bb")
    assert purge(kind.store, first) is True
    assert purge(kind.store, first) is False
    assert kind.store.pardon(first) is False
    assert kind.store.condemned_blob(first) is None
    assert list(kind.store.condemned()) == [second]
    assert list(kind.store.blobs()) == []


def test_many_are_looked_at_and_removed_at_once(kind: Kind) -> None:
    """Of many, those that are gone are left out, and those written too late are left."""
    names = [f"sha256-{number:064x}" for number in range(60)]
    for name in names:
        kind.put_blob(name, b"x" * 7)
    kind.put_blob("sha256-ABC", b"in upper case")
    looks = dict(kind.store.look(["gone", "sha256-abc", *names, *["gone"] * 60]))
    assert {*looks} >= {*names}
    assert {*looks} <= {"sha256-abc", *names}
    assert looks[names[0]] == kind.store.blob(names[0])
    asides = condemn(kind.store, *names)
    assert [aside.name for aside in asides] == names
    aside_looks = dict(kind.store.look_aside([*asides, Condemned(WHEN, asides[0].id, "gone")]))
    assert {*aside_looks} == {*asides}
    assert aside_looks[asides[0]].size == 7
    assert purge(kind.store, asides[3])
    late = {asides[1], asides[58]}
    until = [(aside, 0.0 if aside in late else math.inf) for aside in asides]
    assert dict(kind.store.purge(until)) == {
        aside: aside not in late for aside in asides if aside != asides[3]
    }
    assert {name for name in names if content(kind.store, name)} <= {late_.name for late_ in late}
    kept = [*dict(kind.store.look_aside(asides))]
    assert kept == (sorted(late) if kind.store.sets_aside else [])
    assert list(kind.store.purge([])) == []


def test_manifests_are_read_all_at_once(kind: Kind) -> None:
    """Of those in place and of those in the trash, each is what it is when read alone."""
    kind.put(KEY, b"weights")
    kind.put_manifest(OTHER, b"no manifest")
    entries = []
    for number in range(3):
        key = f"example.com/ns/gone/v{number}"
        kind.put(key, b"weights %d" % number)
        entry = kind.store.discard(key, (), WHEN + number)
        assert entry is not None
        entries.append(entry)
    kind.settle()  # the version of what has just been written is not told
    assert dict(kind.store.read_all()) == {key: kind.store.read(key) for key in (KEY, OTHER)}
    trash = {entry: kind.store.read_deleted(entry) for entry in entries}
    assert dict(kind.store.read_all_deleted()) == trash
    assert [entry for entry, _ in kind.store.read_all_deleted({entries[1]})] == [
        entries[0],
        entries[2],
    ]


def test_a_purge_leaves_a_blob_that_came_again(kind: Kind) -> None:
    """A purge removes what is aside, not what has come under the same name."""
    kind.put_blob("sha256-aa", b"old")
    [aside] = condemn(kind.store, "sha256-aa")
    kind.put_blob("sha256-aa", b"new")
    assert purge(kind.store, aside) is kind.store.sets_aside  # else it is the new one that stays
    assert list(kind.store.condemned()) == []
    assert content(kind.store, "sha256-aa") == b"new"


# The trash


def test_a_discarded_manifest_is_in_the_trash_alone(kind: Kind) -> None:
    """It is not listed, found or read any more; the trash has it, unchanged; its blobs stay."""
    data = kind.put(KEY, b"weights")
    kind.put_manifest(OTHER, b"{}")
    blobs = state(kind.store)["blobs"]
    entry = discard(kind.store, KEY, *blobs)
    assert entry.key == KEY
    assert WHEN - 0.001 <= entry.when <= WHEN
    assert keys(kind.store) == [OTHER]
    assert kind.store.find(Name.from_key(KEY)) is None
    assert kind.store.read(KEY) is None
    assert version(kind.store, KEY) is None
    assert kind.store.deleted() == [entry]
    found = kind.store.read_deleted(entry)
    assert found is not None
    assert found.data == data
    assert state(kind.store)["blobs"] == blobs


def test_nothing_is_discarded_where_nothing_is(kind: Kind) -> None:
    """A manifest that is gone gives None, and nothing is changed."""
    kind.put(OTHER, b"weights")
    before = state(kind.store)
    assert kind.store.discard(KEY, state(kind.store)["blobs"], WHEN) is None
    assert state(kind.store) == before


def test_a_manifest_is_discarded_whatever_it_is(kind: Kind) -> None:
    """The content of a manifest, and blobs that are gone, do not matter."""
    kind.put_manifest(KEY, b"\0 no manifest")
    entry = discard(kind.store, KEY, "sha256-aa", "sha256-bb")
    found = kind.store.read_deleted(entry)
    assert found is not None
    assert found.data == b"\0 no manifest"
    assert kind.store.blob_in_trash(entry, "sha256-aa") is None


def test_the_trash_is_seen_by_others(kind: Kind) -> None:
    """Another process sees the trash, and can put a model back."""
    data = kind.put(KEY, b"weights")
    entry = discard(kind.store)
    another = kind.another()
    assert another.deleted() == [entry]
    assert another.recover(entry) is True
    found = kind.store.read(KEY)
    assert found is not None
    assert found.data == data


def test_the_trash_is_listed_oldest_first(kind: Kind) -> None:
    """Entries come in the order of their moments, whatever their keys and the order of deletes."""
    moments = [WHEN + 3, WHEN, WHEN + 2, WHEN + 1]
    for number, moment in enumerate(moments):
        kind.put_manifest(f"h/n/m{number}/t", b"{}")
        discard(kind.store, f"h/n/m{number}/t", when=moment)
    assert [entry.key for entry in kind.store.deleted()] == [
        "h/n/m1/t",
        "h/n/m3/t",
        "h/n/m2/t",
        "h/n/m0/t",
    ]


def test_what_was_deleted_before_a_moment_can_be_listed(kind: Kind) -> None:
    """A moment limits the list to what was deleted then or earlier."""
    entries = []
    for number in range(3):
        kind.put_manifest(KEY, b"{}")
        entries.append(discard(kind.store, when=WHEN + number))
    assert kind.store.deleted(-math.inf) == []
    assert kind.store.deleted(math.nextafter(entries[0].when, 0)) == []
    assert kind.store.deleted(entries[0].when) == entries[:1]
    assert kind.store.deleted(entries[1].when + 0.5) == entries[:2]
    assert kind.store.deleted(entries[2].when) == entries
    assert kind.store.deleted(math.inf) == kind.store.deleted(None) == entries


@pytest.mark.parametrize(
    "when", [0.0, 0.1, 1e9, 1_700_000_000.999999_9, 1_795_430_745.717_218_9, 4e9 + 0.3]
)
def test_a_delete_counts_as_no_later_than_it_was(kind: Kind, when: float) -> None:
    """The recorded moment is not after the given one, so an age of 0 finds it at once."""
    kind.put_manifest(KEY, b"{}")
    entry = discard(kind.store, when=when)
    assert kind.store.deleted(when) == [entry]
    assert entry.when <= when


def test_one_key_can_be_in_the_trash_many_times(kind: Kind) -> None:
    """Each delete of a key is an entry of its own, be it at the same moment."""
    for number in range(4):
        kind.put_manifest(KEY, b"%d" % number)
        discard(kind.store)
    entries = kind.store.deleted()
    assert len({entry.id for entry in entries}) == 4
    found = [kind.store.read_deleted(entry) for entry in entries]
    assert sorted(manifest.data for manifest in found if manifest) == [b"0", b"1", b"2", b"3"]


def test_the_trash_holds_the_blobs(kind: Kind) -> None:
    """What another program removes can be put back from the trash, where the storage holds it."""
    if not kind.holds:
        pytest.skip("the trash of this kind of store holds no blobs")
    kind.put_blob("sha256-aa", b"weights")
    kind.put_manifest(KEY, b"{}")
    before = kind.store.blob("sha256-aa")
    entry = discard(kind.store, KEY, "sha256-aa")
    kind.sweep_blob("sha256-aa")
    assert kind.store.blob("sha256-aa") is None
    held = kind.store.blob_in_trash(entry, "sha256-aa")
    assert before is not None
    assert held is not None
    assert held.size == 7
    assert held.content == before.content
    assert kind.store.blob_in_trash(entry, "sha256-bb") is None
    assert kind.store.recover_blob(entry, "sha256-aa") is True
    assert content(kind.store, "sha256-aa") == b"weights"
    assert kind.store.blob_in_trash(entry, "sha256-aa") is not None
    assert kind.store.forget(entry) is True
    assert content(kind.store, "sha256-aa") == b"weights"
    look = kind.store.blob("sha256-aa")
    assert look is not None
    assert look.links == 1


def test_a_held_blob_is_one_space_with_two_names(kind: Kind) -> None:
    """What the trash holds takes no space of its own, and that can be told."""
    if not kind.holds:
        pytest.skip("the trash of this kind of store holds no blobs")
    kind.put_blob("sha256-aa", b"weights")
    kind.put_manifest(KEY, b"{}")
    entry = discard(kind.store, KEY, "sha256-aa")
    looks = [kind.store.blob("sha256-aa"), kind.store.blob_in_trash(entry, "sha256-aa")]
    assert [look.links for look in looks if look] == [2, 2]
    assert len({look.content for look in looks if look}) == 1


@pytest.mark.parametrize("data", [b"", b"wei", b"another"])
def test_a_held_blob_takes_the_place_of_the_one_that_is_there(kind: Kind, data: bytes) -> None:
    """A blob that is short or other gives way to the one that is held, which stays held."""
    if not kind.holds:
        pytest.skip("the trash of this kind of store holds no blobs")
    kind.put_blob("sha256-aa", b"weights")
    kind.put_manifest(KEY, b"{}")
    entry = discard(kind.store, KEY, "sha256-aa")
    kind.put_blob("sha256-aa", data)
    kind.store.recover_blob(entry, "sha256-aa")
    assert content(kind.store, "sha256-aa") == b"weights"
    held = kind.store.blob_in_trash(entry, "sha256-aa")
    assert held is not None
    assert held.size == 7


def test_a_held_blob_can_be_put_back_over_itself(kind: Kind) -> None:
    """Nothing changes when the store's own blob is the one that is held."""
    if not kind.holds:
        pytest.skip("the trash of this kind of store holds no blobs")
    kind.put_blob("sha256-aa", b"weights")
    kind.put_manifest(KEY, b"{}")
    entry = discard(kind.store, KEY, "sha256-aa")
    before = state(kind.store)
    for _ in range(2):
        assert kind.store.recover_blob(entry, "sha256-aa") is True
    assert state(kind.store) == before
    look = kind.store.blob("sha256-aa")
    assert look is not None
    assert look.links == 2


@pytest.mark.parametrize("end", ["recover", "forget"])
def test_nothing_is_put_back_from_an_entry_that_is_gone(kind: Kind, end: str) -> None:
    """An entry that was restored or forgotten puts no blob back."""
    kind.put_manifest(KEY, b"{}")
    kind.put_blob("sha256-aa", b"weights")
    entry = discard(kind.store, KEY, "sha256-aa")
    getattr(kind.store, end)(entry)
    kind.sweep_blob("sha256-aa")
    before = state(kind.store)
    assert kind.store.recover_blob(entry, "sha256-aa") is False
    assert state(kind.store) == before


@pytest.mark.parametrize("there", [True, False])
def test_a_blob_that_is_not_held_is_not_put_back(kind: Kind, there: bool) -> None:
    """A blob that the trash does not hold stays as it is, there or gone."""
    kind.put_manifest(KEY, b"{}")
    entry = discard(kind.store, KEY, "sha256-aa")
    if there:
        kind.put_blob("sha256-aa", b"weights")
    before = state(kind.store)
    assert kind.store.recover_blob(entry, "sha256-aa") is False
    assert state(kind.store) == before


def test_a_recovered_manifest_is_back_once(kind: Kind) -> None:
    """It is in its place, unchanged, and not in the trash; a second time there is nothing."""
    data = kind.put(KEY, b"weights")
    blobs = state(kind.store)["blobs"]
    entry = discard(kind.store, KEY, *blobs)
    assert kind.store.recover(entry) is True
    after = state(kind.store)
    assert after == {"manifests": {KEY: data}, "blobs": blobs, "deleted": {}, "condemned": []}
    assert kind.store.find(Name.from_key(KEY)) == KEY
    assert kind.store.read_deleted(entry) is None
    assert all(kind.store.blob_in_trash(entry, name) is None for name in blobs)
    assert kind.store.recover(entry) is False
    assert kind.store.forget(entry) is False
    assert state(kind.store) == after


def test_nothing_is_recovered_from_an_entry_that_is_gone(kind: Kind) -> None:
    """An entry that was forgotten gives False, and nothing is changed."""
    kind.put_manifest(KEY, b"{}")
    entry = discard(kind.store)
    kind.store.forget(entry)
    before = state(kind.store)
    assert kind.store.recover(entry) is False
    assert state(kind.store) == before


@pytest.mark.parametrize("data", [b"{}", b"", b"other"])
def test_a_recovery_never_overwrites(kind: Kind, data: bytes) -> None:
    """A model that has come since is named by the error, and nothing is changed."""
    kind.put_manifest(KEY, b"{}")
    entry = discard(kind.store)
    kind.put_manifest(KEY, data)
    before = state(kind.store)
    with pytest.raises(
        ModelExistsError, match=r"registry\.ollama\.ai/library/smol:latest"
    ) as caught:
        kind.store.recover(entry)
    assert caught.value.name == str(Name.from_key(KEY))
    assert state(kind.store) == before
    discard(kind.store, when=WHEN + 1)
    assert kind.store.recover(entry) is True


def test_one_of_several_entries_is_recovered(kind: Kind) -> None:
    """Each entry of a key is recovered on its own; the others stay in the trash."""
    entries = []
    for number in range(3):
        kind.put_manifest(KEY, b"%d" % number)
        entries.append(discard(kind.store, when=WHEN + number))
    assert kind.store.recover(entries[1]) is True
    found = kind.store.read(KEY)
    assert found is not None
    assert found.data == b"1"
    assert kind.store.deleted() == [entries[0], entries[2]]


def test_an_entry_is_forgotten_once(kind: Kind) -> None:
    """It is gone with its holds; the blobs, the models and the other entries stay."""
    data = kind.put(KEY, b"weights")
    blobs = state(kind.store)["blobs"]
    entry = discard(kind.store, KEY, *blobs)
    kind.put_manifest(KEY, data)
    other = discard(kind.store, KEY, *blobs, when=WHEN + 1)
    kind.put_manifest(KEY, data)
    assert kind.store.forget(entry) is True
    assert kind.store.forget(entry) is False
    assert kind.store.read_deleted(entry) is None
    assert all(kind.store.blob_in_trash(entry, name) is None for name in blobs)
    assert state(kind.store) == {
        "manifests": {KEY: data},
        "blobs": blobs,
        "deleted": {other: data},
        "condemned": [],
    }


@pytest.mark.parametrize("before", [-math.inf, WHEN - 1, WHEN, WHEN + 1, math.inf])
def test_tidying_takes_nothing_that_counts(kind: Kind, before: float) -> None:
    """Models, blobs, what is in the trash and what is set aside stay, whatever their age."""
    kind.put(KEY, b"weights")
    kind.put(OTHER, b"other")
    kind.put_blob("sha256-aa", b"x")
    kind.put_blob("sha256-bb-partial", b"y")
    entry = discard(kind.store, KEY, *kind.store.blobs())
    condemn(kind.store, "sha256-aa")
    seen = state(kind.store)
    held = kind.store.blob_in_trash(entry, "sha256-bb-partial")
    assert kind.store.abandoned(before) == {}
    assert kind.store.tidy(before) == {}
    assert state(kind.store) == seen
    assert kind.store.blob_in_trash(entry, "sha256-bb-partial") == held


def test_tidying_an_empty_store_does_nothing(store: Store) -> None:
    """There is nothing to do where nothing is."""
    before = state(store)
    store.tidy(math.inf)
    assert state(store) == before


# What is protected


def test_a_pattern_is_kept_until_it_is_dropped(kind: Kind) -> None:
    """Whoever opens the storage sees it, once; it is dropped once, and is no part of the rest."""
    before = state(kind.store)
    assert list(kind.store.protected()) == []
    assert kind.store.unprotect("smol:latest") is False
    for pattern in ("smol:latest", "*/ns/[!a-b]?.*", "smol:latest"):
        kind.store.protect(pattern)
    assert sorted(kind.another().protected()) == ["*/ns/[!a-b]?.*", "smol:latest"]
    assert state(kind.store) == before
    assert kind.another().unprotect("smol:latest") is True
    assert kind.store.unprotect("smol:latest") is False
    assert list(kind.store.protected()) == ["*/ns/[!a-b]?.*"]


@pytest.mark.parametrize("pattern", [".*", "*", "%2e", "a/../b", "a b", "~", "x" * 200])
def test_a_pattern_is_any_short_text(store: Store, pattern: str) -> None:
    """What would be special in a path or an address is not."""
    store.protect("other")
    store.protect(pattern)
    assert sorted(store.protected()) == sorted(["other", pattern])
    assert store.unprotect(pattern) is True
    assert list(store.protected()) == ["other"]


def test_protection_outlasts_the_rest(kind: Kind) -> None:
    """It does not go with a model, nor by tidying."""
    kind.put_manifest(KEY, b"{}")
    kind.store.protect("smol:latest")
    kind.store.forget(discard(kind.store))
    kind.store.tidy(math.inf)
    assert list(kind.store.protected()) == ["smol:latest"]


# Claims


def test_a_store_is_claimed_by_one(kind: Kind) -> None:
    """Until that gives it back; a claim holds up nothing else."""
    kind.put_manifest(KEY, b"{}")
    before = state(kind.store)
    for one, other in ((kind.store, kind.another()), (kind.another(), kind.store)):
        release = one.claim()
        assert release is not None
        if other.claim() is not None:
            pytest.skip("this store cannot tell")
        assert one.claim() is None
        assert state(kind.store) == before
        race(release)  # in another thread
    release = kind.store.claim()
    assert release is not None
    release()


# Several at once


@pytest.mark.usefixtures("switching")
def test_of_several_that_drop_a_pattern_one_does(kind: Kind) -> None:
    """However many drop a pattern at once, one is told that it did."""
    stores = [kind.another() for _ in range(THREADS)]
    for _ in range(attempts(kind)):
        race(*[partial(store.protect, "smol:latest") for store in stores])
        assert list(kind.store.protected()) == ["smol:latest"]
        won = race(*[partial(store.unprotect, "smol:latest") for store in stores])
        assert won.count(True) == 1
        assert list(kind.store.protected()) == []


@pytest.mark.usefixtures("switching")
def test_of_several_deletes_one_gets_the_entry(kind: Kind) -> None:
    """However many discard a manifest at once, one gets its entry, and the trash has it once."""
    for number in range(attempts(kind)):
        kind.put_manifest(KEY, b"%d" % number)
        kind.put_blob("sha256-aa", b"x")
        step = lambda: kind.another().discard(KEY, ["sha256-aa"], WHEN)  # noqa: E731
        [won] = [entry for entry in race(*[step] * THREADS) if entry]
        assert kind.store.deleted() == [won]
        assert kind.store.read(KEY) is None
        assert kind.store.forget(won) is True


@pytest.mark.usefixtures("switching")
def test_of_several_restores_at_least_one_succeeds(kind: Kind) -> None:
    """However many recover an entry at once, the model is in place once, and the trash empty."""
    for number in range(attempts(kind)):
        data = b"%d" % number
        kind.put_manifest(KEY, data)
        entry = discard(kind.store)
        won = race(*[_attempt(kind.another().recover, entry) for _ in range(THREADS)])
        assert any(won)
        assert state(kind.store)["manifests"] == {KEY: data}
        assert kind.store.deleted() == []
        discard(kind.store)
        assert [kind.store.forget(entry) for entry in kind.store.deleted()] == [True]


@pytest.mark.usefixtures("switching")
def test_of_several_that_forget_one_does(kind: Kind) -> None:
    """However many forget an entry at once, one is told that it did."""
    for _ in range(attempts(kind)):
        kind.put(KEY, b"weights")
        entry = discard(kind.store, KEY, *kind.store.blobs())
        won = race(*[lambda: kind.another().forget(entry)] * THREADS)  # noqa: B023
        assert won.count(True) == 1
        assert kind.store.deleted() == []


@pytest.mark.usefixtures("switching")
def test_of_several_that_set_aside_one_does(kind: Kind) -> None:
    """However many condemn a blob at once, it is set aside once."""
    for _ in range(attempts(kind)):
        kind.put_blob("sha256-aa", b"x")
        won = race(*[lambda: condemn(kind.another(), "sha256-aa")] * THREADS)
        [aside] = [aside for asides in won for aside in asides]
        assert list(kind.store.condemned()) == [aside]
        assert purge(kind.store, aside) is True


@pytest.mark.usefixtures("switching")
@pytest.mark.parametrize("step", ["purge", "remove_blob"])
def test_of_several_that_remove_one_does(kind: Kind, step: str) -> None:
    """However many remove a blob at once, one is told that it did."""
    for _ in range(attempts(kind)):
        kind.put_blob("sha256-aa", b"x")
        take: Callable[[], bool] = lambda: kind.another().remove_blob("sha256-aa")  # noqa: E731
        if step == "purge":
            [aside] = condemn(kind.store, "sha256-aa")
            take = lambda: purge(kind.another(), aside)  # noqa: B023, E731
        won = race(*[take] * THREADS)
        assert won.count(True) == 1


@pytest.mark.usefixtures("switching")
def test_of_several_pardons_at_least_one_succeeds(kind: Kind) -> None:
    """However many pardon a blob at once, it is in its place, once, and nothing is aside."""
    for _ in range(attempts(kind)):
        kind.put_blob("sha256-aa", b"x")
        [aside] = condemn(kind.store, "sha256-aa")
        won = race(*[lambda: kind.another().pardon(aside)] * THREADS)  # noqa: B023
        assert any(won)
        assert content(kind.store, "sha256-aa") == b"x"
        assert list(kind.store.condemned()) == []
        look = kind.store.blob("sha256-aa")
        assert look is not None
        assert look.links == 1


@pytest.mark.usefixtures("switching")
def test_a_blob_that_is_pardoned_and_purged_is_where_the_pardon_says(kind: Kind) -> None:
    """When a pardon that succeeds races a purge, the blob is in its place; else it is gone."""
    for _ in range(3 * attempts(kind)):
        kind.put_blob("sha256-aa", b"x")
        [aside] = condemn(kind.store, "sha256-aa")
        steps: list[Callable[[Condemned], bool]] = [
            kind.another().pardon,
            partial(purge, kind.another()),
        ]
        pardoned, purged = race(*[lambda step=step: step(aside) for step in steps])  # noqa: B023
        assert pardoned or purged
        assert content(kind.store, "sha256-aa") == (b"x" if pardoned else None)
        assert list(kind.store.condemned()) == []
        kind.store.remove_blob("sha256-aa")


@pytest.mark.usefixtures("switching")
def test_a_model_that_is_recovered_and_forgotten_is_where_the_recovery_says(kind: Kind) -> None:
    """When a recovery that succeeds races one that forgets, the model is in place; else gone."""
    for _ in range(3 * attempts(kind)):
        kind.put(KEY, b"weights")
        entry = discard(kind.store, KEY, *kind.store.blobs())
        steps: list[Callable[[Deleted], bool]] = [kind.another().recover, kind.another().forget]
        recovered, forgotten = race(*[lambda step=step: step(entry) for step in steps])  # noqa: B023
        assert recovered or forgotten
        assert keys(kind.store) == ([KEY] if recovered else [])
        assert kind.store.deleted() == []


@pytest.mark.usefixtures("switching")
def test_a_delete_and_a_restore_of_one_name_lose_neither(kind: Kind) -> None:
    """When an older model is restored while the one in place is deleted, both are kept."""
    for number in range(3 * attempts(kind)):
        older, newer = b"older %d" % number, b"newer %d" % number
        kind.put_manifest(KEY, older)
        entry = discard(kind.store)
        kind.put_manifest(KEY, newer)
        removed, recovered = race(
            lambda: kind.another().discard(KEY, (), WHEN),
            _attempt(kind.another().recover, entry),
        )
        assert removed
        now = state(kind.store)
        assert sorted([*now["manifests"].values(), *now["deleted"].values()]) == [newer, older]
        assert now["manifests"] == ({KEY: older} if recovered else {})
        for key in now["manifests"]:
            discard(kind.store, key)
        for left in kind.store.deleted():
            kind.store.forget(left)


def _attempt(step: Callable[[Deleted], bool], entry: Deleted) -> Callable[[], object]:
    """Take *step*, which may find that there is a model in the way."""

    def attempt() -> bool:
        try:
            return step(entry)
        except ModelExistsError:
            return False

    return attempt
