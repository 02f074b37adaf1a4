"""Decides which contents go up as their tail alone, the server making the rest of them from what it has.

    appended to a version that the server has, all of it unchanged
    that version has a checksum, and is not small
    the server has not refused it for this file

The checksum is what the version is known by, beside ETag and size: another content with the same ETag (protocol.md
§3.2) has another one, or none. The server is asked to compute that of what it made, so that the next tail may follow.
"""

from __future__ import annotations

import logging

from cloudfs.content.checksums import can_check
from cloudfs.content.layers import Layer
from cloudfs.content.tails import appended_to
from cloudfs.errors import Changed, RemoteError
from cloudfs.remote.protocol import Remote
from cloudfs.store.records import Node
from cloudfs.types import Ino, RemotePath, RemoteVersion

__all__ = ["FROM_BYTES", "Appending"]

_log = logging.getLogger(__name__)

FROM_BYTES = 4 * 1024 * 1024
"""A smaller base goes up again. COPY, two looks and PATCH cost the server 0.2 s of CPU (a COPY of 64 MiB 0.07 s more
than one of 4 KiB) and four round trips; to have that many bytes down and up takes a line of 100 Mbit/s 0.7 s. On the
loopback it pays from 16 MiB on. SOURCE: measured on 29.0.1, and protocol.md §16."""
_MOST_REMEMBERED = 10_000


class Appending:
    """What one account knows about it."""

    def __init__(self, remote: Remote, from_bytes: int = FROM_BYTES) -> None:
        self._remote = remote
        self._from_bytes = from_bytes
        self._refused: set[Ino] = set()

    def base_bytes(self, node: Node, onto: Node | None, layer: Layer) -> int:
        """Return how many bytes at the beginning of a content are for the server to copy; 0: none, all is sent."""
        if (
            onto is not None
            or not node.synced
            or node.ino in self._refused
            or not self._remote.features.appends
        ):
            return 0
        base = appended_to(layer)
        if base is None or base.size < self._from_bytes or base.version != node.s_version:
            return 0
        same = base.remote == node.remote_version
        return base.size if same and can_check(base.remote.checksum) else 0

    def refuse(self, node: Node) -> None:
        """Send this file whole from now on: the server does not do it where it lies."""
        if len(self._refused) > _MOST_REMEMBERED:
            self._refused.clear()
        self._refused.add(node.ino)
        _log.info("%s goes up whole: the server does not take its tail alone", node.name)

    def is_refused(self, ino: Ino) -> bool:
        """Tell whether a file is sent whole for that reason."""
        return ino in self._refused

    async def hashed(self, path: RemotePath, version: RemoteVersion) -> str | None:
        """Return the server's checksum of what it made of a tail; None where it computes none.

        Raises RemoteError where it may have done so all the same: then ask again, the checksum belongs to the version.
        """
        if version.checksum is not None:
            return version.checksum
        try:
            return await self._remote.have_hashed(path, version)
        except Changed:
            return None  # by another client since; a listing tells
        except RemoteError as error:
            if error.temporary:
                raise
            return None
