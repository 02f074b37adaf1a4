"""The password in the desktop's keyring (GNOME Keyring, KWallet, KeePassXC), by the Secret Service on its bus."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, TypeVar, TypeVarTuple
from urllib.parse import quote

import trio

from cloudfs.concurrency.threads import in_secret_thread
from cloudfs.config import SecretKind
from cloudfs.secrets.protocol import KeyringAway, SecretMissing, is_usable

__all__ = ["KeyringState", "KeyringStore", "look"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

KeyringState = Literal["absent", "silent", "locked", "ready"]

_AT_ONCE_S = 5.0
"""A keyring that is there answers in a hundredth of that; one that the bus has to start first takes a second or two."""
_ANSWER_S = 60.0
"""KeePassXC asks a person before it hands something out."""
_PROMPT_S = 600.0


class KeyringStore:
    """One item of the default collection; found by the account's state folder, which no other account shares."""

    kind: SecretKind = "keyring"
    place = "in the keyring"

    def __init__(self, state: Path, account: str, environ: Mapping[str, str] | None = None) -> None:
        """`state` is the folder of all accounts' state."""
        self._user = str(state / account)
        self._account = account
        self._environ = environ

    async def read(self) -> str:
        """Return the password, within a minute. Never has a person asked to unlock the keyring."""
        secret = await self._ask(_ANSWER_S, _read, self._user)
        if secret is None:
            raise SecretMissing("The keyring has no password for this account.", self._account)
        if not is_usable(secret):
            raise SecretMissing("What the keyring has for this account is no password.", self._account)
        return secret

    async def write(self, secret: str) -> None:
        """Keep it, within a minute. Given up, it may still arrive; the login that it was for has failed by then."""
        await self._ask(_ANSWER_S, _write, self._user, secret)

    async def delete(self) -> None:
        """Forget it, within a minute."""
        await self._ask(_ANSWER_S, _delete, self._user)

    async def unlock(self) -> None:
        """Have the person asked; ten minutes at most. Raises KeyringAway where there is no keyring."""
        await self._ask(_PROMPT_S, _unlock)

    async def _ask(self, patience_s: float, call: Callable[[str, *Ts], T], *args: *Ts) -> T:
        address = _bus_address(self._environ)
        if address is None:
            raise KeyringAway("There is no keyring: no session bus.")
        await in_secret_thread(_load)
        with trio.move_on_after(patience_s):  # the thread is left alone then
            return await in_secret_thread(call, address, *args)
        raise KeyringAway("The keyring does not answer.")


async def look(environ: Mapping[str, str] | None = None) -> KeyringState:
    """Tell within five seconds whether there is a keyring, without asking anybody; silent: it does not answer."""
    address = _bus_address(environ)
    if address is None:
        return "absent"
    found: KeyringState = "silent"
    await in_secret_thread(_load)
    with trio.move_on_after(_AT_ONCE_S):
        try:
            found = await in_secret_thread(_look, address)
        except KeyringAway:  # no bus where one should be, or what the bus should start does not
            found = "absent"
    return found


def _bus_address(environ: Mapping[str, str] | None) -> str | None:
    """Return where the session bus is; cron and some ssh servers forget to say so, and it is where it always is."""
    environ = os.environ if environ is None else environ
    told = environ.get("DBUS_SESSION_BUS_ADDRESS")
    if told:
        return told
    path = Path(environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}") / "bus"
    return f"unix:path={quote(str(path), safe='/-_.')}" if path.is_socket() else None


# In a thread. What they import takes a tenth of a second and 10 MB, so only who has a keyring pays for it.


def _load() -> None:
    """What a slow disk takes for this is not the keyring's fault."""
    from cloudfs.secrets import service

    del service


def _read(address: str, user: str) -> str | None:
    from cloudfs.secrets import service

    return service.read(address, user)


def _write(address: str, user: str, secret: str) -> None:
    from cloudfs.secrets import service

    service.write(address, user, secret)


def _delete(address: str, user: str) -> None:
    from cloudfs.secrets import service

    service.delete(address, user)


def _unlock(address: str) -> None:
    from cloudfs.secrets import service

    service.unlock(address)


def _look(address: str) -> KeyringState:
    from cloudfs.secrets import service

    return service.look(address)
