"""Small files many at once: what is kept is proved to be the version that was wanted."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pytest
import trio

from cloudfs.content.fetch import Source
from cloudfs.content.source import FetchConfig
from cloudfs.errors import Unreachable, Unsupported
from cloudfs.paths import parent_of
from cloudfs.types import ContentVersion, Ino, Kind, RemoteEntry, RemotePath, RemoteVersion
from tests.content.conftest import Fetching
from tests.content.fakes import KIB, MIB, FakeRemote, World, some_bytes

Happening = Callable[[], None]


def _nothing() -> None:
    pass


@dataclass
class Folders(FakeRemote):
    """A server with folders whose ETag is that of everything in them; and what happens while an archive is made."""

    archives: list[dict[str, int]] = field(default_factory=list)
    listings: int = 0
    stats: int = 0
    meanwhile: Happening = _nothing
    archive_s: float = 0.1
    failure: Exception | None = None
    archive_flips: int = 0

    def _etag(self, folder: RemotePath) -> str:
        inside = sorted((path, it[0]) for path, it in self.files.items() if parent_of(path) == folder)
        return hashlib.sha256(repr((inside, self.changes)).encode()).hexdigest()

    changes: int = 0
    """Changes that no file's ETag tells of."""

    async def list_folder(self, path: RemotePath) -> tuple[RemoteEntry, Sequence[RemoteEntry]]:
        self.listings += 1
        await trio.sleep(self.latency_s)
        own = RemoteEntry(path, Kind.FOLDER, RemoteVersion(self._etag(path), 0, 0))
        members = [
            RemoteEntry(at, Kind.FILE, it[0]) for at, it in self.files.items() if parent_of(at) == path
        ]
        return own, members

    async def stat(self, path: RemotePath) -> RemoteEntry:
        self.stats += 1
        await trio.sleep(self.latency_s)
        return RemoteEntry(path, Kind.FOLDER, RemoteVersion(self._etag(path), 0, 0))

    async def read_archive(self, folder: RemotePath, sizes: Mapping[str, int]) -> Mapping[str, bytes]:
        self.archives.append(dict(sizes))
        await trio.sleep(self.archive_s / 2)
        self.meanwhile()
        if self.failure is not None:
            raise self.failure
        found = {
            path.rpartition("/")[2]: it[1] for path, it in self.files.items() if parent_of(path) == folder
        }
        await trio.sleep(self.archive_s / 2)
        some = {name: data for name, data in found.items() if len(data) == sizes.get(name)}
        return {name: bytes([data[0] ^ self.archive_flips]) + data[1:] for name, data in some.items()}


class Shelf:
    """A folder `/d` with files `/d/INO`."""

    def __init__(self, count: int, *, checksum: bool, size: int = 4 * KIB) -> None:
        self.remote = Folders()
        self.world = World(remote=self.remote)
        self.contents = {ino: some_bytes(size, ino) for ino in range(1, count + 1)}
        self.sources = [self.put(ino, data, checksum=checksum) for ino, data in self.contents.items()]

    def put(self, ino: int, data: bytes, *, checksum: bool = False) -> Source:
        """Put a new version on the server."""
        self.world.paths[Ino(ino)] = RemotePath(f"/d/{ino}")
        digest = f"MD5:{hashlib.md5(data).hexdigest()}" if checksum else None  # noqa: S324
        return self.world.file(data, ino, digest)

    @property
    def kept(self) -> dict[int, bytes]:
        return {ino: data for (ino, _, _), data in self.world.blocks.blocks.items()}


@pytest.mark.parametrize("checksum", [True, False])
async def test_a_folder_comes_in_few_requests(fetching: Fetching, checksum: bool) -> None:
    shelf = Shelf(250, checksum=checksum)
    async with fetching(shelf.world) as fetcher:
        assert await fetcher.prefetch_archive(shelf.sources) == shelf.sources
        assert shelf.kept == shelf.contents
        assert [len(asked) for asked in shelf.remote.archives] == [100, 100, 50]
        assert (shelf.remote.listings, shelf.remote.stats) == ((0, 0) if checksum else (1, 3))
        assert fetcher.statistics().archived_files == 250
        for source in shelf.sources:
            assert await fetcher.read(source, 0, source.size) == shelf.contents[source.ino]
    assert shelf.remote.requests == []


async def test_what_is_read_next_is_in_memory_as_well(fetching: Fetching) -> None:
    shelf = Shelf(120, checksum=True)
    large = Shelf(2, checksum=True, size=65 * KIB)
    for part, loads in ((shelf, 0), (large, 2)):
        async with fetching(part.world) as fetcher:
            assert await fetcher.prefetch_archive(part.sources, read_soon=True) == part.sources
            assert part.kept == part.contents
            for source in part.sources:
                assert await fetcher.read(source, 0, source.size) == part.contents[source.ino]
            assert part.world.blocks.gets == loads
            held = fetcher.statistics().memory_used_bytes
            fetcher.forget()
            assert held > 0 == fetcher.statistics().memory_used_bytes
            assert await fetcher.read(part.sources[0], 0, 10) == part.contents[1][:10]


async def test_what_nobody_reads_yet_is_not_in_memory(fetching: Fetching) -> None:
    shelf = Shelf(20, checksum=True)
    async with fetching(shelf.world) as fetcher:
        assert await fetcher.prefetch_archive(shelf.sources) == shelf.sources
        assert fetcher.statistics().memory_used_bytes == 0


async def test_what_needs_no_fetching_is_not_asked_for(fetching: Fetching) -> None:
    shelf = Shelf(6, checksum=True)
    large = shelf.put(50, some_bytes(MIB + 1), checksum=True)
    empty = Source(Ino(51), ContentVersion(0), RemoteVersion("e", 0, 0))
    async with fetching(shelf.world) as fetcher:
        await fetcher.read(shelf.sources[0], 0, 10)
        await trio.sleep(1)
        async with fetcher.paused(shelf.sources[1].ino):
            brought = await fetcher.prefetch_archive([*shelf.sources, large, empty])
        assert brought == shelf.sources[2:]
        assert await fetcher.prefetch_archive(shelf.sources[2:]) == []
    assert [len(asked) for asked in shelf.remote.archives] == [4]


class TestChangesMeanwhile:
    """Whatever another client does while the archive is made, no byte of another version is kept."""

    async def prefetch(self, shelf: Shelf, fetching: Fetching, meanwhile: Happening) -> list[int]:
        shelf.remote.meanwhile = meanwhile
        async with fetching(shelf.world) as fetcher:
            brought = await fetcher.prefetch_archive(shelf.sources)
            for source in brought:
                assert shelf.kept[source.ino] == shelf.contents[source.ino]
            assert set(shelf.kept) == {source.ino for source in brought}
        return sorted(shelf.kept)

    @pytest.mark.parametrize(("checksum", "kept"), [(True, [2, 3]), (False, [])])
    async def test_a_file_is_written(self, fetching: Fetching, checksum: bool, kept: list[int]) -> None:
        shelf = Shelf(3, checksum=checksum)

        def write() -> None:
            shelf.put(1, some_bytes(4 * KIB, 99))

        found = await self.prefetch(shelf, fetching, write)
        assert found == kept

    @pytest.mark.parametrize("checksum", [True, False])
    async def test_it_is_written_without_another_etag(self, fetching: Fetching, checksum: bool) -> None:
        """Nextcloud's ETag is that of the modification second: only the folder's tells (protocol.md §3.1)."""
        shelf = Shelf(3, checksum=checksum)

        def write() -> None:
            version, _ = shelf.remote.files[RemotePath("/d/1")]
            shelf.remote.files[RemotePath("/d/1")] = version, some_bytes(4 * KIB, 99)
            shelf.remote.changes += 1

        assert await self.prefetch(shelf, fetching, write) == ([2, 3] if checksum else [])

    @pytest.mark.parametrize("checksum", [True, False])
    async def test_two_change_places_and_back(self, fetching: Fetching, checksum: bool) -> None:
        shelf = Shelf(3, checksum=checksum)
        files = shelf.remote.files
        one, two = RemotePath("/d/1"), RemotePath("/d/2")

        def exchange() -> None:
            files[one], files[two] = files[two], files[one]
            shelf.remote.changes += 1
            shelf.remote.meanwhile = _nothing

        async def back() -> None:
            await trio.sleep(0.12 if checksum else 0.15)
            files[one], files[two] = files[two], files[one]

        async with trio.open_nursery() as nursery:
            nursery.start_soon(back)
            assert await self.prefetch(shelf, fetching, exchange) == ([3] if checksum else [])

    async def test_it_was_written_before(self, fetching: Fetching) -> None:
        shelf = Shelf(4, checksum=False)
        shelf.put(1, some_bytes(4 * KIB, 99))
        assert await self.prefetch(shelf, fetching, _nothing) == [2, 3, 4]
        assert "1" not in shelf.remote.archives[0]

    async def test_one_is_removed_and_one_grows(self, fetching: Fetching) -> None:
        shelf = Shelf(4, checksum=True)

        def change() -> None:
            del shelf.remote.files[RemotePath("/d/1")]
            shelf.put(2, some_bytes(5 * KIB))

        assert await self.prefetch(shelf, fetching, change) == [3, 4]

    async def test_a_wrong_checksum_is_no_proof(self, fetching: Fetching) -> None:
        """The file may be sound all the same: that is for its own GET to find out."""
        shelf = Shelf(3, checksum=True)
        shelf.remote.archive_flips = 1
        assert await self.prefetch(shelf, fetching, _nothing) == []


async def test_an_upload_of_ours_goes_first(fetching: Fetching) -> None:
    """An archive reads its files, and holds the server's locks on them meanwhile."""
    shelf = Shelf(10, checksum=True)
    shelf.remote.archive_s = 60.0
    async with fetching(shelf.world) as fetcher, trio.open_nursery() as nursery:
        nursery.start_soon(fetcher.prefetch_archive, shelf.sources)
        await trio.sleep(1)
        begun_s = trio.current_time()
        async with fetcher.paused(shelf.sources[3].ino):
            assert trio.current_time() - begun_s < 0.1
    assert shelf.kept == {}


async def test_an_upload_that_began_meanwhile_goes_first_too(fetching: Fetching) -> None:
    shelf = Shelf(10, checksum=False)
    shelf.remote.latency_s = 5.0
    async with fetching(shelf.world) as fetcher, trio.open_nursery() as nursery:
        nursery.start_soon(fetcher.prefetch_archive, shelf.sources)
        await trio.sleep(1)
        async with fetcher.paused(shelf.sources[3].ino):
            await trio.sleep(60)
    assert [len(asked) for asked in shelf.remote.archives] == [9]
    assert len(shelf.kept) == 9


async def test_readers_go_first(fetching: Fetching) -> None:
    shelf = Shelf(300, checksum=True)
    shelf.remote.archive_s = 100.0
    async with fetching(shelf.world) as fetcher, trio.open_nursery() as nursery:
        for start in range(0, 300, 50):
            nursery.start_soon(fetcher.prefetch_archive, shelf.sources[start : start + 50])
        await trio.sleep(1)
        assert len(shelf.remote.archives) == 2
        begun_s = trio.current_time()
        assert await fetcher.read(shelf.sources[250], 0, 10) == shelf.contents[251][:10]
        assert trio.current_time() - begun_s < 1
        nursery.cancel_scope.cancel()


async def test_memory_stays_bounded(fetching: Fetching) -> None:
    shelf = Shelf(40, checksum=True, size=500 * KIB)
    async with fetching(shelf.world, ceiling_bytes=16 * MIB) as fetcher:
        async with trio.open_nursery() as nursery:
            for start in range(0, 40, 10):
                nursery.start_soon(fetcher.prefetch_archive, shelf.sources[start : start + 10])
        assert shelf.kept == shelf.contents
        assert fetcher.statistics().memory_peak_bytes <= 16 * MIB
    assert all(sum(asked.values()) <= 4 * MIB for asked in shelf.remote.archives)


@pytest.mark.parametrize("failure", [Unsupported("no archives"), Unreachable("no answer")])
async def test_failures_are_told_and_leave_nothing(fetching: Fetching, failure: Exception) -> None:
    shelf = Shelf(5, checksum=True)
    shelf.remote.failure = failure
    async with fetching(shelf.world) as fetcher:
        with pytest.raises(type(failure)):
            await fetcher.prefetch_archive(shelf.sources)
        assert shelf.kept == {}
        shelf.remote.failure = None
        assert await fetcher.prefetch_archive(shelf.sources) == shelf.sources


async def test_how_many_is_a_matter_of_configuration(fetching: Fetching) -> None:
    shelf = Shelf(9, checksum=True)
    config = FetchConfig(archive_files=4)
    async with fetching(shelf.world, config=config) as fetcher:
        # The last one by itself is left to a GET.
        assert await fetcher.prefetch_archive(shelf.sources) == shelf.sources[:8]


@pytest.mark.parametrize("changed", [False, True])
async def test_a_listing_of_before_is_proof_enough(fetching: Fetching, changed: bool) -> None:
    """Without a request: its ETag, and no change of the folder until after the archive."""
    shelf = Shelf(4, checksum=False)
    etag = shelf.remote._etag(RemotePath("/d"))
    if changed:
        shelf.put(1, some_bytes(4 * KIB, 99))
    async with fetching(shelf.world) as fetcher:
        brought = await fetcher.prefetch_archive(shelf.sources, listed_etag=etag)
    assert shelf.kept == ({} if changed else shelf.contents)
    assert len(brought) == len(shelf.kept)
    assert (shelf.remote.listings, shelf.remote.stats) == (0, 1)


async def test_the_etag_of_one_folder_proves_nothing_about_another(fetching: Fetching) -> None:
    shelf = Shelf(3, checksum=False)
    for ino in (8, 9):
        shelf.world.paths[Ino(ino)] = RemotePath(f"/other/{ino}")
    others = [shelf.world.file(some_bytes(KIB, ino), ino) for ino in (8, 9)]
    async with fetching(shelf.world) as fetcher:
        brought = await fetcher.prefetch_archive([*shelf.sources, *others], listed_etag="e")
    assert brought == [*shelf.sources, *others]
    assert shelf.remote.listings == 2
