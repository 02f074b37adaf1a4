"""What a person may type as the address of a server, and what it could mean. Pure."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit, urlunsplit

import msgspec

from cloudfs.errors import ExitCode, UserError
from cloudfs.paths import encode

__all__ = ["Address", "parse_address"]

_SCHEMES = {
    "http": "http",
    "https": "https",
    "dav": "http",
    "davs": "https",
    "webdav": "http",
    "webdavs": "https",
}

_FRONT_PART = re.compile(r"/index\.php(?:/.*)?$")
"""Never a part of a folder's address."""
_DAV_PART = re.compile(r"/(?:remote\.php|public\.php)(?:/.*)?$")
_WEB_PART = re.compile(r"/(?:apps|login|settings|status\.php|ocs|f|s)(?:/.*)?$")
"""Pages of Nextcloud whose address people copy from their browser."""


class Address(msgspec.Struct, frozen=True):
    """A typed address, cleaned; every URL ends with a slash."""

    url: str
    base_candidates: tuple[str, ...]
    """Where a Nextcloud may be, the likeliest first."""
    dav_path: str | None = None
    """What follows remote.php/, decoded, where the address names it: "dav/files/alice/Photos"."""

    @property
    def host(self) -> str:
        """For messages: scheme, host and port, never more."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"


def parse_address(text: str) -> Address:
    """Understand an address: with or without scheme (https is meant), dav:// or davs:// too.

    Query and fragment are dropped. Raises UserError where it is no address, or carries a password.
    """
    typed = text.strip()
    try:
        typed.encode()
        parts = urlsplit(typed if "://" in typed else f"https://{typed}")
        scheme, port = _SCHEMES.get(parts.scheme.lower()), parts.port
        (parts.hostname or "").encode("idna")
    except ValueError as error:  # UnicodeError is one
        raise _no_address() from error
    if scheme is None or not parts.hostname or re.search(r"[\s\\]", parts.netloc):
        raise _no_address()
    if parts.username or parts.password:
        raise _refused(
            "An address must not contain a user name or a password.", "Give the user name with --user."
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    netloc = host if port is None else f"{host}:{port}"
    path = _FRONT_PART.sub("", re.sub(r"/{2,}", "/", unquote(parts.path)).rstrip("/"))
    if any(segment in {".", ".."} for segment in path.split("/")):
        raise _refused("This is not the address of a folder.", "Leave out the dots.")

    def url(path: str) -> str:
        return urlunsplit((scheme or "", netloc, encode(path) + "/", "", ""))

    if match := _DAV_PART.search(path):
        dav_path = match[0].split("/", 2)[2] if match[0].count("/") > 1 else ""
        return Address(url(path), (url(path[: match.start()]),), dav_path)
    bases = [url(path)]
    if match := _WEB_PART.search(path):
        bases.append(url(path[: match.start()]))
    return Address(url(path), tuple(bases))


def _no_address() -> UserError:
    return _refused("This is not the address of a server.", "It looks like https://cloud.example.org.")


def _refused(message: str, hint: str) -> UserError:
    return UserError(message, hint=hint, code=ExitCode.USAGE)
