"""A mount in a process of its own, made by exec; the tests are its clients."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]


class Server:
    """A running `tests.fuse.serve`."""

    def __init__(self, mount_point: Path, log: Path, *options: str) -> None:
        self.mount_point = mount_point
        self.log_file = log
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.fuse.serve", str(mount_point), *options],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=REPOSITORY,
            )
        self.first = self.read()

    def read(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {}
        return answer

    def command(self, *words: object) -> Any:
        assert self.process.stdin
        self.process.stdin.write(json.dumps(words).encode() + b"\n")
        self.process.stdin.flush()
        return self.read()["answer"]

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = self.command("state")
        return state

    def announce(self, method: str, *arguments: object, **options: object) -> None:
        self.command("announce", method, arguments, options)

    def calls(self, name: str) -> list[str]:
        return [call for call in self.state()["calls"] if call.startswith(f"('{name}'")]

    def end(self, signal_number: int = signal.SIGTERM) -> dict[str, Any]:
        """End it, and return its last words."""
        self.process.send_signal(signal_number)
        last = self.read()
        self.process.wait(timeout=20)
        return last

    def log(self) -> str:
        return self.log_file.read_text()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        subprocess.run(["fusermount3", "-uz", self.mount_point], check=False, capture_output=True, timeout=20)
        self.process.wait(timeout=20)
        for stream in (self.process.stdin, self.process.stdout):
            if stream:
                try:
                    stream.close()
                except BrokenPipeError:
                    continue


Serve = Callable[..., Server]


@pytest.fixture
def mount_point(tmp_path: Path) -> Path:
    folder = tmp_path / "mount point"
    folder.mkdir()
    return folder


@pytest.fixture
def serve(tmp_path: Path, mount_point: Path) -> Iterator[Serve]:
    servers: list[Server] = []

    def start(*options: str, at: Path | None = None) -> Server:
        servers.append(Server(at or mount_point, tmp_path / "server.log", *options))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def served(serve: Serve) -> Server:
    server = serve()
    assert server.first == {"ready": True}, server.log()
    return server


def is_mounted(path: Path) -> bool:
    """Look without touching it: a dead mount would answer with an error."""
    escaped = os.fspath(path).replace(" ", r"\040")
    return any(
        line.split(" ")[4] == escaped for line in Path("/proc/self/mountinfo").read_text().splitlines()
    )
