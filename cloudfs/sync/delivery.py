"""Sends one exact content to one exact place, under the condition that nothing else has come there.

A refused precondition is looked at before it is called a conflict: the server may have what we sent earlier,
whose reply got lost (protocol.md, rule 15), or the very same bytes from somebody else. One that is refused again and
again, though a look shows that it holds, is not for us to mend: the server's, or a proxy's, administrator is told of.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Sequence

import msgspec

from cloudfs.concurrency.killpoints import reached
from cloudfs.content.layers import Layer
from cloudfs.content.tails import is_tail_proof
from cloudfs.errors import AlreadyExists, Changed, NotFound, RemoteError, Unsupported
from cloudfs.paths import join, parent_of
from cloudfs.remote.protocol import Body, Condition, Remote
from cloudfs.store.records import Attempt, Node
from cloudfs.store.store import Store
from cloudfs.sync.blindspots import BlindSpots
from cloudfs.sync.breaking import FROM_BYTES, Breaks
from cloudfs.sync.committing import Committer, stored_as, told_time_ns
from cloudfs.sync.conflict import Conflicts
from cloudfs.sync.doubts import Doubts
from cloudfs.sync.evidence import Evidence, base_content, condition_refused
from cloudfs.sync.packing import Contents, Packer, Parcel, apart
from cloudfs.sync.torn import TornParts, Verdict
from cloudfs.types import RemoteEntry, RemoteVersion, Stored

__all__ = ["MUCH_BYTES", "Delivery"]

_TRIES = 3
MUCH_BYTES = 16 * 1024 * 1024
"""From here on a look goes ahead of an upload: it costs the server 28 ms of CPU (protocol.md §16)."""


class Delivery:
    """Sends parcels for `Uploader`."""

    def __init__(
        self,
        store: Store,
        remote: Remote,
        contents: Contents,
        conflicts: Conflicts,
        doubts: Doubts,
        committer: Committer,
        packer: Packer,
    ) -> None:
        self._store = store
        self._nodes = store.nodes
        self._remote = remote
        self._outgoing = contents.outgoing
        self._fetcher = contents.fetcher
        self._appending = contents.appending
        self._conflicts = conflicts
        self._doubts = doubts
        self._committer = committer
        self._evidence = Evidence(remote)
        self.torn = TornParts(store, remote, contents.outgoing, packer)
        self._blind_spots = BlindSpots(store, remote)
        self.breaks = Breaks(store.nodes)

    async def deliver(self, parcel: Parcel, layer: Layer | None) -> RemoteVersion | None:
        """Send; return the server's version of exactly this content, None when it became a conflict.

        Raises RemoteError; ConditionRefused where the condition is refused though, looked at, it holds.
        """
        base = parcel.base
        if base is parcel.node and self._has_same(parcel):
            return self._committer.commit_same(parcel)
        condition: Condition | None = None
        refused = 0
        for _ in range(_TRIES):
            earlier = self._earlier(parcel)
            try:
                condition = condition or await self._condition(parcel, base)
                return await self._try(parcel, layer, condition)
            except (Changed, AlreadyExists):
                entry = await self._evidence.look(parcel.path)
            if entry is None and base is parcel.node and base.s_file_id is not None:
                self._doubts.settle(parcel.node.ino)
                raise _gone(parcel)
            if _holds(condition, entry):
                refused += 1
            elif entry is None:
                condition = Condition(absent=True)
            elif await self._evidence.holds(entry, parcel.size, parcel.checksum):
                return await self._commit_found(parcel, entry)
            else:
                further = await self._further(parcel, layer, entry, earlier)
                if further is None:
                    return None
                condition, parcel = further
        if refused == _TRIES:
            self._doubts.settle_if_over(parcel.node.ino)
            raise condition_refused(parcel.path)
        raise Changed("the file changes on the server faster than it can be sent", subject=parcel.path)

    async def _try(self, parcel: Parcel, layer: Layer | None, condition: Condition) -> RemoteVersion | None:
        current = self._nodes.get(parcel.node.ino)
        if current is None or not current.linked:
            return None  # removed or replaced meanwhile: whoever has its place now need not meet this content
        attempt = Attempt(parcel.node.ino, parcel.version, parcel.size, parcel.checksum, time.time())
        self.torn.begin(attempt)
        self._store.begin_attempt(attempt)
        reached("attempt noted")
        with self._trying(parcel):
            stored, checksum = await self._put(parcel, layer, condition, attempt)
        self.torn.forget(parcel.node.ino)
        return self._committer.commit(parcel, stored, checksum)

    def _earlier(self, parcel: Parcel) -> list[Attempt]:
        """Return what the server may have of ours in this place."""
        earlier = self._store.attempts(parcel.node.ino)
        earlier += [] if parcel.onto is None else self._store.attempts(parcel.onto.ino)
        return earlier + ([] if parcel.base is None else base_content(parcel.base))

    async def _further(
        self, parcel: Parcel, layer: Layer | None, entry: RemoteEntry, earlier: Sequence[Attempt]
    ) -> tuple[Condition | None, Parcel] | None:
        """Return how to go on where something else stands in the place; None: it is another's, and both are kept."""
        if await self._evidence.sent(entry, earlier):
            return self._onto(parcel, entry)
        verdict = await self.torn.judge(parcel, layer, entry, earlier)
        if verdict is Verdict.OURS:
            self.torn.clear(parcel.node.ino)
            return self._onto(parcel, entry)
        if verdict is Verdict.UNCERTAIN and await self._set_aside(parcel, entry):
            return None, parcel
        self._keep_both(parcel, entry)
        return None

    async def _set_aside(self, parcel: Parcel, entry: RemoteEntry) -> bool:
        """Give what may be a part of ours, or another client's, the name of a conflicted copy: the file is ours.

        False where the server does not let it be moved. Raises RemoteError for what passes.
        """
        aside = self._conflicts.copy_of(parcel.place)
        target = join(parent_of(entry.path), aside)
        try:
            await self._remote.move(entry.path, target, expect=entry.version)
        except (Changed, AlreadyExists, NotFound):
            return True  # looked at again
        except RemoteError as error:
            if error.temporary:
                raise
            return False
        self.torn.clear(parcel.node.ino)
        self._conflicts.set_aside(parcel.place, aside, await self._evidence.look(target))
        return True

    async def _commit_found(self, parcel: Parcel, entry: RemoteEntry) -> RemoteVersion:
        """The server has this very content. Its time may be that of an earlier try, or another client's."""
        # Then ours is still to be sent.
        told_ns = told_time_ns(parcel.node, entry, sets_mtime=self._remote.features.sets_mtime)
        parcel = msgspec.structs.replace(parcel, mtime_ns=told_ns)
        checksum = await self.shown_checksum(parcel.checksum, entry)
        return self._committer.commit(parcel, stored_as(entry), checksum)

    def _keep_both(self, parcel: Parcel, entry: RemoteEntry) -> None:
        self.torn.forget(parcel.node.ino)
        with self._store.transaction():
            self._committer.release_identity(parcel)
            self._doubts.settle(parcel.node.ino)
            self._conflicts.keep_both(parcel.node, parcel.place, entry)

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
        """Return the condition to begin with; looks first where it cannot be relied on, or is not to be met in vain.

        Raises Changed where there is another version: in the second of the old one it would have the old one's ETag;
        and of an earlier try that was carried out, or for nothing, no large file is sent again.
        """
        condition = Condition(absent=True) if base is None else Condition(version=base.remote_version)
        may_be_there = not parcel.base_bytes and bool(self._store.attempts(parcel.node.ino))
        hides = base is not None and self._blind_spots.hide(base)
        if base is not None and (hides or may_be_there):
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
        else:
            await self._look_ahead(parcel, condition)
        return condition

    def _trying(self, parcel: Parcel) -> contextlib.AbstractContextManager[None]:
        """Note where the node gets, unless the server has it there already: an overwrite moves nothing."""
        if parcel.onto is None and parcel.node.synced:
            return contextlib.nullcontext()
        return self._doubts.trying(parcel.node.ino, parcel.place, parcel.size)

    async def _put(
        self, parcel: Parcel, layer: Layer | None, condition: Condition, attempt: Attempt
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
        if parcel.base_bytes:
            # Until it was sent the version was written further under its number, from another base perhaps.
            name += f"-{parcel.checksum}"

        # A GET of ours that is still open would lock the file against our own upload (protocol.md §14).
        async with self._fetcher.paused(parcel.node.ino):
            with self._breakable(parcel, body, name) as broken, self.torn.counted(attempt, broken) as handed:
                if parcel.base_bytes:
                    return await self._put_tail(parcel, handed, condition, name)
                stored = await self._remote.put(
                    parcel.path,
                    handed,
                    parcel.size,
                    condition,
                    mtime_s=parcel.mtime_s,
                    checksum=parcel.checksum,
                    name=name,
                )
        if not self._remote.features.checksums:
            return stored, None
        return stored, parcel.checksum if stored.checksum_kept else stored.checksum

    def _breakable(self, parcel: Parcel, body: Body, name: str) -> contextlib.AbstractContextManager[Body]:
        if parcel.size - parcel.base_bytes < FROM_BYTES:
            return contextlib.nullcontext(body)
        return self.breaks.breakable(parcel.node, parcel.path, body, parcel.size, name)

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
                name=name,
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

    async def shown_checksum(self, sent: str, entry: RemoteEntry) -> str | None:
        """Return the checksum of what arrived; of a tail the server may not have been asked for it yet."""
        if is_tail_proof(sent):
            return await self._appending.hashed(entry.path, entry.version)
        return entry.version.checksum


def _holds(condition: Condition | None, entry: RemoteEntry | None) -> bool:
    """Tell whether what stands there is what a condition says, so that it was refused for nothing."""
    if condition is None:
        return False
    if condition.version is None or entry is None:
        return condition.version is None and entry is None
    return entry.version.same_content(condition.version)


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
