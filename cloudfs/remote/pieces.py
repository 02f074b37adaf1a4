"""What the pieces of one upload are, and the requests that bring them and have them put together: see `chunked`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import msgspec
import trio

from cloudfs.errors import (
    AlreadyExists,
    Changed,
    ContentRefused,
    NotFound,
    ParentMissing,
    RemoteError,
    ServerFault,
    TooLarge,
    Unavailable,
    Unreachable,
)
from cloudfs.paths import encode, parent_of
from cloudfs.remote import conditions, dialect, etags, queries, values
from cloudfs.remote.bodies import Upload, part_of
from cloudfs.remote.connect import Site
from cloudfs.remote.exchange import Lane, Request, WholeReply
from cloudfs.remote.multistatus import read_members
from cloudfs.remote.protocol import Body, Condition
from cloudfs.remote.session import Session
from cloudfs.types import Kind, RemotePath

__all__ = ["GIGABYTE", "SLOW_S", "SMALLEST_PIECE_BYTES", "Parcel", "Pieces", "piece_name", "url_of"]

_MIB = 1024 * 1024
SMALLEST_PIECE_BYTES = 5 * _MIB
"""Storages that put pieces together by themselves (S3) take no smaller ones, but the last."""
_LARGEST_PIECE_BYTES = 256 * _MIB
_MOST_PIECES = 10_000
_QUICK_S, SLOW_S = 10.0, 40.0
"""A piece that took less makes the next one twice as long, one that took more half: little is lost with a connection,
and few requests are made, each of which costs the server 50 ms (measured on 29.0.1). Limits count as well.
The first one is as long as what goes in the shorter time on a line that is known to be quick."""
GIGABYTE = 1024**3
_WHOLE = ".file"
"""All pieces as one file; listed among them."""


class Parcel(msgspec.Struct, frozen=True):
    """What is sent where."""

    path: RemotePath
    body: Body
    size: int
    condition: Condition
    mtime_s: int | None
    checksum: str | None
    name: str
    """The caller's name for exactly these bytes, the same at every try."""
    base_bytes: int = 0
    """So many at the beginning are all of the version that `condition` names: the server copies them."""


class Pieces:
    """One upload. The pieces that the server has by then stay there whatever fails."""

    def __init__(
        self,
        session: Session,
        site: Site,
        parcel: Parcel,
        goes_whole_after: Callable[[int], bool] | None = None,
    ) -> None:
        """`goes_whole_after`: told of how many bytes are there, whether all of it is rather sent in one request."""
        self._session = session
        self._site = site
        self._parcel = parcel
        self._target_url = session.place.url_of(parcel.path)
        self.content = f"cloudfs-{_digest(self._identity())}-"
        """What the folders begin with in which pieces of just these bytes may be, whatever place they were for."""
        self._use(self.content + _digest(self._target_url))
        self._condition = self._precondition()  # before any piece is sent: not every version can be named
        limits = session.transport.limits
        self.goes_whole_after = goes_whole_after
        first = session.transport.sent_within(_QUICK_S, session.one_go.first_piece_bytes(limits.piece_bytes))
        smallest = min(SMALLEST_PIECE_BYTES, limits.piece_bytes)
        most = session.features.piece_bytes or _LARGEST_PIECE_BYTES
        self._least_bytes = -(-parcel.size // _MOST_PIECES)
        """Below that they would be too many, whatever the server wants."""
        self._piece_bytes = max(min(max(first, smallest), most), self._least_bytes)
        self._largest_bytes = max(min(_LARGEST_PIECE_BYTES, most), self._piece_bytes)
        self._pieces: dict[str, int] = {}
        """Name and length of what the server has by now."""
        self._goes_on = False
        """An earlier try may have left pieces."""

    def _use(self, folder: str) -> None:
        self.folder = folder
        self._url = url_of(self._site, folder)

    async def go_on_in(self, folders: Sequence[str]) -> None:
        """Use the pieces in one of these folders, if the server takes them for this place, too.

        Version 1 keeps them by themselves, and lists what was sent as 00001 so. Version 2 puts them where the file was
        to be, and lists other names. Raises RemoteError.
        """
        own = self.folder
        if own in folders:
            return
        for folder in folders:
            self._use(folder)
            with suppress(NotFound, ParentMissing, ServerFault):
                listed = await self._listed()
                if listed and listed.keys() == {piece_name(number) for number in _numbered(listed)}:
                    return
        self._use(own)

    async def send_pieces(self) -> bool:
        """Send one piece after the other, from where an earlier try stopped.

        False where they are left as they are, as all of the file is rather sent in one request.
        """
        number, position = await self._begin()
        if self._goes_on:
            self.goes_whole_after = None
        if not await self._send_rest(number, position):
            return False
        if self._goes_on:
            await self._require_pieces()
        return True

    async def _send_rest(self, number: int, position: int) -> bool:
        """Send the pieces from this number and offset on; return as `send_pieces` does."""
        while position < self._parcel.size:
            stop = min(position + self._next_bytes(position), self._parcel.size)
            began_s = trio.current_time()
            try:
                await self._send_piece(number, position, stop)
            except TooLarge:
                # A proxy in front of the server has a limit of its own (protocol.md §7).
                if stop - position <= SMALLEST_PIECE_BYTES:
                    raise
                self._session.one_go.failed(stop - position)
                self._piece_bytes = max((stop - position) // 2, SMALLEST_PIECE_BYTES)
                self._largest_bytes = self._piece_bytes
                continue
            except (Unreachable, ServerFault) as error:
                # A proxy says 400, 408 or 5xx where it gives a request so much time only.
                if not isinstance(error, Unavailable) and stop - position > SMALLEST_PIECE_BYTES:
                    self._session.one_go.failed(stop - position)
                raise
            self._adapt(stop - position, trio.current_time() - began_s)
            self._pieces[piece_name(number)] = stop - position
            number, position = number + 1, stop
            if self.goes_whole_after is not None and self.goes_whole_after(position):
                return False
        return True

    def _next_bytes(self, position: int) -> int:
        if position or self.goes_whole_after is None:
            return self._piece_bytes
        # It shows how quick the line is, and may be sent in vain.
        return min(self._piece_bytes, max(SMALLEST_PIECE_BYTES, self._least_bytes))

    async def _require_pieces(self) -> None:
        """Raise unless the server lists exactly the pieces that make the file; then it is begun anew."""
        if _numbered(await self._listed()) == _numbered(self._pieces):
            return
        await self._forget()
        raise ServerFault("the server has other pieces than it should have", subject=self._parcel.path)

    async def put_together(self) -> WholeReply:
        """Have the server make the file of the pieces, under the parcel's condition."""
        parcel = self._parcel
        headers = (
            self._totals()
            | self._condition
            | dialect.upload_headers(self._session.features, parcel.mtime_s, parcel.checksum)
        )
        silence_s = self._session.transport.limits.change_s * (1 + parcel.size / GIGABYTE)
        request = Request("MOVE", self._url + _WHOLE, parcel.path, headers, silence_s=silence_s)
        try:
            return await self._session.fetch(request, 201, 204)
        except AlreadyExists as error:
            if parcel.condition.absent:
                raise
            raise Changed("it was changed on the server", subject=parcel.path, status=412) from error
        except (NotFound, ContentRefused) as error:
            raise await self._what_is_missing(error) from error
        except ServerFault as error:
            if error.status == 400:
                # Pieces that do not sum up: a request of a dead connection may have come late. From the start, then.
                await self._forget()
                raise ServerFault(error.message, subject=parcel.path, status=500) from error
            raise

    async def _begin(self) -> tuple[int, int]:
        """Make the upload; return the number and the offset of the piece to send next: not 1, 0 where it exists."""
        request = Request("MKCOL", self._url, self._parcel.path, self._headers())
        try:
            await self._session.fetch(request, 201)
        except AlreadyExists:
            self._goes_on = True
            return self._next_piece(_numbered(await self._listed()))
        return self._next_piece({})

    def _identity(self) -> str:
        parcel = self._parcel
        return f"{parcel.name}\0{parcel.size}\0{parcel.checksum}"

    def _first_piece(self) -> tuple[int, int]:
        """Return the number and the offset of the first piece that is sent."""
        return 1, 0

    def _next_piece(self, lengths: Mapping[int, int]) -> tuple[int, int]:
        # One that was cut is a shorter one, as each begins where the last one ends. One that still grows, from a
        # connection that only we know to be dead, is noticed at the end.
        number, position = self._first_piece()
        while (length := lengths.get(number)) and position + length <= self._parcel.size:
            self._pieces[piece_name(number)] = length
            position += length
            number += 1
        return number, position

    async def _listed(self) -> dict[str, int]:
        """Return the length in bytes of everything that the server has of this upload, by name."""
        headers = dialect.query_headers(self._session.features, "1")
        question = queries.propfind(("d:getcontentlength",))
        request = Request("PROPFIND", self._url, self._parcel.path, headers, question)
        try:
            reply = await self._session.fetch(request, 207)
        except NotFound as error:
            raise await self._what_is_missing(error) from error
        lengths: dict[str, int] = {}
        for member in await read_members(reply.body):
            name = member.href.rstrip("/").rpartition("/")[2]
            length = values.whole_number(member.properties.get("d:getcontentlength"))
            if name != _WHOLE and length is not None and not member.collection:
                lengths[name] = length
        return lengths

    async def _send_piece(self, number: int, start: int, stop: int) -> None:
        body = part_of(self._parcel.body, start, stop)
        headers = self._headers() | {
            "Content-Length": str(stop - start),
            "Content-Type": "application/octet-stream",
        }
        one_go = self._session.one_go
        try:
            with one_go.timed(stop - start) as begins:
                request = Request(
                    "PUT",
                    self._url + piece_name(number),
                    self._parcel.path,
                    headers,
                    lambda: Upload(body, stop - start, begins),
                    Lane.UPLOADS,
                    self._session.transport.limits.change_s,
                    severable=True,
                )
                await self._session.fetch(request, 201, 204)
        except NotFound as error:
            raise await self._what_is_missing(error) from error
        except Changed as error:
            # No piece has a condition: version 2 has forgotten what the pieces so far belong to, and takes no more.
            await self._forget()
            raise ServerFault(error.message, subject=self._parcel.path) from error

    async def _what_is_missing(self, error: RemoteError) -> RemoteError:
        """Look what was not found: the pieces, the file that they are to replace, or its folder.

        SOURCE: measured on Nextcloud 29.0.1, which says 404 of the pieces, of the target that an If header names, and
        where a piece is for a folder that is missing; 409 of that folder at the end; and 415 where it is a file.
        """
        path, condition = self._parcel.path, self._parcel.condition
        folder = await conditions.look(self._session, parent_of(path))
        if condition.version is not None and (folder is None or not await self._target_is_there()):
            return Changed("it is not on the server any more", subject=path, status=error.status)
        if folder is None or folder.kind is not Kind.FOLDER:
            return ParentMissing("its folder does not exist on the server", subject=path, status=error.status)
        if isinstance(error, ContentRefused):
            return error
        # Expired (after a day), removed by somebody, or used by an earlier try, carried out after all. The next try
        # begins anew, or meets what that one made.
        return ServerFault("the pieces sent so far are gone", subject=path)

    async def _target_is_there(self) -> bool:
        return await conditions.look(self._session, self._parcel.path) is not None

    def _adapt(self, sent: int, took_s: float) -> None:
        if took_s < _QUICK_S and sent >= self._piece_bytes:
            self._piece_bytes = min(self._piece_bytes * 2, self._largest_bytes)
        elif took_s > SLOW_S:
            smallest = min(SMALLEST_PIECE_BYTES, self._largest_bytes)
            self._piece_bytes = max(min(sent, self._piece_bytes) // 2, smallest, self._least_bytes)

    async def _forget(self) -> None:
        with suppress(RemoteError):
            await self._session.fetch(Request("DELETE", self._url, self._parcel.path), 204, 404)

    def _headers(self) -> dict[str, str]:
        """Return what announces the whole."""
        return self._totals()

    def _totals(self) -> dict[str, str]:
        return {"Destination": self._target_url, "OC-Total-Length": str(self._parcel.size)}

    def _precondition(self) -> dict[str, str]:
        """If-Match would be compared with the pieces (protocol.md, rule 9): the target is named in an If header."""
        version = self._parcel.condition.version
        if version is None:
            return {"Overwrite": "F"}
        if not etags.can_match(version.etag):
            raise Changed(
                "the server names its version in a way that no condition takes", subject=self._parcel.path
            )
        return {"Overwrite": "T", "If": f'<{self._target_url}> (["{version.etag}"])'}


def url_of(site: Site, folder: str) -> str:
    """Return the address of an upload, with a trailing slash."""
    return f"{site.base_url}remote.php/dav/uploads/{encode(site.user_id or '')}/{encode(folder)}/"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def piece_name(number: int) -> str:
    """Return what a piece is called."""
    return f"{number:05}"


def _numbered(lengths: Mapping[str, int]) -> dict[int, int]:
    """Return the lengths of pieces by number: version 2 lists what was sent as 00001 as 1."""
    numbered = ((values.whole_number(name), length) for name, length in lengths.items())
    return {number: length for number, length in numbered if number is not None}
