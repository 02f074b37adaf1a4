"""A process that is killed while it fills the cache leaves nothing wrong behind."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import trio

from cloudfs.blocks.rawdisk import BlockKey
from cloudfs.types import ContentVersion, Ino
from tests.blocks.conftest import MakeStore, value_paths

VERSION = ContentVersion(1)

FILL = """
import sys, trio
from pathlib import Path
from cloudfs.blocks.blockstore import BlockStore

async def main():
    store = await BlockStore.open(Path(sys.argv[1]), "a1b2", limit_bytes=4_000_000, keep_free_bytes=0)
    for ino in range(1, 100_000):
        size = 60_000 if ino % 2 else 5_000
        await store.put(ino, 1, 0, ino.to_bytes(4, "big") * (size // 4))
        if ino == 60:
            print("full", flush=True)

trio.run(main)
"""


async def test_killed_while_putting_and_evicting(make_store: MakeStore, tmp_path: Path) -> None:
    for _ in range(2):
        with subprocess.Popen(
            [sys.executable, "-c", FILL, str(tmp_path / "cache")], stdout=subprocess.PIPE
        ) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == b"full\n"
            child.send_signal(signal.SIGKILL)
        assert child.returncode == -signal.SIGKILL
        store = await make_store()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.run)
            while not store._swept:
                await trio.to_thread.run_sync(int)
            nursery.cancel_scope.cancel()
        found = [ino for ino in range(1, 2000) if store.has(Ino(ino), VERSION, 0)]
        assert len(found) == store.statistics().blocks > 10
        for ino in found:
            data = await store.get(Ino(ino), VERSION, 0)
            assert data is not None
            assert data == ino.to_bytes(4, "big") * (len(data) // 4)
        large = [ino for ino in found if ino % 2]
        assert {path.name for path in value_paths(tmp_path)} == {
            Path(BlockKey(Ino(ino), VERSION, 0).file_name()).name for ino in large
        }
        await store.aclose()
