"""One client's turn at one kind of work: its programs, its folder, and what is noted of it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from scripts._peers.clients import Client, TooSlow
from scripts._peers.figures import Figure
from scripts._peers.proxy import DelayProxy
from scripts._peers.server import Server

__all__ = ["Turn", "Wrong", "take_turn"]

_PROGRAMS = Path(__file__).with_name("programs.py")
_SETTLES_S = 0.5
"""Requests that a program did not wait for belong to what caused them."""
_QUIET_S = 2.0
"""A client that has said nothing for so long has begun."""
_BEGINS_S = 15.0


class Wrong(Exception):
    """A client gave something else than what is there."""


@dataclass
class Turn:
    """What a kind of work needs. Paths are names in the bench's folder on the server."""

    client: Client
    server: Server
    """Straight, for what is not measured."""
    proxy: DelayProxy
    sources: Path
    rtt_ms: int
    patience_s: float
    work: str
    scratch: str
    """A folder for this turn alone, made when it is asked for by `own_folder`."""
    figures: list[Figure] = field(default_factory=list)
    depth: int = 0
    """How many measurements are under way."""

    def path(self, name: str) -> Path:
        """Return where that is in the mount."""
        return self.client.point / name

    def own_folder(self) -> str:
        """Make the turn's folder on the server, before the client is mounted; return its name."""
        self.server.make(self.scratch)
        return self.scratch

    def begin(self) -> None:
        """Mount the client with nothing known, and wait until it has said all that it says at its start."""
        self.client.begin()
        until_s = time.monotonic() + _BEGINS_S
        said = self.proxy.traffic()
        while time.monotonic() < until_s:
            time.sleep(_QUIET_S)
            before, said = said, self.proxy.traffic()
            if said == before:
                return

    def run(self, *command: str | Path) -> str:
        """Run a program. Raises TooSlow; Wrong where it fails."""
        try:
            return self.client.call(*command, patience_s=self.patience_s)
        except subprocess.CalledProcessError as error:
            raise Wrong(f"{command[0]}: {str(error.output).strip()[-200:]}") from error

    def own_program(self, name: str, path: Path) -> str:
        """Run one of `programs`."""
        return self.run(sys.executable, _PROGRAMS, name, path)

    def sync(self) -> None:
        """Wait until all is on the server, as far as the client knows."""
        self.client.sync(self.patience_s)

    def expect(self, what: str, is_: object, wanted: object) -> None:
        """Have what was just measured count as failed where this is not so."""
        if is_ != wanted:
            self.figures[-1] = msgspec.structs.replace(
                self.figures[-1], failed=f"{what}: {is_} instead of {wanted}"
            )

    @contextlib.contextmanager
    def measured(self, part: str) -> Iterator[None]:
        """Note a figure of what happens inside, also where it comes to no end."""
        work = f"{self.work}: {part}" if part else self.work
        self.client.look()
        cpu_s, before, began_s = self.client.usage.cpu_s, self.proxy.traffic(), time.perf_counter()
        failed = ""
        self.depth += 1
        try:
            yield
        except (TooSlow, Wrong) as error:
            failed = str(error)
            raise
        finally:
            took_s = time.perf_counter() - began_s
            self.depth -= 1
            if not self.depth:
                time.sleep(_SETTLES_S)
            self.client.look()
            traffic = self.proxy.traffic() - before
            peak_mib, methods = self.client.usage.peak_mib, dict(traffic.methods)
            self.figures.append(
                Figure(
                    self.rtt_ms, work, self.client.name, took_s, traffic.requests, traffic.down_bytes,
                    traffic.up_bytes, self.client.usage.cpu_s - cpu_s, methods, peak_mib,
                    failed=failed,
                )
            )  # fmt: skip


def take_turn(turn: Turn, act: Callable[[Turn], None]) -> list[Figure]:
    """Do one kind of work with a client that knows nothing yet. One that hangs is taken away; that is a figure too."""
    try:
        act(turn)
    except (TooSlow, Wrong, subprocess.CalledProcessError, OSError) as error:
        if not any(it.failed for it in turn.figures):
            turn.figures.append(Figure(turn.rtt_ms, turn.work, turn.client.name, 0.0, failed=str(error)))
        turn.client.kill()
    finally:
        with contextlib.suppress(TooSlow, subprocess.CalledProcessError):
            turn.client.unmount()
        turn.client.kill()
    return turn.figures
