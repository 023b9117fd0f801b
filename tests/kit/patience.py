"""How long the clients of emulators wait: one that hangs fails its test within ten seconds."""

from __future__ import annotations

from datetime import timedelta
from typing import Any


def impatient() -> dict[str, Any]:
    """
    Settings for a client of obstore.

    An answer is waited for twice: on a busy machine one was once waited for in vain.
    """
    return {
        "client_options": {
            "allow_http": True,
            "connect_timeout": timedelta(seconds=2),
            "timeout": timedelta(seconds=4),
        },
        "retry_config": {"max_retries": 1, "retry_timeout": timedelta(seconds=5)},
    }
