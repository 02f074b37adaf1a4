"""What an account has on this machine: its file, its password, its database, its cache, its disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from shlex import quote

import trio

from cloudfs import config
from cloudfs.blocks.health import check_cache
from cloudfs.blocks.sealing import Keys
from cloudfs.config import Account, Folders
from cloudfs.doctor.report import Finding, fine, note, problem, skipped
from cloudfs.doctor.secrecy import check_files, check_logs
from cloudfs.doctor.transit import check_transit
from cloudfs.errors import UserError
from cloudfs.secrets.credential import CredentialStore
from cloudfs.secrets.memory import close_memory
from cloudfs.secrets.protocol import KeyringAway
from cloudfs.secrets.stores import store_of
from cloudfs.store.health import check_database
from cloudfs.vault.keyholding import place_of_key, read_keys
from cloudfs.vault.place import DATABASE, find

__all__ = ["check_account", "check_folders"]

_LITTLE_BYTES = 1 << 30
_AGAIN = (
    "Move it away (keep it: changes that were not sent are in there), mount again, and look into `recovered`."
)


def check_folders(folders: Folders) -> Iterator[Finding]:
    """Look at the folders of all accounts."""
    try:
        folders.require_safe_way()
    except UserError as error:
        yield problem("folders", error.message, error.hint)
        return
    for folder in folders.all:
        finding = _folder(folder)
        if finding is not None:
            yield finding
            return
    yield fine("folders", f"{folders.config}, {folders.state}, {folders.cache}, {folders.runtime}")


def _folder(folder: Path) -> Finding | None:
    def make() -> None:
        config.private_folder(folder)

    if not folder.is_symlink() and not folder.exists():
        return None  # made when it is needed
    try:
        found = folder.stat(follow_symlinks=False)
    except OSError as error:
        return problem(
            "folders", f"{folder} cannot be looked at: {error.strerror}", "Make it a folder of yours."
        )
    if not folder.is_dir() or folder.is_symlink() or found.st_uid != os.geteuid():
        return problem("folders", f"{folder} is no folder of yours", "Remove it, or set CLOUDFS_HOME.")
    if found.st_mode & 0o077:
        return problem(
            "folders", f"{folder} is open to others", f"`chmod 0700 {quote(str(folder))}`", fix=make
        )
    return None


def check_account(folders: Folders, name: str) -> Iterator[Finding]:
    """Look at one account, as far as it is on this machine."""
    try:
        account = config.load_account(folders, name)
    except UserError as error:
        yield problem("config", error.message, error.hint, name)
        return
    yield fine("config", str(folders.account_file(name)), name)
    yield from _secret(folders, account, name)
    yield from check_transit(account, name)
    yield check_files(folders, name)
    yield from _vault(folders, name)
    yield _cache(folders, name)
    yield _disk(folders, name, account)
    yield from _rescued(folders, name)


def _secret(folders: Folders, account: Account, name: str) -> Iterator[Finding]:
    store = store_of(folders, name, account.secret_store)
    if isinstance(store, CredentialStore) and not store.is_handed_out:
        yield skipped("password", f"kept {store.place}, which nobody sees but its unit", name)
        return
    close_memory()
    try:
        secret = trio.run(store.read)
    except KeyringAway as error:
        repair = "Unlock it: a mount goes on by itself then. Or `cloudfs login` with --secret-store file."
        yield problem("password", f"kept {store.place}. {error.message}", repair, name)
    except UserError as error:
        yield problem("password", error.message, error.hint, name)
    else:
        yield fine("password", f"kept {store.place}", name)
        yield check_logs(folders, name, secret)


def _vault(folders: Folders, name: str) -> Iterator[Finding]:
    """Look whether what is kept here is encrypted and can be opened, and then into the database."""
    try:
        place = find(folders.state / name)
    except UserError as error:
        yield problem("encryption", error.message, error.hint, name)
        return
    if place.key is None:
        yield fine("encryption", "none: whoever reads this disk reads what is kept here", name)
        yield _database(place.path(folders.state / name), None, name)
        return
    kept = place_of_key(folders, name, place)
    if place.key == "credential" and "CREDENTIALS_DIRECTORY" not in os.environ:
        yield skipped("encryption", f"the key is kept {kept}, which nobody sees but its unit", name)
        return
    try:
        keys = trio.run(read_keys, folders, name, place)
    except UserError as error:
        yield problem("encryption", f"the key is kept {kept}. {error.message}", error.hint, name)
        return
    yield fine("encryption", f"{place.cipher}, the key is kept {kept}", name)
    yield _database(place.path(folders.state / name), keys, name)


def _database(folder: Path, keys: Keys | None, name: str) -> Finding:
    path = folder / DATABASE
    if not path.exists():
        return skipped("database", "it was never mounted", name)
    wrong = check_database(path, None if keys is None else keys.database)
    if wrong:
        return problem("database", f"{path}: {wrong}", _AGAIN, name)
    return fine("database", "in order", name)


def _cache(folders: Folders, name: str) -> Finding:
    folder = folders.cache / name / "blocks"
    if not folder.exists():
        return skipped("cache", "there is none yet", name)
    wrong = check_cache(folder)
    if wrong:
        return note("cache", f"{wrong}: it begins anew by itself at the next mount", "", name)
    return fine("cache", "in order; `cloudfs cache verify` reads all of it", name)


def _disk(folders: Folders, name: str, account: Account) -> Finding:
    state = _free_bytes(folders.state)
    if state is not None and state < _LITTLE_BYTES:
        reason = f"only {state / 1e6:,.0f} MB are free for changed files in {folders.state}"
        return problem("disk", reason, "Free some space: a program's write fails when there is none.", name)
    free, keep_free = _free_bytes(folders.cache), _keep_free_bytes(folders.cache, account)
    if free is not None and free < keep_free:
        reason = f"of {free / 1e9:,.1f} GB {keep_free / 1e9:,.1f} are left alone: nothing more is kept of what is read"
        return note(
            "disk", reason, "Free some space, or lower cache_keep_free_bytes in the account's file.", name
        )
    return fine("disk", f"{(state or 0) / 1e9:,.1f} GB free", name)


def _free_bytes(folder: Path) -> int | None:
    nearest = next((it for it in (folder, *folder.parents) if it.exists()), None)
    if nearest is None:
        return None
    disk = os.statvfs(nearest)
    return disk.f_bavail * disk.f_frsize


def _keep_free_bytes(folder: Path, account: Account) -> int:
    told = account.settings.cache_keep_free_bytes
    nearest = next((it for it in (folder, *folder.parents) if it.exists()), Path("/"))
    disk = os.statvfs(nearest)
    return max(disk.f_blocks * disk.f_frsize // 20, 10**9) if told is None else told


def _rescued(folders: Folders, name: str) -> Iterator[Finding]:
    try:
        place = find(folders.state / name)
    except UserError:
        return
    folder = place.path(folders.state / name) / "recovered"
    count = sum(path.is_file() for path in folder.rglob("*")) if folder.exists() else 0
    if count:
        reason = f"{count} rescued files wait in {folder}"
        look = "Look at them, copy what you want to keep, and delete the others."
        if place.key is not None:
            look = f"`cloudfs cache recovered {name} --to FOLDER` makes readable copies; then delete them."
        yield note("rescued", reason, look, name)
