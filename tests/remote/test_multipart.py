"""Pieces on primary storage like S3, which puts together whatever parts it has: version 2 of the protocol.

SOURCE: ChunkingV2Plugin.php and UploadFolder.php of apps/dav/lib/Upload, and ObjectStoreStorage.php of
lib/private/Files/ObjectStore, of Nextcloud 29.0.1, by reading.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator

import httpx
import pytest
import trio
from trio.testing import MockClock

from cloudfs.errors import RemoteError, ServerFault, Unreachable
from cloudfs.remote.connect import Site
from cloudfs.remote.files import WebdavRemote
from cloudfs.remote.protocol import Condition, Features
from cloudfs.remote.transport import Limits
from cloudfs.types import RemotePath, Stored
from tests.remote.conftest import Begun, body_of
from tests.remote.test_multistatus import FOLDER, multistatus, response

FILE = RemotePath("/file")
DATA = random.Random(4).randbytes(1000)
CHECKSUM = f"SHA1:{hashlib.sha1(DATA, usedforsecurity=False).hexdigest()}"
_ERROR = (
    b'<d:error xmlns:d="DAV:" xmlns:s="http://sabredav.org/ns">'
    b"<s:exception>Sabre\\DAV\\Exception\\%s</s:exception></d:error>"
)


class Multipart:
    """One account, one new file, one upload at a time: another one ends it."""

    def __init__(self) -> None:
        self.file: bytes | None = None
        self.parts: dict[int, bytes] | None = None
        """By number; None: no upload."""
        self.folder = ""
        """Of that upload."""
        self.knows_session = True
        """The distributed cache has what the upload is for."""
        self.piece_s = 20.0
        """Neither quick nor slow: all pieces have one size."""
        self.checksums = ""
        """That of the file, as it is listed: the end of an upload does not keep it."""
        self.folders: list[tuple[str, str]] = []
        """Which folder each request was about that was about one, and its method."""
        self.looks = 0
        """How often the file was asked for."""
        self.breaks_at: int | None = None
        """The connection breaks before this piece is taken."""

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        uploads = "/uploads/" in request.url.path
        if uploads:
            self.folders.append((request.method, request.url.path.split("/")[5]))
        if request.method == "MKCOL":
            if self.parts is not None and self.folders[-1][1] == self.folder:
                return self._refuse(405, b"MethodNotAllowed")
            self.parts, self.knows_session, self.folder = {}, True, self.folders[-1][1]
            return self._answer(201)
        if uploads and (self.parts is None or self.folders[-1][1] != self.folder):
            return self._refuse(404, b"NotFound")
        if request.method == "PUT":
            return await self._put(request)
        if request.method == "MOVE":
            self.file, self.parts = b"".join(part for _, part in sorted((self.parts or {}).items())), None
            return self._answer(201)
        if request.method == "DELETE":
            self.parts = None
            return self._answer(204)
        return self._answer(207, multistatus(*self._listed(request.url.path)))

    async def _put(self, request: httpx.Request) -> httpx.Response:
        number = int(request.url.path.rpartition("/")[2])
        if number == self.breaks_at:
            raise httpx.ReadError("the connection broke")
        if not self.knows_session:
            return self._refuse(412, b"PreconditionFailed")
        await trio.sleep(self.piece_s)
        assert self.parts is not None
        assert isinstance(request.stream, httpx.AsyncByteStream)
        self.parts[number] = b"".join([chunk async for chunk in request.stream])
        return self._answer(201)

    def _listed(self, path: str) -> Iterator[str]:
        length = "<d:resourcetype/><d:getcontentlength>{}</d:getcontentlength>"
        if path.endswith(FILE):
            self.looks += 1
            known = f"<d:getetag>&quot;e&quot;</d:getetag><oc:fileid>2</oc:fileid>{self.checksums}"
            yield response(path, length.format(len(self.file or b"")) + known)
            return
        yield response(path, f"{FOLDER}<oc:fileid>1</oc:fileid>")
        yield response(f"{path}.file", length.format(0))
        yield response(f"{path}.target", length.format(0))
        for number, part in (self.parts or {}).items() if self.knows_session else ():
            yield response(f"{path}{number}", length.format(len(part)))

    @staticmethod
    def _answer(status: int, body: bytes = b"") -> httpx.Response:
        return httpx.Response(status, headers={"OC-ETag": '"e"'}, content=body_of(body)())

    def _refuse(self, status: int, exception: bytes) -> httpx.Response:
        return self._answer(status, _ERROR % exception)


@pytest.fixture
def server() -> Multipart:
    return Multipart()


async def send(
    server: Multipart, times: int = 1, *, noted: Begun | None = None, path: RemotePath = FILE
) -> list[Stored]:
    features = Features(name="Nextcloud", nextcloud=True, chunking=True, checksums=True)
    site = Site("http://h/remote.php/dav/files/jo/", "jo", features, "http://h/", "jo")
    limits = Limits(whole_bytes=0, one_go_bytes=0, piece_bytes=10)
    remote = WebdavRemote(site, "secret", limits=limits, wire=lambda _lane: httpx.MockTransport(server))
    if noted is not None:
        remote.note_pieces(noted)
    try:
        return [
            await remote.put(
                path,
                body_of(DATA),
                len(DATA),
                Condition(absent=True),
                checksum=CHECKSUM,
                name="x",
            )
            for _ in range(times)
        ]
    finally:
        await remote.aclose()


async def test_parts_of_a_slower_try_are_not_put_behind(server: Multipart, autojump_clock: MockClock) -> None:
    """Fewer and larger pieces do not replace all of those that an earlier try left."""
    del autojump_clock
    server.breaks_at = 60
    with pytest.raises(Unreachable):
        await send(server)
    assert len(server.parts or {}) == 59
    server.breaks_at, server.piece_s = None, 1.0
    await send(server)
    assert server.file == DATA


async def test_a_part_that_comes_late_is_not_put_behind(server: Multipart, autojump_clock: MockClock) -> None:
    del autojump_clock
    server.breaks_at = 60
    with pytest.raises(Unreachable):
        await send(server)
    assert server.parts is not None
    server.parts[200] = b"of a connection that is dead here"
    server.breaks_at = None
    with pytest.raises(ServerFault) as caught:
        await send(server)
    assert caught.value.temporary
    assert server.file is None
    await send(server)
    assert server.file == DATA


async def test_what_is_there_already_is_not_sent_again(server: Multipart, autojump_clock: MockClock) -> None:
    del autojump_clock
    server.breaks_at = 60
    with pytest.raises(Unreachable):
        await send(server)
    before = trio.current_time()
    server.breaks_at = None
    await send(server)
    assert server.file == DATA
    assert trio.current_time() - before < 50 * server.piece_s


async def test_parts_of_a_file_that_was_renamed_are_sent_again(
    server: Multipart, autojump_clock: MockClock
) -> None:
    """Version 2 keeps them where the file was to be: it lists them in another way."""
    del autojump_clock
    begun = Begun()
    server.breaks_at = 60
    with pytest.raises(Unreachable):
        await send(server, noted=begun)
    (before,) = begun.folders
    server.breaks_at = None
    server.folders.clear()
    await send(server, noted=begun, path=RemotePath("/renamed"))
    assert server.file == DATA
    used = {path for method, path in server.folders if method in {"MKCOL", "PUT"}}
    assert used
    assert before not in used


async def test_an_upload_that_the_server_has_lost_track_of_begins_anew(
    server: Multipart, autojump_clock: MockClock
) -> None:
    """As after a restart of its cache: it would refuse every further piece for a day."""
    del autojump_clock
    server.breaks_at = 60
    with pytest.raises(Unreachable):
        await send(server)
    server.breaks_at, server.knows_session = None, False
    with pytest.raises(RemoteError) as caught:
        await send(server)
    assert caught.value.temporary
    await send(server)
    assert server.file == DATA


OLD_CHECKSUM = "SHA1:" + "0" * 40


@pytest.mark.parametrize(
    ("listed", "looks"),
    [(CHECKSUM, 1), (None, 2), (OLD_CHECKSUM, 2)],
    ids=["the one that was sent", "none", "that of an earlier content"],
)
async def test_which_checksum_is_listed_is_known(
    server: Multipart, autojump_clock: MockClock, listed: str | None, looks: int
) -> None:
    """Else the next listing would show another version than was sent, and have it fetched again."""
    del autojump_clock
    server.checksums = f"<oc:checksums>{listed}</oc:checksums>" if listed else ""
    for stored in await send(server, 2):
        assert (CHECKSUM if stored.checksum_kept else stored.checksum) == listed
    assert server.looks == looks, "where it is kept, that is found out once"
