"""`cloudfs log`: the daemon's own file, or the journal where systemd runs it."""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from cloudfs.cli.common import account_at, holder_of
from cloudfs.config import Folders
from cloudfs.control.instance import Holder
from cloudfs.errors import ExitCode, UserError

__all__ = ["in_journal", "show_log"]

_LOOK_S = 0.25


def show_log(what: str | None, *, lines: int, follow: bool, journal: bool = False) -> None:
    """Print the last lines; with `follow` what comes, too, until Ctrl-C. `journal`: that of the unit, in any case."""
    folders = Folders.from_environment()
    name = account_at(folders, what)
    holder = holder_of(folders, name)
    if journal or in_journal(holder, name):
        _show_journal(name, lines, follow=follow)
        return
    path = folders.state / name / "daemon.log"
    if not path.exists():
        raise UserError(
            f"The account {name} has no log yet: it was never mounted here.",
            hint=f"If systemd has it mounted: `journalctl --user -u cloudfs@{name}`.",
            code=ExitCode.NOT_DONE,
        )
    with _open(path) as file:
        sys.stdout.writelines(_last(path, file, lines))
        if not follow:
            return
        sys.stdout.flush()
        for text in _new(path, file):
            sys.stdout.write(text)
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


def _show_journal(name: str, lines: int, *, follow: bool) -> None:
    # Not `--user --unit`: that looks into users' own journals only, which root has not, nor a machine whose journal is
    # in memory. SOURCE: journald.conf(5), SplitMode=.
    command = ["journalctl", f"--user-unit=cloudfs@{name}", "--lines", str(lines), "--no-pager"]
    sys.stdout.flush()
    try:
        os.execvp(command[0], [*command, *(["--follow"] if follow else [])])  # noqa: S606  # no shell is wanted
    except OSError as error:
        raise UserError(
            f"The log is in the journal, and journalctl cannot be run: {error.strerror}.",
            hint="Install it, or look at the journal in another way.",
        ) from error


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


def _new(path: Path, file: TextIO) -> Iterator[str]:
    """Yield what is added, for ever; goes on in the next file where this one was put aside."""
    while True:
        while text := file.readline():
            yield text
        try:
            there = path.stat()
        except FileNotFoundError:
            there = None  # between two files
        if there is not None and there.st_ino != os.fstat(file.fileno()).st_ino:
            yield from file.readlines()
            file = _open(path)
            continue
        time.sleep(_LOOK_S)
