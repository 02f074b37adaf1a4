"""Sends a file's content, exactly once and onto exactly what it was made from.

The order that makes it safe: seal the content (later writes go elsewhere) → make it whole → hash it → note the
attempt in the store → send with a precondition → commit the new synced view → give up the staging file.

Of what only grew at its end the tail alone is sent (`appending`). Its base is needed until it is known what became of
that, so it is found out before anything else of the file is sent.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec

from cloudfs.content.layers import FileContent, Layer
from cloudfs.content.source import Source
from cloudfs.content.tails import is_tail_proof
from cloudfs.errors import LocalDamage, Unsupported
from cloudfs.metadata.columns import version_columns
from cloudfs.metadata.residents import Residents
from cloudfs.remote.protocol import Remote
from cloudfs.store.records import Attempt, Node
from cloudfs.store.store import Store
from cloudfs.sync.committing import Committer, stored_as, told_time_ns
from cloudfs.sync.conflict import Conflicts
from cloudfs.sync.delivery import Delivery
from cloudfs.sync.doubts import Doubts
from cloudfs.sync.evidence import Evidence, base_content
from cloudfs.sync.packing import Contents, Packer, Parcel
from cloudfs.sync.rescuing import Rescuer
from cloudfs.sync.steps import Upload
from cloudfs.types import ContentVersion, Ino, RemoteEntry, RemoteVersion

__all__ = ["Uploader"]


class Uploader:
    """Carries out `Upload` steps."""

    def __init__(  # it takes part in all that happens to a file
        self,
        store: Store,
        remote: Remote,
        contents: Contents,
        residents: Residents,
        conflicts: Conflicts,
        doubts: Doubts,
        packer: Packer,
        committer: Committer,
    ) -> None:
        self._store = store
        self._nodes = store.nodes
        self._remote = remote
        self._files = contents.files
        self._outgoing = contents.outgoing
        self._residents = residents
        self._evidence = Evidence(remote)
        self._rescuer = Rescuer(store, remote, contents.outgoing)
        self._appending = contents.appending
        self._packer = packer
        self._committer = committer
        self._delivery = Delivery(store, remote, contents, conflicts, doubts, committer, packer)
        self.is_left_over = self._delivery.torn.is_left_over
        self.breaks = self._delivery.breaks

    def tell_committed(self, told: Callable[[], None]) -> None:
        """Have this called each time that the server has something, which may still be made into clean blocks."""
        self._packer.committed = told

    async def upload(self, step: Upload) -> None:
        """Send the node's present content and commit what the server made of it.

        Raises RemoteError; then nothing is lost and the next plan says what is still to do.
        """
        if await self.tail_arrived(step.node) or (
            step.onto is not None and await self.tail_arrived(step.onto)
        ):
            return
        if step.onto is not None and await self._cleared_behind(step.node):
            return  # the next plan goes on from that
        if step.onto is not None and (step.onto.linked or self._residents.is_open(step.onto.ino)):
            # Whoever still reads the old file keeps its bytes, and so does a local-only name that it has now (`a~`):
            # the server is about to lose them.
            await self._rescuer.rescue(step.onto)
        if step.onto is not None and not step.node.content_dirty and step.node.size:
            # It is on the server elsewhere (`was_temporary`). Once it is all here, it is sent as if written here.
            await self._outgoing.keep(step.node)
            return
        try:
            await self._send(step)
        except Unsupported:
            if not self._appending.is_refused(step.node.ino):
                raise
            await self._send(step)  # whole, this time

    async def _send(self, step: Upload) -> None:
        async with self._packer.packed(step) as package:
            if package is not None:
                package.delivered = await self._delivery.deliver(package.parcel, package.layer)

    async def tail_arrived(self, node: Node) -> bool:
        """Find out whether a tail arrived of which no answer came; then it is committed, and to be planned on from.

        Without that its base, which is gone from the server by then, would be looked for in vain. Raises RemoteError.
        """
        path = self._nodes.synced_path(node.ino)
        current = self._nodes.get(node.ino)
        if path is None or current is None or current.s_parent is None or current.s_name is None:
            return False
        if not self._store.has_tail_attempt(node.ino):
            return False
        entry = await self._evidence.look(path)
        if entry is None or entry.version.same_content(current.remote_version):
            return False
        return await self.recognise(current, (current.s_parent, current.s_name), entry)

    # An upload whose reply was lost

    async def recognise(self, node: Node, place: tuple[Ino, str], entry: RemoteEntry) -> bool:
        """Commit an earlier upload of a node to `place`, if what stands there comes from it; else change nothing.

        What was written since stays to be sent. Raises RemoteError.
        """
        contents = self._store.attempts(node.ino)
        contents += base_content(node) if place == (node.s_parent, node.s_name) else []
        attempt = await self._evidence.sent(entry, contents)
        if attempt is None:
            return False
        async with self._frozen(node) as content:
            checksum = await self._delivery.shown_checksum(attempt.checksum, entry)
            current = self._nodes.get(node.ino)
            if current is None:
                return False
            parcel = self._parcel_of(attempt, current, place, entry)
            if is_tail_proof(attempt.checksum) and not self._is_as_sent(attempt):
                self._rebase(content, parcel, entry, checksum)
            else:
                version = self._committer.commit(parcel, stored_as(entry), checksum)
                await self._settle(content, parcel.version, version)
        return True

    # What a cut upload has left where nothing is to go up any more

    async def _cleared_behind(self, node: Node) -> bool:
        """Clear what a cut try left in the place that a file is about to leave for that of another one."""
        path = self._nodes.synced_path(node.ino)
        if path is None or node.s_parent is None or node.s_name is None or not self._store.attempts(node.ino):
            return False
        entry = await self._evidence.look(path)
        if entry is None or entry.version.same_content(node.remote_version):
            return False
        return await self.clear(node, (node.s_parent, node.s_name), entry)

    async def clear(self, node: Node, place: tuple[Ino, str], entry: RemoteEntry) -> bool:
        """Clear what a cut try of the node's left at a place that it leaves; False where it may be another client's.

        Of a file that the server had there before it counts as the version from now on: that is moved, removed or
        written over next. Raises RemoteError.
        """
        if not await self.is_left_over(node, place, entry):
            return False
        owner = self._nodes.synced_child(*place)
        if owner is None:
            await self._remote.delete(entry.path, expect=entry.version)
        elif owner.content_dirty or not owner.linked:
            self._nodes.update(owner.ino, s_version=-1, **version_columns(entry.version))
        return True

    @asynccontextmanager
    async def _frozen(self, node: Node) -> AsyncIterator[FileContent | None]:
        """Hold a content that may turn out to be the server's: what is written from now on is a change of that.

        None: nobody will write it, as its bytes go with its row, or are lost.
        """
        if not node.linked and not self._residents.is_open(node.ino):
            yield None
            return
        try:
            content = await self._files.acquire(node)
        except LocalDamage:
            yield None
            return
        try:
            layer = await self._outgoing.seal(content)
            try:
                yield content
            finally:
                now = self._nodes.get(node.ino)
                if layer is not None and (now is None or now.s_version != layer.version):
                    self._outgoing.unseal(layer)
        finally:
            self._files.release(content)

    def _parcel_of(self, attempt: Attempt, node: Node, place: tuple[Ino, str], entry: RemoteEntry) -> Parcel:
        there = self._nodes.synced_child(*place)
        return Parcel(
            node=node,
            onto=None if there is None or there.ino == node.ino else there,
            place=place,
            path=entry.path,
            version=self._version_of(attempt),
            size=attempt.size,
            checksum=attempt.checksum,
            mtime_ns=told_time_ns(node, entry, sets_mtime=self._remote.features.sets_mtime),
            mtime_s=entry.version.modified_s,
        )

    def _rebase(
        self, content: FileContent | None, parcel: Parcel, entry: RemoteEntry, checksum: str | None
    ) -> None:
        """A tail arrived that was written further: what stood on its base stands on what the server has now."""
        old = parcel.node.s_version
        with self._store.transaction():
            version = self._nodes.next_version()
            remote = self._committer.commit(
                msgspec.structs.replace(parcel, version=version), stored_as(entry), checksum
            )
            if content is not None:
                self._outgoing.rebase(content, old, Source(parcel.node.ino, version, remote))

    def _is_as_sent(self, attempt: Attempt) -> bool:
        row = self._store.staged(attempt.ino, attempt.version)
        return row is not None and (row.size, row.checksum) == (attempt.size, attempt.checksum)

    def _version_of(self, attempt: Attempt) -> ContentVersion:
        """Return the content version of what was sent; -1, which is none, where it was written over since."""
        gone = self._store.staged(attempt.ino, attempt.version) is None
        return attempt.version if gone or self._is_as_sent(attempt) else ContentVersion(-1)

    async def _settle(
        self, content: FileContent | None, version: ContentVersion, remote: RemoteVersion
    ) -> None:
        """Give up the staging file of a content that the server has."""
        layer = None if content is None else content.top
        while isinstance(layer, Layer) and layer.version != version:
            layer = layer.base
        if content is not None and isinstance(layer, Layer):
            await self._outgoing.settle(content, layer, remote)
