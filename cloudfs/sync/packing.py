"""Makes a file's present content ready to be sent: exactly these bytes, to exactly this place.

The order that makes it safe: seal the content (later writes go elsewhere) → make it whole → hash it. What only grew at
its end is not made whole: its tail is hashed. Whoever holds a
package sends it and commits what the server made of it; then the staging file is given up.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import msgspec

from cloudfs.concurrency.killpoints import reached
from cloudfs.content.fetch import Fetcher
from cloudfs.content.files import Files
from cloudfs.content.layers import FileContent, Layer
from cloudfs.content.outgoing import Outgoing
from cloudfs.errors import ParentMissing
from cloudfs.metadata.columns import NS
from cloudfs.metadata.residents import Residents
from cloudfs.paths import join
from cloudfs.remote.dialect import clamp_mtime
from cloudfs.store.records import Node
from cloudfs.store.store import Store
from cloudfs.sync.appending import Appending
from cloudfs.sync.steps import Upload
from cloudfs.types import ContentVersion, Ino, RemotePath, RemoteVersion

__all__ = ["Contents", "Package", "Packer", "Parcel", "apart"]

_EMPTY_SHA1 = "SHA1:da39a3ee5e6b4b0d3255bfef95601890afd80709"


@dataclass(frozen=True)
class Contents:
    """Where the bytes of files are, from where they go to the server."""

    files: Files
    outgoing: Outgoing
    fetcher: Fetcher
    appending: Appending


class Parcel(msgspec.Struct, frozen=True):
    """One exact content on its way to one exact place."""

    node: Node
    onto: Node | None
    place: tuple[Ino, str]
    path: RemotePath
    version: ContentVersion
    size: int
    checksum: str
    mtime_ns: int
    mtime_s: int
    base_bytes: int = 0
    """So many at the beginning the server has; then `checksum` is the proof of the others."""

    @property
    def base(self) -> Node | None:
        """The node whose file on the server is overwritten; None for a new file."""
        return self.onto or (self.node if self.node.synced else None)


class Package:
    """A parcel and its sealed bytes. `delivered` is set by whoever has committed what became of it."""

    def __init__(self, parcel: Parcel, layer: Layer | None) -> None:
        self.parcel = parcel
        self.layer = layer
        """None: there are no bytes."""
        self.delivered: RemoteVersion | None = None


class Packer:
    """Packs for `Upload` steps. `collect` drops a node that nobody needs any more."""

    def __init__(
        self,
        store: Store,
        contents: Contents,
        residents: Residents,
        collect: Callable[[Ino], None],
    ) -> None:
        self._nodes = store.nodes
        self._appending = contents.appending
        self._files = contents.files
        self._outgoing = contents.outgoing
        self._residents = residents
        self._collect = collect
        self.committed: Callable[[], None] = lambda: None
        """Called when the server has something, which then is still made into clean blocks."""

    @asynccontextmanager
    async def packed(self, step: Upload) -> AsyncIterator[Package | None]:
        """Hold the node's present content; None where there is nothing to send any more.

        At the end the bytes of what was delivered become clean blocks, and others are there to be written further.
        """
        async with (
            self.held(step.node) as content,
            self._sealed(step, content, await self._outgoing.seal(content)) as package,
        ):
            yield package

    @asynccontextmanager
    async def held(self, node: Node) -> AsyncIterator[FileContent]:
        """Hold a node's content like an open file: unlinked meanwhile, it must not vanish. Raises LocalDamage."""
        self._residents.opened(node.ino)
        try:
            content = await self._files.acquire(node)
            try:
                yield content
            finally:
                self._files.release(content)
        finally:
            if self._residents.closed(node.ino):
                self._collect(node.ino)

    @asynccontextmanager
    async def _sealed(
        self, step: Upload, content: FileContent, layer: Layer | None
    ) -> AsyncIterator[Package | None]:
        package = None
        try:
            node = self._nodes.get(step.node.ino)
            changed = node is None or (layer is not None and node.version != layer.version)
            if node is not None and not changed and (layer is not None or not content.size):
                package = Package(await self._parcel(step, node, layer), layer)
            yield package
        finally:
            if layer is not None and (package is None or package.delivered is None):
                self._outgoing.unseal(layer)
        if layer is not None and package is not None and package.delivered is not None:
            reached("upload committed")
            self.committed()
            await self._outgoing.settle(content, layer, package.delivered)

    def chunks(self, package: Package, start: int = 0) -> AsyncIterator[bytes]:
        """Return the package's bytes from `start` on."""
        return self._outgoing.chunks(package.layer, start)

    async def _parcel(self, step: Upload, node: Node, layer: Layer | None) -> Parcel:
        base = step.onto or (node if node.synced else None)
        mtime_s = node.mtime_ns // NS
        if base is not None:
            mtime_s = apart(mtime_s, base.remote_version)
        checksum, base_bytes = _EMPTY_SHA1, 0
        if layer is not None:
            base_bytes = self._appending.base_bytes(node, step.onto, layer)
            checksum = await self._proof(layer, base_bytes, mtime_s)
        place, path = self._place(step)
        size = 0 if layer is None else layer.size
        version = node.version if layer is None else layer.version
        return Parcel(
            step.node, step.onto, place, path, version, size, checksum, node.mtime_ns, mtime_s, base_bytes
        )

    async def _proof(self, layer: Layer, base_bytes: int, mtime_s: int) -> str:
        if base_bytes:
            await self._outgoing.gather(layer)
            return await self._outgoing.tail_proof(layer, base_bytes, clamp_mtime(mtime_s))
        return await self._outgoing.whole_checksum(layer)

    def _place(self, step: Upload) -> tuple[tuple[Ino, str], RemotePath]:
        owner = step.onto or step.node
        if owner.synced:
            assert owner.s_parent is not None  # noqa: S101  # synced
            assert owner.s_name is not None  # noqa: S101  # synced
            place = owner.s_parent, owner.s_name
        else:
            assert owner.parent is not None  # noqa: S101  # planned for linked nodes only
            place = owner.parent, owner.name
        folder = self._nodes.synced_path(place[0])
        if folder is None:
            raise ParentMissing("its folder is not on the server yet", subject=place[1])
        return place, join(folder, place[1])


def apart(mtime_s: int, base: RemoteVersion) -> int:
    """Return a time in another second than the base's: in the same one Nextcloud keeps the old ETag.

    Of times before what it takes all are the same second there. SOURCE: measured on Nextcloud 29.0.1, whatever the
    sizes are.
    """
    taken_s = clamp_mtime(mtime_s)
    return taken_s + 1 if base.modified_s == taken_s else mtime_s
