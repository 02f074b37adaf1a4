"""Times a mount of an account on a server against curl on the same server, in turn, and prints a Markdown table.

The account gets one file of --mib MiB in a folder of its own, which is removed in the end. No test looks at these
figures: this measures the machine, the server and whoever else is on them, so the ratio counts, and the middle of
several runs.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx

CLOUDFS = str(Path(sys.executable).with_name("cloudfs"))
ACCOUNT = "bench"
BIG = "big file"
_MIB = 1024 * 1024
_ROOM_BYTES = 4096 * _MIB
"""Beyond what the block cache leaves free: 5 % of the disk."""


@dataclass(frozen=True)
class Server:
    """Where the bench's folder is, and who may go there."""

    url: str
    user: str
    password: str

    @contextlib.contextmanager
    def folder(self) -> Iterator[Server]:
        """Make a folder for this run, and remove it."""
        inside = Server(f"{self.url.rstrip('/')}/bench-{secrets.token_hex(4)}", self.user, self.password)
        with httpx.Client(auth=(self.user, self.password), timeout=60) as client:
            client.request("MKCOL", inside.url).raise_for_status()
            try:
                yield inside
            finally:
                client.delete(inside.url).raise_for_status()

    def download(self, config: Path, into: str = os.devnull) -> float:
        """Return how long curl takes to get the big file, dropping it unless told where to."""
        config.touch(0o600)
        config.write_text(f'user = "{self.user}:{self.password}"\n')
        url = f"{self.url}/{BIG.replace(' ', '%20')}"
        command = ["curl", "-sSf", "-K", str(config), "-o", into, url]
        return _time(lambda: subprocess.run(command, check=True))


class Mount:
    """One account, mounted again and again; everything of it below one folder."""

    def __init__(self, home: Path, server: Server) -> None:
        self._home = home
        self._environment = {**os.environ, "CLOUDFS_HOME": str(home)}
        self.point = home / "mount point"
        self.point.mkdir()
        login = ["login", server.url, "--user", server.user, "--password-stdin", "--account", ACCOUNT]
        self._run(*login, "--secret-store", "file", given=server.password)

    def __enter__(self) -> Self:
        self._run("mount", ACCOUNT, str(self.point))
        return self

    def __exit__(self, *_: object) -> None:
        self._run("unmount", ACCOUNT)

    def cat(self) -> None:
        """Read the big file and drop it, as curl does."""
        with Path(os.devnull).open("wb") as nothing:
            subprocess.run(["cat", str(self.point / BIG)], stdout=nothing, check=True)

    def sync(self) -> None:
        """Wait until all is on the server."""
        self._run("sync", "--wait", str(self.point))

    def forget_contents(self) -> None:
        """Put the block cache aside; to be called while it is not mounted.

        Not removed before the end: the disk would still be busy with that while the next figure is taken. Where the
        block cache would soon have to give way to the disk's other users, that is waited for instead.
        """
        (self._home / "cache").rename(self._home / f"old cache {secrets.token_hex(4)}")
        disk = shutil.disk_usage(self._home)
        if disk.free < disk.total // 20 + _ROOM_BYTES:
            for old in self._home.glob("old cache *"):
                shutil.rmtree(old)
            os.sync()

    def seal(self) -> None:
        """Have it encrypted from now on; to be called while it is not mounted."""
        self._run("cache", "encrypt", ACCOUNT, "--key", "file")

    def configure(self, settings: str) -> None:
        """Add lines to the account's settings; to be called while it is not mounted."""
        account = self._home / f"config/accounts/{ACCOUNT}.toml"
        account.write_text(account.read_text().replace("[settings]", f"[settings]\n{settings}"))

    def status(self) -> dict[str, Any]:
        """Return what `status --json` prints."""
        told: dict[str, Any] = json.loads(self._run("status", ACCOUNT, "--json"))
        return told

    def cpu_s(self) -> float:
        """Return how much CPU the daemon has used."""
        pid = self.status()["pid"]
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_mib(self) -> tuple[float, float]:
        """Return what the daemon has in memory now, and the most that it ever had."""
        lines = Path(f"/proc/{self.status()['pid']}/status").read_text().splitlines()
        values = {
            line.split(":")[0]: line.split()[1] for line in lines if line.startswith(("VmRSS", "VmHWM"))
        }
        return int(values["VmRSS"]) / 1024, int(values["VmHWM"]) / 1024

    def _run(self, *arguments: str, given: str = "") -> str:
        done = subprocess.run(
            [CLOUDFS, *arguments],
            env=self._environment,
            input=given,
            text=True,
            stdout=subprocess.PIPE,
            check=True,
        )
        return done.stdout


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _time(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha1").hexdigest()


def _row(what: str, figure: str, goal: str = "") -> None:
    print(f"| {what} | {figure} | {goal} |", flush=True)


def _percents(ratios: list[float]) -> str:
    return ", ".join(f"{ratio:.0%}" for ratio in ratios)


def _write(mount: Mount, source: Path, mib: int) -> None:
    with mount:
        idle, _ = mount.memory_mib()
        _row("memory, nothing done yet", f"{idle:.0f} MiB", "80 MiB")
        copy = ["cp", str(source), str(mount.point / BIG)]
        took_s = _time(lambda: subprocess.run(copy, check=True))
        _row(f"cp of {mib} MiB into the mount", f"{took_s:.1f} s, {mib / took_s:.0f} MiB/s")
        _row("until all of it is on the server", f"{_time(mount.sync):.1f} s")
        _, most = mount.memory_mib()
        _row("memory added by that, at most", f"{most - idle:.0f} MiB", "100 MiB")


def _read(mount: Mount, server: Server, digest: str, runs: int) -> None:
    ratios, keeping, starts, added = [], [], [], []
    for _ in range(runs):
        mount.forget_contents()
        began = time.perf_counter()
        with mount:
            assert os.listdir(mount.point) == [BIG]  # noqa: PTH208, S101
            starts.append(time.perf_counter() - began)
            home = mount.point.parent
            theirs_s = server.download(home / "curl.conf")
            kept_s = server.download(home / "curl.conf", str(home / "download"))
            (home / "download").unlink()
            idle, _ = mount.memory_mib()
            ours_s = _time(mount.cat)
            ratios.append(theirs_s / ours_s)
            keeping.append(kept_s / ours_s)
            _, most = mount.memory_mib()
            added.append(most - idle)
            if _digest(mount.point / BIG) != digest:
                sys.exit("bench: the mount gave other bytes than were written")
    _row(
        f"mount and list the root, slowest {max(starts):.2f} s, middle",
        f"{statistics.median(starts):.2f} s",
        "1 s",
    )
    _row(
        f"cold sequential read, speed against curl's: middle of {_percents(ratios)}",
        f"{statistics.median(ratios):.0%}",
        "80 %",
    )
    # curl drops what it gets; the kernel keeps what is read through a mount, in memory that has to be found first.
    _row(
        f"the same against curl's into a new file: middle of {_percents(keeping)}",
        f"{statistics.median(keeping):.0%}",
    )
    _row("memory added by that, at most", f"{max(added):.0f} MiB", "100 MiB")


def _seal(mounts: dict[str, Mount], runs: int) -> None:
    """Read the big file through a plain and an encrypted mount in turn: cold, and again from the blocks on the disk."""
    mounts["sealed"].seal()
    took: dict[tuple[str, str], list[float]] = {}
    for run in range(runs):
        for form in sorted(mounts, reverse=bool(run % 2)):
            mount = mounts[form]
            mount.forget_contents()
            for how in ("cold", "warm"):
                with mount:
                    os.listdir(mount.point)  # noqa: PTH208  # so that it is known what is there
                    before_s = mount.cpu_s()
                    took.setdefault((form, how), []).append(_time(mount.cat))
                    took.setdefault((form, f"{how}, CPU"), []).append(mount.cpu_s() - before_s)
    for how in ("cold", "warm"):
        for what in (how, f"{how}, CPU"):
            plain, sealed = (statistics.median(took[form, what]) for form in ("plain", "sealed"))
            _row(f"{what}: plain {plain:.2f} s, encrypted {sealed:.2f} s", f"{sealed / plain - 1:+.0%}")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="scripts/bench mount", description=__doc__)
    parser.add_argument("--url", required=True, help="of a WebDAV folder")
    parser.add_argument("--user", required=True)
    parser.add_argument(
        "--password-file", type=Path, required=True, help="its first line is the (app) password"
    )
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--sealed", action="store_true", help="only: encrypted against plain, in turn")
    options = parser.parse_args()
    password = options.password_file.read_text().splitlines()[0]
    with (
        tempfile.TemporaryDirectory(prefix="cloudfs-bench-") as name,
        Server(options.url, options.user, password).folder() as server,
    ):
        home = Path(name)
        source = home / "source"
        with source.open("wb") as file:
            for _ in range(options.mib):
                file.write(os.urandom(_MIB))
        print("| what | figure | goal |\n|---|---|---|")
        if options.sealed:
            mounts = {form: Mount(_made(home / form), server) for form in ("plain", "sealed")}
            with mounts["plain"] as plain:
                subprocess.run(["cp", str(source), str(plain.point / BIG)], check=True)
                plain.sync()
            _seal(mounts, options.runs)
            return
        mount = Mount(home, server)
        _write(mount, source, options.mib)
        _read(mount, server, _digest(source), options.runs)


if __name__ == "__main__":
    main()
