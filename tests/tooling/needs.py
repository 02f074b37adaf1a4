"""What a test needs from the machine. Missing: skipped at a desk, a failure where CI=true."""

from __future__ import annotations

import os
import shutil
import sys
from typing import NoReturn

import pytest

__all__ = ["check_needs", "find_program", "in_ci", "missing", "need"]

PEERS = {"apache": "apache2", "rclone": "rclone"}
"""Servers of `@pytest.mark.server(name)` that are programs of their own; the others are part of the suite."""

ACCOUNT_VARIABLES = ("CLOUDFS_TEST_URL", "CLOUDFS_TEST_USER", "CLOUDFS_TEST_PASSWORD_FILE")
SHARER_VARIABLES = ("CLOUDFS_TEST_SHARER", "CLOUDFS_TEST_SHARER_PASSWORD_FILE")
"""A second account of the real server, for what takes two people."""


def in_ci() -> bool:
    """Tell whether this is CI. `scripts/test` hides CI from pytest, which it makes spell out every difference.

    Two files of 3 MB that differ took it more than two minutes and ended the whole run.
    """
    return "true" in {os.environ.get("CI"), os.environ.get("CLOUDFS_CI")}


def missing(what: str) -> NoReturn:
    """Skip the test for want of `what`; fail it in CI, where nothing may be missing."""
    if in_ci():
        pytest.fail(f"missing, and nothing may be in CI: {what}", pytrace=False)
    pytest.skip(f"missing: {what}")


def need(program: str) -> None:
    """Skip at a desk without the program; scripts/setup installs it for CI."""
    if find_program(program) is None:
        missing(f"the program {program} (scripts/setup --tests installs it)")


def find_program(name: str) -> str | None:
    """Return the path of a program: of this .venv, of PATH, or a server's (/usr/sbin is not in every PATH)."""
    folders = (f"{sys.prefix}/bin", os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin")
    return shutil.which(name, path=os.pathsep.join(folders))


def check_needs(item: pytest.Item) -> None:
    """Skip or fail the test where its markers name what is not here."""
    if item.get_closest_marker("mount") and (reason := fuse_problem()):
        missing(reason)
    for marker in item.iter_markers("server"):
        for name in marker.args:
            if name in PEERS and find_program(PEERS[name]) is None:
                missing(f"the program {PEERS[name]} (scripts/setup --tests installs it)")
    if item.get_closest_marker("real_nextcloud") and not all(map(os.environ.get, ACCOUNT_VARIABLES)):
        pytest.skip(f"only with {', '.join(ACCOUNT_VARIABLES)} set")


def fuse_problem() -> str | None:
    """Say why nothing can be mounted here; None when it can."""
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return f"/dev/fuse ({error.strerror})"
    return None if find_program("fusermount3") else "fusermount3 (Debian's package fuse3)"
