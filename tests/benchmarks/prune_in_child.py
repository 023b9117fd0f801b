"""Prune the store of the first argument, and print how many blobs went and the peak memory."""

from __future__ import annotations

import sys

from kit.clocks import Clock
from registry_wsgi import DiskStore, ModelCache


def peak() -> int:
    """
    The most memory that this process has had, in KiB.

    Not `resource.getrusage`: its ``ru_maxrss`` begins with that of the process which started us.
    """
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))


if __name__ == "__main__":
    report = ModelCache(DiskStore(sys.argv[1]), clock=Clock.far_ahead()).prune()
    print(report.blobs, peak())
