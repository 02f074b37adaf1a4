"""The histories of two clients with nothing in memory: real requests, to the stand-in for a Nextcloud, in real time.

What `FakeRemote` leaves out is between the engine and the server here: connections that break, bodies that are cut on
the wire, pages of a captive portal, and what the adapter makes of them. The judge is that of `two_clients`; what it
asks of the server in memory is answered by the stand-in's tree. `patched` shortens what would only be waited for.

The other client never acts while the server is carrying out a request: Nextcloud looks at a condition before it takes
the body, and what comes between the two is no matter of ours.
"""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
import trio

from cloudfs.errors import AlreadyExists, NotFound, ParentMissing, ServerFault
from cloudfs.metadata import vanished
from cloudfs.paths import is_below, parent_of
from cloudfs.remote.connect import Site, discover
from cloudfs.remote.files import WebdavRemote
from cloudfs.remote.protocol import Features
from cloudfs.sync import connectivity, doubts, troubles
from cloudfs.sync.troubles import Trouble
from cloudfs.types import Kind, RemotePath
from tests.model.account import ContentKey
from tests.model.fake_remote import FakeRemote
from tests.model.faults import Span
from tests.model.operations import (
    Kill,
    KillSoon,
    Operation,
    OtherMoveSeen,
    Unplug,
    Wait,
)
from tests.model.other_client import OTHERS
from tests.model.two_clients import TwoClients
from tests.model.world import World
from tests.servers import (
    CAPTIVE_PORTAL,
    Answer,
    CutResponse,
    CutUpload,
    Delay,
    Drop,
    LoseReply,
    StandIn,
    WrongLength,
)
from tests.servers.standin.faults import Action, Rule
from tests.servers.standin.messages import Request, Response
from tests.servers.standin.tree import Node
from tests.servers.standin.wire import Delivery

__all__ = ["patched", "play_over_http"]

_USER = "alice"
_PATIENCE_S = 60.0
_LONGEST_WAIT_S = 0.3
_MOVES_S = 0.05
_SOON_S = 0.05
_ACTIONS: tuple[Action, ...] = (
    Drop(),
    Drop(reset=True),
    LoseReply(),
    LoseReply(reset=True),
    CutUpload(2),
    CutResponse(10),
    WrongLength(3),
    Delay(0.02),
    Answer(500),
    Answer(423),
    Answer(502),
    Answer(200, CAPTIVE_PORTAL, {"Content-Type": "text/html"}),
)
_NOT_HERE = (Kill, KillSoon, OtherMoveSeen)
"""Deaths are for `tests/crash`; the other needs a server that can be stopped between two requests."""


@contextmanager
def patched() -> Iterator[None]:
    """Within the block back-offs, and what is waited for in case that something else turns up, take moments."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(doubts, "_LATE_S", 0.1)
        patch.setattr(connectivity, "_FIRST_S", _SOON_S)
        patch.setattr(troubles, "_FIRST_S", _SOON_S)
        patch.setattr(vanished, "KEEP_S", 0.5)
        yield


class _Faults:
    """What `two_clients` says of the network, said to the stand-in; and requests that fail by chance."""

    def __init__(self, server: StandIn, chance: random.Random, probability: float) -> None:
        self._server = server
        self._spans: dict[Span, Rule] = {}
        self.probability = probability
        self.happened: list[Rule] = []
        likely = probability / len(_ACTIONS)
        for action in _ACTIONS if probability else ():
            rule = server.faults.add(action, predicate=lambda _: chance.random() < likely, times=None)
            self.happened.append(rule)

    def during(self, span: Span, seconds: float) -> None:
        del seconds
        if span is Span.AWAY and span not in self._spans:
            self._spans[span] = self._server.faults.add(Drop(), times=None)

    def end(self, span: Span) -> None:
        if span in self._spans:
            self._server.faults.remove(self._spans.pop(span))

    def stop(self) -> None:
        self._server.faults.clear()
        self._spans.clear()


class _Found:
    """A file or folder of the stand-in, as the judges ask for one."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.kind = Kind.FOLDER if node.is_folder else Kind.FILE
        self.mtime_s = node.mtime

    @property
    def content(self) -> bytes:
        return self._node.blob.read()

    def etag_of(self, mtime_s: int, size: int) -> str:
        """Return what only this file has at that time and with that size."""
        return self._node.etag if mtime_s == self._node.mtime else f"{self._node.inode} {mtime_s} {size}"


class _Contents(dict[ContentKey, bytes]):
    """Contents by ETag and size: what a file had under the two was never another content here."""

    def get(self, key: ContentKey, default: Any = None) -> Any:
        return super().get((*key[:2], None), default)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, tuple) and super().__contains__((*key[:2], None))

    def note(self, node: Node) -> None:
        self[node.etag, node.blob.size_bytes, None] = node.blob.read()


class _Account:
    """The stand-in's tree as `tests.model.account.Account` has one, and as its `OtherClient`."""

    def __init__(self, server: StandIn) -> None:
        self._account = server.account(_USER)
        self._tree = self._account._tree
        self.contents = _Contents()
        self.swept: dict[bytes, float] = {}
        self._tree.on_change = self._changed
        removed = self._tree.remove

        def remove(node: Node) -> None:
            if threading.get_ident() != main:  # by a request, and so by this client
                self.swept |= {it.blob.read(): now() for it in node.walk() if node.is_folder}
            removed(node)

        main, now = threading.get_ident(), trio.lowlevel.current_clock().current_time
        self._tree.remove = remove  # type: ignore[method-assign]  # the one place where nodes go

    def _changed(self, node: Node | None, _folder: Node) -> None:
        if node is not None and not node.is_folder:
            self.contents.note(node)

    def now_s(self) -> int:
        return self._tree.now()

    def find(self, path: RemotePath) -> _Found | None:
        node = self._tree.lookup(tuple(filter(None, path.split("/"))))
        return None if node is None else _Found(node)

    def exists(self, path: str) -> bool:
        return self.find(RemotePath(path)) is not None

    def tree(self) -> dict[str, bytes | None]:
        return {f"/{path}": content for path, content in self._account.tree().items()}

    def write(
        self, path: str, content: bytes, *, mtime_s: int | None = None, checksum: str | None = None
    ) -> None:
        found = self.find(RemotePath(path))
        self._need_folder(path)
        if found is not None and found.kind is Kind.FOLDER:
            raise ServerFault("it is a folder", subject=path, status=409)
        self._account.write(path, content, mtime=mtime_s, checksum=checksum, parents=False)
        self.contents.note(self._account.node(path))

    def mkdir(self, path: str) -> None:
        self._need_folder(path)
        if self.exists(path):
            raise AlreadyExists("it exists", subject=path, status=405)
        self._account.mkdir(path)

    def delete(self, path: str) -> None:
        if not self.exists(path):
            raise NotFound("it does not exist", subject=path, status=404)
        self._account.delete(path)

    def move(self, source: str, target: str) -> None:
        if not self.exists(source):
            raise NotFound("it does not exist", subject=source, status=404)
        self._need_folder(target)
        if is_below(RemotePath(target), RemotePath(source)) or self.exists(target):
            raise AlreadyExists("the target exists", subject=target, status=412)
        self._account.move(source, target)

    def _need_folder(self, path: str) -> None:
        folder = self.find(parent_of(RemotePath(path)))
        if folder is None or folder.kind is Kind.FILE:
            raise ParentMissing("its folder does not exist", subject=path, status=409)

    def false_checksums(self) -> list[str]:
        """Return the paths of files whose checksum is that of something else."""
        with self._tree.lock:
            files = [it for it in self._tree.root.walk() if not it.is_folder and it.checksum]
            return [
                it.name
                for it in files
                if it.checksum != f"SHA1:{hashlib.sha1(it.blob.read(), usedforsecurity=False).hexdigest()}"
            ]


class HttpRemote:
    """The real adapter to a stand-in; what the judges want to know besides is told by that itself."""

    def __init__(self, server: StandIn, seed: int, trace: Callable[[str], None]) -> None:
        chance = random.Random(seed)
        self._server = server
        self.trace = trace
        self.account = self.other = _Account(server)
        self.swept = self.account.swept
        self.overtaken: Mapping[bytes, float] = {}
        self.overrun: Mapping[bytes, tuple[float, float]] = {}
        self.patience_s = self.late_s = 0.0
        self._one_request = threading.Lock()
        self._only_one_at_a_time()
        self.faults = _Faults(server, chance, 0.0)
        self._chance, self._probability = chance, chance.choice((0.0, 0.1, 0.25))
        self._site: Site | None = None
        self._remote: WebdavRemote | None = None

    def begin_faults(self) -> None:
        """From now on requests fail by chance."""
        self.faults = _Faults(self._server, self._chance, self._probability)

    def _only_one_at_a_time(self) -> None:
        http = self._server._http
        assert http is not None
        answer = http._server.application

        def alone(request: Request) -> tuple[Response, Delivery]:
            with self._one_request:
                return answer(request)

        http._server.application = alone

    @asynccontextmanager
    async def at_rest(self) -> AsyncIterator[None]:
        """Let no request be carried out within the block. Without a wait: its body may come from this very thread."""
        while not self._one_request.acquire(blocking=False):
            await trio.sleep(0.001)
        try:
            yield
        finally:
            self._one_request.release()

    async def log_in(self) -> None:
        """Begin a life: connections of its own."""
        if self._site is None:
            self._site = await discover(self._server.url, _USER, self._server.account(_USER).password)
        self._remote = WebdavRemote(self._site, self._server.account(_USER).app_password())

    async def log_out(self) -> None:
        """End it."""
        if self._remote is not None:
            await self._remote.aclose()

    @property
    def features(self) -> Features:
        # In bulk nothing can be sent under a condition: what comes of that is for the histories in memory.
        assert self._remote is not None
        return msgspec.structs.replace(self._remote.features, bulk=False)

    @property
    def parts(self) -> frozenset[bytes]:
        """What cut uploads of new files left there: nothing, on the stand-in."""
        return frozenset()

    @property
    def telling(self) -> frozenset[bytes]:
        """Those of them that no other client can have made."""
        return frozenset()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._remote, name)


class HttpWorld(World):
    """A world of real requests and real time."""

    remote: Any

    async def start(self) -> None:
        await self.remote.log_in()
        await super().start()

    async def _stop(self) -> None:
        await super()._stop()
        await self.remote.log_out()

    async def settle(self) -> None:
        await trio.sleep(_MOVES_S)

    async def drain(self) -> list[Trouble]:
        with trio.move_on_after(_PATIENCE_S) as limit:
            troubles = await self.engine.worker.wait_synced(lambda _ino: True)
        assert not limit.cancelled_caught, f"still not on the server: {self.unfinished()}"
        return troubles

    def check_checksums(self, *, under_way: bool = False) -> None:
        if not under_way:
            assert not self.remote.account.false_checksums()

    async def check_nothing_left(self) -> None:
        """All is on the server, and nothing of it is noted or staged any more."""
        await self.forget()
        with trio.move_on_after(_PATIENCE_S):
            while self._left_over():
                await trio.sleep(_MOVES_S)
        assert not self._left_over(), self._left_over()

    def _left_over(self) -> list[object]:
        db = self.engine.store.db
        here = {node.ino for node in self.engine.store.nodes.descendants(1) if node.local_only}  # type: ignore[arg-type]
        rows: list[object] = [*self.unfinished()]
        for table in ("staged", "observed", "attempts"):
            rows += [row for row in db.execute(f"SELECT * FROM {table}") if row[0] not in here]  # noqa: S608
        return rows


class _OverHttp(TwoClients):
    async def play(self, operation: Operation) -> None:
        if isinstance(operation, _NOT_HERE):
            return
        if isinstance(operation, Wait | Unplug):
            operation = type(operation)(min(operation.seconds, _LONGEST_WAIT_S))
        if isinstance(operation, OTHERS):
            async with self.world.remote.at_rest():  # type: ignore[attr-defined]
                await super().play(operation)
        else:
            await super().play(operation)
        if isinstance(operation, Unplug):
            await trio.sleep(operation.seconds)
            self.world.remote.faults.end(Span.AWAY)


def play_over_http(
    folder: Path, history: list[Operation], seed: int, trace: Callable[[str], None] = lambda _: None
) -> None:
    """Play a whole history on a new server and a new world, bring both sides together, and judge."""

    async def story() -> None:
        remote = HttpRemote(server, seed, trace)
        async with HttpWorld(
            folder / "0",
            cast("FakeRemote", remote),
            quiet_s=0.05,
            ttl_s=0.5,
            poll_s=0.5,
            delete_guard=0,
        ) as world:
            clients = _OverHttp(world, strict=False)
            await clients.stock()
            remote.begin_faults()
            for operation in history:
                trace(f"{operation}")
                await clients.play(operation)
            await clients.finish()

    with StandIn() as server:
        trio.run(story)
        assert not server.failures, server.failures
