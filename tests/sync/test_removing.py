"""Folders that are removed here while another client works in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest
import trio

from cloudfs.sync import removal
from cloudfs.types import RemoteEntry, RemotePath
from tests.model.fake_remote import NEXTCLOUD, FakeRemote, FaultKind
from tests.model.faults import Span
from tests.sync.mount import World, tell


class Beaten(FakeRemote):
    """Has another client write while a folder is looked through that is about to be removed."""

    writes = ""

    async def list_folder(self, path: RemotePath) -> tuple[RemoteEntry, Sequence[RemoteEntry]]:
        if path == "/d/deep" and self.writes:
            self.other.write(self.writes, b"theirs")
            self.writes = ""
        return await super().list_folder(path)

    async def list_tree(
        self, path: RemotePath, *, most: int, begun: Callable[[], None] = lambda: None
    ) -> Sequence[tuple[RemoteEntry, Sequence[RemoteEntry]]]:
        seen = await super().list_tree(path, most=most, begun=begun)
        if self.writes:
            self.other.write(self.writes, b"theirs")
            self.writes = ""
        return seen


@pytest.mark.parametrize("trees", [False, True], ids=["folder by folder", "a large tree"])
@pytest.mark.parametrize("where", ["/d/a", "/d/new"], ids=["known", "new"])
def test_what_another_client_writes_while_a_removed_folder_is_looked_through_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, *, trees: bool
) -> None:
    """The folder itself was seen before the ones in it: what came after that went with it."""
    monkeypatch.setattr(removal, "_ONE_MOMENT", 0)
    remote = Beaten(features=msgspec.structs.replace(NEXTCLOUD, depth_infinity=trees))
    for path in ("/d", "/d/deep"):
        remote.other.mkdir(path)
    for path in ("/d/a", "/d/deep/b"):
        remote.other.write(path, b"old")

    async def story(world: World) -> None:
        await world.walk()
        remote.writes = where
        for path in ("d/deep/b", "d/a"):
            await world.unlink(path)
        for path in ("d/deep", "d"):
            await world.rmdir(path)
        assert not await world.drain()
        assert not remote.writes, "nobody looked"
        assert remote.other.tree() == {"/d": None, "/d/deep": None, where: b"theirs"}
        assert await world.tree() == remote.other.tree()

    tell(tmp_path, story, remote, poll_s=0)


@pytest.mark.parametrize(("pause_s", "deletes"), [(0.5, ["/d"]), (2.0, [f"/d/{n}" for n in range(20)])])
def test_files_wait_while_others_are_removed_beside_them(
    tmp_path: Path, pause_s: float, deletes: list[str]
) -> None:
    """Of a large folder `rm -r` takes longer than a change is left alone for; one that goes on in it is none."""

    async def story(world: World) -> None:
        await world.walk()
        for number in range(20):
            await world.unlink(f"d/{number}")
            await trio.sleep(pause_s)
        if pause_s < 1:
            await world.rmdir("d")
        await trio.sleep(10)
        told = [line.split()[1] for line in world.remote.methods() if line.startswith("delete")]
        assert sorted(told) == sorted(deletes)

    remote = FakeRemote()
    remote.other.mkdir("/d")
    for number in range(20):
        remote.other.write(f"/d/{number}", b"old")
    tell(tmp_path, story, remote, poll_s=0)


def test_a_folder_from_which_something_is_removed_for_ever_holds_nothing_back_for_long(
    tmp_path: Path,
) -> None:
    async def story(world: World) -> None:
        await world.walk()
        for number in range(100):
            await world.unlink(f"d/{number}")
            await trio.sleep(0.5)
        assert "/d/0" not in world.remote.other.tree()

    remote = FakeRemote()
    remote.other.mkdir("/d")
    for number in range(100):
        remote.other.write(f"/d/{number}", b"old")
    tell(tmp_path, story, remote, poll_s=0)


@pytest.mark.parametrize("killed", [False, True])
def test_a_folder_is_not_made_anew_while_an_earlier_removal_of_it_may_be_carried_out(
    tmp_path: Path, killed: bool
) -> None:
    """No condition keeps a removal from a folder of the same name, with all that is in it by then."""
    remote = FakeRemote(lingers=True)
    remote.other.mkdir("/d")
    remote.other.write("/d/old", b"old")
    remote.faults.next("delete", [FaultKind.LATE])

    async def story(world: World) -> None:
        await world.walk()
        await world.unlink("d/old")
        await world.rmdir("d")
        while not remote.faults.happened:
            await trio.sleep(0.05)
        if killed:
            await world.kill()
        await world.mkdir("d")
        await world.save("d/new", b"new")
        await world.drain()
        await world.settle()
        await world.refresh_all()
        assert remote.other.tree() == await world.tree() == {"/d": None, "/d/new": b"new"}

    tell(tmp_path, story, remote)


def test_what_may_be_gone_already_is_not_brought_back(tmp_path: Path) -> None:
    """Shown again, it would be taken for kept here once its absence is found."""
    remote = FakeRemote()
    remote.other.mkdir("/d")
    remote.other.write("/d/old", b"old")
    remote.faults.next("delete", [FaultKind.LOSE_REPLY])

    async def story(world: World) -> None:
        await world.walk()
        await world.unlink("d/old")
        await world.rmdir("d")
        while not remote.faults.happened:
            await trio.sleep(0.05)
        remote.faults.during(Span.AWAY, 30)
        await world.engine.deletions.restore_removed()
        await world.drain()
        await world.refresh_all()
        assert remote.other.tree() == await world.tree() == {}
        await world.check_nothing_left()

    tell(tmp_path, story, remote)


@pytest.mark.parametrize(
    ("fault", "stays"),
    [
        (FaultKind.HANG, True),
        (FaultKind.REFUSE, True),
        (FaultKind.LOSE_REPLY, False),
        (FaultKind.LATE, False),
    ],
)
@pytest.mark.parametrize("looked", [True, False], ids=["later", "at once"])
def test_a_folder_whose_removal_got_no_answer_is_brought_back_where_the_server_still_has_it(
    tmp_path: Path, fault: FaultKind, *, stays: bool, looked: bool
) -> None:
    remote = FakeRemote(lingers=True)
    for folder in ("/d", "/e"):
        remote.other.mkdir(folder)
    remote.other.write("/d/old", b"old")
    for number in range(5):
        remote.other.write(f"/e/{number}", b"another")
    remote.faults.next("delete", [fault])

    async def story(world: World) -> None:
        before = await world.tree()
        await world.unlink("d/old")
        await world.rmdir("d")
        while not remote.faults.happened:
            await trio.sleep(0.05)
        for number in range(5):
            await world.unlink(f"e/{number}")
        while world.engine.deletions.removed() is None:
            await trio.sleep(0.05)
        await trio.sleep(300 if looked else 0)
        tries = 1
        while (await world.engine.deletions.restore_removed()).left:
            tries += 1
            await trio.sleep(60)
        assert tries == (2 if fault is FaultKind.HANG and not looked else 1), "it is still being asked for"
        wanted = before if stays else {path: it for path, it in before.items() if not path.startswith("/d")}
        assert await world.tree() == wanted
        await world.drain()
        await world.refresh_all()
        assert remote.other.tree() == await world.tree() == wanted
        assert world.engine.deletions.removed() is None
        await world.check_nothing_left()

    tell(tmp_path, story, remote, held_from=3)
