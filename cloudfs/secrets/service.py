"""The Secret Service, as `keyring` and SecretStorage talk to it: every call blocks, and may do so for ever.

Imported in a thread when it is first needed: cryptography, which the service's encrypted sessions take, costs 9 MB.
SOURCE: https://specifications.freedesktop.org/secret-service/, for collections, prompts and what is locked.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Literal

import secretstorage
from jeepney import DBusErrorResponse
from jeepney.io.blocking import DBusConnection, open_dbus_connection
from keyring.backends import SecretService
from keyring.errors import KeyringError, KeyringLocked, PasswordDeleteError
from secretstorage.exceptions import ItemNotFoundException, SecretStorageException
from secretstorage.util import add_match_rules

from cloudfs.secrets.protocol import KeyringAway

__all__ = ["delete", "look", "read", "unlock", "write"]

SERVICE = "cloudfs"
"""What our items are found by, with the account's folder as the user."""


class _Keyring(SecretService.Keyring):
    """`keyring`'s own, but it neither asks a person for anything by itself, nor makes a collection."""

    address = ""

    def get_preferred_collection(self) -> secretstorage.Collection:
        connection = _connect(self.address)
        try:
            collection = secretstorage.Collection(connection)
            if collection.is_locked():
                raise KeyringLocked
        except BaseException:
            connection.close()
            raise
        return collection


def _keyring(address: str) -> SecretService.Keyring:
    made = _Keyring()
    made.address = address
    return made


def read(address: str, user: str) -> str | None:
    """Return a password, None where there is none; KeyringAway where nobody can tell."""
    with _explained():
        try:
            found = _keyring(address).get_password(SERVICE, user)
        except UnicodeDecodeError:
            return None
    return None if found is None else str(found)


def write(address: str, user: str, secret: str) -> None:
    """Keep a password in place of the one that was there."""
    with _explained():
        _keyring(address).set_password(SERVICE, user, secret)


def delete(address: str, user: str) -> None:
    """Forget a password."""
    with _explained():
        try:
            _keyring(address).delete_password(SERVICE, user)
        except PasswordDeleteError:
            return


def look(address: str) -> Literal["absent", "locked", "ready"]:
    """Tell how the default collection is; absent where there is no service, or none in it."""
    with _explained(), closing(_connect(address)) as connection:
        if not secretstorage.check_service_availability(connection):
            return "absent"
        try:
            return "locked" if secretstorage.Collection(connection).is_locked() else "ready"
        except ItemNotFoundException:
            return "absent"


def unlock(address: str) -> None:
    """Ask the person at the screen; returns when they have answered, or there is nobody to ask."""
    with _explained(), closing(_connect(address)) as connection:
        secretstorage.Collection(connection).unlock()


def _connect(address: str) -> DBusConnection:
    connection = open_dbus_connection(address)
    add_match_rules(connection)
    return connection


@contextmanager
def _explained() -> Iterator[None]:
    """Turn what three libraries and the bus raise into a sentence. None of it carries a secret."""
    try:
        yield
    except KeyringLocked as error:
        raise KeyringAway("The keyring is locked.", locked=True) from error
    except ItemNotFoundException as error:
        raise KeyringAway("The keyring has no collection for passwords yet.") from error
    except (KeyringError, SecretStorageException, DBusErrorResponse, OSError, EOFError, ValueError) as error:
        raise KeyringAway(f"There is no keyring: {error}.") from error
