"""
Outages for the soak of a bucket.

`Storm` is a proxy on loopback that answers badly for a while, `Gateway` a gateway of Ceph's that is
stopped and started. Both are processes of their own, which end with the one that has started them.
"""

from __future__ import annotations

import mmap
import multiprocessing
import os
import random
import signal
import socket
import subprocess
import time
from typing import Protocol

from kit.proxy import proxied

_FAULTS = ("500", "503", "drop", "hang", "lose", "cut")


class Weather(Protocol):
    """
    What is between the soak and its bucket.

    Attributes:
        url: The endpoint to use.
    """

    url: str

    def worsen(self, rng: random.Random) -> None:
        """Let an outage begin."""

    def clear(self) -> None:
        """End the outage."""

    def end(self) -> None:
        """Leave nothing running."""


class Storm:
    """
    A proxy in front of an endpoint, through which requests fail in one way at a time.

    Args:
        endpoint: The URL.
    """

    def __init__(self, endpoint: str) -> None:
        # Which of the faults, and how many of a hundred requests meet it.
        self._now = memoryview(mmap.mmap(-1, 16)).cast("q")
        context = multiprocessing.get_context("fork")
        receiver, sender = context.Pipe(duplex=False)

        def serve() -> None:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            parent = os.getppid()
            with proxied(endpoint, hang=1) as proxy:

                def plan(method: str, path: str) -> str | None:
                    proxy.requests.clear()
                    return _FAULTS[self._now[0]] if random.random() * 100 < self._now[1] else None

                proxy.plan = plan
                sender.send(proxy.url)
                while os.getppid() == parent:
                    time.sleep(0.2)

        self._process = context.Process(target=serve, daemon=True)
        self._process.start()
        self.url: str = receiver.recv()

    def worsen(self, rng: random.Random) -> None:
        self._now[0] = rng.randrange(len(_FAULTS))
        self._now[1] = rng.choice([20, 100])

    def clear(self) -> None:
        self._now[1] = 0

    def end(self) -> None:
        self._process.kill()
        self._process.join()


class Gateway:
    """
    A second gateway of a Ceph that is running, which can be stopped without harm to others.

    Args:
        conf: The path of its ``ceph.conf``.
    """

    def __init__(self, conf: str) -> None:
        self._conf = conf
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None
        self.clear()

    def worsen(self, rng: random.Random) -> None:
        self.stop(kill=rng.random() < 0.5)

    def clear(self) -> None:
        """Start it, unless it is running."""
        if self._process is not None:
            return
        command = ["setpriv", "--pdeathsig=TERM", "radosgw", "-f", f"--conf={self._conf}"]
        command += ["--name=client.rgw", "--log-file=/dev/null"]
        command += [f"--rgw-frontends=beast endpoint=127.0.0.1:{self._port} tcp_nodelay=1"]
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet)
        end = time.monotonic() + 60
        while time.monotonic() < end and self._process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self._port), 1).close()
            except OSError:
                time.sleep(0.1)
            else:
                return
        self.end()
        raise RuntimeError(f"the gateway at {self.url} does not start")

    def stop(self, *, kill: bool = False) -> None:
        """Stop it; with *kill*, at once."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def end(self) -> None:
        self.stop(kill=True)
