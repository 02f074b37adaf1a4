"""The folder `recovered` of an account: changed bytes that nobody can vouch for, kept for people to look at."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path

__all__ = ["copy_in", "keep_in"]

_NAME_BYTES = 180
_PIECE_BYTES = 1024 * 1024


def keep_in(recovered: Path, staged: Path, shown_name: str) -> Path:
    """Give a staging file another name in the folder, that outlasts it, and return that. Blocking. Raises OSError.

    Done again it is no second one. Of another file that has the name already nothing is lost: inodes and versions of a
    lost database come again in its successor.
    """
    for target in _names(recovered, staged, shown_name):
        if not target.exists():
            os.link(staged, target, follow_symlinks=False)
            return target
        if target.samefile(staged):
            return target
    raise AssertionError("there is no end of names")


def copy_in(recovered: Path, staged: Path, shown_name: str, ranges: Iterable[tuple[int, int]]) -> None:
    """Copy parts of a staging file that goes on being written; the rest are holes. Blocking. Raises OSError.

    On a failure nothing is left of the copy.
    """
    target = next(name for name in _names(recovered, staged, shown_name) if not name.exists())
    try:
        with staged.open("rb") as source, target.open("xb") as copy:
            for start, stop in ranges:
                source.seek(start)
                copy.seek(start)
                while piece := source.read(min(_PIECE_BYTES, stop - source.tell())):
                    copy.write(piece)
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def _names(recovered: Path, staged: Path, shown_name: str) -> Iterator[Path]:
    recovered.mkdir(mode=0o700, exist_ok=True)
    name = f"{staged.name} {shown_name.encode()[:_NAME_BYTES].decode(errors='ignore')}".strip()
    yield recovered / name
    yield from (recovered / f"{number} {name}" for number in count(2))
