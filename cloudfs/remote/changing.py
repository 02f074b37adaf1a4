"""Changes of everything but contents: folders made, things moved, copied and removed, times set.

Each is sent once, under a condition where there is one: see `conditions`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from cloudfs.errors import (
    AlreadyExists,
    Changed,
    Forbidden,
    NotFound,
    ParentMissing,
    ProtocolViolation,
    RemoteError,
    ServerFault,
)
from cloudfs.paths import parent_of
from cloudfs.remote import conditions, connect, dialect, etags, queries
from cloudfs.remote.exchange import Request, WholeReply
from cloudfs.remote.protocol import Condition
from cloudfs.remote.session import Session
from cloudfs.types import Kind, RemoteEntry, RemotePath, RemoteVersion, Stored

__all__ = ["Changing"]

_SLASH_WANTED = {301, 302, 307, 308, 400, 409}
"""How folders are refused whose URL has no slash at its end: nginx 1.22.1 answers 400 to MOVE and 409 to DELETE,
lighttpd 1.4.69 redirects both by 308 (measured). Nothing was done then."""


class Changing:
    """One account's; see `protocol.Remote` for each method. `stat` looks at what a server made of a request."""

    def __init__(self, session: Session, stat: Callable[[RemotePath], Awaitable[RemoteEntry]]) -> None:
        self._session = session
        self._stat = stat

    async def make_folder(self, path: RemotePath, mtime_s: int | None) -> Stored:
        """MKCOL; on Nextcloud with the modification time in the same request."""
        headers: dict[str, str] = {}
        content = b""
        if mtime_s is not None and self._session.features.nextcloud:
            headers["Content-Type"] = queries.XML_TYPE
            content = queries.mkcol({"d:lastmodified": str(dialect.clamp_mtime(mtime_s))})
        if not self._session.features.conditional_put and await conditions.look(self._session, path):
            # rclone answers 201 to a MKCOL of what exists (protocol.md §15.2).
            raise AlreadyExists("it already exists on the server", subject=path)
        request = self._session.request("MKCOL", path, headers, content, folder=True)
        try:
            reply = await conditions.change(self._session, request, 200, 201)
        except ServerFault as error:
            # Apache 2.4 answers 400 where a file has the name (measured).
            if error.temporary or not await conditions.look(self._session, path):
                raise
            raise AlreadyExists(
                "it already exists on the server", subject=path, status=error.status
            ) from error
        conditions.refuse_page(reply, "MKCOL", path)
        kept = bool(content) and mtime_s == dialect.clamp_mtime(mtime_s or 0)
        return Stored(
            etag="",
            file_id=dialect.file_id(reply.headers, self._session.features),
            modified_s=dialect.clamp_mtime(mtime_s) if content and mtime_s is not None else None,
            mtime_kept=kept,
        )

    async def move(self, source: RemotePath, target: RemotePath, expect: RemoteVersion | None) -> Stored:
        """MOVE with Overwrite: F."""
        try:
            reply = await self._send_to("MOVE", source, target, expect)
        except AlreadyExists as error:
            # With two conditions on one request, 412 does not say which of them failed.
            if expect is None or await conditions.look(self._session, target):
                raise
            raise Changed("it was changed on the server", subject=source, status=error.status) from error
        return await self._stored_copy(reply, target)

    async def copy(self, source: RemotePath, target: RemotePath) -> Stored:
        """COPY with Overwrite: F."""
        return await self._stored_copy(await self._send_to("COPY", source, target, None), target)

    async def delete(self, path: RemotePath, expect: RemoteVersion | None) -> None:
        """DELETE; a file on Nextcloud with If-Match, elsewhere compared right before as well."""
        request = self._session.request("DELETE", path, silence_s=self._session.transport.limits.change_s)
        if expect is None:
            reply = await self._change_any(request, path, 200, 202, 204)
        else:
            reply = await conditions.conditionally(
                self._session,
                request,
                Condition(expect),
                200,
                202,
                204,
                trusted=self._session.features.nextcloud,
            )
        conditions.refuse_page(reply, "DELETE", path)

    async def set_mtime(self, path: RemotePath, mtime_s: int, expect: RemoteVersion | None) -> int | None:
        """PROPPATCH d:lastmodified; nothing is asked of servers that are not known to keep it.

        Apache answers 200 to it and only stores a property of that name (protocol.md §15.2).
        """
        if not self._session.features.sets_mtime:
            return None
        wanted = dialect.clamp_mtime(mtime_s)
        content = queries.proppatch({"d:lastmodified": str(wanted)})
        nextcloud = self._session.features.nextcloud
        headers = {"Content-Type": queries.XML_TYPE} | (dialect.MINIMAL if nextcloud else {})
        request = self._session.request("PROPPATCH", path, headers, content)
        statuses = (204, 207) if nextcloud else (207,)
        if expect is None:
            reply = await conditions.change(self._session, request, *statuses)
        else:
            condition = Condition(expect)
            reply = await conditions.conditionally(
                self._session, request, condition, *statuses, trusted=nextcloud
            )
        return wanted if reply.status == 204 or await connect.all_kept(reply.body) else None

    async def _send_to(
        self, method: str, source: RemotePath, target: RemotePath, expect: RemoteVersion | None
    ) -> WholeReply:
        # The default of Overwrite is T: it would delete a whole folder that has the name (protocol.md, rule 8).
        headers = {"Destination": self._session.place.url_of(target), "Overwrite": "F"}
        if expect is not None and self._session.features.nextcloud and etags.can_match(expect.etag):
            headers["If-Match"] = etags.if_match(expect.etag)
        elif expect is not None:
            await conditions.compare(self._session, source, Condition(expect))
        silence_s = self._session.transport.limits.change_s
        request = self._session.request(method, source, headers, silence_s=silence_s)
        try:
            reply = await self._change_any(request, source, 200, 201, 204)
        except (Forbidden, ServerFault) as error:
            if self._session.features.nextcloud:
                raise
            raise await self._why_not_moved(source, target, error) from error
        conditions.refuse_page(reply, method, source)
        return reply

    async def _change_any(self, request: Request, path: RemotePath, *statuses: int) -> WholeReply:
        """Send a change of a file or a folder; of a folder once more with a slash, where it is refused without.

        The slash is not there from the beginning, as others refuse it to files, and not every caller knows which it is.
        """
        try:
            return await conditions.change(self._session, request, *statuses)
        except (ProtocolViolation, ServerFault) as error:
            if self._session.features.nextcloud or error.status not in _SLASH_WANTED:
                raise
            entry = await conditions.look(self._session, path)
            if entry is None or entry.kind is not Kind.FOLDER:
                raise
        headers = dict(request.headers)
        if "Destination" in headers:
            headers["Destination"] += "/"
        slashed = msgspec.structs.replace(request, url=request.url + "/", headers=headers)
        return await conditions.change(self._session, slashed, *statuses)

    async def _why_not_moved(self, source: RemotePath, target: RemotePath, error: RemoteError) -> RemoteError:
        """Look what a vague refusal means: for both absences rclone 1.75.2 says 403, Apache 2.4 500 (measured)."""
        if await conditions.look(self._session, source) is None:
            return NotFound("it does not exist on the server", subject=source, status=error.status)
        if await conditions.look(self._session, parent_of(target)) is None:
            return ParentMissing(
                "its folder does not exist on the server", subject=target, status=error.status
            )
        return error

    async def _stored_copy(self, reply: WholeReply, target: RemotePath) -> Stored:
        etag = etags.of_headers(reply.headers)
        file_id = dialect.file_id(reply.headers, self._session.features)
        if etag or file_id:
            return Stored(etag, file_id)
        try:
            entry = await self._stat(target)
        except NotFound as error:
            # wsgidav 4.4.0 cuts the target's name at `?` or `;` (measured).
            raise ProtocolViolation("the server put it elsewhere than asked", subject=target) from error
        except RemoteError:
            return Stored("", None)  # done all the same: not knowing the ETag is no failure
        return Stored(entry.version.etag, entry.file_id, entry.version.modified_s)
