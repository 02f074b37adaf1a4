"""`cloudfs sync --wait`."""

from __future__ import annotations

import os

from cloudfs.cli.common import connect, pick, which_mount
from cloudfs.cli.output import Gauge, clear_line, harmless, print_json
from cloudfs.config import Folders
from cloudfs.control.client import Client
from cloudfs.control.protocol import Progress, SyncOutcome
from cloudfs.errors import ExitCode, UserError

__all__ = ["drain", "sync_path"]


def sync_path(
    path: str | None, *, account: str | None, timeout_s: float | None, as_json: bool = False
) -> None:
    """Return when everything below `path` is on the server; UserError PENDING when it does not get there."""
    folders = Folders.from_environment()
    name, inside = (pick(folders, account), "/") if path is None else which_mount(folders, path)
    if account is not None and account != name:
        raise UserError(
            f"{path} is in the account {name}, not in {account}.",
            hint="Name the path or the account, not both.",
            code=ExitCode.USAGE,
        )
    if path is not None and not os.path.lexists(path):
        raise UserError(f"{path} does not exist.", hint="Check the path.", code=ExitCode.USAGE)
    with connect(folders, name) as client:
        drain(client, inside, timeout_s, as_json=as_json)
    if not as_json:
        print(f"{name if path is None else harmless(path)}: everything is on the server.")


def drain(client: Client, path: str = "/", timeout_s: float | None = None, *, as_json: bool = False) -> None:
    """Wait until everything below a path in the mount is on the server, showing progress; UserError PENDING."""
    gauge = Gauge()

    def show(progress: Progress) -> None:
        gauge.show(progress.pending, f"{progress.pending:,} to send, {progress.in_flight:,} under way")

    try:
        outcome = client.sync_wait(path, timeout_s, report=show)
    finally:
        clear_line()
    if as_json:
        print_json(outcome)
    if outcome.pending or outcome.blocked:
        raise UserError(_sentence(outcome), hint=_hint(outcome), code=ExitCode.PENDING)


def _sentence(outcome: SyncOutcome) -> str:
    left = max(outcome.pending, len(outcome.blocked))
    waited = " in time" if outcome.timed_out else ""
    return f"{left} {'change is' if left == 1 else 'changes are'} not on the server{waited}."


def _hint(outcome: SyncOutcome) -> str:
    if not outcome.blocked and not outcome.timed_out:
        return "Programs that have removed files open hold them back; they go up once those are closed."
    if not outcome.blocked:
        return "They are safe here and go up as soon as the server takes them; `cloudfs status` tells more."
    return "\n".join(f"{item.path}: {item.reason}. Next step: {item.next_step}" for item in outcome.blocked)
