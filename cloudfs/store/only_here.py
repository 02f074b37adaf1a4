"""What would be lost if an account's state were removed from this machine: looked at while nothing is mounted."""

from __future__ import annotations

from pathlib import Path

import msgspec

from cloudfs.errors import CloudfsError
from cloudfs.store.store import Store

__all__ = ["OnlyHere", "only_here"]


class OnlyHere(msgspec.Struct, frozen=True):
    """Counts of what the server does not have."""

    changes: int = 0
    """Files and folders with a change that is to go up."""
    changed_bytes: int = 0
    """What the contents among them add up to."""
    local_files: int = 0
    """Files whose names keep them here for ever."""
    rescued: list[str] = []
    """Files that were found after a power cut or a damaged database, and that wait for a person, or the next mount."""
    unknown: str = ""
    """Why nobody can say more; "": all is known."""

    @property
    def nothing(self) -> bool:
        """Everything may go."""
        return not (self.changes or self.local_files or self.rescued or self.unknown)


def only_here(state: Path, key: bytes | None = None) -> OnlyHere:
    """Look through an account's state folder, which nobody else may have in use; a missing one holds nothing."""
    rescued = [str(path) for path in sorted(state.glob("recovered/**/*")) if path.is_file()]
    path = state / "state.sqlite"
    if not path.exists():
        return OnlyHere(rescued=rescued + _staged(state, ""))
    try:
        store = Store(path, key=key)
    except CloudfsError as error:
        return OnlyHere(rescued=rescued, unknown=str(error))
    try:
        return OnlyHere(
            store.nodes.count_dirty(),
            store.nodes.bytes_to_send(),
            store.nodes.count_local_files(),
            rescued + _staged(state, store.store_id),
        )
    except CloudfsError as error:
        return OnlyHere(rescued=rescued, unknown=str(error))
    finally:
        store.close()


def _staged(state: Path, store_id: str) -> list[str]:
    """Return the staging files of databases that are lost: the next mount would adopt them."""
    folders = (folder for folder in state.glob("staging-*") if folder.name != f"staging-{store_id}")
    return [str(path) for folder in sorted(folders) for path in sorted(folder.rglob("*")) if path.is_file()]
