"""Sealing what is kept of an account, opening it for good, or sealing it with another key: all three are one change.

A new folder is made beside the present one: the database's rows, and every changed file, written anew and on the disk.
Then the account's `vault.json` names it (`place`); until then nothing has happened, and from then on it has. Only
after that the old folder, the old blocks and the old key go. Clean blocks are not taken along: the server has them.
It is done while nothing is mounted, by whoever holds the account.
"""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path

import msgspec

from cloudfs.blocks.sealing import Keys
from cloudfs.blocks.staging import Staging
from cloudfs.config import sync_folder
from cloudfs.content.labels import label
from cloudfs.content.powercut import after_power_cut
from cloudfs.errors import ExitCode, LocalDamage, UserError
from cloudfs.ranges import RangeSet
from cloudfs.store.copying import copy_store
from cloudfs.store.logtail import boot_id
from cloudfs.store.store import Store
from cloudfs.vault.place import DATABASE, Place, find, make_present, remove_others

__all__ = ["change", "drop_blocks"]


def change(state: Path, cache: Path, keys: Keys | None, place: Place, new_keys: Keys | None) -> Place:
    """Bring an account's state from the present place to one like `place`; returns that. Blocking.

    `keys` open the present one, `new_keys` are those of the new one. On any error the present one stays as it is.
    Raises UserError, LocalDamage, PosixError, OSError.
    """
    present = find(state)
    old = present.path(state)
    _require_nothing_rescued(old)
    remove_others(state, present)
    mark = secrets.token_hex(8)
    making = state / f"new-{mark}"
    made = msgspec.structs.replace(place, folder=f"{'plain' if new_keys is None else 'sealed'}-{mark}")
    making.mkdir(mode=0o700)
    try:
        if (old / DATABASE).exists():
            _copy(old, keys, making, new_keys)
        sync_folder(making)
        making.rename(state / made.folder)
        sync_folder(state)
        make_present(state, made)
    except BaseException:
        remove_others(state, find(state))
        raise
    remove_others(state, made)
    drop_blocks(cache)
    return made


def drop_blocks(cache: Path) -> None:
    """Remove all clean blocks: of another key, or of none. Raises OSError."""
    folder = cache / "blocks"
    if folder.exists():
        shutil.rmtree(folder)


def _require_nothing_rescued(old: Path) -> None:
    """What was found after damage is for people to look at, and belongs to no database: it cannot be taken along."""
    waiting = [path for path in sorted(old.glob("recovered/**/*")) if path.is_file()]
    waiting += sorted(old.glob(f"{DATABASE}-damaged-*"))
    if waiting:
        raise UserError(
            f"{len(waiting)} rescued files wait in {waiting[0].parent}.",
            hint="Look at them, move what you want to keep elsewhere, and delete the others; then do it again.",
            code=ExitCode.NOT_DONE,
        )


def _copy(old: Path, keys: Keys | None, new: Path, new_keys: Keys | None) -> None:
    store = Store(old / DATABASE, key=None if keys is None else keys.database)
    try:
        folder = old / f"staging-{store.store_id}"
        if lost := [path for path in old.glob("staging-*") if path != folder]:
            raise UserError(
                f"Changed files of a lost database wait in {lost[0]}.",
                hint="Mount the account once, which takes them over; then do it again.",
                code=ExitCode.NOT_DONE,
            )
        staging = Staging(folder, sealed=None if keys is None else (keys, store.store_id))
        try:
            # Before it is read: a machine that lost its power since may have rows that promise too much.
            told = after_power_cut(store, staging, old / "recovered", boot_id())
            if told:
                _require_nothing_rescued(old)
            store_id = copy_store(store, new / DATABASE, None if new_keys is None else new_keys.database)
            sealed = None if new_keys is None else (new_keys, store_id)
            target = Staging(new / f"staging-{store_id}", sealed=sealed)
            try:
                _copy_files(store, staging, target)
            finally:
                target.close()
        finally:
            staging.close()
    finally:
        store.close()


def _copy_files(store: Store, staging: Staging, target: Staging) -> None:
    found = set(staging.scan())
    for row in store.all_staged():
        key, present = (row.ino, row.version), RangeSet.unpack(row.present)
        if key in found:
            target.copy_from(staging, *key, present)
            label(store, target, row)
        elif present:
            msg = f"inode {row.ino}: its staging file {row.ino}.{row.version} is missing"
            raise LocalDamage(msg)
    sync_folder(target.path)
