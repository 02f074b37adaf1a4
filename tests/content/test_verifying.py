"""Checksums: no wrong byte of a small file is handed out, a large one is checked behind its readers' backs."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec
import pytest
import trio

from cloudfs.content import checksums
from cloudfs.content.fetch import Fetcher, Source
from cloudfs.errors import ChecksumMismatch, Locked, ProtocolViolation
from cloudfs.types import ContentVersion, Ino
from tests.content.conftest import Fetching
from tests.content.fakes import KIB, MIB, Fault, World, some_bytes

ExpectLog = Callable[[str], None]
AGAIN = "it is fetched again"
ACCEPTED = "the server's checksum .* is wrong"
REFUSED = "not readable"


def sha1(data: bytes) -> str:
    return "SHA1:" + hashlib.sha1(data).hexdigest()  # noqa: S324  # what Nextcloud's clients use


@asynccontextmanager
async def verifying(world: World, fetching: Fetching) -> AsyncIterator[Fetcher]:
    """Give a fetcher whose background check runs."""
    async with fetching(world) as fetcher, trio.open_nursery() as nursery:
        nursery.start_soon(fetcher.verifier.run)
        yield fetcher
        nursery.cancel_scope.cancel()


async def read_all(fetcher: Fetcher, source: Source) -> bytes:
    pattern = fetcher.pattern()
    steps = range(0, source.size, 128 * KIB)
    return b"".join(
        [await fetcher.read(source, at, min(at + 128 * KIB, source.size), pattern) for at in steps]
    )


async def settled(fetcher: Fetcher) -> None:
    """Wait until everything is checked. Hashing happens in threads, for which a clock that jumps does not wait."""
    with trio.fail_after(10_000):
        while fetcher.verifier.pending:
            await trio.sleep(0.1)


async def begun(world: World) -> None:
    """Wait until the first block is read to be checked."""
    gets = world.blocks.gets
    while world.blocks.gets == gets:
        await trio.sleep(0.05)


def cached(world: World, source: Source) -> bytes:
    return b"".join(data for key, data in sorted(world.blocks.blocks.items()) if key[0] == source.ino)


@pytest.mark.parametrize(
    ("checksum", "checked"),
    [
        (sha1(b"x"), True),
        (sha1(b"x").lower(), True),
        ("MD5:" + "0" * 32, True),
        ("SHA256:" + "0" * 64, True),
        ("SHA3-256:" + "0" * 64, True),
        ("SHA1:" + "0" * 39, False),
        ("ADLER32:01020304", False),
        ("rubbish", False),
        ("", False),
        (None, False),
    ],
)
def test_which_checksums_can_be_checked(checksum: str | None, checked: bool) -> None:
    assert checksums.can_check(checksum) == checked


@pytest.mark.parametrize("name", ["SHA1", "MD5", "SHA256", "SHA3-256"])
def test_every_checksum_that_can_be_checked_is_the_usual_one(name: str) -> None:
    data = some_bytes(1000)
    expected = hashlib.new(name.lower().replace("-", "_"), data).hexdigest()
    assert checksums.of(data, f"{name}:") == f"{name}:{expected}"


class TestSmallFiles:
    """Up to one block: checked before any byte is handed out."""

    @pytest.mark.parametrize("size", [1, 2, 4096, MIB - 1, MIB])
    async def test_a_sound_file_is_one_request(self, world: World, fetching: Fetching, size: int) -> None:
        data = some_bytes(size)
        source = world.file(data, checksum=sha1(data))
        async with fetching(world) as fetcher:
            assert await fetcher.read(source, size // 2, size) == data[size // 2 :]
            assert await read_all(fetcher, source) == data
        assert world.remote.spans == [(0, size)]
        assert cached(world, source) == data

    async def test_many_readers_of_a_slow_line_share_one_request(
        self, world: World, fetching: Fetching
    ) -> None:
        world.remote.bytes_per_s = 100 * KIB
        data = some_bytes(MIB)
        source = world.file(data, checksum=sha1(data))
        got: dict[int, bytes] = {}

        async def read(start: int) -> None:
            got[start] = bytes(await fetcher.read(source, start, start + 1000))

        async with fetching(world) as fetcher, trio.open_nursery() as nursery:
            for start in (0, 600 * KIB, 100, 1000 * KIB):
                nursery.start_soon(read, start)
                await trio.sleep(2)
        assert got == {start: data[start : start + 1000] for start in got}
        assert len(got) == 4
        assert world.remote.spans == [(0, MIB)]

    async def test_a_byte_that_was_changed_on_its_way_is_never_served(
        self, world: World, fetching: Fetching, expect_log: ExpectLog
    ) -> None:
        expect_log(AGAIN)
        data = some_bytes(300 * KIB)
        source = world.file(data, checksum=sha1(data))
        world.remote.flips = [1]
        got: list[bytes] = []

        async def read(start: int) -> None:
            got.append(bytes(await fetcher.read(source, start, start + 1000)))

        async with fetching(world) as fetcher:
            async with trio.open_nursery() as nursery:
                for start in (0, 1000, 200 * KIB):
                    nursery.start_soon(read, start)
            assert fetcher.doubts() == []
        assert sorted(got) == sorted(data[at : at + 1000] for at in (0, 1000, 200 * KIB))
        assert len(world.remote.requests) == 2
        assert cached(world, source) == data

    async def test_a_file_that_is_another_each_time_is_refused(
        self, world: World, fetching: Fetching, expect_log: ExpectLog
    ) -> None:
        expect_log(AGAIN)
        expect_log(REFUSED)
        data = some_bytes(5000)
        source = world.file(data, checksum=sha1(data))
        world.remote.flips = [1, 2]
        async with fetching(world) as fetcher:
            for _ in range(3):
                with pytest.raises(ChecksumMismatch) as caught:
                    await fetcher.read(source, 0, 100)
                assert caught.value.errno == errno.EIO
            with pytest.raises(ChecksumMismatch):
                async for _ in fetcher.chunks(source, 0, 100):
                    raise AssertionError
            assert len(world.remote.requests) == 2
            (doubt,) = fetcher.doubts()
            assert (doubt.ino, doubt.served, doubt.said) == (source.ino, False, sha1(data))
            # Another version is read at once, and this one after a while, when its cause may have gone.
            newer = world.file(data[1:], ino=8, checksum=sha1(data[1:]))
            assert await fetcher.read(newer, 0, 100) == data[1:101]
            await trio.sleep(601)
            assert await fetcher.read(source, 0, 100) == data[:100]
            assert fetcher.doubts() == []

    async def test_a_wrong_checksum_denies_nobody_the_file(
        self, world: World, fetching: Fetching, expect_log: ExpectLog
    ) -> None:
        """The server keeps any checksum that a client names: two equal fetches are believed more."""
        expect_log(AGAIN)
        expect_log(ACCEPTED)
        data = some_bytes(5000)
        source = world.file(data, checksum=sha1(b"something else"))
        async with fetching(world) as fetcher:
            assert await read_all(fetcher, source) == data
            (doubt,) = fetcher.doubts()
            assert (doubt.served, doubt.said, doubt.came) == (True, sha1(b"something else"), sha1(data))
            assert len(world.remote.requests) == 2
            # Once is enough: after it has gone from the cache, too.
            await trio.sleep(1)
            world.blocks.blocks.clear()
            fetcher.forget()
            assert await read_all(fetcher, source) == data
            assert len(world.remote.requests) == 3

    async def test_broken_connections_go_on_where_they_broke(self, world: World, fetching: Fetching) -> None:
        data = some_bytes(700 * KIB)
        source = world.file(data, checksum=sha1(data))
        world.remote.faults = [Fault.reset(300 * KIB), Fault.cut(100 * KIB)]
        async with fetching(world) as fetcher:
            assert await read_all(fetcher, source) == data
        assert [span[0] // KIB for span in world.remote.spans] == [0, 300, 400]

    async def test_a_changed_byte_and_a_broken_connection_together(
        self, world: World, fetching: Fetching, expect_log: ExpectLog
    ) -> None:
        expect_log(AGAIN)
        data = some_bytes(700 * KIB)
        source = world.file(data, checksum=sha1(data))
        world.remote.faults = [Fault.reset(300 * KIB), None, Fault.reset(100 * KIB)]
        world.remote.flips = [1]
        async with fetching(world) as fetcher:
            assert await read_all(fetcher, source) == data

    async def test_a_slow_line_gets_there_in_several_reads(self, world: World, fetching: Fetching) -> None:
        """A program's read ends after some seconds: what came until then must not have come in vain."""
        world.remote.bytes_per_s = 40 * KIB
        data = some_bytes(MIB)
        source = world.file(data, checksum=sha1(data))
        async with fetching(world) as fetcher:
            for _ in range(5):
                with trio.move_on_after(7.5):
                    assert await fetcher.read(source, 5000, 9000) == data[5000:9000]
                    break
                await trio.sleep(10)
            else:
                raise AssertionError
        assert world.remote.sent_bytes <= MIB + 5 * 64 * KIB

    async def test_without_a_checksum_bytes_come_at_once(self, world: World, fetching: Fetching) -> None:
        world.remote.bytes_per_s = 128 * KIB
        data = some_bytes(MIB)
        for checksum, least_s in ((None, 0.0), ("rubbish", 0.0), (sha1(data), 7.0)):
            source = world.file(data, checksum=checksum)
            async with fetching(world) as fetcher:
                begun_s = trio.current_time()
                assert await fetcher.read(source, 0, 4 * KIB) == data[: 4 * KIB]
                assert least_s <= trio.current_time() - begun_s <= least_s + 2

    async def test_what_an_upload_takes_from_its_base_is_checked_too(
        self, world: World, fetching: Fetching, expect_log: ExpectLog
    ) -> None:
        expect_log(AGAIN)
        data = some_bytes(5000)
        source = world.file(data, checksum=sha1(data))
        world.remote.flips = [1]
        async with fetching(world) as fetcher:
            assert b"".join([part async for part in fetcher.chunks(source, 10, 2000)]) == data[10:2000]

    async def test_a_pause_stops_it_and_it_goes_on(self, world: World, fetching: Fetching) -> None:
        world.remote.bytes_per_s = 1 * MIB
        data = some_bytes(MIB)
        source = world.file(data, checksum=sha1(data))
        got: list[bytes] = []

        async def read(fetcher: Fetcher) -> None:
            got.append(bytes(await fetcher.read(source, 0, source.size)))

        async with fetching(world) as fetcher, trio.open_nursery() as nursery:
            nursery.start_soon(read, fetcher)
            await trio.sleep(0.5)
            async with fetcher.paused(source.ino):
                await trio.sleep(1)
        assert got == [data]
        assert world.remote.spans == [(0, MIB), (448 * KIB, MIB)]

    async def test_a_prefetch_is_checked(
        self, world: World, fetching: Fetching, expect_log: ExpectLog
    ) -> None:
        expect_log(AGAIN)
        data = some_bytes(5000)
        source = world.file(data, checksum=sha1(data))
        world.remote.flips = [1]
        async with fetching(world) as fetcher:
            await fetcher.prefetch_whole(source)
        assert cached(world, source) == data

    async def test_little_memory_is_enough(self, world: World, fetching: Fetching) -> None:
        data = some_bytes(MIB)
        sources = [world.file(data, ino, sha1(data)) for ino in range(7, 27)]
        async with fetching(world, ceiling_bytes=3 * MIB) as fetcher:
            async with trio.open_nursery() as nursery:
                for source in sources:
                    nursery.start_soon(fetcher.prefetch_whole, source)
                for source in sources[::3]:
                    assert await read_all(fetcher, source) == data
            assert fetcher.statistics().memory_peak_bytes <= 8 * MIB


class TestLargeFiles:
    """Several blocks: checked once they are all there and the line is quiet."""

    async def test_a_sound_file_is_checked_once(self, world: World, fetching: Fetching) -> None:
        data = some_bytes(10 * MIB)
        source = world.file(data, checksum=sha1(data))
        async with verifying(world, fetching) as fetcher:
            assert await read_all(fetcher, source) == data
            assert fetcher.verifier.checked == 0
            await settled(fetcher)
            assert (fetcher.verifier.checked, fetcher.doubts()) == (1, [])
            assert await read_all(fetcher, source) == data
            await settled(fetcher)
            assert fetcher.verifier.checked == 1
        assert world.remote.sent_bytes == len(data)

    async def test_a_byte_that_was_changed_on_its_way_is_mended(
        self, world: World, fetching: Fetching, expect_log: ExpectLog
    ) -> None:
        expect_log(f"/7: .*{AGAIN}")
        data = some_bytes(10 * MIB)
        source = world.file(data, checksum=sha1(data))
        world.remote.flips = [1]
        async with verifying(world, fetching) as fetcher:
            assert await read_all(fetcher, source) != data
            await settled(fetcher)
            assert cached(world, source) == data
            assert await read_all(fetcher, source) == data
            assert (fetcher.verifier.checked, fetcher.doubts()) == (2, [])

    async def test_the_kernel_forgets_what_was_wrong(
        self, world: World, fetching: Fetching, expect_log: ExpectLog
    ) -> None:
        expect_log(AGAIN)
        data = some_bytes(3 * MIB)
        source = world.file(data, checksum=sha1(data))
        world.remote.flips = [1]
        dropped: list[Ino] = []
        async with verifying(world, fetching) as fetcher:
            fetcher.verifier._dropped = dropped.append
            await read_all(fetcher, source)
            await settled(fetcher)
        assert dropped == [source.ino]

    async def test_a_file_that_is_another_each_time_is_refused(
        self, world: World, fetching: Fetching, expect_log: ExpectLog
    ) -> None:
        expect_log(AGAIN)
        expect_log(REFUSED)
        data = some_bytes(3 * MIB)
        source = world.file(data, checksum=sha1(data))
        world.remote.flips = [1, 2]
        async with verifying(world, fetching) as fetcher:
            await read_all(fetcher, source)
            await settled(fetcher)
            assert cached(world, source) == b""
            with pytest.raises(ChecksumMismatch):
                await fetcher.read(source, 0, 10)
            assert [doubt.served for doubt in fetcher.doubts()] == [False]
            await trio.sleep(601)
            assert await read_all(fetcher, source) == data
            await settled(fetcher)
            assert fetcher.doubts() == []

    async def test_a_wrong_checksum_denies_nobody_the_file(
        self, world: World, fetching: Fetching, expect_log: ExpectLog
    ) -> None:
        expect_log(AGAIN)
        expect_log(ACCEPTED)
        data = some_bytes(3 * MIB)
        source = world.file(data, checksum=sha1(b""))
        async with verifying(world, fetching) as fetcher:
            assert await read_all(fetcher, source) == data
            await settled(fetcher)
            assert cached(world, source) == data
            assert [doubt.served for doubt in fetcher.doubts()] == [True]
            assert await read_all(fetcher, source) == data

    async def test_a_file_read_in_parts_is_not_checked(self, world: World, fetching: Fetching) -> None:
        data = some_bytes(40 * MIB)
        source = world.file(data, checksum=sha1(b"another"))
        async with verifying(world, fetching) as fetcher:
            await fetcher.read(source, 20 * MIB, 20 * MIB + 5)
            await settled(fetcher)
            assert fetcher.verifier.checked == 0
            # What is missing is fetched later: then it is.
            for index in range(40):
                world.blocks.blocks[source.ino, source.version, index] = data[index * MIB : (index + 1) * MIB]
            await settled(fetcher)
            assert fetcher.verifier.checked == 0

    async def test_nobody_goes_through_all_that_a_server_says_there_is(
        self, world: World, fetching: Fetching
    ) -> None:
        """A million terabytes are 10^12 blocks: to count those that are missing would take the loop for hours."""
        data = some_bytes(3 * MIB)
        told = msgspec.structs.replace(
            world.file(data, checksum=sha1(data)).remote, size=999_999_999_999_999_999
        )
        source = Source(Ino(77), ContentVersion(1), told)
        async with verifying(world, fetching) as fetcher:
            world.blocks.blocks[source.ino, source.version, 0] = data[:MIB]
            fetcher.verifier.note(source)
            await settled(fetcher)
            assert fetcher.verifier.checked == 0
            assert fetcher.missing_bytes(source) == told.size - MIB

    async def test_what_was_written_here_is_not_checked(self, world: World, fetching: Fetching) -> None:
        """Its blocks did not come from the server: they were hashed when they went there."""
        data = some_bytes(3 * MIB)
        source = world.file(data, checksum=sha1(data))
        for index in range(3):
            world.blocks.blocks[source.ino, source.version, index] = data[index * MIB : (index + 1) * MIB]
        async with verifying(world, fetching) as fetcher:
            assert await read_all(fetcher, source) == data
            await settled(fetcher)
            assert fetcher.verifier.checked == 0

    async def test_it_gives_way_to_transfers(self, world: World, fetching: Fetching) -> None:
        data, other = some_bytes(8 * MIB), some_bytes(30 * MIB, 2)
        source, busy = world.file(data, checksum=sha1(data)), world.file(other, ino=8)
        world.blocks.get_s = 0.5
        async with verifying(world, fetching) as fetcher:
            await read_all(fetcher, source)
            await begun(world)
            gets = world.blocks.gets
            world.remote.bytes_per_s = 1 * MIB
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read_all, fetcher, busy)
                await trio.sleep(10)
                assert fetcher.statistics().transfers
                assert world.blocks.gets <= gets + 1
                assert fetcher.verifier.checked == 0
            await settled(fetcher)
            assert fetcher.verifier.checked == 1

    async def test_a_block_that_goes_meanwhile_ends_the_check(self, world: World, fetching: Fetching) -> None:
        data = some_bytes(8 * MIB)
        source = world.file(data, checksum=sha1(b"another"))
        world.blocks.get_s = 0.5
        async with verifying(world, fetching) as fetcher:
            await read_all(fetcher, source)
            await begun(world)
            await world.blocks.drop(source.ino, source.version)
            await settled(fetcher)
            assert (fetcher.verifier.checked, fetcher.doubts()) == (0, [])

    async def test_a_second_fetch_that_fails_is_made_up_for(
        self, world: World, fetching: Fetching, expect_log: ExpectLog
    ) -> None:
        expect_log(AGAIN)
        expect_log(ACCEPTED)
        data = some_bytes(3 * MIB)
        source = world.file(data, checksum=sha1(b"another"))
        async with verifying(world, fetching) as fetcher:
            assert await read_all(fetcher, source) == data
            async with fetcher.paused(source.ino):
                await settled(fetcher)
                assert fetcher.doubts() == []
            assert await read_all(fetcher, source) == data
            await settled(fetcher)
            assert [doubt.served for doubt in fetcher.doubts()] == [True]


async def test_a_reader_is_told_while_an_upload_keeps_the_file(world: World, fetching: Fetching) -> None:
    data = some_bytes(5000)
    source = world.file(data, checksum=sha1(data))
    async with fetching(world) as fetcher, fetcher.paused(source.ino):
        with pytest.raises(Locked):
            await fetcher.read(source, 0, 10)


async def test_a_version_that_comes_too_long_is_no_checksum_matter(world: World, fetching: Fetching) -> None:
    data = some_bytes(5000)
    source = world.file(data, checksum=sha1(data))
    world.remote.faults = [Fault.cut(0), Fault.cut(0)]
    async with fetching(world) as fetcher:
        with pytest.raises(ProtocolViolation):
            await fetcher.read(source, 0, 10)
        assert fetcher.doubts() == []
    assert source.version == ContentVersion(1)
