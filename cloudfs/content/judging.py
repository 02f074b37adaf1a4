"""What to believe when the bytes that came do not fit the checksum that the server names.

Either the way has changed the bytes (then a second fetch differs from the first), or the checksum is wrong. The
server keeps what some client told it, and checks nothing (protocol.md §6): a client with a bug, or a repaired disk,
leaves a file whose checksum never fits. Who believes the checksum then denies people their own file for ever. So:

    fits                              served
    does not fit, the first time      dropped, fetched once more
    what came before comes again      served, and told of: two fetches do not get the same wrong bytes on their way
    another content each time         EIO, and told of, until the server has another version; tried again after a while
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterator
from enum import Enum, auto

import msgspec
import trio

from cloudfs.content.source import Locate, Source, named
from cloudfs.errors import ChecksumMismatch
from cloudfs.types import ContentVersion, Ino

__all__ = ["Doubt", "Judge", "Verdict"]

_log = logging.getLogger(__name__)

_REFUSED_S = 600.0
"""What was refused is fetched again, if somebody still wants it, after so long: its cause may have gone."""
_MOST_CASES = 1000
_MOST_SEEN = 8


class Verdict(Enum):
    """What becomes of bytes that were fetched."""

    SERVE = auto()
    FETCH_AGAIN = auto()
    REFUSE = auto()


class Doubt(msgspec.Struct, frozen=True):
    """A version whose bytes do not fit its checksum."""

    ino: Ino
    version: ContentVersion
    said: str
    """The server's checksum."""
    came: str
    """That of the bytes that came last."""
    served: bool
    """They came twice, and are given to programs; else reading fails with EIO."""


class _Case:
    def __init__(self, source: Source) -> None:
        self.source = source
        self.seen: list[str] = []
        """What came so far, by checksum, the latest last."""
        self.served = False
        self.refused_until: float | None = None
        """trio time."""


class Judge:
    """Remembers, in memory, every version that did not fit. NO CHECKPOINT in here."""

    def __init__(self, locate: Locate) -> None:
        self._locate = locate
        self._cases: OrderedDict[tuple[Ino, ContentVersion], _Case] = OrderedDict()

    def judge(self, source: Source, came: str) -> Verdict:
        """Say what becomes of a whole content with the checksum `came`, just fetched."""
        key = source.ino, source.version
        said = source.remote.checksum or came
        if came.lower() == said.lower():
            self._cases.pop(key, None)
            return Verdict.SERVE
        case = self._cases.setdefault(key, _Case(source))
        if len(self._cases) > _MOST_CASES:
            self._cases.popitem(last=False)
        verdict = self._verdict(case, came)
        self._tell(case, said, came, verdict)
        case.seen = [*(other for other in case.seen if other != came), came][-_MOST_SEEN:]
        case.served = verdict is Verdict.SERVE
        case.refused_until = trio.current_time() + _REFUSED_S if verdict is Verdict.REFUSE else None
        return verdict

    @staticmethod
    def _verdict(case: _Case, came: str) -> Verdict:
        if came in case.seen:
            return Verdict.SERVE
        return Verdict.REFUSE if case.seen else Verdict.FETCH_AGAIN

    def _tell(self, case: _Case, said: str, came: str, verdict: Verdict) -> None:
        name = self.name_of(case.source)
        match verdict:
            case Verdict.FETCH_AGAIN:
                _log.warning(
                    "%s: what came has %s, but the server names %s; it is fetched again", name, came, said
                )
            case Verdict.SERVE if not case.served:
                message = "%s: the same came twice, so the server's checksum %s is wrong; what came has %s"
                _log.warning(message, name, said, came)
            case Verdict.REFUSE:
                message = "%s: something else comes each time, now %s, never the %s that the server names: not readable"
                _log.error(message, name, came, said)

    def require_sound(self, source: Source) -> None:
        """Raise ChecksumMismatch (EIO) for a version that is refused."""
        case = self._cases.get((source.ino, source.version))
        if case is None or case.refused_until is None or trio.current_time() >= case.refused_until:
            return
        raise self.refusal(source)

    def refusal(self, source: Source) -> ChecksumMismatch:
        """Return the error that readers of a refused version get."""
        return ChecksumMismatch(
            f"{self.name_of(source)}: what comes does not fit the server's checksum, and is another thing each time"
        )

    def doubts(self) -> Iterator[Doubt]:
        """Yield what to tell people of, also versions that the server has replaced since."""
        for (ino, version), case in self._cases.items():
            if case.served or case.refused_until is not None:
                yield Doubt(ino, version, case.source.remote.checksum or "", case.seen[-1], case.served)

    def name_of(self, source: Source) -> str:
        """Return what people are told of a version."""
        return named(source, self._locate)
