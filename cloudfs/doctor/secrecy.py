"""Whether an account's password can be read where nobody should: files of others, logs, command lines, memory."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from shlex import quote

from cloudfs.config import Folders
from cloudfs.doctor.report import Finding, fine, problem, skipped
from cloudfs.log import spellings

__all__ = ["check_files", "check_logs", "check_process"]

_RENEW = "`cloudfs login` makes a new one and revokes this one"


def check_files(folders: Folders, name: str) -> Finding:
    """Look whether others could read an account's own files, whatever the folders above them allow."""
    found = [path for path in _files(folders, name) if _is_open(path)]
    if not found:
        return fine("files", "readable by nobody but you", name)

    def close() -> None:
        for path in found:
            path.chmod(stat.S_IMODE(path.stat(follow_symlinks=False).st_mode) & ~0o077)

    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    return problem(
        "files", f"open to others: {found[0]}{more}", f"`chmod go= {quote(str(found[0]))}`", name, close
    )


def _files(folders: Folders, name: str) -> Iterator[Path]:
    yield folders.account_file(name)
    yield folders.runtime / folders.socket_name(name)
    for folder in (folders.state / name, folders.cache / name):
        try:
            yield from folder.iterdir()
        except OSError:
            continue  # there is none yet


def _is_open(path: Path) -> bool:
    try:
        found = path.stat(follow_symlinks=False)
    except OSError:
        return False
    return not stat.S_ISLNK(found.st_mode) and bool(found.st_mode & 0o077)


def check_logs(folders: Folders, name: str, secret: str) -> Finding:
    """Look for the password in the daemon's log, to which all that it has to say goes, crashes too."""
    words = [word.encode() for word in spellings(secret)]
    logs = sorted((folders.state / name).glob("daemon.log*"))
    for path in logs:
        try:
            text = path.read_bytes()
        except OSError:
            continue
        if any(word in text for word in words):
            return problem("log", f"{path} has the password in it", f"Remove it; {_RENEW}.", name)
    return fine("log", "the password is not in it" if logs else "there is none yet", name)


def check_process(name: str, pid: int, secret: str | None, *, memory_closed: bool | None) -> Finding:
    """Look what others see of a running daemon; `memory_closed` is its own word, None: it is too old to tell."""
    again = "Mount again with this version of cloudfs."
    if memory_closed is None:
        return skipped("memory", f"process {pid} is of a version that does not tell", name)
    if not memory_closed:
        return problem("memory", f"a debugger or a core file shows that of process {pid}", again, name)
    words = [word.encode() for word in spellings(secret)] if secret else []
    for part, what in (("cmdline", "command line"), ("environ", "environment")):
        try:
            text = Path(f"/proc/{pid}/{part}").read_bytes()
        except OSError:
            continue  # closed: as it should be
        if any(word in text for word in words):
            return problem("memory", f"the {what} of process {pid} has the password", again, name)
    return fine("memory", f"no debugger, core file or `ps` shows the password in process {pid}", name)
