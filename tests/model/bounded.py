"""The kernel boundary's deadline around a file system: no request may outlast it, and some may not wait at all."""

from __future__ import annotations

import errno
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from cloudfs.errors import PosixError
from cloudfs.vfs.filesystem import FileSystem

__all__ = ["Bounded"]

_LOCAL = frozenset(
    ["flush", "fsync", "fsync_folder", "getattr", "forget", "read_folder", "release", "release_folder"]
)
"""What never waits for the network, whatever the server does."""
_DISK_S = 60.0
"""How long a slow disk of `virtual` may take for one of them."""


class Bounded:
    """A `FileSystem` whose requests end at the deadline with ETIMEDOUT, as `fuse.boundary` has it."""

    def __init__(self, filesystem: FileSystem, deadline_s: float) -> None:
        self._filesystem = filesystem
        self._deadline_s = deadline_s

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._filesystem, name)
        if not inspect.iscoroutinefunction(found):
            return found
        bounded = self._bounded(name, found)
        setattr(self, name, bounded)
        return bounded

    def _bounded(self, name: str, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        # A failed read-ahead is asked for once more by the kernel before the program gets its answer.
        limit_s = self._deadline_s / 2 if name == "read" else self._deadline_s

        async def request(*args: Any, **kwargs: Any) -> Any:
            began = trio.current_time()
            try:
                with trio.CancelScope(deadline=began + limit_s):
                    return await call(*args, **kwargs)
            finally:
                self._judge(name, trio.current_time() - began, limit_s)
            raise PosixError(errno.ETIMEDOUT, name)

        return request

    @staticmethod
    def _judge(name: str, took_s: float, limit_s: float) -> None:
        # What the disk is waited for is not cancelled.
        assert took_s <= limit_s + _DISK_S / 10, f"{name} was answered after {took_s:g} s"
        assert name not in _LOCAL or took_s <= _DISK_S / 10, f"{name} waited for {took_s:g} s"
