"""What files tell of themselves as extended attributes, and what can be said about them in that way."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import trio

from cloudfs.account.inspection import Inspection
from cloudfs.concurrency.supervise import attempt
from cloudfs.engine import Engine
from cloudfs.errors import PosixError
from cloudfs.store.records import Node
from cloudfs.types import Ino, Pin

__all__ = ["FileXattrs"]

_PIN = "pin"
_UNSET = "unset"


class FileXattrs:
    """One account's, by their names behind `user.cloudfs.`; used on the loop's thread.

    `nursery` has what a word sets off go on when the program has its answer.
    """

    def __init__(self, engine: Engine, nursery: trio.Nursery) -> None:
        self._engine = engine
        self._nursery = nursery
        self._told: Mapping[str, Callable[[Node], str | int | None]] = {
            "policy": self._policy,
            "state": lambda node: Inspection(engine).state(node).state,
            "here": lambda node: Inspection(engine).state(node).here,
            "here_bytes": lambda node: Inspection(engine).state(node).here_bytes,
            "reason": lambda node: Inspection(engine).info(node).reason or None,
            "etag": lambda node: node.s_etag,
            "file_id": lambda node: node.s_file_id,
            "checksum": lambda node: node.s_checksum,
        }

    def names(self, ino: Ino) -> Sequence[str]:
        """Return `pin` where somebody said something about this very file or folder.

        Not what merely tells: copies (`cp -a`, `rsync -X`, backups) would carry it along, and be wrong.
        """
        return [] if self._engine.store.pins.get(ino) is None else [_PIN]

    def get(self, ino: Ino, name: str) -> bytes:
        """Return a value; ENODATA where there is none, or no such name."""
        node = self._engine.tree.node(ino)
        if name == _PIN:
            said = self._engine.store.pins.get(ino)
            value: str | int | None = None if said is None else said.value
        else:
            value = self._told[name](node) if name in self._told else None
        if value is None:
            raise PosixError(errno.ENODATA, name)
        return str(value).encode()

    async def set(self, ino: Ino, name: str, value: bytes) -> None:
        """Say how a file or folder is kept, as `cloudfs pin`, `free` and `unpin` do. What is freed goes afterwards."""
        if name != _PIN:
            raise PosixError(errno.EPERM if name in self._told else errno.EOPNOTSUPP, name)
        word = value.decode(errors="replace").strip("\0\n ")
        if word in {"", _UNSET}:
            await self._say(ino, None)
        elif word in {pin.value for pin in Pin}:
            await self._say(ino, Pin(word))
        else:
            raise PosixError(errno.EINVAL, name)

    async def remove(self, ino: Ino, name: str) -> None:
        """Take back what was said about it; ENODATA where nothing was."""
        if name in self._told:
            raise PosixError(errno.EPERM, name)
        if name != _PIN or self._engine.store.pins.get(ino) is None:
            raise PosixError(errno.ENODATA, name)
        await self._say(ino, None)

    async def _say(self, ino: Ino, pin: Pin | None) -> None:
        engine = self._engine
        engine.tree.node(ino)  # ENOENT where it is gone
        engine.keeper.say(ino, pin)
        await engine.keeper.save()
        engine.hydrator.wake()
        if pin is Pin.ONLINE_ONLY:
            self._nursery.start_soon(attempt, "freeing", partial(engine.hydrator.free, ino))

    def _policy(self, node: Node) -> str:
        """Return what holds, by a word about it or a folder above, or by the account's defaults."""
        stand = self._engine.keeper.stand(node.ino)
        if stand is not None and stand.said is not None:
            return stand.said.value
        kept = stand is not None and stand.keeps(self._engine.keeper.defaults, node.size)
        return Pin.ALWAYS_LOCAL.value if kept else _UNSET
