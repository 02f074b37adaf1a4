"""What a mount begins with: the present state of an account and its keys, changed first where that is wanted."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import NamedTuple

import trio

from cloudfs.blocks.sealing import Keys
from cloudfs.config import Account, Folders, SecretKind
from cloudfs.errors import ExitCode, UserError
from cloudfs.vault.changing import change
from cloudfs.vault.keyholding import Waits, forget_key, forget_unused, wait_for_keys, wait_to_keep_new_key
from cloudfs.vault.place import Place, find, note_keys, noted_keys, remove_others

__all__ = ["Opened", "convert", "open_account"]

_log = logging.getLogger(__name__)


class Opened(NamedTuple):
    """The state of one account; whoever has it holds the account."""

    folder: Path
    keys: Keys | None


def open_account(folders: Folders, name: str, account: Account, *, waits: Waits | None = None) -> Opened:
    """Find the present state of an account and read its key, before a mount; blocking.

    What a broken-off change left is removed. Where the account's file wants it otherwise it is changed first. Raises
    UserError, and whatever `change` raises. A locked keyring is waited for, with `waits`
    for as long as it takes.
    """
    state = folders.account_state(name)
    place = find(state)
    wanted = account.settings.cache_encrypt
    if wanted is not None and wanted != (place.key is not None):
        place = convert(folders, name, _kind(account.settings.cache_key) if wanted else None, waits=waits)
    remove_others(state, place)
    if noted_keys(state):
        trio.run(forget_unused, folders, name)
    keys = wait_for_keys(folders, name, place, may_prompt=_has_screen(), waits=waits)
    return Opened(place.path(state), keys)


def convert(folders: Folders, name: str, kind: SecretKind | None, *, waits: Waits | None = None) -> Place:
    """Seal what is kept of an account with a new key, kept as `kind` says; None: have it plain.

    The caller holds the account. Killed at any point it is as before, or changed, and loses nothing: the new key is
    kept, and read back, before anything is sealed with it, and the old one goes last.
    """
    state = folders.account_state(name)
    old = find(state)
    keys = wait_for_keys(folders, name, old, may_prompt=_has_screen(), waits=waits)
    if old.key is not None:
        note_keys(state, [*noted_keys(state), old])
    wanted, new_keys = Place(), None
    if kind is not None:
        wanted, new_keys = wait_to_keep_new_key(folders, name, kind, waits=waits)
        if wanted.check == old.check:
            raise UserError(
                "systemd still hands out the key that is in use.",
                hint="Put another one into the credential, or keep the new one elsewhere: --key keyring.",
                code=ExitCode.NOT_DONE,
            )
    try:
        place = change(state, folders.account_cache(name), keys, wanted, new_keys)
    except BaseException:
        if kind is not None and find(state).check != wanted.check:
            trio.run(forget_key, folders, name, wanted)
        raise
    _forget_unused(folders, name, old)
    _log.info("what is kept of %s is now %s", name, "plain" if kind is None else f"encrypted, {place.cipher}")
    return place


def _forget_unused(folders: Folders, name: str, old: Place) -> None:
    try:
        trio.run(forget_key, folders, name, old)
        trio.run(forget_unused, folders, name)
    except (UserError, OSError) as error:
        _log.warning("the former key, which opens nothing any more, could not be removed: %s", error)


def _kind(said: SecretKind | None) -> SecretKind:
    return said or "keyring"


def _has_screen() -> bool:
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
