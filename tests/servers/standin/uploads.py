"""The pieces of one chunked upload (protocol.md §7)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from tests.servers.standin.blobs import Blob

_DIGITS = re.compile(r"(\d+)")


@dataclass(eq=False)
class Upload:
    """An upload folder: chunks by name."""

    mtime: int
    etag: str
    chunks: dict[str, Blob] = field(default_factory=dict)
    chunk_etags: dict[str, tuple[str, int]] = field(default_factory=dict)
    """ETag and mtime by chunk name."""

    def in_order(self) -> list[Blob]:
        """Chunks in the natural order of their names: 0, 1, 00002, 9, 10, abc."""
        return [self.chunks[name] for name in sorted(self.chunks, key=_natural)]

    def size_bytes(self) -> int:
        """Length of the file the chunks make."""
        return sum(blob.size_bytes for blob in self.chunks.values())


def _natural(name: str) -> list[tuple[int, int, str]]:
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in _DIGITS.split(name) if part]
