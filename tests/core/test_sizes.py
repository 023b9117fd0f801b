"""Sizes as people write them."""

from __future__ import annotations

from typing import Any

import pytest

from registry_wsgi.errors import InvalidSizeError, RegistryError
from registry_wsgi.sizes import to_bytes


@pytest.mark.parametrize(
    ("written", "size"),
    [
        *(("0", 0), ("12", 12), ("7B", 7), ("500MB", 500_000_000), ("200GB", 200_000_000_000)),
        *(("200 gb", 200_000_000_000), ("1.5TB", 1_500_000_000_000), ("1.5 kB", 1_500)),
        *(("50GiB", 50 << 30), ("1kib", 1024), ("2PiB", 2 << 50), (12, 12), (0, 0)),
    ],
)
def test_a_size_is_a_number_of_bytes(written: Any, size: int) -> None:
    """Whatever unit it is written in."""
    assert to_bytes(written) == size


@pytest.mark.parametrize(
    "bad",
    [
        *("", "GB", "200G", "-1", "1.5", "1.5B", "1iB", "1,000", " 1", "1 ", "1e9", "٣", "9" * 16),
        *(-1, 1.0, True, None),
    ],
)
def test_anything_else_is_refused(bad: Any) -> None:
    """With a message that shows it."""
    with pytest.raises(InvalidSizeError, match="invalid size ") as caught:
        to_bytes(bad)
    assert isinstance(caught.value, (RegistryError, ValueError))
