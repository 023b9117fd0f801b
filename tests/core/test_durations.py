"""Durations: the written form, and what Python code passes."""

from __future__ import annotations

from datetime import timedelta

import pytest

from registry_wsgi import RegistryError
from registry_wsgi.durations import Duration, to_seconds
from registry_wsgi.errors import InvalidDurationError


@pytest.mark.parametrize(
    ("duration", "seconds"),
    [
        ("0", 0),
        ("0d", 0),
        ("90s", 90),
        ("15m", 900),
        ("12h", 43_200),
        ("7d", 604_800),
        ("2w", 1_209_600),
        ("007d", 604_800),
        ("999999999s", 999_999_999),
        (timedelta(0), 0),
        (timedelta(days=1, microseconds=500_000), 86_400.5),
        (0, 0),
        (1.5, 1.5),
    ],
)
def test_durations_are_seconds(duration: Duration, seconds: float) -> None:
    """The written form, a timedelta and a number of seconds all give seconds."""
    assert to_seconds(duration) == seconds


@pytest.mark.parametrize(
    "duration",
    [
        *("", " ", "1", "00", "d", "7 d", " 7d", "7d ", "7d\n", "7D", "-7d", "+7d", "1.5h", "1e3s"),
        *("1h30m", "7days", "\uff17d", "٣d", "0x1s", "1_0s", "1000000000s", "inf", "nan", "never"),
        *(timedelta(microseconds=-1), -1, -0.1, float("inf"), float("-inf"), float("nan")),
    ],
)
def test_what_is_no_duration_is_refused(duration: Duration) -> None:
    """Anything else raises an error of ours, a ValueError with a message of one line."""
    with pytest.raises(InvalidDurationError, match=r"\Ainvalid duration [^\n]*\Z") as caught:
        to_seconds(duration)
    assert isinstance(caught.value, RegistryError)
    assert isinstance(caught.value, ValueError)
