"""The account's space: shown from memory at once, and asked for again soon after it may have changed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest
import trio
from trio.testing import MockClock

from cloudfs.errors import Unreachable
from cloudfs.metadata.quota import Quota
from cloudfs.remote.protocol import Remote, Space, Unlimited


class Account:
    """Tells its space, after a second."""

    def __init__(self) -> None:
        self.now: Space | Unlimited | None = Space(1000, 500)
        self.asked: list[float] = []
        self.away = False

    async def space(self) -> Space | Unlimited | None:
        self.asked.append(trio.current_time())
        await trio.sleep(1)
        if self.away:
            raise Unreachable("no route")
        return self.now


@asynccontextmanager
async def known() -> AsyncIterator[tuple[Quota, Account]]:
    account = Account()
    async with trio.open_nursery() as nursery:
        quota = Quota(cast("Remote", account), nursery)
        await quota.ask()
        yield quota, account
        nursery.cancel_scope.cancel()


async def test_looking_never_waits(autojump_clock: MockClock) -> None:
    del autojump_clock
    async with known() as (quota, account):
        await trio.sleep(100)
        account.now = Space(1, 1)
        begun_s = trio.current_time()
        assert quota.space() == Space(1000, 500)
        assert trio.current_time() == begun_s
        await trio.sleep(2)
        assert quota.space() == Space(1, 1)
        for _ in range(100):
            quota.space()
        await trio.sleep(2)
        assert len(account.asked) == 2


async def test_what_we_send_and_remove_counts_at_once(autojump_clock: MockClock) -> None:
    del autojump_clock
    async with known() as (quota, _):
        quota.spent(300)
        assert quota.space() == Space(700, 800)
        quota.spent(-800)
        assert quota.space() == Space(1500, 0)
        quota.spent(9999)
        assert quota.space() == Space(0, 9999)


@pytest.mark.parametrize("size_bytes", [100, None])
async def test_a_change_has_the_server_asked_soon(autojump_clock: MockClock, size_bytes: int | None) -> None:
    """Also where nobody looks: the first look is to be right."""
    del autojump_clock
    async with known() as (quota, account):
        await trio.sleep(100)
        account.now = Space(900, 600)
        quota.spent(size_bytes)
        await trio.sleep(7)
        assert quota.space() == Space(900, 600)
        assert len(account.asked) == 2


async def test_many_changes_have_it_asked_now_and_then(autojump_clock: MockClock) -> None:
    del autojump_clock
    async with known() as (quota, account):
        for _ in range(600):
            quota.spent(1)
            await trio.sleep(0.1)
        assert 4 <= len(account.asked) <= 8


async def test_an_account_without_a_limit_is_not_asked_for_every_change(autojump_clock: MockClock) -> None:
    del autojump_clock
    async with known() as (quota, account):
        assert quota.used_bytes == 500
        account.now = Unlimited(700)
        await quota.ask()
        quota.spent(100)
        assert quota.used_bytes == 800
        await trio.sleep(1000)
        assert quota.space() is None
        assert len(account.asked) == 2


async def test_without_network_the_last_word_stays(autojump_clock: MockClock) -> None:
    del autojump_clock
    async with known() as (quota, account):
        account.away = True
        await trio.sleep(100)
        quota.space()
        await trio.sleep(5)
        assert quota.space() == Space(1000, 500)


async def test_who_meets_the_server_asks_once(autojump_clock: MockClock) -> None:
    """`df` right after the start, and the first request of the account."""
    del autojump_clock
    async with known() as (quota, account):
        await quota.greet()
        assert len(account.asked) == 1
        await trio.sleep(20)
        await quota.greet()
        assert len(account.asked) == 2


async def test_it_is_unsure_after_a_change_of_unknown_size_until_it_was_asked(
    autojump_clock: MockClock,
) -> None:
    del autojump_clock
    async with known() as (quota, _):
        assert quota.is_sure()
        quota.spent(100)
        assert quota.is_sure()
        quota.spent(None)
        quota.freed()
        assert not quota.is_sure()
        await trio.sleep(30)
        assert quota.is_sure()
