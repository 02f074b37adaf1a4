"""From an address and a password to an account: what the server is, where its files are, what it can do.

All probes are reads. What only a write could tell is taken as "no" (`sets_mtime`) or known from measurements of the
server that names itself (`conditional_put`).

OPTIONS is not asked: a Nextcloud says more by its capabilities, and of what matters on a plain server (conditions,
ETags of folders, times) `Allow` and `DAV` say nothing, while the first PROPFIND shows that it is WebDAV at all.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec

from cloudfs.errors import (
    Forbidden,
    NotAuthenticated,
    ProtocolViolation,
    RemoteError,
    Unavailable,
    Unsupported,
)
from cloudfs.paths import NAME_MAX_BYTES, ROOT_PATH, NameRules, encode
from cloudfs.remote import dialect, ocs, push, values
from cloudfs.remote.address import Address, parse_address
from cloudfs.remote.entries import Listing
from cloudfs.remote.exchange import Request, WholeReply
from cloudfs.remote.failures import error_of_reply
from cloudfs.remote.hrefs import Place, origin_of
from cloudfs.remote.multistatus import read_members
from cloudfs.remote.protocol import Features
from cloudfs.remote.session import Session
from cloudfs.remote.tls import make_context
from cloudfs.remote.transport import Limits, Transport
from cloudfs.types import Kind

_APP_PASSWORD = re.compile(r"[A-Za-z0-9]{64,}|(?:[A-Za-z0-9]{5}-){3,}[A-Za-z0-9]{5}")
"""As a Nextcloud makes them for programs, and for people in their settings; ownCloud's are a part shorter."""
_NONE_TO_REVOKE = ("no app password in use", "could not remove apptoken")
"""SOURCE: AppPasswordController.php of 29.0.1; they are not translated."""
_PATIENT = Limits(read_s=30.0)
"""A login password costs a Nextcloud half a second of hashing each time, and seconds when it is busy."""

__all__ = [
    "Capabilities",
    "Site",
    "all_kept",
    "discover",
    "exchange_password",
    "features_of",
    "find_nextcloud",
    "inspect",
    "revoke",
]


class Site(msgspec.Struct, frozen=True):
    """Everything about an account but its password."""

    root_url: str
    """The folder that is mounted as "/"; ends with a slash."""
    user: str
    """The name for Basic authentication, exactly as the app password was made for; "" for none."""
    features: Features
    base_url: str | None = None
    """Where the Nextcloud is installed, for its other interfaces; None on plain servers."""
    user_id: str | None = None
    """Nextcloud's own name for the user, which its paths contain; may differ from `user` (protocol.md §1)."""


class _User(msgspec.Struct, frozen=True):
    id: str


class Capabilities(msgspec.Struct, frozen=True):
    """What a Nextcloud says it can do."""

    capabilities: dict[str, Any]


class _AppPassword(msgspec.Struct, frozen=True):
    apppassword: str


async def discover(
    address: str, user: str, password: str, *, tls: ssl.SSLContext | None = None, limits: Limits = _PATIENT
) -> Site:
    """Find out what is at an address.

    It may be a Nextcloud's (also a page of it, or a folder in it by its WebDAV address), or any WebDAV folder's.
    Nothing on the server is changed; the password is sent only to the server that answers there.

    Raises UserError (no address), Unreachable, TlsRejected, NotAuthenticated, NotFound (no such folder),
    ProtocolViolation (no WebDAV), Unavailable (maintenance).
    """
    context = tls or make_context()
    typed = parse_address(address)
    found = await _find_nextcloud(typed, context, limits)
    base_url, status = found or (None, None)
    auth = httpx.BasicAuth(user, password) if user else None
    transport = Transport(base_url or typed.url, auth, tls=context, limits=limits)
    try:
        if base_url is None or status is None:
            return await _plain_site(transport, typed, user)
        return await _nextcloud_site(transport, typed, base_url, status, user)
    finally:
        await transport.aclose()


async def find_nextcloud(
    address: str, *, tls: ssl.SSLContext | None = None, limits: Limits = _PATIENT
) -> str | None:
    """Return where the Nextcloud at an address is installed, None where there is none; without credentials.

    Raises UserError (no address), Unreachable, TlsRejected, ProtocolViolation (not set up yet), Unavailable.
    """
    found = await _find_nextcloud(parse_address(address), tls or make_context(), limits)
    return None if found is None else found[0]


async def inspect(transport: Transport, site: Site) -> Features:
    """Ask a known account's server again what it is and can do, and whether the root is there.

    Raises as `discover` does.
    """
    if site.base_url is None:
        return await _plain_features(transport, site.root_url)
    status = ocs.read_status(await transport.fetch(_status_request(site.base_url)))
    if status is None:
        raise ProtocolViolation("the Nextcloud does not tell its status any more", subject=site.base_url)
    return await _nextcloud_features(transport, site.base_url, site.root_url, status)


async def exchange_password(
    site: Site, password: str, device: str, *, tls: ssl.SSLContext | None = None, limits: Limits = _PATIENT
) -> str:
    """Return an app password made with a login password; `device` is its name in the user's list of devices.

    A password that already is an app password is returned as it is (the server answers 403, protocol.md §11). Raises
    Forbidden where the server makes none for another reason, and it does not look like one.
    """
    if site.base_url is None:
        return password
    auth = httpx.BasicAuth(site.user, password)
    transport = Transport(site.base_url, auth, tls=tls or make_context(), limits=limits, user_agent=device)
    try:
        made = (await ocs.call(transport, site.base_url, "core/getapppassword", _AppPassword)).apppassword
    except Forbidden as error:
        # A 403 may also come from something before the server, or ask for a confirmation (it has that annotation).
        # SOURCE: AppPasswordController.php of 29.0.1, whose words are not translated.
        if "apppassword" in error.message or _APP_PASSWORD.fullmatch(password):
            return password
        raise
    finally:
        await transport.aclose()
    if not values.is_credential(made):
        raise ProtocolViolation("the server's app password is none", subject=site.base_url)
    return made


async def revoke(
    site: Site, app_password: str, *, tls: ssl.SSLContext | None = None, limits: Limits = _PATIENT
) -> bool:
    """Delete an app password on the server; False where it was none, or is no longer valid. Raises RemoteError."""
    if site.base_url is None:
        return False
    auth = httpx.BasicAuth(site.user, app_password)
    transport = Transport(site.base_url, auth, tls=tls or make_context(), limits=limits)
    try:
        await ocs.call(transport, site.base_url, "core/apppassword", object, method="DELETE")
    except NotAuthenticated:
        return False
    except Forbidden as error:
        if any(words in error.message for words in _NONE_TO_REVOKE):
            return False
        raise  # something before the server, maybe: it is as valid as it was
    finally:
        await transport.aclose()
    return True


async def all_kept(body: bytes) -> bool:
    """Tell from the reply to a PROPPATCH whether every property was set."""
    members = await read_members(body)
    return bool(members) and all(200 <= member.status < 300 and not member.failed for member in members)


# --- Nextcloud


async def _find_nextcloud(
    address: Address, tls: ssl.SSLContext, limits: Limits
) -> tuple[str, ocs.Status] | None:
    """Ask for status.php, without credentials: they are not sent before we know whom we talk to."""
    for candidate in address.base_candidates:
        base_url, reply = await _anonymous_status(candidate, tls, limits)
        status = ocs.read_status(reply)
        if status is None:
            continue
        if not status.installed:
            raise ProtocolViolation("the Nextcloud there is not set up yet", subject=base_url)
        if status.maintenance or status.needsDbUpgrade:
            raise Unavailable("the server is in maintenance", subject=base_url)
        return base_url, status
    return None


async def _anonymous_status(base_url: str, tls: ssl.SSLContext, limits: Limits) -> tuple[str, WholeReply]:
    """Fetch status.php, following one redirect from http to https of the same host."""
    transport = Transport(base_url, None, tls=tls, limits=limits)
    try:
        async with transport.open(_status_request(base_url, follow=False)) as reply:
            location = reply.headers.get("Location", "")
            if not 300 <= reply.status < 400 or not _is_upgrade(base_url, location):
                return base_url, WholeReply(reply.status, reply.headers, await reply.read_all(64 * 1024))
    finally:
        await transport.aclose()
    return await _anonymous_status(location.removesuffix("status.php"), tls, limits)


def _is_upgrade(base_url: str, location: str) -> bool:
    try:
        before, after = origin_of(base_url), origin_of(location)
    except ValueError:
        return False
    secured = before[0] == "http" and after[0] == "https" and before[1] == after[1]
    # It is kept, and shown: no login of its own, and nothing that steers a terminal.
    plain = location.isascii() and location.isprintable() and "@" not in urlsplit(location).netloc
    return secured and plain and location.endswith("/status.php")


def _status_request(base_url: str, *, follow: bool = True) -> Request:
    return Request("GET", f"{base_url}status.php", base_url, follow=follow)


async def _nextcloud_site(
    transport: Transport, address: Address, base_url: str, status: ocs.Status, user: str
) -> Site:
    user_id = (await ocs.call(transport, base_url, "cloud/user", _User)).id
    if not _is_user_id(user_id):
        raise ProtocolViolation("the server gives the user a name that is none", subject=base_url)
    folder = _folder_in_home(address.dav_path or "", user, user_id)
    root_url = f"{base_url}remote.php/dav/files/{encode(user_id)}/{encode(folder)}"
    root_url = root_url if root_url.endswith("/") else root_url + "/"
    features = await _nextcloud_features(transport, base_url, root_url, status)
    return Site(root_url, user, features, base_url, user_id)


def _is_user_id(name: str) -> bool:
    """Tell whether it can be one: it becomes a part of paths, and of headers."""
    return (
        0 < len(name.encode()) <= NAME_MAX_BYTES
        and name.isprintable()
        and "/" not in name
        and name.strip(".") != ""
    )


def _folder_in_home(dav_path: str, user: str, user_id: str) -> str:
    """Return the folder below the user's home that an address names, "" for the home itself."""
    if match := re.fullmatch(r"webdav(?:/(.*))?", dav_path):
        return match[1] or ""
    match = re.fullmatch(r"dav(?:/files(?:/([^/]+)(?:/(.*))?)?)?", dav_path)
    if match is None and dav_path:
        raise ProtocolViolation("this part of the Nextcloud is no folder of files", subject=dav_path)
    owner = match[1] if match else None
    # Somebody else's home answers 207 like an empty one (protocol.md §1), so the name has to be checked here.
    if owner and owner.casefold() not in {user.casefold(), user_id.casefold()}:
        raise Forbidden(f"this is the home of {owner!r}, and the login is {user!r}", subject=dav_path)
    return (match[2] if match else None) or ""


async def _nextcloud_features(
    transport: Transport, base_url: str, root_url: str, status: ocs.Status
) -> Features:
    data = await ocs.call(transport, base_url, "cloud/capabilities", Capabilities)
    features = features_of(data.capabilities, status.name, base_url)
    await _check_root(transport, root_url, features)
    return features


def features_of(capabilities: Mapping[str, Any], name: str, base_url: str) -> Features:
    """Read what a Nextcloud says it can do. Pure."""
    dav = _section(capabilities, "dav")
    return Features(
        name=name,
        nextcloud=True,
        sets_mtime=True,
        checksums=True,
        conditional_put=True,
        chunking=bool(dav.get("chunking")),
        piece_bytes=_largest_piece(_section(capabilities, "files")),
        bulk=bool(dav.get("bulkupload")),
        depth_infinity=_lists_trees(capabilities),
        deep_etags=True,
        push_url=_push_url(_section(capabilities, "notify_push"), base_url),
        push_token_url=_push_token_url(_section(capabilities, "notify_push"), base_url),
        name_rules=dialect.nextcloud_names(_section(capabilities, "files")),
    )


def _lists_trees(capabilities: Mapping[str, Any]) -> bool:
    """Tell Nextcloud, always on, from ownCloud 10, off by default and told by a capability (protocol.md §15.2)."""
    propfind = _section(capabilities, "dav").get("propfind")
    return bool(propfind.get("depth_infinity")) if isinstance(propfind, dict) else True


def _largest_piece(files: Mapping[str, Any]) -> int:
    """Return how large pieces of an upload may be (`files.chunked_upload`, from Nextcloud 31), 0 where it is open."""
    told = _section(files, "chunked_upload").get("max_size")
    return told if isinstance(told, int) and not isinstance(told, bool) and told > 0 else 0


def _push_url(announced: Mapping[str, Any], base_url: str) -> str:
    """Return where the server tells of changed files, "" where it does not."""
    endpoints, kinds = announced.get("endpoints"), announced.get("type")
    if not isinstance(endpoints, dict) or not isinstance(kinds, list) or "files" not in kinds:
        return ""
    try:
        return push.based_on(str(endpoints.get("websocket")), base_url)
    except ValueError:
        return ""


def _push_token_url(announced: Mapping[str, Any], base_url: str) -> str:
    """Return where a token for one login to the push server is had, on the origin that was typed (protocol.md §12)."""
    endpoints = announced.get("endpoints")
    told = endpoints.get("pre_auth") if isinstance(endpoints, dict) else None
    try:
        return push.moved_to(str(told), base_url, {"http", "https"}) if told else ""
    except ValueError:
        return ""


def _section(capabilities: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = capabilities.get(name)
    return section if isinstance(section, dict) else {}


# --- any WebDAV server


_ENFORCES_CONDITIONS = re.compile(r"Apache\b")
"""Servers measured to check If-Match and If-None-Match on PUT; SabreDAV, which does too, names itself apart.

No harmless probe tells. PUT with a condition that must fail, to a folder (404 rclone, 500 wsgidav) or below a missing
one (409 both), is refused for other reasons first, and to a free name it makes a file: rclone ignores all conditions,
wsgidav ignores If-Match where nothing exists. So every other server counts as not checking, which costs one PROPFIND
before each change. SOURCE: measured on Apache 2.4, rclone 1.75.2, wsgidav 4.4.0.
"""


async def _plain_site(transport: Transport, address: Address, user: str) -> Site:
    return Site(address.url, user, await _plain_features(transport, address.url))


async def _plain_features(transport: Transport, root_url: str) -> Features:
    headers = await _check_root(transport, root_url, Features(name="WebDAV"))
    server = headers.get("Server", "")
    sabre = headers.get("X-Sabre-Version", "")
    product = f"SabreDAV/{sabre}" if sabre else server
    return Features(
        name=f"WebDAV ({values.printable(product, 60)})" if product else "WebDAV",
        conditional_put=bool(sabre or _ENFORCES_CONDITIONS.match(server)),
        name_rules=NameRules(),
    )


async def _check_root(transport: Transport, root_url: str, features: Features) -> Mapping[str, str]:
    """Prove that the root is a WebDAV folder; return the headers of the reply."""
    session = Session(transport, Place(root_url), features)
    question = session.propfind(ROOT_PATH, "0", dialect.stat_properties(features))
    request = msgspec.structs.replace(question, subject=root_url)
    async with transport.open(request) as reply:
        if reply.status != 207:
            raise _no_folder(error_of_reply(await reply.failure()), root_url)
        body = await reply.read_all(transport.limits.reply_bytes)
    for entry in Listing(session.place, ROOT_PATH, 0).admit(await read_members(body)):
        if dialect.check_entry(entry, features).kind is Kind.FOLDER:
            return reply.headers
        raise ProtocolViolation("it is a file, not a folder", subject=root_url)
    raise ProtocolViolation("the server lists nothing there", subject=root_url)


def _no_folder(error: RemoteError, root_url: str) -> RemoteError:
    if isinstance(error, (Unsupported, ProtocolViolation)):
        return ProtocolViolation(error.message, subject=root_url, status=error.status)
    return error
