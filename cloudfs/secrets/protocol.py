"""What all places for an app password have in common. Each object is about one account's."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from cloudfs.config import SECRET_MAX_BYTES, SecretKind
from cloudfs.errors import ExitCode, UserError

__all__ = ["KeyringAway", "Lockable", "SecretMissing", "SecretStore", "Writable", "is_usable"]


class KeyringAway(UserError):
    """The keyring is locked, does not answer, or is not there: all of that may end by itself."""

    def __init__(self, message: str, *, locked: bool = False) -> None:
        first = "Unlock it, or keep" if locked else "Keep"
        elsewhere = "the password elsewhere: `cloudfs login --secret-store file`."
        super().__init__(message, hint=f"{first} {elsewhere}", code=ExitCode.NOT_DONE)
        self.locked = locked
        """It is there, and waits for a person."""


class SecretMissing(UserError):
    """The place is there, and a usable password is not in it: a new login puts one there."""

    def __init__(self, message: str, account: str) -> None:
        super().__init__(
            message, hint=f"Log in again: `cloudfs login --account {account}`.", code=ExitCode.BAD_CONFIG
        )


class SecretStore(Protocol):
    """Hands out the password. Nothing here waits longer than it says, or shows a secret in an error."""

    @property
    def kind(self) -> SecretKind:
        """As the account's file names it."""
        ...

    @property
    def place(self) -> str:
        """Where that is, in words that go on after "kept"."""
        ...

    async def read(self) -> str:
        """Return the password. Raises KeyringAway, SecretMissing, or UserError where only a person can help."""
        ...


@runtime_checkable
class Writable(SecretStore, Protocol):
    """We put the password there ourselves, and take it away."""

    async def write(self, secret: str) -> None:
        """Keep it in place of what was there. Raises UserError."""
        ...

    async def delete(self) -> None:
        """Forget it; nothing happens where there is none. Raises UserError."""
        ...


@runtime_checkable
class Lockable(SecretStore, Protocol):
    """A person may have to unlock it."""

    async def unlock(self) -> None:
        """Have the person asked, on their screen; returns when that is over, however it went, or after minutes."""
        ...


def is_usable(secret: str) -> bool:
    """Tell whether it can be a password at all: some text on one line."""
    return bool(secret) and len(secret.encode()) <= SECRET_MAX_BYTES and secret.isprintable()
