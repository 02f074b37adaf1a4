"""Several things at once whose failures are answers: what leaves a nursery is a group, which nobody expects."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

import trio

from cloudfs.errors import CloudfsError

__all__ = ["together"]


async def together(works: Iterable[Callable[[], Awaitable[object]]]) -> None:
    """Do all of it at once, each to its end, whatever becomes of the others; then raise what the first of them met.

    The first in their order, not in time. Of CloudfsError: any other exception is a bug, and ends all of it.
    """
    failures: dict[int, CloudfsError] = {}

    async def see_through(place: int, work: Callable[[], Awaitable[object]]) -> None:
        try:
            await work()
        except CloudfsError as error:
            failures[place] = error

    async with trio.open_nursery() as nursery:
        for place, work in enumerate(works):
            nursery.start_soon(see_through, place, work)
    if failures:
        raise failures[min(failures)]
