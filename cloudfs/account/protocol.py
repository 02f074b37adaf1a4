"""One account at work, as the daemon offers it to the kernel and to the control socket.

`composing` puts it together from the account's settings; `AtWork` is all that the daemon knows of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import msgspec

from cloudfs import config
from cloudfs.control.methods import Method
from cloudfs.control.pinning import KeptState
from cloudfs.control.protocol import (
    Blocked,
    ConflictPair,
    Damaged,
    Decide,
    Decided,
    HeldDeletions,
    LoggedIn,
    Resolution,
)
from cloudfs.control.records import Limits, Space, Transfer
from cloudfs.fuse.announcing import Names
from cloudfs.fuse.filesystem import FileSystem
from cloudfs.fuse.operations import KernelCaching
from cloudfs.fuse.readers import Readers
from cloudfs.fuse.xattrs import Xattrs
from cloudfs.metadata.changes import ChangeSink
from cloudfs.remote.limiting import Traffic
from cloudfs.vault.opening import Opened

__all__ = ["AtWork", "Compose", "Facts", "Launch"]


class Launch(msgspec.Struct, frozen=True):
    """One account, about to be mounted."""

    name: str
    account: config.Account
    folders: config.Folders
    opened: Opened | None = None
    """Its state and keys; None: plain, in the account's own folder."""


class Facts(msgspec.Struct, frozen=True):
    """What only the engine knows of a status."""

    state: str
    reason: str
    pending: int
    in_flight: int
    blocked: list[Blocked]
    conflicts: int
    cache_bytes: int
    pending_bytes: int = 0
    deletions: list[HeldDeletions] = []
    since: float | None = None
    damaged: list[Damaged] = []
    wipe_asked: bool = False
    changes: str = "on use"
    changes_since: float = 0.0
    paused_since: float | None = None
    transfers: list[Transfer] = []
    space: Space | None = None
    used_bytes: int | None = None
    cache_limit_bytes: int = 0
    server: str = ""
    kept: KeptState = KeptState()
    limits: Limits = Limits()
    cache_hits: int = 0
    cache_misses: int = 0
    encrypted: str = ""
    untrusted: bool = False


class AtWork(Protocol):
    """An account whose engine runs, as far as the daemon needs it."""

    @property
    def filesystem(self) -> FileSystem:
        """What is mounted."""
        ...

    def facts(self) -> Facts:
        """Answer at once, from memory and the local database."""
        ...

    async def wait_synced(self, path: str) -> list[Blocked]:
        """Return once everything below `path` is on the server or blocked; UserError: no such path."""
        ...

    async def pending_below(self, path: str) -> int:
        """Count what is not on the server yet, in parts: programs go on meanwhile."""
        ...

    def in_flight(self) -> int:
        """Count the changes that are being sent; answers at once."""
        ...

    def conflicts(self) -> list[ConflictPair]:
        """Answer at once, from the local database."""
        ...

    async def resolve(self, path: str, decision: Resolution) -> None:
        """Carry out a decision about a conflict; UserError when nothing was done."""
        ...

    async def decide_deletions(self, wanted: Decide) -> Decided:
        """Carry out the answer about deletions that wait; UserError when none do."""
        ...

    async def log_in(self) -> LoggedIn:
        """Go on with the password that is kept now; UserError where it cannot be used."""
        ...

    async def wait_for_wipe(self) -> str:
        """Return once the server wants everything of the account removed from this device: with the app password."""
        ...

    @property
    def traffic(self) -> Traffic:
        """What went over the account's connections."""
        ...

    def reload(self) -> object:
        """Take over what the account's file says now; UserError BAD_CONFIG where it is wrong."""
        ...

    @property
    def methods(self) -> Mapping[str, Method]:
        """Requests that are answered from the engine alone, by name."""
        ...

    @property
    def xattrs(self) -> Xattrs | None:
        """What files have as extended attributes; None: nothing."""
        ...

    @property
    def readers(self) -> Readers | None:
        """Hears who reads what; None: nobody wants to know."""
        ...

    @property
    def names(self) -> Names | None:
        """The tree, for announcing what others change in it; None: nothing is announced."""
        ...


Compose = Callable[[Launch, ChangeSink, KernelCaching], AbstractAsyncContextManager[AtWork]]
