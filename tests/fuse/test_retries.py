"""What the kernel asks for again and again is waited for no longer than once."""

from __future__ import annotations

import errno

import pyfuse3
import pytest
import trio
from trio.testing import MockClock

from cloudfs.fuse.boundary import Boundary
from cloudfs.fuse.retries import Retries

DEADLINE_S = 15.0


class Reading:
    """Reads of one mount, none of which is ever answered, or all after some seconds."""

    def __init__(self, answers_s: float = 1000.0) -> None:
        self.answers_s = answers_s
        self._boundary = Boundary(DEADLINE_S)
        self.retries = Retries(DEADLINE_S)

    async def _answer(self) -> None:
        await trio.sleep(self.answers_s)

    async def read(self, handle: int = 1, start: int = 0) -> float | None:
        """Return how long an answer took; None: it failed."""
        began = trio.current_time()
        try:
            with self.retries.attempt(handle, start, start + 4096) as left_s:
                await self._boundary.run("read", self._answer(), left_s)
        except pyfuse3.FUSEError as error:
            return None if error.errno == errno.ETIMEDOUT else -1
        return trio.current_time() - began


@pytest.mark.expect_log("was not answered within")
async def test_three_tries_for_a_page_take_no_longer_than_one_request_may(autojump_clock: MockClock) -> None:
    del autojump_clock
    reading, began = Reading(), trio.current_time()
    for _ in range(3):
        assert await reading.read() is None
    assert trio.current_time() - began == pytest.approx(DEADLINE_S)


@pytest.mark.expect_log("was not answered within")
async def test_a_program_that_tries_anew_waits_anew(autojump_clock: MockClock) -> None:
    del autojump_clock
    reading = Reading()
    for _ in range(3):
        await reading.read()
    await trio.sleep(0.9)
    assert await reading.read() is None  # at once, as what is asked for again
    await trio.sleep(0.2)
    reading.answers_s = 7.0
    assert await reading.read() == pytest.approx(7)


@pytest.mark.expect_log("was not answered within")
async def test_other_files_and_what_is_read_have_all_their_time(autojump_clock: MockClock) -> None:
    del autojump_clock
    reading = Reading()
    for _ in range(3):
        await reading.read()
    reading.answers_s = 7.0
    assert await reading.read(handle=2) == pytest.approx(7)
    reading.retries.closed(1)
    for _ in range(5):
        assert await reading.read() == pytest.approx(7)


@pytest.mark.expect_log("was not answered within")
async def test_a_slow_answer_begins_the_count_anew(autojump_clock: MockClock) -> None:
    """On a line where each piece takes as long as a try, a program gets one after the other."""
    del autojump_clock
    reading = Reading()
    for _ in range(5):
        reading.answers_s = 1000.0
        assert await reading.read() is None
        reading.answers_s = 3.0
        assert await reading.read() == pytest.approx(3)


@pytest.mark.expect_log("was not answered within")
async def test_another_place_of_the_same_file_has_all_its_time(autojump_clock: MockClock) -> None:
    """What a program has written there itself, or what is here, is no repetition."""
    del autojump_clock
    reading = Reading()
    for _ in range(3):
        assert await reading.read(start=8192) is None
    reading.answers_s = 0.3
    assert await reading.read(start=10000) is None, "a part of what was read in vain"
    assert await reading.read(start=0) == pytest.approx(0.3)
    assert await reading.read(start=12288) == pytest.approx(0.3)


@pytest.mark.expect_log("was not answered within")
async def test_no_more_is_remembered_than_the_kernel_asks_for_at_once(autojump_clock: MockClock) -> None:
    del autojump_clock
    reading = Reading()
    async with trio.open_nursery() as nursery:
        for number in range(40):
            nursery.start_soon(reading.read, 1, number * 4096)
    assert len(reading.retries._failed[1]) == 16
    reading.retries.closed(1)
    assert reading.retries._failed == {}
