"""What a node or an open file shows, found without asking it: from staging files, and from the server's memory.

None where nobody can tell: then nothing is concluded from it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cloudfs.blocks.sealedfolder import SealedFolder
from cloudfs.blocks.sealing import Keys
from cloudfs.content.layers import FileContent, Layer
from cloudfs.content.source import Source
from cloudfs.ranges import RangeSet
from cloudfs.store.records import Node
from cloudfs.types import ContentVersion, Ino, RemoteVersion
from tests.model.account import content_key
from tests.model.world import World

__all__ = ["shown_by_node", "shown_by_open_file"]


def shown_by_node(world: World, node: Node) -> bytes | None:
    """Return a file's bytes as the database has them."""
    if node.version == node.s_version:
        return _on_server(world, node.remote_version)
    return _staged(world, node.ino, node.version)


def shown_by_open_file(world: World, content: FileContent) -> bytes | None:
    """Return an open file's bytes as they are now, what was not flushed yet included."""
    return _layer(world, content.top)


def _layer(world: World, layer: Layer | Source | None) -> bytes | None:
    if layer is None:
        return b""
    if not isinstance(layer, Layer):
        return _on_server(world, layer.remote)
    return _put_together(
        world,
        (layer.ino, layer.version),
        layer.size,
        layer.present,
        layer.base_limit,
        lambda: _layer(world, layer.base),
    )


def _staged(world: World, ino: Ino, version: ContentVersion) -> bytes | None:
    if not version:
        return b""
    row = world.engine.store.staged(ino, version)
    if row is None:
        return None

    def base() -> bytes | None:
        known = _staged(world, ino, row.base)
        return _on_server(world, row.base_remote) if known is None and row.base_remote is not None else known

    return _put_together(world, (ino, version), row.size, RangeSet.unpack(row.present), row.base_limit, base)


def _put_together(
    world: World,
    name: tuple[Ino, ContentVersion],
    size: int,
    present: RangeSet,
    base_limit: int,
    base: Callable[[], bytes | None],
) -> bytes | None:
    below: bytes | None = b""
    if not present.covers(0, min(base_limit, size)):
        below = base()
    if below is None:
        return None
    data = bytearray(below[:base_limit][:size].ljust(size, b"\0"))
    if present:
        path = next((world.folder / "state").glob(f"staging-*/{name[0]}.{name[1]}"), None)
        if path is None:
            return None
        staged = _read(path, world.engine.config.keys)
        for start, stop in present:
            data[start : min(stop, size)] = staged[start : min(stop, size)]
    return bytes(data)


def _on_server(world: World, version: RemoteVersion | None) -> bytes | None:
    return None if version is None else world.remote.account.contents.get(content_key(version))


def _read(path: Path, keys: Keys | None) -> bytes:
    """Return a staging file's bytes, sealed or not."""
    if keys is None:
        return path.read_bytes()
    folder = SealedFolder(path.parent, 1, 0, keys, path.parent.name.partition("-")[2])
    try:
        return folder.pread(path.name, 0, folder.length(path.name))
    finally:
        folder.close()
