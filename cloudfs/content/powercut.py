"""After a power cut: goes back to what was on the disk for sure, and never on to holes.

Rows of the database and bytes of staging files reach the disk in any order. What a row calls safe was there before
the row said so; anything else is not believed. What is taken back was closed and never synced: its file is kept under
the account's `recovered` folder and named in the log, because most of the time its bytes are there after all.
"""

from __future__ import annotations

import errno
from pathlib import Path

import msgspec

from cloudfs.blocks.staging import Staging, file_name
from cloudfs.content.recovered import copy_in, keep_in
from cloudfs.errors import PosixError
from cloudfs.ranges import RangeSet
from cloudfs.store.records import Node, StagedRow
from cloudfs.store.store import Store

__all__ = ["after_power_cut"]


def after_power_cut(store: Store, staging: Staging, recovered: Path, boot: str) -> list[str]:
    """At start, before anything else looks at the rows; returns sentences about what was taken back.

    Raises PosixError where what is taken back cannot be kept, as on a full disk.

    Does nothing within one life of the machine: what was written is in its memory, wherever the process is.
    """
    last = store.boot_id()
    told: list[str] = []
    if last is not None and (last != boot or not boot):
        doubtful = {row.ino for row in store.all_staged() if not row.is_safe}
        for ino in sorted(doubtful):
            node = store.nodes.get(ino)
            if node is not None and node.content_dirty:
                with store.transaction():
                    told += _take_back(store, staging, recovered, node)
        _forget_checksums(store)
    store.set_boot_id(boot)
    return told


def _forget_checksums(store: Store) -> None:
    """Have all that is here hashed anew: bytes that were written over others may be there, and not that they were."""
    with store.transaction():
        for row in store.all_staged():
            if row.checksum is not None:
                store.put_staged(msgspec.structs.replace(row, checksum=None))


def _take_back(store: Store, staging: Staging, recovered: Path, node: Node) -> list[str]:
    rows = store.staged_of(node.ino)
    for row in rows:
        sound = _sound(store, staging, node, row)
        if sound is None:
            continue
        if sound == row and row.version == node.version:
            return []
        if sound != row and row.present:
            # The same file is written further: what it held beyond this would be lost in it.
            _keep_aside(staging, recovered, node, row, copied=True)
        store.put_staged(sound)
        store.nodes.update(node.ino, version=sound.version, size=sound.size)
        lost = [other for other in rows if other.version > sound.version]
        break
    else:
        _without_content(store, node)
        lost = rows
    for row in lost:
        _keep_aside(staging, recovered, node, row)
        store.delete_staged(row.ino, row.version)
    what = "its last change was not on the disk when the power went, and is taken back"
    return [f"{node.name}: {what}; what there is of it is kept in {recovered}"]


def _sound(store: Store, staging: Staging, node: Node, row: StagedRow) -> StagedRow | None:
    """Return the row as far as its bytes are on the disk, None where nothing of it is known to be."""
    found = at = _as_on_disk(staging, row)
    while at is not None and not RangeSet.unpack(at.present).covers(0, min(at.base_limit, at.size)):
        # Only a damaged row stands on what is not older; it would have no end.
        base = store.staged(at.ino, at.base) if at.base < at.version else None
        if base is None:
            return found if at.base_remote is not None or at.base == node.s_version else None
        # What it stands on counts only as it is: there may be any number of such below each other.
        at = _as_on_disk(staging, base) if base.is_safe else None
    return None if at is None else found


def _as_on_disk(staging: Staging, row: StagedRow) -> StagedRow | None:
    if not row.is_safe:
        if row.safe is None:
            return None
        size, present, limit = row.safe.size, row.safe.present, row.safe.base_limit
        row = msgspec.structs.replace(row, size=size, present=present, base_limit=limit, checksum=None)
    ranges = RangeSet.unpack(row.present)
    short = bool(ranges) and staging.length(row.ino, row.version) < list(ranges)[-1][1]
    return None if short else row


def _without_content(store: Store, node: Node) -> None:
    """Nothing of ours is left: the server's version again; of a new file not even its name."""
    if node.synced and node.s_version is not None and node.s_version >= 0:
        mtime = node.mtime_ns if node.s_mtime_ns is None else node.s_mtime_ns
        store.nodes.update(node.ino, version=node.s_version, size=node.s_size or 0, mtime_ns=mtime)
        # What was seen there beside the change was not taken over, and no other listing would tell of it.
        store.look_again(node.ino)
        return
    store.nodes.update(node.ino, parent=None)
    if node.parent is None:
        return
    # Saved by rename over another file: that one's removal goes with it.
    replaced = store.nodes.synced_child(node.parent, node.name)
    if replaced is not None and replaced.tombstone:
        store.nodes.update(replaced.ino, parent=node.parent, name=node.name)
        store.look_again(replaced.ino)


def _keep_aside(
    staging: Staging, recovered: Path, node: Node, row: StagedRow, *, copied: bool = False
) -> None:
    """Raises PosixError where it cannot be kept: then its row stays too, and the next start tries again."""
    staged = staging.path / file_name(row.ino, row.version)
    if not staged.exists():
        return
    try:
        if copied:
            copy_in(recovered, staged, node.name, RangeSet.unpack(row.present), staging.sealed_as)
        else:
            keep_in(recovered, staged, node.name, staging.sealed_as)
    except OSError as error:
        what = (
            f"{node.name}: its change may be lost after a power cut, and cannot be put aside in {recovered}"
        )
        raise PosixError(error.errno or errno.EIO, what) from error
