"""What was kept under `recovered`, read as `cloudfs cache recovered` does."""

from __future__ import annotations

from pathlib import Path

from cloudfs.blocks.sealedfolder import SealedFolder
from cloudfs.blocks.sealing import Keys

__all__ = ["rescued"]


def rescued(kept: Path, keys: Keys | None) -> bytes:
    """Return a kept file's bytes, sealed or not; holes are zeros."""
    if keys is None:
        return kept.read_bytes()
    store_id, _, name = kept.name.rpartition(" ")[2].partition(".")
    folder = kept.with_name(".opening")
    folder.mkdir()
    (folder / name).hardlink_to(kept)
    opened = SealedFolder(folder, 1, 0, keys, store_id)
    try:
        return opened.pread(name, 0, opened.length(name))
    finally:
        opened.close()
        (folder / name).unlink()
        folder.rmdir()
