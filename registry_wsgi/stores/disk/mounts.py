"""What kind of file system is mounted."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

__all__ = ["Layers", "layers_at"]

_UPPER = re.compile(r"(?:^|,)upperdir=([^,\\]+)")

# File systems of layers: to link, rename or touch a file of a lower layer writes a whole copy of
# that file to the upper layer.
_LAYERED = ("overlay", "aufs", "unionfs", "fuse-overlayfs", "unionfs-fuse")


class Layers(NamedTuple):
    """
    A mounted file system of layers.

    Attributes:
        place: Where it is mounted.
        upper: Where its upper layer is, if that is told.
    """

    place: str
    upper: str | None

    def copies(self, path: str) -> bool:
        """Tell whether to link the file *path* may copy all of that file."""
        if self.upper is None or not os.path.isdir(self.upper):
            return True  # in a container nothing tells which layer a file is in
        below = os.path.relpath(os.path.realpath(path), self.place)
        return not os.path.lexists(os.path.join(self.upper, below))


def layers_at(device: int) -> Layers | None:
    """Tell what file system of layers the ``st_dev`` *device* of a directory is, if it is one."""
    if os.major(device) != 0:  # a disk
        return None
    number = f"0:{os.minor(device)}"
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
            # id, parent's id, device, root, place, options, some more fields, "-", type, source,
            # options of the file system
            fields = [line.rstrip("\n").split(" ") for line in mounts]
    except OSError:  # not Linux
        return None
    for line in fields:
        if line[2] == number and "-" in line:
            kind, _, *options = line[line.index("-") + 1 :]
            if kind.removeprefix("fuse.") in _LAYERED:
                upper = _UPPER.search("".join(options))
                # Below another directory than the root of it, paths are other ones.
                known = line[3] == "/" and "\\" not in line[4]
                return Layers(line[4], upper[1] if upper and known else None)
    return None
