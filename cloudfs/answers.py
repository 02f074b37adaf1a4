"""What the control socket is asked about an engine beyond its status: see `control.records` for questions and answers.

Everything here answers from memory, the local database and the block cache: no request is sent.
"""

from __future__ import annotations

from collections.abc import Mapping

import trio

from cloudfs.control.methods import Method, Tell, method
from cloudfs.control.records import FileInfo, FileState, Nothing, PathOf, Paused, Space, Transfer
from cloudfs.engine import Engine
from cloudfs.errors import ExitCode, UserError
from cloudfs.inspection import Inspection
from cloudfs.store.records import Node

__all__ = ["Answers"]

_PART = 50
"""Files told of between two checkpoints, about 5 ms."""


class Answers:
    """The answers for one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def methods(self) -> Mapping[str, Method]:
        """By the names of the requests."""
        return {
            "pause": method(Nothing, self._pause),
            "resume": method(Nothing, self._resume),
            "list": method(PathOf, self._list),
            "info": method(PathOf, self._info),
        }

    # Pausing

    async def _pause(self, _: Nothing, _tell: Tell) -> Paused:
        self._engine.pause.begin()
        # Kept before it is answered, and what is broken off has the time to be so.
        await self._engine.store.make_durable()
        await trio.lowlevel.checkpoint()
        return self._paused()

    async def _resume(self, _: Nothing, _tell: Tell) -> Paused:
        self._engine.pause.end()
        await self._engine.store.make_durable()
        return self._paused()

    def _paused(self) -> Paused:
        engine = self._engine
        return Paused(engine.pause.since, engine.store.nodes.count_dirty(), len(engine.worker.in_flight()))

    # Files

    async def _list(self, wanted: PathOf, _tell: Tell) -> list[FileState]:
        node = self._node_at(wanted.path)
        look = Inspection(self._engine)
        if not node.folder:
            return [look.state(node)]
        found = []
        for count, member in enumerate(self._engine.store.nodes.children(node.ino), 1):
            found.append(look.state(member))
            if not count % _PART:
                await trio.lowlevel.checkpoint()
        return sorted(found, key=lambda it: it.path)

    async def _info(self, wanted: PathOf, _tell: Tell) -> FileInfo:
        return Inspection(self._engine).info(self._node_at(wanted.path))

    def _node_at(self, path: str) -> Node:
        node = self._engine.tree.resolve(path)
        if node is None:
            raise UserError(
                f"Nothing is known of {path} in the mount.", hint="Check the path.", code=ExitCode.USAGE
            )
        return node

    # For the status

    def transfers(self) -> list[Transfer]:
        """Return what is on its way, uploads first."""
        up = [
            Transfer(it.path, "up", it.done_bytes, it.size_bytes, it.bytes_per_s)
            for it in self._engine.uploads.under_way()
        ]
        down = [
            Transfer(
                self._engine.tree.path(it.ino) or "", "down", it.done_bytes, it.size_bytes, it.bytes_per_s
            )
            for it in self._engine.fetcher.under_way()
        ]
        return up + down

    def space(self) -> Space | None:
        """Return the account's quota as last told; None: none is known."""
        known = self._engine.quota.space()
        return None if known is None else Space(known.free, known.used)
