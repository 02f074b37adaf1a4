"""What the control socket is asked about an engine beyond its status: see `control.records` for questions and answers.

All but one answer from memory, the local database and the block cache, without a request: `annotations` asks the
server.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import msgspec
import trio

from cloudfs.account.caching import CacheWork
from cloudfs.account.inspection import Inspection
from cloudfs.control.methods import Method, Tell, method
from cloudfs.control.records import (
    Attached,
    CacheInfo,
    Checked,
    Cleared,
    FileInfo,
    FileState,
    FirstAnswer,
    Nothing,
    PathOf,
    Paused,
    Space,
    Transfer,
    WaitFor,
)
from cloudfs.engine import Engine
from cloudfs.errors import ExitCode, RemoteError, UserError
from cloudfs.fuse.readers import Readers
from cloudfs.ranges import RangeSet
from cloudfs.store.records import Node

__all__ = ["Answers"]

_PART = 50
"""Files told of between two checkpoints, about 5 ms."""

_ASKED_S = 2.0
"""So long somebody at a terminal waits for what the server alone knows."""


class Answers:
    """The answers for one engine."""

    def __init__(self, engine: Engine, readers: Readers) -> None:
        self._engine = engine
        self._readers = readers

    @property
    def methods(self) -> Mapping[str, Method]:
        """By the names of the requests."""
        return {
            "first_answer": method(WaitFor, self._first_answer),
            "pause": method(Nothing, self._pause),
            "resume": method(Nothing, self._resume),
            "list": method(PathOf, self._list),
            "info": method(PathOf, self._info),
            "annotations": method(PathOf, self._annotations),
            "cache": method(Nothing, self._cache),
            "cache_clear": method(Nothing, self._clear),
            "cache_verify": method(Nothing, self._verify),
        }

    # The server

    async def _first_answer(self, wanted: WaitFor, _tell: Tell) -> FirstAnswer:
        with trio.move_on_after(wanted.timeout_s):
            await self._engine.greeting.done.wait()
        now, greeting = self._engine.connectivity, self._engine.greeting
        reason = now.reason or ("" if not now.online else greeting.failure)
        return FirstAnswer(now.state.value, reason, now.untrusted, known=greeting.done.is_set())

    # Pausing

    async def _pause(self, _: Nothing, _tell: Tell) -> Paused:
        self._engine.pause.begin()
        # Kept before it is answered, and what is broken off has the time to be so.
        await self._engine.store.make_durable()
        await trio.lowlevel.checkpoint()
        return self._paused()

    async def _resume(self, _: Nothing, _tell: Tell) -> Paused:
        self._engine.pause.end()
        paused = self._paused()  # before the first of what waits has gone up
        await self._engine.store.make_durable()
        return paused

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
        return Inspection(self._engine, self._readers).info(self._node_at(wanted.path))

    async def _annotations(self, wanted: PathOf, _tell: Tell) -> Attached:
        path = self._engine.store.nodes.synced_path(self._node_at(wanted.path).ino)
        if path is None:
            return Attached(told=False, reason="it is not on the server")
        try:
            with trio.fail_after(_ASKED_S):
                found = await self._engine.remote.annotations(path)
        except trio.TooSlowError:
            return Attached(told=False, reason="the server did not answer in time")
        except RemoteError as error:
            return Attached(told=False, reason=str(error))
        if found is None:
            return Attached(told=False, reason="the server knows no such thing")
        return Attached(told=True, **msgspec.structs.asdict(found))

    def _node_at(self, path: str) -> Node:
        node = self._engine.tree.resolve(path)
        if node is None:
            raise UserError(
                f"Nothing is known of {path} in the mount.", hint="Check the path.", code=ExitCode.USAGE
            )
        return node

    # The cache

    async def _cache(self, _: Nothing, _tell: Tell) -> CacheInfo:
        engine = self._engine
        held = engine.blocks.statistics()
        disk = os.statvfs(engine.config.cache)
        return CacheInfo(
            folder=str(engine.config.cache),
            used_bytes=held.bytes,
            limit_bytes=held.limit_bytes,
            blocks=held.blocks,
            hits=held.hits,
            misses=held.misses,
            keep_free_bytes=engine.blocks.keep_free_bytes,
            disk_free_bytes=disk.f_bavail * disk.f_frsize,
            changed_bytes=sum(RangeSet.unpack(row.present).total for row in engine.store.all_staged()),
            encrypted="" if engine.config.keys is None else engine.config.keys.cipher.value,
            memory_bytes=engine.fetcher.statistics().memory_used_bytes,
        )

    async def _clear(self, _: Nothing, _tell: Tell) -> Cleared:
        before = self._engine.blocks.statistics().bytes
        await CacheWork(self._engine).clear()
        left = self._engine.blocks.statistics().bytes
        return Cleared(max(before - left, 0), left)

    async def _verify(self, _: Nothing, tell: Tell) -> Checked:
        return await CacheWork(self._engine).verify(tell)

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
        known = self._engine.quota.last_told
        return None if known is None else Space(known.free, known.used)
