"""Fixtures of the tests of stores."""

from __future__ import annotations

from pathlib import Path

import pytest

from kit.clocks import Clock
from kit.kinds import KINDS, Kind, kinds


@pytest.fixture(params=kinds())
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> Kind:
    """An empty store of each kind."""
    return KINDS[request.param](tmp_path, Clock())
