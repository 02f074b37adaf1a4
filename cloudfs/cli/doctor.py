"""`cloudfs doctor`."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from shlex import quote

import msgspec
import trio

from cloudfs import config
from cloudfs.cli.common import client_of, holder_of, pick_known, version
from cloudfs.cli.output import Colour, clear_line, one_line, paint, print_json
from cloudfs.config import Account, Folders, account_names
from cloudfs.doctor.account import check_account, check_folders
from cloudfs.doctor.machine import check_machine
from cloudfs.doctor.report import Finding, Verdict, fine, note, problem, skipped
from cloudfs.doctor.secrecy import check_process
from cloudfs.errors import CloudfsError, ExitCode, RemoteError, UserError
from cloudfs.fuse.mount_point import DEAD, may_allow_other
from cloudfs.fuse.mounts import MountEntry, all_mounts, detach, probe
from cloudfs.secrets.stores import store_of

__all__ = ["examine"]

_PATIENCE_S = 5.0
_SAFE = frozenset({"default_permissions", "nodev", "nosuid"})
"""What every mount of ours is made with."""
_COLOURS: dict[Verdict, Colour] = {
    Verdict.OK: "green",
    Verdict.NOTE: "yellow",
    Verdict.PROBLEM: "red",
    Verdict.SKIPPED: "dim",
}


class Line(msgspec.Struct, frozen=True):
    """A finding as `--json` prints it."""

    account: str
    name: str
    verdict: Verdict
    reason: str
    repair: str
    fixable: bool


def examine(account: str | None, *, fix: bool, offline: bool, as_json: bool) -> None:
    """Look at everything, mend what is safe where that is asked for; UserError UNWELL where a problem is left."""
    folders = Folders.from_environment()
    names = account_names(folders) if account is None else [pick_known(folders, account)]
    found = []
    for finding in _findings(folders, names, offline=offline):
        told = _mend(finding) if fix and finding.fix is not None else finding
        found.append(told)
        clear_line()
        if not as_json:
            _print(told)
        one_line("looking …")
    clear_line()
    if as_json:
        print_json(
            [Line(it.account, it.name, it.verdict, it.reason, it.repair, it.fix is not None) for it in found]
        )
    problems = [it for it in found if it.verdict is Verdict.PROBLEM]
    if problems:
        fixable = any(it.fix is not None for it in problems) and not fix
        raise UserError(
            f"{len(problems)} {'problem was' if len(problems) == 1 else 'problems were'} found.",
            hint="`cloudfs doctor --fix` mends what is safe to mend."
            if fixable
            else "Each line says what mends it.",
            code=ExitCode.UNWELL,
        )


def _findings(folders: Folders, names: list[str], *, offline: bool) -> Iterator[Finding]:
    yield from check_machine()
    yield from _mounts(names)
    yield from check_folders(folders)
    if not names:
        yield note("accounts", "there is none yet", "Begin with `cloudfs login URL`.")
    for name in names:
        yield from check_account(folders, name)
        yield from _others(folders, name)
        refused = False
        for finding in _daemon(folders, name):
            refused = refused or finding.name == "login"
            yield finding
        if not refused:
            yield from _server(folders, name, offline=offline)


def _mounts(names: list[str]) -> Iterator[Finding]:
    ours = [entry for entry in all_mounts() if entry.ours]
    known = [entry for entry in ours if entry.account in names]
    for entry in known:
        yield _mount(entry, probe(entry.path))
    for entry in (it for it in ours if it not in known and probe(it.path) in DEAD):
        # Perhaps of another CLOUDFS_HOME: whoever made it decides.
        repair = f"`fusermount3 -uz {quote(entry.path)}` takes it away."
        yield note("mounts", f"{entry.path} is dead, and of no account that is known here", repair)
    if not known:
        yield fine("mounts", "nothing is mounted")


def _mount(entry: MountEntry, answer: int) -> Finding:
    if answer in DEAD:
        return _dead(entry)
    if answer == errno.ETIMEDOUT:
        repair = f"Look at its log; `fusermount3 -uz {quote(entry.path)}` detaches it."
        return problem("mounts", f"{entry.path} does not answer", repair, entry.account or "")
    lacking = sorted(_SAFE - entry.options)
    if lacking:
        reason = f"{entry.path} was made without {', '.join(lacking)}"
        return problem("mounts", reason, "Unmount it and mount again.", entry.account or "")
    others = (
        "others get in, as far as modes allow" if "allow_other" in entry.options else "nobody else gets in"
    )
    return fine("mounts", f"{entry.path} answers; {', '.join(sorted(_SAFE))}; {others}", entry.account or "")


def _dead(entry: MountEntry) -> Finding:
    def clear() -> None:
        if not detach(entry.path):
            raise UserError(
                f"{entry.path} cannot be detached.", hint=f"Try `sudo umount -l {quote(entry.path)}`."
            )

    return problem(
        "mounts",
        f"{entry.path} is dead: its process is gone",
        f"`cloudfs unmount {entry.account}` takes it away, mounting again does so, too.",
        entry.account or "",
        clear,
    )


def _others(folders: Folders, name: str) -> Iterator[Finding]:
    """Look whether others may be let in, where the account's file says so."""
    try:
        wanted = config.load_account(folders, name).settings.allow_other
    except UserError:
        return  # told before
    if wanted and not may_allow_other():
        repair = "Have the administrator write the line user_allow_other there, or take `allow_other` out of the file."
        yield problem("others", "/etc/fuse.conf does not let you let others into a mount", repair, name)
    elif wanted:
        yield note("others", "other users get into the mount, as far as modes allow", "", name)
    else:
        yield fine("others", "nobody else gets into the mount", name)


def _daemon(folders: Folders, name: str) -> Iterator[Finding]:
    holder = holder_of(folders, name)
    if holder is None:
        yield from _orphan(folders, name)
        return
    try:
        with client_of(folders, name, holder, timeout_s=_PATIENCE_S) as client:
            status = client.status()
    except UserError as error:
        yield problem("daemon", error.message, f"Its process is {holder.pid}; its log tells more.", name)
        return
    if status.version != version():
        yield note(
            "daemon", f"it is version {status.version}, this program is {version()}", "Mount again.", name
        )
    else:
        yield fine("daemon", f"process {status.pid} answers: {status.state}", name)
    yield check_process(name, status.pid, _secret(folders, name), memory_closed=status.memory_closed)
    if status.state == "needs-login":
        # Asked with it again, the server would slow down every login from this address.
        repair = f"Log in again: `cloudfs login --account {name}`."
        yield problem("login", "the server refused the login", repair, name)
    if status.blocked:
        repair = "`cloudfs status` names each, and the next step."
        yield problem(
            "to send", f"{len(status.blocked)} changes cannot go up before somebody acts", repair, name
        )


def _orphan(folders: Folders, name: str) -> Iterator[Finding]:
    path = folders.runtime / folders.socket_name(name)
    if path.is_socket():

        def remove() -> None:
            path.unlink(missing_ok=True)

        reason = f"{path} was left by one that was killed"
        repair = "The next mount takes it away."
        yield Finding("daemon", Verdict.NOTE, reason, repair, name, remove)
        return
    yield skipped("daemon", "the account is not mounted", name)


def _server(folders: Folders, name: str, *, offline: bool) -> Iterator[Finding]:
    if offline:
        yield skipped("server", "it was not to be asked", name)
        return
    secret = _secret(folders, name)
    if secret is None:
        yield skipped("server", "it cannot be asked without a good account file and a password", name)
        return
    one_line("asking the server …")
    yield from trio.run(_ask, config.load_account(folders, name), secret, name)


def _secret(folders: Folders, name: str) -> str | None:
    """Return the password; None where it cannot be read, which was told before."""
    try:
        return trio.run(store_of(folders, name, config.load_account(folders, name).secret_store).read)
    except UserError:
        return None


async def _ask(account: Account, secret: str, name: str) -> list[Finding]:
    # HTTP takes half a second to load, and the first lines need none.
    from cloudfs.cli.refusals import explain
    from cloudfs.doctor.server import check_server

    def told(error: RemoteError) -> UserError:
        return explain(error, account.url)

    return [finding async for finding in check_server(account, secret, name, told)]


def _mend(finding: Finding) -> Finding:
    """Mend it; what was a problem is none any more, or it is said why it still is."""
    if finding.fix is None:
        return finding
    try:
        finding.fix()
    except (CloudfsError, OSError) as error:
        return problem(
            finding.name, f"{finding.reason}; mending failed: {error}", finding.repair, finding.account
        )
    return note(finding.name, f"{finding.reason}: mended", "", finding.account)


def _print(finding: Finding) -> None:
    where = f"{finding.account}: " if finding.account else ""
    verdict = paint(f"{finding.verdict.value:<8}", _COLOURS[finding.verdict])
    print(f"{verdict} {where + finding.name:<24} {finding.reason}")
    if finding.repair and finding.verdict is not Verdict.OK:
        print(f"{'':<33} → {finding.repair}" if _is_unicode() else f"{'':<33} -> {finding.repair}")


def _is_unicode() -> bool:
    return (sys.stdout.encoding or "").lower().startswith("utf")
