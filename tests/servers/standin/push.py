"""notify_push: a websocket on the same port, with the messages that nextcloud/notify_push sends (protocol.md §12).

It tells at once, where the real one gathers for a second or more. `announced` is the address in the capabilities: of a
host that does not exist, as behind a proxy whose name the server does not know.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    TextMessage,
)
from wsproto.events import Request as Opening
from wsproto.utilities import ProtocolError

from tests.servers.standin.messages import Request, Response
from tests.servers.standin.tree import Node
from tests.servers.standin.users import User

PATH = "/push/ws"
PRE_AUTH = "/apps/notify_push/pre_auth"
_TURN_S = 0.01


class Person(Protocol):
    """Whose login it was."""

    @property
    def id(self) -> str:
        """The user's id."""


class Logins(Protocol):
    """Who may come in."""

    def by_login(self, login: str, password: str) -> Person | None:
        """Whoever this login belongs to."""


@dataclass(eq=False)
class Connection:
    """One client's. `words` is what it said so far."""

    socket: socket.socket
    user: Person | None = None
    words: list[str] = field(default_factory=list)
    outgoing: deque[str] = field(default_factory=deque)
    pings: int = 0

    @property
    def named(self) -> bool:
        """Whether the client wants to hear ids."""
        return "listen notify_file_id" in self.words


class PushServer:
    """All connections of one server."""

    def __init__(self, users: Logins) -> None:
        self._users = users
        self._mutex = threading.Lock()
        self.connections: list[Connection] = []
        self.enabled = False
        """Without, there is nothing at its address."""
        self.silent = False
        """Takes connections and says nothing more: no answer to a login, no pong."""
        self.mute = False
        """Tells nobody of changes by itself."""
        self.refused = 0
        """Logins with a wrong password."""
        self.opened = 0
        self.tokens: dict[str, Person] = {}
        """What `PreAuth` gave out, good for one login each."""
        self.forgetful = False
        """Knows no token."""
        self.cut_off = False
        """Cannot ask the Nextcloud who may come in."""

    @property
    def announced(self) -> dict[str, object]:
        """The section of the capabilities."""
        endpoints = {
            "websocket": f"wss://cloud.internal.invalid{PATH}",
            "pre_auth": f"https://cloud.internal.invalid/index.php{PRE_AUTH}",
        }
        return {"type": ["files", "activities", "notifications"], "endpoints": endpoints}

    def changed(self, user: User, node: Node | None, parent: Node) -> None:
        """An entry of an account has changed, or something was taken out of a folder.

        SOURCE: Nextcloud 29.0.1 with notify_push 1.4.0, measured for each method: what is changed is told of, and the
        folder it is in, for its size and time; what is removed is not, since it moves to the trash, which is outside,
        but all folders above it are.
        """
        if self.mute:
            return
        told = [*parent.lineage()] if node is None else [node, parent]
        ids = list(dict.fromkeys(it.file_id for it in told))
        self.tell(user.id, f"notify_file_id {json.dumps(ids, separators=(',', ':'))}", "notify_file")

    def tell(self, user_id: str, message: str, otherwise: str | None = None) -> None:
        """Send a message to an account's clients; `otherwise` to those that do not want to hear ids."""
        with self._mutex:
            for connection in self.connections:
                if connection.user is not None and connection.user.id == user_id:
                    connection.outgoing.append(
                        message if connection.named or otherwise is None else otherwise
                    )

    def drop(self) -> None:
        """Break every connection."""
        with self._mutex:
            for connection in self.connections:
                with contextlib.suppress(OSError):
                    connection.socket.shutdown(socket.SHUT_RDWR)

    def listening(self) -> int:
        """How many clients hear of changes by their ids."""
        with self._mutex:
            return sum(connection.named for connection in self.connections)

    def takes(self, request: Request) -> bool:
        """Whether a request is for us."""
        wanted = request.path == PATH and request.header("upgrade").lower() == "websocket"
        return wanted and self.enabled

    def serve(self, request: Request, raw: socket.socket) -> None:
        """Talk to one client until it goes; in the thread of its request."""
        self.opened += 1
        connection = Connection(raw)
        with self._mutex:
            self.connections.append(connection)
        raw.settimeout(_TURN_S)
        try:
            self._talk(connection, WSConnection(ConnectionType.SERVER), _opening(request))
        except (OSError, ProtocolError):
            pass  # it went away
        finally:
            with self._mutex:
                self.connections.remove(connection)

    def _talk(self, connection: Connection, protocol: WSConnection, data: bytes) -> None:
        while True:
            if data:
                protocol.receive_data(data)
            for event in protocol.events():
                for answer in self._answers(connection, event):
                    connection.socket.sendall(protocol.send(answer))
                if isinstance(event, CloseConnection):
                    return
            while connection.outgoing:
                text = connection.outgoing.popleft()
                connection.socket.sendall(protocol.send(TextMessage(text)))
                if text.startswith("err"):
                    return
            try:
                data = connection.socket.recv(65536)
            except TimeoutError:
                data = b""
                continue
            if not data:
                return

    def _answers(self, connection: Connection, event: Event) -> list[Event]:
        match event:
            case Opening():
                return [AcceptConnection()] if self.enabled else [RejectConnection(status_code=404)]
            case Ping() if not self.silent:
                connection.pings += 1
                return [event.response()]
            case TextMessage() if not self.silent:
                connection.words.append(event.data)
                self._log_in(connection)
            case CloseConnection():
                return [event.response()]
        return []

    def _log_in(self, connection: Connection) -> None:
        if connection.user is not None or len(connection.words) != 2:
            return
        name, word = connection.words
        token = self.tokens.pop(word, None) if not name and not self.forgetful else None
        connection.user = token or (None if self.cut_off else self._users.by_login(name, word))
        if connection.user is None:
            self.refused += 1
        connection.outgoing.append("authenticated" if connection.user else f"err: {self._why()}")

    def _why(self) -> str:
        """SOURCE: src/error.rs of notify_push 1.4.0, by reading."""
        unasked = (
            "Error while sending authentication request to nextcloud: Server error: 503 Service Unavailable"
        )
        return unasked if self.cut_off else "Invalid credentials"


class PreAuth:
    """Gives out what logs in at the websocket, to who is logged in here."""

    needs_login = True

    def __init__(self, push: PushServer) -> None:
        self._push = push

    def handle(self, request: Request) -> Response:
        """The token is all there is in the reply. SOURCE: nextcloud/notify_push, PreAuthController."""
        request.body.drain()
        return self.token_for(request.account)

    def token_for(self, person: Person) -> Response:
        """Give out another one."""
        token = secrets.token_hex(16)
        self._push.tokens[token] = person
        body = token.encode()
        return Response(200, [("Content-Type", "text/plain")], body, len(body))


def _opening(request: Request) -> bytes:
    """The request as it came: wsproto wants to read it itself."""
    lines = [
        f"GET {request.target} HTTP/1.1",
        *(f"{name}: {value}" for name, value in request.headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")
