"""A program that changes files and notes, outside the file system under test, what it was told is done.

    python writer.py MOUNT NOTES SEED

Each line of the notes is JSON: what is about to be done, then that it is done; `may` says what the name can hold from
then on, by SHA-1 and size (null: nothing). It ends quietly when the file system goes away.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import sys
from pathlib import Path

SIZES = [0, 10, 5_000, 200_000, 1_500_000]


class Writer:
    """One folder of a mount, written by one program."""

    def __init__(self, folder: Path, notes: Path, seed: int) -> None:
        self.folder = folder
        self.choose = random.Random(seed)
        self.book = notes.open("w")
        self.holds: dict[str, bytes | None] = {}

    def note(self, name: str, contents: list[bytes | None]) -> None:
        """From now on a name may hold any of these."""
        may = [None if data is None else [_sha1(data), len(data)] for data in contents]
        self.book.write(json.dumps({"name": name, "may": may}) + "\n")
        self.book.flush()

    def becomes(self, name: str, data: bytes | None, *between: bytes | None) -> None:
        """Note that a name is about to change; `done` when it has."""
        self.note(name, [self.holds.get(name), *between, data])
        self.holds[name] = data

    def done(self, name: str) -> None:
        self.note(name, [self.holds[name]])

    def content(self) -> bytes:
        return self.choose.randbytes(self.choose.choice(SIZES))

    def turn(self) -> None:
        """Do one thing."""
        name = f"file{self.choose.randrange(10)}"
        kinds = [
            self.write,
            self.write,
            self.synced,
            self.append,
            self.save,
            self.save,
            self.remove,
            self.cut,
        ]
        self.choose.choice([*kinds, self.folders])(name)

    def write(self, name: str) -> None:
        data = self.content()
        self.becomes(name, data, b"")
        (self.folder / name).write_bytes(data)
        self.done(name)

    def synced(self, name: str) -> None:
        data = self.content()
        self.becomes(name, data, b"")
        with (self.folder / name).open("wb", buffering=0) as file:
            file.write(data)
            os.fsync(file.fileno())
            self.done(name)

    def append(self, name: str) -> None:
        now, more = self.holds.get(name) or b"", self.choose.randbytes(3_000)
        self.becomes(name, now + more, now)
        with (self.folder / name).open("ab", buffering=0) as file:
            file.write(more)
        self.done(name)

    def cut(self, name: str) -> None:
        now = self.holds.get(name)
        if now is None:
            return
        size = self.choose.choice([0, len(now) // 2, len(now) + 100])
        self.becomes(name, now[:size].ljust(size, b"\0"))
        os.truncate(self.folder / name, size)
        self.done(name)

    def save(self, name: str) -> None:
        """As editors do: names with a dot are not noted, and may be left over."""
        data = self.content()
        (self.folder / f".{name}.new").write_bytes(data)
        self.becomes(name, data)
        (self.folder / f".{name}.new").replace(self.folder / name)
        self.done(name)

    def remove(self, name: str) -> None:
        self.becomes(name, None)
        (self.folder / name).unlink(missing_ok=True)
        self.done(name)

    def folders(self, name: str) -> None:
        """Names with a dot again: made, filled, emptied and removed."""
        folder = self.folder / f".{name}.d"
        folder.mkdir()
        (folder / "in").write_bytes(b"inside")
        (folder / "in").unlink()
        folder.rmdir()


def _sha1(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


def main(mount: Path, notes: Path, seed: int) -> None:
    """Write until the file system fails."""
    mount.mkdir(exist_ok=True)
    writer = Writer(mount, notes, seed)
    for _ in range(3000):
        writer.turn()


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
    except OSError:
        sys.exit(0)
