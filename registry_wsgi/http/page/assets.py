"""The files of the page: read once, and named after what is in them."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from markupsafe import Markup

__all__ = ["Asset", "assets", "frame"]

_TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


class Asset(NamedTuple):
    """A file of the page: its name in a URL, its type and its content."""

    name: str
    content_type: str
    data: bytes


@cache
def assets() -> dict[str, Asset]:
    """
    Read the files, by their extension.

    The name has a hash of the content, so that a browser may keep a file for ever, and gets the new
    one with a new page.
    """
    found = {}
    for kind, content_type in _TYPES.items():
        data = _read(f"page.{kind}")
        name = f"page.{hashlib.sha256(data).hexdigest()[:12]}.{kind}"
        found[kind] = Asset(name, f"{content_type}; charset=utf-8", data)
    return found


@cache
def frame() -> Markup:
    """Read what stands around the parts of each page."""
    return Markup(_read("page.html").decode())  # noqa: S704 - nobody else writes this file


def _read(name: str) -> bytes:
    return files(__package__).joinpath(name).read_bytes()
