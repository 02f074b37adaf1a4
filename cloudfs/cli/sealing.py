"""`cloudfs cache encrypt`, `decrypt`, `rekey`, `lock` and `recovered`."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext, redirect_stdout
from pathlib import Path

import msgspec

from cloudfs import config
from cloudfs.cli.common import pick
from cloudfs.cli.output import harmless, print_json
from cloudfs.cli.unmount import unmount_account
from cloudfs.config import Folders, SecretKind
from cloudfs.control.instance import hold
from cloudfs.errors import CloudfsError, ExitCode, UserError
from cloudfs.vault.keyholding import place_of_key
from cloudfs.vault.opening import convert
from cloudfs.vault.place import Place, find
from cloudfs.vault.rescuing import rescue

__all__ = ["decrypt", "encrypt", "lock", "recovered", "rekey"]


class Sealing(msgspec.Struct, frozen=True):
    """How an account is kept here now, as `--json` prints it."""

    account: str
    encrypted: bool
    cipher: str = ""
    key: str = ""
    """Where it is kept, in words."""
    changed: bool = True
    """False: it was so already."""


def encrypt(what: str | None, *, key: SecretKind | None, as_json: bool) -> None:
    """Seal what is kept of an account; nothing happens where it is sealed already."""
    folders = Folders.from_environment()
    name = pick(folders, what)
    with hold(folders.account_state(name), name):
        if (place := find(folders.account_state(name))).key is not None:
            if as_json:
                print_json(_sealing(folders, name, place, changed=False))
                return
            print(f"What is kept here of {name} is encrypted already; `cloudfs cache rekey` takes a new key.")
            return
        place = _convert(
            folders, name, key or config.load_account(folders, name).settings.cache_key or "keyring"
        )
    if as_json:
        print_json(_sealing(folders, name, place))
        return
    print(f"What is kept here of {name} is encrypted from now on ({place.cipher}).")
    print(f"The key is kept {place_of_key(folders, name, place)}. Without it what was not sent yet is lost.")
    print(
        "What was on the disk before is deleted, not overwritten: a disk may give it back to who looks closely."
    )


def decrypt(what: str | None, *, as_json: bool) -> None:
    """Have what is kept of an account plain; nothing happens where it is."""
    folders = Folders.from_environment()
    name = pick(folders, what)
    with hold(folders.account_state(name), name):
        if find(folders.account_state(name)).key is None:
            if as_json:
                print_json(Sealing(name, encrypted=False, changed=False))
                return
            print(f"What is kept here of {name} is not encrypted.")
            return
        _convert(folders, name, None)
    if as_json:
        print_json(Sealing(name, encrypted=False))
        return
    print(f"What is kept here of {name} is not encrypted any more, and its key is gone.")


def rekey(what: str | None, *, key: SecretKind | None, as_json: bool) -> None:
    """Seal everything anew, with a new key."""
    folders = Folders.from_environment()
    name = pick(folders, what)
    with hold(folders.account_state(name), name):
        place = find(folders.account_state(name))
        if place.key is None:
            raise UserError(
                f"What is kept here of {name} is not encrypted.",
                hint="`cloudfs cache encrypt` does that.",
                code=ExitCode.NOT_DONE,
            )
        place = _convert(folders, name, key or place.key)
    if as_json:
        print_json(_sealing(folders, name, place))
        return
    print(f"What is kept here of {name} has a new key, kept {place_of_key(folders, name, place)}.")


def lock(what: str | None, *, lazy: bool, as_json: bool) -> None:
    """Unmount; no process has the key in its memory afterwards."""
    folders = Folders.from_environment()
    name = pick(folders, what)
    place = find(folders.account_state(name))
    if place.key is None:
        raise UserError(
            f"What is kept here of {name} is not encrypted: there is nothing to lock.",
            hint="`cloudfs cache encrypt` does that.",
            code=ExitCode.NOT_DONE,
        )
    try:
        with redirect_stdout(sys.stderr) if as_json else nullcontext():
            unmount_account(name, lazy=lazy, wait=False, timeout_s=None)
    except UserError as error:
        if error.code is not ExitCode.NOT_MOUNTED:
            raise
    if as_json:
        print_json(_sealing(folders, name, place))
        return
    print(f"{name} is locked: no process has its key. It is kept {place_of_key(folders, name, place)};")
    print("who may read that may mount it again. Lock the keyring, too, if others use this session.")


def recovered(what: str | None, *, to: str | None, as_json: bool) -> None:
    """Copy what was rescued after damage out of a sealed account, readable, into a folder."""
    folders = Folders.from_environment()
    name = pick(folders, what)
    if to is None:
        raise UserError("Where to?", hint="Name a folder with --to FOLDER.", code=ExitCode.USAGE)
    with hold(folders.account_state(name), name):
        told = rescue(folders, name, Path(os.path.abspath(to)))  # noqa: PTH100  # not through links
        if as_json:
            print_json(list(told))
            return
        for line in told:
            print(harmless(line))


def _sealing(folders: Folders, name: str, place: Place, *, changed: bool = True) -> Sealing:
    return Sealing(
        name, encrypted=True, cipher=place.cipher, key=place_of_key(folders, name, place), changed=changed
    )


def _convert(folders: Folders, name: str, kind: SecretKind | None) -> Place:
    """Change it, and have the account's file say so, so that no mount changes it back."""
    try:
        place = convert(folders, name, kind)
    except (CloudfsError, OSError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"Nothing was changed: {error}.",
            hint="Mount the account and look at `cloudfs status`, or free some disk space; then do it again.",
            code=ExitCode.NOT_DONE,
        ) from error
    account = config.load_account(folders, name)
    settings = msgspec.structs.replace(account.settings, cache_encrypt=kind is not None, cache_key=kind)
    config.save_account(folders, name, msgspec.structs.replace(account, settings=settings))
    return place
