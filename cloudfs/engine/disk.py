"""What an account has on this machine, opened: its database, changed files and blocks, put right after a crash."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import trio

from cloudfs.blocks.blockstore import BlockStore
from cloudfs.blocks.staging import Staging
from cloudfs.content.adoption import Adoption
from cloudfs.content.files import Files
from cloudfs.content.powercut import after_power_cut
from cloudfs.engine.config import EngineConfig
from cloudfs.metadata.placing import stays_local
from cloudfs.metadata.tree import Tree
from cloudfs.store.db import DatabaseDamaged, set_aside
from cloudfs.store.logtail import boot_id
from cloudfs.store.store import Store
from cloudfs.sync.pinned import PinKeeper

__all__ = ["Disk", "open_disk", "put_right"]

_log = logging.getLogger(__name__)


class Disk(NamedTuple):
    """Where everything is on this machine, and which of it stays."""

    store: Store
    staging: Staging
    blocks: BlockStore
    keeper: PinKeeper


@asynccontextmanager
async def open_disk(config: EngineConfig) -> AsyncIterator[Disk]:
    """Open all of it; closed in the end, whatever happens. Raises LocalDamage when it cannot be used."""
    store = _open_store(config)
    try:
        staging = _open_staging(config, store)
        seal = None if config.keys is None else config.keys.seal("pins")
        keeper = PinKeeper(store, config.state / "pins.json", config.keep, seal)
        blocks = await _open_blocks(config, store, keeper)
        try:
            yield Disk(store, staging, blocks, keeper)
        finally:
            with trio.CancelScope(shield=True):
                await blocks.aclose()
                await staging.aclose()
    finally:
        store.close()


def _open_store(config: EngineConfig) -> Store:
    """Open the database; a damaged one is kept under another name, and a new one takes its place."""
    path, key = config.state / "state.sqlite", None if config.keys is None else config.keys.database
    try:
        return Store(path, room_bytes=config.reserve_bytes, key=key)
    except DatabaseDamaged as damage:
        _log.error("%s; it is kept as %s, and a new one is begun", damage, set_aside(path))
        return Store(path, room_bytes=config.reserve_bytes, key=key)


def _open_staging(config: EngineConfig, store: Store) -> Staging:
    """Open the staging folder of this very database, and bring into it what a lost one has left."""
    folder = config.state / f"staging-{store.store_id}"
    sealed = None if config.keys is None else (config.keys, store.store_id)
    staging = Staging(folder, keep_free_bytes=config.reserve_bytes, sealed=sealed)
    adoption = Adoption(store, staging, config.state / "recovered", stays_local)
    for other in sorted(config.state.glob("staging-*")):
        if other != folder:
            for told in adoption.adopt(other):
                _log.error("%s", told)
    return staging


async def _open_blocks(config: EngineConfig, store: Store, keeper: PinKeeper) -> BlockStore:
    return await BlockStore.open(
        config.cache / "blocks",
        store.store_id,
        limit_bytes=config.cache_bytes,
        keep_free_bytes=config.cache_keep_free_bytes,
        exempt=keeper.is_exempt,
        exempt_bytes=lambda: keeper.cached_bytes,
        keys=config.keys,
    )


async def put_right(config: EngineConfig, store: Store, staging: Staging, tree: Tree, files: Files) -> None:
    """Bring rows and staging files together as they are after whatever ended the last life."""
    for complaint in after_power_cut(store, staging, config.state / "recovered", boot_id()):
        _log.error("%s", complaint)
    tree.collect_orphans()
    for complaint in await files.disposal.repair(config.state / "recovered"):
        _log.error("%s", complaint)
    files.hardening.note_all()
    await files.disposal.prune_all()
