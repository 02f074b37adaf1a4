"""Block stores on real disks, small enough to fill."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from subprocess import run
from typing import Any, Protocol

import pytest

from cloudfs.blocks.blockstore import BlockStore

ExpectLog = Callable[..., None]

STORE_ID = "a1b2"


class MakeStore(Protocol):
    """Opens a store of the test's cache folder; closed at the end if the test does not."""

    async def __call__(self, **options: Any) -> BlockStore: ...


@pytest.fixture
async def make_store(tmp_path: Path) -> AsyncIterator[MakeStore]:
    stores: list[BlockStore] = []

    async def make(**options: Any) -> BlockStore:
        defaults: dict[str, Any] = {
            "cache": tmp_path / "cache",
            "store_id": STORE_ID,
            "limit_bytes": 10**9,
            "keep_free_bytes": 0,
        }
        stores.append(await BlockStore.open(**(defaults | options)))
        return stores[-1]

    yield make
    for store in stores:
        await store.aclose()
    # diskcache's connections of other threads live as long as the cache object, and pytest keeps `make`.
    stores.clear()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a file system of its own with 1 MiB."""
    path = tmp_path / "small-disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(path)]
    if run(mount, check=False, capture_output=True).returncode:
        pytest.skip("only root may mount a small disk")
    yield path
    run(["umount", "--lazy", str(path)], check=True)


def volume_folder(cache: Path, store_id: str = STORE_ID) -> Path:
    """Return the one folder of the store's blocks."""
    (folder,) = cache.glob(f"blocks-{store_id}-*")
    return folder


def value_paths(cache: Path) -> list[Path]:
    """Return all value files of the cache."""
    return sorted(cache.glob("**/blocks-*/??/*.val"))
