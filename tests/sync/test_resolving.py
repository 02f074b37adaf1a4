"""Deciding about a conflict while a program writes into the copy: what the decision was not about stays."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from cloudfs.blocks.staging import StagedFile
from cloudfs.content.layers import Layer
from cloudfs.content.outgoing import Outgoing
from cloudfs.errors import ExitCode, UserError
from cloudfs.sync.troubles import Trouble
from cloudfs.types import Ino
from tests.model.faults import FaultKind
from tests.sync.mount import World, opened, tell

_MIB = 1024 * 1024
OLD = 1_600_000_000


async def conflict(world: World, ours: bytes) -> str:
    """Have `theirs` on the server as `/a`; return the name of our copy beside it, which the server has, too."""
    other = world.remote.other
    other.write("/a", b"base", mtime_s=OLD)
    await world.refresh_all()
    await world.read_file("a")
    await world.save("a", ours)
    other.write("/a", b"theirs", mtime_s=OLD + 100)
    await world.drain()
    await world.refresh_all()
    (copy,) = (path for path in (await world.walk()).attributes if "conflicted copy" in path)
    return copy


def later(
    monkeypatch: pytest.MonkeyPatch,
    made_whole: Callable[[], Awaitable[None]],
    hashing: Callable[[], Awaitable[None]],
) -> None:
    """Have things happen once a layer is whole, and once the first piece of one is hashed after that."""
    make_whole, feed = Outgoing.make_whole, StagedFile.feed
    todo = [hashing, made_whole]

    async def whole(outgoing: Outgoing, layer: Layer) -> None:
        await make_whole(outgoing, layer)
        if len(todo) == 2:
            await todo.pop()()

    async def in_parts(file: StagedFile, take: Callable[[bytes], None], start: int, stop: int) -> None:
        for at in range(start, stop, _MIB):
            await feed(file, take, at, min(at + _MIB, stop))
            if len(todo) == 1:
                await todo.pop()()

    monkeypatch.setattr(Outgoing, "make_whole", whole)
    monkeypatch.setattr(StagedFile, "feed", in_parts)


def test_what_is_written_while_keep_mine_hashes_goes_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is saved as it was, then changed in one byte: it was hashed in between, and taken for sent."""

    async def story(world: World) -> None:
        copy = await conflict(world, b"1" * 2 * _MIB)
        async with opened(world, copy) as handle:
            await world.write(handle, 0, b"1")
            later(
                monkeypatch,
                lambda: world.write(handle, 0, b"1" * 2 * _MIB),
                lambda: world.write(handle, 0, b"Z"),
            )
            with pytest.raises(UserError, match="was changed meanwhile") as caught:
                await world.engine.resolver.keep_mine("/a")
            assert caught.value.code == ExitCode.NOT_DONE
            await world.fs.fsync(handle, data_only=False)
        assert await world.drain() == []
        newest = b"Z" + b"1" * (2 * _MIB - 1)
        assert world.remote.other.tree() == {"/a": b"theirs", f"/{copy}": newest}
        await world.restart()
        assert await world.read_file(copy) == newest

    tell(tmp_path, story)


def test_what_may_be_written_is_not_hashed(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.save("new", b"first")
        async with opened(world, "new") as handle:
            await world.write(handle, 0, b"F")
            content = world.engine.files.live((await world.lookup("new")).ino)
            assert content is not None
            assert isinstance(content.top, Layer)
            outgoing = world.engine.resolver._outgoing
            for proof in (outgoing.checksum(content.top), outgoing.tail_proof(content.top, 2, OLD)):
                with pytest.raises(ValueError, match="may be written"):
                    await proof
            assert content.top.checksum is None

    tell(tmp_path, story)


def test_what_goes_up_while_keep_mine_waits_is_sent_with_its_own_checksum(tmp_path: Path) -> None:
    """The copy was sent while the server's version still had to be; the file got the sum of what it was before that."""

    async def story(world: World) -> None:
        copy = await conflict(world, b"ours")
        await world.save(copy, b"ours, again")
        await world.save("a", b"theirs, edited here")
        ours = (await world.lookup(copy)).ino
        sent = world.engine.worker.wait_synced
        asked = False

        async def both_sent(concerns: Callable[[Ino], bool], *, settled: bool = True) -> list[Trouble]:
            nonlocal asked
            asked = True
            return await sent(lambda ino: concerns(ino) or ino == ours, settled=settled)

        world.engine.worker.wait_synced = both_sent  # type: ignore[method-assign]
        await world.engine.resolver.keep_mine("/a")
        assert asked
        await world.drain()
        assert world.remote.other.tree() == {"/a": b"ours, again"}
        world.check_checksums()

    tell(tmp_path, story)


async def edit(world: World, path: str, at: int, data: bytes) -> None:
    async with opened(world, path) as handle:
        await world.write(handle, at, data)
        await world.fs.fsync(handle, data_only=False)


def test_what_is_written_while_keep_theirs_asks_the_server_stays(tmp_path: Path) -> None:
    """Into the layer that was there already: another content, but not another version."""

    async def story(world: World) -> None:
        copy = await conflict(world, b"ours")
        await edit(world, copy, 0, b"OURS")
        world.remote.before["stat"] = lambda: edit(world, copy, 4, b", and a chapter")
        with pytest.raises(UserError, match="was changed meanwhile") as caught:
            await world.engine.resolver.keep_theirs("/a")
        assert caught.value.code == ExitCode.NOT_DONE
        await world.drain()
        expected = {"/a": b"theirs", f"/{copy}": b"OURS, and a chapter"}
        assert await world.tree() == world.remote.other.tree() == expected
        await world.engine.resolver.keep_theirs("/a")  # asked again
        await world.drain()
        assert await world.tree() == world.remote.other.tree() == {"/a": b"theirs"}

    tell(tmp_path, story, quiet_s=3600.0)


def test_what_is_written_to_the_second_copy_while_the_first_one_is_removed_stays(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await conflict(world, b"ours")
        await world.save("a", b"ours, too")
        world.remote.other.write("/a", b"theirs, later", mtime_s=OLD + 200)
        await world.drain()
        await world.refresh_all()
        _, second = (pair.ours.name for pair in world.engine.resolver.pairs())
        await edit(world, second, 0, b"OURS")
        world.remote.before["stat"] = lambda: edit(world, second, 4, b", written on")
        with pytest.raises(UserError, match="was changed meanwhile"):
            await world.engine.resolver.keep_theirs("/a")
        await world.drain()
        expected = {"/a": b"theirs, later", f"/{second}": b"OURS, written on"}
        assert await world.tree() == world.remote.other.tree() == expected

    tell(tmp_path, story, quiet_s=3600.0)


def test_keep_theirs_removes_a_copy_whose_bytes_are_lost(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        copy = await conflict(world, b"ours")
        await edit(world, copy, 0, b"OURS")
        for path in world.staging.iterdir():
            path.unlink()
        await world.engine.resolver.keep_theirs("/a")
        await world.drain()
        assert await world.tree() == world.remote.other.tree() == {"/a": b"theirs"}

    tell(tmp_path, story, quiet_s=3600.0)


def test_keep_mine_says_of_a_copy_that_cannot_be_read_in_full_what_can_be_done(tmp_path: Path) -> None:
    """The command failed as for a bug."""

    async def story(world: World) -> None:
        other = world.remote.other
        other.write("/a", b"never read here", mtime_s=OLD)
        await world.refresh_all()
        async with opened(world, "a") as handle:
            other.write("/a", b"theirs", mtime_s=OLD + 100)
            await world.refresh_all()
            await world.write(handle, 0, b"ours")
        with pytest.raises(UserError, match="were downloaded") as caught:
            await world.engine.resolver.keep_mine("/a")
        assert caught.value.code == ExitCode.NOT_DONE
        assert "save the whole copy" in caught.value.hint.lower()
        assert other.tree()["/a"] == b"theirs"

    tell(tmp_path, story, quiet_s=3600.0)


@pytest.mark.parametrize(
    ("method", "kind"),
    [("put", FaultKind.LOSE_REPLY), ("stat", FaultKind.REFUSE)],
    ids=["the reply is lost", "the look after it fails"],
)
def test_keep_mine_says_where_it_is_not_known_whether_the_server_has_it(
    tmp_path: Path, method: str, kind: FaultKind
) -> None:
    """The server had our content by then, and was said to have theirs still."""

    async def story(world: World) -> None:
        copy = await conflict(world, b"ours")
        faults = world.remote.faults
        # One look goes before the request.
        faults.next(method, [kind] if method == "put" else [None, kind])
        with pytest.raises(UserError, match="what the server has now is not known") as caught:
            await world.engine.resolver.keep_mine("/a")
        assert caught.value.code == ExitCode.NOT_DONE
        assert world.remote.other.tree() == {"/a": b"ours", f"/{copy}": b"ours"}
        await world.engine.resolver.keep_mine("/a")
        await world.drain()
        assert world.remote.other.tree() == await world.tree() == {"/a": b"ours"}

    tell(tmp_path, story)


def test_keep_mine_says_that_a_refused_copy_was_not_sent(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        copy = await conflict(world, b"ours")
        world.remote.faults.next("put", [FaultKind.FULL])
        with pytest.raises(UserError, match="could not be sent"):
            await world.engine.resolver.keep_mine("/a")
        assert world.remote.other.tree() == {"/a": b"theirs", f"/{copy}": b"ours"}

    tell(tmp_path, story)
