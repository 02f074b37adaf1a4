"""The memory of long bodies: in the order of the file, and used again only when nobody sees it any more."""

from __future__ import annotations

import mmap

from cloudfs.octets import address_of, is_all, joined, together
from cloudfs.remote.landing import Landing
from cloudfs.types import BLOCK_SIZE


def test_what_comes_in_parts_lies_as_in_the_file() -> None:
    strip = Landing().open()
    parts: list[memoryview] = []
    for left, count in [(BLOCK_SIZE, 1000), (BLOCK_SIZE - 1000, 5), (BLOCK_SIZE - 1005, BLOCK_SIZE - 1005)]:
        memory = strip.rest(left)
        assert len(memory) == left
        memory[:count] = bytes([len(parts) + 1]) * count
        parts.append(strip.landed(count))
    first = together(parts[0], parts[1])
    assert first is not None
    assert bytes(first) == b"\1" * 1000 + b"\2" * 5
    assert not is_all(first)
    assert together(parts[0], parts[2]) is None
    block = together(first, parts[2])
    assert block is not None
    assert is_all(block)
    assert block == b"\1" * 1000 + b"\2" * 5 + b"\3" * (BLOCK_SIZE - 1005)
    assert joined(parts) == block
    assert address_of(joined(parts)) == address_of(block)
    assert joined([parts[0], b"x", parts[1]]) == bytes(parts[0]) + b"x" + bytes(parts[1])
    assert joined([]) == b""
    assert address_of(block) is not None
    assert (address_of(block) or 1) % mmap.PAGESIZE == 0


def test_a_part_from_the_middle_of_a_block_lies_where_it_does_in_the_file() -> None:
    strip = Landing().open()
    strip.rest(100)
    late = strip.landed(100)
    strip.rest(BLOCK_SIZE)
    assert address_of(strip.landed(1)) != address_of(late)


def test_memory_is_used_again_when_no_view_of_it_is_left() -> None:
    landing = Landing()
    strip = landing.open()
    first = strip.rest(BLOCK_SIZE)
    at = address_of(first)
    first[:] = b"1" * BLOCK_SIZE
    strip.landed(BLOCK_SIZE)
    reply = first[5:6]
    del first
    strip.rest(BLOCK_SIZE)[:] = b"2" * BLOCK_SIZE
    strip.landed(BLOCK_SIZE)
    assert bytes(reply) == b"1"  # a program has not taken it yet
    del reply
    assert address_of(strip.rest(BLOCK_SIZE)) == at


def test_nothing_is_kept_once_no_body_comes() -> None:
    landing = Landing()
    strips = [landing.open() for _ in range(3)]
    blocks = [strip.rest(BLOCK_SIZE) for strip in strips]
    late = strips[0].landed(BLOCK_SIZE)
    strips[0].close()
    del blocks
    assert landing.free_blocks == 0
    strips[1].close()
    assert landing.free_blocks == 1
    strips[2].close()
    assert landing.free_blocks == 0
    assert bytes(late[:1]) == b"\0"
    del late
    assert landing.free_blocks == 0
