"""What a client of the soak notes, outside of what is tested: each content that it made, was told is safe, or saw.

Contents are kept by their SHA-1 in one folder, so that the judge can look into them. A content that a client makes has
its own token in each line, which says whose it is.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import threading
import time
from pathlib import Path
from typing import Any

__all__ = ["EMPTY", "TAIL", "Contents", "Notes", "read_notes"]

EMPTY = hashlib.sha1(b"", usedforsecurity=False).hexdigest()
TAIL = re.compile(rb"\n<<[A-Z]\.\d+ [^\n]*>>\n\Z")
"""What is added to the end of a file that was not read before."""

_SMALL = (100, 60_000)
_MIDDLE = (100_000, 1_500_000)
_LARGE = (2_000_000, 7_000_000)
_NAMES = ("alpha", "beta", "gamma", "delta ü", "eps", "Report 1", "log", "x")
_ENDINGS = (".txt", ".dat", "")


class Contents:
    """Contents by SHA-1, shared by all clients of a run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)

    def keep(self, data: bytes) -> str:
        """Keep a content; return its SHA-1."""
        digest = hashlib.sha1(data, usedforsecurity=False).hexdigest()
        path = self.folder / digest
        if not path.exists():
            new = path.with_name(f"{digest}.{threading.get_native_id()}")
            new.write_bytes(data)
            new.replace(path)
        return digest

    def read(self, digest: str) -> bytes:
        return (self.folder / digest).read_bytes()


class Notes:
    """One client's: `root` is the folder of the run, `who` a capital letter."""

    def __init__(self, root: Path, who: str, seed: str) -> None:
        self.contents = Contents(root / "contents")
        self.choose = random.Random(f"{seed}-{who}")
        self._who = who
        self._book = (root / f"notes-{who}.jsonl").open("a", buffering=1)
        self._lock = threading.Lock()
        self._count = 0

    def close(self) -> None:
        """Nothing more is noted."""
        self._book.close()

    def note(self, kind: str, **more: Any) -> None:
        """Write a line: `made` (about to be written), `kept` (acknowledged), `seen`, `gone` (given up knowingly)."""
        with self._lock:
            self._book.write(json.dumps({"at": time.time(), "who": self._who, "kind": kind, **more}) + "\n")

    def made(self, path: str, data: bytes, parent: str | None = None) -> str:
        """Note a content before it is written over `parent`; return its SHA-1."""
        digest = self.contents.keep(data)
        self.note("made", path=path, digest=digest, parent=parent)
        return digest

    def seen(self, path: str, data: bytes) -> str:
        """Note what a read returned; return its SHA-1."""
        digest = self.contents.keep(data)
        self.note("seen", path=path, digest=digest)
        return digest

    def token(self, what: str) -> str:
        """Return a word that nobody else writes."""
        self._count += 1
        return f"{self._who}.{self._count} {what}"

    def tail(self) -> bytes:
        return f"\n<<{self.token('tail')}>>\n".encode()

    def content(self, what: str, *, at_most: int = _LARGE[1]) -> bytes:
        """Return bytes of a size as files have: most are small, a few are larger than a block, some are empty."""
        kind = self.choose.random()
        if kind < 0.01:
            return b""
        low, high = _LARGE if kind < 0.04 else _MIDDLE if kind < 0.15 else _SMALL
        size = min(self.choose.randint(low, high), at_most)
        begin = f"{self.token(what)} ".encode()
        lines = size // 2000 + 1
        return b"".join(begin + self.choose.randbytes(980).hex().encode() + b"\n" for _ in range(lines))[
            :size
        ]

    def name(self) -> str:
        """Return a name that is often taken, or one of many."""
        if self.choose.random() < 0.4:
            return f"n{self.choose.randint(0, 400)}.txt"
        return self.choose.choice(_NAMES) + self.choose.choice(_ENDINGS)


def read_notes(root: Path) -> list[dict[str, Any]]:
    """Return what all clients of a run noted, in order."""
    lines = [line for book in root.glob("notes-*.jsonl") for line in book.read_text().splitlines()]
    return sorted((json.loads(line) for line in lines), key=lambda note: note["at"])
