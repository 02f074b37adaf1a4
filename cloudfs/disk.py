"""What an account has on this machine, opened: its database, its changed files, and both put right after a crash."""

from __future__ import annotations

import logging

from cloudfs.assembly import EngineConfig
from cloudfs.blocks.staging import Staging
from cloudfs.content.adoption import Adoption
from cloudfs.content.files import Files
from cloudfs.content.powercut import after_power_cut
from cloudfs.metadata.placing import stays_local
from cloudfs.metadata.tree import Tree
from cloudfs.store.db import DatabaseDamaged, set_aside
from cloudfs.store.logtail import boot_id
from cloudfs.store.store import Store

__all__ = ["open_staging", "open_store", "put_right"]

_log = logging.getLogger(__name__)


def open_store(config: EngineConfig) -> Store:
    """Open the database; a damaged one is kept under another name, and a new one takes its place."""
    path, key = config.state / "state.sqlite", None if config.keys is None else config.keys.database
    try:
        return Store(path, room_bytes=config.reserve_bytes, key=key)
    except DatabaseDamaged as damage:
        _log.error("%s; it is kept as %s, and a new one is begun", damage, set_aside(path))
        return Store(path, room_bytes=config.reserve_bytes, key=key)


def open_staging(config: EngineConfig, store: Store) -> Staging:
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


async def put_right(config: EngineConfig, store: Store, staging: Staging, tree: Tree, files: Files) -> None:
    """Bring rows and staging files together as they are after whatever ended the last life."""
    for complaint in after_power_cut(store, staging, config.state / "recovered", boot_id()):
        _log.error("%s", complaint)
    tree.collect_orphans()
    for complaint in await files.disposal.repair(config.state / "recovered"):
        _log.error("%s", complaint)
    files.hardening.note_all()
    await files.disposal.prune_all()
