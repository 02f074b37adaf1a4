"""A server that asks to be left alone: nothing is sent before it may, and what can be asked without a login is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio

from cloudfs.errors import Maintenance, NotAuthenticated, RemoteError, Throttled, Unavailable, Unreachable
from cloudfs.remote.protocol import Health
from cloudfs.sync.connectivity import State
from tests.sync.mount import World, tell
from tests.sync.test_server_states import Refusing, state, until

HOUR_S = 3600.0


@dataclass
class Outspeaking(Refusing):
    """Tells some things without a login, and when it was asked them."""

    now: Health | RemoteError = field(default_factory=Health)
    wipe: bool | RemoteError = False
    asked_health: list[float] = field(default_factory=list)
    asked_wipe: list[float] = field(default_factory=list)

    async def health(self) -> Health | None:
        self.asked_health.append(trio.current_time())
        await trio.sleep(0.1)
        if isinstance(self.now, RemoteError):
            raise self.now
        return self.now

    async def asks_for_wipe(self) -> bool:
        self.asked_wipe.append(trio.current_time())
        await trio.sleep(0.1)
        if isinstance(self.wipe, RemoteError):
            raise self.wipe
        return self.wipe


def in_maintenance(_method: str, path: str) -> RemoteError:
    return Maintenance("System is in maintenance mode.", subject=path, status=503)


async def is_well(world: World, remote: Refusing) -> None:
    """Wait until a file has gone up."""
    await world.save("before", b"x")
    await until(lambda: remote.other.exists("/before"))


async def use(world: World) -> None:
    """Look into the root, as programs do."""
    with trio.move_on_after(5), suppress(RemoteError):
        await world.refresh_all()


def test_maintenance_is_followed_by_status_and_no_failing_request(tmp_path: Path) -> None:
    remote = Outspeaking()

    async def story(world: World) -> None:
        await is_well(world, remote)
        remote.now, remote.refuse = Health(maintenance=True), in_maintenance
        await world.save("during", b"x")
        await until(lambda: state(world) is State.MAINTENANCE)
        began = trio.current_time()
        for _ in range(100):
            await use(world)
            await trio.sleep(36)
        assert remote.requests_since(began) == 0
        assert 30 <= len(remote.asked_health) <= HOUR_S / 30
        assert state(world) is State.MAINTENANCE
        remote.now, remote.refuse = Health(), lambda _method, _path: None
        assert await until(lambda: remote.other.exists("/during")) < 150
        assert state(world) is State.ONLINE

    tell(tmp_path, story, remote)


def test_an_upgrade_that_waits_for_its_administrator_is_told(tmp_path: Path) -> None:
    remote = Outspeaking()

    async def story(world: World) -> None:
        await is_well(world, remote)
        remote.now, remote.refuse = Health(upgrade=True), in_maintenance
        await world.save("file", b"x")
        await until(lambda: "upgrade" in world.engine.connectivity.reason, within_s=60)
        assert state(world) is State.MAINTENANCE
        await trio.sleep(600)
        assert "upgrade" in world.engine.connectivity.reason
        remote.now, remote.refuse = Health(), lambda _method, _path: None
        await until(lambda: remote.other.exists("/file"), within_s=200)

    tell(tmp_path, story, remote)


@pytest.mark.parametrize("now", [Health(), Unreachable("no route")])
def test_a_status_that_says_nothing_of_maintenance_leaves_it_to_the_requests(
    tmp_path: Path, now: Health | RemoteError
) -> None:
    """A status page that is cached, or a server that is gone altogether: nobody waits for ever."""
    remote = Outspeaking()

    async def story(world: World) -> None:
        await is_well(world, remote)
        remote.now, remote.refuse = now, in_maintenance
        await world.save("file", b"x")
        await until(lambda: state(world) is State.MAINTENANCE)
        began = trio.current_time()
        await trio.sleep(600)
        assert remote.requests_since(began) <= 4 * 600 / 24
        remote.refuse = lambda _method, _path: None
        assert await until(lambda: remote.other.exists("/file")) < 60

    tell(tmp_path, story, remote)


def test_whoever_waits_has_one_request_find_out(tmp_path: Path) -> None:
    remote = Outspeaking()

    async def story(world: World) -> None:
        await is_well(world, remote)
        remote.now, remote.refuse = Health(maintenance=True), in_maintenance
        await world.save("file", b"x")
        await until(lambda: state(world) is State.MAINTENANCE)
        await trio.sleep(1)
        began = trio.current_time()
        await trio.sleep(0.01)
        world.engine.worker.try_all_now()
        await trio.sleep(20)
        assert remote.requests_since(began) == 1
        remote.refuse = lambda _method, _path: None
        world.engine.worker.try_all_now()
        assert await until(lambda: remote.other.exists("/file")) < 10
        assert state(world) is State.ONLINE

    tell(tmp_path, story, remote)


def test_where_no_request_comes_to_find_out_one_is_made(tmp_path: Path) -> None:
    remote = Outspeaking()

    async def story(world: World) -> None:
        await is_well(world, remote)
        remote.now, remote.refuse = Health(maintenance=True), in_maintenance
        await use(world)
        await until(lambda: state(world) is State.MAINTENANCE)
        await trio.sleep(100)  # whoever looks for changes waits for the end by now
        world.engine.worker.try_all_now()  # and there is nothing to send
        remote.now, remote.refuse = Health(), lambda _method, _path: None
        assert await until(lambda: state(world) is State.ONLINE) < 60

    tell(tmp_path, story, remote)


def throttled(seconds: float | None) -> Callable[[str, str], RemoteError]:
    return lambda _, path: Throttled("too many requests", subject=path, status=429, retry_after_s=seconds)


def test_nothing_is_sent_before_a_throttling_server_allows_it(tmp_path: Path) -> None:
    remote = Refusing()

    async def story(world: World) -> None:
        await is_well(world, remote)
        remote.refuse = throttled(900)
        await world.save("file", b"x")
        await until(lambda: state(world) is State.THROTTLED)
        began = trio.current_time()
        for _ in range(8):
            await use(world)
            world.engine.worker.try_all_now()
            await trio.sleep(100)
        assert remote.requests_since(began) == 0
        assert await world.read_file("before") == b"x"
        remote.refuse = lambda _method, _path: None
        assert 80 < await until(lambda: remote.other.exists("/file")) < 120
        assert state(world) is State.ONLINE

    tell(tmp_path, story, remote)


def test_a_server_that_throttles_without_a_time_is_asked_ever_more_seldom(tmp_path: Path) -> None:
    remote = Refusing()

    async def story(world: World) -> None:
        await is_well(world, remote)
        remote.refuse = throttled(None)
        await world.save("file", b"x")
        await until(lambda: state(world) is State.THROTTLED)
        began = trio.current_time()
        await trio.sleep(2 * HOUR_S)
        moments = Counter(round(it.at_s, 1) for it in remote.log if it.at_s > began)
        assert 4 <= len(moments) <= 9
        assert max(moments.values()) <= 2  # one step that waits, and the look for what others changed
        remote.refuse = lambda _method, _path: None
        await until(lambda: remote.other.exists("/file"), within_s=HOUR_S)

    tell(tmp_path, story, remote)


def test_come_back_at_once_is_no_call_for_a_storm(tmp_path: Path) -> None:
    """`Retry-After: 0`, from a proxy that means well."""
    remote = Refusing()

    async def story(world: World) -> None:
        await is_well(world, remote)
        remote.refuse = lambda _, path: Unavailable("later", subject=path, status=503, retry_after_s=0.0)
        await world.save("file", b"x")
        await until(lambda: not world.engine.connectivity.online)
        began = trio.current_time()
        await trio.sleep(600)
        moments = Counter(round(it.at_s, 1) for it in remote.log if it.at_s > began)
        assert 5 <= len(moments) <= 40, sorted(moments)
        assert max(moments.values()) <= 2
        remote.refuse = lambda _method, _path: None
        await until(lambda: remote.other.exists("/file"), within_s=HOUR_S)

    tell(tmp_path, story, remote)


def test_a_throttling_server_that_says_at_once_holds_programs_back_too(tmp_path: Path) -> None:
    remote = Refusing()

    async def story(world: World) -> None:
        await is_well(world, remote)
        remote.refuse = throttled(0)
        await use(world)
        await until(lambda: state(world) is State.THROTTLED)
        began = trio.current_time()
        for _ in range(1000):
            await use(world)
            world.engine.worker.try_all_now()
            await trio.sleep(0.3)
        assert remote.requests_since(began) < 40

    tell(tmp_path, story, remote)


@pytest.mark.expect_log("asks for a remote wipe")
def test_a_wipe_is_asked_for_once_and_told(tmp_path: Path) -> None:
    remote = Outspeaking()
    remote.wipe = True

    async def story(world: World) -> None:
        await is_well(world, remote)
        outages = world.engine.outages
        assert outages is not None
        await trio.sleep(10)
        assert remote.asked_wipe == [], "nobody asks while the login is good"
        remote.refuse = lambda _, path: NotAuthenticated("no", subject=path, status=401)
        await world.save("kept too", b"x")
        await until(lambda: state(world) is State.NEEDS_LOGIN)
        await trio.sleep(HOUR_S)
        assert outages.wipe.is_set()
        assert len(remote.asked_wipe) == 1
        assert await world.read_file("kept too") == b"x", "only told: `wiping` removes, once this has ended"

    tell(tmp_path, story, remote)


@pytest.mark.expect_log("asks for a remote wipe")
def test_a_wipe_that_cannot_be_asked_for_is_asked_for_later(tmp_path: Path) -> None:
    remote = Outspeaking()
    remote.wipe = Throttled("ten in five minutes", status=429)

    async def story(world: World) -> None:
        await is_well(world, remote)
        outages = world.engine.outages
        assert outages is not None
        remote.refuse = lambda _, path: NotAuthenticated("no", subject=path, status=401)
        await world.save("file", b"x")
        await trio.sleep(300)
        assert 2 <= len(remote.asked_wipe) <= 5
        assert not outages.wipe.is_set()
        remote.wipe = True
        await until(outages.wipe.is_set, within_s=700)
        assert state(world) is State.NEEDS_LOGIN

    tell(tmp_path, story, remote)


def test_a_plain_503_backs_off_as_ever(tmp_path: Path) -> None:
    remote = Outspeaking()

    async def story(world: World) -> None:
        await is_well(world, remote)
        remote.refuse = lambda _, path: Unavailable("overloaded", subject=path, status=503)
        await world.save("file", b"x")
        await until(lambda: state(world) is not State.ONLINE)
        await trio.sleep(600)
        assert remote.asked_health == []
        remote.refuse = lambda _method, _path: None
        assert await until(lambda: remote.other.exists("/file")) < 60

    tell(tmp_path, story, remote)
