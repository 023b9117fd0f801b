"""Several caches over one store, each with a retention of its own."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from kit.clocks import Clock
from kit.kinds import KINDS, Kind, kinds
from registry_wsgi import ModelCache

KEY = "registry.ollama.ai/library/smol/latest"
OTHER = "registry.ollama.ai/library/other/latest"


@pytest.fixture(params=kinds())
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> Kind:
    """An empty store of each kind."""
    return KINDS[request.param](tmp_path, Clock())


def cache(kind: Kind, **retention: float) -> ModelCache:
    """A cache over the same store with a retention of its own, as on another host."""
    return ModelCache(kind.another(), retention=timedelta(**retention), clock=kind.clock)


def test_what_one_host_keeps_another_does_not_remove(kind: Kind) -> None:
    """A delete and a prune where nothing is kept leave what a week was promised elsewhere."""
    kind.put(KEY, b"weights", b"shared")
    kind.put(OTHER, b"other", b"shared")
    kind.put("h/n/m/t", b"kept")  # in a store without models nothing goes
    week, none = cache(kind, days=7), cache(kind, days=0)
    assert week.unlink("smol")
    kind.clock.move(hours=2)
    assert none.unlink("other")
    assert none.prune_deleted().models == 1
    [kept] = none.deleted()
    assert kept.name == "registry.ollama.ai/library/smol:latest"
    assert kept.expires - kept.deleted == timedelta(days=7)
    kind.clock.move(days=6)
    assert cache(kind, days=1).prune().models == 0
    assert week.restore("smol")
    assert week.verify(deep=True).ok


def test_a_longer_retention_elsewhere_keeps_nothing_longer(kind: Kind) -> None:
    """What a host has deleted for a day goes after that day, whoever prunes."""
    kind.put(KEY, b"weights")
    assert cache(kind, days=1).unlink("smol")
    kind.clock.move(hours=23)
    assert cache(kind, days=30).prune_deleted().models == 0
    kind.clock.move(hours=2)
    assert cache(kind, days=30).prune_deleted().models == 1
    assert kind.store.deleted() == []


def test_an_age_is_for_everything(kind: Kind) -> None:
    """Who gives an age to one run means what others have deleted, too."""
    kind.put(KEY, b"weights")
    assert cache(kind, days=30).unlink("smol")
    kind.clock.move(days=3)
    assert cache(kind, days=0).prune(age=timedelta(days=4)).models == 0
    assert cache(kind, days=0).prune(age=timedelta(days=2)).models == 1


def test_what_says_nothing_is_kept_as_the_host_has_it(kind: Kind) -> None:
    """An entry of the trash that an older release has made has no time of its own."""
    kind.put(KEY, b"weights")
    assert kind.store.discard(KEY, (), kind.clock())
    [found] = cache(kind, days=3).deleted()
    assert found.expires - found.deleted == timedelta(days=3)
    kind.clock.move(days=2)
    assert cache(kind, days=3).prune_deleted().models == 0
    assert cache(kind, days=1).prune_deleted().models == 1
