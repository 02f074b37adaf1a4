"""What the server has, and whether that is what we sent: the judge of every request whose reply was lost."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from contextlib import aclosing

import msgspec
import trio

from cloudfs.content.tails import TailProof
from cloudfs.errors import ConditionRefused, NotFound
from cloudfs.remote.protocol import Body, Remote
from cloudfs.store.records import Attempt, Node
from cloudfs.types import Kind, RemoteEntry, RemotePath

__all__ = ["Evidence", "TimeProof", "base_content", "condition_refused"]

_TIME = re.compile(r"TIME-(-?\d+)-(.*)")


class TimeProof(msgspec.Struct, frozen=True):
    """What a file is that only its time was set of, where no checksum tells: as strong as Nextcloud's ETag, no more.

    Kept as an attempt where the checksum of a content is kept otherwise.
    """

    mtime_s: int
    file_id: str

    def __str__(self) -> str:
        return f"TIME-{self.mtime_s}-{self.file_id}"

    @classmethod
    def parse(cls, text: str) -> TimeProof | None:
        """Return the proof that `text` is, None for anything else."""
        found = _TIME.fullmatch(text)
        return None if found is None else cls(int(found[1]), found[2])

    def fits(self, entry: RemoteEntry) -> bool:
        """Tell whether a file is the same one, with the time that it was to get."""
        told = entry.version.modified_s == self.mtime_s
        return told and entry.version.checksum is None and (entry.file_id or "") == self.file_id


def base_content(node: Node) -> list[Attempt]:
    """Return what the server was last known to have, where that can be proved: its time may have been set since.

    That gives it another ETag, and Nextcloud drops the checksum (measured on 29.0.1); the answer may have been lost.
    """
    checksum = node.s_checksum or ""
    if node.s_version is None or node.s_size is None or not checksum.upper().startswith("SHA1:"):
        return []
    return [Attempt(node.ino, node.s_version, node.s_size, checksum)]


def condition_refused(path: RemotePath) -> ConditionRefused:
    """Return what to raise where a request was refused for a condition that, looked at, holds."""
    message = (
        "the server, or a proxy before it, refuses the condition that nobody else's changes are overwritten"
    )
    return ConditionRefused(message, subject=path)


class Evidence:
    """Only looks. Raises RemoteError, then nothing is known."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    async def look(self, path: RemotePath) -> RemoteEntry | None:
        """Return what stands at a path; None only where the server says that there is nothing."""
        try:
            return await self._remote.stat(path)
        except NotFound:
            return None

    @staticmethod
    def is_another(node: Node, entry: RemoteEntry) -> bool:
        """Tell whether what stands in a node's place is certainly something else; without file ids its kind tells."""
        known = {entry.file_id, node.s_file_id}
        return entry.kind is not node.kind or (None not in known and len(known) > 1)

    async def is_empty(self, folder: RemotePath) -> bool:
        """Tell whether a folder holds nothing at all."""
        own, members = await self._remote.list_folder(folder)
        return not members and not own.hidden_members

    async def holds(self, entry: RemoteEntry, size: int, checksum: str) -> bool:
        """Tell whether the server's file has this content, reading it where it carries no such checksum.

        Of what went up as a tail, the tail is read: nobody here may know the other bytes. The time that came with it
        tells it from what other clients write.
        """
        if entry.kind is not Kind.FILE or entry.version.size != size:
            return False
        retimed = TimeProof.parse(checksum)
        if retimed is not None:
            return retimed.fits(entry)
        tail = TailProof.parse(checksum)
        if tail is not None:
            told = entry.version.modified_s == tail.mtime_s
            return told and tail.checksum == await self._hash(entry, tail.start)
        stored = entry.version.checksum
        if stored is not None and stored.upper().startswith("SHA1:"):
            return stored.lower() == checksum.lower()
        return checksum == await self._hash(entry)

    async def is_part(self, entry: RemoteEntry, size: int, body: Body) -> bool:
        """Tell whether the server's file is the beginning of a content of `size` bytes; reads it up to where it is not.

        Not one with a checksum: that came with all of it.
        """
        part = entry.version
        if entry.kind is not Kind.FILE or part.size >= size or part.checksum is not None:
            return False
        if not part.size:
            return True
        known = b""
        async with (
            aclosing(body()) as ours,  # type: ignore[type-var]  # all have that, but no type says so
            self._remote.stream(entry.path, 0, part.size, part) as theirs,
        ):
            async for chunk in theirs:
                while len(known) < len(chunk):
                    known += await anext(ours)
                if known[: len(chunk)] != chunk:
                    return False
                known = known[len(chunk) :]
        return True

    async def _hash(self, entry: RemoteEntry, start: int = 0) -> str:
        digest, version = hashlib.sha1(usedforsecurity=False), entry.version
        if start < version.size:
            async with self._remote.stream(entry.path, start, version.size, version) as chunks:
                async for chunk in chunks:
                    await trio.to_thread.run_sync(digest.update, chunk)
        return f"SHA1:{digest.hexdigest()}"

    async def sent(self, entry: RemoteEntry, attempts: Iterable[Attempt]) -> Attempt | None:
        """Return the upload of ours, of those whose reply was lost, that the server's file comes from."""
        for attempt in attempts:
            if await self.holds(entry, attempt.size, attempt.checksum):
                return attempt
        return None

    async def is_moved(self, node: Node, source: RemotePath | None, entry: RemoteEntry) -> bool:
        """Tell whether what stands in a node's new place is the node: by file id, else as the old place is empty."""
        if entry.kind is not node.kind:
            return False
        if entry.file_id is not None or node.s_file_id is not None:
            return entry.file_id == node.s_file_id and await self.has_left(source, entry)
        if source is None or await self.look(source) is not None:
            return False
        return bool(node.folder) or node.remote_version.size == entry.version.size

    async def has_left(self, source: RemotePath | None, entry: RemoteEntry) -> bool:
        """Tell whether what stands at one place now does no longer stand at another one.

        A file that is shared by itself and in a folder has two places at once, and one file id (protocol.md §3.3).
        """
        if source is None or source == entry.path:
            return True
        there = await self.look(source)
        return there is None or there.file_id != entry.file_id
