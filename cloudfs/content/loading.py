"""Puts a file's content together from what the rows say of it: its layers, and what they stand on."""

from __future__ import annotations

import msgspec

from cloudfs.blocks.staging import StagedFile, Staging
from cloudfs.content.layers import Layer
from cloudfs.content.source import Source
from cloudfs.errors import Changed, LocalDamage
from cloudfs.ranges import RangeSet
from cloudfs.store.records import Node, StagedRow
from cloudfs.store.store import Store
from cloudfs.types import ContentVersion

__all__ = ["Loader"]


class Loader:
    """One store's."""

    def __init__(self, store: Store, staging: Staging) -> None:
        self._store = store
        self._staging = staging

    async def load(self, node: Node) -> Layer | Source | None:
        """Return what a node's content is made of, None for nothing.

        Raises LocalDamage when a staging file that the store knows of is missing, Changed for a version that was only
        on the server.
        """
        top = await self._load(node, node.version)
        self._reread_safe(top)
        return top

    async def _load(self, node: Node, version: ContentVersion) -> Layer | Source | None:
        rows: list[StagedRow] = []
        while (row := self._store.staged(node.ino, version)) is not None:
            if any(version == above.version for above in rows):
                raise LocalDamage(f"{node.name}: its changes stand on each other")
            rows.append(row)
            version = row.base
        # There may be any number of them: from the lowest up, and not each within the one on top of it.
        found: Layer | Source | None = self._ground(node, rows[-1]) if rows else self._clean(node)
        for row in reversed(rows):
            found = await self._layer(node, row, found)
        return found

    async def _layer(self, node: Node, row: StagedRow, base: Layer | Source | None) -> Layer:
        layer = Layer(
            node.ino,
            row.version,
            await self._open_staged(row),
            size=row.size,
            base=base,
            base_limit=row.base_limit,
            present=RangeSet.unpack(row.present),
            row=row,
        )
        if row.version == node.s_version:
            # The server has it already (we died before the staging file was given up): a write must
            # begin a new version, or nobody would know that there is something to send.
            layer.seals, layer.remote = 1, node.remote_version
        return layer

    @staticmethod
    def _clean(node: Node) -> Source | None:
        """Return the content of a node of which nothing is staged."""
        version = node.version
        if version == 0:
            return None
        if node.size == 0:
            # A version like any other: a content that forgets its version would be loaded twice, and written twice.
            return Source(node.ino, version, msgspec.structs.replace(node.remote_version, size=0))
        if not node.linked and not node.synced:
            raise Changed("the version that was opened is not on the server any more", subject=node.name)
        if version != node.s_version:
            msg = f"{node.name}: its changed content is missing from the staging folder"
            raise LocalDamage(msg)
        return Source(node.ino, version, node.remote_version)

    @staticmethod
    def _ground(node: Node, row: StagedRow) -> Source | None:
        """Return what the lowest layer stands on; LocalDamage rather than zeros where that is not known any more."""
        if row.base_remote is not None:
            return Source(node.ino, row.base, row.base_remote)
        if RangeSet.unpack(row.present).covers(0, min(row.base_limit, row.size)):
            return None
        if row.base == node.s_version:
            return Source(node.ino, row.base, node.remote_version)
        msg = f"{node.name}: the version that it was edited from is missing"
        raise LocalDamage(msg)

    async def _open_staged(self, row: StagedRow) -> StagedFile:
        try:
            return await self._staging.open(row.ino, row.version, RangeSet.unpack(row.present))
        except LocalDamage:
            if row.present:
                raise
            # The row was written, then its file could not be made: nothing was promised for it yet.
            return await self._staging.create(row.ino, row.version)

    def _reread_safe(self, top: Layer | Source | None) -> None:
        """Take over what was put on the disk while a content was loaded; before, nobody told it. NO CHECKPOINT."""
        while isinstance(top, Layer):
            row = self._store.staged(top.ino, top.version)
            if row is not None:
                top.safe = row.safe
            top = top.base
