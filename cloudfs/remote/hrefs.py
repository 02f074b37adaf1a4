"""Where an account lies on its server: paths to URLs, and hrefs back to paths. Pure."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import unquote, urlsplit

from cloudfs.paths import ROOT_PATH, UnrepresentableName, decode_segment, encode, join
from cloudfs.remote.values import remembered
from cloudfs.types import RemotePath

__all__ = ["Place", "origin_of"]

_DEFAULT_PORTS = {"http": 80, "https": 443}
_LONGEST_HREF = 64 * 1024
"""Servers' own paths end at 4,000 bytes, at most 12,000 encoded. To take one apart costs 1 µs for each segment."""


def origin_of(url: str) -> tuple[str, str, int]:
    """Return (scheme, host, port) of a URL, lower-case, the default port filled in.

    ValueError where it is no http(s) URL with a host.
    """
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    if scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise ValueError("not an http or https address")
    return scheme, parts.hostname.lower(), parts.port or _DEFAULT_PORTS[scheme]


class Place:
    """The account's root on the wire."""

    def __init__(self, root_url: str) -> None:
        self.url = root_url if root_url.endswith("/") else root_url + "/"
        self.origin = origin_of(self.url)
        self._segments = _decoded(urlsplit(self.url).path)
        self.spelled: Callable[[RemotePath], RemotePath] = lambda path: path
        """Returns a path as the server spells it: one that compares bytes may know it in another form than NFC only."""

    def __repr__(self) -> str:
        return f"Place({self.url!r})"

    def url_of(self, path: RemotePath, *, folder: bool = False) -> str:
        """Return the absolute, percent-encoded URL of a path; `folder` ends it with a slash."""
        url = self.url + encode(self.spelled(path)[1:])
        return url + "/" if folder and not url.endswith("/") else url

    def path_of(self, href: str, folder: RemotePath) -> RemotePath:
        """Return the path that an href in a listing of `folder` stands for.

        Hrefs are absolute paths or URLs (RFC 4918 §8.3); relative ones are taken from `folder`. A URL must name our
        host; scheme and port are ignored, because servers behind a proxy get both wrong (protocol.md §1) and
        nothing is ever fetched from an href. ValueError where it is not below the root, or unsafe to decode;
        UnrepresentableName where it is a member of `folder` all the same.
        """
        if len(href) > _LONGEST_HREF:
            raise ValueError(f"a listing has an address of {len(href)} characters")
        if href.startswith("/") and not href.startswith("//"):
            return self._below_root(href, folder)
        parts = urlsplit(href)
        if parts.netloc:
            if (parts.hostname or "").lower() != self.origin[1]:
                raise ValueError(f"a listing names another server: {parts.hostname}")
            return self._below_root(href.split("//", 1)[1].removeprefix(parts.netloc), folder)
        return _joined(folder, _split(href, ()))

    def spelling_of(self, href: str, path: RemotePath) -> str | None:
        """Return how the server spells the last segment of a path that an href stands for; None: as the path does."""
        spelling = unquote(href.rstrip("/").rpartition("/")[2])
        return None if path == ROOT_PATH or spelling == path.rpartition("/")[2] else spelling

    def _below_root(self, raw: str, folder: RemotePath) -> RemotePath:
        segments = _split(raw, (*self._segments, *filter(None, folder.split("/"))))
        depth = len(self._segments)
        if segments[:depth] != self._segments:
            raise ValueError(f"a listing leaves the account's folder: {raw[:200]!r}")
        return _joined(ROOT_PATH, segments[depth:])


def _split(raw: str, folder: tuple[str, ...]) -> tuple[str, ...]:
    """Decode the segments; UnrepresentableName only for the last one, and only right below `folder`."""
    head, _, tail = raw.rstrip("/").rpartition("/")
    try:
        above = _decoded(head)
    except UnrepresentableName as error:
        raise ValueError(str(error)) from error
    try:
        return (*above, *_decoded(tail))
    except UnrepresentableName as error:
        if above == folder:
            raise
        raise ValueError(str(error)) from error


def _joined(folder: RemotePath, segments: tuple[str, ...]) -> RemotePath:
    # At once: to add one after the other takes minutes for a megabyte of `a/a/a/`.
    return join(folder, "/".join(segments)) if segments else folder


# Members of one folder share everything but their last segment.
@remembered(256)
def _decoded(raw: str) -> tuple[str, ...]:
    return tuple(decode_segment(segment) for segment in raw.split("/") if segment)
