"""What counts as a program that walks, and how far ahead of it may be fetched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudfs.content.walking import AHEAD, FEWEST, MOST_AHEAD, PAUSE_S, Walk, Walks
from cloudfs.types import Ino

ROOT, A, B, C, DEEP = Ino(1), Ino(2), Ino(3), Ino(4), Ino(5)
FILES = 10


@dataclass
class Tree:
    """/a, /b, /c and /a/deep, each with ten small files: the file 7 of folder 3 is 307."""

    counts: dict[Ino, int] = field(default_factory=dict)

    def above(self, folder: Ino) -> Sequence[Ino]:
        return {ROOT: (), DEEP: (A, ROOT)}.get(folder, (ROOT,))

    def count_small(self, folder: Ino) -> int:
        return self.counts.get(folder, FILES)


class Program:
    """Reads files, each in 10 ms, with a pause before it."""

    def __init__(self, walks: Walks | None = None) -> None:
        self.walks = walks or Walks(Tree())
        self.now = 100.0
        self.ahead: list[int] = []
        """So many files might have been fetched ahead at the beginning of each."""

    def reads(self, folder: Ino, *numbers: int, pause_s: float = 0.01, whole: bool = True) -> Walk:
        walk = None
        for number in numbers:
            ino = Ino(folder * 100 + number)
            self.now += pause_s
            walk = self.walks.begun(ino, folder, f"{number:03}", self.now)
            self.ahead.append(walk.ahead_files)
            self.now += 0.01
            if whole:
                self.walks.ended(ino, self.now)
        assert walk is not None
        return walk


ALL = tuple(range(FILES))


@pytest.mark.parametrize("numbers", [(0, 1, 2), (2, 1, 0), (0, 5, 9), (9, 0, 4)])
def test_the_third_file_of_a_folder_is_a_walk_in_whatever_order(numbers: tuple[int, ...]) -> None:
    program = Program()
    program.reads(A, *numbers)
    assert program.ahead == [0, 0, 2 * AHEAD]


def test_one_or_two_never_are() -> None:
    program = Program()
    for folder in (A, B, C):
        program.reads(folder, 0, pause_s=PAUSE_S + 0.1)
        program.reads(folder, 1)
    assert program.ahead == [0] * 6
    for folder in (A, B, C):
        program.reads(folder, 0, 1)  # at once, but through with none of these folders
    assert program.ahead == [0] * 12


def test_the_same_file_again_and_again_is_none() -> None:
    assert Program().reads(A, *[3] * 50).ahead_files == 0
    program = Program()
    program.reads(A, *[3, 4] * 20)
    assert program.ahead == [0] * 40


def test_the_beginnings_of_files_are_none() -> None:
    """A file manager that looks for what they are."""
    assert Program().reads(A, *ALL, whole=False).ahead_files == 0


def test_people_are_slower() -> None:
    assert Program().reads(A, *ALL, pause_s=PAUSE_S + 0.1).ahead_files == 0


def test_a_slow_server_does_not_hide_a_walk() -> None:
    program = Program()
    for number in (0, 1):
        program.walks.begun(Ino(number + 200), A, f"{number}", program.now)
        program.now += 5
        program.walks.ended(Ino(number + 200), program.now)
    assert program.reads(A, 2).files == 3


def test_several_files_at_once_are_a_walk() -> None:
    walks = Walks(Tree())
    for number in (4, 1, 8):
        walks.begun(Ino(200 + number), A, f"{number}", 100.0)
    for number in (8, 4, 1):
        walks.ended(Ino(200 + number), 100.5)
    walk = walks.begun(Ino(205), A, "5", 100.6)
    assert walk.ahead_files == 3 * AHEAD
    assert not walk.ordered


def test_order_is_noticed() -> None:
    assert Program().reads(A, 0, 1, 5).ordered
    assert not Program().reads(A, 0, 5, 1).ordered


class TestGoingOn:
    """A walk that goes on in another folder need not begin anew there."""

    def test_the_first_file_of_the_next_folder(self) -> None:
        program = Program()
        assert program.reads(A, *ALL) is program.reads(B, 0)

    def test_most_of_the_folder_has_to_be_read(self) -> None:
        for read, goes_on in ((8, True), (7, False)):
            program = Program()
            walk = program.reads(A, *range(read))
            assert (program.reads(B, 0) is walk) is goes_on

    def test_not_after_a_pause(self) -> None:
        program = Program()
        walk = program.reads(A, *ALL)
        assert program.reads(B, 0, pause_s=PAUSE_S + 0.1) is not walk

    def test_down_into_a_folder_and_up_again(self) -> None:
        """As `grep -r` does it: a folder's files and folders in their order."""
        program = Program()
        walk = program.reads(A, 0, 1, 2)
        assert program.reads(DEEP, *ALL) is walk
        assert program.reads(A, *range(3, FILES)) is walk
        assert program.reads(B, 0) is walk
        assert walk.files == 2 * FILES + 1
        assert walk.folders == 4

    def test_from_the_depths_to_the_next_folder_above(self) -> None:
        program = Program()
        walk = program.reads(DEEP, *ALL)
        assert program.reads(B, 0) is walk

    def test_many_folders_with_one_file_each(self) -> None:
        program = Program(Walks(Tree({A: 1, B: 1, C: 1})))
        program.reads(A, 0)
        program.reads(B, 0)
        assert program.walks.begun(Ino(400), C, "0", program.now).ahead_files == 2 * AHEAD

    def test_what_was_looked_at_already_is_not_looked_at_again(self) -> None:
        """A thousand folders with one file each would be gone through for each of them."""
        for covered, plan_at in ((frozenset({B}), 50), (frozenset({C}), 0)):
            program = Program()
            walk = program.reads(A, *ALL)
            walk.plan_at, walk.covered = 50, covered
            assert program.reads(B, 0) is walk
            assert walk.plan_at == plan_at

    def test_two_programs_in_two_folders_do_not_disturb_each_other(self) -> None:
        program = Program()
        for number in range(4):
            program.reads(A, number)
            program.reads(B, number)
        one, two = program.reads(A, 4), program.reads(B, 4)
        assert one is not two
        assert one.files == two.files == 5


READS = st.lists(
    st.tuples(
        st.sampled_from([A, B, C, DEEP]),
        st.integers(0, FILES - 1),
        st.sampled_from([0.0, 0.01, 0.5, PAUSE_S + 0.5]),
        st.booleans(),
    ),
    max_size=120,
)


@given(READS)
def test_nothing_is_fetched_ahead_without_enough_read_before(
    reads: list[tuple[Ino, int, float, bool]],
) -> None:
    """Whatever is read in whatever order: at most AHEAD files for each distinct one that was read without a pause."""
    program = Program()
    whole: set[tuple[Ino, int]] = set()
    for folder, number, pause_s, to_the_end in reads:
        if pause_s > PAUSE_S:
            whole.clear()
        program.now += pause_s
        ino = Ino(folder * 100 + number)
        walk = program.walks.begun(ino, folder, f"{number}", program.now)
        assert walk.ahead_files <= min(AHEAD * len(whole), MOST_AHEAD)
        assert walk.ahead_files == 0 or len(whole) >= FEWEST
        assert walk.folder == folder
        if to_the_end:
            program.walks.ended(ino, program.now)
            whole.add((folder, number))


@given(st.permutations(ALL), st.permutations(ALL))
def test_a_whole_folder_in_any_order_is_a_walk_that_goes_on(
    first: Sequence[int], second: Sequence[int]
) -> None:
    program = Program()
    walk = program.reads(A, *first)
    assert program.reads(B, second[0]) is walk
    assert program.reads(B, *second[1:]).files == 2 * FILES
