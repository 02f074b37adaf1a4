"""Changes that happen only while the target is what the caller thinks it is.

Two ways, and which one is needed depends on the server:

- The server checks: If-Match or If-None-Match: * goes along, and 412 means that nothing was done. Nextcloud's own
  gap between its check and its lock is milliseconds wide: of sixty times four clients that created one name in the
  same instant, five times a second one was answered 204 (measured on 29.0.1).
- We check: a PROPFIND with depth 0 right before. Another client's change in the milliseconds between is lost. This
  is all there is where a server ignores conditions on PUT (rclone serve, protocol.md §15.2), and where no
  condition can match: an ETag that is weak (Apache, for the first seconds after a change), missing, or compared
  by the server in a form that it does not use in listings. The latter show as 412 for an object that, looked at,
  still is the expected version; only then is the change sent again without the header.
"""

from __future__ import annotations

import msgspec

from cloudfs.errors import AlreadyExists, Changed, NotFound, ProtocolViolation, RemoteError
from cloudfs.remote import etags, listings
from cloudfs.remote.exchange import Request, WholeReply
from cloudfs.remote.failures import Failure
from cloudfs.remote.multistatus import read_members
from cloudfs.remote.protocol import Condition, Features
from cloudfs.remote.session import Session
from cloudfs.types import RemoteEntry, RemotePath, RemoteVersion

__all__ = ["change", "compare", "conditionally", "look", "matches", "refuse_page"]


def matches(expect: RemoteVersion, found: RemoteVersion, features: Features) -> bool:
    """Tell whether `found` surely is the version `expect`.

    A server that keeps no checksums cannot contradict one that we remember ourselves.
    """
    if not features.checksums:
        expect = msgspec.structs.replace(expect, checksum=None)
    return expect.same_content(found)


async def change(session: Session, request: Request, *statuses: int) -> WholeReply:
    """Send a change once. A 207 is a change that failed in part: the first failure is raised."""
    reply = await session.fetch(request, *statuses, 207)
    if reply.status != 207 or 207 in statuses:
        return reply
    for member in await read_members(reply.body):
        if member.status >= 400:
            raise await session.error_of(
                Failure(request.method, request.subject, member.status, reply.headers, b"")
            )
    raise ProtocolViolation("the server reports a failure without saying which", subject=request.subject)


async def conditionally(
    session: Session, request: Request, condition: Condition, *statuses: int, trusted: bool
) -> WholeReply:
    """Send a change of `request.subject` under a condition.

    `trusted`: the server is known to check conditions on this method. Raises Changed or AlreadyExists.
    """
    path = RemotePath(request.subject)
    header = _header(condition)
    if not trusted or not header:
        await compare(session, path, condition)
    guarded = msgspec.structs.replace(request, headers=request.headers | header)
    try:
        return await change(session, guarded, *statuses)
    except Changed as error:
        if condition.absent:
            raise _exists(path) from error
        if session.features.nextcloud:
            raise
        await compare(session, path, condition)
    return await change(session, request, *statuses)


def _header(condition: Condition) -> dict[str, str]:
    if (condition.version is None) != condition.absent:
        raise ValueError("a condition names either a version or absence")
    if condition.version is None:
        return {"If-None-Match": "*"}
    etag = condition.version.etag
    return {"If-Match": etags.if_match(etag)} if etags.can_match(etag) else {}


async def compare(session: Session, path: RemotePath, condition: Condition) -> None:
    """Look at the target and raise Changed or AlreadyExists where it is not what the condition says."""
    entry = await look(session, path)
    if condition.version is None:
        if entry is not None:
            raise _exists(path)
    elif entry is None or not matches(condition.version, entry.version, session.features):
        raise Changed("it was changed on the server", subject=path)


async def look(session: Session, path: RemotePath) -> RemoteEntry | None:
    """Return what has a name on the server now, None for nothing."""
    try:
        return await listings.stat(session, path)
    except NotFound:
        return None


def _exists(path: RemotePath) -> RemoteError:
    return AlreadyExists("it already exists on the server", subject=path)


def refuse_page(reply: WholeReply, method: str, path: RemotePath) -> None:
    """Refuse 200 with a web page: a captive portal's way to answer anything. wsgidav sends pages with 201 only."""
    if reply.status == 200 and reply.headers.get("Content-Type", "").lower().startswith("text/html"):
        raise ProtocolViolation(
            f"a web page came instead of a WebDAV answer to {method}", subject=path, status=200
        )
