"""A server, or a proxy before it, that refuses every request with a condition, though the condition holds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from cloudfs.errors import AlreadyExists, Changed, RemoteError, ServerFault, Unsupported
from cloudfs.sync.troubles import Trouble
from cloudfs.types import RemotePath
from tests.model.fake_remote import FakeRemote
from tests.sync.mount import World, tell
from tests.sync.test_server_states import Refusing
from tests.sync.test_times import touch

AN_HOUR_S = 3600.0
BYTES = b"ours" * 100

Deed = Callable[[World], Awaitable[object]]


async def overwrite(world: World) -> None:
    await world.save("a", BYTES)


async def create(world: World) -> None:
    await world.save("new", BYTES)


async def move(world: World) -> None:
    await world.rename("a", "b")


async def remove(world: World) -> None:
    await world.unlink("a")


async def set_time(world: World) -> None:
    await touch(world, "a", 1_600_000_000)


def expected(deed: Deed) -> dict[str, bytes]:
    old = b"base"
    left: dict[Deed, dict[str, bytes]] = {
        overwrite: {"/a": BYTES},
        create: {"/a": old, "/new": BYTES},
        move: {"/b": old},
        remove: {},
        set_time: {"/a": old},
    }
    return left[deed]


ANSWERS: list[tuple[Deed, str, type[RemoteError], int]] = [
    (overwrite, "put", Changed, 412),
    (overwrite, "put", Unsupported, 501),
    (overwrite, "put", ServerFault, 400),
    (create, "put", AlreadyExists, 412),
    (create, "put", ServerFault, 400),
    (move, "move", Changed, 412),
    (move, "move", AlreadyExists, 412),
    (remove, "delete", Changed, 412),
    (set_time, "set_mtime", Changed, 412),
]


def blocked(world: World) -> list[Trouble]:
    return world.engine.obstacles.all_blocked()


@pytest.mark.parametrize(
    ("deed", "method", "error", "status"),
    [pytest.param(*it, id=f"{it[0].__name__}-{it[2].__name__}") for it in ANSWERS],
)
def test_what_is_refused_for_its_condition_is_blocked_and_goes_up_once_it_is_taken(
    tmp_path: Path, deed: Deed, method: str, error: type[RemoteError], status: int
) -> None:
    refusing = True
    remote = Refusing(
        refuse=lambda asked, path: (
            error("no", subject=path, status=status) if refusing and asked == method else None
        )
    )
    remote.other.write("/a", b"base")

    async def story(world: World) -> None:
        nonlocal refusing
        await world.walk()
        await deed(world)
        await trio.sleep(AN_HOUR_S)
        (trouble,) = blocked(world)
        assert "refuses" in trouble.reason or "no" in trouble.reason
        assert "ask the administrator" in trouble.next_step
        # Ten seconds of tries, then one each ten minutes; one delivery of a file is three requests at most.
        assert len(remote.asked(method)) <= 3 * 12
        assert remote.other.tree() == {"/a": b"base"}
        refusing = False
        await trio.sleep(700)
        assert not blocked(world)
        assert remote.other.tree() == expected(deed)
        await world.check_nothing_left()

    tell(tmp_path, story, remote, poll_s=0)


def test_what_was_refused_for_its_condition_is_kept_across_a_restart(tmp_path: Path) -> None:
    remote = FakeRemote()
    remote.other.write("/a", b"base")
    refusing = Refusing(
        account=remote.account,
        refuse=lambda asked, path: Changed("no", subject=path, status=412) if asked == "put" else None,
    )

    async def story(world: World) -> None:
        await world.walk()
        await overwrite(world)
        await trio.sleep(60)
        assert blocked(world)
        await world.restart()
        assert await world.read_file("a") == BYTES
        await trio.sleep(60)
        assert blocked(world)
        assert refusing.account.get(RemotePath("/a")).content == b"base"

    tell(tmp_path, story, refusing, poll_s=0)
