"""Where the key of an account's encryption is kept: beside the password, under a name of its own."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from shlex import quote
from typing import TypeVar

import trio

from cloudfs import config
from cloudfs.blocks.sealing import KEY_BYTES, Cipher, Keys, quick_cipher
from cloudfs.config import Folders, SecretKind
from cloudfs.errors import ExitCode, UserError
from cloudfs.secrets.credential import CredentialStore
from cloudfs.secrets.file import FileStore
from cloudfs.secrets.keyring import KeyringStore
from cloudfs.secrets.memory import close_memory
from cloudfs.secrets.protocol import KeyringAway, Lockable, SecretStore, Writable
from cloudfs.vault.place import Place, find, note_keys, noted_keys

__all__ = [
    "Waits",
    "forget_key",
    "forget_unused",
    "keep_new_key",
    "place_of_key",
    "read_keys",
    "wait_for_keys",
    "wait_to_keep_new_key",
]

_log = logging.getLogger(__name__)

T = TypeVar("T")
Waits = Callable[[str], None]

_POLL_S = 2.0
_PATIENCE_S = 45.0
"""A locked keyring is waited for so long where somebody waits for the outcome: `cloudfs mount` does for a minute."""


class _KeyFile(FileStore):
    """A file of mode 0600 in the account's folder: only for who asks for it, as whoever copies the disk has it too."""

    def __init__(self, folders: Folders, account: str, name: str) -> None:
        super().__init__(folders, account)
        self._path = folders.state / account / name

    @property
    def path(self) -> Path:
        return self._path

    async def read(self) -> str:
        return config.read_secret_file(
            self._path,
            "Put it back from a backup: nothing else opens what it has sealed.",
            f"`chmod go= {quote(str(self._path))}`; then take another key, as others may have this one:"
            f" `cloudfs cache rekey {self._account}`.",
        )

    async def write(self, secret: str) -> None:
        config.write_private(self._path, secret.encode() + b"\n")


def _name_of(check: str) -> str:
    return f"cache-key-{check[:8]}"


def _store(folders: Folders, account: str, kind: SecretKind, check: str) -> SecretStore:
    """Return what keeps the key that `check` names: a new one never takes the place of an old one."""
    name = _name_of(check)
    match kind:
        case "keyring":
            return KeyringStore(folders.state, f"{account}/{name}")
        case "credential":
            return CredentialStore(f"{account}-cache-key")
        case "file":
            return _KeyFile(folders, account, name)


def place_of_key(folders: Folders, account: str, place: Place) -> str:
    """Say where the key is, in words that go on after "kept"."""
    assert place.key is not None  # noqa: S101  # asked of sealed ones only
    return _store(folders, account, place.key, place.check).place


async def read_keys(folders: Folders, account: str, place: Place) -> Keys | None:
    """Return the keys of the present place, None for a plain one. Raises KeyringAway, UserError.

    The memory of a process that has them is closed for good.
    """
    if place.key is None:
        return None
    close_memory()
    store = _store(folders, account, place.key, place.check)
    keys = _parse(await store.read(), Cipher(place.cipher), store.place)
    if keys.check != place.check:
        raise _wrong(
            f"The key that is kept {store.place} is not the one that the files of {account} are sealed with."
        )
    return keys


def wait_for_keys(
    folders: Folders, account: str, place: Place, *, may_prompt: bool, waits: Waits | None = None
) -> Keys | None:
    """Do as `read_keys`, and wait for a keyring that is locked or not there yet; blocking.

    For a while, or, with `waits`, for as long as it takes: that hears at each look what is waited for, then "". Raises
    UserError: nothing is opened, and nothing was changed.
    """
    prompt = partial(_prompt, folders, account, place) if may_prompt else None
    return _patiently(
        partial(_locked, account), lambda: read_keys(folders, account, place), prompt, waits=waits
    )


def wait_to_keep_new_key(
    folders: Folders, account: str, kind: SecretKind, *, waits: Waits | None = None
) -> tuple[Place, Keys]:
    """Do as `keep_new_key`, and wait for a keyring as `wait_for_keys` does; blocking. Raises UserError."""
    return _patiently(
        partial(_nowhere, account), lambda: keep_new_key(folders, account, kind), None, waits=waits
    )


def _patiently(
    refusal: Callable[[KeyringAway], UserError],
    work: Callable[[], Awaitable[T]],
    prompt: Callable[[], Awaitable[None]] | None,
    *,
    waits: Waits | None,
) -> T:
    async def wait() -> T | UserError:
        ask, said = prompt, ""
        until = math.inf if waits else trio.current_time() + _PATIENCE_S
        async with trio.open_nursery() as nursery:
            while True:
                try:
                    done: T | UserError = await work()
                except KeyringAway as error:
                    if trio.current_time() <= until:
                        if error.locked and ask is not None:
                            nursery.start_soon(ask)
                            ask = None
                        said = _say(error, said, waits)
                        await trio.sleep(_POLL_S)
                        continue
                    done = refusal(error)
                except UserError as error:
                    done = error
                nursery.cancel_scope.cancel()  # an answer to the prompt is not waited for any more
                if said and waits:
                    waits("")
                return done

    found = trio.run(wait)
    if isinstance(found, UserError):
        raise found
    return found


def _say(error: KeyringAway, said: str, waits: Waits | None) -> str:
    """Tell what is waited for: the log once, whoever wants to know each time."""
    sentence = f"waiting for the keyring, which has the key of what is encrypted here: {error.message}"
    if sentence != said:
        _log.info("%s", sentence)
    if waits:
        waits(sentence)
    return sentence


async def _prompt(folders: Folders, account: str, place: Place) -> None:
    store = _store(folders, account, place.key or "keyring", place.check)
    if isinstance(store, Lockable):
        with suppress(UserError):
            await store.unlock()


async def keep_new_key(folders: Folders, account: str, kind: SecretKind) -> tuple[Place, Keys]:
    """Make a key and keep it; or take the one that systemd hands out. Returns a place without a folder yet.

    The memory of the process is closed for good. The key has been read back from where it is kept. Raises KeyringAway,
    UserError.
    """
    close_memory()
    cipher = quick_cipher()
    if kind == "credential":
        store = _store(folders, account, kind, "")
        keys = _parse(await store.read(), cipher, store.place)
        return Place(key=kind, cipher=cipher.value, check=keys.check), keys
    key = os.urandom(KEY_BYTES)
    keys = Keys(key, cipher)
    place = Place(key=kind, cipher=cipher.value, check=keys.check)
    store = _store(folders, account, kind, keys.check)
    assert isinstance(store, Writable)  # noqa: S101  # only systemd's is not
    state = folders.state / account
    note_keys(state, [*noted_keys(state), place])
    await store.write(key.hex())
    await read_keys(folders, account, place)
    return place, keys


async def forget_key(folders: Folders, account: str, place: Place) -> None:
    """Take away a key that opens nothing any more. Raises UserError."""
    if place.key is None:
        return
    store = _store(folders, account, place.key, place.check)
    if isinstance(store, Writable):
        await store.delete()


async def forget_unused(folders: Folders, account: str) -> None:
    """Take away the keys that a change has left which was cut off by a kill. The others stay noted."""
    state = folders.state / account
    present, left = find(state), []
    for place in noted_keys(state):
        if _name_of(place.check) == _name_of(present.check):
            continue
        try:
            await forget_key(folders, account, place)
        except UserError as error:
            _log.info("a key that opens nothing any more stays where it is for now: %s", error.message)
            left.append(place)
    note_keys(state, left)


def _parse(text: str, cipher: Cipher, place: str) -> Keys:
    with suppress(ValueError):
        return Keys(bytes.fromhex(text), cipher)
    raise _wrong(f"What is kept {place} is no key: 64 hexadecimal digits.")


def _wrong(message: str) -> UserError:
    return UserError(
        message,
        hint="Nothing was opened or changed. Bring the right key back; docs/CONFIG.md, `cache_key`, tells where it is.",
        code=ExitCode.BAD_CONFIG,
    )


def _locked(account: str, error: KeyringAway) -> UserError:
    return UserError(
        f"What is kept here of {account} is encrypted, and its key cannot be read: {error.message}",
        hint="Unlock the keyring and mount again; nothing was changed.",
        code=ExitCode.NOT_DONE,
    )


def _nowhere(account: str, error: KeyringAway) -> UserError:
    return UserError(
        f"There is nowhere to keep a new key of {account}: {error.message}",
        hint="Nothing was changed. Unlock the keyring and try again, or name another place with `--key`.",
        code=ExitCode.NOT_DONE,
    )
