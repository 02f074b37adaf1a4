"""The password in a file of its own, 0600, in the account's state folder."""

from __future__ import annotations

from pathlib import Path

from cloudfs import config
from cloudfs.config import Folders, SecretKind

__all__ = ["FileStore"]


class FileStore:
    """A few bytes, read and written at once."""

    kind: SecretKind = "file"

    def __init__(self, folders: Folders, account: str) -> None:
        self._folders = folders
        self._account = account

    @property
    def path(self) -> Path:
        """The file."""
        return self._folders.secret_file(self._account)

    @property
    def place(self) -> str:
        """Where it is."""
        return f"in {self.path}, readable by you alone"

    async def read(self) -> str:
        """Return the password; UserError where the file is missing, damaged, or not private."""
        return config.read_secret(self._folders, self._account)

    async def write(self, secret: str) -> None:
        """Replace the file, in one step and durably."""
        config.write_secret(self._folders, self._account, secret)

    async def delete(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)
