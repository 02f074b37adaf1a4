"""What a staging file says of itself, for the day that the database is lost: whose bytes it holds.

The label is an extended attribute of the file: it goes where the file goes, costs 3 µs and no fsync of its own. A file
system without such attributes has no labels; then the files are kept for people to look at.
"""

from __future__ import annotations

import contextlib

import msgspec

from cloudfs.blocks.staging import Staging
from cloudfs.ranges import RangeSet
from cloudfs.store.records import StagedRow
from cloudfs.store.store import Store

__all__ = ["Label", "label", "read"]

_MAX_BYTES = 3000
"""ext4 keeps an attribute of one block beside the inode."""


class Label(msgspec.Struct, frozen=True, array_like=True):
    """Where the mount showed the file, and which of its bytes are written; the others below `limit` were its base's.

    `present` is empty, too, where there is no room to say it.
    """

    path: str
    size: int
    limit: int
    present: list[tuple[int, int]]

    @property
    def whole(self) -> bool:
        """Tell whether no byte was its base's."""
        return RangeSet(self.present).covers(0, min(self.limit, self.size))


def label(store: Store, staging: Staging, row: StagedRow) -> None:
    """Write what the row says beside the bytes that it says it of. Never fails."""
    path = store.nodes.local_path(row.ino)
    if path is None:
        return
    present = list(RangeSet.unpack(row.present))
    text = msgspec.json.encode(Label(path, row.size, row.base_limit, present))
    if len(text) > _MAX_BYTES:  # as if it was no whole file: it is kept then, and not sent
        text = msgspec.json.encode(Label(path, row.size, max(row.base_limit, 1), []))
    staging.label(row.ino, row.version, text)


def read(text: bytes) -> Label | None:
    """Return a file's label, None where there is none that makes sense."""
    with contextlib.suppress(msgspec.DecodeError):
        return msgspec.json.decode(text, type=Label)
    return None
