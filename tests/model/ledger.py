"""The ledger of contents: which must still be somewhere, which may be seen, and where conflicts can be.

- A content is *owed* from the moment that its write was acknowledged: here by flush or close, there by the server;
- it is *spent* when a user replaced or removed exactly that content: here by a system call on a node that showed it
  (found at the very moment of the change, not by what a path may have meant), there by a request for a path that held
  it on the server.

Any other way for a content to go is a loss. So an old view never spends anything: a save over a file that the other
client had changed in the meantime spends the old content that was shown and not the new one, and both have to be
somewhere in the end, under the name or as a conflicted copy.

What a death broke off was not acknowledged: the old bytes, the new ones, or some of each may be left.
"""

from __future__ import annotations

import re

import trio

from tests.model.reference import RefFile

__all__ = ["THIS_CLIENT", "Contested", "Ledger", "is_copy"]

THIS_CLIENT = "this client"

_TELLING = 3
"""Shorter contents (cut files) are not unique: they are neither owed nor missed."""
_COPY = re.compile(r" \(conflicted copy [^)]*\)")


class Ledger:
    """Which contents must still be somewhere."""

    def __init__(self) -> None:
        self.written: set[bytes] = {b""}
        self.owed: dict[bytes, str] = {}
        """And who wrote it."""
        self.written_at: dict[bytes, float] = {}
        self._broken_off: list[RefFile] = []
        self._replaced: dict[bytes, bytes] = {}

    def wrote(self, content: bytes, who: str, *, instead_of: bytes | None = None) -> None:
        """A write was acknowledged."""
        self.written.add(content)
        self._replaced[content] = instead_of or b""
        self.written_at[content] = trio.current_time()
        if len(content) >= _TELLING:
            self.owed[content] = who

    def spent(self, content: bytes | None) -> None:
        """A user replaced or removed it, knowingly."""
        self.owed.pop(content or b"", None)

    def begins(self, before: bytes | None, steps: list[bytes]) -> None:
        """A user is about to change a file in steps; whoever dies meanwhile leaves any mixture of them."""
        self._broken_off.append(RefFile(steps[-1], since_flush=[before or b"", *steps[:-1]]))

    def ended(self) -> None:
        """The last change that began was acknowledged: no mixtures."""
        self._broken_off.pop()

    def broke_off(self) -> None:
        """This client died: what it was about to replace may be replaced, though nobody was told."""
        for file in self._broken_off:
            self.spent(file.since_flush[0])

    def under_way(self) -> int:
        """Count the changes that began and were not acknowledged."""
        return len(self._broken_off)

    def failed(self, since: int) -> None:
        """The user was told that changes did not succeed, all but the first so many: what each replaced may be gone."""
        for file in self._broken_off[since:]:
            self.spent(file.since_flush[0])

    def unsure(self, since: float) -> None:
        """The power went: what this client wrote from then on (trio s) may be gone, or mixed with what was before."""
        for content, who in list(self.owed.items()):
            if who == THIS_CLIENT and self.written_at[content] >= since:
                self.spent(content)
                self._broken_off.append(RefFile(content, since_flush=[self._replaced[content], b""]))

    def was_written_over(self, part: bytes) -> bool:
        """Tell whether a content that begins so was written over here, by what does not begin with it."""
        cut = (it for file in self._broken_off for it in file.since_flush)
        replaced = (old for new, old in self._replaced.items() if not new.startswith(old))
        return any(content.startswith(part) for content in (*cut, *replaced))

    def is_known(self, content: bytes) -> bool:
        """Tell whether anybody ever wrote this."""
        return content in self.written or any(file.may_be(content) for file in self._broken_off)


class Contested:
    """Which names both clients had to do with: only there may conflicts be.

    A file carries a name along when it is renamed, so names that renames connect count as one.
    """

    def __init__(self) -> None:
        self._leader: dict[str, str] = {}
        self._others: set[str] = set()

    def renamed(self, source: str, target: str) -> None:
        """Connect the names of a rename by either client."""
        self._leader[self._find(_base(source))] = self._find(_base(target))

    def by_other(self, path: str) -> None:
        """The other client changed something at this path: of its name, and in the folders above."""
        self._others.update(map(_base, filter(None, path.split("/"))))

    def unjustified(self, paths: list[str]) -> list[str]:
        """Return the conflicted copies among these paths that no change by the other client explains."""
        groups = {self._find(name) for name in self._others}
        return [path for path in paths if _COPY.search(_last(path)) and self._find(_base(path)) not in groups]

    def _find(self, name: str) -> str:
        while (leader := self._leader.get(name, name)) != name:
            name = leader
        return name


def is_copy(path: str) -> bool:
    """Tell whether a path has the name of a conflicted copy."""
    return bool(_COPY.search(_last(path)))


def _last(path: str) -> str:
    return path.rpartition("/")[2]


def _base(path: str) -> str:
    """Return a name without what makes it a conflicted copy."""
    return _COPY.sub("", _last(path))
