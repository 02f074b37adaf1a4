"""What never went out leaves nothing behind that would have to be found out; what may have gone out does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from cloudfs.errors import NotAuthenticated, RemoteError, Throttled, Unreachable
from cloudfs.remote.protocol import NewFile
from cloudfs.sync.connectivity import Connectivity
from cloudfs.sync.doubts import Doubts
from cloudfs.sync.gate import GatedRemote
from cloudfs.types import ROOT, RemoteEntry, RemotePath, Stored
from tests.model.fake_remote import FakeRemote, FaultKind
from tests.model.virtual import run_virtually
from tests.sync.bulk import QUIET_S, WITH_BULK, kinds
from tests.sync.mount import World, tell

CONTENTS = {f"/new/{n}": b"x" * n for n in range(40)}


@dataclass
class Server(FakeRemote):
    """Has something happen right after a folder was looked at, or refuses bulk requests."""

    after_look: Callable[[], None] | None = None
    refusal: RemoteError | None = None

    async def list_folder(self, path: RemotePath) -> tuple[RemoteEntry, Sequence[RemoteEntry]]:
        seen = await super().list_folder(path)
        if self.after_look is not None:
            after, self.after_look = self.after_look, None
            after()
        return seen

    async def put_bulk(self, files: Sequence[NewFile]) -> Sequence[Stored | None]:
        if self.refusal is not None:
            refusal, self.refusal = self.refusal, None
            raise refusal
        return await super().put_bulk(files)


def traces(world: World) -> tuple[int, int]:
    """Count what is in doubt, and the attempts."""
    store = world.engine.store
    return len(store.nodes.tried()), store.db.execute("SELECT count(*) FROM attempts").fetchone()[0]


async def fill_older_folder(world: World) -> None:
    """Put files into a folder made a minute ago: they go in bulk after a look."""
    await world.mkdir("new")
    await world.drain()
    await trio.sleep(60)
    for path, content in CONTENTS.items():
        await world.save(path[1:], content)
    await trio.sleep(QUIET_S / 2)  # our own listings are over


@pytest.mark.parametrize(
    "error",
    [
        NotAuthenticated("revoked", status=401),
        Throttled("too many requests", status=429, retry_after_s=30.0),
    ],
)
def test_a_bulk_request_that_is_held_back_leaves_nothing(tmp_path: Path, error: RemoteError) -> None:
    """Another request has just been told that nothing more is to be sent."""
    remote = Server(features=WITH_BULK)

    async def story(world: World) -> None:
        await fill_older_folder(world)
        connectivity = world.engine.connectivity
        remote.after_look = lambda: connectivity.failed(error)
        await trio.sleep(10)
        assert not connectivity.online
        assert kinds(remote)["put_bulk"] == 0
        assert traces(world) == (0, 0)
        await trio.sleep(60)
        connectivity.logged_in()
        before = len(remote.log)
        await world.drain()
        assert remote.other.tree() == {"/new": None} | CONTENTS
        assert not any(it.method == "stat" and it.path in CONTENTS for it in remote.log[before:])

    tell(tmp_path, story, remote, poll_s=0, quiet_s=QUIET_S)
    assert kinds(remote) == {"make_folder": 1, "put_bulk": 1, "put": 0}


def test_a_bulk_request_whose_login_is_refused_leaves_nothing(tmp_path: Path) -> None:
    remote = Server(features=WITH_BULK, refusal=NotAuthenticated("revoked", status=401))

    async def story(world: World) -> None:
        await fill_older_folder(world)
        await trio.sleep(10)
        assert remote.refusal is None
        assert traces(world) == (0, 0)
        world.engine.connectivity.logged_in()
        await world.drain()
        assert remote.other.tree() == {"/new": None} | CONTENTS

    tell(tmp_path, story, remote, poll_s=0, quiet_s=QUIET_S)
    assert kinds(remote)["put"] == 0


def test_a_bulk_request_that_met_no_server_leaves_nothing(tmp_path: Path) -> None:
    unsent = Unreachable("no connection")
    unsent.unsent = True
    remote = Server(features=WITH_BULK, refusal=unsent)

    async def story(world: World) -> None:
        await fill_older_folder(world)
        while remote.refusal is not None:
            await trio.sleep(0.01)
        assert traces(world) == (0, 0)
        await world.drain()
        assert remote.other.tree() == {"/new": None} | CONTENTS

    tell(tmp_path, story, remote, poll_s=0, quiet_s=QUIET_S)
    assert kinds(remote)["put"] == 0


def test_one_whose_answer_was_lost_stays_in_doubt(tmp_path: Path) -> None:
    remote = Server(features=WITH_BULK)

    async def story(world: World) -> None:
        await fill_older_folder(world)
        remote.faults.next("put_bulk", [FaultKind.LOSE_REPLY])
        remote.faults.next("stat", [FaultKind.REFUSE] * 10)
        while not remote.faults.happened:
            await trio.sleep(0.01)
        assert traces(world) == (40, 40)
        await world.drain()
        assert remote.other.tree() == {"/new": None} | CONTENTS

    tell(tmp_path, story, remote, poll_s=0, quiet_s=QUIET_S)


def test_an_earlier_doubt_outlasts_a_request_that_is_not_sent(tmp_path: Path) -> None:
    unsent = Unreachable("no connection")
    unsent.unsent = True

    async def story(world: World) -> None:
        await world.save("new", b"1")
        nodes, ino = world.engine.store.nodes, (await world.lookup("new")).ino
        doubts = Doubts(nodes)

        def fail(error: RemoteError) -> bool:
            """Tell whether the node is in doubt after this."""
            with suppress(Unreachable), doubts.trying(ino, (ROOT, "new")):
                raise error
            node = nodes.get(ino)
            return node is not None and node.tried is not None

        assert not fail(unsent)
        assert fail(Unreachable("the reply was lost"))
        assert fail(unsent)
        await world.drain()

    tell(tmp_path, story)


def test_only_what_was_not_begun_counts_as_unsent() -> None:
    async def main() -> None:
        remote = FakeRemote()
        connectivity = Connectivity(returned=lambda: None)
        gate = GatedRemote(remote, connectivity)
        remote.faults.next("make_folder", [FaultKind.REFUSE])
        with pytest.raises(Unreachable) as begun:
            await gate.make_folder(RemotePath("/a"))
        assert not begun.value.unsent
        connectivity.failed(Throttled("too many", status=429, retry_after_s=20.0))
        with pytest.raises(Throttled) as held_back:
            await gate.make_folder(RemotePath("/a"))
        assert held_back.value.unsent

    run_virtually(main, 1)


def test_what_a_proof_of_the_login_was_to_precede_counts_as_unsent() -> None:
    async def main() -> None:
        remote = FakeRemote(features=WITH_BULK)
        gate = GatedRemote(remote, Connectivity(returned=lambda: None))
        remote.faults.next("stat", [FaultKind.LOSE_REPLY])
        with pytest.raises(Unreachable) as failed:
            await gate.put_bulk([NewFile(RemotePath("/a"), bytes(100_000), 1)])
        assert failed.value.unsent
        assert [it.method for it in remote.log] == ["stat"]

    run_virtually(main, 1)
