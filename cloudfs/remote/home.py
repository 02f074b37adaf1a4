"""Where the mounted folder lies in the user's home: interfaces beside WebDAV name files by that."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from cloudfs.errors import ProtocolViolation
from cloudfs.paths import encode
from cloudfs.remote.connect import Site

__all__ = ["home_path"]


def home_path(site: Site) -> str:
    """Return the mounted folder's own path below the user's home: "" or "/sub/folder"."""
    home = f"{site.base_url}remote.php/dav/files/{encode(site.user_id or '')}"
    path, own = urlsplit(home).path, urlsplit(site.root_url).path
    if not own.startswith(path + "/"):
        raise ProtocolViolation("the mounted folder lies outside the user's home", subject=site.root_url)
    return unquote(own.removeprefix(path)).rstrip("/")
