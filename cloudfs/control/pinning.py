"""What the control protocol says about files that are always kept here."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

__all__ = ["Keep", "KeptState", "Missing", "PinMoved", "PinRow", "PinWord", "Pinned", "Pins"]

PinWord = Literal["always-local", "online-only"]


class Keep(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of pin."""

    path: str
    """In the mount, beginning with /."""
    pin: PinWord | None
    """What is to hold for it, and all below it, from now on; None: what holds for the folder above."""
    wait: bool = False
    """Answer when all of it is here, or cannot come."""
    timeout_s: Annotated[float, msgspec.Meta(ge=0, le=31 * 86400)] | None = None


class Missing(msgspec.Struct, frozen=True):
    """A file that is to be here and cannot be brought."""

    path: str
    """In the mount, beginning with /."""
    missing_bytes: int
    reason: str
    next_step: str


class PinMoved(msgspec.Struct, frozen=True):
    """Event of pin: what is still to come, or was given back so far."""

    files: int
    bytes: int


class Pinned(msgspec.Struct, frozen=True, kw_only=True):
    """Result of pin: what holds for a path now, and what is here of it."""

    path: str
    pin: PinWord | None
    """What holds by somebody's word; None: nobody said anything."""
    by: str | None
    """About which path that was said: this one, or a folder above it."""
    by_default: bool
    """Nobody said anything, and the account's settings have it kept here."""
    files: int
    """That are to be here."""
    bytes: int
    missing_files: int
    missing_bytes: int
    unknown_folders: int
    """Folders of which nobody knows yet what is in them."""
    short_bytes: int = 0
    """So much of what is missing has no room on the disk."""
    freed_files: int = 0
    freed_bytes: int = 0
    changed: int = 0
    """Files that were not freed: they have changes that the server does not have yet."""
    cannot: list[Missing] = []
    """Some of the files that cannot be brought."""
    cannot_files: int = 0
    timed_out: bool = False

    @property
    def here(self) -> bool:
        """All of it is here."""
        return not (self.missing_files or self.unknown_folders)


class KeptState(msgspec.Struct, frozen=True, kw_only=True):
    """Part of status: all that is always kept here."""

    files: int = 0
    bytes: int = 0
    missing_files: int = 0
    missing_bytes: int = 0
    unknown_folders: int = 0
    under_way: list[str] = []
    """Paths of what is being brought."""
    cannot: list[Missing] = []
    """Some of the files that cannot be brought."""
    cannot_files: int = 0
    cannot_bytes: int = 0


class PinRow(msgspec.Struct, frozen=True):
    """One word about a path."""

    path: str
    pin: PinWord


class Pins(msgspec.Struct, frozen=True, kw_only=True):
    """Result of pins: all that was said."""

    pins: list[PinRow]
    defaults: list[str]
    """Folders that the account's settings have kept here, of what nobody said anything else about."""
    defaults_most_bytes: int | None = None
    """But no larger files."""
