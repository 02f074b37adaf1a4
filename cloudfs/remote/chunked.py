"""A file sent in pieces, which the server puts together by itself: Nextcloud's uploads collection (protocol.md §7).

    MKCOL  uploads/USER/ID            Destination
    PUT    uploads/USER/ID/00001 …    Destination, OC-Total-Length
    MOVE   uploads/USER/ID/.file      Destination, OC-Total-Length, If or Overwrite: F

Two reasons. What was sent survives a broken connection, a crash and a restart: the same ID goes on where the last try
stopped. And the file changes in one step of the server's: a plain PUT over an existing file is written in place, and a
connection that breaks leaves it cut (§6).

The requests are those of version 2, which servers without it take as version 1. The ID is made of everything that
the bytes and their place depend on, so pieces of two contents cannot meet. Those of two tries can: version 2 puts
together all that it has, without a look at OC-Total-Length. So a try that goes on from another looks at that first.
A file that was renamed since goes on from the pieces for its old place, where these are kept by themselves.

The requests are in `pieces`; what only grew at its end goes up as its tail (`tails`).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from cloudfs.errors import NotFound
from cloudfs.paths import ROOT_PATH
from cloudfs.remote.connect import Site
from cloudfs.remote.exchange import Request, WholeReply
from cloudfs.remote.pieces import SLOW_S, SMALLEST_PIECE_BYTES, Parcel, Pieces, url_of
from cloudfs.remote.session import Session
from cloudfs.remote.tails import Tail

__all__ = ["SMALLEST_PIECE_BYTES", "Parcel", "drop", "fits_whole", "is_begun", "leave", "send"]


async def send(
    session: Session, site: Site, parcel: Parcel, goes_whole_after: Callable[[int], bool] | None = None
) -> WholeReply | None:
    """Send what the server does not have yet, then have it put together; return the reply to that.

    None where, asked after a piece, `goes_whole_after` so many bytes says that all of it is rather sent in one request.
    It is asked only of what nothing was there before, and where the pieces are noted: then they are not forgotten, and
    the next call goes on with them unless `leave` comes before.

    Raises Changed or AlreadyExists (the condition failed; the pieces stay), TooLarge, QuotaExceeded, ParentMissing and
    what requests raise; Unsupported where the server makes no piece of a file that it has, then nothing was changed.
    After any error the same call goes on. After Unreachable the file may be there: look first.
    """
    noted = session.pieces_noted
    upload = (Tail if parcel.base_bytes else Pieces)(session, site, parcel, goes_whole_after)
    if noted is not None:
        await upload.go_on_in(noted.begun(upload.content))
        noted.began(upload.folder, parcel.name)
    if noted is None or not noted.begun(upload.folder):
        upload.goes_whole_after = None
    try:
        if not await upload.send_pieces():
            return None
        reply = await upload.put_together()
        if noted is not None:
            noted.ended(upload.folder)
        return reply
    finally:
        if noted is not None:
            noted.left(upload.folder)


def is_begun(session: Session, site: Site, parcel: Parcel) -> bool:
    """Tell whether pieces of just these bytes may be on the server, from an earlier try."""
    if session.pieces_noted is None or parcel.size <= SMALLEST_PIECE_BYTES:
        return False
    return bool(session.pieces_noted.begun(Pieces(session, site, parcel).content))


def leave(session: Session, site: Site, parcel: Parcel) -> None:
    """All of it has gone up in one request after all: its pieces may be removed."""
    if session.pieces_noted is not None:
        for folder in session.pieces_noted.begun(Pieces(session, site, parcel).folder):
            session.pieces_noted.unwanted(folder)


async def drop(session: Session, site: Site, folder: str) -> None:
    """Have the pieces of an upload removed that nobody goes on with; nothing where they are gone."""
    with suppress(NotFound):
        await session.fetch(Request("DELETE", url_of(site, folder), ROOT_PATH), 204)


def fits_whole(session: Session, size: int) -> bool:
    """Tell whether a new file is better sent in one request: not where a limit would have that take long.

    Nor where the server wants smaller ones: whoever set that had a proxy's limit in mind, or its patience.
    """
    transport = session.transport
    most = transport.sent_within(SLOW_S, transport.limits.whole_bytes)
    most = max(most, min(SMALLEST_PIECE_BYTES, transport.limits.whole_bytes))
    return size <= min(most, session.features.piece_bytes or most)
