"""What an engine is told before it begins: one account's folders and limits."""

from __future__ import annotations

from pathlib import Path

import msgspec

from cloudfs.blocks.sealing import Keys
from cloudfs.metadata.pinning import Defaults
from cloudfs.sync.appending import FROM_BYTES
from cloudfs.sync.eagerness import WorkerConfig

__all__ = ["EngineConfig"]


class EngineConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One account's folders and limits."""

    state: Path
    """Folder of the database and the staging files."""
    cache: Path
    """Folder of the clean blocks; may be deleted while nothing is mounted."""
    cache_bytes: int
    cache_keep_free_bytes: int
    memory_bytes: int = 64 * 1024 * 1024
    listing_ttl_s: float = 5.0
    poll_s: float = 30.0
    """The account is looked at for what others changed as often as this while it is in use; 0: each folder on use."""
    reserve_bytes: int = 16 * 1024 * 1024
    """Allocated for the database's log beforehand, and as much kept free of changed files."""
    delete_guard: int = 100
    """So many nodes may vanish on the server at once without anybody being asked; 0: any number."""
    delete_guard_server: int = 1000
    """So many nodes may be deleted on the server at once without anybody being asked; 0: any number."""
    append_bytes: int = FROM_BYTES
    """Of a file that was at least so large and only grew at its end, the tail alone is sent."""
    keys: Keys | None = None
    """Everything in the two folders is sealed with them; None: it is plain."""
    keep: Defaults = Defaults()
    """What is always kept here of all that nobody said anything else about."""
    worker: WorkerConfig = WorkerConfig()
