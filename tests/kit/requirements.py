"""What a test needs beyond the package: packages, commands, and what to do without them."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import NoReturn

import pytest


def require(*modules: str) -> None:
    """Skip the test (or the test module) if a module is not installed; see `unavailable`."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            unavailable(f"the package {module} is not installed")


def require_command(*commands: str) -> None:
    """Skip the test if a command is not on the path; see `unavailable`."""
    for command in commands:
        if shutil.which(command) is None:
            unavailable(f"the command {command} is not installed")


def npm_install(package: str, folder: Path) -> str | None:
    """Install *package* of npm into *folder*; None, or why it cannot be had."""
    options = ["--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline"]
    options += ["--fetch-retries=1", "--fetch-retry-mintimeout=1000"]
    command = ["npm", "install", "--prefix", str(folder), *options, package]
    try:
        result = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=100, check=False
        )
    except subprocess.TimeoutExpired:
        return f"npm install {package} did not end"
    if result.returncode != 0:
        return f"npm install {package} failed: {result.stderr.strip()[:200]!r}"
    return None


def installation() -> Distribution:
    """The package as it is installed, with its metadata; without it, see `unavailable`."""
    try:
        return distribution("registry-wsgi")
    except PackageNotFoundError:
        unavailable("registry-wsgi is not installed")


def unavailable(reason: str) -> NoReturn:
    """Skip the test, or fail it where REGISTRY_WSGI_REQUIRE_LIVE=1 says that nothing is to lack."""
    if os.environ.get("REGISTRY_WSGI_REQUIRE_LIVE") == "1":
        pytest.fail(reason)
    pytest.skip(reason, allow_module_level=True)
