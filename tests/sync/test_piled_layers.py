"""Layers that lie on each other in any number, as an earlier cloudfs left them of logs: read, kept and sent."""

from __future__ import annotations

from pathlib import Path

from cloudfs.ranges import RangeSet
from cloudfs.store.records import StagedRow
from cloudfs.types import ROOT, RemoteVersion
from tests.sync.mount import World, tell

_MANY = 500
"""More than could be gone through by functions that call themselves, two or three for each."""


async def pile_up(world: World) -> bytes:
    """Have a file of which each byte behind the server's is in a layer of its own, all on the disk; return it."""
    world.remote.other.write("/log", b"there")
    await world.refresh_all()
    store, staging = world.engine.store, world.engine.filesystem._files._staging
    node = store.nodes.child(ROOT, "log")
    assert node is not None
    below, size = node.version, node.size
    remote: RemoteVersion | None = node.remote_version
    for number in range(_MANY):
        version = store.nodes.next_version()
        file = await staging.create(node.ino, version)
        await file.pwrite(size, b"%d" % (number % 10))
        row = StagedRow(node.ino, version, size + 1, RangeSet([(size, size + 1)]).pack(), below, size, remote)
        store.put_staged(row.made_safe(row.state))
        below, size, remote = version, size + 1, None
    store.nodes.update(node.ino, version=below, size=size)
    return b"there" + b"0123456789" * (_MANY // 10)


def test_many_layers_are_looked_at_after_a_power_cut_read_and_sent(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        content = await pile_up(world)
        world.engine.store.set_boot_id("another")
        await world.restart()
        assert await world.read_file("log") == content
        await world.drain()
        assert world.remote.other.tree() == {"/log": content}
        await world.check_nothing_left()

    tell(tmp_path, story)
