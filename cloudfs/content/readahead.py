"""What to ask the server for: recognises sequential reading and sizes the requests. Pure.

A request costs about as much as 14 MiB of its bytes (protocol.md §5), so whoever reads on gets ever longer
requests; whoever jumps gets what it asked for and the rest of that one block.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import trio

from cloudfs.content.source import FetchConfig
from cloudfs.ranges import block_span, blocks_of
from cloudfs.types import BLOCK_SIZE

__all__ = [
    "HEAD_BYTES",
    "Habit",
    "ReadPattern",
    "Span",
    "ahead_span",
    "ahead_start",
    "demand_span",
    "gap_end",
]

Span = tuple[int, int]
"""Bytes [start, stop) of a file."""

Comes = Callable[[int], bool]
"""Tells whether the bytes from an offset to the end of its block are here or on their way."""

NextHere = Callable[[int, int], int | None]
"""Gives the beginning of the first block inside (start, stop), after that of start, that need not be fetched."""

_KiB = 1024

REORDERED_BYTES = 512 * _KiB
"""The kernel has several requests of 128 or 256 KiB under way, and they do not arrive in order."""

SEQUENTIAL_BYTES = 128 * _KiB
"""Read-ahead starts after more than one full request in a row, as the kernel makes them by itself: `file` and `head`
never cause it. At a file's start one is enough where it reads 256 KiB ahead (`fuse/kernel_readahead`), and a program
more than 64."""

FAULT_BYTES = 256 * _KiB
"""INVARIANT: no less than `fuse/kernel_readahead` has the kernel read ahead. So much it asks for at once for a single
page that is touched through mmap, anywhere: such a jump alone is no run. Longer ones a program has asked for itself."""

HEAD_BYTES = 256 * _KiB
"""A head is no longer: whoever wants the first 64 KiB has the kernel ask for up to 240, as it reads ahead by itself."""

GUESS_BYTES = 64 * _KiB
"""INVARIANT: a guess is at least as long, and never a read of O_DIRECT. So it is the kernel's read-ahead. Where that
fails, and a program wants it after all, the kernel asks again for single pages: only their errors reach programs."""

ALIGN_BYTES = 64 * _KiB
LEAD_BYTES = 64 * _KiB
"""A first byte no further than this into its block is fetched from the block's start: one request, not two."""

MOST_BEFORE_BYTES = 256 * _KiB
"""Whoever jumps waits for no more than this, what comes before its first byte included; or for what it asks for, if
that is more. Page faults of mmap ask for all that the kernel reads ahead."""


class Request(Protocol):
    """A request made for a reader, as the reader sees it."""

    @property
    def ended(self) -> bool:
        """No more bytes will come."""
        ...

    @property
    def ends_soon(self) -> bool:
        """Another request, started now, would get its first byte no sooner than this one its last."""
        ...

    def touch(self) -> None:
        """Show interest."""
        ...

    def abandon(self) -> None:
        """Stop, unless others wait for it."""
        ...


class Habit:
    """What was done last with a larger file that was read from its start: it went on, or it was only looked at.

    Programs that make thumbnails or look for a type read the heads of all files of a folder and close them. The first
    one costs a whole request, as everywhere else; from then on heads alone are asked for, until somebody goes on.
    """

    heads = False
    """The latest was closed after its head."""
    head_bytes = HEAD_BYTES
    """So long are the heads: what the kernel asked for in front of its last guess."""


class ReadPattern:
    """How one open file has been read so far; one per file handle."""

    __slots__ = (
        "_from_start",
        "_furthest",
        "_habit",
        "_needed",
        "_requests",
        "_run_bytes",
        "closing",
        "expected",
        "ready_stop",
        "window_bytes",
    )

    def __init__(self, habit: Habit | None = None) -> None:
        self._habit = habit or Habit()
        self._from_start: bool | None = None
        """A file larger than a block that was read from the start on, and nowhere else; None: not read yet."""
        self.expected = 0
        """Where the next read starts if it goes on."""
        self._run_bytes = 0
        """Bytes read in a row, 0 after a jump."""
        self.window_bytes = 0
        """Length of the last request ahead of the reader; 0 while there was none."""
        self.ready_stop = 0
        """Up to here all was here or on its way when last looked at: looking costs 15 µs a block."""
        self._requests: list[Request] = []
        self._furthest: Span = 0, 0
        """Of the reads of a head."""
        self._needed = 0
        """Up to here a program was or may have been waiting for its head."""
        self.closing: trio.Event | None = trio.Event()
        """Set when a program closes it. None: whatever is read from now on, a program wants it."""

    @property
    def sequential(self) -> bool:
        """Tell whether it pays to read ahead."""
        return self._run_bytes > SEQUENTIAL_BYTES and not self.wants_head

    @property
    def wants_head(self) -> bool:
        """Tell whether this reader is likely to be content with the first bytes."""
        return self._habit.heads and bool(self._from_start)

    @property
    def head_bytes(self) -> int:
        """How much such a reader wants; 0: this is none."""
        return self._habit.head_bytes if self.wants_head else 0

    def is_guess(self, start: int, stop: int) -> bool:
        """Tell whether the kernel asks for this by itself, behind a head that is likely all that is wanted."""
        behind = self.wants_head and start >= self._habit.head_bytes
        return behind and stop - start >= GUESS_BYTES and self.closing is not None

    def close(self) -> None:
        """A descriptor was closed: likely the only one, and what is still guessed then is wanted by nobody."""
        if self.closing is not None:
            self.closing.set()
            self.closing = None

    def wanted(self, stop: int) -> None:
        """Take notice that what was read up to `stop` was no guess."""
        self._needed = max(self._needed, stop)

    def observe(self, start: int, stop: int, size: int = 0) -> None:
        """Take notice of a read of [start, stop) of a file of `size` bytes."""
        if self._from_start is None:
            self._from_start = start == 0 and size > BLOCK_SIZE
        if self._from_start and max(stop, self.expected) > HEAD_BYTES:
            self._from_start = self._habit.heads = False
        if self._from_start:
            self._furthest = max(self._furthest, (start, stop))
            if not self.is_guess(start, stop):
                self.wanted(stop)
        run_bytes = stop - start
        if abs(start - self.expected) > REORDERED_BYTES:
            run_bytes = min(run_bytes, SEQUENTIAL_BYTES) if run_bytes <= FAULT_BYTES else run_bytes
            self._run_bytes = 0
            self.window_bytes = 0
            self.ready_stop = 0
            self.expected = start
        self._run_bytes += run_bytes
        self.expected = max(self.expected, stop)
        self._requests = [request for request in self._requests if not request.ended]
        for request in self._requests:
            request.touch()

    def started(self, request: Request) -> None:
        """Remember a request made for this reader: every further read keeps it going."""
        self._requests.append(request)

    def release(self) -> None:
        """Abandon what was requested: the file handle is closed."""
        self.close()
        if self._from_start:
            self._learn_head()
        for request in self._requests:
            request.abandon()
        self._requests.clear()

    def _learn_head(self) -> None:
        """The last of several reads was a guess, as far as is known of the first file; of others it has shown."""
        start, stop = self._furthest
        needed = self._needed if self._habit.heads else (start or stop)
        self._habit.heads, self._habit.head_bytes = True, min(max(needed, GUESS_BYTES), HEAD_BYTES)

    def lookahead_bytes(self, config: FetchConfig) -> int:
        """Return how much must lie ready or under way before the reader, or else the next request starts.

        A request takes its time to answer: where the line is quick, the next one starts while the latest comes to
        its end, and not only when the reader does.
        """
        if self._requests and not self._requests[-1].ends_soon:
            return config.lookahead_bytes
        return max(config.lookahead_bytes, min(config.early_bytes, self.window_bytes))

    def next_window(self, config: FetchConfig) -> int:
        """Return the length in bytes of the next request ahead, and remember it."""
        self.window_bytes = min(
            max(self.window_bytes * config.window_growth, config.first_window_bytes), config.max_window_bytes
        )
        return self.window_bytes


def ahead_start(
    pattern: ReadPattern, start: int, stop: int, size: int, comes: Comes, config: FetchConfig
) -> int | None:
    """Return where the next request for a sequential reader at [start, stop) begins; None when it has enough ahead."""
    if not pattern.sequential:
        return None
    near = block_span((stop + pattern.lookahead_bytes(config) - 1) // BLOCK_SIZE, size)[1]
    if pattern.ready_stop >= near:
        return None
    scan = _steps(max(start, pattern.ready_stop), near)
    missing = next((offset for offset in scan if not comes(offset)), None)
    pattern.ready_stop = near if missing is None else missing
    return None if missing is None else block_begin(missing)


def ahead_span(pattern: ReadPattern, begin: int, size: int, next_here: NextHere, config: FetchConfig) -> Span:
    """Return the next request for a sequential reader: a window from `begin`, up to the next block that is here."""
    span = begin, gap_end(begin, min(begin + pattern.next_window(config), size), size, next_here)
    pattern.ready_stop = span[1]
    return span


def demand_span(
    start: int, size: int, next_here: NextHere, config: FetchConfig, *, head_bytes: int = 0, wanted: int = 1
) -> Span:
    """Return what to request for a reader that waits for `wanted` bytes from `start` on.

    Small files come whole, others up to the end of the block; no more than the first `head_bytes` for whom that is
    enough. The bytes wanted come first.
    """
    begin = block_begin(start, wanted)
    if start < head_bytes <= size:
        return begin, head_bytes
    if head_bytes and start < HEAD_BYTES <= size:
        return start - start % ALIGN_BYTES, HEAD_BYTES
    if start <= LEAD_BYTES and size <= config.small_file_bytes:
        return 0, gap_end(0, size, size, next_here)
    return begin, block_span(start // BLOCK_SIZE, size)[1]


def block_begin(start: int, wanted: int = 1) -> int:
    """Return where a request for `wanted` bytes from `start` on begins: at their block, or shortly before them."""
    low = start - start % BLOCK_SIZE
    begin = low if start - low <= LEAD_BYTES else start - start % ALIGN_BYTES
    return begin if start - begin + wanted <= MOST_BEFORE_BYTES else start


def gap_end(start: int, stop: int, size: int, next_here: NextHere) -> int:
    """Return the end of the request [start, stop), made whole blocks and cut where a later block is here."""
    end = next_here(start, stop)
    return block_span((stop - 1) // BLOCK_SIZE, size)[1] if end is None else end


def _steps(start: int, stop: int) -> list[int]:
    """Return `start` and the block boundaries after it before `stop`."""
    return [start, *(index * BLOCK_SIZE for index in blocks_of(start, stop)[1:])]
