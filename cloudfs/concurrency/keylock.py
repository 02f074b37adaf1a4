"""One lock per key: whoever works on one inode waits for its turn, all other inodes go on."""

from __future__ import annotations

from collections.abc import Hashable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Generic, TypeVar

import msgspec
import trio

__all__ = ["KeyLockStatistics", "KeyedLock"]

K = TypeVar("K", bound=Hashable)


class KeyLockStatistics(msgspec.Struct, frozen=True):
    """A moment of one KeyedLock."""

    held: int
    """Keys that somebody holds."""
    waiting: int
    """Tasks that wait for a key somebody else holds."""


class _Entry:
    """The lock of one key, and how many tasks hold it or wait for it."""

    __slots__ = ("lock", "users")

    def __init__(self) -> None:
        self.lock = trio.Lock()
        self.users = 0


class KeyedLock(Generic[K]):
    """`async with locks(key):` gives the key to one task after the other, in the order they asked.

    Not re-entrant: a task that asks for a key it holds gets trio's RuntimeError instead of a deadlock.
    INVARIANT: a key is in the table exactly while a task holds it or waits for it, so idle keys cost nothing.
    """

    def __init__(self) -> None:
        self._entries: dict[K, _Entry] = {}

    def __call__(self, key: K) -> AbstractAsyncContextManager[None]:
        """Return the critical section of `key`; entering it is a checkpoint, leaving it is none."""
        return _Section(self._entries, key)

    def locked(self, key: K) -> bool:
        """Tell whether any task holds `key`."""
        return key in self._entries

    def statistics(self) -> KeyLockStatistics:
        """Count held keys and waiting tasks."""
        users = sum(entry.users for entry in self._entries.values())
        return KeyLockStatistics(held=len(self._entries), waiting=users - len(self._entries))


class _Section(Generic[K]):
    """One use of one key."""

    __slots__ = ("_entries", "_key")

    def __init__(self, entries: dict[K, _Entry], key: K) -> None:
        self._entries = entries
        self._key = key

    async def __aenter__(self) -> None:
        entry = self._entries.get(self._key)
        if entry is None:
            entry = self._entries[self._key] = _Entry()
        entry.users += 1
        try:
            await entry.lock.acquire()
        except BaseException:
            self._leave(entry)
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        entry = self._entries[self._key]
        entry.lock.release()
        self._leave(entry)

    def _leave(self, entry: _Entry) -> None:
        entry.users -= 1
        if not entry.users:
            del self._entries[self._key]
