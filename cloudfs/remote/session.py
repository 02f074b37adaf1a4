"""One account on one server: where it lies, what the server can do, and when its "not found" is believed."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

from cloudfs.errors import NotFound, ProtocolViolation, RemoteError, Unreachable
from cloudfs.paths import ROOT_PATH
from cloudfs.remote import dialect, queries
from cloudfs.remote.bodies import Upload
from cloudfs.remote.exchange import Lane, Reply, Request, WholeReply
from cloudfs.remote.failures import Failure, error_of_reply, is_dav_error
from cloudfs.remote.hrefs import Place
from cloudfs.remote.onego import OneGo
from cloudfs.remote.protocol import Features, PiecesNoted
from cloudfs.remote.transport import Transport
from cloudfs.types import RemotePath

__all__ = ["Session"]

_log = logging.getLogger(__name__)

_CONCLUSIVE = frozenset({405, 409, 412, 416})
"""Answers that something is concluded from: it exists, it was changed, its folder is gone. Nextcloud gives each of them
in its own XML (protocol.md §13); a proxy's page with such a status says nothing about the file."""

_HIDDEN_EVERY_S = 3600.0
_HIDDEN_FOLDERS = 1000
"""So many folders are remembered as told of: memory stays bounded, and a warning too many does no harm."""


class Session:
    """What the parts of a `Remote` share."""

    def __init__(self, transport: Transport, place: Place, features: Features) -> None:
        self.transport = transport
        self.place = place
        self.features = features
        self.pieces_noted: PiecesNoted | None = None
        """Told of uploads in pieces."""
        self.one_go = OneGo(transport.limits.one_go_bytes)
        self._told_hidden: dict[RemotePath, float] = {}

    def tell_hidden(self, folder: RemotePath, count: int, href: str) -> None:
        """Warn of members that cannot be shown; once an hour for each folder."""
        now_s = trio.current_time()
        if now_s - self._told_hidden.get(folder, -math.inf) < _HIDDEN_EVERY_S:
            return
        if len(self._told_hidden) >= _HIDDEN_FOLDERS:
            self._told_hidden.clear()
        self._told_hidden[folder] = now_s
        message = "%s: %d of its members cannot be shown here because of their names, the first is %r"
        _log.warning(message, folder, count, href[:200])

    def request(
        self,
        method: str,
        path: RemotePath,
        headers: dict[str, str] | None = None,
        content: bytes | Callable[[], Upload] = b"",
        *,
        lane: Lane = Lane.METADATA,
        silence_s: float | None = None,
        folder: bool = False,
        severable: bool = False,
    ) -> Request:
        """Make a request about a path; `folder` ends its URL with a slash."""
        return Request(
            method=method,
            url=self.place.url_of(path, folder=folder or path == ROOT_PATH),
            subject=path,
            headers=headers or {},
            content=content,
            lane=lane,
            silence_s=silence_s,
            severable=severable,
        )

    def propfind(
        self, path: RemotePath, depth: str, properties: tuple[str, ...], silence_s: float | None = None
    ) -> Request:
        """Make the request for an object (depth 0), a folder (1) or a tree (infinity)."""
        headers = dialect.query_headers(self.features, depth)
        return self.request("PROPFIND", path, headers, queries.propfind(properties), silence_s=silence_s)

    async def fetch(self, request: Request, *statuses: int) -> WholeReply:
        """Send a request once and read its reply; any status but these is raised as its error.

        Ends in time even if the server trickles; uploads last as long as bytes flow. Where the server may be silent for
        longer, at work on a large file, it has twice that time.
        """
        limits = self.transport.limits
        within_s = 2 * max(limits.change_s, request.silence_s or 0.0)
        within_s = math.inf if request.lane in {Lane.UPLOADS, Lane.BULK} else within_s
        with trio.move_on_after(within_s):
            async with self.open(request, *statuses) as reply:
                return WholeReply(reply.status, reply.headers, await reply.read_all(limits.reply_bytes))
        raise Unreachable(f"no answer within {within_s:g} seconds", subject=request.subject)

    @asynccontextmanager
    async def open(self, request: Request, *statuses: int) -> AsyncIterator[Reply]:
        """Send a request once and hand out its reply; any status but these is raised as its error."""
        async with self.transport.open(request) as reply:
            if reply.status in statuses:
                yield reply
                return
            failure = await reply.failure()
        # Outside, since it may ask another question, for which our own slot of the lane must be free.
        raise await self.error_of(failure)

    async def error_of(self, failure: Failure) -> RemoteError:
        """Return the error of a failed reply; "not found" only where it is believable.

        A proxy without its backend, or a wrong virtual host, answers 404 to everything; taken at its word, that would
        mean that all files are gone. So Nextcloud must say it in its own XML, and a plain server, whose page could be
        anybody's, must at the same time still know the account's folder.
        """
        error = error_of_reply(failure)
        if self.features.nextcloud and failure.status in _CONCLUSIVE and not is_dav_error(failure.body):
            return ProtocolViolation(
                f"a page answers {failure.status}, but not the WebDAV server",
                subject=failure.subject,
                status=failure.status,
            )
        if not isinstance(error, NotFound) or failure.status == 409 or is_dav_error(failure.body):
            return error
        if not self.features.nextcloud and failure.subject != ROOT_PATH and await self._root_is_there():
            return error
        return ProtocolViolation(
            "a page says it is not found, but not the WebDAV server",
            subject=failure.subject,
            status=failure.status,
        )

    async def _root_is_there(self) -> bool:
        probe = self.propfind(ROOT_PATH, "0", ("d:resourcetype",))
        try:
            return (await self.transport.fetch(probe)).status == 207
        except RemoteError:
            return False
