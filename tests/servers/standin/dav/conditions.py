"""Preconditions: the If-* headers, checked before anything else (protocol.md §5, §6, §7)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from tests.servers.standin.errors import DavError, precondition_failed
from tests.servers.standin.messages import Request, Response, http_date

_IF_ITEM = re.compile(
    r"(?:<(?P<uri>[^>]*)>\s)?\((?P<negated>Not\s)?(?:<(?P<token>[^>]*)>)?\s?(?:\[(?P<etag>[^\]]*)\])?\)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Entity:
    """What preconditions look at. Folders exist, but have neither ETag nor time here (§9 DELETE)."""

    etag: str | None
    """Quoted."""
    mtime: int | None


Lookup = Callable[[str | None], Entity]
"""Finds the entity of a URL path, ``None`` for the request's own; raises 404 when there is none."""


def check(request: Request, lookup: Lookup) -> Response | None:
    """Raise 412, or return a 304, or return ``None`` when the request may go on."""
    if if_match := request.header("if-match"):
        _check_if_match(if_match, lookup)
    not_modified = _check_if_none_match(request, lookup) or _check_if_modified_since(request, lookup)
    if not_modified is not None:
        return not_modified
    _check_if_unmodified_since(request, lookup)
    if condition := request.header("if"):
        _check_if(condition, lookup)
    return None


def _check_if_match(header: str, lookup: Lookup) -> None:
    try:
        entity = lookup(None)
    except DavError as error:
        message = "An If-Match header was specified and the resource did not exist"
        raise precondition_failed(message, "If-Match") from error
    if header != "*" and not _one_of(entity.etag, header):
        raise precondition_failed(
            "An If-Match header was specified, but none of the specified ETags matched.",
            "If-Match",
            entity.etag,
        )


def _check_if_none_match(request: Request, lookup: Lookup) -> Response | None:
    header = request.header("if-none-match")
    if not header:
        return None
    try:
        entity = lookup(None)
    except DavError:
        return None
    if header != "*" and not _one_of(entity.etag, header):
        return None
    if request.method == "GET":
        return Response(304, [("ETag", entity.etag)] if entity.etag else [])
    raise precondition_failed(
        "An If-None-Match header was specified, but the ETag matched (or * was specified).", "If-None-Match"
    )


def _check_if_modified_since(request: Request, lookup: Lookup) -> Response | None:
    if request.header("if-none-match"):
        return None
    since = parse_date(request.header("if-modified-since"))
    if since is None:
        return None
    mtime = lookup(None).mtime
    if mtime is not None and mtime <= since:
        return Response(304, [("Last-Modified", http_date(mtime))])
    return None


def _check_if_unmodified_since(request: Request, lookup: Lookup) -> None:
    since = parse_date(request.header("if-unmodified-since"))
    if since is None:
        return
    mtime = lookup(None).mtime
    if mtime is not None and mtime > since:
        raise precondition_failed(
            "An If-Unmodified-Since header was specified, but the entity has been changed since the specified date.",
            "If-Unmodified-Since",
        )


def _check_if(header: str, lookup: Lookup) -> None:
    uri: str | None = None
    satisfied: dict[str | None, bool] = {}
    for item in _IF_ITEM.finditer(header):
        uri = item["uri"] or uri
        path = urlsplit(uri).path if uri is not None else None
        satisfied[path] = satisfied.get(path, False) or _item_holds(item, path, lookup)
    for path, holds in satisfied.items():
        if not holds:
            shown = (path or "").removeprefix("/remote.php/dav/").removeprefix("/remote.php/webdav/")
            raise precondition_failed(f"Failed to find a valid token/etag combination for {shown}", "If")


def _item_holds(item: re.Match[str], path: str | None, lookup: Lookup) -> bool:
    # Lock tokens never hold: there are no WebDAV locks (protocol.md §9).
    holds = item["token"] is None and (item["etag"] is None or lookup(path).etag == item["etag"])
    return holds is not bool(item["negated"])


def _one_of(etag: str | None, header: str) -> bool:
    """Strict string comparison: unquoted and weak forms do not match (protocol.md §5)."""
    return etag is not None and etag in (part.strip() for part in header.split(","))


def parse_date(value: str) -> int | None:
    """Seconds of an HTTP date; ``None`` when it is none."""
    try:
        return int(parsedate_to_datetime(value).timestamp())
    except (TypeError, ValueError):
        return None
