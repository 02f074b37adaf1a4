"""The time that a file shows while it is written: with each other one the kernel drops all of its pages."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloudfs.vfs.records import Attributes, HandleId
from tests.sync.mount import World, opened, tell

SECOND = 1_000_000_000
CLOSED = 1_700_000_000 * SECOND + 5
"""When the file was last closed."""


async def shown(world: World, handle: HandleId, written_ns: int) -> Attributes:
    """Return what a file shows that was last written at `written_ns`, and not closed since."""
    file = world.fs._handles.file(handle)
    await world.write(handle, 0, b"2")
    file.content.mtime_ns = written_ns
    return await world.fs.getattr(file.ino)


@pytest.mark.parametrize(
    ("written_ns", "mtime_ns"),
    [
        (CLOSED + 3, CLOSED),
        (CLOSED + SECOND, CLOSED + SECOND - 5),
        (CLOSED + 9 * SECOND + 100, CLOSED + 9 * SECOND - 5),
        (CLOSED - 3 * SECOND, CLOSED - 3 * SECOND),
    ],
    ids=["in the same second", "in the next", "later", "the time was one to come"],
)
def test_it_goes_on_by_the_second_and_is_exact_once_the_file_is_closed(
    tmp_path: Path, written_ns: int, mtime_ns: int
) -> None:
    async def story(world: World) -> None:
        await world.save("/a", b"1")
        ino = (await world.lookup("/a")).ino
        await world.fs.setattr(ino, mtime_ns=CLOSED)
        async with opened(world, "/a") as handle:
            found = await shown(world, handle, written_ns)
            assert (found.mtime_ns, found.ctime_ns) == (mtime_ns, written_ns)
            assert not found.exact, "else the kernel would go on showing it once the file is closed"
        closed = await world.fs.getattr(ino)
        assert (closed.mtime_ns, closed.exact) == (written_ns, True)

    tell(tmp_path, story)


def test_it_stays_while_a_file_is_written_within_a_second(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.save("/a", b"1")
        async with opened(world, "/a") as handle:
            base = (await shown(world, handle, CLOSED + 60 * SECOND)).mtime_ns
            for part in range(10):
                found = await shown(world, handle, base + part * SECOND // 10)
                assert found.mtime_ns == base

    tell(tmp_path, story)
