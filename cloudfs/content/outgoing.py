"""A changed content on its way to the server: sealed, made whole, hashed, sent, and turned into clean blocks."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from functools import partial

import msgspec
import trio

from cloudfs.blocks.blockstore import BlockStore
from cloudfs.blocks.staging import Staging
from cloudfs.concurrency.killpoints import reached
from cloudfs.concurrency.together import together
from cloudfs.content.fetch import Fetcher
from cloudfs.content.files import Files
from cloudfs.content.labels import label
from cloudfs.content.layers import FileContent, Layer, Whose
from cloudfs.content.retrieval import Retrieval
from cloudfs.content.source import Source
from cloudfs.content.tails import TailProof, appended_to, is_tail_proof
from cloudfs.errors import BaseLost, Changed, LocalDamage, PosixError
from cloudfs.ranges import RangeSet, block_span, blocks_of
from cloudfs.store.records import Node
from cloudfs.store.store import Store
from cloudfs.types import BLOCK_SIZE, ContentVersion, Ino, Octets, RemoteVersion

__all__ = ["Outgoing"]

_CHUNK = 1024 * 1024
_HASHED_AT_ONCE = 8 * _CHUNK
"""In one way into a thread, 6 to 20 ms of it."""
_KEPT_TOGETHER = 4
"""Blocks. More cost the databases little less, and four files are sent at a time."""
_TO_THE_LAST_BYTES = 4 * 1024 * 1024
"""A quarter of what is kept free of the disk, as four files are sent at a time."""


class Outgoing:
    """What the write-back worker does with contents."""

    def __init__(
        self,
        store: Store,
        staging: Staging,
        blocks: BlockStore,
        fetcher: Fetcher,
        files: Files,
        retrieval: Retrieval,
        *,
        import_limit: int,
        keeps: Callable[[Node], bool] = lambda _: False,
    ) -> None:
        """`keeps` tells whether a file is always to be here."""
        self._store = store
        self._staging = staging
        self._blocks = blocks
        self._fetcher = fetcher
        self._files = files
        self._retrieval = retrieval
        self._import_limit = import_limit
        """Bytes: a larger file is not copied into the block cache after its upload, it would push all else out."""
        self._keeps = keeps

    async def seal(self, content: FileContent) -> Layer | None:
        """Freeze what the file holds now; later writes go into a new layer. None: the content is clean."""
        async with content.lock:
            self._files.flush(content)
            if not isinstance(content.top, Layer):
                return None
            content.top.seals += 1
            return content.top

    @asynccontextmanager
    async def sealed(self, content: FileContent) -> AsyncIterator[Layer | None]:
        """As `seal`, for so long."""
        layer = await self.seal(content)
        try:
            yield layer
        finally:
            if layer is not None:
                self.unseal(layer)

    def unseal(self, layer: Layer) -> None:
        """The upload did not happen: if nothing was written since, and nobody else has it sealed, it is written on."""
        layer.seals -= 1

    async def make_whole(self, layer: Layer, *, retrieving: bool = True) -> None:
        """Copy the bytes that a sealed layer does not hold from its base. Needs the network for uncached ones.

        Raises BaseLost when the base version no longer exists on the server; with `retrieving` it is looked for
        wherever the server may have it.
        """
        async with layer.filling:
            await self._fill_up(layer, retrieving=retrieving)
        await self._files.disposal.prune(layer.ino)

    async def _fill_up(self, layer: Layer, *, retrieving: bool) -> None:
        copied = layer.base is not None and not layer.complete
        if copied:
            self._require_room(layer)
            try:
                for start, stop in layer.pieces(Whose.BASE, 0, layer.size):
                    await self._copy_base(layer, start, stop)
            except Changed as error:
                if not retrieving or not await self._retrieve(layer):
                    raise BaseLost(
                        "another client replaced the version that this file was edited from, before its other parts"
                        " were downloaded"
                    ) from error
        ranges = list(layer.present)
        if ranges and layer.file.size < ranges[-1][1]:
            raise LocalDamage(f"inode {layer.ino}: its staging file is shorter than what was written to it")
        await self._clear_rest(layer)
        await layer.file.truncate(layer.size)
        if (
            await layer.file.admit_holes(layer.present)
            or copied
            or layer.base is not None
            or layer.safe != layer.state
        ):
            # The row must not promise what a power cut could take, when it gives up what the file was made from.
            await layer.file.sync()
        # What is neither written nor the base's is zero, and reads as zero from a sparse file.
        layer.present = RangeSet([(0, layer.size)])
        layer.base, layer.base_limit = None, 0
        layer.safe = layer.state
        if self._is_known(layer):
            label(self._store, self._staging, layer.row())
            self._store.put_staged(layer.row())

    async def gather(self, layer: Layer) -> None:
        """Have a sealed layer hold by itself what follows the version of the server's that it begins with.

        Or each try to send a tail, and each tail that is sent, while a program writes on, would leave a layer below.
        """
        async with layer.filling:
            base, lowest = appended_to(layer), layer
            while isinstance(lowest.base, Layer) and lowest.base.remote is None:
                lowest = lowest.base
            # On a layer that was sent, where all of it is here: else what it lacks is the server's anyway.
            is_here = isinstance(lowest.base, Layer) and lowest.base.complete
            ground = lowest.base if is_here else base
            if base is None or layer.base is ground:
                return
            for start, stop in layer.held_below(base.size, layer.size):
                await self._copy_base(layer, start, stop)
            # As in `_fill_up`: what it was made from is given up.
            await layer.file.sync()
            layer.base, layer.base_limit, layer.base_seen = ground, base.size, lowest.base_seen
            layer.safe = layer.state
            if self._is_known(layer):
                label(self._store, self._staging, layer.row())
                self._store.put_staged(layer.row())
        await self._files.disposal.prune(layer.ino)

    def _is_known(self, layer: Layer) -> bool:
        """Tell whether a layer still has its row: one that was written over meanwhile may be given up already."""
        return self._store.staged(layer.ino, layer.version) is not None

    def _require_room(self, layer: Layer) -> None:
        """Raise PosixError (ENOSPC) for what is sure not to fit: else it fills the disk, and nothing else can be saved.

        What the block cache has may be evicted for it, as far as it lies on the same disk. What an earlier try copied
        before the connection broke is forgotten, but its room is taken: by this very file, which fills it again.
        """
        lacks = _lacking(layer)
        room_bytes = self._staging.free_bytes() + self._blocks.statistics().bytes
        room_bytes += max(0, layer.file.disk_bytes - layer.present.total)
        if lacks > max(room_bytes, _TO_THE_LAST_BYTES):
            raise PosixError(
                errno.ENOSPC, f"{lacks} bytes of the version that inode {layer.ino} was made from"
            )

    async def _clear_rest(self, layer: Layer) -> None:
        """Overwrite what writes that nobody was told of (a kill, a full disk) left where nothing is written."""
        for start, stop in layer.pieces(Whose.ZERO, 0, min(layer.size, layer.file.size)):
            for at in range(start, stop, _CHUNK):
                size = min(_CHUNK, stop - at)
                if await layer.file.pread(at, size) != bytes(size):
                    await layer.file.pwrite_to_the_last(at, bytes(size))

    async def _copy_base(self, layer: Layer, start: int, stop: int) -> None:
        at = start
        async with aclosing(self._base_chunks(layer, start, stop)) as chunks:
            async for chunk in chunks:
                await self._put(layer, at, chunk)
                layer.present.add(at, at + len(chunk))
                reached("part of the base copied")
                at += len(chunk)

    async def _put(self, layer: Layer, at: int, chunk: bytes) -> None:
        """Write what a layer lacks; where that is little, also into what is kept free: sent, it gives back more."""
        try:
            await self._files.write_into(layer, at, chunk)
        except PosixError as error:
            if error.errno != errno.ENOSPC or _lacking(layer) > _TO_THE_LAST_BYTES:
                raise
            await layer.file.pwrite_to_the_last(at, chunk)

    async def _retrieve(self, layer: Layer) -> bool:
        """Copy what a layer lacks from where else the server has its base; nothing counts before all is proved."""
        base = layer.below
        if not isinstance(base, Source):
            return False

        async def take(at: int, chunk: bytes) -> None:
            for start, stop in layer.pieces(Whose.BASE, at, min(at + len(chunk), layer.size)):
                await self._put(layer, start, chunk[start - at : stop - at])

        seen_there_s = layer.base_seen if base is layer.base else None
        if not await self._retrieval.bring(base, seen_there_s, take):
            return False
        for start, stop in layer.pieces(Whose.BASE, 0, layer.size):
            layer.present.add(start, stop)
        return True

    async def _base_chunks(self, layer: Layer, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        base = layer.below
        if isinstance(base, Source):
            async with aclosing(self._fetcher.chunks(base, start, stop)) as chunks:
                async for chunk in chunks:
                    yield chunk
            return
        assert base is not None  # noqa: S101  # make_whole asks only for layers with a base
        for at in range(start, stop, _CHUNK):
            yield await self._files.read_version(base, at, min(at + _CHUNK, stop))

    async def whole_checksum(self, layer: Layer) -> str:
        """Do as `make_whole`, and as `checksum`: what needs nothing of a base is hashed while it is put on the disk."""
        _require_sealed(layer)
        if layer.base is not None or _is_hashed(layer):
            await self.make_whole(layer)
            return await self.checksum(layer)
        hashed: list[str] = []

        async def hash_meanwhile() -> None:
            hashed.append(await self._hash(layer))

        await together((partial(self.make_whole, layer), hash_meanwhile))
        # Only now: until then the disk may not have had these bytes.
        self._remember(layer, hashed[0])
        return hashed[0]

    async def checksum(self, layer: Layer) -> str:
        """Return SHA1:hex of a whole sealed layer, computed once and remembered: the proof that an upload was ours."""
        _require_sealed(layer)
        if not _is_hashed(layer):
            self._remember(layer, await self._hash(layer))
        return layer.checksum or ""

    async def tail_proof(self, layer: Layer, start: int, mtime_s: int) -> str:
        """Return, and remember, the proof of an upload that sends only the bytes of a sealed layer from `start` on."""
        _require_sealed(layer)
        proof = str(TailProof(start, mtime_s, await self._hash(layer, start)))
        self._remember(layer, proof)
        return proof

    async def _hash(self, layer: Layer, start: int = 0) -> str:
        digest, at = hashlib.sha1(usedforsecurity=False), start
        while at < layer.size:
            _require_sealed(layer)
            last, whose = layer.piece(at, min(at + _HASHED_AT_ONCE, layer.size))
            if whose is Whose.OWN:
                await layer.file.feed(digest.update, at, last)
            else:
                last = min(last, at + _CHUNK)
                chunk = await self._files.read_version(layer, at, last)
                await trio.to_thread.run_sync(digest.update, chunk)
            at = last
            self._require_wanted(layer)
        return f"SHA1:{digest.hexdigest()}"

    def _remember(self, layer: Layer, checksum: str) -> None:
        changed, layer.checksum = layer.checksum != checksum, checksum
        if changed and self._is_known(layer):
            self._store.put_staged(layer.row())

    def _require_wanted(self, layer: Layer) -> None:
        """Raise Changed once nothing is to be sent any more: of 4 TiB of zeros that were removed none need be read."""
        node = self._store.nodes.get(layer.ino)
        if node is None or not node.linked:
            raise Changed("it was removed here before it was sent", subject=f"inode {layer.ino}")

    async def chunks(self, layer: Layer | None, start: int = 0) -> AsyncGenerator[bytes, None]:
        """Yield a sealed layer's bytes from `start` on, in order; none of an empty content, which has no layer.

        They are all here: the layer was made whole, or it has from `start` on nothing of the server's.
        """
        if layer is None:
            return
        for at in range(start, layer.size, _CHUNK):
            _require_sealed(layer)
            yield await self._files.read_version(layer, at, min(at + _CHUNK, layer.size))

    async def settle(self, content: FileContent, layer: Layer, remote: RemoteVersion) -> None:
        """The server has exactly this layer: keep its bytes as clean blocks and give up the staging file.

        Where something was written on top meanwhile, the layer stays as that one's base.
        """
        base, layer.remote = layer.base, remote
        if content.top is layer and self._is_worth_keeping(layer):
            await self._keep_blocks(layer, base)
        async with content.lock:
            if content.top is layer:
                content.top = Source(layer.ino, layer.version, remote)
            else:
                self._name_base(content, layer, remote)
        await self._files.disposal.prune(layer.ino)

    async def _keep_blocks(self, layer: Layer, base: Layer | Source | None) -> None:
        together: list[tuple[Ino, ContentVersion, int, Octets]] = []
        for index in blocks_of(0, layer.size):
            start, stop = block_span(index, layer.size)
            data = await self._block(layer, base, start, stop)
            if data is not None:
                together.append((layer.ino, layer.version, index, data))
            if together and (stop == layer.size or len(together) == _KEPT_TOGETHER):
                await self._blocks.put_many(together)
                together.clear()

    def _is_worth_keeping(self, layer: Layer) -> bool:
        if layer.size <= self._import_limit:
            return True
        node = self._store.nodes.get(layer.ino)
        return node is not None and self._keeps(node)  # it would be downloaded again

    async def _block(self, layer: Layer, base: Layer | Source | None, start: int, stop: int) -> bytes | None:
        """Return a block of a layer that was sent, None where not all of it is here.

        A base of which the server made the whole was that version for sure, so its blocks are the layer's.
        """
        data = b""
        while (first := start + len(data)) < stop:
            last, whose = layer.piece(first, stop)  # looked at anew each time, as in `Files.read_version`
            if whose is Whose.OWN:
                data += await layer.file.pread(first, last - first)
            elif whose is Whose.ZERO:
                data += bytes(last - first)
            else:
                below = await self._cached(base, first, last)
                if below is None:
                    return None
                data += below
        return data

    async def _cached(self, base: Layer | Source | None, start: int, stop: int) -> bytes | None:
        """Return the bytes [start, stop) of one block, if the block cache has that block."""
        if base is None:
            return None
        index = start // BLOCK_SIZE
        if not self._blocks.has(base.ino, base.version, index):
            return None
        block = await self._blocks.get(base.ino, base.version, index)
        found = b"" if block is None else block[start - index * BLOCK_SIZE : stop - index * BLOCK_SIZE]
        return found if len(found) == stop - start else None

    async def differs(self, layer: Layer, ino: Ino, version: ContentVersion, size: int) -> bool:
        """Tell whether anything that is cached of a version differs from a sealed whole layer, up to `size` bytes."""
        for index in blocks_of(0, size):
            start, stop = block_span(index, size)
            block = (
                await self._blocks.get(ino, version, index) if self._blocks.has(ino, version, index) else None
            )
            known = b"" if block is None else block[: stop - start]
            if known != await self._files.read_version(layer, start, start + len(known)):
                return True
        return False

    def _name_base(self, content: FileContent, layer: Layer, remote: RemoteVersion) -> None:
        """Note in the row of what was written on top how the server names the version that it stands on."""
        top = content.top
        while isinstance(top, Layer) and top.base is not layer:
            top = top.base
        row = self._store.staged(layer.ino, top.version) if isinstance(top, Layer) else None
        if row is not None:
            self._store.put_staged(msgspec.structs.replace(row, base_remote=remote, base_seen=None))

    def rebase(self, content: FileContent, old: ContentVersion | None, new: Source) -> None:
        """What stands on the version `old` stands on `new` from now on, which begins with the same bytes.

        In the transaction that notes `new` as the server's. NO CHECKPOINT.
        """
        for row in self._store.staged_of(content.ino):
            if row.base == old:
                self._store.put_staged(
                    msgspec.structs.replace(row, base=new.version, base_remote=new.remote, base_seen=None)
                )
        at = content.top
        while isinstance(at, Layer):
            if at.base is not None and at.base.version == old:
                at.base, at.base_seen = new, None
                return
            at = at.base

    async def keep(self, node: Node) -> None:
        """Make a file's content independent of the server: all of it into staging.

        For files that stay here although the server's copy goes: open ones, and ones that are now local only.
        """
        if node.folder or node.size == 0:
            return
        content = await self._files.acquire(node)
        try:
            layer = await self._files.begin_layer(content)
            if not layer.complete:
                # What is made whole has its row written: with the size that the node has.
                self._files.flush(content)
                layer.seals += 1
                try:
                    await self._make_whole_to_keep(node, content, layer)
                finally:
                    self.unseal(layer)
            # The server's copy, maybe the only other one, is about to go.
            await self._files.fsync(content)
        finally:
            self._files.release(content)

    async def _make_whole_to_keep(self, node: Node, content: FileContent, layer: Layer) -> None:
        base = layer.base
        unwritten = isinstance(base, Source) and not layer.present and layer.size == base.size
        try:
            # An unedited one is not brought back: another client's version may simply be taken over.
            await self.make_whole(layer, retrieving=not unwritten)
        except BaseException as error:
            if isinstance(base, Source) and unwritten:
                self._files.withdraw(content, layer, base)
                if isinstance(error, BaseLost):
                    raise Changed("it was changed before it was read", subject=node.name) from error
            if isinstance(error, LocalDamage) and not self._is_known(layer):
                raise Changed("it was sent meanwhile", subject=node.name) from error
            raise


def _is_hashed(layer: Layer) -> bool:
    return layer.checksum is not None and not is_tail_proof(layer.checksum)


def _require_sealed(layer: Layer) -> None:
    """Stop whoever would hash or send what is being written: the sum would be remembered for other bytes.

    Those would be taken for sent, and given up. Raises ValueError: it is a mistake of the caller's.
    """
    if not layer.sealed:
        raise ValueError(f"inode {layer.ino}: what may be written is neither hashed nor sent")


def _lacking(layer: Layer) -> int:
    """Return how many bytes of a layer are only in its base."""
    return sum(stop - start for start, stop in layer.pieces(Whose.BASE, 0, layer.size))
