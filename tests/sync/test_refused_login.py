"""A login that the server refuses: how many more requests go out."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from cloudfs.errors import Changed, NotAuthenticated, RemoteError
from cloudfs.remote.connect import discover
from cloudfs.remote.files import WebdavRemote
from cloudfs.remote.protocol import Body, Condition, NewFile
from cloudfs.sync.connectivity import Connectivity, State
from cloudfs.sync.gate import GatedRemote
from cloudfs.types import RemoteEntry, RemotePath, Stored
from tests.functional.drivers import write
from tests.functional.stages import USER, VfsStage, wait_until
from tests.model.fake_remote import FakeRemote
from tests.model.virtual import run_virtually
from tests.servers import StandIn
from tests.sync.bulk import WITH_BULK
from tests.sync.mount import World, tell

_ON_THE_WIRE = 4
"""Uploads at once."""


def failed_logins(server: StandIn) -> int:
    """Count what slows a server down for everybody: refused requests that brought the password."""
    return sum(it.status == 401 and "authorization" in it.headers for it in server.requests)


class Revoking(FakeRemote):
    """Lets nobody in after so many uploads."""

    left = 50
    refused = 0
    asked_since = 0

    async def put(
        self,
        path: RemotePath,
        body: Body,
        size: int,
        condition: Condition,
        *,
        mtime_s: int | None = None,
        checksum: str | None = None,
        name: str | None = None,
        base_bytes: int = 0,
    ) -> Stored:
        assert not base_bytes
        await trio.sleep(0.01)
        if self.left <= 0:
            Revoking.refused += 1
            raise NotAuthenticated("the password was revoked", subject=path, status=401)
        Revoking.left -= 1
        return await super().put(path, body, size, condition, mtime_s=mtime_s, checksum=checksum, name=name)

    async def stat(self, path: RemotePath) -> RemoteEntry:
        if self.left <= 0:
            Revoking.asked_since += 1
            await trio.sleep(1)
            raise NotAuthenticated("the password was revoked", subject=path, status=401)
        return await super().stat(path)


def test_nothing_is_sent_after_a_refused_login(tmp_path: Path) -> None:
    """100 uploads, refused in their middle: only what was on the wire already fails too."""
    Revoking.left, Revoking.refused, Revoking.asked_since = 50, 0, 0

    async def story(world: World) -> None:
        for number in range(100):
            await world.save(f"{number:03}", b"x")
        while world.engine.connectivity.state is not State.NEEDS_LOGIN:
            await trio.sleep(0.1)
        await trio.sleep(3600)
        assert 1 <= Revoking.refused <= _ON_THE_WIRE
        before = Revoking.refused
        left = await world.engine.worker.wait_synced(lambda _: True)
        assert len(left) == 50
        assert Revoking.refused == before + 1, "another try is one request"

    tell(tmp_path, story, Revoking())


def test_one_request_at_a_time_tries_a_doubtful_login() -> None:
    async def main() -> None:
        Revoking.left, Revoking.asked_since = 0, 0
        connectivity = Connectivity(returned=lambda: None)
        remote = GatedRemote(Revoking(), connectivity)
        refused = 0

        async def ask() -> None:
            nonlocal refused
            try:
                await remote.stat(RemotePath("/"))
            except NotAuthenticated:
                refused += 1

        async def ask_often() -> None:
            connectivity.try_now()
            async with trio.open_nursery() as nursery:
                for _ in range(20):
                    nursery.start_soon(ask)

        await ask()
        for tries in (2, 3):
            await ask_often()
            assert Revoking.asked_since == tries
        assert refused == 41
        Revoking.left = 1
        await ask_often()
        assert refused == 41
        assert connectivity.online

    run_virtually(main, 1)


class RefusesLate(FakeRemote):
    """Lets no password in, and is slow to say so."""

    good = True
    bulks = 0
    delay_s = 0.0

    async def put_bulk(self, files: Sequence[NewFile]) -> Sequence[Stored | None]:
        self.bulks += 1
        await trio.sleep(1.8)
        if self.good:
            return await super().put_bulk(files)
        raise NotAuthenticated("the password was revoked", subject="/", status=401)

    async def stat(self, path: RemotePath) -> RemoteEntry:
        if self.delay_s:
            await trio.sleep(self.delay_s)
        if self.good:
            return await super().stat(path)
        raise NotAuthenticated("the password was revoked", subject=path, status=401)


@pytest.mark.parametrize("good", [True, False])
def test_a_second_request_in_bulk_is_no_second_refusal(good: bool) -> None:
    """It begins while the first one may yet be refused; what is asked first goes by the session (`remote.identity`)."""

    async def main() -> None:
        server = RefusesLate(features=WITH_BULK)
        remote = GatedRemote(server, Connectivity(returned=lambda: None))
        await remote.make_folder(RemotePath("/new"))
        server.log.clear()
        server.good = good
        errors: list[RemoteError] = []

        async def send(name: str) -> None:
            try:
                await remote.put_bulk([NewFile(RemotePath(f"/new/{name}"), b"content", 86401)])
            except NotAuthenticated as error:
                errors.append(error)

        async with trio.open_nursery() as nursery:
            await trio.sleep(0.6)
            nursery.start_soon(send, "a")
            await trio.sleep(0.6)
            nursery.start_soon(send, "b")
        assert server.bulks == 1 + good
        assert [error.unsent for error in errors] == ([] if good else [True, False])
        assert server.methods().count("stat /") == good

    run_virtually(main, 1)


def test_a_second_request_in_bulk_that_was_long_kept_is_not_sent() -> None:
    """Others may have come to use the folder since it was looked into, and a bulk upload knows no conditions."""

    async def main() -> None:
        server = RefusesLate(features=WITH_BULK)
        remote = GatedRemote(server, Connectivity(returned=lambda: None))
        await remote.make_folder(RemotePath("/new"))
        await trio.sleep(1.5)
        server.delay_s = 1.2
        async with trio.open_nursery() as nursery:
            nursery.start_soon(remote.put_bulk, [NewFile(RemotePath("/new/a"), b"content", 86401)])
            await trio.sleep(0.1)
            with pytest.raises(Changed) as refused:
                await remote.put_bulk([NewFile(RemotePath("/new/b"), b"content", 86401)])
        assert refused.value.unsent
        assert server.bulks == 1

    run_virtually(main, 1)


def test_what_waits_for_a_connection_is_held_back() -> None:
    """Against a server: 30 requests at once through 6 connections, with a login that was revoked before."""

    async def main(server: StandIn) -> None:
        account = server.account(USER)
        password = account.app_password()
        site = await discover(server.url, USER, password)
        inner = WebdavRemote(site, password)
        connectivity = Connectivity(returned=lambda: None)
        remote = GatedRemote(inner, connectivity)
        await remote.stat(RemotePath("/"))
        account.revoke(password)
        server.requests.reset()

        async def ask() -> None:
            with pytest.raises(NotAuthenticated):
                await remote.stat(RemotePath("/"))

        async with trio.open_nursery() as nursery:
            for _ in range(30):
                nursery.start_soon(ask)
        assert server.requests.count() <= 6, "those on the wire"
        assert failed_logins(server) == 1
        assert connectivity.state is State.NEEDS_LOGIN
        before = server.requests.count()
        connectivity.try_now()
        async with trio.open_nursery() as nursery:
            for _ in range(30):
                nursery.start_soon(ask)
        assert server.requests.count() == before + 1
        await remote.aclose()

    with StandIn() as server:
        trio.run(main, server)


def test_after_a_while_one_request_tries_the_login() -> None:
    """Withdrawn while nothing was asked, as is usual: 30 requests and 10 uploads at once are one failed login."""

    async def main(server: StandIn, clock: MockClock) -> None:
        account = server.account(USER)
        password = account.app_password()
        inner = WebdavRemote(await discover(server.url, USER, password), password)
        remote = GatedRemote(inner, Connectivity(returned=lambda: None))
        await remote.stat(RemotePath("/"))
        account.revoke(password)
        server.requests.reset()
        clock.jump(10)

        async def ask() -> None:
            with pytest.raises(NotAuthenticated):
                await remote.stat(RemotePath("/"))

        async def send(number: int, size: int) -> None:
            async def body(start: int = 0) -> AsyncIterator[bytes]:
                yield bytes(size - start)

            with pytest.raises(NotAuthenticated):
                await remote.put(RemotePath(f"/{number}"), body, size, Condition(absent=True))

        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(send, number, 1 << 20)
                for _ in range(3):
                    nursery.start_soon(ask)
        assert server.requests.methods == ["PROPFIND"]
        await remote.aclose()

    with StandIn() as server:
        clock = MockClock(rate=1)
        trio.run(main, server, clock, clock=clock)


def test_a_slow_proof_holds_up_nobody_for_long() -> None:
    async def main() -> None:
        connectivity = Connectivity(returned=lambda: None)

        async def slow() -> None:
            async with connectivity.asking():
                await trio.sleep(3600)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(slow)
            await trio.sleep(1)
            for longest_s in (2.0, 0.0):  # the first answer is proof enough for the second
                began = trio.current_time()
                async with connectivity.asking() as answered:
                    assert trio.current_time() - began <= longest_s
                    answered()
            nursery.cancel_scope.cancel()

    run_virtually(main, 1)


@pytest.mark.shared_engine
def test_a_password_withdrawn_within_a_hundred_uploads(tmp_path: Path) -> None:
    """Against a server: one request that brings the password is refused; another try is one more."""
    with StandIn() as server:
        account = server.account(USER)
        password = account.app_password()
        stage = VfsStage(tmp_path / "engine", server, quiet_s=3600.0, password=password)
        driver = stage.root()
        for number in range(100):
            write(driver, f"{number:03}", b"x")

        def revoke() -> None:
            wait_until(lambda: server.requests.count("PUT") >= 50)
            account.revoke(password)

        revoking = threading.Thread(target=revoke)
        revoking.start()
        assert len(stage.send()) > 0
        revoking.join()
        refused = [record for record in server.requests if record.status == 401]
        assert 1 <= len(refused) <= _ON_THE_WIRE + 1, "by their session, and one of them by the password"
        assert failed_logins(server) == 1
        assert len(stage.send()) == 100 - len(account.tree())
        assert failed_logins(server) == 2
        # What is asked without a login beside (whether the device is to be wiped) does not count.
        assert sum(record.status == 401 for record in server.requests) == len(refused) + 1
        stage.close()


def test_a_success_of_before_does_not_open_the_gate() -> None:
    """An upload that was let in before the login was revoked may end long after."""

    async def main() -> None:
        connectivity = Connectivity(returned=lambda: None)
        async with connectivity.asking() as answered:
            connectivity.failed(NotAuthenticated("revoked", status=401))
            answered()
        assert connectivity.state is State.NEEDS_LOGIN
        with pytest.raises(NotAuthenticated):
            async with connectivity.asking():
                raise AssertionError

    trio.run(main)
