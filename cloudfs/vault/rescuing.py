"""Files that were rescued after damage, out of a sealed account: where nobody could read them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import trio

from cloudfs.blocks.staging import Staging
from cloudfs.config import Folders
from cloudfs.content.labels import read
from cloudfs.errors import LocalDamage
from cloudfs.ranges import RangeSet
from cloudfs.types import ContentVersion, Ino
from cloudfs.vault.keyholding import read_keys
from cloudfs.vault.place import find

__all__ = ["rescue"]

_NAME = re.compile(r"(?:\d+ )?([0-9A-Za-z_]{1,64})\.(\d+)\.(\d+)", re.ASCII)
_PIECE_BYTES = 1024 * 1024


def rescue(folders: Folders, name: str, target: Path) -> Iterator[str]:
    """Copy each rescued file into the folder `target`, and say what became of it; the sealed ones stay. Blocking.

    The caller holds the account. Raises UserError where there is no key, OSError.
    """
    state = folders.account_state(name)
    place = find(state)
    keys = trio.run(read_keys, folders, name, place)
    target.mkdir(parents=True, exist_ok=True)
    for number, path in enumerate(sorted((place.path(state) / "recovered").glob("*")), 1):
        parts = _NAME.fullmatch(path.name)
        if parts is None or keys is None:
            yield f"{path} is not sealed, and stays where it is"
            continue
        store_id, ino, version = parts[1], Ino(int(parts[2])), ContentVersion(int(parts[3]))
        # Beside the others, under the name that it was sealed by.
        folder = path.parent / f".opening-{store_id}"
        folder.mkdir(mode=0o700, exist_ok=True)
        link = folder / f"{ino}.{version}"
        link.unlink(missing_ok=True)
        link.hardlink_to(path)
        staging = Staging(folder, sealed=(keys, store_id))
        try:
            yield _copy(staging, ino, version, target, number)
        finally:
            staging.close()
            link.unlink()
            folder.rmdir()


def _copy(staging: Staging, ino: Ino, version: ContentVersion, target: Path, number: int) -> str:
    said = read(staging.label_of(ino, version))
    shown = "unknown" if said is None else said.path.rpartition("/")[2]
    copy = target / f"{number} {shown}"[:200]
    present = RangeSet([(0, staging.length(ino, version))] if said is None else said.present)
    lost = 0
    with copy.open("xb") as file:
        for start, stop in present:
            for at in range(start, stop, _PIECE_BYTES):
                size = min(_PIECE_BYTES, stop - at)
                file.seek(at)
                try:
                    file.write(staging.read_now(ino, version, at, size))
                except LocalDamage:
                    lost += size
    where = "" if said is None else f", which was {said.path}"
    return f"{copy}{where}" + (f"; {lost} bytes of it do not open" if lost else "")
