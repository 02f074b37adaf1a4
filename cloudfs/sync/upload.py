"""Sends a file's content, exactly once and onto exactly what it was made from.

The order that makes it safe: seal the content (later writes go elsewhere) → make it whole → hash it → note the
attempt in the store → send with a precondition → commit the new synced view → give up the staging file.

Of what only grew at its end the tail alone is sent (`appending`). Its base is needed until it is known what became of
that, so it is found out before anything else of the file is sent.

A refused precondition is looked at before it is called a conflict: the server may have what we sent earlier,
whose reply got lost (protocol.md, rule 15), or the very same bytes from somebody else.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec

from cloudfs.concurrency.killpoints import reached
from cloudfs.content.layers import FileContent, Layer
from cloudfs.content.source import Source
from cloudfs.content.tails import is_tail_proof
from cloudfs.errors import AlreadyExists, Changed, LocalDamage, NotFound, Unsupported
from cloudfs.metadata.residents import Residents
from cloudfs.metadata.takeover import NS, version_columns
from cloudfs.remote.protocol import Body, Condition, Remote
from cloudfs.store.records import Attempt, Node
from cloudfs.store.store import Store
from cloudfs.sync.blindspots import BlindSpots
from cloudfs.sync.conflict import Conflicts
from cloudfs.sync.doubts import Doubts
from cloudfs.sync.evidence import Evidence, base_content
from cloudfs.sync.keeping import Keeper
from cloudfs.sync.packing import Contents, Packer, Parcel, apart
from cloudfs.sync.steps import Upload
from cloudfs.types import ContentVersion, Ino, RemoteEntry, RemoteVersion, Stored

__all__ = ["MUCH_BYTES", "Uploader"]

_TRIES = 3
MUCH_BYTES = 16 * 1024 * 1024
"""From here on a look goes ahead of an upload: it costs the server 28 ms of CPU (protocol.md §16)."""


class Uploader:
    """Carries out `Upload` steps. `collect` drops a node that nobody needs any more."""

    def __init__(  # it takes part in all that happens to a file
        self,
        store: Store,
        remote: Remote,
        contents: Contents,
        residents: Residents,
        conflicts: Conflicts,
        doubts: Doubts,
        packer: Packer,
        collect: Callable[[Ino], None],
    ) -> None:
        self._store = store
        self._nodes = store.nodes
        self._remote = remote
        self._files = contents.files
        self._outgoing = contents.outgoing
        self._fetcher = contents.fetcher
        self._residents = residents
        self._conflicts = conflicts
        self._doubts = doubts
        self._evidence = Evidence(remote)
        self._keeper = Keeper(store, remote, contents.outgoing)
        self._blind_spots = BlindSpots(store, remote)
        self._appending = contents.appending
        self._packer = packer
        self._collect = collect

    async def upload(self, step: Upload) -> None:
        """Send the node's present content and commit what the server made of it.

        Raises RemoteError; then nothing is lost and the next plan says what is still to do.
        """
        if await self.tail_arrived(step.node) or (
            step.onto is not None and await self.tail_arrived(step.onto)
        ):
            return
        if step.onto is not None and (step.onto.linked or self._residents.is_open(step.onto.ino)):
            # Whoever still reads the old file keeps its bytes, and so does a local-only name that it has now (`a~`):
            # the server is about to lose them.
            await self._keeper.keep(step.onto)
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
                package.delivered = await self._deliver(package.parcel, package.layer)

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

    async def _deliver(self, parcel: Parcel, layer: Layer | None) -> RemoteVersion | None:
        """Send; return the server's version of exactly this content, None when it became a conflict."""
        base = parcel.base
        if base is parcel.node and self._has_same(parcel):
            return self._commit_same(parcel)
        condition: Condition | None = None
        for _ in range(_TRIES):
            earlier = self._store.attempts(parcel.node.ino)
            earlier += [] if parcel.onto is None else self._store.attempts(parcel.onto.ino)
            earlier += [] if base is None else base_content(base)
            try:
                condition = condition or await self._condition(parcel, base)
                await self._look_ahead(parcel, condition)
                current = self._nodes.get(parcel.node.ino)
                if current is None or not current.linked:
                    return None  # removed or replaced meanwhile: whoever has its place now need not meet this content
                attempt = Attempt(parcel.node.ino, parcel.version, parcel.size, parcel.checksum)
                self._store.begin_attempt(attempt)
                reached("attempt noted")
                with self._trying(parcel):
                    stored, checksum = await self._put(parcel, layer, condition)
                return self._commit(parcel, stored, checksum)
            except (Changed, AlreadyExists):
                entry = await self._evidence.look(parcel.path)
            if entry is None:
                if base is parcel.node and base.s_file_id is not None:
                    self._doubts.settle(parcel.node.ino)
                    raise _gone(parcel)
                condition = Condition(absent=True)
            elif condition and condition.version and entry.version.same_content(condition.version):
                continue  # refused though it is what the condition says: nothing has changed
            elif await self._evidence.holds(entry, parcel.size, parcel.checksum):
                # Its time may be that of an earlier try, or another client's: then ours is still to be sent.
                told_ns = self._told_time(parcel.node, entry)
                parcel = msgspec.structs.replace(parcel, mtime_ns=told_ns)
                return self._commit(
                    parcel, _stored(entry), await self._shown_checksum(parcel.checksum, entry)
                )
            elif await self._evidence.sent(entry, earlier):
                condition, parcel = self._onto(parcel, entry)
            else:
                with self._store.transaction():
                    self._release_identity(parcel)
                    self._doubts.settle(parcel.node.ino)
                    self._conflicts.keep_both(parcel.node, parcel.place, entry)
                return None
        raise Changed("the file changes on the server faster than it can be sent", subject=parcel.path)

    async def _look_ahead(self, parcel: Parcel, condition: Condition) -> None:
        """Raise Changed or AlreadyExists for what the server would refuse, but only after all of it was sent.

        It may be a large file whose reply was lost: the server puts one together though its client is gone. By the ETag
        alone, as the server does: on S3 the size grows with each piece that is there already.
        """
        if parcel.size < MUCH_BYTES or parcel.base_bytes:
            return
        entry = await self._evidence.look(parcel.path)
        if condition.version is None:
            if entry is not None:
                raise AlreadyExists("it already exists on the server", subject=parcel.path)
        elif entry is None or entry.version.etag != condition.version.etag:
            raise Changed("it was changed on the server", subject=parcel.path)

    def _has_same(self, parcel: Parcel) -> bool:
        """Tell whether the server has these very bytes: not where an edit that was taken back may have arrived."""
        node = parcel.node
        same = (node.s_checksum, node.s_size) == (parcel.checksum, parcel.size)
        return same and not self._store.attempts(node.ino)

    @staticmethod
    def _onto(parcel: Parcel, entry: RemoteEntry) -> tuple[Condition, Parcel]:
        """Return how a content goes over what an earlier try of ours has made."""
        if parcel.base_bytes:
            # It belongs to what was there before: the next try begins with finding out.
            raise Changed("an earlier tail of ours has arrived", subject=parcel.path)
        mtime_s = apart(parcel.mtime_s, entry.version)
        return Condition(version=entry.version), msgspec.structs.replace(parcel, mtime_s=mtime_s)

    async def _condition(self, parcel: Parcel, base: Node | None) -> Condition:
        """Return the condition for what is overwritten; looks where that cannot be relied on, or may not be there.

        Raises Changed where there is another version: in the second of the old one it would have the old one's ETag;
        and of an earlier try that was carried out, or for nothing, no large file is sent again.
        """
        if base is None:
            return Condition(absent=True)
        may_be_there = not parcel.base_bytes and bool(self._store.attempts(parcel.node.ino))
        hides = self._blind_spots.hide(base)
        if may_be_there or hides:
            entry = await self._evidence.look(parcel.path)
            if entry is None and base is parcel.node and base.s_file_id is not None:
                raise _gone(parcel)
            if entry is None:
                return Condition(absent=True)
            # The server goes by the ETag alone, and so do we where nothing speaks against that.
            same_etag = not hides and entry.version.etag == base.remote_version.etag
            if not same_etag and not _is_version(entry.version, base.remote_version):
                if parcel.base_bytes:
                    # Refused unsent, but noted: the next try begins with finding out.
                    return Condition(absent=True)
                raise Changed("it was changed on the server", subject=parcel.path)
        return Condition(version=base.remote_version)

    def _trying(self, parcel: Parcel) -> contextlib.AbstractContextManager[None]:
        """Note where the node gets, unless the server has it there already: an overwrite moves nothing."""
        if parcel.onto is None and parcel.node.synced:
            return contextlib.nullcontext()
        return self._doubts.trying(parcel.node.ino, parcel.place, parcel.size)

    async def _put(
        self, parcel: Parcel, layer: Layer | None, condition: Condition
    ) -> tuple[Stored, str | None]:
        """Send; return what the server made of it, and the checksum that it lists for that.

        No checkpoint may come between this and the commit: who reads the file waits for this to end, and would then ask
        for a version that is gone.
        """

        def body(start: int = 0) -> AsyncIterator[bytes]:
            # No generator around this one: nobody would close it where a body is left early.
            return self._outgoing.chunks(layer, start)

        # Bytes and versions go together for ever: under this name the server may keep pieces of an upload.
        name = f"{self._store.store_id}-{parcel.node.ino}-{parcel.version}"

        # A GET of ours that is still open would lock the file against our own upload (protocol.md §14).
        async with self._fetcher.paused(parcel.node.ino):
            if parcel.base_bytes:
                return await self._put_tail(parcel, body, condition, name)
            stored = await self._remote.put(
                parcel.path,
                body,
                parcel.size,
                condition,
                mtime_s=parcel.mtime_s,
                checksum=parcel.checksum,
                name=name,
            )
        if not self._remote.features.checksums:
            return stored, None
        return stored, parcel.checksum if stored.checksum_kept else stored.checksum

    async def _put_tail(
        self, parcel: Parcel, body: Body, condition: Condition, name: str
    ) -> tuple[Stored, str | None]:
        if condition.version is None:
            raise Changed("it is another version than the tail belongs to", subject=parcel.path)
        try:
            stored = await self._remote.put(
                parcel.path,
                body,
                parcel.size,
                condition,
                mtime_s=parcel.mtime_s,
                # Until it was sent the version was written further under its number, from another base perhaps.
                name=f"{name}-{parcel.checksum}",
                base_bytes=parcel.base_bytes,
            )
        except Unsupported:
            self._appending.refuse(parcel.node)
            raise
        reached("tail answered")
        version = RemoteVersion(stored.etag, parcel.size, parcel.mtime_s)
        checksum = await self._appending.hashed(parcel.path, version)
        reached("tail hashed")
        return stored, checksum

    async def _shown_checksum(self, sent: str, entry: RemoteEntry) -> str | None:
        """Return the checksum of what arrived; of a tail the server may not have been asked for it yet."""
        if is_tail_proof(sent):
            return await self._appending.hashed(entry.path, entry.version)
        return entry.version.checksum

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
            checksum = await self._shown_checksum(attempt.checksum, entry)
            current = self._nodes.get(node.ino)
            if current is None:
                return False
            parcel = self._parcel_of(attempt, current, place, entry)
            if is_tail_proof(attempt.checksum) and not self._is_as_sent(attempt):
                self._rebase(content, parcel, entry, checksum)
            else:
                version = self._commit(parcel, _stored(entry), checksum)
                await self._settle(content, parcel.version, version)
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
                    self._outgoing.unseal(content, layer)
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
            mtime_ns=self._told_time(node, entry),
            mtime_s=entry.version.modified_s,
        )

    def _rebase(
        self, content: FileContent | None, parcel: Parcel, entry: RemoteEntry, checksum: str | None
    ) -> None:
        """A tail arrived that was written further: what stood on its base stands on what the server has now."""
        old = parcel.node.s_version
        with self._store.transaction():
            version = self._nodes.next_version()
            remote = self._commit(msgspec.structs.replace(parcel, version=version), _stored(entry), checksum)
            if content is not None:
                self._outgoing.rebase(content, old, Source(parcel.node.ino, version, remote))

    def _is_as_sent(self, attempt: Attempt) -> bool:
        row = self._store.staged(attempt.ino, attempt.version)
        return row is not None and (row.size, row.checksum) == (attempt.size, attempt.checksum)

    def _version_of(self, attempt: Attempt) -> ContentVersion:
        """Return the content version of what was sent; -1, which is none, where it was written over since."""
        gone = self._store.staged(attempt.ino, attempt.version) is None
        return attempt.version if gone or self._is_as_sent(attempt) else ContentVersion(-1)

    def _told_time(self, node: Node, entry: RemoteEntry) -> int:
        """Return the local time that the server was told with an upload, as far as the server shows it."""
        added_s = entry.version.modified_s - node.mtime_ns // NS
        told = not self._remote.features.sets_mtime or added_s in {0, 1}
        return node.mtime_ns if told else entry.version.modified_s * NS

    async def _settle(
        self, content: FileContent | None, version: ContentVersion, remote: RemoteVersion
    ) -> None:
        """Give up the staging file of a content that the server has."""
        layer = None if content is None else content.top
        while isinstance(layer, Layer) and layer.version != version:
            layer = layer.base
        if content is not None and isinstance(layer, Layer):
            await self._outgoing.settle(content, layer, remote)

    # Committing. NO CHECKPOINT from here on.

    def commit_new(self, parcel: Parcel, stored: Stored) -> RemoteVersion:
        """Commit what a request that keeps no checksums made of a new file."""
        return self._commit(parcel, stored, None)

    def _commit_same(self, parcel: Parcel) -> RemoteVersion:
        """The bytes are those the server has already: nothing to send but perhaps the time."""
        with self._store.transaction():
            self._nodes.update(parcel.node.ino, s_version=parcel.version)
            self._store.end_attempts(parcel.node.ino)
            self._store.look_again(parcel.node.ino)
            self._store.clear_observed(parcel.node.ino)
        return parcel.node.remote_version

    def _commit(self, parcel: Parcel, stored: Stored, checksum: str | None) -> RemoteVersion:
        version = RemoteVersion(
            etag=stored.etag,
            size=parcel.size,
            modified_s=parcel.mtime_s if stored.modified_s is None else stored.modified_s,
            checksum=checksum,
        )
        owner = parcel.onto or parcel.node
        with self._store.transaction():
            current = self._nodes.get(parcel.node.ino)
            self._release_identity(parcel)
            rival = self._nodes.synced_child(*parcel.place)
            if rival is not None and rival.ino != parcel.node.ino:
                # Two of our uploads met in one place. INVARIANT: one node alone claims it, or a removal of the one
                # would remove the other's content.
                if rival.linked and (current is None or not current.linked):
                    self._store.end_attempts(parcel.node.ino)
                    self._nodes.end_try(parcel.node.ino)
                    # What is there now may be either's: no version of it is ours, so it is looked at and sent again.
                    self._nodes.update(rival.ino, s_version=-1)
                    return version
                self._nodes.forget_synced(rival.ino)
                self._collect(rival.ino)
            if current is not None and current.synced and parcel.onto is not None:
                self._leave_behind(current)
            self._nodes.update(
                parcel.node.ino,
                s_parent=parcel.place[0],
                s_name=parcel.place[1],
                s_spelling=owner.s_spelling,
                s_version=parcel.version,
                s_mtime_ns=parcel.mtime_ns,
                **version_columns(version),
                s_file_id=stored.file_id or owner.s_file_id,
                permissions=owner.permissions,
                t_parent=None,
                t_name=None,
            )
            self._store.end_attempts(parcel.node.ino)
            self._store.clear_observed(parcel.node.ino)
        return version

    def _release_identity(self, parcel: Parcel) -> None:
        """The file whose place was taken is nothing to the server any more."""
        if parcel.onto is None:
            return
        self._store.pins.hand_on(parcel.onto.ino, parcel.node.ino)
        self._nodes.forget_synced(parcel.onto.ino)
        self._collect(parcel.onto.ino)

    def _leave_behind(self, node: Node) -> None:
        """The content went to another place than the node had on the server: the old one is to be removed.

        Earlier contents may have arrived there.
        """
        self._nodes.forget_synced(node.ino)
        left = self._nodes.insert(
            parent=None,
            name=node.name,
            folder=0,
            size=node.s_size or 0,
            mtime_ns=node.mtime_ns,
            ctime_ns=node.ctime_ns,
            s_parent=node.s_parent,
            s_name=node.s_name,
            s_spelling=node.s_spelling,
            s_version=node.s_version,
            s_mtime_ns=node.s_mtime_ns,
            **version_columns(node.remote_version),
            s_file_id=node.s_file_id,
            permissions=node.permissions,
        )
        self._store.hand_on_attempts(node.ino, left)
        self._doubts.hand_on(node.ino, left)


def _gone(parcel: Parcel) -> NotFound:
    """Removed, renamed or moved: a listing tells, and the next plan sends it to where it belongs."""
    return NotFound("it is not on the server any more", subject=parcel.path)


def _is_version(found: RemoteVersion, known: RemoteVersion) -> bool:
    """Tell whether an upload goes over the version that it was made from.

    On S3 the listed size of a file grows with each piece that is to go over it, and stays so where that is broken off;
    ETag and checksum do not change (ChunkingV2Plugin::beforePut of Nextcloud 29.0.1, by reading).
    """
    same = (found.etag, found.checksum) == (known.etag, known.checksum)
    return (same and known.checksum is not None) or found.same_content(known)


def _stored(entry: RemoteEntry) -> Stored:
    return Stored(etag=entry.version.etag, file_id=entry.file_id, modified_s=entry.version.modified_s)
