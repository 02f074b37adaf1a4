"""Which conflicts there are, and what is done when somebody decides about one.

A conflict is a pair in one folder: the server's version under the name, ours beside it under a conflicted copy's
name. Whoever renames or deletes one of the two has decided by hand: the pair is gone.

The order that makes it safe: ask the server whether its version is still the one shown → do the deciding request
under the condition that it is → see the result on the server → only then give up what is not wanted. Killed
anywhere, both versions are still there or the decision is carried out; asked again, it is finished.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import msgspec
import trio

from cloudfs.content.fetch import Fetcher
from cloudfs.content.files import Files
from cloudfs.content.layers import FileContent, Layer
from cloudfs.content.outgoing import Outgoing
from cloudfs.content.source import Source
from cloudfs.errors import (
    AlreadyExists,
    BaseLost,
    Changed,
    CloudfsError,
    ExitCode,
    LocalDamage,
    NotFound,
    PosixError,
    RemoteError,
    UserError,
)
from cloudfs.metadata.changes import ChangeSink
from cloudfs.metadata.columns import NS
from cloudfs.metadata.listing import Lister
from cloudfs.metadata.tree import Tree
from cloudfs.paths import is_copy_of, original_name
from cloudfs.remote.protocol import Condition, Remote
from cloudfs.store.records import Node
from cloudfs.store.store import Store
from cloudfs.sync.doubts import may_have_arrived
from cloudfs.sync.worker import Worker
from cloudfs.types import Ino, RemoteEntry, RemotePath

__all__ = ["Pair", "Resolver"]

_CHUNK = 1024 * 1024
_SENT_S = 20.0
"""So long a version that is still on its way to the server is waited for."""
_LOOKS = 3
"""A listing that was under way already may not show the newest; the next one does."""


class Pair(msgspec.Struct, frozen=True):
    """The server's version and ours, in one folder."""

    theirs: Node
    ours: Node
    found_at: float


class Resolver:
    """Lists conflicts and carries out decisions. Raises UserError with what it found where nothing was done."""

    def __init__(  # noqa: PLR0913  # it takes part in all that happens to a file
        self,
        store: Store,
        remote: Remote,
        tree: Tree,
        lister: Lister,
        fetcher: Fetcher,
        files: Files,
        outgoing: Outgoing,
        worker: Worker,
        *,
        sink: ChangeSink,
    ) -> None:
        self._store = store
        self._nodes = store.nodes
        self._remote = remote
        self._tree = tree
        self._lister = lister
        self._fetcher = fetcher
        self._files = files
        self._outgoing = outgoing
        self._worker = worker
        self._sink = sink

    # Which there are

    def pairs(self) -> list[Pair]:
        """Return the conflicts that nobody has decided about, oldest first."""
        found = (self._pair(row.ours, row.theirs, row.found_at) for row in self._store.conflicts())
        return sorted((pair for pair in found if pair is not None), key=lambda pair: pair.found_at)

    def at(self, path: str) -> list[Pair]:
        """Return the conflicts that one of the two files is named of; UserError when there is none."""
        node = self._tree.resolve(path)
        if node is None:
            raise UserError(f"There is no {path} in the mount.", hint="Check the path.", code=ExitCode.USAGE)
        found = [pair for pair in self.pairs() if node.ino in {pair.ours.ino, pair.theirs.ino}]
        if not found:
            raise UserError(
                f"{path} is in no conflict.",
                hint="`cloudfs conflicts` lists those there are.",
                code=ExitCode.NOT_DONE,
            )
        return found

    def _pair(self, ours_ino: int, theirs_ino: int, found_at: float) -> Pair | None:
        ours = self._nodes.get(Ino(ours_ino))
        if ours is None or ours.parent is None or ours.folder:
            return None
        theirs = self._nodes.get(Ino(theirs_ino))
        if theirs is None or theirs.parent != ours.parent or not is_copy_of(ours.name, theirs.name):
            # It was saved by an editor, or another version came while it was open: the name is what counts.
            name = original_name(ours.name)
            theirs = None if name is None else self._nodes.child(ours.parent, name)
        return None if theirs is None or theirs.folder else Pair(theirs, ours, found_at)

    # Decisions

    def keep_both(self, path: str) -> None:
        """The two are ordinary files from now on. Needs no network."""
        with self._store.transaction():
            for pair in self.at(path):
                self._store.end_conflict(pair.ours.ino)

    async def keep_theirs(self, path: str) -> None:
        """Remove our copy (each, where `path` is the server's version and there are several)."""
        pairs = self.at(path)
        async with AsyncExitStack() as frozen:
            for pair in pairs:
                with suppress(LocalDamage):  # nobody can write what cannot be read either
                    await frozen.enter_async_context(self._frozen(pair.ours))
            for pair in pairs:
                await self._confirm(pair)
                self._give_up_copy(pair.ours)

    async def keep_mine(self, path: str) -> None:
        """Put our content onto the server's file, then remove our copy.

        The file keeps its id, and with it versions, shares and comments; what it was is among its versions.
        """
        pair, *others = self.at(path)
        if others:
            names = ", ".join(other.ours.name for other in (pair, *others))
            raise UserError(
                f"{path} has several conflicted copies.", hint=f"Name one: {names}", code=ExitCode.NOT_DONE
            )
        await self._settled(pair)
        async with (
            self._worker.reserved(pair.ours.ino, pair.theirs.ino),
            self._frozen(pair.ours) as (content, source),
        ):
            try:
                await self._put_onto(pair, content, source)
            except RemoteError as error:
                raise _not_done(
                    f"{pair.ours.name} could not be sent as {pair.theirs.name} ({error.message})",
                    "Both files stay. Decide again when the cause is gone.",
                ) from error
            except BaseLost as error:
                raise _not_done(
                    f"{pair.ours.name} cannot be read in full any more ({error})",
                    "Both files stay. Save the whole copy once more from the program that edited it, and decide again.",
                ) from error

    @asynccontextmanager
    async def _frozen(self, ours: Node) -> AsyncIterator[tuple[FileContent, Layer | Source | None]]:
        """Hold what our copy is now: what is written from now on is another version. Raises LocalDamage, PosixError."""
        content = await self._files.acquire(ours)
        try:
            layer = await self._outgoing.seal(content)
            try:
                yield content, content.top if layer is None else layer
            finally:
                if layer is not None:
                    self._outgoing.unseal(layer)
        finally:
            self._files.release(content)

    async def _settled(self, pair: Pair) -> None:
        """Let what was written to the server's version here go up first: it is not to be forgotten."""
        with trio.move_on_after(_SENT_S):
            await self._worker.wait_synced(lambda ino: ino == pair.theirs.ino)
        theirs = self._nodes.get(pair.theirs.ino)
        if theirs is None or theirs.dirty or self._files.being_written(theirs.ino):
            raise _not_done(
                f"{pair.theirs.name} has changes of its own that are not on the server yet",
                "Wait until they are (`cloudfs sync --wait`), look at it, and decide again.",
            )

    async def _confirm(self, pair: Pair) -> None:
        """Raise UserError unless the server still has the version that the mount shows."""
        assert pair.theirs.parent is not None  # noqa: S101  # a pair stands in a folder
        try:
            await self._lister.refresh(pair.theirs.parent)
            # That may have been a listing from before we asked.
            entry = await self._remote.stat(self._path(pair.theirs))
        except NotFound as error:
            raise _changed(pair) from error
        except RemoteError as error:
            raise _not_done(
                f"The server cannot be asked about {pair.theirs.name} ({error.message})",
                "Decide when it answers; until then both files stay.",
            ) from error
        theirs, ours = self._nodes.get(pair.theirs.ino), self._nodes.get(pair.ours.ino)
        if ours is None or (ours.parent, ours.name, ours.version) != (
            pair.ours.parent,
            pair.ours.name,
            pair.ours.version,
        ):
            raise _not_done(f"{pair.ours.name} was changed meanwhile", "Look at it, and decide again.")
        if (
            theirs is None
            or (theirs.parent, theirs.name) != (pair.theirs.parent, pair.theirs.name)
            or theirs.version != pair.theirs.version
            or self._store.is_observed(theirs.ino)
            or not theirs.remote_version.same_content(entry.version)
        ):
            self._lister.refresh_later(pair.theirs.parent)
            raise _changed(pair)

    async def _put_onto(self, pair: Pair, content: FileContent, source: Layer | Source | None) -> None:
        """Send what is frozen of our copy, and nothing that is written to it meanwhile."""
        if isinstance(source, Layer):
            await self._outgoing.make_whole(source)
        size, checksum = 0 if source is None else source.size, await self._checksum(source)
        try:
            await self._confirm(pair)
        except _ChangedThereError:
            # An earlier try may have brought it there, its reply lost: then that is the change.
            if not await self._is_there(pair, size, checksum):
                raise
        else:
            await self._send(pair, source, size, checksum)
        if content.top is not source or content.unflushed:
            raise _not_done(
                f"{pair.ours.name} was written meanwhile; what it held before is on the server as"
                f" {pair.theirs.name}, what was written since is still in it alone",
                "Decide again when it is closed.",
            )
        self._give_up_copy(pair.ours)

    async def _checksum(self, source: Layer | Source | None) -> str:
        if isinstance(source, Layer):
            return await self._outgoing.checksum(source)
        known = "" if source is None or not source.size else source.remote.checksum or ""
        if known.upper().startswith("SHA1:"):
            return known
        digest = hashlib.sha1(usedforsecurity=False)
        async for chunk in self._chunks(source, 0 if source is None else source.size):
            await trio.to_thread.run_sync(digest.update, chunk)
        return f"SHA1:{digest.hexdigest()}"

    async def _chunks(self, source: Layer | Source | None, size: int, start: int = 0) -> AsyncIterator[bytes]:
        for at in range(start, size if source is not None else 0, _CHUNK):
            assert source is not None  # noqa: S101  # the range is empty without one
            yield await self._files.read_version(source, at, min(at + _CHUNK, size))

    async def _send(self, pair: Pair, source: Layer | Source | None, size: int, checksum: str) -> None:
        path, base = self._path(pair.theirs), (self._nodes.get(pair.theirs.ino) or pair.theirs).remote_version
        mtime_s = pair.ours.mtime_ns // NS
        if mtime_s == base.modified_s:
            mtime_s += 1  # within the base's second, Nextcloud would keep the base's ETag
        try:
            async with self._fetcher.paused(pair.theirs.ino):
                await self._remote.put(
                    path,
                    lambda start=0: self._chunks(source, size, start),
                    size,
                    Condition(version=base),
                    mtime_s=mtime_s,
                    checksum=checksum,
                    name=f"{self._store.store_id}-{pair.ours.ino}-{checksum.partition(':')[2]}",
                )
        except (Changed, AlreadyExists, NotFound) as error:
            self._lister.refresh_later(pair.theirs.parent or pair.theirs.ino)
            raise _changed(pair) from error
        except RemoteError as error:
            if may_have_arrived(error):
                raise _not_known(pair, error) from error
            raise
        try:
            there = await self._is_there(pair, size, checksum)
        except (RemoteError, PosixError) as error:
            raise _not_known(pair, error) from error
        if not there:
            raise _not_done(
                f"The server does not show what it was sent as {pair.theirs.name}",
                "Both files stay. Look at them, and decide again.",
            )

    async def _is_there(self, pair: Pair, size: int, checksum: str) -> bool:
        """Tell whether the server has our content under the name, and have the mount show it if so."""
        try:
            entry = await self._remote.stat(self._path(pair.theirs))
        except NotFound:
            return False
        if entry.version.size != size or not await self._has(entry, checksum):
            return False
        for _ in range(_LOOKS):
            await self._lister.refresh(pair.theirs.parent or pair.theirs.ino)
            shown = self._nodes.child(pair.theirs.parent or pair.theirs.ino, pair.theirs.name)
            if shown is not None and shown.remote_version == entry.version:
                return True
        return False

    async def _has(self, entry: RemoteEntry, checksum: str) -> bool:
        stored = (entry.version.checksum or "").upper()
        if stored.startswith("SHA1:"):
            return stored == checksum.upper()
        digest = hashlib.sha1(usedforsecurity=False)
        if entry.version.size:
            async with self._remote.stream(entry.path, 0, entry.version.size, entry.version) as chunks:
                async for chunk in chunks:
                    await trio.to_thread.run_sync(digest.update, chunk)
        return f"SHA1:{digest.hexdigest()}" == checksum

    def _path(self, node: Node) -> RemotePath:
        path = self._nodes.synced_path(node.ino)
        if path is None:
            raise _not_done(f"{node.name} is not on the server any more", "Look, and decide again.")
        return path

    def _give_up_copy(self, ours: Node) -> None:
        assert ours.parent is not None  # noqa: S101  # a pair stands in a folder
        try:
            self._tree.remove_exactly(ours)
        except CloudfsError as error:
            raise _not_done(f"{ours.name} cannot be removed ({error})", "Remove it by hand.") from error
        self._store.end_conflict(ours.ino)
        self._sink.entry_removed(ours.parent, ours.name, ours.ino, ours.kind)


class _ChangedThereError(UserError):
    """The server has another version than the one that the mount shows."""


def _changed(pair: Pair) -> UserError:
    return _ChangedThereError(
        f"{pair.theirs.name} has just been changed on the server.",
        hint="Nothing was done. Look at it, and decide again.",
        code=ExitCode.NOT_DONE,
    )


def _not_known(pair: Pair, error: CloudfsError) -> UserError:
    message = error.message if isinstance(error, RemoteError) else str(error)
    return _not_done(
        f"{pair.ours.name} was sent as {pair.theirs.name}, but what the server has now is not known ({message})",
        f"{pair.ours.name} stays. Decide again when the server answers: if it has this content, only the copy goes.",
    )


def _not_done(message: str, hint: str) -> UserError:
    return UserError(f"{message}.", hint=hint, code=ExitCode.NOT_DONE)
