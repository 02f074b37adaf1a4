"""What the members of a listing are here, and which listings can be believed.

A listing is whole or it is nothing: whatever is wrong with one (cut, no XML, an href outside the root, one name
twice, an object without its kind) raises ProtocolViolation, and nothing of it may be believed. A member whose name
no file here can have is no such thing: it is left out and counted. Neither is a file of which the server has yet to
find out the size (-1, in an external storage that it has not looked through): without a size nothing can be read, and
with a wrong one wrong bytes would be, so it is left out, too, and named.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from cloudfs.errors import ProtocolViolation, ServerFault
from cloudfs.paths import UnrepresentableName, is_below, parent_of
from cloudfs.remote import etags, values
from cloudfs.remote.hrefs import Place
from cloudfs.remote.multistatus import Member
from cloudfs.types import Kind, RemoteEntry, RemotePath, RemoteVersion

__all__ = ["Listing", "SizeUnknown", "entry_of"]

_MOST_MEMBERS = 500_000
"""Each member takes about 900 bytes until it is in the database, and twice that where it was known there and is another
version: a listing that never ends must not take all memory."""


_MOST_TEXT_PER_MEMBER = 1024
"""On average, of hrefs and properties; 500 are usual. One member alone may have more."""
_MOST_TEXT_OF_ONE = 1024 * 1024
_LONGEST_WORD = 64
_UNKNOWN = {"-1", "-2"}
"""Nextcloud's "not computed" and "unknown" (protocol.md §2.1)."""


class SizeUnknown(ProtocolViolation):
    """A file is there, and the server does not say how large it is."""


def entry_of(member: Member, place: Place, folder: RemotePath) -> RemoteEntry | None:
    """Turn a member of a listing of `folder` into an entry; None where it vanished meanwhile (404).

    Raises UnrepresentableName for one that no file here can be, and SizeUnknown.
    """
    try:
        path = place.path_of(member.href, folder)
    except UnrepresentableName:
        raise
    except ValueError as error:
        raise ProtocolViolation(str(error), subject=folder) from error
    if member.status in {404, 410}:
        return None
    if member.status >= 300:
        raise ServerFault("the server cannot list it", subject=path, status=member.status)
    found = member.properties
    if "d:resourcetype" not in found:
        raise ProtocolViolation("listed without its kind", subject=path)
    return RemoteEntry(
        path=path,
        kind=Kind.FOLDER if member.collection else Kind.FILE,
        version=RemoteVersion(
            etag=etags.normalise(found.get("d:getetag")),
            size=0 if member.collection else _size(found, path),
            modified_s=values.http_date_s(found.get("d:getlastmodified")),
            checksum=values.best_checksum([found.get("oc:checksums")]),
        ),
        file_id=_word(found, "oc:fileid", path) or None,
        permissions=_shared(_word(found, "oc:permissions", path)),
        mount_root=found.get("nc:is-mount-root") == "true",
        fingerprint=_shared(_word(found, "oc:data-fingerprint", path)),
        quota_free=_natural(found.get("d:quota-available-bytes")),
        quota_used=_natural(found.get("d:quota-used-bytes")),
        spelling=place.spelling_of(member.href, path),
    )


def _word(found: dict[str, str], name: str, path: RemotePath) -> str | None:
    word = found.get(name)
    if word is not None and len(word) > _LONGEST_WORD:
        raise ProtocolViolation(f"{name} has {len(word)} characters", subject=path)
    return word


@lru_cache(maxsize=256)
def _shared(word: str | None) -> str | None:
    """Return a word that many members have as one object: half a million take 65 MiB less."""
    return word


def _size(found: dict[str, str], path: RemotePath) -> int:
    text = found.get("d:getcontentlength") or found.get("oc:size")
    if text in _UNKNOWN:
        raise SizeUnknown("the server does not know the size of a file yet", subject=path)
    size = _natural(text)
    if size is None:
        raise ProtocolViolation("a file is listed without its size", subject=path)
    return size


def _natural(text: str | None) -> int | None:
    # Quota: -1 not computed, -2 unknown, -3 unlimited (protocol.md §2.1).
    number = values.whole_number(text)
    return number if number is not None and number >= 0 else None


class Listing:
    """Checks entries against the request: each inside the folder asked for, none twice."""

    hidden_members: int
    """Members left out, of a listing with depth 1: their names cannot be had here, or are another's in NFC."""
    first_hidden: str
    """The href of the first of them, as it came."""
    unsized: list[RemotePath]
    """Files left out, as their size is not known."""

    def __init__(
        self, place: Place, folder: RemotePath, depth: int | None, *, most_members: int = _MOST_MEMBERS
    ) -> None:
        self._most_members = most_members
        self._text_left = max(_MOST_TEXT_PER_MEMBER * most_members, 2 * _MOST_TEXT_OF_ONE)
        self._place = place
        self.folder = folder
        self._depth = depth
        """0, 1, or None for all levels."""
        self._seen: set[RemotePath] = set()
        self._decomposed: dict[str, tuple[str, RemoteEntry]] = {}
        """Members spelled in another form than NFC, with their hrefs, by spelling."""
        self.hidden_members = 0
        self.first_hidden = ""
        self.unsized = []

    def admit(self, members: list[Member]) -> Iterator[RemoteEntry]:
        """Yield the entries of these members; ProtocolViolation for what the request cannot have meant.

        Some are held back until `finish`.
        """
        for member in members:
            self._text_left -= len(member.href) + sum(map(len, member.properties.values()))
            if self._text_left < 0:
                raise ProtocolViolation("the listing is larger than can be kept", subject=self.folder)
            entry = self._entry(member)
            if entry is None:
                continue
            if not self._belongs(entry.path):
                raise ProtocolViolation("listed, but not asked for", subject=entry.path)
            if self._depth == 1 and entry.path != self.folder and self._is_held_back(member.href, entry):
                continue
            if entry.path in self._seen:
                raise ProtocolViolation("listed twice", subject=entry.path)
            self._seen.add(entry.path)
            if len(self._seen) + len(self._decomposed) > self._most_members:
                message = f"the server lists more than {self._most_members} members"
                raise ProtocolViolation(message, subject=self.folder)
            yield entry

    def _entry(self, member: Member) -> RemoteEntry | None:
        try:
            return entry_of(member, self._place, self.folder)
        except SizeUnknown as error:
            if self._depth == 0:
                raise
            self.unsized.append(RemotePath(error.subject))
            return None
        except UnrepresentableName as error:
            if self._depth != 1:
                raise ProtocolViolation(str(error), subject=self.folder) from error
        if member.status not in {404, 410}:
            self._hide(member.href)
        return None

    def _is_held_back(self, href: str, entry: RemoteEntry) -> bool:
        if entry.spelling is None:
            return False
        if entry.spelling in self._decomposed:
            raise ProtocolViolation("listed twice", subject=entry.path)
        self._decomposed[entry.spelling] = href, entry
        return True

    def finish(self) -> Iterator[RemoteEntry]:
        """Yield what was held back, once everything was admitted.

        Of members whose names are one in NFC, the one spelled so is shown, since requests carry that form and would
        meet it; else the first.
        """
        for href, entry in self._decomposed.values():
            if entry.path in self._seen:
                self._hide(href)
                continue
            self._seen.add(entry.path)
            yield entry

    def _hide(self, href: str) -> None:
        self.hidden_members += 1
        self.first_hidden = self.first_hidden or href

    def _belongs(self, path: RemotePath) -> bool:
        if path == self.folder:
            return True
        if self._depth is None:
            return is_below(path, self.folder)
        return self._depth == 1 and parent_of(path) == self.folder
