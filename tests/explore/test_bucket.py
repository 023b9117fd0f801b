"""Every order of the requests of two programs on one bucket, with few preemptions."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kit.effort import shard
from kit.requirements import require

require("greenlet", "obstore")

from explore.bucket_world import DEFAULT, BucketWorld, bucket_world, full  # noqa: E402 - see above
from explore.combinations import Combination  # noqa: E402 - see above
from explore.story import expect_whole  # noqa: E402 - see above


@pytest.fixture
def here() -> Iterator[BucketWorld]:
    """A world."""
    with bucket_world() as made:
        yield made


@pytest.mark.parametrize("combination", DEFAULT, ids=str)
def test_every_order_of_requests_leaves_all_whole(
    here: BucketWorld, combination: Combination
) -> None:
    """Whichever of two has its turn when, all that is promised holds in the end."""
    expect_whole(here, combination)


@pytest.mark.exhaustive
@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("combination", shard(full()), ids=str)
def test_every_order_of_requests_of_any_two_leaves_all_whole(
    here: BucketWorld, combination: Combination
) -> None:
    """The same for all pairs, where one may be killed, or with one preemption more."""
    expect_whole(here, combination)


def test_what_is_not_promised_without_keep_is_all_that_breaks(here: BucketWorld) -> None:
    """The exemption is needed, so that it can be seen when it no longer is."""
    here.excused = {}
    found = here.explore("prune", "pull-found").run(1)
    assert {what: fault.preemptions for what, fault in found.faults.items()} == {"new lacks o": 1}
