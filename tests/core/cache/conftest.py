"""Fixtures of the tests of the policy."""

from __future__ import annotations

import pytest


@pytest.fixture
def trusting(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Trust the times of files that were changed just now, too.

    For tests that count calls: with the clock that stamps files between two of its ticks, a
    manifest is read once more.
    """
    monkeypatch.setattr("registry_wsgi.stores.disk.walk._TICK", 0.0)
    monkeypatch.setattr("registry_wsgi.stores.disk.walk._LONG_TICK", 0.0)
