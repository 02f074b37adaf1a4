"""What a look at one thing found."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

import msgspec

__all__ = ["Finding", "Verdict", "fine", "note", "problem", "skipped"]


class Verdict(Enum):
    """How it is."""

    OK = "ok"
    NOTE = "note"
    """Worth knowing; everything works."""
    PROBLEM = "problem"
    """Something does not work before it is mended."""
    SKIPPED = "skipped"
    """It could not be looked at, because of something else."""


class Finding(msgspec.Struct, frozen=True):
    """One line of the report."""

    name: str
    verdict: Verdict
    reason: str
    """What was found, in words for people."""
    repair: str = ""
    """What a person does about it."""
    account: str = ""
    fix: Callable[[], None] | None = None
    """Mends it safely; None: only a person can. Raises CloudfsError or OSError."""


def fine(name: str, reason: str, account: str = "") -> Finding:
    """Return that it is as it should be."""
    return Finding(name, Verdict.OK, reason, account=account)


def note(name: str, reason: str, repair: str = "", account: str = "") -> Finding:
    """Return something worth knowing."""
    return Finding(name, Verdict.NOTE, reason, repair, account)


def problem(
    name: str, reason: str, repair: str, account: str = "", fix: Callable[[], None] | None = None
) -> Finding:
    """Return what has to be mended."""
    return Finding(name, Verdict.PROBLEM, reason, repair, account, fix)


def skipped(name: str, reason: str, account: str = "") -> Finding:
    """Return that it could not be looked at."""
    return Finding(name, Verdict.SKIPPED, reason, account=account)
