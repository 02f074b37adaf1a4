"""What a refused login stops, and what a new one starts again."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from cloudfs.errors import NotAuthenticated, RemoteError
from cloudfs.sync.connectivity import Connectivity, State
from cloudfs.sync.gate import GatedRemote
from cloudfs.types import RemoteEntry, RemotePath
from tests.model.fake_remote import FakeRemote


def state(connectivity: Connectivity) -> State:
    return connectivity.state  # anew each time, whatever mypy believes to know of it


async def test_a_new_login_has_everybody_go_on() -> None:
    bells: list[int] = []
    connectivity = Connectivity(returned=lambda: bells.append(1))
    connectivity.failed(NotAuthenticated("no"))
    assert state(connectivity) is State.NEEDS_LOGIN
    with pytest.raises(NotAuthenticated):
        connectivity.check_login()
    connectivity.logged_in()
    connectivity.check_login()
    assert connectivity.next_try <= trio.current_time()
    assert bells
    connectivity.succeeded()
    assert state(connectivity) is State.ONLINE


async def test_a_late_refusal_of_the_old_login_says_nothing_about_the_new_one() -> None:
    connectivity = Connectivity(returned=lambda: None)
    answer = trio.Event()

    class Slow(FakeRemote):
        async def stat(self, path: RemotePath) -> RemoteEntry:
            await answer.wait()
            raise NotAuthenticated("no")

    gate = GatedRemote(Slow(), connectivity)

    async def ask() -> None:
        with pytest.raises(RemoteError):
            await gate.stat(RemotePath("/"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        connectivity.logged_in()
        answer.set()
    assert state(connectivity) is not State.NEEDS_LOGIN
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
    assert state(connectivity) is State.NEEDS_LOGIN
