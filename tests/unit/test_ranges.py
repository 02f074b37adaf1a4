"""Ranges against a set of numbers: whatever is added and cut, both say the same of every byte."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudfs.ranges import RangeSet, block_span, blocks_of
from cloudfs.types import BLOCK_SIZE

END = 40
positions = st.integers(0, END)
pairs = st.tuples(positions, positions)
operations = st.lists(st.one_of(pairs, positions), max_size=12)


def build(steps: list[tuple[int, int] | int]) -> tuple[RangeSet, set[int]]:
    """Add pairs and cut at numbers, in both worlds."""
    ranges, bytes_ = RangeSet(), set[int]()
    for step in steps:
        if isinstance(step, int):
            ranges.discard_from(step)
            bytes_ = {one for one in bytes_ if one < step}
        else:
            ranges.add(*step)
            bytes_ |= set(range(*step))
    return ranges, bytes_


@given(operations)
def test_holds_exactly_the_bytes_that_were_added_and_not_cut(steps: list[tuple[int, int] | int]) -> None:
    ranges, bytes_ = build(steps)
    assert {one for start, stop in ranges for one in range(start, stop)} == bytes_
    assert ranges.total == len(bytes_)
    assert bool(ranges) == bool(bytes_)


@given(operations)
def test_ranges_are_sorted_and_never_touch(steps: list[tuple[int, int] | int]) -> None:
    ranges = list(build(steps)[0])
    assert all(start < stop for start, stop in ranges)
    assert all(one[1] < other[0] for one, other in itertools.pairwise(ranges))


@given(operations, pairs)
def test_covers_gaps_and_pieces_agree_with_the_set(
    steps: list[tuple[int, int] | int], asked: tuple[int, int]
) -> None:
    ranges, bytes_ = build(steps)
    wanted = set(range(*asked))
    assert ranges.covers(*asked) == (wanted <= bytes_)
    assert {one for start, stop in ranges.gaps(*asked) for one in range(start, stop)} == wanted - bytes_
    pieces = list(ranges.pieces(*asked))
    assert [one for start, stop, _ in pieces for one in range(start, stop)] == sorted(wanted)
    assert all(present == (set(range(start, stop)) <= bytes_) for start, stop, present in pieces)
    assert all(start < stop for start, stop, _ in pieces)


@given(operations)
def test_two_neighbouring_pieces_are_never_of_one_kind(steps: list[tuple[int, int] | int]) -> None:
    kinds = [present for _, _, present in build(steps)[0].pieces(0, END)]
    assert all(one != other for one, other in itertools.pairwise(kinds))


@given(operations)
def test_pack_and_unpack_are_inverse(steps: list[tuple[int, int] | int]) -> None:
    ranges, _ = build(steps)
    assert RangeSet.unpack(ranges.pack()) == ranges


@given(operations, pairs)
def test_a_copy_is_independent(steps: list[tuple[int, int] | int], added: tuple[int, int]) -> None:
    ranges, bytes_ = build(steps)
    twin = ranges.copy()
    twin.add(*added)
    twin.discard_from(3)
    assert {one for start, stop in ranges for one in range(start, stop)} == bytes_


def test_large_offsets_survive_packing() -> None:
    ranges = RangeSet([(2**63 - 10, 2**63 - 1)])
    assert list(RangeSet.unpack(ranges.pack())) == [(2**63 - 10, 2**63 - 1)]


def test_damaged_packing_is_an_error_and_no_guess() -> None:
    with pytest.raises(ValueError, match="multiple of 16"):
        RangeSet.unpack(b"x" * 17)


def test_an_empty_range_is_always_covered() -> None:
    assert RangeSet().covers(5, 5)
    assert list(RangeSet().pieces(5, 5)) == []


def test_range_sets_cannot_be_keys() -> None:
    with pytest.raises(TypeError):
        hash(RangeSet())


def test_a_range_set_shows_its_ranges() -> None:
    assert repr(RangeSet([(5, 9), (1, 2)])) == "RangeSet([(1, 2), (5, 9)])"


@given(st.integers(0, 5 * BLOCK_SIZE), st.integers(0, 5 * BLOCK_SIZE))
def test_blocks_are_those_that_a_range_touches(start: int, stop: int) -> None:
    size = 5 * BLOCK_SIZE
    touched = [
        index
        for index in range(6)
        if max(start, block_span(index, size)[0]) < min(stop, block_span(index, size)[1])
    ]
    assert list(blocks_of(start, stop)) == touched


def test_the_last_block_ends_with_the_file() -> None:
    assert block_span(1, BLOCK_SIZE + 7) == (BLOCK_SIZE, BLOCK_SIZE + 7)
