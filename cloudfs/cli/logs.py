"""`cloudfs log`: the daemon's own file, or the journal where systemd runs it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from cloudfs.cli.common import account_at, holder_of
from cloudfs.cli.logentries import Collector, of_journal
from cloudfs.config import Folders
from cloudfs.control.instance import Holder
from cloudfs.errors import ExitCode, UserError

__all__ = ["in_journal", "show_log"]

_LOOK_S = 0.25


def show_log(
    what: str | None, *, lines: int, follow: bool, journal: bool = False, as_json: bool = False
) -> None:
    """Print the last lines; with `follow` what comes, too, until Ctrl-C. `journal`: that of the unit, in any case.

    For programs there is a JSON object in each line; `lines` counts those of the file, of which one message may have
    several.
    """
    folders = Folders.from_environment()
    name = account_at(folders, what)
    holder = holder_of(folders, name)
    if journal or in_journal(holder, name):
        _show_journal(name, lines, follow=follow, as_json=as_json)
        return
    path = folders.state / name / "daemon.log"
    if not path.exists():
        raise UserError(
            f"The account {name} has no log yet: it was never mounted here.",
            hint=f"If systemd has it mounted: `journalctl --user -u cloudfs@{name}`.",
            code=ExitCode.NOT_DONE,
        )
    collector = Collector() if as_json else None
    with _open(path) as file:
        _print(_last(path, file, lines), collector)
        if follow:
            for text in _new(path, file):
                _print(text, collector)


def _print(lines: list[str], collector: Collector | None) -> None:
    """Print what came at once, which ends with the end of a message."""
    if collector is None:
        sys.stdout.writelines(lines)
    else:
        entries = collector.take(lines) + collector.end()
        sys.stdout.writelines(entry.line() for entry in entries)
    sys.stdout.flush()


def in_journal(holder: Holder | None, name: str) -> bool:
    """Tell whether a running daemon was started by its systemd unit, so that the journal has what it says."""
    if holder is None:
        return False
    try:
        group = Path(f"/proc/{holder.pid}/cgroup").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return f"/cloudfs@{name}.service" in group


def _show_journal(name: str, lines: int, *, follow: bool, as_json: bool = False) -> None:
    # Not `--user --unit`: that looks into users' own journals only, which root has not, nor a machine whose journal is
    # in memory. SOURCE: journald.conf(5), SplitMode=.
    command = ["journalctl", f"--user-unit=cloudfs@{name}", "--lines", str(lines), "--no-pager"]
    command += ["--follow"] if follow else []
    sys.stdout.flush()
    try:
        if as_json:
            _translate([*command, "--output=json", "--all"])
            return
        os.execvp(command[0], command)  # noqa: S606  # no shell is wanted
    except OSError as error:
        raise UserError(
            f"The log is in the journal, and journalctl cannot be run: {error.strerror}.",
            hint="Install it, or look at the journal in another way.",
        ) from error


def _translate(command: list[str]) -> None:
    """Print what journalctl prints, in the words that are used for the file, too."""
    with subprocess.Popen(command, stdout=subprocess.PIPE) as journal:  # made here
        assert journal.stdout is not None  # noqa: S101  # a pipe
        for line in journal.stdout:
            if (entry := of_journal(line)) is not None:
                sys.stdout.write(entry.line())
                sys.stdout.flush()


def _open(path: Path) -> TextIO:
    try:
        return path.open(encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise UserError(
            f"{path} cannot be read: {error.strerror}.", hint="Make it a file of yours."
        ) from error


def _last(path: Path, file: TextIO, lines: int) -> list[str]:
    """Return the last lines; from the file before it, too, where it was just begun."""
    found = deque(file, maxlen=lines) if lines else deque(file, maxlen=0)
    older = path.with_name(f"{path.name}.1")
    if len(found) < lines and older.exists():
        with _open(older) as before:
            found.extendleft(reversed(deque(before, maxlen=lines - len(found))))
    return list(found)


def _new(path: Path, file: TextIO) -> Iterator[list[str]]:
    """Yield what is added, for ever; goes on in the next file where this one was put aside."""
    while True:
        if text := file.readlines():
            yield text
        try:
            there = path.stat()
        except FileNotFoundError:
            there = None  # between two files
        if there is not None and there.st_ino != os.fstat(file.fileno()).st_ino:
            yield file.readlines()
            file = _open(path)
            continue
        time.sleep(_LOOK_S)
