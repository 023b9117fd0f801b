"""Parts and samples of what can be tried."""

from __future__ import annotations

import pytest

from kit.effort import sample, shard


@pytest.mark.parametrize("parts", [1, 3, 40])
def test_all_shards_together_have_each_item_once(parts: int) -> None:
    """So that runs that take one part each try everything between them."""
    taken = [item for part in range(1, parts + 1) for item in shard(range(25), f"{part}/{parts}")]
    assert sorted(taken) == [*range(25)]


@pytest.mark.parametrize("which", ["0/3", "4/3", "3", "a/b", "1/0", "-1/3"])
def test_a_shard_that_is_none_is_refused(which: str) -> None:
    """A run that takes nothing would pass."""
    with pytest.raises(ValueError, match="REGISTRY_WSGI_SHARD"):
        shard(range(25), which)


def test_a_sample_has_both_ends_and_no_item_twice() -> None:
    """And it is everything where that is little."""
    assert sample(range(100), 4) == [0, 33, 66, 99]
    assert sample("abc", 4) == ["a", "b", "c"]
    assert len({*sample(range(13), 12)}) == 12
