"""What a listed object is in the columns of its row."""

from __future__ import annotations

from cloudfs.types import Ino, RemoteEntry, RemoteVersion

__all__ = ["NS", "synced_columns", "version_columns"]

NS = 1_000_000_000


def synced_columns(parent: Ino, entry: RemoteEntry) -> dict[str, object]:
    """Return the synced view's columns of a listed object, all but s_version and s_mtime_ns."""
    return {
        "s_parent": parent,
        "s_name": entry.name,
        "s_spelling": entry.spelling,
        **version_columns(entry.version),
        "s_file_id": entry.file_id,
        "permissions": entry.permissions,
        "mount_root": int(entry.mount_root),
    }


def version_columns(version: RemoteVersion) -> dict[str, object]:
    """Return the columns that name one version of the server's."""
    return {
        "s_etag": version.etag,
        "s_size": version.size,
        "s_modified_s": version.modified_s,
        "s_checksum": version.checksum,
    }
