"""Taking back an app password of ours: at the logout, and when another login has replaced it."""

from __future__ import annotations

import sys

import msgspec
import trio

from cloudfs.cli.common import connect as connect_to
from cloudfs.cli.common import holder_of
from cloudfs.cli.keeping import read_secret
from cloudfs.cli.patience import in_time
from cloudfs.config import Account, Folders
from cloudfs.errors import RemoteError, UserError
from cloudfs.remote import connect
from cloudfs.remote.connect import Site
from cloudfs.remote.protocol import Features
from cloudfs.remote.tls import context_of

__all__ = ["Former", "by_hand", "former_login", "revoke"]


def revoke(record: Account, secret: str) -> bool:
    """Revoke an account's app password; False where it was not valid any more. Raises RemoteError."""
    site = Site(record.url, record.user, Features(name=""), record.base_url, record.user_id or None)
    tls = context_of(record)

    async def ask() -> bool:
        return await in_time(connect.revoke(site, secret, tls=tls))

    return trio.run(ask)


def by_hand(record: Account) -> str:
    """Say where a person revokes an app password."""
    page = f"{record.base_url}index.php/settings/user/security"
    name = "" if record.own_password is False else ", by its name beginning with `cloudfs on`"
    return f"The app password can be revoked by hand{name}: {page}"


class Former(msgspec.Struct, frozen=True):
    """The login that another one replaces."""

    record: Account
    secret: str

    def revoke(self) -> None:
        """Take its app password back, which nobody else has; a line for people where that cannot be done."""
        try:
            revoke(self.record, self.secret)
        except (RemoteError, UserError) as error:
            _complain(self.record, error.message)


def former_login(folders: Folders, name: str, record: Account) -> Former | None:
    """Return an account's login before another one is kept, if it is to be revoked then.

    Not what a person brought along, for they may use it elsewhere, and not what the server was seen to refuse: asking
    it with that would count as a failed login, which slows down every login from this address (protocol.md §11).
    """
    if not (record.own_password and record.base_url) or _is_refused(folders, name):
        return None
    try:
        return Former(record, read_secret(folders, name, record))
    except UserError as error:
        _complain(record, error.message)
        return None


def _is_refused(folders: Folders, name: str) -> bool:
    if holder_of(folders, name) is None:
        return False
    try:
        with connect_to(folders, name) as client:
            return client.status().state == "needs-login"
    except UserError:  # it is just beginning or ending
        return False


def _complain(record: Account, why: str) -> None:
    sys.stderr.write(f"The former app password could not be revoked: {why.rstrip('.')}. {by_hand(record)}\n")
