"""Connections between two answers: few, not for long, and never one that has ended."""

from __future__ import annotations

from typing import Any, cast

import trio
import trio.testing

from cloudfs.remote.spares import Spare, Spares

PLACE = "localhost", 80


class _Stream:
    """A stream of which only the end matters."""

    def __init__(self) -> None:
        self.closed = False

    async def aclose(self) -> None:
        self.closed = True
        await trio.lowlevel.checkpoint()


def spare(*, alive: bool = True, place: tuple[str, int] = PLACE) -> tuple[Spare, _Stream]:
    stream = _Stream()
    return Spare(place, cast("Any", stream), cast("Any", None), lambda: alive), stream


async def test_the_one_used_last_goes_first_and_the_oldest_is_closed() -> None:
    spares = Spares(2, 30.0)
    made = [spare() for _ in range(3)]
    for it, _ in made:
        await spares.keep(it)
    assert [stream.closed for _, stream in made] == [True, False, False]
    assert [await spares.take(PLACE) for _ in range(3)] == [made[2][0], made[1][0], None]
    assert [stream.closed for _, stream in made] == [True, False, False]


async def test_another_place_needs_another_connection() -> None:
    spares = Spares(2, 30.0)
    kept, _ = spare()
    await spares.keep(kept)
    assert await spares.take(("localhost", 81)) is None
    assert await spares.take(PLACE) is kept


async def test_one_that_has_ended_is_closed_and_passed_over() -> None:
    spares = Spares(2, 30.0)
    (good, _), (dead, ended) = spare(), spare(alive=False)
    await spares.keep(good)
    await spares.keep(dead)
    assert await spares.take(PLACE) is good
    assert ended.closed


async def test_none_is_kept_for_long(autojump_clock: trio.testing.MockClock) -> None:
    del autojump_clock
    spares = Spares(2, 30.0)
    kept, stream = spare()
    await spares.keep(kept)
    await trio.sleep(31)
    assert await spares.take(PLACE) is None
    assert stream.closed


async def test_none_is_left_at_the_end_nor_comes_after_it() -> None:
    spares = Spares(2, 30.0)
    (before, first), (after, second) = spare(), spare()
    await spares.keep(before)
    await spares.aclose()
    await spares.keep(after)
    assert (first.closed, second.closed) == (True, True)
    assert await spares.take(PLACE) is None
