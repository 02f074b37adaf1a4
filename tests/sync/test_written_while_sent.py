"""Files that are appended to whenever their tails are being sent."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from cloudfs.content.layers import made_of
from tests.model.fake_remote import FaultKind
from tests.sync.mount import World, opened
from tests.sync.test_appending import OLD, run, server


@pytest.mark.parametrize("fails", [True, False], ids=["in vain", "well"])
def test_a_program_that_writes_whenever_a_tail_is_sent_leaves_no_pile_of_layers(
    tmp_path: Path, *, fails: bool
) -> None:
    """Each had its staging file, and after some hundred of them the file could be neither read nor sent."""
    remote = server()
    seen = OLD

    async def story(world: World) -> None:
        done = trio.Event()

        async def write_on() -> None:
            nonlocal seen
            await world.write(handle, len(seen), line := b"line %d\n" % len(seen))
            seen += line
            if len(seen) > len(OLD) + 8 * len(line):
                done.set()
            else:
                remote.before["copy_base"] = write_on

        async with opened(world, "a") as handle:
            remote.faults.next("copy_base", [FaultKind.LOSE_REPLY] * 8 if fails else [])
            await write_on()
            await done.wait()
            content = world.engine.files.live((await world.lookup("a")).ino)
            assert content is not None
            assert len(made_of(content.top)) <= 3
            await trio.sleep(1)
            assert len(world.engine.store.all_staged()) <= 3
            assert await world.read(handle) == seen
        await world.kill()
        assert await world.read_file("a") == seen
        await world.drain()
        assert world.remote.other.read("/a") == seen

    run(tmp_path, story, remote)
