"""What the machine offers: the kernel, FUSE, and the programs around it."""

from __future__ import annotations

import grp
import importlib.util
import os
import platform
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import trio

from cloudfs.doctor.report import Finding, fine, note, problem
from cloudfs.secrets.keyring import look

__all__ = ["check_machine"]

_OLDEST_KERNEL = (5, 4)
"""What cloudfs was ever run on; older ones lack parts of FUSE 7.31."""
_PATIENCE_S = 5.0


def check_machine(
    device: Path = Path("/dev/fuse"), release: str | None = None, table: Path = Path("/etc/mtab")
) -> Iterator[Finding]:
    """Look at all of it."""
    yield _kernel(platform.release() if release is None else release)
    yield _device(device)
    yield _fusermount(shutil.which("fusermount3"))
    yield _table(table)
    yield _library()
    yield _keyring()


def _kernel(release: str) -> Finding:
    found = re.match(r"(\d+)\.(\d+)", release)
    if found is None:
        return note("kernel", f"{release}: of unknown age")
    if (int(found[1]), int(found[2])) < _OLDEST_KERNEL:
        return note("kernel", f"{release} is older than any that cloudfs was tried on", "Update the system.")
    return fine("kernel", release)


def _device(device: Path) -> Finding:
    try:
        found = device.stat()
    except OSError:
        repair = "Load it with `sudo modprobe fuse`; in a container, start it with --device /dev/fuse."
        return problem("FUSE device", f"{device} does not exist", repair)
    if os.access(device, os.R_OK | os.W_OK):
        return fine("FUSE device", f"{device} can be opened")
    group = _group(found.st_gid)
    repair = f"Ask the administrator: `sudo chmod 0666 {device}`"
    if found.st_mode & (stat.S_IRGRP | stat.S_IWGRP) == stat.S_IRGRP | stat.S_IWGRP:
        repair = f"Ask the administrator: `sudo usermod -aG {group} USER`, then log in anew"
    mode = f"{stat.S_IMODE(found.st_mode):04o}"
    return problem(
        "FUSE device", f"{device} (group {group}, mode {mode}) may not be opened by you", f"{repair}."
    )


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _fusermount(program: str | None) -> Finding:
    if program is None:
        repair = "Install the package fuse3 (Debian, Ubuntu: `sudo apt install fuse3`)."
        return problem("fusermount3", "it is not installed", repair)
    is_setuid = bool(Path(program).stat().st_mode & stat.S_ISUID)
    if os.geteuid() != 0 and not is_setuid and not _has_capabilities(program):
        repair = f"Ask the administrator: `sudo chmod u+s {program}`, or install the package fuse3 anew."
        return problem("fusermount3", f"{program} is not setuid: only root can mount with it", repair)
    try:
        done = subprocess.run([program, "--version"], check=False, capture_output=True, timeout=_PATIENCE_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        return problem("fusermount3", f"{program} cannot be run: {error}", "Install the package fuse3 anew.")
    return fine("fusermount3", f"{program}, {done.stdout.decode(errors='replace').strip()}")


def _table(table: Path) -> Finding:
    """Fusermount3 unmounts for others than root only what is in it."""
    if os.geteuid() != 0 and not table.exists():
        repair = f"Ask the administrator: `sudo ln -s ../proc/self/mounts {table}`."
        return problem("mount table", f"{table} does not exist: only root can mount", repair)
    return fine("mount table", f"{table}" if table.exists() else "root needs none")


def _has_capabilities(program: str) -> bool:
    """Tell whether a distribution gave it the right to mount in another way than setuid."""
    try:
        return bool(os.getxattr(program, "security.capability"))
    except OSError:
        return False


def _library() -> Finding:
    if importlib.util.find_spec("pyfuse3") is None:
        return problem("pyfuse3", "it is not installed", "Install cloudfs anew.")
    return fine("pyfuse3", "it is installed")


def _keyring() -> Finding:
    match trio.run(look):
        case "absent":
            return fine(
                "keyring", "there is none: a login asks whether a file (0600) will do for its password"
            )
        case "silent":
            repair = "Log in with --secret-store file, or look what is the matter with it."
            return note("keyring", "it is there, and does not answer", repair)
        case state:
            return fine("keyring", f"it is there, and {'locked' if state == 'locked' else 'open'}")
