"""What the plain servers have in common."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

_START_TIMEOUT_S = 20.0
_STOP_TIMEOUT_S = 5.0


class ServerUnavailable(Exception):  # a condition of the machine, not a fault
    """The server's program is not installed: tests skip at a desk and fail in CI."""


class PlainServer(ABC):
    """A WebDAV server: ``url`` (with a trailing slash), ``user``, ``password``, and ``root``, its folder on disk.

    As a context manager it starts and stops. `write`, `mkdir` and `delete` are another client, straight on disk.
    """

    user = "tester"
    password = "tester-Pass-123"  # of a server that lives for a test

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="plain-")
        self.folder = Path(self._folder.name)
        self.root = self.folder / "root"
        self.root.mkdir()
        self.port = 0

    @property
    def url(self) -> str:
        """Where the tree begins."""
        return f"http://127.0.0.1:{self.port}/"

    @abstractmethod
    def start(self) -> Self:
        """Listen; raises `ServerUnavailable` when the program is missing."""

    @abstractmethod
    def stop(self) -> None:
        """End the server; the folder stays until `close`."""

    def close(self) -> None:
        """Stop and delete the folder."""
        self.stop()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def write(self, path: str, data: bytes, *, mtime: float | None = None) -> None:
        """Create or overwrite a file; missing parents are made."""
        target = self._local(path)
        self.mkdir(str(Path(path.lstrip("/")).parent))
        target.write_bytes(data)
        if mtime is not None:
            os.utime(target, (mtime, mtime))
        self.hand_over(target)

    def mkdir(self, path: str) -> None:
        """Make a folder and its parents."""
        folder = self.root
        for name in Path(path.lstrip("/")).parts:
            folder /= name
            if not folder.exists():
                folder.mkdir()
                self.hand_over(folder)

    def delete(self, path: str) -> None:
        """Remove a file, or a folder with everything in it."""
        target = self._local(path)
        if target.is_dir():
            shutil.rmtree(target)
        else:
            target.unlink()

    def read(self, path: str) -> bytes:
        """A file's content."""
        return self._local(path).read_bytes()

    def tree(self) -> dict[str, bytes | None]:
        """Everything: path to content, ``None`` for folders. What starts with a dot is the server's own."""
        found = {path.relative_to(self.root): path for path in sorted(self.root.rglob("*"))}
        return {
            str(name): None if path.is_dir() else path.read_bytes()
            for name, path in found.items()
            if not any(part.startswith(".") for part in name.parts)
        }

    def hand_over(self, path: Path) -> None:
        """Let the server's own user write what was made beside it; most servers run as the tests do."""
        del path

    def _local(self, path: str) -> Path:
        return self.root / path.lstrip("/")


class ProcessServer(PlainServer):
    """A server that is a child process."""

    def __init__(self) -> None:
        super().__init__()
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> tuple[Sequence[str], dict[str, str]]:
        """The program with its arguments for ``self.port``, and what to add to its environment."""

    def start(self) -> Self:
        """Start the program and wait until it listens."""
        self.port = self.port or free_port()
        arguments, environment = self.command()
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(  # our own command line
                arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=os.environ | environment
            )
        self._wait_listening(self._process)
        return self

    def stop(self) -> None:
        """End the program, the hard way if it takes long."""
        if self._process is None:
            return
        process, self._process = self._process, None
        process.terminate()
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _wait_listening(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline and process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            time.sleep(0.02)
        log = (self.folder / "log").read_text(errors="replace")
        self.stop()
        message = f"{type(self).__name__} did not start:\n{log}"
        raise RuntimeError(message)


def free_port() -> int:
    """A port nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def program(name: str, *folders: str) -> str:
    """Path of a program, looked for in these folders before PATH; raises `ServerUnavailable`."""
    path = os.pathsep.join([*folders, os.environ.get("PATH", os.defpath)])
    found = shutil.which(name, path=path)
    if found is None:
        raise ServerUnavailable(name)
    return found
