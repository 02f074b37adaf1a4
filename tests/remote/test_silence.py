"""When a server counts as one that answers nothing, and what that means for those who wait."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from cloudfs.errors import Unreachable
from cloudfs.remote.silence import Silence

FOR_EVER = 1000.0


async def wait(silence: Silence, most_s: float = 15.0, asked_at: float | None = None) -> bool:
    """Wait as a program does; tell whether it was cut short by the silence."""
    with trio.move_on_after(most_s):
        try:
            async with silence.borne(lambda: "/file", trio.current_time() if asked_at is None else asked_at):
                await trio.sleep(FOR_EVER)
        except Unreachable as error:
            return error.subject == "/file"
    return False


async def wait_together(silence: Silence, count: int, most_s: float = 7.5) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(wait, silence, most_s)


async def test_a_few_programs_in_vain_say_nothing(autojump_clock: MockClock) -> None:
    del autojump_clock
    silence = Silence()
    await wait_together(silence, 7)
    assert not silence.presumed
    assert not await wait(silence, 7.0)


async def test_a_dozen_in_vain_says_something(autojump_clock: MockClock) -> None:
    del autojump_clock
    silence = Silence()
    await wait_together(silence, 12)
    began = trio.current_time()
    assert await wait(silence)
    assert trio.current_time() - began == pytest.approx(1.0)


async def test_the_more_come_the_shorter_they_wait(autojump_clock: MockClock) -> None:
    del autojump_clock
    silence = Silence()
    await wait_together(silence, 12)
    took_s = []
    for _ in range(100):
        began = trio.current_time()
        assert await wait(silence)
        took_s.append(round(trio.current_time() - began, 6))
    assert took_s == sorted(took_s, reverse=True)
    assert took_s[-1] == pytest.approx(0.2)


async def test_what_was_asked_for_before_is_waited_for_as_ever(autojump_clock: MockClock) -> None:
    del autojump_clock
    silence, asked_at = Silence(), trio.current_time()
    await wait_together(silence, 12)
    assert not await wait(silence, 7.5, asked_at)


async def test_anything_that_comes_ends_it(autojump_clock: MockClock) -> None:
    del autojump_clock
    silence = Silence()
    await wait_together(silence, 12)
    assert silence.presumed
    silence.heard()
    assert not await wait(silence, 7.5)


async def test_nobody_waits_in_vain_while_anything_comes(autojump_clock: MockClock) -> None:
    del autojump_clock
    silence = Silence()
    for _ in range(3):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_together, silence, 7)
            await trio.sleep(7)
            silence.heard()
    assert not silence.presumed
    assert not await wait(silence, 7.5)


async def test_what_fails_at_once_says_nothing(autojump_clock: MockClock) -> None:
    del autojump_clock
    silence = Silence()
    for _ in range(1000):
        with pytest.raises(Unreachable):
            async with silence.borne(lambda: "/file", trio.current_time()):
                raise Unreachable("no route")
    assert not silence.presumed


async def test_what_was_known_long_ago_is_known_no_more(autojump_clock: MockClock) -> None:
    del autojump_clock
    silence = Silence()
    await wait_together(silence, 12)
    await trio.sleep(10)
    assert not await wait(silence, 7.5)
