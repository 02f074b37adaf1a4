"""Decides about conflicts while a program writes into our copy, and says what a decision may drop.

`keep-theirs` drops what the copy held at the moment when it was sealed, and nothing that was written since. `keep-mine`
drops what the server's file held when the request for it was made, and nothing of the copy: that is there afterwards.
`keep-both` drops nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import trio

from cloudfs.content.layers import FileContent
from cloudfs.errors import PosixError, RemoteError, UserError
from cloudfs.store.records import Node
from cloudfs.sync.resolve import Pair
from cloudfs.types import Ino
from tests.model.ledger import Ledger
from tests.model.operations import Decide
from tests.model.shown import shown_by_node, shown_by_open_file
from tests.model.world import World

__all__ = ["Deciding"]


class Deciding:
    """Of one world. `extend` writes to the end of a file, as a program does."""

    def __init__(self, world: World, ledger: Ledger, extend: Callable[[str], Awaitable[None]]) -> None:
        self._world = world
        self._ledger = ledger
        self._extend = extend
        self._drops: dict[Ino, bytes | None] = {}
        """What goes with our copies that are just being decided about."""

    def goes_with(self, node: Node) -> bytes | None:
        """Return the content that is spent where a node's name is removed now."""
        if node.ino in self._drops:
            return self._drops[node.ino]
        return None if node.folder else shown_by_node(self._world, node)

    async def play(self, operation: Decide) -> None:
        """Decide about one of the conflicts, if there is any. What was written right before is not sent yet."""
        pairs = self._world.engine.resolver.pairs()
        pair = pairs[operation.which % len(pairs)] if pairs else None
        path = None if pair is None else self._world.path_of(pair.ours.ino)
        if pair is None or path is None:
            return
        await self._extend(path)
        begun = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._go_on, path, begun, operation.after_s)
            with suppress(UserError), self._judged(pair, operation.how, begun):
                await self._decide(path, operation.how)

    async def _decide(self, path: str, how: str) -> None:
        resolver = self._world.engine.resolver
        match how:
            case "keep-mine":
                await resolver.keep_mine(f"/{path}")
            case "keep-theirs":
                await resolver.keep_theirs(f"/{path}")
            case _:
                resolver.keep_both(f"/{path}")

    async def _go_on(self, path: str, begun: trio.Event, after_s: float) -> None:
        await begun.wait()
        await trio.sleep(after_s)
        with suppress(PosixError, RemoteError):  # it may be gone by then
            await self._extend(path)

    @contextmanager
    def _judged(self, pair: Pair, how: str, begun: trio.Event) -> Iterator[None]:
        resolver: Any = self._world.engine.resolver
        freeze, send = resolver._frozen, resolver._send

        @asynccontextmanager
        async def frozen(ours: Node) -> AsyncIterator[tuple[FileContent, object]]:
            async with freeze(ours) as (content, source):
                self._drops[ours.ino] = (
                    shown_by_open_file(self._world, content) if how == "keep-theirs" else None
                )
                begun.set()
                yield content, source

        async def sent(*args: Any) -> None:
            theirs = self._world.engine.store.nodes.get(pair.theirs.ino)
            self._ledger.spent(None if theirs is None else shown_by_node(self._world, theirs))
            await send(*args)

        resolver._frozen, resolver._send = frozen, sent
        try:
            yield
        finally:
            resolver._frozen, resolver._send = freeze, send
            self._drops.clear()
            begun.set()
