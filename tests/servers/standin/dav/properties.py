"""Properties of files and folders (protocol.md §2.1)."""

from __future__ import annotations

import mimetypes
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from tests.servers.standin.dav.xmlio import DAV, NC, OC, text
from tests.servers.standin.messages import http_date
from tests.servers.standin.site import Site
from tests.servers.standin.tree import Node
from tests.servers.standin.users import User

_OCS = "{http://open-collaboration-services.org/ns}"
_OCM = "{http://open-cloud-mesh.org/ns}"

UNLIMITED = -3
EMPTY_ELEMENT = ""


@dataclass(frozen=True)
class Subject:
    """The node whose properties are asked for, and who asks."""

    site: Site
    user: User
    node: Node
    is_asked_for: bool = False
    """It was named in the request, and is not merely a member of what was."""


Value = Callable[[Subject], str | None]
"""Inner XML; ``None`` when the property does not apply (404)."""


def content_type(name: str) -> str:
    """The type Nextcloud shows: from the extension only."""
    special = {".bin": "application/x-bin", ".md": "text/markdown"}
    suffix = "." + name.rpartition(".")[2].lower() if "." in name else ""
    return special.get(suffix) or mimetypes.guess_type(f"x{suffix}")[0] or "application/octet-stream"


def quoted_etag(node: Node) -> str:
    """The ETag as headers carry it."""
    return f'"{node.etag}"'


def _on_files(value: Value) -> Value:
    return lambda subject: None if subject.node.is_folder else value(subject)


def _on_folders(value: Value) -> Value:
    return lambda subject: value(subject) if subject.node.is_folder else None


def _always(value: str) -> Value:
    return lambda _: value


def _creation_date(subject: Subject) -> str:
    return datetime.fromtimestamp(subject.node.creation_time, UTC).isoformat()


def _quota_available(subject: Subject) -> str:
    if subject.user.quota_bytes is None:
        return str(UNLIMITED)
    return str(subject.site.free_bytes(subject.user))


def _checksums(subject: Subject) -> str | None:
    if not subject.node.checksum:
        return None
    return "".join(f"<oc:checksum>{text(one)}</oc:checksum>" for one in subject.node.checksum.split(" "))


def _permissions(subject: Subject) -> str:
    node = subject.node
    return node.permissions_as_itself() if subject.is_asked_for else node.effective_permissions()


def _mount_type(subject: Subject) -> str:
    return "shared" if "S" in subject.node.effective_permissions() else ""


def _share_types(subject: Subject) -> str:
    kinds = sorted({kind for _, kind in subject.node.sharees})
    return "".join(f"<oc:share-type>{kind}</oc:share-type>" for kind in kinds)


def _sharees(subject: Subject) -> str:
    """Return them as measured: a link has neither an id nor a name."""
    return "".join(
        f"<nc:sharee>{_or_empty('nc:id', name)}{_or_empty('nc:display-name', name)}"
        f"<nc:type>{kind}</nc:type></nc:sharee>"
        for name, kind in subject.node.sharees
    )


def _or_empty(name: str, value: str) -> str:
    return f"<{name}>{text(value)}</{name}>" if value else f"<{name}/>"


def _system_tags(subject: Subject) -> str:
    flags = 'oc:can-assign="true" oc:id="1" oc:user-assignable="true" oc:user-visible="true"'
    return "".join(f"<nc:system-tag {flags}>{text(tag)}</nc:system-tag>" for tag in subject.node.system_tags)


def _is_mount_root(subject: Subject) -> str:
    own = subject.node.permissions
    return "true" if own is not None and "S" in own else "false"


def _count(subject: Subject, *, folders: bool) -> str:
    return str(sum(node.is_folder is folders for node in subject.node.members()))


LIVE: dict[str, Value] = {
    DAV + "getlastmodified": lambda s: http_date(s.node.mtime),
    DAV + "getcontentlength": _on_files(lambda s: str(s.node.size_bytes)),
    DAV + "resourcetype": lambda s: "<d:collection/>" if s.node.is_folder else EMPTY_ELEMENT,
    DAV + "quota-used-bytes": _on_folders(lambda s: str(s.node.size_bytes)),
    DAV + "quota-available-bytes": _on_folders(_quota_available),
    DAV + "getetag": lambda s: text(quoted_etag(s.node)),
    DAV + "getcontenttype": _on_files(lambda s: content_type(s.node.name)),
    DAV + "displayname": lambda s: text(s.node.name or s.user.id),
    DAV + "creationdate": _creation_date,
    OC + "id": lambda s: s.site.full_id(s.node.file_id),
    OC + "fileid": lambda s: str(s.node.file_id),
    OC + "permissions": _permissions,
    OC + "size": lambda s: str(s.node.size_bytes),
    OC + "checksums": _on_files(_checksums),
    OC + "favorite": lambda s: "1" if s.node.favorite else "0",
    OC + "tags": lambda s: "".join(f"<oc:tag>{text(tag)}</oc:tag>" for tag in s.node.tags),
    OC + "share-types": _share_types,
    OC + "owner-id": lambda s: text(s.user.id),
    OC + "owner-display-name": lambda s: text(s.user.id),
    OC + "comments-count": lambda s: str(s.node.comments),
    OC + "comments-unread": _always("0"),
    OC + "comments-href": lambda s: f"/remote.php/dav/comments/files/{s.node.file_id}",
    OC + "downloadURL": _on_files(_always("")),
    OC + "data-fingerprint": lambda s: s.site.fingerprint,
    NC + "has-preview": _always("false"),
    NC + "mount-type": _mount_type,
    NC + "is-mount-root": _is_mount_root,
    NC + "is-encrypted": _on_folders(_always("0")),
    NC + "creation_time": lambda s: str(s.node.creation_time),
    NC + "upload_time": _on_files(lambda s: str(s.node.upload_time)),
    NC + "contained-folder-count": _on_folders(lambda s: _count(s, folders=True)),
    NC + "contained-file-count": _on_folders(lambda s: _count(s, folders=False)),
    NC + "sharees": _sharees,
    NC + "note": _always(""),
    NC + "share-attributes": _always("[]"),
    NC + "hidden": _always("false"),
    NC + "system-tags": _system_tags,
    NC + "reminder-due-date": _always(""),
    _OCS + "share-permissions": lambda s: "31" if s.node.is_folder else "19",
    _OCM + "share-permissions": _always("[&quot;share&quot;,&quot;read&quot;,&quot;write&quot;]"),
}

ALL_PROP = [
    DAV + name
    for name in (
        "getlastmodified",
        "getcontentlength",
        "resourcetype",
        "quota-used-bytes",
        "quota-available-bytes",
        "getetag",
        "getcontenttype",
    )
]
"""What an empty body, ``allprop``, ``propname`` and an empty ``prop`` all return (protocol.md §2.3)."""

_PHANTOM: dict[str, str] = {
    DAV + "resourcetype": EMPTY_ELEMENT,
    DAV + "getetag": "&quot;&quot;",
    OC + "size": "0",
    OC + "permissions": "RGDNVW",
}


def values(subject: Subject, names: list[str]) -> dict[str, str | None]:
    """Inner XML by name; ``None`` where the node has no such property."""
    dead = subject.node.dead_properties
    return {name: LIVE[name](subject) if name in LIVE else dead.get(name) for name in names}


def phantom_values(names: list[str], size_bytes: int) -> dict[str, str | None]:
    """What a ``.part`` name answers, existing or not (protocol.md §2.4)."""
    known = _PHANTOM | {OC + "size": str(size_bytes)}
    return {name: known.get(name) for name in names}
