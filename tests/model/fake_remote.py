"""A `Remote` in memory that keeps the contract, behaves as Nextcloud does, and fails as planned.

Each request has three moments, with checkpoints (and virtual time, `latency_s`) between them: it is sent, the
server carries it out in one go, the reply arrives. So a reply may be old news by the time it is read.

    remote = FakeRemote()
    remote.other.write("/a", b"from another client")
    remote.faults.next("put", [FaultKind.LOSE_REPLY])
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import aclosing, asynccontextmanager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypeVar

import msgspec
import trio

from cloudfs.errors import (
    AlreadyExists,
    Changed,
    Locked,
    NotAuthenticated,
    NotFound,
    ProtocolViolation,
    RemoteError,
    ServerFault,
    Unreachable,
    Unsupported,
)
from cloudfs.paths import ROOT_PATH, parent_of
from cloudfs.remote.dialect import EARLIEST_MTIME_S
from cloudfs.remote.listings import Branches
from cloudfs.remote.protocol import Body, Condition, Features, NewFile, Pushed, Space
from cloudfs.remote.search import MOST_IDS
from cloudfs.types import Annotations, Kind, RemoteEntry, RemotePath, RemoteVersion, Stored
from tests.model.account import Account, StoredObject, content_key
from tests.model.faults import CHANGES, FaultKind, FaultPlan, Span, error_before, lost_reply

__all__ = ["FakeRemote", "FaultKind", "FaultPlan", "OtherClient", "Request", "now_s"]

T = TypeVar("T")

NEXTCLOUD = Features(
    name="Nextcloud in memory",
    nextcloud=True,
    sets_mtime=True,
    checksums=True,
    chunking=True,
    depth_infinity=True,
    deep_etags=True,
)
_EPOCH_S = 1_700_000_000
_CHUNK = 64 * 1024


@dataclass(frozen=True)
class Request:
    """One line of the request log."""

    number: int
    at_s: float
    method: str
    path: RemotePath
    target: RemotePath | None = None
    fault: FaultKind | None = None

    def __str__(self) -> str:
        told = [f"{self.number}.", self.method, self.path, self.target, self.fault and f"[{self.fault.name}]"]
        return " ".join(filter(None, told))


class Late(NamedTuple):
    """A request that the server has yet to carry out, though its client went away."""

    sent: Request
    act: Callable[[], object]


@dataclass
class FakeRemote:
    """One account on one server. `other` is another client of it, on a line that never fails."""

    features: Features = NEXTCLOUD
    clock_skew_s: float = 0.0
    faults: FaultPlan = field(default_factory=FaultPlan)
    latency_s: float = 0.0
    """Each of a request's two ways takes up to so long, by `chance`; 0: only checkpoints."""
    slow_s: float = 3.0
    """How long a SLOW request takes on each way."""
    chance: random.Random = field(default_factory=lambda: random.Random(0))
    truncating: bool = False
    """A cut overwrite leaves what arrived (an unbuffered front end, protocol.md §6); else it leaves the old file."""
    leaves_parts: bool = False
    """What arrived of a cut upload becomes the file: of a new one, and on a server other than Nextcloud of any."""
    parts: set[bytes] = field(default_factory=set)
    """What was left so."""
    telling: set[bytes] = field(default_factory=set)
    """Which of that no other client can have made by taking away from the end of what was there before."""
    locking: bool = True
    """An open GET locks the file against changes (protocol.md §14)."""
    log: list[Request] = field(default_factory=list)
    quota: Space | None = None
    swept: dict[bytes, float] = field(default_factory=dict)
    """What went with a folder that this client deleted, or in its place, and when: DELETE has no condition for that."""
    looked: dict[RemotePath, float] = field(default_factory=dict)
    """When this client asked for an object by itself last."""
    overtaken: dict[bytes, float] = field(default_factory=dict)
    """What a condition let pass though it was another version of the same ETag; and when it was looked at last."""
    seen_into: dict[RemotePath, float] = field(default_factory=dict)
    """When this client was last told what is in a folder, or made it."""
    overrun: dict[bytes, tuple[float, float]] = field(default_factory=dict)
    """What a file sent in bulk went over, as no condition can be had there: when, and when its folder was seen into."""
    account: Account = field(default_factory=lambda: Account(now_s))
    trace: Callable[[str], None] = lambda _line: None
    """Is told what became of every request."""
    lingers: bool = False
    """What a client had sent when it went away may be carried out later."""
    patience_s: float = 30.0
    """After so long a client gives up a request that hangs."""
    late_s: float = 6.0
    """How much later at most a server carries out what its client has given up."""
    in_order: bool = False
    """What is late is done at the latest before the next change of the same path: nothing overtakes it there."""
    late: list[Late] = field(default_factory=list)
    """What the server has yet to carry out, its client being gone."""
    ears: list[Callable[[Pushed], None]] = field(default_factory=list)
    """Clients that are told of changes, where `features` say so."""
    refuses_listeners: bool = False
    """Their login is refused where they listen, and nowhere else."""
    dropping: trio.Event = field(default_factory=trio.Event)
    refuses_tails: bool = False
    before: dict[str, Callable[[], Awaitable[None]]] = field(default_factory=dict)
    """What happens once right before the server carries out a request of that method."""
    sent_bytes: int = 0
    """Bytes of files that came in bodies of requests."""
    dead: bool = False
    """Whoever uses this object was killed: nothing it still tries reaches the server."""

    @property
    def other(self) -> OtherClient:
        return OtherClient(self.account)

    def kill(self) -> FakeRemote:
        """End this object's life and return its successor, on the same account, log and faults."""
        successor = replace(self)
        self.dead = True
        return successor

    def methods(self) -> list[str]:
        """Return the log as "method path [target]" lines."""
        return [" ".join(filter(None, (it.method, it.path, it.target))) for it in self.log]

    def tell(self, *paths: str, ids: tuple[str, ...] | None = ()) -> None:
        """Tell whoever listens that something changed: what is at these paths, and `ids`; None: not what it is."""
        there = [self.account.get(RemotePath(path)).file_id for path in paths]
        for heard in self.ears:
            heard(Pushed(None if ids is None else (*there, *ids)))

    def drop_listeners(self) -> None:
        """Break the connections on which clients are told."""
        dropping, self.dropping = self.dropping, trio.Event()
        dropping.set()

    # Remote

    async def connect(self) -> Features:
        return await self._ask("connect", ROOT_PATH, lambda: self.features)

    async def stat(self, path: RemotePath) -> RemoteEntry:
        def look() -> RemoteEntry:
            self.looked[path] = trio.current_time()
            return self.account.entry(path)

        return await self._ask("stat", path, look)

    async def space(self) -> Space | None:
        return await self._ask("stat", ROOT_PATH, lambda: self.quota)

    async def list_folder(self, path: RemotePath) -> tuple[RemoteEntry, Sequence[RemoteEntry]]:
        def listing() -> tuple[RemoteEntry, Sequence[RemoteEntry]]:
            entry = self.account.entry(path)
            if entry.kind is Kind.FILE:
                raise Unsupported("it is a file", subject=path)
            self.seen_into[path] = trio.current_time()
            return entry, [] if self.faults.is_on(Span.EMPTY) else self.account.members(path)

        return await self._ask("list_folder", path, listing)

    async def list_tree(
        self, path: RemotePath, *, most: int, begun: Callable[[], None] = lambda: None
    ) -> Sequence[tuple[RemoteEntry, Sequence[RemoteEntry]]]:
        def tree() -> Sequence[tuple[RemoteEntry, Sequence[RemoteEntry]]]:
            begun()
            own = self.account.entry(path)
            if own.kind is Kind.FILE or not self.features.depth_infinity:
                raise Unsupported("it lists no tree", subject=path)
            below = [] if self.faults.is_on(Span.EMPTY) else list(self.account.walk(path))
            if len(below) > most:
                raise ProtocolViolation("too many", subject=path)
            branches = Branches(path)
            for entry in (own, *below):
                branches.add(entry)
                self.seen_into[entry.path] = trio.current_time()
            return branches.whole()

        return await self._ask("list_tree", path, tree)

    async def find(self, file_id: str) -> Sequence[RemotePath]:
        return await self._ask(
            "find",
            ROOT_PATH,
            lambda: [it.path for it in self.account.walk(ROOT_PATH) if it.file_id == file_id],
        )

    async def get_range(self, path: RemotePath, start: int, stop: int, expect: RemoteVersion) -> bytes:
        return await self._ask("get_range", path, lambda: self._content(path, start, stop, expect)[1])

    @asynccontextmanager
    async def stream(
        self, path: RemotePath, start: int, stop: int, expect: RemoteVersion
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        sent = await self._send("stream", path)
        await self._happen(sent)
        with self._answering(sent):
            found, data = self._content(path, start, stop, expect)
        with self._reading(found):
            await self._way_back(sent)
            async with aclosing(_chunks(data, sent.fault, self.chance, path)) as chunks:
                yield chunks

    @asynccontextmanager
    async def stream_old(self, file_id: str, expect: RemoteVersion) -> AsyncIterator[AsyncIterator[bytes]]:
        def look() -> bytes:
            if not self.features.nextcloud:
                raise Unsupported("the server keeps no old versions", subject=ROOT_PATH)
            now = [content_key(it.version) for it in self.account.walk() if it.file_id == file_id]
            key = content_key(expect)
            # Of what is in the trash no versions are shown.
            if not now or key in now or key not in self.account.old.get(file_id, ()):
                raise NotFound("the server keeps no such version", subject=ROOT_PATH, status=404)
            return self.account.contents[key]

        data = await self._ask("stream_old", ROOT_PATH, look)
        async with aclosing(_chunks(data, None, self.chance, ROOT_PATH)) as chunks:
            yield chunks

    @asynccontextmanager
    async def stream_removed(
        self, file_id: str, size: int, folders: Collection[str]
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        def look() -> bytes:
            if not self.features.nextcloud:
                raise Unsupported("the server keeps no old versions", subject=ROOT_PATH)
            if len(self.account.removed.get(file_id, b"")) != size:
                raise NotFound("it is not found in the trash", subject=ROOT_PATH, status=404)
            return self.account.removed[file_id]

        del folders
        data = await self._ask("stream_removed", ROOT_PATH, look)
        async with aclosing(_chunks(data, None, self.chance, ROOT_PATH)) as chunks:
            yield chunks

    async def read_archive(self, folder: RemotePath, sizes: Mapping[str, int]) -> Mapping[str, bytes]:
        if not self.features.nextcloud:
            raise Unsupported("the server makes no archives", subject=folder)

        def read() -> dict[str, bytes]:
            members = self.account.get(folder).members
            found = {name: members[name] for name in sizes if name in members}
            return {name: it.content for name, it in found.items() if len(it.content) == sizes[name]}

        return await self._ask("read_archive", folder, read)

    async def put(
        self,
        path: RemotePath,
        body: Body,
        size: int,
        condition: Condition,
        *,
        mtime_s: int | None = None,
        checksum: str | None = None,
        name: str | None = None,  # it takes no pieces but for tails
        base_bytes: int = 0,
    ) -> Stored:
        base = await self._copy_base(path, condition, base_bytes) if base_bytes else b""
        kept = mtime_s if self.features.sets_mtime else None
        kept = None if kept is None else max(kept, EARLIEST_MTIME_S)
        told = checksum if self.features.checksums else None

        def store() -> Stored:
            self._check(path, condition)
            made = self.account.write(path, data, mtime_s=kept, checksum=told)
            return Stored(
                made.version.etag, made.file_id, kept, mtime_kept=kept is not None and kept == mtime_s
            )

        sent = await self._send("put", path)
        data = base + b"".join([chunk async for chunk in body(base_bytes)])
        self.sent_bytes += len(data) - base_bytes
        assert len(data) == size, f"{path}: a body of {len(data)} bytes was announced as {size}"
        with self._abandoned(sent, store):
            await self._way()
        if sent.fault is FaultKind.CUT:
            self._check(path, condition)
            if self.leaves_parts and not base_bytes and self.account.find(parent_of(path)) is not None:
                self._leave_part(path, data[: self.chance.randint(0, len(data))])
            elif self.truncating and not base_bytes:
                self.account.cut(path, data[: self.chance.randint(0, len(data))])
            raise lost_reply(path)
        return await self._carry_out(sent, store)

    def _leave_part(self, path: RemotePath, part: bytes) -> None:
        before = self.account.find(path)
        if before is None or not self.features.nextcloud:
            self.parts.add(part)
            if before is None or before.size <= len(part):
                self.telling.add(part)
            self.account.write(path, part)

    async def _copy_base(self, path: RemotePath, condition: Condition, base_bytes: int) -> bytes:
        """Copy the file into an upload, on the word of its ETag; then look what it was, as `remote.tails` does."""
        version = condition.version
        assert version is not None, "a tail belongs to a version"
        if not self.features.appends or self.refuses_tails:
            raise Unsupported("it takes no tails", subject=path)

        def copy() -> bytes:
            found = self.account.find(path)
            if found is None or not self._same_etag(found, version):
                raise Changed("another version", subject=path, status=412)
            return found.content

        copied = await self._ask("copy_base", path, copy)
        if not version.same_content((await self.stat(path)).version):
            raise Changed("another version", subject=path, status=412)
        assert len(copied) == base_bytes or self.truncating, f"{path}: {len(copied)} bytes, not {base_bytes}"
        if len(copied) != base_bytes:
            raise ServerFault("a piece has not the length that it should have", subject=path, status=500)
        return copied

    async def have_hashed(self, path: RemotePath, expect: RemoteVersion) -> str | None:
        def compute() -> str:
            self._match(path, expect)
            found = self.account.get(path)
            found.checksum = f"SHA1:{hashlib.sha1(found.content, usedforsecurity=False).hexdigest()}"
            self.account.contents[content_key(found.version)] = found.content
            return found.checksum

        return await self._ask("have_hashed", path, compute)

    async def put_bulk(self, files: Sequence[NewFile]) -> Sequence[Stored | None]:
        if not self.features.bulk:
            raise Unsupported("the server takes no files in bulk")

        def store(count: int = len(files)) -> list[Stored | None]:
            made = [self._store_new(file) for file in files[:count]]
            return made + [None] * (len(files) - count)

        sent = await self._send("put_bulk", files[0].path)
        with self._abandoned(sent, store):
            await self._way()
        if sent.fault is FaultKind.CUT:
            # Nobody hears which of them were stored, as after an error in the midst of it (protocol.md §8).
            store(self.chance.randint(0, len(files)))
            raise lost_reply(sent.path)
        return await self._carry_out(sent, store)

    def _store_new(self, file: NewFile) -> Stored | None:
        before, seen_at = self.account.find(file.path), self.seen_into.get(parent_of(file.path))
        if before is not None and seen_at is not None:
            self.overrun[before.content] = trio.current_time(), seen_at
        try:
            made = self.account.write(file.path, file.content, mtime_s=file.mtime_s)
        except RemoteError:
            return None
        return Stored(made.version.etag, made.file_id, file.mtime_s, mtime_kept=True)

    async def make_folder(self, path: RemotePath, *, mtime_s: int | None = None) -> Stored:
        def make() -> Stored:
            made = self.account.make_folder(path)
            self.seen_into[path] = trio.current_time()
            if mtime_s is not None:
                made.mtime_s = mtime_s
            return Stored("", made.file_id, mtime_s, mtime_kept=mtime_s is not None)

        return await self._ask("make_folder", path, make)

    async def move(
        self, source: RemotePath, target: RemotePath, *, expect: RemoteVersion | None = None
    ) -> Stored:
        def move() -> Stored:
            if expect is not None:
                self._match(source, expect, other=target)
            self._unlocked(source)
            moved = self.account.move(source, target)
            return Stored(moved.version.etag if moved.kind is Kind.FILE else "", moved.file_id)

        return await self._ask("move", source, move, target)

    async def copy(self, source: RemotePath, target: RemotePath) -> Stored:
        def copy() -> Stored:
            made = self.account.copy(source, target)
            return Stored(made.version.etag if made.kind is Kind.FILE else "", made.file_id)

        return await self._ask("copy", source, copy, target)

    async def delete(self, path: RemotePath, *, expect: RemoteVersion | None = None) -> None:
        def delete() -> None:
            if expect is not None:
                self._match(path, expect)
                self._note_overtaken(path, self.account.get(path), expect)
            self._unlocked(path)
            found = self.account.get(path)
            for entry in self.account.walk(path) if found.kind is Kind.FOLDER else ():
                self.swept[self.account.get(entry.path).content] = trio.current_time()
            if found.kind is Kind.FILE and expect is None:
                self.swept[found.content] = trio.current_time()  # it took the place of a folder
            self.account.delete(path)

        await self._ask("delete", path, delete)

    async def set_mtime(
        self, path: RemotePath, mtime_s: int, *, expect: RemoteVersion | None = None
    ) -> int | None:
        taken_s = max(mtime_s, EARLIEST_MTIME_S)

        def set_mtime() -> int:
            if expect is not None:
                self._match(path, expect)
            self.account.set_mtime(path, taken_s)
            return taken_s

        if not self.features.sets_mtime:
            return None
        return await self._ask("set_mtime", path, set_mtime)

    async def identify(self, ids: Sequence[str]) -> Sequence[RemoteEntry]:
        assert 0 < len(ids) <= MOST_IDS
        wanted = set(ids)

        def search() -> list[RemoteEntry]:
            found = [it for it in self.account.walk() if it.file_id in wanted and it.path != ROOT_PATH]
            return [
                msgspec.structs.replace(it, version=msgspec.structs.replace(it.version, checksum=None))
                for it in found
            ]

        return await self._ask("identify", ROOT_PATH, search)

    async def annotations(self, path: RemotePath) -> Annotations | None:
        return await self._ask("annotations", path, lambda: None)

    async def follow_changes(self, connected: Callable[[], None], heard: Callable[[Pushed], None]) -> None:
        if not self.features.push_url:
            raise Unsupported("no push server", subject=ROOT_PATH)
        await self._ask("follow_changes", ROOT_PATH, lambda: None)
        if self.refuses_listeners:
            raise NotAuthenticated("the push server does not accept the login", subject=ROOT_PATH)
        dropping = self.dropping
        connected()
        self.ears.append(heard)
        try:
            await dropping.wait()
        finally:
            self.ears.remove(heard)
        raise Unreachable("the connection broke", subject=ROOT_PATH)

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()

    # The three moments of a request

    async def _ask(
        self, method: str, path: RemotePath, act: Callable[[], T], target: RemotePath | None = None
    ) -> T:
        changes = method in CHANGES
        sent = self._begin(method, path, target)
        with self._abandoned(sent, act) if changes else nullcontext():
            await self._arrive(sent)
        if sent.fault is FaultKind.CUT:
            sent = replace(sent, fault=FaultKind.LOSE_REPLY)
        if changes or path == ROOT_PATH or not self.faults.is_on(Span.EMPTY):
            return await self._carry_out(sent, act)
        raise NotFound("it does not exist", subject=path, status=404)

    async def _carry_out(self, sent: Request, act: Callable[[], T]) -> T:
        if sent.fault is FaultKind.LATE:
            self._do_later(sent, act)
            raise lost_reply(sent.path)
        if self.in_order and sent.method in CHANGES:
            self._catch_up(sent)
        await self._happen(sent)
        with self._answering(sent):
            result = act()
        await self._way_back(sent)
        return result

    async def _happen(self, sent: Request) -> None:
        if (happen := self.before.pop(sent.method, None)) is not None:
            await happen()

    async def _send(self, method: str, path: RemotePath) -> Request:
        sent = self._begin(method, path)
        await self._arrive(sent)
        return sent

    def _begin(self, method: str, path: RemotePath, target: RemotePath | None = None) -> Request:
        number = len(self.log) + 1
        fault = self.faults.draw(number, method)
        sent = Request(number, trio.current_time(), method, path, target, fault)
        self.log.append(sent)
        return sent

    async def _arrive(self, sent: Request) -> None:
        with self._answering(sent):
            if sent.fault is FaultKind.HANG:
                await trio.sleep(self.patience_s)
            await self._way(sent.fault)
            error = self.faults.whole_server(sent.method, sent.path) or error_before(sent.fault, sent.path)
            if error is not None:
                raise error

    async def _way_back(self, sent: Request) -> None:
        with self._answering(sent):
            if sent.fault is FaultKind.HANG_DONE:
                await trio.sleep(self.patience_s)
            await self._way(sent.fault)
            if sent.fault in {FaultKind.LOSE_REPLY, FaultKind.HANG_DONE}:
                raise lost_reply(sent.path)
            if sent.fault is FaultKind.BAD_GATEWAY:
                raise ServerFault("bad gateway", subject=sent.path, status=502)
        self.trace(f"{sent} done")

    async def _way(self, fault: FaultKind | None = None) -> None:
        if fault is FaultKind.SLOW:
            await trio.sleep(self.slow_s)
        elif self.latency_s:
            await trio.sleep(self.chance.uniform(0, self.latency_s))
        else:
            await trio.lowlevel.checkpoint()
        if self.dead:
            raise Unreachable("this client was killed")

    @contextmanager
    def _answering(self, sent: Request) -> Iterator[None]:
        try:
            yield
        except RemoteError as error:
            self.trace(f"{sent} {type(error).__name__}: {error.message}")
            raise

    @contextmanager
    def _abandoned(self, sent: Request, act: Callable[[], object]) -> Iterator[None]:
        """A client that goes away, or is killed, may have sent enough for the server to go on without it."""
        try:
            yield
        except trio.Cancelled:
            if self.lingers and self.chance.random() < 0.5:
                self._do_later(sent, act)
            raise

    def _do_later(self, sent: Request, act: Callable[[], object]) -> None:
        pending = Late(sent, act)
        self.late.append(pending)

        async def later() -> None:
            await trio.sleep(self.chance.uniform(0, self.late_s))
            self._do_late(pending)

        trio.lowlevel.spawn_system_task(later)

    def _do_late(self, pending: Late) -> None:
        if pending not in self.late:
            return
        self.late.remove(pending)
        with suppress(RemoteError):
            pending.act()
            self.trace("the server carried out what its client had given up")

    def _catch_up(self, sent: Request) -> None:
        for pending in list(self.late):
            if {pending.sent.path, pending.sent.target} & {sent.path, sent.target} - {None}:
                self._do_late(pending)

    # What the server checks

    def _check(self, path: RemotePath, condition: Condition) -> None:
        found = self.account.find(path)
        if condition.absent:
            if found is not None:
                raise AlreadyExists("it exists", subject=path, status=412)
            return
        assert condition.version is not None, "a condition names a version or absence"
        if found is None or not self._same_etag(found, condition.version):
            raise Changed("another version", subject=path, status=412)
        self._note_overtaken(path, found, condition.version)
        self._unlocked(path)

    def _match(self, path: RemotePath, expect: RemoteVersion, *, other: RemotePath | None = None) -> None:
        """If-Match of MOVE and DELETE; the adapter tells the two meanings of a MOVE's 412 apart by a look."""
        found = self.account.get(path)
        if other is not None and self.account.find(other) is not None:
            raise AlreadyExists("the target exists", subject=other, status=412)
        if not self._same_etag(found, expect):
            raise Changed("another version", subject=path, status=412)

    def _note_overtaken(self, path: RemotePath, found: StoredObject, expect: RemoteVersion) -> None:
        if not expect.same_content(found.version) and path in self.looked:
            self.overtaken[found.content] = self.looked[path]

    @staticmethod
    def _same_etag(found: StoredObject, expect: RemoteVersion) -> bool:
        return found.kind is Kind.FILE and found.version.etag == expect.etag

    def _unlocked(self, path: RemotePath) -> None:
        if self.locking and _read_below(self.account.get(path)):
            raise Locked("somebody reads it", subject=path, status=423)

    def _content(
        self, path: RemotePath, start: int, stop: int, expect: RemoteVersion
    ) -> tuple[StoredObject, bytes]:
        assert 0 <= start <= stop <= expect.size, f"{path}: no range {start}-{stop} in {expect.size} bytes"
        if self.faults.is_on(Span.EMPTY):
            raise NotFound("it does not exist", subject=path, status=404)
        self.account.scan(path)
        found = self.account.get(path)
        if found.kind is Kind.FOLDER or not expect.same_content(found.version):
            raise Changed("another version", subject=path, status=412)
        return found, found.content[start:stop]

    @contextmanager
    def _reading(self, found: StoredObject) -> Iterator[None]:
        found.readers += 1
        try:
            yield
        finally:
            found.readers -= 1


def now_s() -> int:
    """Return the server's clock: the virtual one, or a fixed moment outside of trio."""
    try:
        return _EPOCH_S + int(trio.current_time())
    except RuntimeError:
        return _EPOCH_S


def _read_below(found: StoredObject) -> bool:
    return found.readers > 0 or any(map(_read_below, found.members.values()))


async def _chunks(
    data: bytes, fault: FaultKind | None, chance: random.Random, path: RemotePath
) -> AsyncGenerator[bytes, None]:
    end = chance.randint(0, max(len(data) - 1, 0)) if fault is FaultKind.CUT else len(data)
    for start in range(0, end, _CHUNK):
        await trio.lowlevel.checkpoint()
        yield data[start : min(start + _CHUNK, end)]
    if fault is FaultKind.CUT:
        raise ProtocolViolation("the reply ended early", subject=path)


class OtherClient:
    """Another client of the account. Its calls take no time and never fail but for the server's own reasons."""

    def __init__(self, account: Account) -> None:
        self._account = account

    def write(
        self, path: str, content: bytes, *, mtime_s: int | None = None, checksum: str | None = None
    ) -> None:
        """Create or overwrite a file."""
        self._account.write(RemotePath(path), content, mtime_s=mtime_s, checksum=checksum)

    def mkdir(self, path: str) -> None:
        """Make a folder; AlreadyExists, ParentMissing."""
        self._account.make_folder(RemotePath(path))

    def delete(self, path: str) -> None:
        """Delete a file or a whole folder; NotFound."""
        self._account.delete(RemotePath(path))

    def move(self, source: str, target: str) -> None:
        """Rename; AlreadyExists, NotFound, ParentMissing."""
        self._account.move(RemotePath(source), RemotePath(target))

    def read(self, path: str) -> bytes:
        """Return a file's bytes; NotFound."""
        found = self._account.get(RemotePath(path))
        if found.kind is Kind.FOLDER:
            raise NotFound("it is a folder", subject=path)
        return found.content

    def tree(self) -> dict[str, bytes | None]:
        """Return everything by path: a file's bytes, None for a folder."""
        return {
            entry.path: None if entry.kind is Kind.FOLDER else self._account.get(entry.path).content
            for entry in self._account.walk()
        }

    def mtime_s(self, path: str) -> int:
        """Return the modification time that listings show."""
        return self._account.get(RemotePath(path)).mtime_s

    def checksum(self, path: str) -> str | None:
        """Return the stored checksum."""
        return self._account.get(RemotePath(path)).checksum

    def file_id(self, path: str) -> str:
        """Return the file id."""
        return self._account.get(RemotePath(path)).file_id

    def folders(self) -> list[str]:
        """Return every folder's path, the root included."""
        return ["/", *(path for path, content in self.tree().items() if content is None)]

    def exists(self, path: str) -> bool:
        """Tell whether anything has the path."""
        return path == parent_of(RemotePath(path)) or self._account.find(RemotePath(path)) is not None
