"""Whether what stands in the place of an upload is a part of it, as where the connection broke in the midst of it.

wsgidav and rclone take what came for the file, and so does a Nextcloud on an object store with a new one (29.0.1, by
reading). Another client may have cut that file short as well, or written the same beginning: so a part is ours only if
nothing speaks against that, and where it may be either's, both are kept: see `Verdict`.

A server that has file ids keeps the versions that are written over, and makes no parts but of new files and in shares
in which none may be created: what may be a part there is one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import Enum, auto
from functools import partial
from typing import NamedTuple

from cloudfs.content.layers import Layer
from cloudfs.content.outgoing import Outgoing
from cloudfs.errors import CloudfsError, LocalDamage, QuotaExceeded, RemoteError, ServerFault
from cloudfs.metadata.columns import NS
from cloudfs.metadata.permissions import may
from cloudfs.remote.protocol import Body, Remote
from cloudfs.store.records import Attempt, Node
from cloudfs.store.store import Store
from cloudfs.sync.doubts import may_have_arrived
from cloudfs.sync.evidence import Evidence
from cloudfs.sync.packing import Packer, Parcel
from cloudfs.sync.sending import CountedBody
from cloudfs.types import Ino, Kind, RemoteEntry

__all__ = ["TornParts", "Verdict"]

_EARLY_S = 3.0
"""So inexact are the server's times, and what is known of its clock."""
_LATE_S = 60.0
"""So long after a client went away a server may go on waiting for it, and put down what came."""


class Verdict(Enum):
    """Whose a part is."""

    ANOTHERS = auto()
    """No try of ours can have left it."""
    OURS = auto()
    """Nobody else has these bytes there: it may be written over."""
    UNCERTAIN = auto()
    """It may be what another client made of the file: it is kept, but not as the file."""


class _Sent(NamedTuple):
    """How much of a content tries whose end is not known may have left, and between which moments (`_passed_s`)."""

    most_bytes: int
    began_s: float
    ended_s: float

    def joined(self, other: _Sent) -> _Sent:
        return _Sent(
            max(self.most_bytes, other.most_bytes),
            min(self.began_s, other.began_s),
            max(self.ended_s, other.ended_s),
        )


class TornParts:
    """Remembers the tries of this life; made when the engine starts."""

    def __init__(self, store: Store, remote: Remote, outgoing: Outgoing, packer: Packer) -> None:
        self._store = store
        self._remote = remote
        self._outgoing = outgoing
        self._packer = packer
        self._evidence = Evidence(remote)
        self._born_s = _passed_s()
        self._sent: dict[Ino, dict[str, _Sent | None]] = {}
        """By checksum; None: every try was answered, or not sent. What is not in it was tried in earlier lives."""
        self._cleared: set[Ino] = set()
        """Whose version before is not in its place any more, by our doing: what is there now is from after a try."""

    # Tries

    def begin(self, attempt: Attempt) -> None:
        """Note that a content is about to be tried, before the store does."""
        known = self._store.attempts(attempt.ino)
        if not known:
            # The end of what was tried before was found out elsewhere: nothing that was cleared then speaks for this.
            self.forget(attempt.ino)
        tries = self._sent.setdefault(attempt.ino, {})
        if attempt.checksum not in tries:
            before = next((it for it in known if it.checksum == attempt.checksum), None)
            tries[attempt.checksum] = None if before is None else self._in_earlier_lives(before)

    @contextmanager
    def counted(self, attempt: Attempt, body: Body) -> Iterator[Body]:
        """Hand out a body in the place of `body`, and remember what a request with it may leave that got no answer."""
        counted, began_s = CountedBody(body), _passed_s()
        try:
            yield counted
        except BaseException as error:
            # What is no RemoteError has cut the body here: a disk that does not give it, a cancellation.
            if not isinstance(error, RemoteError) or _may_leave_a_part(error):
                self._note(attempt, _Sent(counted.furthest, began_s, _passed_s()))
            self._keep_end(attempt)
            raise

    def forget(self, ino: Ino) -> None:
        """The end of all that was tried is known."""
        self._sent.pop(ino, None)
        self._cleared.discard(ino)

    def clear(self, ino: Ino) -> None:
        """What stood in a file's place was set aside, or is written over: once is enough, however many tries break."""
        self._cleared.add(ino)

    def _note(self, attempt: Attempt, sent: _Sent) -> None:
        tries = self._sent.setdefault(attempt.ino, {})
        earlier = tries.get(attempt.checksum)
        tries[attempt.checksum] = sent if earlier is None else sent.joined(earlier)

    def _keep_end(self, attempt: Attempt) -> None:
        """Else all that another client makes until a restart would be of the time of a try."""
        sent = self._sent.get(attempt.ino, {}).get(attempt.checksum)
        ended_s = None if sent is None else sent.ended_s + time.time() - _passed_s()
        # Where that fails, as on a full disk, it is not known: the error that ended the try is the one to be told.
        with suppress(CloudfsError):
            self._store.end_try(attempt, ended_s)

    def _in_earlier_lives(self, attempt: Attempt) -> _Sent | None:
        """All of it may have been sent, since it was tried first and before this life."""
        if not attempt.began_s:
            return None
        ahead_s = time.time() - _passed_s()
        ended_s = attempt.ended_s - ahead_s if attempt.ended_s else self._born_s
        return _Sent(attempt.size, min(attempt.began_s - ahead_s, self._born_s), min(ended_s, self._born_s))

    def _tries(self, attempts: Sequence[Attempt], size: int) -> list[_Sent]:
        """Return the tries of these contents that may have left a part of so many bytes."""
        found = (
            tries[it.checksum]
            if it.checksum in (tries := self._sent.get(it.ino, {}))
            else self._in_earlier_lives(it)
            for it in attempts
        )
        return [it for it in found if it is not None and size <= it.most_bytes]

    # Parts

    async def judge(
        self, parcel: Parcel, layer: Layer | None, entry: RemoteEntry, earlier: Sequence[Attempt]
    ) -> Verdict:
        """Tell whose what stands in a parcel's place is, after the tries `earlier`. Raises RemoteError."""
        part, base = entry.version, parcel.base
        if parcel.base_bytes or not self._may_be_part(parcel.place, base, entry):
            return Verdict.ANOTHERS
        # Also those of what was written further since: it may have grown, and begin with all that they sent.
        tries = self._tries(earlier, part.size)
        if tries and await self._evidence.is_part(entry, parcel.size, partial(self._outgoing.chunks, layer)):
            # An empty one has no bytes that might be lost.
            if not part.size or entry.file_id is not None or parcel.node.ino in self._cleared:
                return Verdict.OURS
            in_time = self._is_in_time(tries, part.modified_s, parcel.mtime_s)
            is_shortened = await self._may_be_shortened(base, layer, part.size)
            return Verdict.OURS if in_time and not is_shortened else Verdict.UNCERTAIN
        if parcel.onto is not None and await self.is_left_over(parcel.onto, parcel.place, entry):
            return Verdict.OURS
        return self._judge_unknown(parcel, entry, earlier)

    def _judge_unknown(self, parcel: Parcel, entry: RemoteEntry, earlier: Sequence[Attempt]) -> Verdict:
        """Of what the file held before it was changed again its bytes are gone: only size and time speak."""
        older = self._tries([it for it in earlier if not _is_content(it, parcel)], entry.version.size)
        may_be = any(self._covers(it, entry.version.modified_s) for it in older)
        return Verdict.UNCERTAIN if may_be and entry.file_id is None else Verdict.ANOTHERS

    async def is_left_over(self, node: Node, place: tuple[Ino, str], entry: RemoteEntry) -> bool:
        """Tell whether a cut try of a file surely left what stands at a place, and nobody else can have.

        For a place that the file has left: nothing is to go up there, so what is uncertain may stay. It is, where what
        was sent was written over since. Raises RemoteError.
        """
        part, base = entry.version, self._store.nodes.synced_child(*place)
        if not self._may_be_part(place, base, entry):
            return False
        # Of a try in which the process died nobody knows when it ended: what came since may be anybody's.
        known = [
            it
            for it in self._store.attempts(node.ino)
            if it.ended_s or it.checksum in self._sent.get(it.ino, {})
        ]
        tries = self._tries(known, part.size)
        if not self._is_in_time(tries, part.modified_s, node.mtime_ns // NS):
            return False
        try:
            async with self._packer.held(node) as content, self._outgoing.sealed(content) as layer:
                if layer is None or not content.whole:
                    return False
                ours = partial(self._outgoing.chunks, layer)
                is_part = await self._evidence.is_part(entry, layer.size, ours)
                return is_part and not await self._may_be_shortened(base, layer, part.size)
        except LocalDamage:
            return False  # who opens or sends it hears of that

    def _may_be_part(self, place: tuple[Ino, str], base: Node | None, entry: RemoteEntry) -> bool:
        """Tell whether a part of it may become the file. Over one that a Nextcloud has, only where it takes no pieces.

        Else it is what another client made of that file, who may have taken away from its end.
        """
        if entry.kind is not Kind.FILE or entry.version.checksum is not None:
            return False
        features, folder = self._remote.features, self._store.nodes.get(place[0])
        in_pieces = features.nextcloud and features.chunking and (folder is None or may(folder, "C"))
        return base is None or not in_pieces

    def _is_in_time(self, tries: Sequence[_Sent], modified_s: int, told_s: int) -> bool:
        """Tell whether a time of the server's is that of one of these tries, or the one that was told with them."""
        return bool(tries) and (modified_s == told_s or any(self._covers(it, modified_s) for it in tries))

    def _covers(self, sent: _Sent, modified_s: int) -> bool:
        """Tell whether a time of the server's is within that of a try."""
        # Reckoned from now, when its clock was just heard of: ours may have been set since.
        ahead_s = time.time() + self._remote.clock_skew_s - _passed_s()
        return sent.began_s + ahead_s - _EARLY_S <= modified_s <= sent.ended_s + ahead_s + _LATE_S

    async def _may_be_shortened(self, base: Node | None, layer: Layer | None, size: int) -> bool:
        """Tell whether the version before may begin with so many bytes of what is sent."""
        if base is None or base.s_version is None or layer is None:
            return base is not None
        if size >= (base.s_size or 0):
            return False
        return not await self._outgoing.differs(layer, base.ino, base.s_version, size)


def _passed_s() -> float:
    """Return the time in seconds since some moment: it goes on while the machine sleeps, and nobody sets it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _may_leave_a_part(error: RemoteError) -> bool:
    """Tell whether a request that failed so may have been cut; 400 and 408 are said where a body stops coming."""
    return may_have_arrived(error) or (isinstance(error, QuotaExceeded | ServerFault) and not error.unsent)


def _is_content(attempt: Attempt, parcel: Parcel) -> bool:
    return (attempt.size, attempt.checksum) == (parcel.size, parcel.checksum)
