"""What has to hold in the end, of one mount of an account or of several."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from cloudfs.paths import is_local_only
from tests.model.fake_remote import FakeRemote
from tests.model.ledger import Ledger, is_copy
from tests.model.world import expect_same

__all__ = ["Tree", "expect_nothing_lost", "shared"]

Tree = Mapping[str, bytes | None]
"""What there is by path; None: a folder."""

_WINDOW_S = 10.0
"""A listing, its answer and a DELETE, each as slow as they come."""
_BULK_WINDOW_S = 10.0
"""The two seconds of `newfolders`, and as many ways to the server, to a slow one, and back."""


def shared(tree: Tree) -> dict[str, bytes | None]:
    """Return what of it is not of one machine alone."""
    return {path: found for path, found in tree.items() if not any(map(is_local_only, path.split("/")))}


def expect_nothing_lost(mounts: Sequence[Tree], remotes: Sequence[FakeRemote], ledger: Ledger) -> None:
    """Mounts and server are the same, nobody has what nobody wrote, and what is owed is somewhere."""
    for mine in mounts:
        expect_same(shared(mine), remotes[0].other.tree(), "the mount, compared with the server")
    found = {content for mine in mounts for content in mine.values() if content is not None}
    parts = set[bytes]().union(*(remote.parts for remote in remotes))
    unknown = {content for content in found - parts if not ledger.is_known(content)}
    assert not unknown, f"nobody wrote {unknown}"
    _expect_no_part(mounts, remotes, ledger)
    lost = {
        content: who
        for content, who in ledger.owed.items()
        if content not in found and not any(_was_swept(content, ledger, remote) for remote in remotes)
    }
    assert not lost, f"lost: {lost}; there is {mounts}"


def _expect_no_part(mounts: Sequence[Tree], remotes: Sequence[FakeRemote], ledger: Ledger) -> None:
    """A torn upload never is the file, where it can be told: it was gone over, taken away or set aside."""
    telling = set[bytes]().union(*(remote.telling for remote in remotes))
    torn = [
        path
        for mine in mounts
        for path, content in mine.items()
        if content in telling
        and not ledger.is_known(content)
        and not is_copy(path)
        # Its bytes are nowhere any more: where its file left its name, it may be another client's.
        and not ledger.was_written_over(content)
    ]
    assert not torn, f"a part is the file: {torn}; there is {mounts}"


def _was_swept(content: bytes, ledger: Ledger, remote: FakeRemote) -> bool:
    """Tell whether it came between a client's look at it and its request, where no condition could keep that apart.

    Into a folder that it deleted; or within the second of the version before, whose ETag it then has; or under a
    name that it sent in bulk.
    """
    swept, written_at = remote.swept.get(content), ledger.written_at[content]
    overrun_at, seen_at = remote.overrun.get(content, (math.inf, math.inf))
    if seen_at <= written_at and overrun_at - seen_at < _BULK_WINDOW_S:
        return True
    looked_at = remote.overtaken.get(content)
    if looked_at is not None and written_at >= looked_at:
        return True
    return swept is not None and swept - written_at < _WINDOW_S
