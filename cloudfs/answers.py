"""What the control socket is asked about an engine beyond its status: see `control.records` for questions and answers.

Everything here answers from memory, the local database and the block cache: no request is sent.
"""

from __future__ import annotations

from collections.abc import Mapping

import trio

from cloudfs.control.methods import Method, Tell, method
from cloudfs.control.records import Nothing, Paused, Space, Transfer
from cloudfs.engine import Engine

__all__ = ["Answers"]


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
