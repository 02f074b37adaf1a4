"""What is read, and where its bytes may be kept: the words that the reading half of this room shares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import msgspec

from cloudfs.errors import Changed
from cloudfs.types import ContentVersion, Ino, Octets, RemotePath, RemoteVersion

__all__ = ["BlockCache", "FetchConfig", "Locate", "Source", "Whereabouts", "named"]

_MIB = 1024 * 1024


class Source(msgspec.Struct, frozen=True):
    """One version of one file as the server has it; its size is `remote.size`."""

    ino: Ino
    version: ContentVersion
    remote: RemoteVersion

    @property
    def size(self) -> int:
        """Bytes of this version."""
        return self.remote.size


class Whereabouts(NamedTuple):
    """Where a version is on the server now, and how the server names it now."""

    path: RemotePath
    remote: RemoteVersion
    """Not for ever that of the source: setting a file's time gives the same bytes another ETag."""
    in_doubt: bool = False
    """A request of ours may have moved it, or a folder above it; what became of that is being found out."""


Locate = Callable[[Source], Whereabouts]
"""Tells the whereabouts of a version. Raises Changed where the server has it no more."""


def named(source: Source, locate: Locate) -> str:
    """Return what people are told of a version: its path, where there still is one."""
    try:
        return locate(source).path
    except Changed:
        return f"a file that is gone (inode {source.ino})"


class BlockCache(Protocol):
    """The part of the block cache that reading needs: whole clean blocks, kept on disk until evicted.

    A block may disappear between any two calls.
    """

    def has(self, ino: Ino, version: ContentVersion, index: int) -> bool:
        """Tell whether the block is believed to be there; never touches the disk."""
        ...

    def missing(self, ino: Ino, version: ContentVersion, indexes: Sequence[int]) -> list[int]:
        """Return those of `indexes` that are not there, in order."""
        ...

    def held_bytes(self, ino: Ino, version: ContentVersion) -> int:
        """Return how much of one version is there."""
        ...

    async def get(self, ino: Ino, version: ContentVersion, index: int) -> bytes | None:
        """Return the whole block, None when it is gone or damaged."""
        ...

    async def put(self, ino: Ino, version: ContentVersion, index: int, data: Octets) -> object:
        """Keep a whole block. May evict others."""
        ...

    async def put_many(self, blocks: Sequence[tuple[Ino, ContentVersion, int, Octets]]) -> object:
        """Do as `put` for blocks that come together."""
        ...

    async def drop(self, ino: Ino, version: ContentVersion) -> None:
        """Forget all blocks of one version."""
        ...


class FetchConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How reading behaves. SOURCE of the figures: protocol.md §5: a request costs 25 ms + 1.8 ms per MiB."""

    small_file_bytes: int = 4 * _MIB
    """A file up to this size that is read from its start comes whole in one request."""
    first_window_bytes: int = 4 * _MIB
    """The first request of read-ahead; each next one is `window_growth` times as long, up to `max_window_bytes`."""
    window_growth: int = 4
    """Four and not two: every request costs a quick line a pause of 50 ms, and an abandoned one is stopped anyway."""
    max_window_bytes: int = 1024 * _MIB
    lookahead_bytes: int = 8 * _MIB
    """The next request starts at the latest when less than this lies ready or under way before the reader."""
    early_bytes: int = 40 * _MIB
    """As `lookahead_bytes`, once the latest request comes to its end: room for the next one's latency."""
    pace_bytes: int = 16 * _MIB
    """A request that is further ahead of its reader lets it go first for a moment."""
    transfers: int = 4
    """Requests at the same time, for the whole account."""
    background_transfers: int = 2
    """How many of them may be ones that no reader waits for."""
    idle_s: float = 1.0
    """A request whose reader shows no interest for so long is stopped."""
    nearly_done_bytes: int = 1 * _MIB
    nearly_done_s: float = 5.0
    """A request with no more than that left to come may go on for this long without interest."""
    turn_s: float = 1.0
    """After so long a request gives its place to a reader that waits for one."""
    longest_s: float = 15.0
    """One GET holds the server's read lock at most about this long; then another one goes on."""
    doubt_s: float = 7.0
    """How long a read that finds nothing waits for what became of a move of ours; then it fails with Unreachable."""
    pause_wait_s: float = 10.0
    """How long a read waits for an upload of the same file, ours or another client's, before it fails with Locked."""
    stores: int = 8
    """Blocks that are written to the block cache together, at most."""
    archive_bytes: int = 8 * _MIB
    archive_files: int = 100
    """At most so much is asked for in one archive: it is in memory twice before anything of it is kept."""
    recent_bytes: int = 20 * _MIB
    """Blocks that stay in memory once they are in the block cache: read lately, or about to be read."""
