"""`WebdavRemote`: the `Remote` of Nextcloud accounts and of any WebDAV folder.

The work is done by the neighbours: `listings` (what exists), `reading` (bytes of one version), `changing` (everything
but contents), `connect` (what the server is), `storing` (uploads: `chunked` in pieces, `bulk` many together),
`archives` (small files down), `versions` and `trash` (old contents), each on the same `Session`.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import httpx
import trio

from cloudfs.errors import (
    NotAuthenticated,
    Unreachable,
    Unsupported,
)
from cloudfs.paths import ROOT_PATH
from cloudfs.remote import (
    anonymous,
    attached,
    bulk,
    chunked,
    connect,
    listings,
    ocs,
    push,
    reading,
    retries,
    search,
    trash,
    versions,
)
from cloudfs.remote.archives import Archives
from cloudfs.remote.changing import Changing
from cloudfs.remote.connect import Site
from cloudfs.remote.exchange import Lane
from cloudfs.remote.hrefs import Place, origin_of
from cloudfs.remote.limiting import Traffic
from cloudfs.remote.protocol import (
    Body,
    Condition,
    Features,
    Health,
    NewFile,
    PiecesNoted,
    Pushed,
    Space,
    Unlimited,
)
from cloudfs.remote.session import Session
from cloudfs.remote.storing import Storing
from cloudfs.remote.tls import make_context
from cloudfs.remote.transport import Limits, Transport, default_user_agent
from cloudfs.types import Annotations, Octets, RemoteEntry, RemotePath, RemoteVersion, Stored

__all__ = ["WebdavRemote"]

_NEXTCLOUD = Limits(login_s=40.0)
"""A Nextcloud that saw logins fail at our address, be they another's, has each login wait up to 25 s (protocol.md §11).
Given up earlier, each try would only be the next one to wait, for as long as half a day. Sessions do not wait."""


class WebdavRemote:
    """One account, or one folder of it, on one server: see `protocol.Remote` for every method's promise."""

    def __init__(
        self,
        site: Site,
        password: str,
        *,
        tls: ssl.SSLContext | None = None,
        limits: Limits | None = None,
        traffic: Traffic | None = None,
        wire: Callable[[Lane], httpx.AsyncBaseTransport] | None = None,
    ) -> None:
        """Prepare, without a request. `traffic` limits it; `wire` replaces the network in tests."""
        self._tls = tls or make_context()
        if limits is None and site.base_url is not None:
            limits = _NEXTCLOUD
        transport = Transport(
            site.root_url, _auth(site, password), tls=self._tls, limits=limits, traffic=traffic, wire=wire
        )
        self._site = site
        self._password = password
        self._session = Session(transport, Place(site.root_url), site.features)
        self._tell_of_sessions()
        self._archives = Archives(self._session, site)
        self._changing = Changing(self._session, self.stat)
        self._storing = Storing(self._session, site, self.stat)

    def __repr__(self) -> str:
        return f"WebdavRemote({self._site.root_url!r}, user={self._site.user!r})"

    def use_password(self, password: str) -> None:
        """Log in with another password of the same user from the next request on."""
        self._password = password
        self._session.transport.log_in(_auth(self._site, password))

    def distrust_connections(self) -> None:
        """Make new connections from the next request on: the machine has slept, or changed its network."""
        self._session.transport.distrust_connections()
        self._session.one_go.forget()

    @property
    def features(self) -> Features:
        """What the server can do."""
        return self._session.features

    @property
    def clock_skew_s(self) -> float:
        """How far the server's clock is ahead of ours."""
        return self._session.transport.clock_skew_s

    def admit_by(self, check: Callable[[], None], refused: Callable[[], None]) -> None:
        """Have every request checked right before it is sent: see `protocol.Admitting`."""
        self._session.transport.admit = check
        self._session.transport.refused = refused

    def spell_by(self, spelled: Callable[[RemotePath], RemotePath]) -> None:
        """Spell paths as the server does: see `protocol.Spelling`."""
        self._session.place.spelled = spelled

    def note_pieces(self, noted: PiecesNoted) -> None:
        """Tell of uploads in pieces: see `protocol.Piecemeal`."""
        self._session.pieces_noted = noted

    async def drop_pieces(self, folder: str) -> None:
        """DELETE; not repeated."""
        await chunked.drop(self._session, self._site, folder)

    async def health(self) -> Health | None:
        """Ask the server how it is: see `protocol.Outspoken`."""
        if self._site.base_url is None:
            return None
        return await anonymous.health(self._site.base_url, self._tls, self._session.transport.limits)

    async def asks_for_wipe(self) -> bool:
        """Ask whether this device is to be wiped: see `protocol.Outspoken`."""
        if self._site.base_url is None:
            return False
        limits = self._session.transport.limits
        return await anonymous.asks_for_wipe(self._site.base_url, self._password, self._tls, limits)

    async def connect(self) -> Features:
        """Ask the server again what it is; see `connect.inspect`."""
        limits = self._session.transport.limits
        self._session.features = await retries.read(
            lambda: connect.inspect(self._session.transport, self._site),
            self._site.root_url,
            limits.login_s + limits.attempt_s,
        )
        self._tell_of_sessions()
        self._archives.forget()
        self._storing.forget()
        return self._session.features

    def _tell_of_sessions(self) -> None:
        # Nextcloud 29 goes by the login where it does not know the session, or its password was withdrawn (measured):
        # its 401 to a request that brought the password is about the login.
        identity = self._session.transport.identity
        identity.sessions_die = not self.features.nextcloud
        identity.sessions_speak = self.features.nextcloud

    async def stat(self, path: RemotePath) -> RemoteEntry:
        """PROPFIND with depth 0."""
        return await retries.read(
            lambda: listings.stat(self._session, path), path, self._session.transport.limits.attempt_s
        )

    async def space(self) -> Space | Unlimited | None:
        """Ask Nextcloud's user interface, and elsewhere for the quota of the root."""
        base_url, transport = self._site.base_url, self._session.transport
        if base_url is not None:
            return await retries.read(
                lambda: ocs.space(transport, base_url), base_url, transport.limits.attempt_s
            )
        root = await self.stat(ROOT_PATH)
        return None if root.quota_free is None else Space(root.quota_free, root.quota_used or 0)

    async def list_folder(self, path: RemotePath) -> tuple[RemoteEntry, Sequence[RemoteEntry]]:
        """PROPFIND with depth 1."""
        return await retries.read(
            lambda: listings.list_folder(self._session, path), path, self._session.transport.limits.listing_s
        )

    async def list_tree(
        self, path: RemotePath, *, most: int, begun: Callable[[], None] = lambda: None
    ) -> Sequence[tuple[RemoteEntry, Sequence[RemoteEntry]]]:
        """PROPFIND with depth infinity, once: what fails for a whole tree does not get better by being repeated."""
        if not self.features.depth_infinity:
            raise Unsupported("the server does not list whole trees", subject=path)
        within_s = self._session.transport.limits.tree_s
        with trio.move_on_after(within_s):
            return await listings.list_tree(self._session, path, most, begun)
        raise Unreachable(f"no whole tree within {within_s:g} seconds", subject=path)

    async def annotations(self, path: RemotePath) -> Annotations | None:
        """PROPFIND with depth 0."""
        if not self.features.nextcloud:
            return None
        return await retries.read(
            lambda: attached.ask(self._session, path), path, self._session.transport.limits.attempt_s
        )

    async def find(self, file_id: str) -> Sequence[RemotePath]:
        """SEARCH for a file id."""
        return await retries.read(
            lambda: search.find(self._session, self._site, file_id),
            file_id,
            self._session.transport.limits.attempt_s,
        )

    async def get_range(self, path: RemotePath, start: int, stop: int, expect: RemoteVersion) -> bytes:
        """Read [start, stop) of one version; b"" for no bytes, without asking."""
        if start == stop:
            return b""
        wanted = reading.plan(start, stop, expect.size)

        async def attempt() -> bytes:
            async with reading.open_window(self._session, path, wanted, expect, Lane.RANGES) as window:
                return b"".join([chunk async for chunk in window])

        limits = self._session.transport.limits
        return await retries.read(
            attempt, path, limits.attempt_s + (stop - start) / limits.slowest_bytes_per_s
        )

    def stream(
        self, path: RemotePath, start: int, stop: int, expect: RemoteVersion
    ) -> AbstractAsyncContextManager[AsyncIterator[Octets]]:
        """Open [start, stop) of one version as a stream."""
        return self._stream(path, start, stop, expect)

    @asynccontextmanager
    async def _stream(
        self, path: RemotePath, start: int, stop: int, expect: RemoteVersion
    ) -> AsyncIterator[AsyncIterator[Octets]]:
        if start == stop:
            yield _Nothing()
            return
        wanted = reading.plan(start, stop, expect.size)
        async with reading.open_window(self._session, path, wanted, expect, Lane.STREAMS) as window:
            yield window

    def stream_old(
        self, file_id: str, expect: RemoteVersion
    ) -> AbstractAsyncContextManager[AsyncIterator[Octets]]:
        """Open an old content of a file as a stream."""
        return versions.open_old(self._session, self._site, file_id, expect)

    def stream_removed(
        self, file_id: str, size: int, folders: Collection[str]
    ) -> AbstractAsyncContextManager[AsyncIterator[Octets]]:
        """Open a file in the trash as a stream."""
        return trash.open_removed(self._session, self._site, file_id, size, folders)

    async def read_archive(self, folder: RemotePath, sizes: Mapping[str, int]) -> Mapping[str, bytes]:
        """Read small files of one folder from one zip.

        29.0.1 breaks off in the middle now and then, and says so in a page that follows the half archive: of those that
        are made at the same time about one in ten (measured).
        """
        limits = self._session.transport.limits
        within_s = limits.change_s + sum(sizes.values()) / limits.slowest_bytes_per_s
        return await retries.read(lambda: self._archives.read(folder, sizes), folder, within_s)

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
        return await self._storing.put(
            path,
            body,
            size,
            condition,
            mtime_s=mtime_s,
            checksum=checksum,
            name=name,
            base_bytes=base_bytes,
        )

    async def have_hashed(self, path: RemotePath, expect: RemoteVersion) -> str | None:
        """PATCH with X-Recalculate-Hash."""
        return await self._storing.have_hashed(path, expect)

    async def put_bulk(self, files: Sequence[NewFile]) -> Sequence[Stored | None]:
        """POST to the bulk endpoint; not repeated."""
        if not self.features.bulk:
            raise Unsupported("the server takes no files in bulk")
        return await bulk.send(self._session, self._site, files)

    async def make_folder(self, path: RemotePath, *, mtime_s: int | None = None) -> Stored:
        """MKCOL; on Nextcloud with the modification time in the same request."""
        return await self._changing.make_folder(path, mtime_s)

    async def move(
        self, source: RemotePath, target: RemotePath, *, expect: RemoteVersion | None = None
    ) -> Stored:
        """MOVE with Overwrite: F."""
        return await self._changing.move(source, target, expect)

    async def copy(self, source: RemotePath, target: RemotePath) -> Stored:
        """COPY with Overwrite: F."""
        return await self._changing.copy(source, target)

    async def delete(self, path: RemotePath, *, expect: RemoteVersion | None = None) -> None:
        """DELETE; a file on Nextcloud with If-Match, elsewhere compared right before as well."""
        await self._changing.delete(path, expect)

    async def set_mtime(
        self, path: RemotePath, mtime_s: int, *, expect: RemoteVersion | None = None
    ) -> int | None:
        """PROPPATCH d:lastmodified; nothing is asked of servers that are not known to keep it."""
        return await self._changing.set_mtime(path, mtime_s, expect)

    async def identify(self, ids: Sequence[str]) -> Sequence[RemoteEntry]:
        """SEARCH by file ids."""
        return await retries.read(
            lambda: search.identify(self._session, self._site, ids),
            ROOT_PATH,
            self._session.transport.limits.attempt_s,
        )

    async def follow_changes(self, connected: Callable[[], None], heard: Callable[[Pushed], None]) -> None:
        """Listen to notify_push, with a token for the login where one is had."""
        url = self.features.push_url
        if not url or origin_of("http" + url.removeprefix("ws")) != self._session.place.origin:
            raise Unsupported("the server does not tell of changes by itself", subject=ROOT_PATH)
        user, password, ear = self._site.user, self._password, push.Ear(connected, heard)
        login = await push.login_for(self._session, self.features.push_token_url, user, password)
        agent = default_user_agent()
        try:
            await push.follow(url, *login, ear, tls=self._tls, user_agent=agent)
        except NotAuthenticated:
            if login == (user, password):
                raise
            # The token was too old, or of another server than the one that was asked: by the other way, then.
            await push.follow(url, user, password, ear, tls=self._tls, user_agent=agent)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._session.transport.aclose()


def _auth(site: Site, password: str) -> httpx.Auth | None:
    return httpx.BasicAuth(site.user, password) if site.user else None


class _Nothing:
    """The chunks of no bytes."""

    def __aiter__(self) -> _Nothing:
        return self

    async def __anext__(self) -> bytes:
        raise StopAsyncIteration
