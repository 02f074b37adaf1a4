"""A connection breaks, and the server takes the part that it got for the file: a torn upload never stays the file.

wsgidav does so with every file; a Nextcloud with new ones, where its storage is an object store (29.0.1, by reading).
"""

from __future__ import annotations

import errno
import hashlib
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from cloudfs.errors import Forbidden, Locked, PosixError, QuotaExceeded, ServerFault, Unreachable
from cloudfs.remote.protocol import Body, Condition, Features
from cloudfs.sync import torn
from cloudfs.types import RemoteEntry, RemotePath, RemoteVersion, Stored
from cloudfs.vfs.records import RenameMode
from tests.model.fake_remote import FakeRemote, FaultKind
from tests.sync.mount import World, opened, tell
from tests.sync.plain_remote import PlainRemote


def sha1_of(data: bytes) -> str:
    """Return a checksum as the server keeps it."""
    return f"SHA1:{hashlib.sha1(data, usedforsecurity=False).hexdigest()}"


OURS = b"ours, of some length"


@dataclass
class Cutting(FakeRemote):
    """The first upload is cut: the server keeps so much of it, as a file without a checksum."""

    kept: bytes = OURS[:9]
    checksum: str | None = None
    cut: bool = False

    async def put(self, path: RemotePath, body: Body, size: int, condition: Condition, **more: Any) -> Stored:
        if self.cut:
            return await super().put(path, body, size, condition, **more)
        self.cut = True
        async with aclosing(body(0)) as sent:  # type: ignore[type-var]  # as it was handed to the connection
            await anext(sent)
        self.other.write(path, self.kept, checksum=self.checksum)
        raise Unreachable("the connection broke", subject=path)


@dataclass
class PlainCutting(Cutting, PlainRemote):
    """So does a server that is no Nextcloud."""

    features: Features = PlainRemote.features


class Shared(Cutting):
    """Files may be changed there, but none created: no pieces are taken."""

    async def list_folder(self, path: RemotePath) -> tuple[RemoteEntry, Sequence[RemoteEntry]]:
        own, members = await super().list_folder(path)
        return msgspec.structs.replace(own, permissions="RGDNV"), members


@pytest.mark.parametrize(("kept", "killed"), [(OURS[:9], True), (b"", False)], ids=["a part", "nothing"])
@pytest.mark.parametrize(
    ("kind", "known"),
    [
        pytest.param(Cutting, False, id="new"),
        pytest.param(Shared, True, id="known, where none may be created"),
        pytest.param(PlainCutting, False, id="new, no Nextcloud"),
        pytest.param(PlainCutting, True, id="known, no Nextcloud"),
    ],
)
def test_it_is_sent_again_over_the_part(
    tmp_path: Path, kind: type[Cutting], kept: bytes, *, known: bool, killed: bool
) -> None:
    remote = kind(kept=kept)

    async def story(world: World) -> None:
        if known:
            remote.other.write("/a", b"before")
        await world.walk()
        await world.save("a", OURS)
        while not remote.cut:
            await trio.sleep(0.05)
        if killed:
            await world.kill()
        await world.drain()
        assert remote.other.tree() == await world.tree() == {"/a": OURS}
        await world.check_nothing_left()

    tell(tmp_path, story, remote)


@pytest.mark.parametrize(
    ("kept", "whole"),
    [(b"theirs", False), (OURS[:9] + b"!", False), (OURS + b", on", False), (OURS[:9], True)],
)
def test_what_another_client_wrote_is_kept(tmp_path: Path, kept: bytes, *, whole: bool) -> None:
    """With its checksum, which came with all of it, also what ours begins with."""
    remote = Cutting(kept=kept, checksum=sha1_of(kept) if whole else None)

    async def story(world: World) -> None:
        await world.walk()
        await world.save("a", OURS)
        await world.drain()
        await world.refresh_all()
        shown = await world.tree()
        assert remote.other.tree() == shown
        assert shown["/a"] == kept
        assert set(shown.values()) == {OURS, kept}

    tell(tmp_path, story, remote)


@pytest.mark.parametrize("theirs", [OURS[:9], b""], ids=["a part", "nothing"])
@pytest.mark.parametrize("taken_back", [True, False])
def test_what_another_client_took_away_from_the_end_stays_away(
    tmp_path: Path, theirs: bytes, *, taken_back: bool
) -> None:
    """Over a file that it has, a Nextcloud never makes a part of ours the file."""
    remote = Cutting(kept=theirs)

    async def story(world: World) -> None:
        before = OURS if taken_back else OURS[:-1]
        remote.other.write("/a", before, checksum=sha1_of(before))
        await world.walk()
        await world.save("a", OURS + b", on" if taken_back else OURS)
        while not remote.cut:
            await trio.sleep(0.05)
        if taken_back:
            await world.save("a", OURS)
        await world.drain()
        await world.refresh_all()
        shown = await world.tree()
        assert remote.other.tree() == shown
        assert shown["/a"] == theirs
        assert set(shown.values()) == {OURS, theirs}

    tell(tmp_path, story, remote)


# Whose it is, on servers that keep no versions


MUCH = bytes(range(256)) * 8192
"""Two chunks of a body."""
LATER_S = 600.0


@dataclass
class Breaking(PlainRemote):
    """Takes so many chunks of the first bodies; then the connection breaks, or an answer comes. It keeps `kept`."""

    kept: bytes | None = None
    chunks: int = 1
    error: Callable[[], Exception] = lambda: Unreachable("the connection broke")
    times: int = 1
    broke: trio.Event | None = None
    after_s: float = 0.0
    """So much later the server puts down what it kept, or another client does."""

    async def put(self, path: RemotePath, body: Body, size: int, condition: Condition, **more: Any) -> Stored:
        if not self.times:
            return await super().put(path, body, size, condition, **more)
        self.times -= 1
        self.broke = trio.Event()
        async with aclosing(body(0)) as sent:  # type: ignore[type-var]
            for _ in range(self.chunks):
                await anext(sent)
        self.faults.unreachable_for(self.after_s)
        trio.lowlevel.spawn_system_task(self._keep, path)
        raise self.error()

    async def _keep(self, path: RemotePath) -> None:
        await trio.sleep(self.after_s)
        if self.kept is not None:
            self.other.write(path, self.kept)
        assert self.broke is not None
        self.broke.set()


@dataclass
class NewBreaking(FakeRemote):
    """As `Breaking`, a Nextcloud on an object store."""

    kept: bytes | None = None
    broke: trio.Event | None = None

    async def put(self, path: RemotePath, body: Body, size: int, condition: Condition, **more: Any) -> Stored:
        if self.broke is not None:
            return await super().put(path, body, size, condition, **more)
        self.broke = trio.Event()
        async with aclosing(body(0)) as sent:  # type: ignore[type-var]
            await anext(sent)
        assert self.kept is not None
        self.other.write(path, self.kept)
        self.broke.set()
        raise Unreachable("the connection broke", subject=path)


async def until_it_broke(remote: Breaking | NewBreaking) -> None:
    while remote.broke is None:
        await trio.sleep(0.05)
    await remote.broke.wait()


def after(
    tmp_path: Path, remote: Breaking, before: bytes | None, ours: bytes, *, read: bool = False
) -> dict[str, bytes | None]:
    """Save `ours` over `before`, which was read before or not; return what the server has in the end."""

    async def story(world: World) -> None:
        if before is not None:
            remote.other.write("/a", before)
            await world.walk()
            if read:
                assert await world.read_file("a") == before
        await trio.sleep(100)  # times that are told apart
        await world.save("a", ours)
        await until_it_broke(remote)
        await world.drain()
        await world.refresh_all()
        shown = await world.tree()
        assert remote.other.tree() == shown
        await world.check_nothing_left()

    tell(tmp_path, story, remote)
    return remote.other.tree()


def copy_of(found: dict[str, bytes | None]) -> bytes | None:
    """Return what is in the one conflicted copy."""
    (copy,) = (data for path, data in found.items() if "conflicted copy" in path)
    return copy


def test_a_part_that_the_version_before_may_begin_with_is_set_aside(tmp_path: Path) -> None:
    """It may be what another client cut it to: it is kept. And it may be a torn upload: it is not the file."""
    found = after(tmp_path, Breaking(kept=MUCH[:1000]), MUCH, MUCH + b"more")
    assert found["/a"] == MUCH + b"more"
    assert copy_of(found) == MUCH[:1000]


def test_of_many_parts_only_the_first_is_set_aside(tmp_path: Path) -> None:
    """What is there after that came after a try of ours: a bad line fills no folder with copies."""
    remote = Breaking(kept=MUCH[:1000], times=5)
    found = after(tmp_path, remote, MUCH, MUCH + b"more")
    assert not remote.times
    assert found["/a"] == MUCH + b"more"
    assert copy_of(found) == MUCH[:1000]


@pytest.mark.parametrize("before", [MUCH[:500], b"x" + MUCH], ids=["shorter", "another"])
def test_a_part_that_the_version_before_does_not_begin_with_is_gone_over(
    tmp_path: Path, before: bytes
) -> None:
    found = after(tmp_path, Breaking(kept=MUCH[:1000]), before, MUCH, read=True)
    assert found == {"/a": MUCH}


def test_what_was_longer_than_what_was_sent_is_another_clients(tmp_path: Path) -> None:
    theirs = MUCH[: 1536 * 1024]
    found = after(tmp_path, Breaking(kept=theirs), MUCH[:100], MUCH)
    assert found["/a"] == theirs
    assert copy_of(found) == MUCH


@pytest.mark.parametrize(
    "error",
    [lambda: Locked("in use", status=423), lambda: QuotaExceeded("full", status=507)],
    ids=["answered", "no room, perhaps in the midst of it"],
)
def test_a_try_that_was_answered_left_no_part(tmp_path: Path, error: Callable[[], Exception]) -> None:
    """What another client makes shorter between two tries is a conflict like any other."""
    theirs = MUCH[:1000]
    remote = Breaking(kept=theirs, error=error)
    found = after(tmp_path, remote, MUCH, MUCH + b"more")
    if isinstance(error(), Locked):
        assert found["/a"] == theirs
        assert copy_of(found) == MUCH + b"more"
    else:
        assert found["/a"] == MUCH + b"more"
        assert copy_of(found) == theirs


@pytest.mark.parametrize("known", [True, False])
def test_a_part_of_another_time_is_set_aside(tmp_path: Path, *, known: bool) -> None:
    """Ten minutes after the connection broke, while the server could not be reached: anybody may have made it."""
    before = b"before" if known else None
    found = after(tmp_path, Breaking(kept=MUCH[:1000], after_s=LATER_S), before, MUCH, read=known)
    assert found["/a"] == MUCH
    assert copy_of(found) == MUCH[:1000]


@pytest.mark.parametrize("killed", [True, False])
def test_a_part_of_what_was_changed_again_is_never_the_file(tmp_path: Path, *, killed: bool) -> None:
    """Its bytes are not here any more to compare it with."""
    remote = Breaking(kept=MUCH[:1000])

    async def story(world: World) -> None:
        remote.other.write("/a", b"before")
        await world.walk()
        await world.save("a", MUCH)
        await until_it_broke(remote)
        await world.save("a", b"!" + MUCH)
        if killed:
            await world.kill()
        await world.drain()
        await world.refresh_all()
        assert remote.other.tree() == await world.tree()
        await world.check_nothing_left()

    tell(tmp_path, story, remote)
    found = remote.other.tree()
    assert (copy_of(found), found["/a"]) == (MUCH[:1000], b"!" + MUCH)


def test_a_kill_between_setting_a_part_aside_and_the_upload_loses_neither(tmp_path: Path) -> None:
    remote = Breaking(kept=MUCH[:1000])

    async def story(world: World) -> None:
        remote.other.write("/a", MUCH)
        await world.walk()
        await world.save("a", MUCH + b"more")
        await until_it_broke(remote)
        remote.faults.next("put", [FaultKind.REFUSE] * 3)
        while "/a" in remote.other.tree():
            await trio.sleep(0.01)
        await world.kill()
        await world.drain()
        await world.refresh_all()
        assert remote.other.tree() == await world.tree()
        await world.check_nothing_left()

    tell(tmp_path, story, remote)
    found = remote.other.tree()
    assert found["/a"] == MUCH + b"more"
    assert copy_of(found) == MUCH[:1000]


def test_where_a_part_cannot_be_set_aside_it_is_a_conflict(tmp_path: Path) -> None:
    remote = Breaking(kept=MUCH[:1000])

    async def refuse(
        source: RemotePath, target: RemotePath, *, expect: RemoteVersion | None = None
    ) -> Stored:
        raise Forbidden("it may not be renamed", subject=source, status=403)

    remote.move = refuse  # type: ignore[method-assign]
    found = after(tmp_path, remote, MUCH, MUCH + b"more")
    assert found["/a"] == MUCH[:1000]
    assert copy_of(found) == MUCH + b"more"


def test_what_changed_in_the_moment_of_setting_it_aside_is_set_aside_itself(tmp_path: Path) -> None:
    """Nothing of the file's has gone from its place by our doing then: what is there may still be another client's."""
    remote = Breaking(kept=MUCH[:1000])
    moves = remote.move

    async def meet_another(
        source: RemotePath, target: RemotePath, *, expect: RemoteVersion | None = None
    ) -> Stored:
        remote.move = moves  # type: ignore[method-assign]
        remote.other.write("/a", MUCH[:500])
        return await moves(source, target, expect=expect)

    remote.move = meet_another  # type: ignore[method-assign]
    found = after(tmp_path, remote, MUCH, MUCH + b"more")
    assert found["/a"] == MUCH + b"more"
    assert copy_of(found) == MUCH[:500]


@dataclass
class LosingWholeReply(Breaking):
    """The reply to the first whole body that comes is lost."""

    lost: bool = False

    async def put(self, path: RemotePath, body: Body, size: int, condition: Condition, **more: Any) -> Stored:
        whole = not self.times
        stored = await super().put(path, body, size, condition, **more)
        if whole and not self.lost:
            self.lost = True
            raise Unreachable("the reply was lost", subject=path)
        return stored


def test_what_was_cleared_before_an_upload_was_found_speaks_for_no_later_one(tmp_path: Path) -> None:
    """Its end was heard of by a look: what another client cuts short during the next upload is kept all the same."""
    remote = LosingWholeReply(kept=MUCH[:1000])

    async def story(world: World) -> None:
        await world.walk()
        await world.save("a", MUCH)
        await until_it_broke(remote)
        await world.drain()
        assert remote.lost
        await trio.sleep(LATER_S)
        await world.refresh_all()
        remote.times, remote.kept, remote.broke = 1, MUCH[:1500], None
        await world.save("a", MUCH + b"more")
        await until_it_broke(remote)
        await world.drain()
        await world.refresh_all()

    tell(tmp_path, story, remote)
    found = remote.other.tree()
    assert found["/a"] == MUCH + b"more"
    assert copy_of(found) == MUCH[:1500]


@pytest.mark.expect_log(r"/a: not sent yet: ", optional=True)
@pytest.mark.parametrize("before", [b"before", None], ids=["known", "new"])
@pytest.mark.parametrize(
    "error",
    [
        lambda: ServerFault("the server answered 408", status=408),
        lambda: ServerFault("the server answered 400", status=400),
        lambda: PosixError(errno.EIO, "a staging file"),
    ],
    ids=["too slow for a proxy", "broke before a proxy", "the disk did not give it"],
)
def test_whatever_cut_it_a_part_is_gone_over(
    tmp_path: Path, error: Callable[[], Exception], before: bytes | None
) -> None:
    remote = Breaking(kept=MUCH[:1000], error=error)
    assert after(tmp_path, remote, before, MUCH, read=before is not None) == {"/a": MUCH}


@pytest.mark.parametrize("killed", [True, False])
def test_a_part_of_what_has_grown_since_is_gone_over(tmp_path: Path, *, killed: bool) -> None:
    """All that was sent is still here, at its beginning. So it is with a log on a bad line."""
    remote = Breaking(kept=MUCH[:1000])

    async def story(world: World) -> None:
        await world.walk()
        await world.save("a", MUCH)
        await until_it_broke(remote)
        async with opened(world, "a") as handle:
            await world.write(handle, len(MUCH), b"more")
        if killed:
            await world.kill()
        await world.drain()
        await world.refresh_all()
        assert remote.other.tree() == await world.tree() == {"/a": MUCH + b"more"}
        await world.check_nothing_left()

    tell(tmp_path, story, remote)


# What leaves its place between a cut try and the next


async def rename(world: World) -> None:
    await world.rename("d/a", "b")


async def remove(world: World) -> None:
    await world.unlink("d/a")


async def remove_all(world: World) -> None:
    await world.unlink("d/a")
    await world.rmdir("d")


async def replace(world: World) -> None:
    """As an editor does that writes anew."""
    await world.unlink("d/a")
    await world.save("d/a", b"another")


async def replace_by_rename(world: World) -> None:
    await world.save("d/new", b"another")
    await world.rename("d/new", "d/a")


async def exchange(world: World) -> None:
    await world.save("b", b"another")
    await world.rename("d/a", "b", RenameMode.EXCHANGE)


LEAVING = pytest.mark.parametrize(
    ("leave", "left"),
    [
        (rename, {"/d": None, "/b": MUCH}),
        (remove, {"/d": None}),
        (remove_all, {}),
        (replace, {"/d": None, "/d/a": b"another"}),
        (replace_by_rename, {"/d": None, "/d/a": b"another"}),
        (exchange, {"/d": None, "/d/a": b"another", "/b": MUCH}),
    ],
)


async def leaves(
    world: World, leave: Callable[[World], Awaitable[None]], before: bytes | None, *, killed: bool = False
) -> None:
    """Save a file over what was there before, and read; once its first try broke, have it leave its place."""
    remote = world.remote
    assert isinstance(remote, Breaking | NewBreaking)
    remote.other.mkdir("/d")
    if before is not None:
        remote.other.write("/d/a", before)
    await world.walk()
    if before is not None:
        assert await world.read_file("d/a") == before
    await trio.sleep(100)  # times that are told apart
    await world.save("d/a", MUCH)
    await until_it_broke(remote)
    await leave(world)
    if killed:
        await world.kill()
    await world.drain()
    await world.refresh_all()
    await world.drain()
    assert remote.other.tree() == await world.tree()
    await world.check_nothing_left()


@LEAVING
@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize(
    ("kind", "before"),
    [
        pytest.param(NewBreaking, None, id="new"),
        pytest.param(Breaking, None, id="new, no Nextcloud"),
        pytest.param(Breaking, b"before", id="known, no Nextcloud"),
    ],
)
def test_a_part_does_not_stay_where_the_file_has_left(
    tmp_path: Path,
    kind: type[Breaking | NewBreaking],
    before: bytes | None,
    leave: Callable[[World], Awaitable[None]],
    left: dict[str, bytes | None],
    *,
    killed: bool,
) -> None:
    remote = kind(kept=MUCH[:1000])
    tell(tmp_path, lambda world: leaves(world, leave, before, killed=killed), remote)
    assert remote.other.tree() == left


@pytest.mark.parametrize("leave", [rename, remove])
@pytest.mark.parametrize(
    ("kept", "after_s", "before"),
    [
        pytest.param(b"theirs", 0.0, b"before", id="other bytes"),
        pytest.param(MUCH[:1000], LATER_S, b"before", id="another time"),
        pytest.param(MUCH[:1000], LATER_S, None, id="another time, new"),
        pytest.param(b"", LATER_S, None, id="empty, another time"),
        pytest.param(MUCH[:1000], 0.0, MUCH[:2000], id="what the version before begins with"),
        pytest.param(MUCH[: 1536 * 1024], 0.0, None, id="more than was sent"),
    ],
)
def test_what_may_be_another_clients_stays_where_the_file_has_left(
    tmp_path: Path,
    kept: bytes,
    after_s: float,
    before: bytes | None,
    leave: Callable[[World], Awaitable[None]],
) -> None:
    remote = Breaking(kept=kept, after_s=after_s)
    tell(tmp_path, lambda world: leaves(world, leave, before), remote)
    found = remote.other.tree()
    assert found.pop("/d/a") == kept
    assert found == {"/d": None} | ({"/b": MUCH} if leave is rename else {})


def test_a_part_does_not_stay_where_a_file_was_renamed_over_another(tmp_path: Path) -> None:
    """Its content goes up over the other one: what it leaves is to be removed, whatever tries have made of it."""
    remote = Breaking(kept=MUCH[:1000])
    remote.other.write("/b", b"replaced")
    tell(tmp_path, lambda world: leaves(world, rename, b"before"), remote)
    assert remote.other.tree() == {"/d": None, "/b": MUCH}


def test_a_machine_that_slept_knows_its_part_again(tmp_path: Path) -> None:
    """It is put to sleep in the midst of an upload, as laptops are: the part is of then, by all clocks but trio's."""
    remote = Breaking(kept=MUCH[:1000])

    async def story(world: World) -> None:
        await world.walk()
        await world.save("a", MUCH)
        await until_it_broke(remote)
        clock: Any = vars(torn)["time"]
        wall, gettime, server = clock.time, clock.clock_gettime, remote.account.now_s
        clock.time = lambda: wall() + LATER_S
        clock.clock_gettime = lambda which: gettime(which) + (which == time.CLOCK_BOOTTIME) * LATER_S
        remote.account.now_s = lambda: server() + int(LATER_S)
        await world.drain()
        await world.refresh_all()
        assert remote.other.tree() == await world.tree() == {"/a": MUCH}

    tell(tmp_path, story, remote)
