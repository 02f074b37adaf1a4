"""The folder `recovered` of an account: changed bytes that nobody can vouch for, kept for people to look at.

Of an account that is encrypted they stay sealed, and their names tell nothing: `cloudfs cache recovered` opens them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

from cloudfs.blocks.dirtyfolder import data_ranges
from cloudfs.blocks.staging import LABEL

__all__ = ["copy_in", "keep_in"]

_NAME_BYTES = 180
_PIECE_BYTES = 1024 * 1024


def keep_in(recovered: Path, staged: Path, shown_name: str, sealed_as: str = "") -> Path:
    """Give a staging file another name in the folder, that outlasts it, and return that. Blocking. Raises OSError.

    Done again it is no second one. Of another file that has the name already nothing is lost: inodes and versions of a
    lost database come again in its successor. `sealed_as` is the id of the database that the file is sealed for.
    """
    for target in _names(recovered, staged, shown_name, sealed_as):
        if not target.exists():
            os.link(staged, target, follow_symlinks=False)
            return target
        if target.samefile(staged):
            return target
    raise AssertionError("there is no end of names")


def copy_in(
    recovered: Path, staged: Path, shown_name: str, ranges: Iterable[tuple[int, int]], sealed_as: str = ""
) -> None:
    """Copy parts of a staging file that goes on being written; the rest are holes. Blocking. Raises OSError.

    On a failure nothing is left of the copy. A sealed file is copied whole, as it is, with what it says of itself.
    """
    names = _names(recovered, staged, shown_name, sealed_as)
    target = next(name for name in names if not name.exists())
    try:
        with staged.open("rb") as source, target.open("xb") as copy:
            if sealed_as:
                ranges = data_ranges(source.fileno())
                with suppress(OSError):
                    os.setxattr(copy.fileno(), LABEL, os.getxattr(source.fileno(), LABEL))
            for start, stop in ranges:
                source.seek(start)
                copy.seek(start)
                while piece := source.read(min(_PIECE_BYTES, stop - source.tell())):
                    copy.write(piece)
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def _names(recovered: Path, staged: Path, shown_name: str, sealed_as: str) -> Iterator[Path]:
    recovered.mkdir(mode=0o700, exist_ok=True)
    name = f"{staged.name} {shown_name.encode()[:_NAME_BYTES].decode(errors='ignore')}".strip()
    if sealed_as:
        name = f"{sealed_as}.{staged.name}"
    yield recovered / name
    yield from (recovered / f"{number} {name}" for number in count(2))
