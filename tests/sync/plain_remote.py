"""A server in memory that knows no file ids, checksums or times: what Apache, rclone and wsgidav have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from cloudfs.remote.protocol import Body, Condition, Features
from cloudfs.types import RemoteEntry, RemotePath, RemoteVersion, Stored
from tests.model.fake_remote import FakeRemote

__all__ = ["PlainRemote"]

_PLAIN = Features(name="WebDAV in memory")


def _bare(entry: RemoteEntry) -> RemoteEntry:
    return msgspec.structs.replace(entry, file_id=None, permissions=None)


@dataclass
class PlainRemote(FakeRemote):
    """As `FakeRemote`, without what only a Nextcloud tells."""

    features: Features = _PLAIN

    async def stat(self, path: RemotePath) -> RemoteEntry:
        return _bare(await super().stat(path))

    async def list_folder(self, path: RemotePath) -> tuple[RemoteEntry, Sequence[RemoteEntry]]:
        own, members = await super().list_folder(path)
        return _bare(own), [_bare(member) for member in members]

    async def copy(self, source: RemotePath, target: RemotePath) -> Stored:
        return msgspec.structs.replace(await super().copy(source, target), file_id=None)

    async def find(self, file_id: str) -> Sequence[RemotePath]:
        raise AssertionError(file_id)

    async def put(
        self,
        path: RemotePath,
        body: Body,
        size: int,
        condition: Condition,
        *,
        mtime_s: int | None = None,
        checksum: str | None = None,
        name: str | None = None,
        base_bytes: int = 0,
    ) -> Stored:
        assert not base_bytes
        stored = await super().put(path, body, size, condition, mtime_s=mtime_s, checksum=checksum, name=name)
        return msgspec.structs.replace(stored, file_id=None)

    async def make_folder(self, path: RemotePath, *, mtime_s: int | None = None) -> Stored:
        return msgspec.structs.replace(await super().make_folder(path), file_id=None)

    async def move(
        self, source: RemotePath, target: RemotePath, *, expect: RemoteVersion | None = None
    ) -> Stored:
        return msgspec.structs.replace(await super().move(source, target, expect=expect), file_id=None)
