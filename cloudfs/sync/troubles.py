"""What could not be sent, why, and when it is tried again. In memory: a restart tries everything at once."""

from __future__ import annotations

import errno
import random
from collections import Counter

import msgspec
import trio

from cloudfs.errors import (
    BaseLost,
    CloudfsError,
    ConditionRefused,
    ContentRefused,
    Forbidden,
    LocalDamage,
    Locked,
    NameRefused,
    NotAuthenticated,
    PosixError,
    ProtocolViolation,
    QuotaExceeded,
    RemoteError,
    ServerFault,
    StorageAway,
    TooLarge,
    Unavailable,
    Unsupported,
)
from cloudfs.store.records import Node
from cloudfs.types import Ino

__all__ = ["Trouble", "Troubles", "cannot_be_read", "kept_newer", "withheld"]

_FIRST_S, _LONGEST_S = 1.0, 300.0
_REFUSED_TRIES = 4
"""So often what is refused without a reason that tells something is tried at first: in about ten seconds."""
_LASTING_TRIES = 8
"""So often what may pass by itself is tried, in about two minutes, before somebody is told of it."""
_BLOCKED_S = 600.0
"""What the server refused for good is still tried again this often: its cause may have gone."""

_LOG_IN = "log in again with `cloudfs login`"
_NEXT_STEP: tuple[tuple[type[CloudfsError] | tuple[type[CloudfsError], ...], str], ...] = (
    (QuotaExceeded, "free space in the account, or ask its administrator for more"),
    (
        Forbidden,
        "ask the owner of the folder, or the server's administrator, for permission, or move the file elsewhere",
    ),
    (NameRefused, "rename the file"),
    (
        ContentRefused,
        "look at the file, which the server's virus scanner or its rules object to, and change or remove it",
    ),
    (TooLarge, "the server or a proxy before it limits the size of uploads: ask its administrator"),
    (NotAuthenticated, _LOG_IN),
    (
        BaseLost,
        "save the whole file once more from the program that edited it, or remove it to see the server's version",
    ),
    (
        ConditionRefused,
        "ask the administrator to let the headers If, If-Match, If-None-Match and Overwrite through, unchanged",
    ),
    (
        (Unsupported, ServerFault),
        (
            "ask the administrator of the server, or of a proxy before it, why it refuses this, or the conditions (If,"
            " If-Match, If-None-Match) that it is asked for under; the log tells its answers"
        ),
    ),
    (
        Locked,
        "have it closed or unlocked where it is open or locked: on another device, or in the web interface",
    ),
    (ProtocolViolation, "look at what answers in the place of the server; the log tells what it says"),
    (LocalDamage, "see the log; what is left of the file is kept in the staging folder"),
)


class Trouble(msgspec.Struct, frozen=True):
    """One node that could not be sent."""

    ino: Ino
    name: str
    reason: str
    next_step: str
    tries: int
    due: float
    """trio time of the next try."""
    blocked: bool
    """Waiting alone will not mend it."""


class Troubles:
    """Back-off without end, per node."""

    def __init__(self) -> None:
        self._by_ino: dict[Ino, Trouble] = {}
        self._refused: dict[Ino, type[Exception]] = {}
        """Why the server did not take them last time."""
        self._unexplained: dict[Ino, Counter[tuple[type[Exception], bool]]] = {}
        """How often each failed without a reason, by kind, and by whether it was refused."""

    def add(self, node: Node, error: Exception) -> None:
        """A try failed: set the next one, later each time, with jitter; at the server's word where it gave one."""
        known = self._by_ino.get(node.ino)
        tries = 1 if known is None else known.tries + 1
        again = self._count(node.ino, error)
        refused = isinstance(error, _BLOCKING) or (_refuses(error) and again >= _REFUSED_TRIES)
        lasts = _may_pass(error) and again >= _LASTING_TRIES
        # A full disk may have room again at any moment, by what else goes up: it is tried as often as ever.
        blocked = refused or lasts or (_has_no_room(error) and tries >= _REFUSED_TRIES)
        self._refused[node.ino] = type(error)
        wait_s = min(_FIRST_S * 2.0 ** min(tries - 1, 10), _LONGEST_S) * random.uniform(0.5, 1.0)  # noqa: S311
        if isinstance(error, RemoteError) and error.retry_after_s is not None:
            wait_s = max(wait_s, error.retry_after_s)
        if refused:
            wait_s = _BLOCKED_S
        self._by_ino[node.ino] = Trouble(
            ino=node.ino,
            name=node.name,
            reason=str(error),
            next_step=_next_step(error) if blocked else "",
            tries=tries,
            due=trio.current_time() + wait_s,
            blocked=blocked,
        )

    def _count(self, ino: Ino, error: Exception) -> int:
        """Return how often it was this without a reason, now included; 0: it is something else."""
        if not (_refuses(error) or _may_pass(error)):
            return 0
        kinds, kind = self._unexplained.setdefault(ino, Counter()), (type(error), _refuses(error))
        kinds[kind] += 1
        return kinds[kind]

    def forget(self, ino: Ino) -> None:
        """It was sent, or something about it changed: start afresh."""
        for known in (self._by_ino, self._refused, self._unexplained):
            known.pop(ino, None)

    def retry_refused(self, kind: type[Exception]) -> None:
        """The cause of this kind of error may have gone: try again what met it."""
        for ino in [ino for ino, refused in self._refused.items() if refused is kind]:
            self.forget(ino)

    def retry_all(self) -> None:
        """Somebody waits: try everything now once more."""
        for known in (self._by_ino, self._refused, self._unexplained):
            known.clear()

    def due(self, ino: Ino) -> float:
        """Return the trio time before which a node is left alone."""
        trouble = self._by_ino.get(ino)
        return 0.0 if trouble is None else trouble.due

    def of(self, ino: Ino) -> Trouble | None:
        """Return a node's trouble."""
        return self._by_ino.get(ino)

    def blocked(self, ino: Ino) -> Trouble | None:
        """Return a node's trouble if waiting alone will not mend it."""
        trouble = self._by_ino.get(ino)
        return trouble if trouble is not None and trouble.blocked else None

    def needs_login(self, node: Node, reason: str) -> Trouble:
        """Return the trouble of any node while the server refuses the login."""
        known = self._by_ino.get(node.ino)
        return Trouble(
            ino=node.ino,
            name=node.name,
            reason=reason,
            next_step=_LOG_IN,
            tries=0 if known is None else known.tries,
            due=self.due(node.ino),
            blocked=True,
        )

    def all_blocked(self) -> list[Trouble]:
        """Return every trouble that needs somebody to act."""
        return [trouble for trouble in self._by_ino.values() if trouble.blocked]


def withheld(node: Node) -> Trouble:
    """Return the trouble of a node whose place on the server is held by the guard (`metadata/guard.py`)."""
    return Trouble(
        ino=node.ino,
        name=node.name,
        reason="its folder is gone on the server, with so much else that it is kept here until you answer",
        next_step="`cloudfs deletions accept` sends it as new, `cloudfs deletions restore` with all that is here",
        tries=0,
        due=0.0,
        blocked=True,
    )


def kept_newer(node: Node) -> Trouble:
    """Return the trouble of a file that a server that was set back has in an older version (`metadata/setback.py`)."""
    return Trouble(
        ino=node.ino,
        name=node.name,
        reason="the server seems to be set back to a backup and has an older version of it; it stays until you answer",
        next_step="`cloudfs deletions accept` takes over the older version, `cloudfs deletions restore` sends this one",
        tries=0,
        due=0.0,
        blocked=True,
    )


def cannot_be_read(node: Node) -> Trouble:
    """Return the trouble of a file that never goes up, and of which some bytes are nowhere (`content/baseless.py`)."""
    return Trouble(
        ino=node.ino,
        name=node.name,
        reason="another client replaced or removed the version that this file was edited from, before its other parts"
        " were downloaded",
        next_step="save the whole file once more from the program that edited it, or remove it",
        tries=0,
        due=0.0,
        blocked=True,
    )


_BLOCKING = (
    BaseLost,
    ContentRefused,
    Forbidden,
    QuotaExceeded,
    NameRefused,
    TooLarge,
    LocalDamage,
    NotAuthenticated,
)


_REFUSING = (ConditionRefused, ServerFault, Unsupported)
_PASSING = (Locked, ProtocolViolation, ServerFault)
_OF_MORE = (StorageAway, Unavailable)
"""About more than this one file, and told of as such."""


def _refuses(error: Exception) -> bool:
    """Tell whether not even the server says that it will pass."""
    return isinstance(error, _REFUSING) and not error.temporary


def _may_pass(error: Exception) -> bool:
    """Tell whether it should pass by itself, and is about this file alone."""
    return isinstance(error, _PASSING) and error.temporary and not isinstance(error, _OF_MORE)


def _has_no_room(error: Exception) -> bool:
    return isinstance(error, PosixError) and error.errno in {errno.ENOSPC, errno.EDQUOT}


def _next_step(error: Exception) -> str:
    if _has_no_room(error):
        return "make room on the disk of this machine that holds cloudfs' state"
    if isinstance(error, ServerFault) and error.temporary:
        return "ask the server's administrator why it fails there: its own log tells; it is tried again all the same"
    return next((step for kind, step in _NEXT_STEP if isinstance(error, kind)), "see the log")
