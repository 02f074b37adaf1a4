"""Remote wipe: everything of an account is removed from this machine because its server says so.

Whoever marks a lost device in Nextcloud's settings for a wipe wants nothing to stay on it, nor changes
that never went up. A note stays, so that whoever sits here is told what became of it. SOURCE: protocol.md §11 (29.0.1).
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from pathlib import Path

import trio

from cloudfs.config import Account, Folders, remove_account
from cloudfs.control.instance import LOCK_NAME
from cloudfs.errors import CloudfsError, ExitCode, RemoteError, UserError
from cloudfs.remote.anonymous import tell_wiped
from cloudfs.remote.tls import context_of
from cloudfs.secrets.protocol import Writable
from cloudfs.secrets.stores import store_of
from cloudfs.store.only_here import OnlyHere, only_here
from cloudfs.vault.keyholding import forget_key
from cloudfs.vault.opening import Opened
from cloudfs.vault.place import find
from cloudfs.wiped import Wiped, note_wiped

__all__ = ["wipe"]

_log = logging.getLogger(__name__)

_KEYRING_S = 10.0
_TRIES, _PAUSE_S, _TELL_S = 3, 2.0, 30.0


def wipe(folders: Folders, name: str, account: Account, secret: str, opened: Opened) -> None:
    """Remove key, cache, changes, password and file of an account that this process holds, and tell the server.

    The key of an encrypted account goes first: from then on the rest is unreadable, whatever becomes of it. Killed
    later, the next mount of a plain one is told to wipe again: account and password go last. Raises UserError where
    something cannot be removed; then they stay for that reason.
    """
    state = folders.account_state(name)
    left = _lost(opened)
    note = Wiped(account.url, account.user, time.time(), left.changes, left.changed_bytes)
    noted = _is_noted(folders, name, note)
    trio.run(_forget_key, folders, name)
    # The lock is held, and the password still needed.
    remaining = [
        *_emptied(folders.account_cache(name)),
        *_emptied(state, but={state / LOCK_NAME, folders.secret_file(name)}),
    ]
    if remaining:
        raise UserError(
            f"The server asked for a remote wipe, and {remaining[0]} cannot be removed ({len(remaining)} in all).",
            hint="Remove it by hand. The next mount tries again.",
            code=ExitCode.NOT_DONE,
        )
    if not noted:
        _is_noted(folders, name, note)  # by now a full disk has room
    trio.run(_forget, folders, name, account)
    remove_account(folders, name)
    _log.warning("%s", note.sentence(name))
    trio.run(_tell, account, secret)


def _lost(opened: Opened) -> OnlyHere:
    """Find out what is only here; a disk that does not tell any more is no reason to leave it readable."""
    try:
        return only_here(opened.folder, None if opened.keys is None else opened.keys.database)
    except OSError as error:
        _log.warning("it is not known what is lost: %s", error)
        return OnlyHere()


def _is_noted(folders: Folders, name: str, note: Wiped) -> bool:
    """Leave the note. Nothing is to stay readable for want of room for it."""
    try:
        note_wiped(folders, name, note)
    except UserError as error:
        _log.warning("%s", error.message)
        return False
    return True


def _emptied(folder: Path, but: AbstractSet[Path] = frozenset()) -> list[str]:
    """Remove what is in a folder, but for that; return what stays all the same."""
    stays: list[str] = []

    def note(_call: Callable[..., object], path: str, error: object) -> None:
        if not isinstance(error, tuple) or not isinstance(error[1], FileNotFoundError):
            stays.append(path)

    for path in set(folder.iterdir()) - but:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, onerror=note)
            continue
        try:
            path.unlink(missing_ok=True)
        except OSError:
            stays.append(str(path))
    return stays


async def _forget_key(folders: Folders, name: str) -> None:
    try:
        with trio.fail_after(_KEYRING_S):
            await forget_key(folders, name, find(folders.account_state(name)))
    except (CloudfsError, OSError, trio.TooSlowError) as error:
        _log.error("the key of what was encrypted cannot be removed: %s", error)  # no bug


async def _forget(folders: Folders, name: str, account: Account) -> None:
    """Take the password away from wherever it may be. In a locked keyring it stays: it opens nothing any more."""
    for kind in ("file", "keyring"):
        store = store_of(folders, name, kind)
        if isinstance(store, Writable):
            try:
                with trio.fail_after(_KEYRING_S):
                    await store.delete()
            except (CloudfsError, trio.TooSlowError) as error:
                if kind == account.secret_store:
                    _log.warning("the password, which is worthless now, stays %s: %s", store.place, error)


async def _tell(account: Account, secret: str) -> None:
    """Tell the server, which tells its user; a few tries, since nothing here remembers it afterwards."""
    with trio.move_on_after(_TELL_S):
        for _ in range(_TRIES):
            try:
                await tell_wiped(account.base_url, secret, context_of(account))
            except RemoteError as error:
                _log.warning("the server cannot be told that it is done: %s", error)
                await trio.sleep(_PAUSE_S)
            else:
                return
