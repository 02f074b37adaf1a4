"""A backup is restored on the server, and nothing tells of it: its older state is like what other clients do.

Ids of files are given anew to other files then, as the server's database is of that time, too.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
import trio

from cloudfs.errors import CloudfsError
from cloudfs.sync.deletions import Held
from tests.model.account import StoredObject
from tests.model.fake_remote import FakeRemote
from tests.sync.mount import World, opened, tell
from tests.sync.plain_remote import PlainRemote

LARGE = b"base" * 300_000


class Backup:
    """The account as it was at one moment."""

    def __init__(self, remote: FakeRemote) -> None:
        self._remote = remote
        account = remote.account
        self._root: StoredObject = copy.deepcopy(account.root)
        self._next_id = next(account._numbers)

    def restore(self) -> None:
        account = self._remote.account
        account.root, account._numbers = copy.deepcopy(self._root), count(self._next_id)
        account.removed.clear()
        account.old.clear()


def stocked(kind: Callable[[], FakeRemote] = FakeRemote) -> FakeRemote:
    remote = kind()
    remote.other.mkdir("/d")
    for name, content in (
        ("changed", b"old"),
        ("edited", b"old"),
        ("large", LARGE),
        ("gone", b"old"),
        ("same", b"same"),
    ):
        remote.other.write(f"/d/{name}", content)
    return remote


async def backed_up(world: World) -> Backup:
    """Have everything seen, and a backup made of it."""
    await world.walk()
    await trio.sleep(60)
    return Backup(world.remote)


async def restored_unseen(world: World, backup: Backup) -> Held:
    """Have it restored: everything is shown as before, until somebody answers what is asked then."""
    before = await world.tree()
    backup.restore()
    await world.refresh_all()
    assert await world.tree() == before
    held = world.engine.deletions.vanished()
    assert held is not None
    return held


async def go_on(world: World) -> None:
    """Do since the backup what there is to do, with all of it on the server in the end."""
    await world.save("d/changed", b"newer, and longer")
    await world.save("d/edited", b"newer, and longer")
    await world.save("d/large", b"newer" + LARGE)
    await world.save("d/made", b"made since")
    await world.unlink("d/gone")
    assert not await world.drain()
    await trio.sleep(60)


async def files(world: World) -> dict[str, bytes | None]:
    """Bring everything to rest, and return what both sides show."""
    await world.refresh_all()
    assert not await world.drain()
    await world.refresh_all()
    tree = await world.tree()
    assert tree == world.remote.other.tree()
    return tree


@pytest.mark.parametrize("kind", [FakeRemote, PlainRemote])
def test_its_state_is_taken_over_and_what_was_not_sent_yet_stays(
    tmp_path: Path, kind: Callable[[], FakeRemote]
) -> None:
    remote = stocked(kind)

    async def story(world: World) -> None:
        backup = await backed_up(world)
        await go_on(world)
        async with opened(world, "d/changed", os.O_RDONLY) as reader:
            assert await world.read(reader) == b"newer, and longer"
            world.engine.pause.begin()
            await world.save("d/edited", b"not sent yet")
            await world.save("d/new", b"not sent yet")
            backup.restore()
            remote.other.write("/d/another", b"with the id of what was made since")
            await world.refresh_all()
            assert await world.read(reader) == b"newer, and longer", (
                "an open file is the version that was opened"
            )
            world.engine.pause.end()
        tree = await files(world)
        copies = [content for path, content in tree.items() if "conflicted copy" in path]
        assert copies == [b"not sent yet"]
        assert {path: content for path, content in tree.items() if "conflicted copy" not in path} == {
            "/d": None,
            "/d/another": b"with the id of what was made since",
            "/d/changed": b"old",
            "/d/edited": b"old",
            "/d/gone": b"old",
            "/d/large": LARGE,
            "/d/new": b"not sent yet",
            "/d/same": b"same",
        }
        await world.check_nothing_left()

    tell(tmp_path, story, remote)


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.expect_log("another client replaced the version that this file was edited from", optional=True)
def test_an_edit_of_a_version_that_the_server_lost_keeps_what_was_written(
    tmp_path: Path, *, cached: bool
) -> None:
    remote = stocked()

    async def story(world: World) -> None:
        backup = await backed_up(world)
        remote.other.write("/d/large", b"newer" + LARGE)
        await world.refresh_all()
        if cached:
            await world.read_file("d/large")
        world.engine.pause.begin()
        async with opened(world, "d/large", os.O_WRONLY) as handle:
            await world.write(handle, 0, b"NEWER")
        backup.restore()
        world.engine.pause.end()
        await world.refresh_all()
        troubles = await world.drain()
        assert remote.other.tree()["/d/large"] == LARGE
        if cached:
            assert not troubles
            assert b"NEWER" + LARGE in (await files(world)).values()
            return
        (trouble,) = troubles
        handle = await world.open(f"d/{trouble.name}", os.O_RDONLY)
        assert (await world.fs.read(handle, 0, 5)) == b"NEWER"
        with pytest.raises(CloudfsError):
            await world.fs.read(handle, len(LARGE) - 5, 5)
        await world.fs.release(handle)

    tell(tmp_path, story, remote)


def test_much_that_was_made_since_is_not_dropped_without_a_word(tmp_path: Path) -> None:
    remote = stocked()

    async def story(world: World) -> None:
        backup = await backed_up(world)
        for number in range(10):
            await world.save(f"d/made {number}", b"made since %d" % number)
        await world.drain()
        await trio.sleep(60)
        before = await world.tree()
        held = await restored_unseen(world, backup)
        assert held.count == 10
        await world.engine.deletions.restore_vanished()
        await world.drain()
        assert remote.other.tree() == before

    tell(tmp_path, story, remote, held_from=5)


def older(number: int) -> bytes:
    return b"old %d" % number


async def with_many_changed_since(world: World, changed: int, others: int = 0) -> Backup:
    """Have so many files be changed after a backup, which is then restored."""
    remote = world.remote
    for number in range(changed + others):
        remote.other.write(f"/d/{number}", older(number))
    await world.refresh_all()
    await trio.sleep(60)
    backup = Backup(remote)
    for number in range(changed):
        await world.save(f"d/{number}", b"newer %d" % number)
    await world.drain()
    await trio.sleep(60)
    return backup


BACKUP = pytest.mark.expect_log("as after a backup was restored")


@BACKUP
@pytest.mark.parametrize("restarted", [True, False])
@pytest.mark.parametrize("kind", [FakeRemote, PlainRemote])
def test_older_versions_of_much_at_once_are_asked_about(
    tmp_path: Path, kind: Callable[[], FakeRemote], *, restarted: bool
) -> None:
    """What is here in a newer version is shown until somebody answers, and goes up with that."""

    async def story(world: World) -> None:
        backup = await with_many_changed_since(world, 10)
        before = await world.tree()
        backup.restore()
        await world.refresh_all()
        if restarted:
            await world.restart()
            await world.refresh_all()
        assert await world.tree() == before
        held = world.engine.deletions.vanished()
        assert held is not None
        assert (held.count, held.older, held.set_back) == (0, 10, True)
        assert (await world.engine.deletions.restore_vanished()).left == 0
        assert await files(world) == before
        assert world.engine.deletions.vanished() is None

    tell(tmp_path, story, stocked(kind), held_from=5)


@BACKUP
def test_the_older_versions_are_taken_over_with_the_answer(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        backup = await with_many_changed_since(world, 10)
        backup.restore()
        await world.refresh_all()
        await world.engine.deletions.accept_vanished()
        tree = await files(world)
        assert [tree[f"/d/{number}"] for number in range(10)] == [older(number) for number in range(10)]
        assert world.engine.deletions.vanished() is None

    tell(tmp_path, story, stocked(), held_from=5)


@BACKUP
def test_what_was_made_since_in_the_folder_that_shows_it_stays_too(tmp_path: Path) -> None:
    """However little: the same listing has older versions of too much."""

    async def story(world: World) -> None:
        backup = await with_many_changed_since(world, 10)
        await world.save("d/made", b"made since")
        await world.drain()
        await trio.sleep(60)
        before = await world.tree()
        held = await restored_unseen(world, backup)
        assert (held.count, held.older) == (1, 10)
        assert (await world.engine.deletions.restore_vanished()).left == 0
        assert await files(world) == before

    tell(tmp_path, story, stocked(), held_from=5)


@pytest.mark.parametrize(("changed", "others", "limit"), [(5, 0, 5), (10, 10, 5), (10, 0, 0)])
def test_older_versions_of_few_files_are_taken_over(
    tmp_path: Path, changed: int, others: int, limit: int
) -> None:
    """Somebody takes an old version back; so it is where they are no more than half, or nobody wants to be asked."""

    async def story(world: World) -> None:
        backup = await with_many_changed_since(world, changed, others)
        backup.restore()
        await world.refresh_all()
        assert world.engine.deletions.vanished() is None
        assert await world.read_file("d/0") == older(0)

    tell(tmp_path, story, stocked(), held_from=limit)
