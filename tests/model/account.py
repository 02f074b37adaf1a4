"""The files of one Nextcloud account in memory: what the server has, without any protocol.

As measured on a real server (protocol.md §3, §6, §9):

- A file's ETag is md5(mtime second, object number, size), so two contents of one size and second share it. Where the
  account is `sticky`, an overwrite within the mtime second keeps the ETag whatever the sizes are (measured on 29.0.1).
- A folder's ETag is a serial number; a change gives new ones to all folders above it up to the root.
- MOVE keeps object number, ETag, time and checksum; COPY makes a new object with the time of now and no checksum.
- An overwrite keeps the object; its checksum is the one sent with it, or none.

A `plain` account is that of another WebDAV server: it tells no file ids, checksums or permissions, and no ETags of
folders. Its files' ETags are of the nanosecond, and so never the same twice, as rclone's and Apache's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count

from cloudfs.errors import AlreadyExists, NotFound, ParentMissing, ServerFault
from cloudfs.paths import ROOT_PATH, is_below, join, parent_of
from cloudfs.types import Kind, RemoteEntry, RemotePath, RemoteVersion

__all__ = ["Account", "ContentKey", "StoredObject", "content_key"]


@dataclass
class StoredObject:
    """One file or folder. `size` and `mtime_s` are what listings say; a cut overwrite leaves them behind."""

    number: int
    kind: Kind
    mtime_s: int
    content: bytes = b""
    size: int = 0
    checksum: str | None = None
    serial: str = ""
    """The ETag."""
    members: dict[str, StoredObject] = field(default_factory=dict)
    sticky: bool = False
    cut: bool = False
    """An overwrite of it broke off: what listings say of it is still said of the content before."""
    plain: bool = False
    stamps: int = 0
    """So often it was written, or its time set."""
    readers: int = 0
    """Open GETs: each holds a shared lock (protocol.md §14)."""

    @property
    def file_id(self) -> str:
        return f"{self.number:08d}ocfake"

    @property
    def version(self) -> RemoteVersion:
        if self.kind is Kind.FOLDER:
            return RemoteVersion(self.serial, 0, self.mtime_s)
        return RemoteVersion(self.serial, self.size, self.mtime_s, self.checksum)

    def etag_of(self, mtime_s: int, size: int) -> str:
        """Return the ETag that this file has, or would have after an overwrite."""
        if self.sticky and self.serial and mtime_s == self.mtime_s:
            return self.serial
        nanosecond = f" {self.stamps}" if self.plain else ""
        told = f"{mtime_s} {self.number} {size}{nanosecond}"
        return hashlib.md5(told.encode(), usedforsecurity=False).hexdigest()

    def stamp(self, mtime_s: int, size: int) -> None:
        """Give a file the ETag, time and size that it has from now on."""
        self.stamps += 1
        self.serial = self.etag_of(mtime_s, size)
        self.mtime_s, self.size = mtime_s, size


class Account:
    """A tree of objects by path. Each method is one moment: nothing here waits."""

    def __init__(self, now_s: Callable[[], int], *, sticky: bool = False, plain: bool = False) -> None:
        self.now_s = now_s
        self._sticky = sticky
        self._plain = plain
        self._numbers = count(101)
        self._serials = count(0x10000)
        self.contents: dict[ContentKey, bytes] = {}
        """Every content that a file ever had, by all that a listing says of it."""
        self.old: dict[str, set[ContentKey]] = {}
        self.removed: dict[str, bytes] = {}
        """The trash: what files held when they were removed, by their ids."""
        """Contents of a file that were overwritten, or removed with it, by its id."""
        self.fingerprint: str | None = None
        """What Nextcloud's administrator changes after a backup was restored."""
        self.told: Callable[[list[str]], None] = lambda _ids: None
        """Is told of each change, by the ids that notify_push names for it."""
        self.root = StoredObject(100, Kind.FOLDER, now_s(), serial="root")

    # Looking

    def find(self, path: RemotePath) -> StoredObject | None:
        found: StoredObject | None = self.root
        for name in filter(None, path.split("/")):
            if found is None or found.kind is Kind.FILE:
                return None
            found = found.members.get(name)
        return found

    def get(self, path: RemotePath) -> StoredObject:
        found = self.find(path)
        if found is None:
            raise NotFound("it does not exist", subject=path, status=404)
        return found

    def entry(self, path: RemotePath) -> RemoteEntry:
        found = self.get(path)
        if self._plain:
            version = RemoteVersion("", 0, found.mtime_s) if found.kind is Kind.FOLDER else found.version
            return RemoteEntry(path, found.kind, version)
        permissions = "RGDNVCK" if found.kind is Kind.FOLDER else "RGDNVW"
        return RemoteEntry(
            path, found.kind, found.version, found.file_id, permissions, fingerprint=self.fingerprint
        )

    def members(self, path: RemotePath) -> list[RemoteEntry]:
        return [self.entry(join(path, name)) for name in sorted(self.get(path).members)]

    def walk(self, path: RemotePath = ROOT_PATH) -> Iterator[RemoteEntry]:
        """Yield everything below a folder, folders before their members."""
        for entry in self.members(path):
            yield entry
            if entry.kind is Kind.FOLDER:
                yield from self.walk(entry.path)

    # Changing

    def write(
        self, path: RemotePath, content: bytes, *, mtime_s: int | None = None, checksum: str | None = None
    ) -> StoredObject:
        """Create or overwrite a file; the caller has checked conditions."""
        folder = self._folder_of(path)
        found = self.find(path)
        if found is None:
            found = self._add(folder, path, Kind.FILE)
        elif found.kind is Kind.FOLDER:
            raise ServerFault("PUT is not allowed on non-files.", subject=path, status=409)
        else:
            self._keep(found)
        found.content, found.checksum, found.cut = content, None if self._plain else checksum, False
        found.stamp(self.now_s() if mtime_s is None else mtime_s, len(content))
        self.contents[content_key(found.version)] = content
        self._changed(parent_of(path))
        self.told([found.file_id, folder.file_id])
        return found

    def _files_below(self, folder: StoredObject) -> Iterator[StoredObject]:
        for member in folder.members.values():
            if member.kind is Kind.FILE:
                yield member
            else:
                yield from self._files_below(member)

    def _keep(self, file: StoredObject) -> None:
        self.old.setdefault(file.file_id, set()).add(content_key(file.version))

    def cut(self, path: RemotePath, received: bytes) -> None:
        """An overwrite was cut: the file is written in place, and listings still say the old size."""
        found = self.find(path)
        if found is not None and found.kind is Kind.FILE:
            found.content, found.cut = received, True

    def scan(self, path: RemotePath) -> None:
        """A GET makes the server notice what a cut overwrite left."""
        found = self.get(path)
        if found.size != len(found.content):
            found.checksum = None
            found.stamp(self.now_s(), len(found.content))
            self._changed(parent_of(path))

    def make_folder(self, path: RemotePath) -> StoredObject:
        if self.find(path) is not None:
            raise AlreadyExists("it exists", subject=path, status=405)
        folder = self._folder_of(path)
        made = self._add(folder, path, Kind.FOLDER)
        self._changed(parent_of(path))
        made.serial = self._serial()
        self.told([made.file_id, folder.file_id])
        return made

    def move(self, source: RemotePath, target: RemotePath) -> StoredObject:
        moved = self.get(source)
        if source == ROOT_PATH or is_below(target, source):
            raise ServerFault("into itself", subject=target, status=409)
        folder = self._folder_of(target)
        if self.find(target) is not None:
            raise AlreadyExists("the target exists", subject=target, status=412)
        before = self._folder_of(source)
        del before.members[_name(source)]
        folder.members[_name(target)] = moved
        self._changed(parent_of(source))
        self._changed(parent_of(target))
        self.told([moved.file_id, before.file_id, folder.file_id])
        return moved

    def copy(self, source: RemotePath, target: RemotePath) -> StoredObject:
        origin = self.get(source)
        folder = self._folder_of(target)
        if self.find(target) is not None:
            raise AlreadyExists("the target exists", subject=target, status=412)
        folder.members[_name(target)] = self._twin(origin)
        self._changed(parent_of(target))
        made = self.get(target)
        self.told([made.file_id, folder.file_id])
        return made

    def delete(self, path: RemotePath) -> None:
        found = self.get(path)
        for file in [found] if found.kind is Kind.FILE else self._files_below(found):
            self.removed[file.file_id] = file.content
        del self._folder_of(path).members[_name(path)]
        self._changed(parent_of(path))
        self.told([self.get(above).file_id for above in _folders_above(path)])

    def set_mtime(self, path: RemotePath, mtime_s: int) -> None:
        found = self.get(path)
        if found.kind is Kind.FILE:
            if found.mtime_s != mtime_s:
                found.checksum = None  # as Nextcloud 29 does (measured)
            found.stamp(mtime_s, found.size)
            self.contents[content_key(found.version)] = found.content
        else:
            found.mtime_s = mtime_s
        self._changed(path if found.kind is Kind.FOLDER else parent_of(path), time=False)
        self.told([found.file_id, self.get(parent_of(path)).file_id])

    def _folder_of(self, path: RemotePath) -> StoredObject:
        folder = self.find(parent_of(path))
        if folder is None or folder.kind is Kind.FILE:
            raise ParentMissing("its folder does not exist", subject=path, status=409)
        return folder

    def _add(self, folder: StoredObject, path: RemotePath, kind: Kind) -> StoredObject:
        made = StoredObject(next(self._numbers), kind, self.now_s(), sticky=self._sticky, plain=self._plain)
        folder.members[_name(path)] = made
        return made

    def _twin(self, origin: StoredObject) -> StoredObject:
        twin = StoredObject(next(self._numbers), origin.kind, self.now_s(), origin.content, origin.size)
        twin.sticky, twin.plain = self._sticky, self._plain
        twin.serial = (
            self._serial() if origin.kind is Kind.FOLDER else twin.etag_of(twin.mtime_s, origin.size)
        )
        twin.members = {name: self._twin(member) for name, member in origin.members.items()}
        return twin

    def _changed(self, folder_path: RemotePath, *, time: bool = True) -> None:
        if time:
            self.get(folder_path).mtime_s = self.now_s()
        while True:
            self.get(folder_path).serial = self._serial()
            if folder_path == ROOT_PATH:
                return
            folder_path = parent_of(folder_path)

    def _serial(self) -> str:
        return f"{next(self._serials):013x}"


ContentKey = tuple[str, int, str | None]


def content_key(version: RemoteVersion) -> ContentKey:
    """Return what tells one content of a file from another: ETag, size and checksum."""
    return version.etag, version.size, version.checksum


def _folders_above(path: RemotePath) -> Iterator[RemotePath]:
    while path != ROOT_PATH:
        path = parent_of(path)
        yield path


def _name(path: RemotePath) -> str:
    return path.rpartition("/")[2]
