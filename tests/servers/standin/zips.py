"""A zip as Nextcloud's streamer writes it, byte for byte: stored, lengths and CRCs behind the contents."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

_MADE_BY = 0x032D
_BEHIND, _UTF8 = 0x0008, 0x0800
_FILE, _FOLDER = 0x81A40000, 0x41ED0010
_MOST_32 = 0xFFFFFFFF


@dataclass(frozen=True)
class Member:
    """A file, or a folder (its name ends with a slash, and it has no content)."""

    name: str
    mtime: int
    content: bytes = b""

    @property
    def is_folder(self) -> bool:
        return self.name.endswith("/")

    @property
    def flags(self) -> int:
        return (0 if self.is_folder else _BEHIND) | (0 if self.name.isascii() else _UTF8)


def zipped(members: Iterable[Member], *, zip64: bool) -> Iterator[bytes]:
    """The archive in pieces. SOURCE: measured on 29.0.1, both forms."""
    directory: list[bytes] = []
    offset = 0
    for member in members:
        local, central = _entry(member, offset, zip64=zip64)
        yield local
        offset += len(local)
        directory.append(central)
    whole = b"".join(directory)
    yield whole + _end(len(directory), len(whole), offset, zip64=zip64)


def _entry(member: Member, offset: int, *, zip64: bool) -> tuple[bytes, bytes]:
    """A member with its header, and its entry in the directory."""
    large = zip64 and not member.is_folder
    name, size, crc = member.name.encode(), len(member.content), zlib.crc32(member.content)
    version = 45 if large else 20 if member.is_folder else 10
    fixed = struct.pack("<HHHHH", version, member.flags, 0, *_dos_time(member.mtime))
    unknown = (_MOST_32, _MOST_32) if large else (0, 0)
    extra = _extra(0, offset) if large else b""
    local = b"PK\3\4" + fixed + struct.pack("<IIIHH", 0, *unknown, len(name), len(extra)) + name + extra
    local += member.content
    if not member.is_folder:
        local += b"PK\7\10" + struct.pack("<IQQ" if large else "<III", crc, size, size)
    sizes = (_MOST_32, _MOST_32) if large else (size, size)
    extra = _extra(size, offset) if large else b""
    central = b"PK\1\2" + struct.pack("<H", _MADE_BY) + fixed
    central += struct.pack("<IIIHHH", crc, *sizes, len(name), len(extra), 0)
    attributes = _FOLDER if member.is_folder else _FILE
    central += struct.pack("<HHI", 0xFFFF if large else 0, 0, attributes)
    return local, central + struct.pack("<I", _MOST_32 if large else offset) + name + extra


def _extra(size: int, offset: int) -> bytes:
    return struct.pack("<HHQQQI", 1, 28, size, size, offset, 0)


def _end(count: int, length: int, offset: int, *, zip64: bool) -> bytes:
    if not zip64:
        return b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, count, count, length, offset, 0)
    end64 = b"PK\6\6" + struct.pack("<QHHIIQQQQ", 44, _MADE_BY, 45, 0, 0, count, count, length, offset)
    locator = b"PK\6\7" + struct.pack("<IQI", 0, offset + length, 1)
    last = struct.pack("<HHHHIIH", 0xFFFF, 0xFFFF, count, count, _MOST_32, _MOST_32, 0)
    return end64 + locator + b"PK\5\6" + last


def _dos_time(mtime: int) -> tuple[int, int]:
    at = datetime.fromtimestamp(mtime, UTC)
    if at.year < 1980:
        return 0, 0x21
    return at.hour << 11 | at.minute << 5 | at.second // 2, (at.year - 1980) << 9 | at.month << 5 | at.day
