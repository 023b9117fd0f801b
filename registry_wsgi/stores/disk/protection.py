"""What is protected: empty files, whose names are the patterns, percent-encoded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import quote as percent_encode
from urllib.parse import unquote as percent_decode

from .places import Part
from .system import Reported

__all__ = ["Protection"]


class Protection(Part):
    """A `~registry_wsgi.stores.base.ProtectionStore` in the directory ``protected``."""

    def protected(self) -> Iterator[str]:
        path = self.places.protected
        self.places.refuse_link(path)
        with Reported(path):
            try:
                names = os.listdir(path)
            except FileNotFoundError:
                return iter(())
        return map(percent_decode, names)

    def protect(self, pattern: str) -> None:
        name = _encoded(pattern)
        path = self.places.without_links("protected", name)
        with (
            Reported(path),
            self.places.open() as top,
            self.places.ours(top, "protected", make=True) as folder,
            suppress(FileExistsError),
        ):
            os.close(folder.create(name))

    def unprotect(self, pattern: str) -> bool:
        name = _encoded(pattern)
        path = self.places.without_links("protected", name)
        with Reported(path), self.places.open() as top:
            try:
                folder = self.places.ours(top, "protected")
            except FileNotFoundError:
                return False
            with folder:
                return folder.unlink(name)


def _encoded(pattern: str) -> str:
    name = percent_encode(pattern, safe="")
    # Some file systems drop dots at the end of a name, and so would protect another model.
    return f"{name[:-1]}%2E" if name.endswith(".") else name
