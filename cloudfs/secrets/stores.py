"""Which store is whose."""

from __future__ import annotations

from cloudfs.config import Folders, SecretKind
from cloudfs.secrets.credential import CredentialStore
from cloudfs.secrets.file import FileStore
from cloudfs.secrets.keyring import KeyringStore
from cloudfs.secrets.protocol import SecretStore

__all__ = ["store_of"]


def store_of(folders: Folders, account: str, kind: SecretKind) -> SecretStore:
    """Return what keeps an account's password, be it there or not."""
    match kind:
        case "keyring":
            return KeyringStore(folders.state, account)
        case "credential":
            return CredentialStore(account)
        case "file":
            return FileStore(folders, account)
