"""The other client of an account: what it does to the server, and what that owes, spends and contests."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress

import trio

from cloudfs.errors import RemoteError
from cloudfs.types import Kind, RemotePath
from tests.model.account import StoredObject
from tests.model.ledger import Contested, Ledger
from tests.model.operations import (
    OtherDelete,
    OtherMkdir,
    OtherMove,
    OtherReplace,
    OtherRetype,
    OtherRewrite,
    OtherSetBack,
    OtherShorten,
    OtherWrite,
)
from tests.model.world import World

__all__ = ["OTHERS", "Other", "OtherClient"]

Other = (
    OtherWrite
    | OtherRewrite
    | OtherDelete
    | OtherMkdir
    | OtherMove
    | OtherReplace
    | OtherRetype
    | OtherSetBack
    | OtherShorten
)
OTHERS = (
    OtherWrite,
    OtherRewrite,
    OtherDelete,
    OtherMkdir,
    OtherMove,
    OtherReplace,
    OtherRetype,
    OtherSetBack,
    OtherShorten,
)


class OtherClient:
    """Plays its operations. `data` gives bytes of a length that nobody has written yet."""

    def __init__(
        self, world: World, ledger: Ledger, contested: Contested, data: Callable[[int], bytes]
    ) -> None:
        self.world = world
        self.ledger = ledger
        self.contested = contested
        self._data = data

    def play(self, operation: Other) -> None:
        """Do one operation; RemoteError for the server's own reasons."""
        remote = self.world.remote
        match operation:
            case OtherWrite(path, size, checksum):
                self._writes(path, size, checksum=checksum)
            case OtherRewrite(path, size):
                self._writes(path, size, checksum=True, same_second=True)
            case OtherDelete(path):
                self._deletes(path)
            case OtherMkdir(path):
                remote.other.mkdir(f"/{path}")
                self.contested.by_other(path)
            case OtherMove(source, target):
                self._moves(source, target)
            case OtherReplace(source, target):
                if source != target and remote.other.exists(f"/{source}"):
                    if remote.other.exists(f"/{target}") and not source.startswith(f"{target}/"):
                        self._deletes(target)
                    self._moves(source, target)
            case OtherSetBack(path, size):
                self._set_back(path, size)
            case OtherShorten(path, size):
                self._shortens(path, size)
            case OtherRetype(path, size):
                was_folder = remote.other.tree().get(f"/{path}", b"") is None
                self._deletes(path)
                if was_folder:
                    self._writes(path, size, checksum=True)
                else:
                    remote.other.mkdir(f"/{path}")

    def _writes(self, path: str, size: int, *, checksum: bool, same_second: bool = False) -> None:
        account, data = self.world.remote.account, self._data(size)
        before, mtime_s = account.find(RemotePath(f"/{path}")), account.now_s()
        keeps_etag = same_second and before is not None and before.mtime_s == mtime_s
        if before is not None and before.mtime_s == mtime_s and not same_second:
            mtime_s += 1  # what keeps its ETag is OtherRewrite's matter
        while before is not None and self._is_taken(before, mtime_s, data, checksum=checksum):
            if keeps_etag:
                data += b"."
            else:
                mtime_s += 1
        spent = None if before is None else before.content
        digest = _digest(data) if checksum else None
        self.world.remote.other.write(f"/{path}", data, mtime_s=mtime_s, checksum=digest)
        self.ledger.spent(spent)
        self.ledger.wrote(data, "the other client")
        self.contested.by_other(path)

    def _shortens(self, path: str, size: int) -> None:
        """What a try of ours has left, all of it or a part, is nobody's to be made shorter: see `TornParts`."""
        account = self.world.remote.account
        before = account.find(RemotePath(f"/{path}"))
        if before is None or before.kind is Kind.FOLDER or len(before.content) <= size:
            return
        tried = self.world.engine.store.db.execute("SELECT checksum FROM attempts").fetchall()
        if before.content in self.world.remote.parts or (_digest(before.content),) in tried:
            return
        whole, left = before.content, before.content[:size]
        self.world.remote.other.write(f"/{path}", left)
        self.ledger.spent(whole)
        self.ledger.wrote(left, "the other client")
        self.contested.by_other(path)

    def _set_back(self, path: str, size: int) -> None:
        account, data = self.world.remote.account, self._data(size)
        account.fingerprint = f"after {data!r}"
        before = account.find(RemotePath(f"/{path}"))
        if before is not None and before.kind is Kind.FILE:
            self.ledger.spent(before.content)
            self.world.remote.other.write(
                f"/{path}", data, mtime_s=before.mtime_s - 1000, checksum=_digest(data)
            )
            self.ledger.wrote(data, "the backup")

    def _is_taken(self, before: StoredObject, mtime_s: int, data: bytes, *, checksum: bool) -> bool:
        """Tell whether a file had all that a listing says of this content with another content before.

        Two contents of one size and one second without checksums are what nobody could tell apart.
        """
        key = before.etag_of(mtime_s, len(data)), len(data), _digest(data) if checksum else None
        return key in self.world.remote.account.contents

    def _on_server_below(self, path: str) -> list[tuple[str, bytes | None]]:
        return [
            (where, content)
            for where, content in self.world.remote.other.tree().items()
            if where == f"/{path}" or where.startswith(f"/{path}/")
        ]

    def _deletes(self, path: str) -> None:
        below = self._on_server_below(path)
        self.world.remote.other.delete(f"/{path}")
        for where, content in below:
            self.ledger.spent(content)
            self.contested.by_other(where)

    def _moves(self, source: str, target: str) -> None:
        below = self._on_server_below(source)
        self.world.remote.other.move(f"/{source}", f"/{target}")
        for where, content in below:
            self.contested.by_other(where)  # what changed here meanwhile meets it in its new place
            if content in self.world.remote.parts:
                self.ledger.written.add(content)  # it was taken for a file
        self.contested.renamed(source, target)
        self.contested.by_other(target)

    async def move_seen(self, source: str, target: str) -> None:
        """Move something when the first of all known folders is about to be listed."""

        async def move() -> None:
            with suppress(RemoteError):
                self._moves(source, target)
            await trio.lowlevel.checkpoint()

        before = self.world.remote.before
        before["list_folder"] = move
        try:
            await self.world.refresh_together()
        finally:
            before.pop("list_folder", None)


def _digest(data: bytes) -> str:
    return f"SHA1:{hashlib.sha1(data, usedforsecurity=False).hexdigest()}"
