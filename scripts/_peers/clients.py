"""What is compared: how each client is mounted, made to forget everything, and asked whether all is on the server."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from scripts._peers.server import Server
from scripts._peers.usage import Usage

__all__ = ["Client", "TooSlow", "call", "find_program"]

_POLL_S = 0.05
_LOOK_S = 0.5
_KILLED_S = 2.0
_START_S = 60.0


class TooSlow(Exception):
    """A client took longer than anybody waits for it."""


def find_program(name: str) -> str | None:
    """Return the path of a program: of this .venv, of PATH, or of the administrator's folders."""
    folders = (f"{sys.prefix}/bin", os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin")
    return shutil.which(name, path=os.pathsep.join(folders))


class Client(ABC):
    """One way to reach the server's folder as a folder here. Mounted with its own defaults, and from scratch.

    What it kept of the server is put aside when it is to forget, and not removed before the end: ext4 makes files
    slowly where thousands have just been removed, and the disk would be busy with that during the next measurement.
    """

    name: ClassVar[str]
    program: ClassVar[str]

    def __init__(self, scratch: Path, server: Server) -> None:
        self.usage = Usage()
        self.server = server
        self.point = scratch / self.name
        self.home = scratch
        """Where it keeps things, until it forgets them."""
        self._scratch = scratch
        self._lives = 0
        self.point.mkdir()
        self.prepare(scratch)

    @classmethod
    def missing(cls) -> str | None:
        """Say why it cannot be used here; None when it can."""
        return None if find_program(cls.program) else f"{cls.program} is not installed"

    def begin(self) -> None:
        """Mount with nothing known of the server."""
        self.unmount()
        self._lives += 1
        self.home = self._scratch / f"{self.name}-{self._lives}"
        self.home.mkdir()
        self.mount()
        self.look()

    def look(self) -> None:
        """Note what its processes have used so far."""
        self.usage.look(self.pids())

    def kill(self) -> None:
        """Take it away, whatever it is doing."""
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        subprocess.run(
            ["umount", "-i", "-l", self.point],
            check=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def call(self, *command: str | Path, patience_s: float, given: str = "") -> str:
        """Run a program while its own processes are looked at; return what it said."""
        return call(*command, patience_s=patience_s, given=given, meanwhile=self)

    @abstractmethod
    def prepare(self, scratch: Path) -> None:
        """Do once what all mounts have in common."""

    @abstractmethod
    def mount(self) -> None:
        """Mount, with everything that it keeps in `home`."""

    @abstractmethod
    def unmount(self) -> None:
        """Unmount, if it is mounted."""

    @abstractmethod
    def sync(self, patience_s: float) -> None:
        """Return when all is on the server. Raises TooSlow. It may be unmounted after that."""

    @abstractmethod
    def pids(self) -> list[int]:
        """Return its processes as of now."""

    def is_mounted(self) -> bool:
        """Tell without asking the mount, which may hang."""
        mounts = Path("/proc/self/mounts").read_text().splitlines()
        return any(line.split()[1] == str(self.point) for line in mounts)

    def wait_mounted(self) -> None:
        """Wait for a client that does not say when its folder can be used. Raises TooSlow."""
        until_s = time.monotonic() + _START_S
        while not self.is_mounted():
            if time.monotonic() > until_s:
                raise TooSlow(f"{self.name} did not mount")
            time.sleep(_POLL_S)


def call(
    *command: str | Path,
    patience_s: float,
    given: str = "",
    meanwhile: Client | None = None,
    environment: dict[str, str] | None = None,
) -> str:
    """Run a program in a group of its own and return what it said. Raises TooSlow; CalledProcessError."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="surrogateescape",
        start_new_session=True,
        env=environment and {**os.environ, **environment},
    )
    until_s = time.monotonic() + patience_s
    while True:
        if meanwhile is not None:
            meanwhile.look()
        try:
            output, _ = process.communicate(given or None, timeout=_LOOK_S)
            break
        except subprocess.TimeoutExpired:
            given = ""  # is on its way
            if time.monotonic() < until_s:
                continue
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            _leave(process)
            raise TooSlow(f"over {patience_s:.0f} s") from None
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, output)
    return output


def _leave(process: subprocess.Popen[str]) -> None:
    """Wait a moment for the end of what was killed: one that hangs in a mount ends only when that does."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_KILLED_S)
