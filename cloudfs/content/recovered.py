"""The folder `recovered` of an account: changed bytes that nobody can vouch for, kept for people to look at."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["keep_in"]

_NAME_BYTES = 180


def keep_in(recovered: Path, staged: Path, shown_name: str) -> Path:
    """Give a staging file another name in the folder, that outlasts it, and return that. Blocking. Raises OSError.

    Done again it is no second one. Of another file that has the name already nothing is lost: inodes and versions of a
    lost database come again in its successor.
    """
    recovered.mkdir(mode=0o700, exist_ok=True)
    name = f"{staged.name} {shown_name.encode()[:_NAME_BYTES].decode(errors='ignore')}".strip()
    target, number = recovered / name, 1
    while target.exists():
        if target.samefile(staged):
            return target
        number += 1
        target = recovered / f"{number} {name}"
    os.link(staged, target, follow_symlinks=False)
    return target
