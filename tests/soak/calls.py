"""System calls on a mount, timed: which took how long, which failed, which never came back."""

from __future__ import annotations

import ctypes
import errno
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from tests.soak.notes import Notes

__all__ = ["Calls"]

T = TypeVar("T")

_AT_CWD = -100
_EXCHANGE = 2
_PIECES = (4096, 65536, 131072, 1_000_000)


class Calls:
    """Those of one client. `longest_s`: what takes longer is noted, also while it has not come back."""

    def __init__(self, notes: Notes, longest_s: float) -> None:
        self.notes = notes
        self.errors: Counter[str] = Counter()
        self.longest: dict[str, float] = {}
        self._longest_s = longest_s
        self._now: tuple[str, float, str] | None = None
        threading.Thread(target=self._watch, daemon=True).start()

    def __call__(self, name: str, call: Callable[[], T], what: str = "") -> T:
        """Make a call. Raises OSError as it does."""
        began = time.monotonic()
        self._now = name, began, what
        try:
            return call()
        except OSError as error:
            self.errors[f"{name} {errno.errorcode.get(error.errno or 0, error.errno)}"] += 1
            raise
        finally:
            self._now = None
            took_s = time.monotonic() - began
            self.longest[name] = max(self.longest.get(name, 0.0), round(took_s, 3))
            if took_s > self._longest_s:
                self.notes.note("slow", call=name, took_s=took_s, what=what)

    def open(self, path: str, flags: int) -> int:
        return self("open", lambda: os.open(path, flags, 0o644), path)

    def close(self, fd: int) -> None:
        self("close", lambda: os.close(fd))

    def read(self, fd: int) -> bytes:
        """Read all of an open file."""
        parts, offset = [], 0
        while part := self("read", lambda at=offset: os.pread(fd, 131072, at)):  # type: ignore[misc]
            parts.append(part)
            offset += len(part)
        return b"".join(parts)

    def write(self, fd: int, data: bytes, offset: int = 0) -> None:
        """Write in pieces of one size."""
        piece = self.notes.choose.choice(_PIECES)
        view = memoryview(data)
        while view:
            done = self("write", lambda some=view[:piece], at=offset: os.pwrite(fd, some, at))  # type: ignore[misc]
            view, offset = view[done:], offset + done

    def rename(self, source: str, target: str) -> None:
        self("rename", lambda: os.rename(source, target), f"{source} {target}")

    def exchange(self, one: str, other: str) -> None:
        """RENAME_EXCHANGE, which Python does not know."""
        names = os.fsencode(one), os.fsencode(other)

        def call() -> None:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.renameat2(_AT_CWD, names[0], _AT_CWD, names[1], _EXCHANGE):
                code = ctypes.get_errno()
                raise OSError(code, os.strerror(code))

        self("exchange", call, f"{one} {other}")

    def _watch(self) -> None:
        """Note a call that does not come back: by its end it might never be noted."""
        told = 0.0
        while True:
            time.sleep(1.0)
            now = self._now
            if now is not None and now[1] != told and time.monotonic() - now[1] > self._longest_s:
                told = now[1]
                self.notes.note("hangs", call=now[0], what=now[2])
