"""A fetcher over fakes, with the check that it leaves nothing behind."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

from cloudfs.content.fetch import FetchConfig, Fetcher, MemoryBudget
from cloudfs.remote.protocol import Remote
from cloudfs.remote.silence import Silence
from tests.content.fakes import MIB, World


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """Let this folder's tests run on a clock that jumps, but those that meet a real server.

    Not the fixture `autojump_clock`: pytest-trio sees it only where a test names it itself.
    """
    for item in items:
        mine = Path(__file__).parent in item.path.parents
        if mine and item.get_closest_marker("trio") and not item.get_closest_marker("server"):
            item.add_marker(pytest.mark.trio(run=run_in_virtual_time), append=False)


def run_in_virtual_time(test: Callable[[], Awaitable[None]], **options: Any) -> None:
    trio.run(test, **(options | {"clock": MockClock(autojump_threshold=0)}))


Fetching = Callable[..., AbstractAsyncContextManager[Fetcher]]


@asynccontextmanager
async def open_fetcher(
    world: World,
    *,
    ceiling_bytes: int = 64 * MIB,
    config: FetchConfig | None = None,
    silence: Silence | None = None,
) -> AsyncIterator[Fetcher]:
    """Give a fetcher; at the end nothing may be open, queued, waiting or charged."""
    budget = MemoryBudget(ceiling_bytes)
    async with trio.open_nursery() as nursery:
        remote = cast("Remote", world.remote)
        fetcher = Fetcher(
            world.blocks,
            remote,
            world.locate,
            budget,
            nursery,
            config,
            chance=random.Random(1),
            silence=silence,
        )
        yield fetcher
        with trio.fail_after(60):
            while nursery.child_tasks:  # no event tells it
                await trio.sleep(0.1)
        assert world.remote.open_requests == []
        statistics = fetcher.statistics()
        assert (statistics.transfers, statistics.storing) == (0, 0)
        fetcher.forget()
        assert budget.used_bytes == 0
        assert fetcher._line._active == {}
        assert fetcher._line.slots._queue == []


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def fetching() -> Fetching:
    return open_fetcher
