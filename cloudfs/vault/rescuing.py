"""Files that were rescued after damage, out of a sealed account: where nobody could read them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
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
_NAME_BYTES = 200


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
            with suppress(OSError):  # what a kill left of another one goes with that
                folder.rmdir()


def _copy(staging: Staging, ino: Ino, version: ContentVersion, target: Path, number: int) -> str:
    said = read(staging.label_of(ino, version))
    present = RangeSet([(0, staging.length(ino, version))] if said is None else said.present)
    lost = 0
    try:
        staging.expect(ino, version, present)
        copy, descriptor = _made(target, number, "unknown" if said is None else said.path.rpartition("/")[2])
    except LocalDamage as error:
        return f"{staging.path.parent}: {error}"
    with os.fdopen(descriptor, "wb") as file:
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


def _made(target: Path, number: int, shown: str) -> tuple[Path, int]:
    """Make a file that nobody else can read, under a name that nothing has, and open it. Raises OSError."""
    name = shown.encode()[:_NAME_BYTES].decode(errors="ignore")
    for again in count(1):
        copy = target / (f"{number} {name}" if again == 1 else f"{number} ({again}) {name}")
        with suppress(FileExistsError):
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            return copy, os.open(copy, flags, 0o600)
    raise AssertionError("there is no end of names")
