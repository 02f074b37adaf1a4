"""A folder of thousands is removed here: no step of any task does something about all of it at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
from trio.testing import assert_no_checkpoints

from cloudfs.errors import Changed
from cloudfs.paths import ROOT_PATH
from cloudfs.store.records import Node, StagedRow
from cloudfs.sync import restraint
from cloudfs.sync.freeing import Freed
from cloudfs.sync.restraint import Restraint
from cloudfs.types import ROOT, ContentVersion, Ino, Pin, RemoteEntry, RemotePath
from cloudfs.vfs.records import RenameMode
from tests.model.fake_remote import FakeRemote
from tests.store.work import counting
from tests.sync.mount import World, brought, tell

OTHER = RemotePath("/other")
MANY = 4000
STATEMENTS, INSTRUCTIONS = 2500, 120
"""No step may do more, however many files there are. Planning takes a few statements for each node of a part."""


def server() -> FakeRemote:
    remote = FakeRemote()
    remote.other.mkdir("/big")
    for number in range(MANY):
        remote.other.write(f"/big/{number}", b"1", mtime_s=1_600_000_000)
    remote.other.write("/other", b"2")
    return remote


async def removed(world: World) -> Node:
    """Have a large folder removed here, and nobody ask whether that is meant."""
    world.engine.deletions._restraint._limit = 0
    big = (await world.lookup("big")).ino
    handle = await world.fs.open_folder(big)
    for entry in list(await world.fs.read_folder(handle, 0)):
        await world.fs.unlink(big, entry.name.encode())
    await world.fs.release_folder(handle)
    await world.fs.rmdir(ROOT, b"big")
    node = world.engine.store.nodes.get(big)
    assert node is not None
    return node


def test_a_large_folder_is_removed_on_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(world: World) -> None:
        await removed(world)
        with counting(world.engine.store, monkeypatch) as work:
            assert await world.drain() == []
        assert work.statements < STATEMENTS
        assert work.instructions < INSTRUCTIONS
        assert world.remote.account.members(ROOT_PATH) == [world.remote.account.entry(OTHER)]
        await world.check_nothing_left()

    remote = tell(tmp_path, story, server())
    assert sum(line.startswith("delete") for line in remote.methods()) == 1


def test_what_is_shown_again_while_a_folder_is_looked_through_is_not_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its bytes are on the server alone; where it was looked at before, it is looked at once more."""

    async def story(world: World) -> None:
        node = await removed(world)
        nodes, remover = world.engine.store.nodes, world.engine.worker._executor._hands.remover
        first = nodes.moved_after(node.ino, "", 1)[0]
        needs_server = remover._needs_server
        turns = 0

        async def checkpoint() -> None:
            nonlocal turns
            turns += 1
            if turns == 2:
                nodes.update(first.ino, parent=ROOT, name="shown again")

        with monkeypatch.context() as patch:
            patch.setattr("cloudfs.sync.removal.trio.lowlevel.checkpoint", checkpoint)
            assert await remover._holds_shown(node)
        assert turns > 2
        assert needs_server(first.ino)
        with pytest.raises(Changed):
            await remover._require_kept(node, ROOT_PATH)
        nodes.update(first.ino, parent=None)
        assert not await remover._holds_shown(node)
        assert await world.drain() == []

    tell(tmp_path, story, server())


def test_what_is_shown_of_a_folder_goes_with_it_in_one_piece(tmp_path: Path) -> None:
    """Between two a listing could bring something into it that nobody has kept, and that would be given up then."""

    async def story(world: World) -> None:
        remover, nodes = world.engine.worker._executor._hands.remover, world.engine.store.nodes
        big = await world.lookup("big")
        await world.engine.lister.refresh(big.ino)
        await world.fs.mkdir(ROOT, b"aside~", 0o755)
        aside = (await world.lookup("aside~")).ino
        inner = nodes.synced_child(big.ino, "inner")
        assert inner is not None
        await world.engine.lister.refresh(inner.ino)
        await world.fs.rename(big.ino, b"inner", aside, b"inner", RenameMode.REPLACE)
        node = await removed(world)
        assert nodes.is_shown_in_part(node.ino)
        with assert_no_checkpoints():
            await remover.commit(node)
        left = nodes.get(node.ino)
        assert left is None or not left.synced
        shown = [nodes.get(inner.ino), *nodes.children(inner.ino)]
        assert len(shown) == 2
        assert not any(it is None or it.synced for it in shown)

    remote = server()
    remote.other.mkdir("/big/inner")
    remote.other.write("/big/inner/file", b"")
    tell(tmp_path, story, remote)


def test_a_folder_that_is_shown_goes_in_one_piece(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        remover, nodes = world.engine.worker._executor._hands.remover, world.engine.store.nodes
        big = (await world.lookup("big")).ino
        await world.engine.lister.refresh(big)
        await world.fs.rename(ROOT, b"big", ROOT, b"big~", RenameMode.REPLACE)
        while world.engine.tree.spreading.pending:
            await trio.sleep(0.01)
        node = nodes.get(big)
        assert node is not None
        with assert_no_checkpoints():
            await remover.commit(node)
        shown = [nodes.get(big), *nodes.children(big)]
        assert len(shown) == MANY + 1
        assert not any(it is None or it.synced for it in shown)

    tell(tmp_path, story, server())


def test_what_is_staged_of_many_files_is_gone_through_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a folder is renamed with a backlog, and where all of a backlog is removed."""

    async def story(world: World) -> None:
        store, files = world.engine.store, world.engine.files
        with store.transaction():
            for number in range(MANY):
                store.put_staged(
                    StagedRow(Ino(1_000_000 + number), ContentVersion(1), 0, b"", ContentVersion(0), 0, None)
                )
        labelled: list[StagedRow] = []
        monkeypatch.setattr(files.hardening, "_label", labelled.extend)
        big = (await world.lookup("big")).ino
        await world.engine.lister.refresh(big)
        files.hardening.moved(big)
        with counting(store, monkeypatch) as work:
            await files.hardening.harden()
            assert len(labelled) == MANY
            for number in range(MANY):
                with store.transaction():
                    files.disposal.discard(Ino(1_000_000 + number))
                await trio.lowlevel.checkpoint()
            await files.disposal.bury()
        assert work.statements < STATEMENTS
        assert work.instructions < 20
        assert store.all_staged() == []

    tell(tmp_path, story, server())


def test_the_question_whether_much_is_meant_counts_no_more_than_it_has_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(world: World) -> None:
        store = world.engine.store
        await world.engine.lister.refresh((await world.lookup("big")).ino)
        await world.fs.rename(ROOT, b"big", ROOT, b"big~", RenameMode.REPLACE)
        while world.engine.tree.spreading.pending:
            await trio.sleep(0.1)
        monkeypatch.setattr(restraint, "_FEW", 10)
        found = Restraint(store, limit=100)
        with counting(store, monkeypatch) as work:
            await trio.lowlevel.checkpoint()
            found.review()
            await trio.lowlevel.checkpoint()
        assert found.held_since is not None
        assert found.count() == MANY + 1
        assert work.instructions < 20

    tell(tmp_path, story, server())


def test_what_is_kept_of_a_large_folder_is_looked_through_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted, put in order to be brought, and looked through when it is given back."""

    async def story(world: World) -> None:
        engine = world.engine
        big = (await world.lookup("big")).ino
        await engine.lister.refresh(big)
        world.remote.faults.unreachable_for(3600)
        with counting(engine.store, monkeypatch) as work:
            engine.keeper.say(big, Pin.ALWAYS_LOCAL)
            await brought(world)
            assert engine.hydrator.kept.missing_files == MANY
            engine.keeper.say(big, Pin.ONLINE_ONLY)
            assert await engine.hydrator.free(big) == Freed(0, 0, 0)
        assert work.statements < STATEMENTS
        assert work.instructions < INSTRUCTIONS
        world.remote.faults.unreachable_for(0)

    tell(tmp_path, story, server())


def test_what_stays_of_a_removed_folder_is_shown_though_an_older_listing_is_on_its_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That one leaves out the folder, or saw it before it was given up here: it is asked for once more."""

    async def story(world: World) -> None:
        remote, list_folder = world.remote, world.remote.list_folder
        answered, let_through = trio.Event(), trio.Event()

        async def list_late(path: RemotePath) -> tuple[RemoteEntry, Sequence[RemoteEntry]]:
            answer = await list_folder(path)
            if path == ROOT_PATH and not answered.is_set():
                answered.set()
                await let_through.wait()
            return answer

        node = await removed(world)
        remote.other.write("/big/unknown", b"3")
        monkeypatch.setattr(remote, "list_folder", list_late)
        world.engine.lister.refresh_later(ROOT)
        await answered.wait()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.drain)
            while (it := world.engine.store.nodes.get(node.ino)) is not None and it.synced:
                await trio.sleep(0.1)
            let_through.set()
        assert await world.read_file("big/unknown") == b"3"
        assert [it.name for it in world.engine.store.nodes.children(ROOT)] == ["big", "other"]

    remote = FakeRemote()
    remote.other.mkdir("/big")
    for path in ("/big/1", "/big/2", "/other"):
        remote.other.write(path, b"1", mtime_s=1_600_000_000)
    tell(tmp_path, story, remote, poll_s=100_000.0)
