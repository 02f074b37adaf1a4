"""What is left of an account after a remote wipe: a note, for whoever looks for the account."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from cloudfs.config import Folders, check_account_name, write_private

__all__ = ["Wiped", "find_wiped", "forget_wiped", "note_wiped"]


class Wiped(msgspec.Struct, frozen=True):
    """One account that is not here any more."""

    url: str
    user: str
    at: float
    """Seconds since 1970."""
    changes: int
    """So many changes were not on the server yet, and are lost."""
    changed_bytes: int

    def sentence(self, name: str) -> str:
        """Say what happened."""
        when = time.strftime("%F %T", time.localtime(self.at))
        changes = "1 change" if self.changes == 1 else f"{self.changes:,} changes"
        lost = f", and with it {changes} not on the server yet" if self.changes else ""
        return (
            f"At the request of its server (remote wipe) everything of the account {name} ({self.user} at {self.url}) "
            f"was removed from this machine at {when}{lost}."
        )


def note_wiped(folders: Folders, name: str, wiped: Wiped) -> None:
    """Keep the note until the next login under this name. Raises UserError."""
    write_private(_path(folders, name), msgspec.json.encode(wiped))


def find_wiped(folders: Folders) -> dict[str, Wiped]:
    """Return the accounts that were wiped, by name; notes that cannot be read are left out."""
    found = {}
    for path in sorted(folders.accounts.glob("*.wiped")):
        try:
            found[path.stem] = msgspec.json.decode(path.read_bytes(), type=Wiped)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            continue
    return found


def forget_wiped(folders: Folders, name: str) -> None:
    """There is an account of this name again."""
    _path(folders, name).unlink(missing_ok=True)


def _path(folders: Folders, name: str) -> Path:
    return folders.accounts / f"{check_account_name(name)}.wiped"
