"""The ceiling and the pages under it."""

from __future__ import annotations

import random

import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from cloudfs.content.memory import BlockKey, MemoryBudget, Page, Pages
from cloudfs.types import ContentVersion, Ino
from tests.content.fakes import KIB, MIB, some_bytes


def key(block: int) -> BlockKey:
    return BlockKey(Ino(7), ContentVersion(1), block)


def open_page(pages: Pages, block: int, *, urgent: bool = True, force: bool = False) -> Page | None:
    return pages.open(key(block), block * MIB, (block + 1) * MIB, urgent=urgent, force=force)


def test_read_ahead_cannot_take_the_last_blocks() -> None:
    pages = Pages(MemoryBudget(8 * MIB, reserve_bytes=4 * MIB), 8 * MIB)
    for block in range(4):
        page = open_page(pages, block, urgent=False)
        assert page is not None
        pages.pin(page)
    assert open_page(pages, 4, urgent=False) is None
    for block in range(4, 8):
        page = open_page(pages, block)
        assert page is not None
        pages.pin(page)
    assert open_page(pages, 8) is None
    assert open_page(pages, 8, force=True) is not None


def test_the_longest_unread_page_goes_first_and_a_finished_one_before() -> None:
    pages = Pages(MemoryBudget(4 * MIB, reserve_bytes=0), 4 * MIB)
    for block in range(4):
        open_page(pages, block)
    pages.get(key(0))
    last = pages.get(key(3))
    assert last is not None
    pages.demote(last)
    for expected in (3, 1, 2, 0):
        pages.reclaim(1)
        assert pages.get(key(expected)) is None
        assert len(pages) + (3, 1, 2, 0).index(expected) == 3
    assert len(pages) == 0


def test_pinned_pages_stay() -> None:
    budget = MemoryBudget(4 * MIB)
    pages = Pages(budget, 1 * MIB)
    page = open_page(pages, 0)
    assert page is not None
    pages.pin(page)
    pages.pin(page)
    pages.clear()
    pages.unpin(page)
    pages.clear()
    assert budget.used_bytes == MIB
    pages.unpin(page)
    pages.clear()
    assert budget.used_bytes == 0


def test_no_more_than_wanted_is_kept() -> None:
    budget = MemoryBudget(64 * MIB)
    pages = Pages(budget, 3 * MIB)
    for block in range(10):
        page = open_page(pages, block)
        assert page is not None
        pages.pin(page)
        pages.unpin(page)
    assert budget.used_bytes == 3 * MIB


async def test_giving_back_wakes_those_who_wait() -> None:
    budget = MemoryBudget(MIB, reserve_bytes=0)
    assert budget.take_nowait(MIB, urgent=True)

    async def take() -> None:
        while not budget.take_nowait(MIB, urgent=True):
            await budget.wait_changed()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take)
        await trio.testing.wait_all_tasks_blocked()
        budget.give_back(MIB)
    assert budget.used_bytes == MIB


def test_a_chunk_that_is_the_block_is_not_copied() -> None:
    data = some_bytes(MIB)
    page = Page(key(0), 0, MIB)
    page.fill(0, memoryview(data))
    assert isinstance(page.data, memoryview)
    assert page.data.obj is data


def test_a_block_that_came_in_parts_is_not_copied_where_they_lie_side_by_side() -> None:
    block = memoryview(bytearray(some_bytes(MIB)))
    page = Page(key(0), 0, MIB)
    for start, stop in [(0, 100), (100, 300 * KIB), (300 * KIB, MIB)]:
        page.fill(start, block[start:stop])
    assert isinstance(page.data, memoryview)
    assert page.data.obj is block.obj
    assert page.data == some_bytes(MIB)


def test_parts_that_lie_elsewhere_are_put_in_order() -> None:
    """A range that begins within a block, and the rest of it by another request: each in memory of its own."""
    data = some_bytes(MIB)
    first, second = (
        memoryview(bytearray(data)),
        memoryview(bytearray(data[: MIB // 2][::-1] + data[: MIB // 2])),
    )
    page = Page(key(0), 0, MIB)
    page.fill(MIB // 2, first[MIB // 2 :])
    page.fill(0, second[MIB // 2 :])
    assert page.data == data


def test_what_a_program_reads_is_a_view() -> None:
    block = memoryview(bytearray(some_bytes(MIB)))
    page = Page(key(0), 0, MIB)
    for start in range(0, MIB // 2, 100 * KIB):
        page.fill(start, block[start : min(start + 100 * KIB, MIB // 2)])
    for start, stop in [(0, 128 * KIB), (100, 101)]:
        part = page.read(start, stop)
        assert isinstance(part, memoryview)
        assert part.obj is block.obj
        assert part == some_bytes(MIB)[start:stop]
    page.fill(MIB // 2, block[MIB // 2 :])
    assert page.read(1000, 3000) == some_bytes(MIB)[1000:3000]


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(1, 100)), max_size=12), st.integers(0, 99))
def test_pieces_in_any_order_make_the_block(pieces: list[tuple[int, int]], at: int) -> None:
    base, size = 5 * KIB, 100
    data = some_bytes(size)
    page = Page(key(5), base, base + size)
    here: set[int] = set()
    for start, length in pieces:
        stop = min(start + length, size)
        page.fill(base + start, memoryview(data)[start:stop])
        here.update(range(start, stop))
        assert page.read(base + start, base + stop) == data[start:stop]
    assert (page.data is not None) == (len(here) == size)
    gap = next((n for n in range(at, size) if n not in here), size)
    assert page.first_gap(base + at) == base + gap
    assert (page.read(base + at, base + size) or b"") == data[at:gap]
    assert sum(stop - start for start, stop in page.gaps()) == size - len(here)
    page.fill(base, memoryview(data))
    assert page.data == data


def test_a_block_in_single_bytes_is_held_in_few_pieces() -> None:
    data = random.Random(8).randbytes(2000)
    page = Page(BlockKey(Ino(1), ContentVersion(1), 0), 0, len(data))
    order = [*range(0, len(data), 2), *range(1, len(data), 2)]
    for count, at in enumerate(order, 1):
        page.fill(at, memoryview(data)[at : at + 1])
        assert page.read(0, 1) == data[:1]
        if count == len(data) - 1:
            assert page.read(0, at) == data[:at]
    assert page.data == data


def test_pieces_that_follow_each_other_are_joined() -> None:
    data = random.Random(9).randbytes(100_000)
    page = Page(BlockKey(Ino(1), ContentVersion(1), 0), 0, len(data) + 1)
    for at in range(len(data)):
        page.fill(at, memoryview(data)[at : at + 1])
    assert len(page._pieces) <= 65
    assert page.read(0, len(data)) == data
