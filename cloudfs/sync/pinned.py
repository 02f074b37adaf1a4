"""What is always kept on this machine: people's words about it, the account's defaults, and a copy for bad days.

The words are rows of the database (`store/pins`), so they follow every rename, and end with it where it is lost. So
they also stand in a small file beside it, by their paths; a new database looks there for what its predecessor knew.
"""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

import msgspec

from cloudfs.blocks.sealing import Seal
from cloudfs.concurrency.threads import in_disk_thread
from cloudfs.config import write_private
from cloudfs.errors import UserError
from cloudfs.metadata.pinning import Defaults, Stand, standing
from cloudfs.store.records import Node
from cloudfs.store.store import Store
from cloudfs.types import ContentVersion, Ino, Pin

__all__ = ["PinKeeper", "Root"]

_log = logging.getLogger(__name__)

_PLACE = b"pins.json"
_LOST, _CACHED = "lost_pins", "kept_bytes"
"""Under what the store has notes of ours."""


class _Record(msgspec.Struct, frozen=True):
    """The file beside the database."""

    store: str
    """Id of the database that it is a copy of."""
    pins: dict[str, Pin]
    """By path in the mount."""


class Root(msgspec.Struct, frozen=True):
    """A node below which things are kept that no other root reaches."""

    ino: Ino
    stand: Stand


class PinKeeper:
    """One account's; used on the loop's thread. NO CHECKPOINT in what is not async."""

    def __init__(self, store: Store, record: Path, defaults: Defaults, seal: Seal | None = None) -> None:
        """`record`: path of the copy; what a lost database has left in it is to be found again from now on.

        With a `seal` nobody reads the copy without its key.
        """
        self._seal = seal
        self.defaults = defaults
        self._store = store
        self._path = record
        self._written = b""
        self.cached_bytes = int(store.note(_CACHED) or 0)
        """About what the block cache has of files that are kept; at first, as it was in the last life."""
        store.pins.forget_gone()
        self._recover()

    def active(self) -> bool:
        """Tell whether anything is to be kept, or was."""
        return bool(self.defaults.folders) or self._store.pins.any() or bool(self.lost())

    def stand(self, ino: Ino) -> Stand | None:
        """Return what holds for a node; None where the mount does not show it."""
        return standing(self._store.pins.links(ino))

    def keeps(self, node: Node) -> bool:
        """Tell whether a file is always to be here."""
        stand = self.stand(node.ino)
        return stand is not None and not node.folder and stand.keeps(self.defaults, node.size)

    def is_exempt(self, ino: Ino, version: ContentVersion) -> bool:
        """Tell whether cached blocks of a version must not be evicted; 35 µs, 5 where nothing is kept.

        Those of the server's version, and of one that an edit stands on, of files that are kept. Earlier ones may go.
        """
        if not self.defaults.folders and not self._store.pins.any():
            return False
        node = self._store.nodes.get(ino)
        return node is not None and self._is_needed(node, version) and self.keeps(node)

    def _is_needed(self, node: Node, version: ContentVersion) -> bool:
        if version == node.s_version:
            return True
        return node.content_dirty and any(row.base == version for row in self._store.staged_of(node.ino))

    def say(self, ino: Ino, pin: Pin | None) -> None:
        """Say something about a node; it holds for all below it, whatever was said about that before."""
        pins, nodes = self._store.pins, self._store.nodes
        with self._store.transaction():
            for other in pins.all():
                if ino in nodes.ancestors(other):
                    pins.put(other, None)
            pins.put(ino, pin)

    def roots(self) -> list[Root]:
        """Return the nodes of which was said that they are kept, without those that another one reaches."""
        found = []
        for ino, pin in self._store.pins.all().items():
            links = list(self._store.pins.links(ino))
            above, stand = standing(links[1:]), standing(links)
            reached = above is not None and above.said is Pin.ALWAYS_LOCAL
            if pin is Pin.ALWAYS_LOCAL and stand is not None and not reached:
                found.append(Root(ino, stand))
        return found

    def note_cached(self, cached_bytes: int) -> None:
        """Note how much that is, also for the next life."""
        self.cached_bytes = cached_bytes
        if self._store.note(_CACHED) != str(cached_bytes):
            self._store.put_note(_CACHED, str(cached_bytes))

    # The copy

    def lost(self) -> dict[str, Pin]:
        """Return what a lost database knew and nobody has found yet, by path."""
        text = self._store.note(_LOST)
        return {} if text is None else msgspec.json.decode(text, type=dict[str, Pin])

    def found(self, path: str, ino: Ino | None) -> None:
        """What a lost database knew stands for this node, or for none any more."""
        lost = self.lost()
        pin = lost.pop(path, None)
        with self._store.transaction():
            if ino is not None and pin is not None and self._store.pins.get(ino) is None:
                self._store.pins.put(ino, pin)
            self._store.put_note(_LOST, msgspec.json.encode(lost).decode() if lost else None)

    async def save(self) -> None:
        """Bring the copy up to date; paths change with renames. Costs nothing where it is."""
        nodes = self._store.nodes
        paths = {nodes.local_path(ino): pin for ino, pin in self._store.pins.all().items()}
        pins = self.lost() | {path: pin for path, pin in paths.items() if path is not None}
        data = msgspec.json.encode(_Record(self._store.store_id, dict(sorted(pins.items()))))
        if data == self._written or not (pins or self._written):
            return
        await self._store.make_durable()  # what this file has no longer must not be lost there either
        try:
            sealed = data if self._seal is None else self._seal.wrap(data, _PLACE)
            await in_disk_thread(write_private, self._path, sealed)
        except UserError as error:  # a full disk: the next time
            _log.warning("what is pinned could not be noted beside the database: %s", error.message)
        else:
            self._written = data

    def _recover(self) -> None:
        with contextlib.suppress(OSError):
            kept = self._path.read_bytes()
            self._written = kept if self._seal is None else self._seal.unwrap(kept, _PLACE) or b"damaged"
        try:
            record = msgspec.json.decode(self._written, type=_Record) if self._written else None
        except msgspec.MsgspecError as error:
            _log.warning("%s is damaged, and is made anew: %s", self._path, error)
            return
        if record is None or record.store == self._store.store_id or not record.pins:
            return
        _log.info("%d pins of a lost database are looked for", len(record.pins))
        lost = self.lost() | record.pins
        self._store.put_note(_LOST, msgspec.json.encode(lost).decode())
