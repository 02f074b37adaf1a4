"""What other clients changed is noticed by itself, in time: nobody has folders listed anew, programs only look."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from cloudfs.errors import NotFound, PosixError
from cloudfs.store.records import Node
from cloudfs.types import RemoteEntry
from tests.model.outcome import shared
from tests.model.player import insist
from tests.model.world import World

__all__ = ["expect_noticed"]

_EVERY_S = 15.0


async def expect_noticed(world: World, within_s: float, drain: Callable[[], Awaitable[None]]) -> None:
    """Everything that the server has is shown after a while, and nothing else; the line is well."""
    until = trio.current_time() + within_s
    while True:
        await drain()
        missed = await _missed(world)
        if not missed:
            return
        assert trio.current_time() < until, f"not noticed within {within_s:g} s: {missed}"
        await trio.sleep(_EVERY_S)


async def _missed(world: World) -> list[str]:
    try:
        seen = await insist(world.walk)
    except (PosixError, NotFound) as error:
        return [str(error)]  # a folder went while it was walked through
    shown = shared(dict.fromkeys(seen.attributes))
    there = {entry.path[1:]: entry for entry in world.remote.account.walk()}
    missed = sorted(shown.keys() ^ there.keys())
    nodes = world.engine.store.nodes
    for path in shown.keys() & there.keys():
        node = nodes.get(seen.attributes[path].ino)
        if node is None or not _is_known(node, there[path]):
            missed.append(path)
    return missed


def _is_known(node: Node, entry: RemoteEntry) -> bool:
    # Of a folder the ETag may be one that our own changes gave it.
    return node.kind is entry.kind and (bool(node.folder) or node.s_etag == entry.version.etag)
