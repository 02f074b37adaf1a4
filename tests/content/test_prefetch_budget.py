"""However programs behave, what is fetched ahead in vain stays within its bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudfs.content import prefetch_budget as budget
from cloudfs.content.prefetch_budget import Ledger, Speeds, Way
from cloudfs.types import Ino

KIB, MIB = 1024, 1024 * 1024
A, B = Ino(1), Ino(2)


def fetch(ledger: Ledger, first: int, count: int, size: int, now: float, folder: Ino = A) -> int:
    """Fetch as many of some files ahead as there is room for; return how many that were."""
    taken = 0
    for ino in range(first, first + count):
        if ledger.room_bytes(folder, now) < size:
            break
        ledger.take(Ino(ino), folder, size, now)
        taken += 1
    return taken


def test_nothing_is_on_credit_beyond_the_first_bytes() -> None:
    ledger = Ledger()
    assert fetch(ledger, 10, 1000, 100 * KIB, 0) == budget.CREDIT_BYTES // (100 * KIB)


def test_the_tiniest_files_cost_something() -> None:
    assert fetch(Ledger(), 0, 10_000, 1, 0) <= budget.CREDIT_BYTES // budget.LEAST_BYTES


def test_what_is_read_earns_more() -> None:
    ledger = Ledger()
    assert fetch(ledger, 0, 40, 100 * KIB, 0) == 40
    for ino in range(40):
        ledger.read(Ino(ino), here=True)
    assert ledger.room_bytes(A, 1) == budget.CREDIT_BYTES + 1000 * KIB
    assert (ledger.used_bytes, ledger.unread_bytes) == (4000 * KIB, 0)


def test_never_more_than_the_cache_can_give_up() -> None:
    ledger = Ledger()
    for ino in range(2000):
        ledger.take(Ino(ino), A, 200 * KIB, 0)
        ledger.read(Ino(ino), here=True)
    assert ledger.room_bytes(A, 61) == budget.MOST_AHEAD_BYTES


def test_what_nobody_reads_is_wasted_and_its_folder_left_alone_for_a_while() -> None:
    ledger = Ledger()
    fetch(ledger, 0, 10, 100 * KIB, 0)
    for ino in range(7):
        ledger.read(Ino(ino), here=True)
    assert ledger.room_bytes(A, budget.UNREAD_S) > 0
    assert ledger.room_bytes(A, budget.UNREAD_S + 1) == 0
    assert ledger.wasted_bytes == 300 * KIB
    assert ledger.room_bytes(B, budget.UNREAD_S + 1) > 0
    assert ledger.room_bytes(A, budget.UNREAD_S + 2 + budget.REST_S) > 0


@pytest.mark.parametrize(("size", "read"), [(200 * KIB, 8), (4 * KIB, 0)])
def test_a_fifth_may_be_wasted_and_a_few_files(size: int, read: int) -> None:
    ledger = Ledger()
    assert fetch(ledger, 0, 10, size, 0) == 10
    for ino in range(read):
        ledger.read(Ino(ino), here=True)
    assert ledger.room_bytes(A, budget.UNREAD_S + 1) > 0
    assert ledger.wasted_bytes > 0


def test_what_came_in_vain_is_waste() -> None:
    ledger = Ledger()
    fetch(ledger, 0, 3, 4 * KIB, 0)
    ledger.lost(Ino(0))
    ledger.read(Ino(1), here=False)
    ledger.cancel(Ino(2))
    assert (ledger.wasted_bytes, ledger.used_bytes, ledger.fetched_bytes) == (8 * KIB, 0, 8 * KIB)
    assert (ledger.files, ledger.unread_bytes) == (2, 0)


def test_each_minute_has_its_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "MOST_BYTES_A_MINUTE", 40 * KIB)
    monkeypatch.setattr(budget, "MOST_REQUESTS_A_MINUTE", 2)
    ledger = Ledger()
    assert fetch(ledger, 0, 100, 4 * KIB, 0) == 10
    for ino in range(10):
        ledger.read(Ino(ino), here=True)
    assert ledger.room_bytes(A, 59) == 0
    assert ledger.room_bytes(A, 61) == 40 * KIB
    ledger.requested()
    ledger.requested()
    assert ledger.room_bytes(A, 62) == 0
    assert ledger.room_bytes(A, 122) == 40 * KIB


STEPS = st.lists(
    st.tuples(
        st.sampled_from([A, B]),
        st.integers(1, 200),
        st.sampled_from([4 * KIB, 100 * KIB, MIB]),
        st.floats(0, 1),
        st.floats(0, 100),
    ),
    max_size=60,
)


@given(STEPS)
def test_waste_is_bounded_whatever_happens(steps: list[tuple[Ino, int, int, float, float]]) -> None:
    ledger, now, ino = Ledger(), 0.0, 0
    for folder, count, size, part_read, pause_s in steps:
        taken = fetch(ledger, ino, count, size, now, folder)
        for number in range(int(taken * part_read)):
            ledger.read(Ino(ino + number), here=True)
        ino, now = ino + count, now + pause_s
        assert ledger.unread_bytes <= budget.MOST_AHEAD_BYTES
        assert ledger.fetched_bytes == ledger.used_bytes + ledger.wasted_bytes + ledger.unread_bytes
        # Half of it all is forgotten every ten minutes, and each time the first credit is granted once more.
        granted_bytes = (2 + now // budget.FORGET_S) * budget.CREDIT_BYTES
        assert ledger.wasted_bytes <= granted_bytes + ledger.used_bytes / budget.USED_PER_WASTED


def test_archives_are_preferred_until_they_have_been_slower_often_enough() -> None:
    speeds = Speeds()
    assert speeds.best(0) is Way.ARCHIVE
    speeds.note(Way.SINGLE, 0.02, 1, 0)
    for times in range(budget.TELLING_TIMES):
        assert speeds.best(0) is Way.ARCHIVE, times
        speeds.note(Way.ARCHIVE, 3.0, 100, 0)
    assert speeds.best(0) is Way.SINGLE
    assert speeds.best(budget.FORGET_S + 1) is Way.ARCHIVE


def test_quick_archives_stay_preferred() -> None:
    speeds = Speeds()
    for _ in range(10):
        speeds.note(Way.SINGLE, 0.02, 1, 0)
        speeds.note(Way.ARCHIVE, 0.7, 100, 0)
    assert speeds.best(0) is Way.ARCHIVE
    assert speeds.seconds(Way.ARCHIVE, 0) == pytest.approx(0.007)


def test_refused_archives_are_left_alone_for_a_while() -> None:
    speeds = Speeds()
    speeds.refuse_archives(0, 600)
    assert speeds.best(599) is Way.SINGLE
    assert speeds.best(600) is Way.ARCHIVE


def test_an_archive_that_brought_nothing_tells_nothing() -> None:
    speeds = Speeds()
    speeds.note(Way.ARCHIVE, 3.0, 0, 0)
    assert speeds.seconds(Way.ARCHIVE, 0) is None
