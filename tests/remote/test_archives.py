"""Small files of a folder in one request: what comes is whole and what was asked for, or it is nothing."""

from __future__ import annotations

import io
import os
import random
import unicodedata
import zipfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cloudfs.errors import (
    NotAuthenticated,
    NotFound,
    ProtocolViolation,
    ServerFault,
    Unavailable,
    Unsupported,
)
from cloudfs.paths import join
from cloudfs.remote.archives import batches, members
from cloudfs.remote.connect import discover
from cloudfs.remote.files import WebdavRemote
from cloudfs.types import RemotePath
from tests.remote.conftest import store
from tests.servers import Answer, CutResponse, Spoil, StandIn
from tests.servers.standin.zips import Member, zipped

NAMES = ["a.txt", "ü 語[1].md", 'quo"te', "com,ma", "plus+%41", " lead", "-dash", "empty", "O'Neil & co?#"]


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as standin:
        yield standin


@asynccontextmanager
async def remote_of(server: StandIn, below: str = "") -> AsyncIterator[WebdavRemote]:
    account = server.account("alice")
    site = await discover(f"{server.dav_url('alice')}{below}", "alice", account.app_password())
    remote = WebdavRemote(site, account.app_password())
    server.requests.reset()
    try:
        yield remote
    finally:
        await remote.aclose()


def archive(*contents: tuple[str, bytes], zip64: bool = False) -> bytes:
    return b"".join(zipped([Member(name, 10**9, data) for name, data in contents], zip64=zip64))


class TestOnServers:
    """On every server that there is, a real Nextcloud among them."""

    async def test_files_of_a_folder(self, remote: WebdavRemote, top: RemotePath) -> None:
        contents = {name: b"" if name == "empty" else os.urandom(1000 + len(name)) for name in NAMES}
        sizes = {name: len(data) for name, data in contents.items()} | {"gone": 5}
        if not remote.features.nextcloud:
            with pytest.raises(Unsupported):
                await remote.read_archive(top, sizes)
            return
        for name, data in contents.items():
            await store(remote, join(top, name), data)
        assert await remote.read_archive(top, sizes) == contents
        # Of another length than it should have is another version: left out.
        sizes["a.txt"] += 1
        del contents["a.txt"]
        assert await remote.read_archive(top, sizes) == contents
        assert await remote.read_archive(join(top, "missing"), sizes) == {}


class TestForms:
    async def test_what_is_offered_is_found_out_once(self, server: StandIn) -> None:
        server.account("alice").populate({"d/a": b"1", "d/b": b"22"})
        async with remote_of(server) as remote:
            for _ in range(3):
                assert await remote.read_archive(RemotePath("/d"), {"a": 1, "b": 2}) == {
                    "a": b"1",
                    "b": b"22",
                }
        assert [record.path for record in server.requests] == [
            "/remote.php/dav/files/alice/d/",
            *["/index.php/apps/files/ajax/download.php"] * 3,
        ]

    @pytest.mark.parametrize("status", [401, 403])
    async def test_a_guard_before_the_web_interface_is_not_about_the_login(
        self, server: StandIn, status: int
    ) -> None:
        """Who guards index.php alone, against all but the own network, does not know this account."""
        server.account("alice").populate({"d/a": b"1", "d/b": b"22"})
        server.faults.add(Answer(status, b"<html>who are you?"), path=r"/index\.php/", times=None)
        refusals: list[int] = []
        async with remote_of(server) as remote:
            remote.admit_by(lambda: None, lambda: refusals.append(status))
            for _ in range(2):
                with pytest.raises(Unsupported):
                    await remote.read_archive(RemotePath("/d"), {"a": 1, "b": 2})
            await remote.list_folder(RemotePath("/d"))
        assert not refusals
        assert server.requests.count("GET", "download.php") == 1

    async def test_the_form_of_31(self, server: StandIn) -> None:
        """As documented: nothing later than 29.0.1 could be tried here."""
        server.site.archives = "dav"
        server.account("alice").populate({f"d/{name}": name.encode() for name in NAMES})
        sizes = {name: len(name.encode()) for name in NAMES}
        async with remote_of(server) as remote:
            for _ in range(2):
                found = await remote.read_archive(RemotePath("/d"), sizes)
                assert found == {name: name.encode() for name in NAMES}
            with pytest.raises(NotFound):
                await remote.read_archive(RemotePath("/nope"), sizes)
        assert server.requests.count("GET", "download.php") == 0

    async def test_a_server_without_archives_is_asked_seldom(self, server: StandIn) -> None:
        server.site.archives = ""
        server.account("alice").populate({"d/a": b"1", "d/b": b"22"})
        async with remote_of(server) as remote:
            for _ in range(3):
                with pytest.raises(Unsupported):
                    await remote.read_archive(RemotePath("/d"), {"a": 1, "b": 2})
            assert len(server.requests) == 2
            # It may be another one after the next look at what it is.
            server.site.archives = "download"
            await remote.connect()
            assert len(await remote.read_archive(RemotePath("/d"), {"a": 1, "b": 2})) == 2

    async def test_below_a_folder_of_the_home(self, server: StandIn) -> None:
        server.account("alice").populate({"ä b/c/d/a": b"1", "ä b/c/d/b": b"22", "d/a": b"x", "d/b": b"xx"})
        async with remote_of(server, "ä b/c") as remote:
            assert await remote.read_archive(RemotePath("/d"), {"a": 1, "b": 2}) == {"a": b"1", "b": b"22"}

    async def test_of_one_file_there_is_none(self, server: StandIn) -> None:
        """download.php sends it as it is: a file that is a zip itself would be taken for the archive."""
        async with remote_of(server) as remote:
            for sizes in ({}, {"a": 1}):
                with pytest.raises(ValueError, match="fewer than two"):
                    await remote.read_archive(RemotePath("/d"), sizes)
        assert len(server.requests) == 0


class TestAnswers:
    """What is no archive is none, and concludes nothing."""

    async def ask(self, server: StandIn, answer: Answer | CutResponse | Spoil) -> None:
        server.account("alice").populate({"d/a": b"1" * 5000, "d/b": b"22"})
        sizes = {"a": 5000, "b": 2}
        async with remote_of(server) as remote:
            await remote.read_archive(RemotePath("/d"), sizes)
            server.faults.add(answer, path="download.php", times=None)
            try:
                await remote.read_archive(RemotePath("/d"), sizes)
            finally:
                server.faults.clear()
                assert len(await remote.read_archive(RemotePath("/d"), sizes)) == 2

    @pytest.mark.parametrize("at", [0, 3, 30, 100, 5030, 5050, -1])
    async def test_a_changed_byte(self, server: StandIn, at: int) -> None:
        """In a content its CRC tells; where it changes nothing that is used, the files are right all the same."""
        good = {"a": b"1" * 5000, "b": b"22"}
        body = bytearray(archive(*good.items()))
        body[at] ^= 1
        try:
            assert members(bytes(body), {"a": 5000, "b": 2}) == good
        except ProtocolViolation:
            return
        assert at not in {30, 100, 5030}

    async def test_one_that_breaks_off_is_asked_for_again(self, server: StandIn) -> None:
        """29.0.1 sends half an archive, and then a page that says "Cannot download file" (measured)."""
        server.account("alice").populate({"d/a": b"1" * 5000, "d/b": b"22"})
        half = (
            archive(("a", b"1" * 5000))[:3000] + b"<!DOCTYPE html>\n<html><p>Cannot download file</p></html>"
        )
        async with remote_of(server) as remote:
            rule = server.faults.add(
                Answer(200, half, {"Content-Type": "application/zip"}), path="download.php", times=2
            )
            assert len(await remote.read_archive(RemotePath("/d"), {"a": 5000, "b": 2})) == 2
            assert rule.hits == 2

    async def test_spoiled_on_its_way(self, server: StandIn) -> None:
        with pytest.raises(ProtocolViolation):
            await self.ask(server, Spoil(at=200))

    @pytest.mark.parametrize("after", [0, 10, 5000, 5150])
    async def test_cut(self, server: StandIn, after: int) -> None:
        with pytest.raises(ProtocolViolation):
            await self.ask(server, CutResponse(after))

    @pytest.mark.parametrize(
        ("status", "kind", "error"),
        [
            (401, "application/json", NotAuthenticated),
            (429, "text/html", Unavailable),
            (500, "text/html", ServerFault),
            (503, "text/html", Unavailable),
        ],
    )
    async def test_errors(self, server: StandIn, status: int, kind: str, error: type[Exception]) -> None:
        if status != 401:
            with pytest.raises(error):
                await self.ask(server, Answer(status, b"{}", {"Content-Type": kind}))
            return
        async with remote_of(server) as remote:
            server.faults.add(Answer(status, b"{}", {"Content-Type": kind}), times=None, path="d")
            with pytest.raises(error):
                await remote.read_archive(RemotePath("/d"), {"a": 1, "b": 2})

    async def test_more_than_was_asked_for_is_not_taken_in(self, server: StandIn) -> None:
        large = archive(("a", bytes(100_000)), ("b", b"22"))
        with pytest.raises(ProtocolViolation, match="longer than what was asked for"):
            await self.ask(server, Answer(200, large, {"Content-Type": "application/zip"}))

    @pytest.mark.parametrize("status", [200, 302])
    @pytest.mark.parametrize("known", [True, False])
    async def test_a_page_concludes_nothing(self, server: StandIn, status: int, known: bool) -> None:
        """Of a file that is being written download.php says so in a page with the status 200 (measured)."""
        server.account("alice").populate({"d/a": b"1", "d/b": b"22"})
        page = Answer(status, b"<html>Welcome</html>", {"Content-Type": "text/html", "Location": "/login"})
        async with remote_of(server) as remote:
            if known:
                await remote.read_archive(RemotePath("/d"), {"a": 1, "b": 2})
            server.faults.add(page, path="download", times=None)
            with pytest.raises(ProtocolViolation):
                await remote.read_archive(RemotePath("/d"), {"a": 1, "b": 2})
            server.faults.clear()
            assert len(await remote.read_archive(RemotePath("/d"), {"a": 1, "b": 2})) == 2

    async def test_an_upgraded_server_is_found_out_again(self, server: StandIn) -> None:
        server.account("alice").populate({"d/a": b"1", "d/b": b"22"})
        async with remote_of(server) as remote:
            for kind in ("download", "dav", "download"):
                server.site.archives = kind
                assert len(await remote.read_archive(RemotePath("/d"), {"a": 1, "b": 2})) == 2


SIZES = {"a": 3, "ü": 2}
GOOD = archive(("a", b"123"), ("ü", b"45"))


class TestMembers:
    def test_both_forms(self) -> None:
        for zip64 in (False, True):
            body = archive(("a", b"123"), ("ü", b"45"), zip64=zip64)
            assert members(body, SIZES) == {"a": b"123", "ü": b"45"}

    def test_compressed(self) -> None:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
            packed.writestr("a", b"1" * 50_000)
            packed.writestr("b", b"22")
        assert members(buffer.getvalue(), {"a": 50_000, "b": 2}) == {"a": b"1" * 50_000, "b": b"22"}
        # One that unpacks to more than its directory says is not unpacked to the end.
        assert members(buffer.getvalue(), {"a": 3, "b": 2}) == {"b": b"22"}

    def test_decomposed_names_are_the_composed_ones(self) -> None:
        assert members(archive(("u\u0308", b"45")), SIZES) == {"ü": b"45"}

    @pytest.mark.parametrize(
        "name", ["b", "../a", "/a", "sub/a", "a/", "./a", "a\0x", "missing_files.json", "..", ""]
    )
    def test_other_names_are_refused(self, name: str) -> None:
        with pytest.raises(ProtocolViolation):
            members(archive(("a", b"123"), (name, b"123")), SIZES)

    def test_one_twice_is_refused(self) -> None:
        with pytest.raises(ProtocolViolation):
            members(archive(("a", b"123"), ("a", b"124")), SIZES)

    def test_an_encrypted_one_is_refused(self) -> None:
        body = bytearray(GOOD)
        for at in (6, GOOD.index(b"PK\1\2") + 8):
            body[at] |= 1
        with pytest.raises(ProtocolViolation):
            members(bytes(body), SIZES)

    def test_wrong_crcs_are_refused(self) -> None:
        for content in (b"123", b""):
            body = bytearray(archive(("a", content)))
            body[body.index(b"PK\1\2") + 16] ^= 1
            with pytest.raises(ProtocolViolation):
                members(bytes(body), {"a": len(content)})

    @pytest.mark.parametrize(
        "body", [b"", b"PK", b"<html></html>", GOOD[:-1], GOOD[1:], GOOD[: len(GOOD) // 2]]
    )
    def test_no_archive(self, body: bytes) -> None:
        with pytest.raises(ProtocolViolation):
            members(body, SIZES)

    def test_a_name_that_takes_long_to_compose(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(unicodedata, "normalize", lambda _, text: text[:2000])
        with pytest.raises(ProtocolViolation, match="not asked for"):
            members(archive(("a" * 2001, b"123")), {"a" * 2000: 3})

    @settings(max_examples=400, deadline=None)
    @given(
        st.lists(
            st.tuples(st.integers(0, len(GOOD) + 200), st.binary(max_size=8), st.integers(0, 12)), max_size=6
        ),
        st.booleans(),
    )
    @example([(249, b"\xff" * 7 + b"\x7f", 8)], True)  # an offset beyond all that there can be
    def test_whatever_comes(self, edits: list[tuple[int, bytes, int]], zip64: bool) -> None:
        """Nothing but a ProtocolViolation, and never another content under a name."""
        body = archive(("a", b"123"), ("ü", b"45"), zip64=zip64)
        for at, put, removed in edits:
            body = body[:at] + put + body[at + removed :]
        try:
            found = members(body, SIZES)
        except ProtocolViolation:
            return
        assert found.items() <= {"a": b"123", "ü": b"45"}.items()

    def test_many_random_changes(self) -> None:
        """As above, of archives with more in them; what a CRC of 32 bits lets through would be luck."""
        chance = random.Random(1)
        contents = {f"f{number}": chance.randbytes(number * 7) for number in range(20)}
        sizes = {name: len(data) for name, data in contents.items()}
        good = archive(*contents.items())
        for _ in range(3000):
            body = bytearray(good)
            for _ in range(chance.randint(1, 4)):
                body[chance.randrange(len(body))] = chance.randrange(256)
            try:
                found = members(bytes(body), sizes)
            except ProtocolViolation:
                continue
            assert found.items() <= contents.items()


class TestBatches:
    @given(st.dictionaries(st.text(min_size=1, max_size=60), st.integers(1, 1000), max_size=300))
    def test_every_file_once_in_order(self, sizes: dict[str, int]) -> None:
        made = list(batches(sizes, 5000, 50))
        assert all(2 <= len(batch) <= 50 and sum(batch.values()) <= 5000 for batch in made)
        together = [item for batch in made for item in batch.items()]
        left_out = [item for item in sizes.items() if item not in together]
        assert sorted(together + left_out) == sorted(sizes.items())
        assert together == [item for item in sizes.items() if item in together]

    def test_addresses_stay_short(self) -> None:
        made = list(batches({f"語語語語語語語語語語 {number}": 1 for number in range(300)}, 10**9, 10**9))
        assert len(made) > 5
        assert sum(map(len, made)) == 300


async def test_a_caller_that_gives_up_leaves_nothing(server: StandIn) -> None:
    server.account("alice").populate({"d/a": b"1" * 500_000, "d/b": b"22"})
    async with remote_of(server) as remote:
        for _ in range(6):
            with trio.move_on_after(0.02):
                await remote.read_archive(RemotePath("/d"), {"a": 500_000, "b": 2})
        assert len(await remote.read_archive(RemotePath("/d"), {"a": 500_000, "b": 2})) == 2
