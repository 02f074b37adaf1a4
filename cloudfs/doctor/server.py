"""What an account's server says, asked as the mount asks it; nothing on it is changed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import msgspec
import trio

from cloudfs.config import Account
from cloudfs.doctor.report import Finding, fine, note, problem, skipped
from cloudfs.errors import (
    CloudfsError,
    NotAuthenticated,
    RemoteError,
    TlsRejected,
    Unreachable,
    Unsupported,
    UserError,
)
from cloudfs.remote.connect import Site
from cloudfs.remote.files import WebdavRemote
from cloudfs.remote.protocol import Features
from cloudfs.remote.tls import context_of

__all__ = ["check_server"]

_PATIENCE_S = 30.0
_PUSH_S = 10.0
_SKEW_S = 60.0
"""With more than that, the times of files on both sides cannot be compared any more."""
_AFTER = ("login", "WebDAV", "clock", "push", "large files", "small files")

Explain = Callable[[RemoteError], UserError]


async def check_server(account: Account, secret: str, name: str, explain: Explain) -> AsyncIterator[Finding]:
    """Ask the server; `explain` says of an error what a person can do. Ends within about a minute."""
    try:
        remote = WebdavRemote(_site(account), secret, tls=context_of(account))
    except (CloudfsError, msgspec.ValidationError) as error:
        yield problem(
            "server",
            f"the account cannot be used: {error}",
            f"Log in again: `cloudfs login --account {name}`.",
            name,
        )
        return
    try:
        failure = await _connect(remote)
        if failure is not None:
            for finding in _failed(failure, name, explain):
                yield finding
            return
        yield fine("server", f"{remote.features.name} at {account.url}", name)
        yield fine("login", f"it lets {account.user} in", name)
        yield fine("WebDAV", "the account's folder is there", name)
        yield _clock(remote.clock_skew_s, name)
        yield await _push(remote, name)
        for finding in _abilities(remote.features, name):
            yield finding
    finally:
        with trio.move_on_after(2, shield=True):
            await remote.aclose()


def _site(account: Account) -> Site:
    features = msgspec.convert(account.features, Features)
    return Site(account.url, account.user, features, account.base_url or None, account.user_id or None)


async def _connect(remote: WebdavRemote) -> RemoteError | None:
    with trio.move_on_after(_PATIENCE_S):
        try:
            await remote.connect()
        except RemoteError as error:
            return error
        return None
    return Unreachable(f"no answer within {_PATIENCE_S:g} seconds")


def _failed(error: RemoteError, name: str, explain: Explain) -> list[Finding]:
    told = explain(error)
    if isinstance(error, NotAuthenticated):
        first = [fine("server", "it answers", name)]
        first.append(problem("login", told.message, f"Log in again: `cloudfs login --account {name}`.", name))
    elif isinstance(error, TlsRejected):
        first = [problem("server", told.message, told.hint, name)]
    else:
        # Not a problem of this machine: what is cached can be read, and what is changed is kept.
        first = [note("server", told.message, told.hint, name)]
    names = [it.name for it in first]
    return first + [skipped(it, "the server cannot be asked", name) for it in _AFTER if it not in names]


def _clock(skew_s: float, name: str) -> Finding:
    if abs(skew_s) <= _SKEW_S:
        return fine("clock", f"{abs(skew_s):.0f} s apart from the server's", name)
    side = "behind" if skew_s > 0 else "ahead of"
    repair = "Have this machine's clock set by the network (`timedatectl set-ntp true`), or the server's."
    return problem("clock", f"this machine's clock is {abs(skew_s):,.0f} s {side} the server's", repair, name)


async def _push(remote: WebdavRemote, name: str) -> Finding:
    if not remote.features.push_url:
        reason = "the server does not tell of changes by itself: it is asked every 30 s"
        return note("push", reason, "Its administrator can install the app notify_push.", name)
    connected = trio.Event()
    failure = "no answer"
    try:
        with trio.move_on_after(_PUSH_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_end_when, connected, nursery.cancel_scope)
                await remote.follow_changes(connected.set, lambda _: None)
    except* (RemoteError, Unsupported) as errors:
        failure = str(errors.exceptions[0])
    if connected.is_set():
        return fine("push", "the server tells of changes as they happen", name)
    return note(
        "push", f"it is offered, but cannot be used: {failure}", "Changes are asked for instead.", name
    )


async def _end_when(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


def _abilities(features: Features, name: str) -> list[Finding]:
    found = []
    if features.chunking:
        found.append(fine("large files", "go up in pieces, and go on after a broken connection", name))
    else:
        found.append(
            note("large files", "go up in one piece, from the start after a broken connection", "", name)
        )
    if features.bulk:
        found.append(fine("small files", "go up many together", name))
    else:
        found.append(note("small files", "go up one by one", "", name))
    if not features.conditional_put:
        reason = (
            "the server checks no conditions: two changes of one file in the same moment may be lost there"
        )
        found.append(note("conditions", reason, "", name))
    return found
