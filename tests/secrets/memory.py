"""A keyring in memory."""

from __future__ import annotations

import trio

from cloudfs.config import SecretKind
from cloudfs.secrets.protocol import KeyringAway, Lockable, SecretMissing, Writable


class MemoryKeyring:
    """Locked at first, and answered by a person who has yet to come."""

    kind: SecretKind = "keyring"
    place = "in memory"

    def __init__(self, secret: str | None = None, *, locked: bool = False, there: bool = True) -> None:
        self.secret = secret
        self.locked = locked
        self.there = there
        self.answers = trio.Event()
        """Not set: whoever asks waits."""
        self.answers.set()
        self.reads = self.prompts = 0
        self.answered = trio.Event()
        """A person has given the keyring's own password."""

    async def read(self) -> str:
        self.reads += 1
        await self.answers.wait()
        if not self.there or self.locked:
            raise KeyringAway("The keyring is locked." if self.there else "There is none.", locked=self.there)
        if self.secret is None:
            raise SecretMissing("The keyring has no password for this account.", "a")
        return self.secret

    async def write(self, secret: str) -> None:
        self.secret = secret

    async def delete(self) -> None:
        self.secret = None

    async def unlock(self) -> None:
        self.prompts += 1
        await self.answered.wait()
        self.locked = False


def is_a_store() -> tuple[Writable, Lockable]:
    """For the type checker."""
    return MemoryKeyring(), MemoryKeyring()
