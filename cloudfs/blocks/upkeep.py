"""The folders of the cache: find the current one, clear away what nobody needs. Blocking: in threads.

    CACHE/blocks-<store id>-<8 hex digits>/    one `volume`

A damaged volume is never repaired: a new folder takes its place and the old one is deleted at leisure. A folder
of another store id holds blocks that no inode of ours means. INVARIANT: only names that this module and
its neighbours make are ever deleted; a foreign file in a volume keeps its folder alive.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from cloudfs.blocks.rawdisk import BlockKey, value_files
from cloudfs.blocks.trouble import CacheDamaged, translated
from cloudfs.blocks.values import Values
from cloudfs.blocks.volume import Volume

__all__ = ["create_volume", "garbage", "open_volume", "purge", "sweep"]

_log = logging.getLogger(__name__)

_FOLDER = re.compile(r"blocks-([A-Za-z0-9_]{1,64})-[0-9a-f]{8}", re.ASCII)
_DATABASES = [name + end for name in ("cache.db", "index.db") for end in ("", "-wal", "-shm", "-journal")]
_KEYS_PER_STEP = 256


def open_volume(cache: Path, store_id: str, form: Values) -> Volume:
    """Open the store's volume; a new one where there is none or it is damaged. Raises CacheTrouble."""
    found = [path for path in _volumes(cache) if _store_of(path) == store_id]
    for folder in sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)[:1]:
        try:
            return Volume(folder, store_id, form)
        except CacheDamaged as damage:
            _log.warning("the block cache %s is damaged and starts again empty: %s", folder, str(damage))
    return create_volume(cache, store_id, form)


def create_volume(cache: Path, store_id: str, form: Values) -> Volume:
    """Make a new, empty volume. ValueError for a store id that cannot be part of a name."""
    folder = cache / f"blocks-{store_id}-{secrets.token_hex(4)}"
    if _store_of(folder) != store_id:
        raise ValueError(f"store id {store_id!r} is not of the form [A-Za-z0-9_]{{1,64}}")
    return Volume(folder, store_id, form)


def garbage(cache: Path, current: Path) -> list[Path]:
    """List the volumes that nobody will open again. Raises CacheTrouble."""
    return [path for path in _volumes(cache) if path != current]


def purge(folder: Path) -> Iterator[None]:
    """Delete a volume that is no longer open, a little with every step."""
    for name in _DATABASES:
        _unlink(folder / name)
    for part, names in value_files(folder):
        for name in names:
            if BlockKey.of_file_name(f"{part.name}/{name}") is not None:
                _unlink(part / name)
        with suppress(OSError):
            part.rmdir()
        yield
    with suppress(OSError):
        folder.rmdir()


def sweep(volume: Volume) -> Iterator[None]:
    """Remove the values that a killed process left without a row, a little with every step.

    Every step runs under the volume's write lock, so that no value is taken whose row is just being made.
    """
    for part, names in value_files(volume.folder):
        for name in names:
            key = BlockKey.of_file_name(f"{part.name}/{name}")
            if key is not None and not volume.has_row(key):
                _unlink(part / name)
        yield
    last = 0
    while step := volume.value_keys(last, _KEYS_PER_STEP):
        volume.remove_values(text for _, text in step if not _has_row(volume, text))
        last, _ = step[-1]
        yield


def _has_row(volume: Volume, text: str) -> bool:
    try:
        key = BlockKey.of_text(text)
    except ValueError:
        return False
    return key.text(volume.store_id) == text and volume.has_row(key)


def _volumes(cache: Path) -> list[Path]:
    with translated(), suppress(FileNotFoundError), os.scandir(cache) as entries:
        return [Path(entry.path) for entry in entries if _store_of(Path(entry.path)) and _is_folder(entry)]
    return []


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False)


def _store_of(folder: Path) -> str | None:
    match = _FOLDER.fullmatch(folder.name)
    return match and match.group(1)


def _unlink(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
