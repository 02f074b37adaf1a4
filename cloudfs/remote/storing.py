"""Sends files: whole by PUT, large ones and changes in pieces, under a condition; and learns what was made of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import msgspec

from cloudfs.errors import (
    AlreadyExists,
    Changed,
    Forbidden,
    Locked,
    NameRefused,
    NotAuthenticated,
    NotFound,
    ParentMissing,
    ProtocolViolation,
    QuotaExceeded,
    RemoteError,
    ServerFault,
    Throttled,
    TooLarge,
    Unavailable,
    Unreachable,
    Unsupported,
)
from cloudfs.paths import parent_of
from cloudfs.remote import chunked, conditions, dialect, etags
from cloudfs.remote.bodies import Upload
from cloudfs.remote.connect import Site
from cloudfs.remote.exchange import Lane, WholeReply
from cloudfs.remote.failures import UNCONNECTED
from cloudfs.remote.protocol import Body, Condition
from cloudfs.remote.session import Session
from cloudfs.types import Kind, RemoteEntry, RemotePath, RemoteVersion, Stored

__all__ = ["Storing"]

_GIGABYTE = 1024**3

_OVER_BYTES = 64 * 1024
"""Over an existing file more goes in pieces, be it one: what does not fit one send can arrive in part, and a plain PUT
would leave the file cut (protocol.md, rule 6)."""

_ABOUT_THE_FILE = (
    AlreadyExists,
    Changed,
    Locked,
    NameRefused,
    NotAuthenticated,
    ParentMissing,
    QuotaExceeded,
    Throttled,
)
"""What is no matter of how a file is sent. Whatever else is refused of one that is sent whole, may be taken in pieces:
proxies and firewalls that take no large bodies say so in many ways."""

_CUT = (400, 408)
"""Said of a body that stopped coming, also on its way behind a proxy that took all of it from us. A part of it may have
become the file, where a Nextcloud's storage is an object store: the pieces would meet it as another client's."""


class Storing:
    """One account's. `stat` looks at what a server that does not say it has made of an upload."""

    def __init__(
        self, session: Session, site: Site, stat: Callable[[RemotePath], Awaitable[RemoteEntry]]
    ) -> None:
        self._session = session
        self._site = site
        self._stat = stat
        self._keeps_checksums = False
        """Of what is sent in pieces, as was seen once: all are put together in the account's own storage."""

    def forget(self) -> None:
        """The server may have become another: what was seen of it is seen anew."""
        self._keeps_checksums = False

    async def put(
        self,
        path: RemotePath,
        body: Body,
        size: int,
        condition: Condition,
        *,
        mtime_s: int | None = None,
        checksum: str | None = None,
        name: str | None = None,
        base_bytes: int = 0,
    ) -> Stored:
        """PUT a whole file, or send it in pieces; not repeated, except where the server proved that it did nothing."""
        if base_bytes and (name is None or self._site.base_url is None or not self._session.features.appends):
            raise Unsupported("the server takes no tails of files", subject=path)
        takes_pieces = self._session.features.chunking and self._site.base_url is not None
        parcel = None
        if name is not None and takes_pieces:
            parcel = chunked.Parcel(path, body, size, condition, mtime_s, checksum, name, base_bytes)
        if parcel is not None and (base_bytes or self._goes_in_pieces(parcel)):
            try:
                if self._may_go_whole(parcel) and (stored := await self._try_whole(parcel)):
                    return stored
                return await self._put_in_pieces(parcel)
            except Forbidden as error:
                await self._require_only_changes(parcel, error)
                parcel = None
        try:
            return await self._put_whole(path, body, size, condition, mtime_s, checksum)
        except TooLarge:
            # A proxy in front of the server takes less in one request (protocol.md §7).
            if parcel is None or size <= chunked.SMALLEST_PIECE_BYTES:
                raise
            self._session.one_go.failed(size)
            return await self._put_in_pieces(parcel)
        except (Unreachable, ServerFault) as error:
            # A proxy in between says 400, 408 or 5xx where it gives a request so much time only.
            ended = not isinstance(error, Unavailable) and not isinstance(error.__cause__, UNCONNECTED)
            if parcel is not None and condition.absent and ended:
                self._session.one_go.broke(size)
            raise

    async def _try_whole(self, parcel: chunked.Parcel) -> Stored | None:
        """Send a large new file in one request; None: it goes in pieces."""
        try:
            return await self._put_whole(
                parcel.path, parcel.body, parcel.size, parcel.condition, parcel.mtime_s, parcel.checksum
            )
        except _ABOUT_THE_FILE:
            raise
        except RemoteError as error:
            self._session.one_go.failed(parcel.size)
            # Of what failed otherwise it is not known what became of it: that is looked for before the next try.
            if isinstance(error, Unreachable) or error.status in _CUT or (error.status or 500) >= 500:
                raise
            return None

    def _may_go_whole(self, parcel: chunked.Parcel) -> bool:
        return (
            self._may_turn_out_quick(parcel)
            and self._session.one_go.is_quick(parcel.size, self._sent_in_time(parcel.size))
            and not chunked.is_begun(self._session, self._site, parcel)
        )

    def _may_turn_out_quick(self, parcel: chunked.Parcel) -> bool:
        """Tell whether it is a matter of the line alone whether all of it goes in one request."""
        return (
            parcel.condition.absent
            and parcel.size <= (self._session.features.piece_bytes or parcel.size)
            and self._session.one_go.may_show(parcel.size, self._sent_in_time(parcel.size))
        )

    async def _require_only_changes(self, parcel: chunked.Parcel, error: Forbidden) -> None:
        """Raise unless pieces were refused because files may be changed there, but none created.

        What is put together is created. A PUT is taken in such shares (measured on 29.0.1); cut on its way it leaves
        the file cut, until the next try. Of a tail there is none: Unsupported.
        """
        if parcel.condition.absent or await self._may_create(parent_of(parcel.path)):
            raise error
        if parcel.base_bytes:
            message = "the server puts no tails together there"
            raise Unsupported(message, subject=parcel.path, status=error.status) from error

    async def _may_create(self, folder: RemotePath) -> bool:
        """Tell whether files may be created in a folder: then it is not for want of that that something was refused."""
        return "C" in ((await self._stat(folder)).permissions or "C")

    def _goes_whole_after(self, parcel: chunked.Parcel, sent: int) -> bool:
        """Tell whether the pieces so far have shown that the line is quick, and were few."""
        return self._session.one_go.goes_whole_after(sent, parcel.size, self._sent_in_time(parcel.size))

    async def _put_in_pieces(self, parcel: chunked.Parcel) -> Stored:
        shows_in_time = self._session.one_go.is_little(chunked.SMALLEST_PIECE_BYTES, parcel.size)
        worth_a_look = shows_in_time and self._may_turn_out_quick(parcel)
        goes_whole_after = partial(self._goes_whole_after, parcel) if worth_a_look else None
        reply = await chunked.send(self._session, self._site, parcel, goes_whole_after)
        if reply is None:
            if whole := await self._try_whole(parcel):
                chunked.leave(self._session, self._site, parcel)
                return whole
            reply = await chunked.send(self._session, self._site, parcel)
            assert reply is not None  # noqa: S101  # that was asked for
        stored = await self._stored_file(reply, parcel.path, parcel.size, parcel.mtime_s)
        if parcel.checksum is None or self._keeps_checksums:
            return stored
        try:
            version = (await self._stat(parcel.path)).version
        except RemoteError:
            return stored  # all the same; a listing tells
        if version.etag != stored.etag:
            return stored  # and changed since
        if version.size != parcel.size:
            # Version 2 does not look whether it has all pieces. Its answer would have our bytes given up here.
            raise _too_short(parcel.path, version.size, parcel.size)
        # By version 2 of the protocol it is not kept, and an earlier one stays (29.0.1, by reading).
        self._keeps_checksums = (version.checksum or "").lower() == parcel.checksum.lower()
        return msgspec.structs.replace(stored, checksum_kept=self._keeps_checksums, checksum=version.checksum)

    async def _put_whole(
        self,
        path: RemotePath,
        body: Body,
        size: int,
        condition: Condition,
        mtime_s: int | None,
        checksum: str | None,
    ) -> Stored:
        limits = self._session.transport.limits
        request = self._session.request(
            "PUT",
            path,
            {"Content-Length": str(size), "Content-Type": "application/octet-stream"}
            | dialect.upload_headers(self._session.features, mtime_s, checksum),
            lambda: Upload(body, size, begins),
            lane=Lane.UPLOADS,
            silence_s=limits.change_s * (1 + size / _GIGABYTE),
            # A part of a new file comes to nothing there; an existing one would be cut (protocol.md §6).
            severable=self._session.features.nextcloud and condition.absent,
        )
        try:
            with self._session.one_go.timed(size) as begins:
                reply = await conditions.conditionally(
                    self._session,
                    request,
                    condition,
                    200,
                    201,
                    204,
                    trusted=self._session.features.conditional_put,
                )
        except (ParentMissing, Unsupported) as error:
            await self._reject_folder(path, condition, error)
            raise
        conditions.refuse_page(reply, "PUT", path)
        return await self._stored_file(reply, path, size, mtime_s)

    async def have_hashed(self, path: RemotePath, expect: RemoteVersion) -> str | None:
        """PATCH with X-Recalculate-Hash (protocol.md §9).

        It keeps the ETag, and If-Match holds (measured on 29.0.1). 64 MiB take 0.2 s.
        """
        limits = self._session.transport.limits
        headers = {"X-Recalculate-Hash": "sha1", "If-Match": etags.if_match(expect.etag)}
        silence_s = limits.change_s * (1 + expect.size / _GIGABYTE)
        request = self._session.request("PATCH", path, headers, silence_s=silence_s)
        try:
            reply = await self._session.fetch(request, 204)
        except Unsupported:
            return None
        checksum = reply.headers.get("OC-Checksum", "")
        return checksum if checksum.upper().startswith("SHA1:") else None

    def _goes_in_pieces(self, parcel: chunked.Parcel) -> bool:
        size = parcel.size
        if not parcel.condition.absent:
            return size > _OVER_BYTES
        return (
            not chunked.fits_whole(self._session, size)
            or (size > chunked.SMALLEST_PIECE_BYTES and self._session.one_go.has_failed(size))
            or self._session.one_go.is_slow(size, self._sent_in_time(size))
            or chunked.is_begun(self._session, self._site, parcel)
        )

    def _sent_in_time(self, size: int) -> int:
        return self._session.transport.sent_within(self._session.one_go.most_s, size)

    async def _reject_folder(self, path: RemotePath, condition: Condition, cause: RemoteError) -> None:
        """Raise what a folder in the way of a file means: 409 and 405 stand for it as for a missing parent."""
        if cause.status not in {405, 409}:
            return
        entry = await conditions.look(self._session, path)
        if entry is None or entry.kind is Kind.FILE:
            return
        kind = AlreadyExists if condition.absent else Changed
        raise kind("it is a folder on the server", subject=path, status=cause.status) from cause

    async def _stored_file(
        self, reply: WholeReply, path: RemotePath, size: int, mtime_s: int | None
    ) -> Stored:
        etag = etags.of_headers(reply.headers)
        if etag and self._session.features.nextcloud:
            accepted = mtime_s is not None and dialect.mtime_accepted(reply.headers)
            stored_s = dialect.clamp_mtime(mtime_s or 0) if accepted else None
            kept = accepted and stored_s == mtime_s
            return Stored(etag, dialect.file_id(reply.headers, self._session.features), stored_s, kept)
        if self._session.features.nextcloud:
            # Nextcloud always names the ETag: something on the way answered in its place.
            raise ProtocolViolation("the answer to the upload does not come from the server", subject=path)
        # Apache and SabreDAV do not say what they made of it, and rclone names the ETag that the file had before its
        # modification time was set (measured on 1.75.2).
        try:
            entry = await self._stat(path)
        except NotFound as error:
            # Another client has removed it, or it has another name there: rclone 1.75.2 spells control characters
            # otherwise (measured). Then each try would end so, and nobody would hear of it.
            message = "the server took it, but has nothing of that name: rename it, if its name has unusual characters"
            raise Unsupported(message, subject=path, status=error.status) from error
        if entry.kind is not Kind.FILE or entry.version.size != size:
            raise _too_short(path, entry.version.size, size)
        version = entry.version
        return Stored(
            version.etag, entry.file_id, version.modified_s, mtime_kept=version.modified_s == mtime_s
        )


def _too_short(path: RemotePath, stored: int, sent: int) -> ProtocolViolation:
    return ProtocolViolation(f"stored with {stored} of {sent} bytes", subject=path)
