"""Where `cloudfs login` puts a password, and how the commands get at it."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import NamedTuple

import trio

from cloudfs.cli.browser import has_local_screen
from cloudfs.config import Account, Folders, SecretKind
from cloudfs.errors import ExitCode, UserError
from cloudfs.secrets.keyring import KeyringStore, look
from cloudfs.secrets.memory import close_memory
from cloudfs.secrets.protocol import KeyringAway, Lockable, SecretStore, Writable
from cloudfs.secrets.stores import store_of

__all__ = ["Choice", "choose_store", "forget", "forget_everywhere", "keep", "open_store", "read_secret"]


_POLL_S = 1.0


class Choice(NamedTuple):
    """Where a password will be kept."""

    kind: SecretKind
    why: str = ""
    """For people, where it is not what they asked for; goes on after a sentence without its dot."""


def choose_store(folders: Folders, name: str, known: Account | None, wanted: SecretKind | None) -> Choice:
    """Decide where the password of a login will be kept, before anybody logs in.

    As `wanted`, else as before, else in the keyring. Where there is none a file is used if somebody asked for that:
    a person at the terminal, who is asked, or whoever put all that is kept below CLOUDFS_HOME. Raises UserError where
    nobody did, and where the keyring cannot be used.
    """
    kind = wanted or (known.secret_store if known else None)
    if kind is None:
        state = trio.run(look)
        if state == "absent":
            return _file_instead()
        kind = "keyring"
    store = store_of(folders, name, kind)
    if isinstance(store, KeyringStore):
        _require_open(store)
    return Choice(kind)


def _file_instead() -> Choice:
    if sys.stdin.isatty() and sys.stdout.isatty():
        question = "There is no keyring here. Keep the password in a file that only you can read? [Y/n] "
        if not _agrees(question):
            raise UserError(
                "Nothing was done: there is nowhere to keep the password.",
                hint="A systemd credential is another way: docs/CONFIG.md, `secret_store`.",
                code=ExitCode.NOT_DONE,
            )
        return Choice("file")
    if os.environ.get("CLOUDFS_HOME"):
        return Choice("file", "; there is no keyring here (--secret-store chooses)")
    raise UserError(
        "Nothing was done: there is no keyring here to keep the password in.",
        hint="With `--secret-store file` it is kept in a file that only you can read (0600).",
        code=ExitCode.NOT_DONE,
    )


def _agrees(question: str) -> bool:
    try:
        return input(question).strip().lower() in {"", "y", "yes"}
    except EOFError:
        print()
        return False


def _require_open(store: KeyringStore) -> None:
    """Raise KeyringAway unless it can be used now; a person at the screen is asked to unlock it."""
    state = trio.run(look)
    if state == "locked":
        open_store(store)
        state = trio.run(look)
    match state:
        case "absent":
            raise KeyringAway("There is no keyring on this machine.")
        case "silent":
            raise KeyringAway("The keyring does not answer.")
        case "locked":
            raise KeyringAway("The keyring is locked.", locked=True)


def open_store(store: SecretStore) -> None:
    """Have a person at the screen asked to unlock it; nothing happens where there is no screen."""
    if isinstance(store, Lockable) and has_local_screen(os.environ):
        sys.stderr.write("Waiting until the keyring is unlocked; Ctrl-C gives up.\n")
        trio.run(_opened, store)


async def _opened(store: Lockable) -> None:
    """Return once a person has answered, or has unlocked it in another way, which ends no prompt."""
    async with trio.open_nursery() as nursery:

        async def ask() -> None:
            with suppress(KeyringAway):  # whoever goes on with it finds out
                await store.unlock()
            nursery.cancel_scope.cancel()

        nursery.start_soon(ask)
        while await look() == "locked":  # noqa: ASYNC110  # another program's
            await trio.sleep(_POLL_S)
        nursery.cancel_scope.cancel()


def read_secret(folders: Folders, name: str, account: Account) -> str:
    """Return an account's password; a person may be asked to unlock the keyring for it. Raises UserError."""
    close_memory()
    store = store_of(folders, name, account.secret_store)
    try:
        return trio.run(store.read)
    except KeyringAway as error:
        if not error.locked:
            raise
    open_store(store)
    return trio.run(store.read)


def keep(folders: Folders, name: str, kind: SecretKind, secret: str) -> None:
    """Put a password where it belongs. One of systemd's is there already."""
    store = store_of(folders, name, kind)
    if isinstance(store, Writable):
        trio.run(store.write, secret)


def forget(folders: Folders, name: str, kind: SecretKind) -> None:
    """Take a password away from where we have put it. Raises UserError."""
    store = store_of(folders, name, kind)
    if isinstance(store, Writable):
        trio.run(store.delete)


def forget_everywhere(folders: Folders, name: str, account: Account) -> None:
    """Take it away from wherever it may be; a line for people where it is left behind."""
    forget(folders, name, "file")
    state, store = trio.run(look), store_of(folders, name, account.secret_store)
    if not isinstance(store, KeyringStore) and state != "ready":
        return  # a login that moved it elsewhere has taken it away from there
    if state == "locked":
        open_store(store)
    try:
        forget(folders, name, "keyring")
    except KeyringAway as error:
        sys.stderr.write(f"{error.message} The password is still in it, for whoever opens it.\n")
