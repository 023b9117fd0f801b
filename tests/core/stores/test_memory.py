"""The store in memory, beyond what all stores promise."""

from __future__ import annotations

import pytest

from kit.races import race
from kit.trees import blob, manifest
from kit.views import keys
from registry_wsgi import MemoryStore, ModelCache
from registry_wsgi.errors import InvalidNameError

KEY = "registry.ollama.ai/library/smol/latest"


def test_the_clock_gives_the_times() -> None:
    """Manifests and blobs have the time of the clock when they were put in, or put back."""
    moments = iter([10.0, 20.0, 25.0, 30.0, 40.0])
    store = MemoryStore(clock=lambda: next(moments))
    store.put_manifest(KEY, b"{}")
    store.put_blob("sha256-aa", b"x")
    found, look = store.read(KEY), store.blob("sha256-aa")
    assert found is not None
    assert look is not None
    assert found.modified == 10
    assert (look.changed, look.written) == (20, 20)
    [aside] = store.condemn(["sha256-aa"], 25.5)
    assert aside.when == 25.5
    assert store.pardon(aside)
    look = store.blob("sha256-aa")
    assert look is not None
    assert (look.changed, look.written) == (30, 30)
    entry = store.discard(KEY, (), 35.5)
    assert entry is not None
    assert entry.when == 35.5
    assert store.recover(entry)
    found = store.read(KEY)
    assert found is not None
    assert found.modified == 40


@pytest.mark.parametrize(
    "key", ["", "smol", "h/n/m", "h/n/m/t/x", "h/../m/t", "h/n/.m/t", "h//m/t"]
)
def test_only_names_are_keys(key: str) -> None:
    """What is not the key of a valid name is refused, and nothing is put in."""
    store = MemoryStore()
    with pytest.raises(InvalidNameError):
        store.put_manifest(key, b"{}")
    assert keys(store) == []


def test_a_blob_is_got_as_it_was_put() -> None:
    """A blob is read by its name, and its content put anew replaces it."""
    store = MemoryStore()
    assert store.get_blob("sha256-aa") is None
    store.put_blob("sha256-aa", b"one")
    store.put_blob("sha256-aa", b"other")
    assert store.get_blob("sha256-aa") == b"other"


def test_lists_are_of_one_moment() -> None:
    """What is put in or removed while a list is read does not disturb it."""
    store = MemoryStore()
    for number in range(3):
        store.put_manifest(f"h/n/m{number}/t", b"{}")
        store.put_blob(f"sha256-0{number}", b"x")
    seen = []
    for key in keys(store):
        seen.append(key)
        store.put_manifest(f"{key}x", b"{}")
    for name in store.blobs():
        seen.append(name)
        store.remove_blob(name)
    assert len(seen) == 6


def test_two_stores_have_nothing_in_common() -> None:
    """What is in one store is not in another."""
    one, other = MemoryStore(), MemoryStore()
    one.put_manifest(KEY, b"{}")
    one.put_blob("sha256-aa", b"x")
    entry = one.discard(KEY, ["sha256-aa"], 1.0)
    assert entry is not None
    assert other.deleted() == []
    assert other.read_deleted(entry) is None
    assert list(other.blobs()) == []


def test_it_tells_how_much_it_has() -> None:
    """The representation counts the manifests, and shows none of the content."""
    store = MemoryStore()
    store.put_manifest(KEY, b"secret")
    assert repr(store) == "<MemoryStore of 1 manifests>"
    assert repr(ModelCache(store)) == "ModelCache(<MemoryStore of 1 manifests>)"


def test_an_application_may_put_in_while_models_are_deleted() -> None:
    """Threads that put models in and others that delete and prune do not disturb each other."""
    store = MemoryStore()
    cache = ModelCache(store, retention=0)

    def pull() -> list[str]:
        for number in range(100):
            store.put_blob(blob(b"w"), b"w")
            store.put_manifest(f"h/n/m{number}/t", manifest(b"w"))
        return []

    def delete() -> list[str]:
        removed = []
        for _ in range(50):
            removed += [model.name for model in cache.models() if cache.unlink(model.name)]
            cache.prune(deleted_only=True)
        return removed

    removed = [name for names in race(pull, delete, delete) for name in names]
    left = [model.name for model in cache.models()]
    assert sorted([*removed, *left]) == sorted(f"h/n/m{number}:t" for number in range(100))
    assert cache.deleted() == []
