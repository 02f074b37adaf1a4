"""What a power cut may leave of an engine's state folder, for every moment of a run.

A shim at the os boundary notes what each fsync and syncfs put on the disk. A cut then keeps that, and of everything
written since any part: a later log of the database with staging files as they were, or the other way round, or with
holes where the new bytes should be, or without the files' names.
"""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest

from cloudfs.blocks import dirtyfolder

Files = dict[str, bytes]


class Disk:
    """A state folder, and what of it is on the disk for sure."""

    def __init__(self, state: Path, patch: pytest.MonkeyPatch) -> None:
        """Everything that is there now counts as on the disk."""
        self.state = state
        self._durable = self._read()
        fsync, sync_all = os.fsync, dirtyfolder.sync_file_system

        def note_fsync(descriptor: int) -> None:
            path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
            before = {str(path.relative_to(state)): path.read_bytes()} if self._is_ours(path) else {}
            fsync(descriptor)
            self._durable |= before

        def note_all(descriptor: int) -> None:
            before = self._read()
            before = {name: data for name, data in before.items() if not name.endswith("-wal")}
            sync_all(descriptor)
            self._durable |= before

        patch.setattr(os, "fsync", note_fsync)
        patch.setattr(dirtyfolder, "sync_file_system", note_all)

    def cut(self, target: Path, choose: random.Random) -> None:
        """Make a folder as a power cut at this moment might leave it."""
        now = self._read()
        shutil.rmtree(target, ignore_errors=True)
        log_is_late = choose.random() < 0.7  # the log got further than it had to: the case that hurts
        for name in sorted({*now, *self._durable}):  # the same choices whatever names hash to
            durable, written = self._durable.get(name), now.get(name)
            if "staging" in name:
                kept = choose.choice([durable, written, _holed(durable, written), _holed(durable, written)])
            else:
                kept = written if log_is_late else durable
            if kept is not None:
                path = target / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(kept)

    def _is_ours(self, path: Path) -> bool:
        return self.state in path.parents and path.is_file()

    def _read(self) -> Files:
        found = {}
        for path in self.state.rglob("*"):
            if path.is_file() and not path.name.endswith("-shm"):
                found[str(path.relative_to(self.state))] = path.read_bytes()
        return found


def _holed(durable: bytes | None, written: bytes | None) -> bytes | None:
    """The size got to the disk and the bytes did not: zeros, but where the same bytes were there already."""
    if written is None or durable is None:
        return None if written is None else bytes(len(written))
    return durable[: len(written)] + bytes(max(0, len(written) - len(durable)))
