"""Which program first had a file's content brought here: remembered for `cloudfs info`.

The kernel names a thread with each open, not with reads; a program that opens a file and reads nothing brings nothing.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from cloudfs.types import ContentVersion, Ino

__all__ = ["Reader", "Readers", "program_of"]

_MOST = 10_000
"""Files; 2 MB."""
_MOST_KEPT = 2_000
"""Of these across mounts."""


class Reader(msgspec.Struct, frozen=True):
    """Who read a version first while not all of it was here."""

    version: ContentVersion
    program: str
    at: float
    """Unix s."""


class Readers:
    """Of one mount. `lacks` returns the version of a file of which something is not here; None: it all is.

    `told` hears of each new one, with the file and the program's name. NO CHECKPOINT in any method.
    """

    def __init__(
        self,
        lacks: Callable[[Ino], ContentVersion | None],
        told: Callable[[Ino, str], None] = lambda _ino, _program: None,
    ) -> None:
        self._lacks = lacks
        self._told = told
        self._open: dict[int, tuple[Ino, ContentVersion, int]] = {}
        """By handle: files that lack something and were not read yet."""
        self._known: OrderedDict[Ino, Reader] = OrderedDict()

    def opened(self, handle: int, ino: Ino, thread_id: int) -> None:
        """A program has opened a file."""
        if (version := self._lacks(ino)) is not None:
            self._open[handle] = ino, version, thread_id

    def reads(self, handle: int) -> None:
        """The program reads it."""
        if handle not in self._open:
            return
        ino, version, thread_id = self._open.pop(handle)
        known = self._known.get(ino)
        if known is not None and known.version == version:
            return
        program = program_of(thread_id)
        self._known[ino] = Reader(version, program, time.time())
        self._known.move_to_end(ino)
        self._told(ino, program)
        if len(self._known) > _MOST:
            self._known.popitem(last=False)

    def closed(self, handle: int) -> None:
        """The last descriptor is gone."""
        self._open.pop(handle, None)

    def first(self, ino: Ino, version: ContentVersion) -> Reader | None:
        """Return who had this version brought; None: no program that is remembered."""
        known = self._known.get(ino)
        return known if known is not None and known.version == version else None

    def packed(self, most: int = _MOST_KEPT) -> str:
        """Return the latest as text, for the next mount; 60 bytes each."""
        return msgspec.json.encode(list(self._known.items())[-most:]).decode()

    def restore(self, text: str) -> None:
        """Know what an earlier mount knew. Text that is none of these is passed over: nothing depends on it."""
        with suppress(msgspec.MsgspecError):
            self._known.update(msgspec.json.decode(text, type=list[tuple[Ino, Reader]]))


def program_of(thread_id: int) -> str:
    """Return the name of a thread's program, 15 letters at most; "" where it cannot be told, as once it has ended."""
    if thread_id <= 0:
        return ""  # of another namespace of processes
    try:
        status = Path(f"/proc/{thread_id}/status").read_text(errors="replace")
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        # Threads have names of their own.
        name = Path(f"/proc/{int(fields['Tgid'])}/comm").read_text(errors="replace").removesuffix("\n")
    except (OSError, KeyError, ValueError):
        return ""
    return "".join(letter if letter.isprintable() else "?" for letter in name)
