"""Small files that nobody waits for yet, many in one request: an archive of their folder's members.

An archive names no versions (`remote/archives`), so each file needs a proof that its bytes are those of the version
that is wanted. Either of two will do; without one it is not kept, and comes by a GET of its own when it is read:

    its checksum   the bytes have the checksum that the server names for this very version
    its folder     lists it as this version before the request, and has the same ETag after it: on Nextcloud that of a
                   folder changes with every change in it, also where a file's own does not (protocol.md §3.1).
                   The listing may be any earlier one whose ETag is known
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import msgspec

from cloudfs.content import checksums
from cloudfs.content.line import Line
from cloudfs.content.memory import BlockKey, MemoryBudget, Pages
from cloudfs.content.source import BlockCache, FetchConfig, Locate, Source
from cloudfs.errors import Changed
from cloudfs.paths import parent_of
from cloudfs.remote.archives import batches
from cloudfs.remote.protocol import Remote
from cloudfs.types import BLOCK_SIZE, RemotePath, RemoteVersion

__all__ = ["Archivist"]

_log = logging.getLogger(__name__)

_FEWEST_FILES = 2

_IN_MEMORY_BYTES = 64 * 1024
"""Files up to this size are kept in memory as well where a program reads them next: to find one on the disk costs a way
into a thread, which is more than all else that is done for a file of 4 KiB."""


class _Wanted(msgspec.Struct, frozen=True):
    source: Source
    remote: RemoteVersion
    """How the server names it now."""

    def is_proved_by(self, data: bytes) -> bool:
        said = self.source.remote.checksum or ""
        return checksums.can_check(said) and checksums.of(data, said).lower() == said.lower()


class Archivist:
    """Brings files into the block cache; into memory, too, those that are about to be read."""

    def __init__(
        self,
        remote: Remote,
        locate: Locate,
        line: Line,
        blocks: BlockCache,
        pages: Pages,
        budget: MemoryBudget,
        config: FetchConfig,
    ) -> None:
        self.files = 0
        """So many came in archives."""
        self._remote = remote
        self._locate = locate
        self._line = line
        self._blocks = blocks
        self._pages = pages
        self._budget = budget
        self._config = config

    async def prefetch(
        self, sources: Sequence[Source], listed_etag: str = "", *, read_soon: bool = False
    ) -> list[Source]:
        """See `Fetcher.prefetch_archive`."""
        brought: list[Source] = []
        folders = self._by_folder(sources)
        if len(folders) > 1:
            listed_etag = ""
        for folder, wanted in folders.items():
            brought += await self._from_folder(folder, wanted, listed_etag, read_soon=read_soon)
        return brought

    def _by_folder(self, sources: Sequence[Source]) -> dict[RemotePath, dict[str, _Wanted]]:
        folders: dict[RemotePath, dict[str, _Wanted]] = {}
        for source in sources:
            if not 0 < source.size <= BLOCK_SIZE or self._blocks.has(source.ino, source.version, 0):
                continue
            if self._line.active(source) or self._line.is_paused(source.ino):
                continue
            try:
                place = self._locate(source)
            except Changed:
                continue
            name = place.path.rpartition("/")[2]
            folders.setdefault(parent_of(place.path), {})[name] = _Wanted(source, place.remote)
        return folders

    async def _from_folder(
        self, folder: RemotePath, wanted: Mapping[str, _Wanted], etag: str, *, read_soon: bool
    ) -> list[Source]:
        if not etag and not all(checksums.can_check(it.source.remote.checksum) for it in wanted.values()):
            own, members = await self._remote.list_folder(folder)
            etag = own.version.etag
            listed = {member.name: member.version for member in members}
            wanted = {
                name: it
                for name, it in wanted.items()
                if name in listed and it.remote.same_content(listed[name])
            }
        brought: list[Source] = []
        most_bytes = min(self._config.archive_bytes, self._budget.ceiling_bytes // 4)
        sizes = {name: it.source.size for name, it in wanted.items()}
        for batch in batches(sizes, most_bytes, self._config.archive_files):
            batched = {name: wanted[name] for name in batch}
            found = await self._batch(folder, batched, etag)
            if read_soon:
                self._keep_in_memory(batched, found)
            brought += [wanted[name].source for name in found]
        self.files += len(brought)
        return brought

    async def _batch(
        self, folder: RemotePath, wanted: Mapping[str, _Wanted], etag: str
    ) -> Mapping[str, bytes]:
        """Ask for some files together, and keep and return those that are proved.

        The archive and its files take memory each.
        """
        need_bytes = 2 * sum(it.source.size for it in wanted.values())
        while not self._budget.take_nowait(need_bytes, urgent=False):
            await self._budget.wait_changed()
        try:
            found = await self._ask(folder, wanted)
            proved = [name for name, data in found.items() if wanted[name].is_proved_by(data)]
            if len(proved) < len(found) and etag and await self._etag(folder) == etag:
                # A wrong checksum is no proof against the file, but a matter for the one who reads it.
                proved += [
                    name for name in found if not checksums.can_check(wanted[name].source.remote.checksum)
                ]
            await self._keep([(wanted[name].source, found[name]) for name in proved])
        finally:
            self._budget.give_back(need_bytes)
        if len(proved) < len(wanted):
            _log.debug("%s: %d of %d files came as expected", folder, len(proved), len(wanted))
        return {name: found[name] for name in proved}

    def _keep_in_memory(self, wanted: Mapping[str, _Wanted], found: Mapping[str, bytes]) -> None:
        """Keep small files as far as there is room. NO CHECKPOINT.

        Only what the block cache has kept: where it keeps nothing, nothing is to be fetched ahead.
        """
        for name, data in found.items():
            source = wanted[name].source
            if source.size > _IN_MEMORY_BYTES or not self._blocks.has(source.ino, source.version, 0):
                continue
            page = self._pages.open(BlockKey(source.ino, source.version, 0), 0, source.size, urgent=False)
            if page is None:
                return
            if page.data is None:
                page.complete(data)

    async def _ask(self, folder: RemotePath, wanted: Mapping[str, _Wanted]) -> Mapping[str, bytes]:
        """Return what comes; without what an upload of ours has, and nothing where one begins meanwhile."""
        wanted = {name: it for name, it in wanted.items() if not self._line.is_paused(it.source.ino)}
        if len(wanted) < _FEWEST_FILES:
            return {}
        # NO CHECKPOINT: from here on the line knows which files are being read.
        inos = frozenset(it.source.ino for it in wanted.values())
        sizes = {name: it.source.size for name, it in wanted.items()}
        found: dict[str, bytes] = {}
        async with self._line.together(inos):
            found.update(await self._remote.read_archive(folder, sizes))
        return found

    async def _etag(self, folder: RemotePath) -> str:
        return (await self._remote.stat(folder)).version.etag

    async def _keep(self, files: Sequence[tuple[Source, bytes]]) -> None:
        for start in range(0, len(files), self._config.stores):
            part = files[start : start + self._config.stores]
            await self._blocks.put_many([(source.ino, source.version, 0, data) for source, data in part])
