"""What programs use: the operations over all of it, and how much room they are told of."""

from __future__ import annotations

from cloudfs.engine.ground import Ground
from cloudfs.engine.reading import Reading
from cloudfs.engine.server import Server
from cloudfs.engine.tree import Shown
from cloudfs.metadata.quota import Quota
from cloudfs.remote.protocol import Features
from cloudfs.vfs.filesystem import FileSystem
from cloudfs.vfs.records import Space

__all__ = ["make_filesystem"]

_UNKNOWN_SPACE = 1 << 50
"""Shown where the server names no limit: one pebibyte free."""


def make_filesystem(ground: Ground, server: Server, reading: Reading, shown: Shown) -> FileSystem:
    """Make it; nothing is asked for yet."""
    nodes, remote, quota = ground.store.nodes, server.remote, server.quota
    return FileSystem(
        ground.store,
        shown.tree,
        shown.lister,
        reading.files,
        ground.residents,
        new_pattern=reading.fetcher.pattern,
        space=lambda: _space(quota, remote.features),
        may_be_free=lambda: nodes.bytes_to_leave() if quota.is_sure() else _UNKNOWN_SPACE,
    )


def _space(quota: Quota, features: Features) -> Space:
    """Return what statfs tells, from memory.

    SOURCE: Nextcloud's QuotaPlugin, from 29 to 34, compares the whole length of a PUT, of pieces and of what they are
    put together to with what is free (measured for each of them on 29.0.1).
    """
    name_bytes = features.name_rules.new_file_bytes
    known = quota.space()
    if known is None:
        return Space(total=_UNKNOWN_SPACE, free=_UNKNOWN_SPACE, name_bytes=name_bytes, limited=False)
    return Space(
        total=known.free + known.used, free=known.free, name_bytes=name_bytes, whole=features.nextcloud
    )
