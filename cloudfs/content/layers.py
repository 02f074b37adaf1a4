"""What a file's bytes are made of: staged layers over a version that the server has.

    FileContent.top ──> Layer (staged, being written)
                          └ base ─> Layer (staged, sealed: being uploaded)
                                      └ base ─> Source (clean: blocks and server) or None (nothing, empty)

A layer holds the bytes that were written since it was begun. Those it does not hold are its base's below
`base_limit` and zero above it. A sealed layer is not written, so an upload reads one exact content while programs go
on writing into a new layer on top; whoever seals it takes back the one seal of its own. Once the server has exactly a
layer's content, what the layer does not hold is there under its own version: its base is gone from the server.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from enum import Enum, auto

import trio

from cloudfs.blocks.staging import StagedFile
from cloudfs.content.crossing import Crossing
from cloudfs.content.source import Source
from cloudfs.errors import LocalDamage
from cloudfs.ranges import RangeSet
from cloudfs.store.records import SafeState, StagedRow
from cloudfs.types import ContentVersion, Ino, RemoteVersion

__all__ = ["FileContent", "Layer", "Whose", "lowest", "made_of"]


class Whose(Enum):
    """Where some bytes of a layer are."""

    OWN = auto()
    """In its staging file."""
    BASE = auto()
    """In what lies `below`."""
    ZERO = auto()
    """Nowhere: they are zero."""


class Layer:
    """One staged content version. INVARIANT: every range in `present` was completely written to `file`."""

    __slots__ = (
        "base",
        "base_limit",
        "base_seen",
        "checksum",
        "cuts",
        "file",
        "filling",
        "ino",
        "present",
        "remote",
        "safe",
        "seals",
        "size",
        "version",
    )

    def __init__(
        self,
        ino: Ino,
        version: ContentVersion,
        file: StagedFile,
        *,
        size: int,
        base: Layer | Source | None,
        base_limit: int,
        present: RangeSet | None = None,
        row: StagedRow | None = None,
    ) -> None:
        """`row`: what is known of it already."""
        self.ino = ino
        self.version = version
        self.file = file
        self.size = size
        self.present = RangeSet() if present is None else present
        self.base = base
        self.base_limit = base_limit
        self.base_seen = None if row is None else row.base_seen
        self.checksum = None if row is None else row.checksum
        self.seals = 0
        """How many rely on its not being written."""
        self.filling = trio.Lock()
        """Held by whoever copies up what it lacks."""
        self.safe = None if row is None else row.safe
        """What the file held when it was last known to be on the disk: what a power cut leaves."""
        self.cuts = 0
        """How often it was shortened: what it held before is not what it holds."""
        self.remote: RemoteVersion | None = None
        """Set once the server has exactly this content."""

    @property
    def below(self) -> Layer | Source | None:
        """Where the bytes below `base_limit` are that it does not hold."""
        if self.remote is None or self.complete:
            return self.base
        return Source(self.ino, self.version, self.remote)

    @property
    def sealed(self) -> bool:
        """It is not to be written now."""
        return self.seals > 0

    @property
    def complete(self) -> bool:
        """No byte depends on the base."""
        return self.present.covers(0, min(self.base_limit, self.size))

    def piece(self, start: int, stop: int) -> tuple[int, Whose]:
        """Return where [start, stop) ceases to be of one kind, and which that is: until the next checkpoint."""
        _, end, present = next(self.present.pieces(start, stop))
        if present:
            return end, Whose.OWN
        if start < self.base_limit:
            return min(end, self.base_limit), Whose.BASE
        return end, Whose.ZERO

    def pieces(self, whose: Whose, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield the parts of [start, stop) that are `whose`, each as it is when its turn comes: waits may change it."""
        while start < stop:
            end, found = self.piece(start, stop)
            if found is whose:
                yield start, end
            start = end

    def held_below(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield the parts of [start, stop) that this layer lacks, and staging files of layers below it hold."""
        left: list[tuple[Layer, int, int]] = [(self, start, stop)]
        while left:
            layer, start, stop = left.pop()
            below = layer.below
            if isinstance(below, Layer):
                for first, last in layer.pieces(Whose.BASE, start, stop):
                    yield from below.pieces(Whose.OWN, first, last)
                    left.append((below, first, last))

    @property
    def state(self) -> SafeState:
        """What it holds now."""
        return SafeState(self.size, self.present.pack(), self.base_limit)

    def cut(self, size: int) -> Callable[[], None]:
        """Forget everything beyond `size`; returns what takes that back, and a base given up since."""
        before = self.size, self.present.copy(), self.base, self.base_limit, self.safe

        def take_back() -> None:
            self.size, self.present, self.base, self.base_limit, self.safe = before

        self.cuts += 1
        self.present.discard_from(size)
        self.base_limit = min(self.base_limit, size)
        self.size = size
        if self.safe is not None:
            present = RangeSet.unpack(self.safe.present)
            present.discard_from(size)
            limit = min(self.safe.base_limit, size)
            self.safe = SafeState(min(self.safe.size, size), present.pack(), limit)
        return take_back

    def row(self) -> StagedRow:
        """Return what the store must know so that nothing is lost when the process dies."""
        base = self.base
        return StagedRow(
            ino=self.ino,
            version=self.version,
            size=self.size,
            present=self.present.pack(),
            base=ContentVersion(0) if base is None else base.version,
            base_limit=self.base_limit,
            base_remote=base.remote if base is not None else None,
            checksum=self.checksum,
            safe_size=None if self.safe is None else self.safe.size,
            safe_present=None if self.safe is None else self.safe.present,
            safe_limit=None if self.safe is None else self.safe.base_limit,
            base_seen=self.base_seen if base is not None else None,
        )


def lowest(top: Layer | Source, start: int, stop: int) -> tuple[Layer | Source, int, Whose]:
    """Return where the bytes from `start` on are, where that ceases to be so, and whose they are there.

    Until the next checkpoint. Raises LocalDamage rather than zeros where that is not known.
    """
    found, whose = top, Whose.OWN
    while isinstance(found, Layer):
        stop, whose = found.piece(start, stop)
        if whose is not Whose.BASE:
            break
        below = found.below
        if below is None:
            raise LocalDamage(f"inode {found.ino}: what it was edited from is missing")
        found, whose = below, Whose.OWN
    return found, stop, whose


def made_of(top: Layer | Source | None) -> list[tuple[Layer | Source, int]]:
    """Return what a content is made of now, from the top down, and how often each was cut.

    Who waited for bytes of it and did not get them looks again where this is not the same any more.
    """
    found: list[tuple[Layer | Source, int]] = []
    while isinstance(top, Layer):
        found.append((top, top.cuts))
        top = top.below
    return found if top is None else [*found, (top, 0)]


class FileContent:
    """The present content of one inode while it is open or being sent.

    `lock` is held by whoever changes `top`, its size or what it holds; readers take no lock.
    """

    __slots__ = (
        "abandoned",
        "crossing",
        "ino",
        "lock",
        "mtime_ns",
        "top",
        "unflushed",
        "users",
        "writers",
        "written_at",
    )

    def __init__(self, ino: Ino, top: Layer | Source | None, mtime_ns: int) -> None:
        self.ino = ino
        self.top = top
        self.mtime_ns = mtime_ns
        self.unflushed = False
        self.users = 0
        self.writers = 0
        """Handles open for writing."""
        self.written_at = -math.inf
        """Trio time of the last write."""
        self.lock = trio.Lock()
        self.crossing = Crossing()
        self.abandoned: ContentVersion | None = None
        """A version that the rows name and that was never begun: a full disk took neither its file nor that back."""

    @property
    def size(self) -> int:
        """Bytes that the mount shows now, written ones included before they are flushed."""
        return 0 if self.top is None else self.top.size

    @property
    def whole(self) -> bool:
        """No byte of it is on the server alone."""
        layer = self.top
        while isinstance(layer, Layer) and not layer.complete:
            layer = layer.below
        return not isinstance(layer, Source)

    @property
    def version(self) -> ContentVersion:
        """Content version of `top`."""
        return ContentVersion(0) if self.top is None else self.top.version
