"""
The names of unfinished downloads, and of the temporary files that Ollama makes.

While a blob is pulled, ``<blob>-partial`` has its content, and ``<blob>-partial-<n>`` says how much
of part *n* is there. A pull that is resumed believes these files. All of them are one download.
"""

from __future__ import annotations

import re

__all__ = ["download_of", "is_temporary", "removal_order"]

_DOWNLOAD = re.compile(r"(.+?)-partial(?:-(\d+))?", re.ASCII | re.IGNORECASE)

# Files that are being copied, converted or quantized. Go ends the names of such files in digits.
_TEMPORARY = re.compile(
    r"(?:copy|split-copy|compat-tensors|projector-metadata|split-gguf-|sha256-"
    r"|(?:bf|f|fp|i?q|tq|mxfp|nvfp|int)\d[0-9a-z_]*)\d+"
    r"|sha256[:-][0-9a-f]{64}\.tmp",
    re.ASCII | re.IGNORECASE,
)


def download_of(name: str) -> str | None:
    """
    Tell which download the file *name* among the blobs belongs to.

    Returns:
        Equal for all files of one download, in whatever letters its digest is written. A temporary
        file is a download of its own. None for a blob, and for what no model is made of.
    """
    match = _DOWNLOAD.fullmatch(name)
    if match is not None:
        return match[1].lower().replace(":", "-")
    return name if _TEMPORARY.fullmatch(name) else None


def is_temporary(name: str) -> bool:
    """Tell whether *name* is that of an unfinished download or of a temporary file of Ollama."""
    return download_of(name) is not None


def removal_order(name: str) -> tuple[int, int]:
    """
    Sort the files of one download in the order in which they can be removed.

    The parts go from the last to the first, the content after them. When a removal is killed at
    any moment, Ollama can still download the blob: what is left is the first parts, of which it
    makes a blob that is too short, finds that its digest is wrong, and begins anew; or the content
    alone, which it overwrites. (Without the first part, or with parts that claim content which is
    gone, it would fail again and again, or take zeros for content.)
    """
    match = _DOWNLOAD.fullmatch(name)
    if match is None:
        return 2, 0
    return (0, -int(match[2])) if match[2] else (1, 0)
