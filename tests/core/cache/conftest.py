"""Fixtures of the tests of the policy."""

from __future__ import annotations

import pytest

from kit.inside import trust_young_files


@pytest.fixture
def trusting(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Trust the times of files that were changed just now, too.

    For tests that count calls: with the clock that stamps files between two of its ticks, a
    manifest is read once more.
    """
    trust_young_files(monkeypatch)
