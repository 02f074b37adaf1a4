"""`cloudfs logout`: nothing is removed, here or on the server, that exists only here, unless that was asked for."""

from __future__ import annotations

import sys

import msgspec
import trio

from cloudfs.cli.common import holder_of, in_units, pick
from cloudfs.cli.keeping import forget_everywhere, read_secret
from cloudfs.cli.output import harmless, print_json
from cloudfs.cli.refusals import explain
from cloudfs.cli.revoking import by_hand, revoke
from cloudfs.config import Account, Folders, load_account, remove_account
from cloudfs.control.instance import hold
from cloudfs.errors import ExitCode, RemoteError, UserError
from cloudfs.secrets.protocol import KeyringAway
from cloudfs.store.only_here import OnlyHere, only_here
from cloudfs.vault.keyholding import forget_key, forget_unused, read_keys
from cloudfs.vault.place import Place, find

__all__ = ["log_out"]


class LoggedOut(msgspec.Struct, frozen=True):
    """What became of an account, as `--json` prints it."""

    account: str
    app_password: str
    """In words."""
    thrown_away: list[str]
    """What was only here, in words."""


def log_out(
    account: str | None, *, discard_changes: bool, revoking: bool | None, as_json: bool = False
) -> None:
    """Revoke the app password and remove the account; UserError where something stands against it.

    `revoking`: True: whoever made the app password; False: the server is not asked; None: if cloudfs made it.
    """
    folders = Folders.from_environment()
    name = pick(folders, account)
    holder = holder_of(folders, name)
    if holder is not None:
        raise UserError(
            f"The account {name} is mounted at {holder.mount_point}.",
            hint=f"Unmount it first: `cloudfs unmount --wait {name}`.",
            code=ExitCode.NOT_DONE,
        )
    record = load_account(folders, name)
    state = folders.account_state(name)
    with hold(state, name):
        place = find(state)
        left = _look(folders, name, place)
        if not left.nothing and not discard_changes and (as_json or not _agrees(left)):
            raise _refused(name, left)
        told, stays = _revoke_if_ours(folders, name, record, revoking, may_ask=not as_json)
        forget_everywhere(folders, name, record)
        _forget_key(folders, name, place)
        remove_account(folders, name)
    if as_json:
        print_json(LoggedOut(name, told, _inventory(left)))
        return
    if not left.nothing:
        print(harmless(f"Thrown away: {'; '.join(_inventory(left))}."))
    print(f"Logged out of {name}: {told}, and everything of it was removed from this machine.")
    if stays:
        print(by_hand(record))


def _look(folders: Folders, name: str, place: Place) -> OnlyHere:
    """Find out what is only here; of a sealed account only with its key."""
    try:
        keys = trio.run(read_keys, folders, name, place)
    except UserError as error:
        return OnlyHere(unknown=f"it is encrypted, and its key cannot be read: {error.message}")
    state = place.path(folders.account_state(name))
    return only_here(state, None if keys is None else keys.database)


def _forget_key(folders: Folders, name: str, place: Place) -> None:
    try:
        trio.run(forget_key, folders, name, place)
        trio.run(forget_unused, folders, name)
    except UserError as error:
        sys.stderr.write(
            f"{error.message} The key of what was encrypted here is still in it; it opens nothing now.\n"
        )


def _agrees(left: OnlyHere) -> bool:
    """Ask a person whether what is only here may go; without a terminal nobody says so."""
    return _says_yes(f"What is only here would be lost: {'; '.join(_inventory(left))}.", "Throw it away?")


def _says_yes(fact: str, question: str) -> bool:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    print(harmless(fact))
    try:
        return input(f"{question} [y/N] ").strip().lower() in {"y", "yes"}
    except EOFError:
        return False


def _refused(name: str, left: OnlyHere) -> UserError:
    hints = [f"Mount it and send them: `cloudfs mount {name} FOLDER`, then `cloudfs unmount --wait {name}`."]
    if not left.changes and not left.unknown:
        hints = ["Copy elsewhere what you want to keep."]
    hints.append("With --discard-changes it is thrown away.")
    what = "; ".join(_inventory(left))
    return UserError(
        f"What is only here would be lost: {what}.", hint="\n".join(hints), code=ExitCode.PENDING
    )


def _inventory(left: OnlyHere) -> list[str]:
    """Say what is only here."""
    size = f" ({in_units(left.changed_bytes)})" if left.changed_bytes else ""
    lines = []
    if left.changes:
        lines.append(f"{_count(left.changes, 'change')}{size} not on the server yet")
    if left.local_files:
        lines.append(f"{_count(left.local_files, 'file')} with names that never go up")
    if left.rescued:
        lines.append(f"{_count(len(left.rescued), 'rescued file')}, the first is {left.rescued[0]}")
    if left.unknown:
        lines.append(f"maybe more, which nobody can tell ({left.unknown})")
    return lines


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _revoke_if_ours(
    folders: Folders, name: str, record: Account, revoking: bool | None, *, may_ask: bool
) -> tuple[str, bool]:
    """Return what became of the app password, in words, and whether it stays valid. Raises as `_revoke` does.

    One that a person brought along may be in use elsewhere, and one of which nobody has noted that (an account from
    before) may be, too: a person at the terminal knows.
    """
    if not record.base_url:
        return "the password is known to the server only", False
    if revoking is None and record.own_password is None and may_ask:
        revoking = _says_yes(
            "It is not known whether cloudfs made its app password, or whether other programs use it.",
            "Revoke it on the server?",
        )
    if revoking or (revoking is None and record.own_password):
        return _revoke(folders, name, record), False
    brought = revoking is None and record.own_password is False
    return f"its app password {'was brought along and ' if brought else ''}stays valid", True


def _revoke(folders: Folders, name: str, record: Account) -> str:
    """Revoke the app password; return what became of it, in words. UserError where the server cannot be asked."""
    try:
        secret = read_secret(folders, name, record)
    except KeyringAway as error:
        raise UserError(
            f"{error.message} So the app password cannot be revoked, and nothing was removed.",
            hint=f"Unlock it and try again, or use --keep-remote. {by_hand(record)}",
            code=error.code,
        ) from error
    except UserError as error:
        sys.stderr.write(f"{error.message} So the app password could not be revoked.\n{by_hand(record)}\n")
        return "its app password is not here any more"
    try:
        revoked = revoke(record, secret)
    except RemoteError as error:
        because = explain(error, record.base_url)
        raise UserError(
            f"The app password could not be revoked, and nothing was removed. {because.message}",
            hint=f"Try again later, or use --keep-remote. {by_hand(record)}",
            code=because.code,
        ) from error
    return "its app password was revoked" if revoked else "its app password was not valid any more"
