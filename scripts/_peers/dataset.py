"""The files that a bench works on: the same names, bytes and times whenever and wherever they are made."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from pathlib import Path

__all__ = ["FULL", "NEEDLE", "Shape", "build", "build_sources"]

NEEDLE = "needle"
"""Is in one line of each text."""

_MIB = 1024 * 1024
_TIME_S = 1_700_000_000
_LINE = 64


@dataclass(frozen=True)
class Shape:
    """How much there is of each kind."""

    tree_folders: int = 200
    tree_files: int = 10
    """In each of them."""
    text_folders: int = 5
    text_files: int = 100
    text_bytes: int = 4096
    listed_files: int = 1000
    pictures: int = 100
    picture_bytes: int = 2 * _MIB
    big_bytes: int = 256 * _MIB
    log_bytes: int = 64 * _MIB
    """A file of its own for each append."""
    copied_files: int = 300
    copied_bytes: int = 200 * _MIB


FULL = Shape()


def build(folder: Path, shape: Shape) -> None:
    """Make what the server has from the start."""
    chance = random.Random(5)  # noqa: S311  # the same bytes every time, nothing secret
    for number in range(shape.tree_folders):
        for file in range(shape.tree_files):
            _write(folder / f"tree/d{number:03}/f{file:02}.txt", _text(chance, 512))
    for number in range(shape.text_folders):
        for file in range(shape.text_files):
            _write(folder / f"texts/d{number}/f{file:03}.txt", _text(chance, shape.text_bytes))
    for file in range(shape.listed_files):
        _write(folder / f"listed/f{file:04}.txt", b"%04d" % file)
    for file in range(shape.pictures):
        _write(folder / f"pictures/p{file:03}.jpg", chance.randbytes(shape.picture_bytes))
    _write_large(folder / "big.bin", chance, shape.big_bytes)


def build_sources(folder: Path, shape: Shape) -> None:
    """Make what is copied onto the server while it is measured."""
    chance = random.Random(6)  # noqa: S311  # as above
    for file in range(shape.copied_files):
        _write(folder / f"texts/d{file % 3}/f{file:03}.txt", _text(chance, shape.text_bytes))
    _write_large(folder / "copied.bin", chance, shape.copied_bytes)
    _write_large(folder / "log.bin", chance, shape.log_bytes)


def _text(chance: random.Random, size: int) -> bytes:
    """Return lines of hex digits with the needle in one of them."""
    lines = [chance.randbytes(_LINE // 2).hex()[1:] + "\n" for _ in range(size // _LINE)]
    at = chance.randrange(len(lines))
    lines[at] = NEEDLE + lines[at][len(NEEDLE) :]
    return "".join(lines).encode()


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (_TIME_S, _TIME_S))


def _write_large(path: Path, chance: random.Random, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for begin in range(0, size, _MIB):
            file.write(chance.randbytes(min(_MIB, size - begin)))
    os.utime(path, (_TIME_S, _TIME_S))
