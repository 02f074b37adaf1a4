"""What is taken for a part of a cut upload: nothing that another client made, and all that a try of ours left."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from cloudfs.types import RemotePath, RemoteVersion, Stored
from tests.model.fake_remote import FaultKind
from tests.sync.bulk import WITH_BULK
from tests.sync.mount import World, tell
from tests.sync.test_parts import (
    LATER_S,
    LEAVING,
    MUCH,
    Breaking,
    NewBreaking,
    remove,
    rename,
    until_it_broke,
)


@LEAVING
@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize("first", [False, True], ids=["listed after", "listed before"])
@pytest.mark.parametrize(
    ("kind", "before"),
    [
        pytest.param(NewBreaking, None, id="new"),
        pytest.param(Breaking, None, id="new, no Nextcloud"),
        pytest.param(Breaking, b"before", id="known, no Nextcloud"),
    ],
)
def test_a_part_that_was_listed_meanwhile_does_not_stay_either(
    tmp_path: Path,
    kind: type[Breaking | NewBreaking],
    before: bytes | None,
    leave: Callable[[World], Awaitable[None]],
    left: dict[str, bytes | None],
    *,
    killed: bool,
    first: bool,
) -> None:
    remote = kind(kept=MUCH[:1000])

    async def story(world: World) -> None:
        remote.other.mkdir("/d")
        if before is not None:
            remote.other.write("/d/a", before)
        await world.walk()
        if before is not None:
            assert await world.read_file("d/a") == before
        await trio.sleep(100)
        await world.save("d/a", MUCH)
        await until_it_broke(remote)
        if first:
            await world.refresh_all()
        await leave(world)
        if killed:
            await world.kill()
        if not first:
            await world.refresh_all()
        await world.drain()
        await world.refresh_all()
        await world.drain()
        assert remote.other.tree() == await world.tree()
        await world.check_nothing_left()

    tell(tmp_path, story, remote)
    assert remote.other.tree() == left


@pytest.mark.parametrize("theirs", [b"", MUCH[:1000]], ids=["empty", "the same beginning"])
@pytest.mark.parametrize("then", ["stays", "goes on", "removed"])
def test_what_another_client_made_where_a_move_went_whose_reply_was_lost_is_kept(
    tmp_path: Path, theirs: bytes, then: str
) -> None:
    """No upload of ours ever went to /b: nobody but the other client can have made it."""
    remote = Breaking(kept=None)

    async def story(world: World) -> None:
        remote.other.write("/a", b"before")
        await world.walk()
        assert await world.read_file("a") == b"before"
        await trio.sleep(100)
        await world.save("a", MUCH)
        await until_it_broke(remote)
        remote.faults.next("move", [FaultKind.REFUSE])
        moves = remote.move

        async def make(
            source: RemotePath, target: RemotePath, *, expect: RemoteVersion | None = None
        ) -> Stored:
            remote.move = moves  # type: ignore[method-assign]
            remote.other.write("/b", theirs)
            return await moves(source, target, expect=expect)

        remote.move = make  # type: ignore[method-assign]
        await world.rename("a", "b")
        while "/b" not in remote.other.tree():
            await trio.sleep(0.01)
        if then == "goes on":
            await world.rename("b", "c")
        elif then == "removed":
            await world.unlink("b")
        await world.drain()
        await world.refresh_all()
        await world.drain()
        assert remote.other.tree() == await world.tree()

    tell(tmp_path, story, remote)
    found = remote.other.tree()
    assert theirs in found.values(), {path: data and data[:30] for path, data in found.items()}


# When it was tried first


@pytest.mark.parametrize("bulk", [FaultKind.CUT, None], ids=["in bulk before", "by itself"])
def test_a_part_of_what_went_in_bulk_before_is_recognised_after_a_restart(
    tmp_path: Path, bulk: FaultKind | None
) -> None:
    """The try by itself is noted under what the one in bulk noted, which keeps no time."""
    remote = NewBreaking(kept=MUCH[:1000])
    small = MUCH[:50_000]

    async def story(world: World) -> None:
        await world.walk()
        if bulk is not None:
            remote.faults.next("put_bulk", [bulk])
        await world.mkdir("d")
        for name in "abcdefgh":
            await world.save(f"d/{name}", small)
        await until_it_broke(remote)
        assert any("put_bulk" in line for line in remote.methods()) == (bulk is not None), remote.methods()
        await world.kill()
        await world.drain()
        await world.refresh_all()
        assert remote.other.tree() == await world.tree()

    if bulk is not None:
        remote.features = WITH_BULK
    tell(tmp_path, story, remote)
    found = remote.other.tree()
    wanted: dict[str, bytes | None] = {f"/d/{name}": small for name in "abcdefgh"}
    assert found == wanted | {"/d": None}, {path: data and len(data) for path, data in found.items()}


@pytest.mark.parametrize("upgraded", [False, True])
def test_a_part_of_what_was_tried_before_an_upgrade_and_cut_after_it(
    tmp_path: Path, *, upgraded: bool
) -> None:
    """Begun under format 10, cut under this one, and killed: as if all had been under this one."""
    remote = Breaking(kept=None)

    async def story(world: World) -> None:
        await world.walk()
        await world.save("a", MUCH)
        await until_it_broke(remote)
        world.die()
        assert world._left is not None
        if upgraded:
            (database,) = [it for it in world._left[1].rglob("*") if it.is_file() and _is_database(it)]
            with sqlite3.connect(database) as db:
                assert db.execute("UPDATE attempts SET began_s = 0").rowcount == 1
            db.close()
        again = world._left[0]
        assert isinstance(again, Breaking)
        again.times, again.kept, again.broke = 1, MUCH[:1000], None
        await world.revive()
        with trio.fail_after(5000):
            await until_it_broke(again)
        await world.kill()
        await world.drain()
        await world.refresh_all()
        assert remote.other.tree() == await world.tree()

    tell(tmp_path, story, remote)
    found = remote.other.tree()
    assert found == {"/a": MUCH}, {path: data and len(data) for path, data in found.items()}


def _is_database(path: Path) -> bool:
    with path.open("rb") as file:
        if file.read(15) != b"SQLite format 3":
            return False
    with sqlite3.connect(path) as db:
        found = db.execute("SELECT 1 FROM sqlite_master WHERE name = 'attempts'").fetchone()
    db.close()
    return found is not None


@pytest.mark.parametrize("leave", [rename, remove])
@pytest.mark.parametrize("kept", [b"", MUCH[:1000]], ids=["empty", "the same beginning"])
@pytest.mark.parametrize("killed", [False, True])
def test_what_another_client_made_long_after_the_try_stays_also_after_a_restart(
    tmp_path: Path, kept: bytes, leave: Callable[[World], Awaitable[None]], *, killed: bool
) -> None:
    """Ten minutes after the line broke another client makes a file there; an hour later this machine is restarted."""
    remote = Breaking(kept=kept, after_s=LATER_S)

    async def story(world: World) -> None:
        remote.other.mkdir("/d")
        await world.walk()
        await trio.sleep(100)
        await world.save("d/a", MUCH)
        await until_it_broke(remote)
        if killed:
            world.remote.faults.unreachable_for(3600)
            await trio.sleep(3500)
            await world.kill()
        await leave(world)
        await world.drain()
        await world.refresh_all()
        await world.drain()
        assert remote.other.tree() == await world.tree()

    tell(tmp_path, story, remote)
    found = remote.other.tree()
    assert found.get("/d/a") == kept, {path: data and len(data) for path, data in found.items()}
