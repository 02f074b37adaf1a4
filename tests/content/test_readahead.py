"""What is asked for, decided without a server."""

from __future__ import annotations

import pytest

from cloudfs.content.readahead import NextHere, ReadPattern, ahead_span, ahead_start, demand_span, gap_end
from cloudfs.content.source import FetchConfig
from cloudfs.fuse.kernel_readahead import READ_AHEAD_KIB
from tests.content.fakes import KIB, MIB

STEP = 128 * KIB
CONFIG = FetchConfig()


def nothing(_start: int, _stop: int) -> None:
    return None


def all_comes(_offset: int) -> bool:
    return True


def here(*blocks: int) -> NextHere:
    def next_here(start: int, stop: int) -> int | None:
        later = (block * MIB for block in blocks if block > start // MIB and block * MIB < stop)
        return min(later, default=None)

    return next_here


def sequential(stop: int = 2 * STEP) -> ReadPattern:
    pattern = ReadPattern()
    for at in range(0, stop, STEP):
        pattern.observe(at, at + STEP)
    return pattern


def test_reordered_kernel_requests_are_sequential() -> None:
    pattern = ReadPattern()
    for number in (0, 2, 1, 3):
        pattern.observe(number * STEP, (number + 1) * STEP)
    assert pattern.sequential
    assert pattern.expected == 4 * STEP


def test_a_jump_is_not() -> None:
    pattern = sequential()
    pattern.observe(50 * MIB, 50 * MIB + STEP)
    assert not pattern.sequential
    assert pattern.window_bytes == 0
    pattern.observe(50 * MIB + STEP, 50 * MIB + 2 * STEP)
    assert pattern.sequential


def test_a_page_fault_is_none_where_the_kernel_reads_256_kib_ahead() -> None:
    """Each page touched through mmap, anywhere in a large file, had 20 MiB asked for ahead of it."""
    fault = READ_AHEAD_KIB * KIB
    assert not after_jump(fault).sequential
    assert after_jump(fault, 4 * KIB).sequential
    assert after_jump(fault + KIB).sequential  # nobody but a program asks for so much


def after_jump(*sizes: int) -> ReadPattern:
    pattern, at = ReadPattern(), 50 * MIB
    for size in sizes:
        pattern.observe(at, at + size)
        at += size
    return pattern


def test_one_request_of_the_kernel_is_no_sequence() -> None:
    assert not sequential(STEP).sequential


def test_windows_grow_up_to_the_longest() -> None:
    pattern = ReadPattern()
    windows = [pattern.next_window(CONFIG) // MIB for _ in range(6)]
    assert windows == [4, 16, 64, 256, 1024, 1024]


class Latest:
    """The latest request of a reader."""

    ended = False

    def __init__(self, *, ends_soon: bool) -> None:
        self.ends_soon = ends_soon

    def touch(self) -> None:
        """Nothing happens."""

    abandon = touch


def test_the_next_request_starts_before_the_latest_ends() -> None:
    pattern = sequential()
    pattern.window_bytes = 64 * MIB
    pattern.started(Latest(ends_soon=False))
    assert pattern.lookahead_bytes(CONFIG) == 8 * MIB
    pattern.started(Latest(ends_soon=True))
    assert pattern.lookahead_bytes(CONFIG) == 40 * MIB
    pattern.window_bytes = 4 * MIB
    assert pattern.lookahead_bytes(CONFIG) == 8 * MIB


def test_enough_ahead_is_enough() -> None:
    pattern = sequential()
    assert ahead_start(pattern, STEP, 2 * STEP, 100 * MIB, all_comes, CONFIG) is None
    assert pattern.ready_stop == 9 * MIB


def test_what_was_found_ready_is_not_looked_at_again() -> None:
    pattern = sequential()
    looked = []

    def comes(offset: int) -> bool:
        looked.append(offset)
        return True

    for at in range(0, 4 * MIB, STEP):
        ahead_start(pattern, at, at + STEP, 100 * MIB, comes, CONFIG)
    # Nine blocks lie ahead at first, then one more for every block that was read.
    assert len(looked) <= 9 + 4
    assert len(set(looked)) == len(looked)


def test_the_next_request_begins_where_bytes_are_missing() -> None:
    pattern = sequential()
    assert ahead_start(pattern, STEP, 2 * STEP, 100 * MIB, lambda at: at < 3 * MIB, CONFIG) == 3 * MIB
    assert ahead_start(pattern, 3 * STEP, 4 * STEP, 100 * MIB, lambda at: at < 5 * MIB, CONFIG) == 5 * MIB


def test_the_next_request_ends_where_bytes_are_not_missing() -> None:
    pattern = sequential()
    assert ahead_span(pattern, 3 * MIB, 100 * MIB, here(6, 7), CONFIG) == (3 * MIB, 6 * MIB)
    assert ahead_span(pattern, 8 * MIB, 100 * MIB, here(6, 7), CONFIG) == (8 * MIB, 24 * MIB)
    assert pattern.ready_stop == 24 * MIB


def test_nothing_is_asked_for_beyond_the_end() -> None:
    size = 2 * MIB + 77
    assert ahead_start(sequential(), STEP, 2 * STEP, size, lambda at: at < MIB, CONFIG) == MIB
    assert ahead_start(sequential(), size - 5, size, size, all_comes, CONFIG) is None
    assert ahead_span(sequential(), MIB, size, nothing, CONFIG) == (MIB, size)
    assert demand_span(2 * MIB, size, nothing, FetchConfig(small_file_bytes=0)) == (2 * MIB, size)


@pytest.mark.parametrize(
    ("start", "span"),
    [
        (0, (0, MIB)),
        (64 * KIB, (0, MIB)),  # close to the start: the whole block in one request
        (65 * KIB, (64 * KIB, MIB)),
        (10 * MIB + 700 * KIB + 3, (10 * MIB + 640 * KIB, 11 * MIB)),
        (100 * MIB - 1, (100 * MIB - 64 * KIB, 100 * MIB)),
    ],
)
def test_a_waiting_reader_gets_its_bytes_first(start: int, span: tuple[int, int]) -> None:
    assert demand_span(start, 100 * MIB, nothing, CONFIG) == span


@pytest.mark.parametrize(
    ("start", "wanted", "begin"),
    [
        (64 * KIB, 192 * KIB, 0),
        (64 * KIB, 196 * KIB, 64 * KIB),
        (4 * KIB, 256 * KIB, 4 * KIB),  # a page fault, where the kernel reads that far ahead
        (700 * KIB, 256 * KIB, 700 * KIB),
        (700 * KIB, 128 * KIB, 640 * KIB),
        (0, 512 * KIB, 0),
    ],
)
def test_whoever_jumps_waits_for_256_kib_at_most(start: int, wanted: int, begin: int) -> None:
    assert demand_span(start, 100 * MIB, nothing, CONFIG, wanted=wanted) == (begin, MIB)


def test_a_small_file_is_asked_for_whole_unless_its_end_is_wanted() -> None:
    assert demand_span(10, 4 * MIB, nothing, CONFIG) == (0, 4 * MIB)
    assert demand_span(4 * KIB, 4 * MIB, nothing, CONFIG, wanted=256 * KIB) == (0, 4 * MIB)
    assert demand_span(10, 4 * MIB, here(2), CONFIG) == (0, 2 * MIB)
    assert demand_span(3 * MIB + 500 * KIB, 4 * MIB, nothing, CONFIG) == (3 * MIB + 448 * KIB, 4 * MIB)


def test_a_request_is_whole_blocks() -> None:
    assert gap_end(0, 1, 10 * MIB, nothing) == MIB
    assert gap_end(5 * KIB, 3 * MIB + 1, 10 * MIB, nothing) == 4 * MIB
    assert gap_end(MIB, 9 * MIB, 10 * MIB, here(2, 3)) == 2 * MIB
