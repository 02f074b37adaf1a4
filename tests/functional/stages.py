"""Where a driver comes from, and how its changes are brought to the server."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

import trio

from cloudfs.engine import Engine, EngineConfig, open_engine
from cloudfs.errors import NotFound
from cloudfs.metadata.changes import NullSink
from cloudfs.remote.connect import discover
from cloudfs.remote.files import WebdavRemote
from cloudfs.sync.eagerness import WorkerConfig
from cloudfs.sync.troubles import Trouble
from cloudfs.types import ROOT, Ino
from tests.functional.drivers import Driver, OsDriver, VfsDriver
from tests.servers import StandIn
from tests.tooling import daemons

USER, PASSWORD = "alice", "alice-Pass-123"
REPOSITORY = Path(__file__).parents[2]
T = TypeVar("T")


class Server(Protocol):
    """A server that something can be logged in to."""

    @property
    def url(self) -> str:
        """Its address."""
        ...


class Stage(Protocol):
    """One file system under test."""

    def driver(self, folder: str) -> Driver:
        """Return a driver for an empty folder of this name."""
        ...

    def sync(self) -> None:
        """Bring everything to the server."""
        ...

    def close(self) -> None:
        """End it; nothing is left behind."""
        ...


class PlainStage:
    """A folder of this machine: what the others are compared with."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def driver(self, folder: str) -> Driver:
        (self._root / folder).mkdir()
        return OsDriver(self._root / folder)

    def sync(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        shutil.rmtree(self._root)


class VfsStage:
    """The engine in a thread of this process, without a mount."""

    def __init__(
        self,
        home: Path,
        server: Server,
        *,
        quiet_s: float = 0.1,
        listing_ttl_s: float = 5.0,
        user: str = USER,
        password: str = PASSWORD,
        **more: Any,
    ) -> None:
        """`more` are fields of EngineConfig."""
        self._password = password
        self._home = home
        self._more = more
        self._quiet_s, self._listing_ttl_s = quiet_s, listing_ttl_s
        self._site = trio.run(discover, server.url, user, password)
        self.reopen()

    def reopen(self) -> None:
        """Open the engine from what is on the disk, after `close`."""
        self._ready = threading.Event()
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self._ready.wait(30)
        if self._failed is not None:
            raise self._failed

    def _run(self) -> None:
        try:
            trio.run(self._main)
        except BaseException as error:  # noqa: BLE001  # handed to the test's thread
            self._failed = error
            self._ready.set()

    async def _main(self) -> None:
        remote = WebdavRemote(self._site, self._password)
        for name in ("state", "cache"):
            (self._home / name).mkdir(parents=True, exist_ok=True)
        config = EngineConfig(
            state=self._home / "state",
            cache=self._home / "cache",
            listing_ttl_s=self._listing_ttl_s,
            worker=WorkerConfig(quiet_s=self._quiet_s),
            **{"cache_bytes": 1 << 28, "cache_keep_free_bytes": 0, **self._more},
        )
        async with open_engine(config, remote, NullSink()) as engine:
            self.engine: Engine = engine
            self.token = trio.lowlevel.current_trio_token()
            self._stop = trio.Event()
            self._ready.set()
            await self._stop.wait()
        await remote.aclose()

    def driver(self, folder: str) -> Driver:
        VfsDriver(self.engine.filesystem, self.token, "").mkdir(folder)
        return VfsDriver(self.engine.filesystem, self.token, folder)

    def root(self) -> VfsDriver:
        """Return a driver for the whole account."""
        return VfsDriver(self.engine.filesystem, self.token, "")

    def wait(self, condition: Callable[[], bool]) -> None:
        """Wait for something that happens on the loop, where `condition` is asked too."""
        wait_until(lambda: trio.from_thread.run_sync(condition, trio_token=self.token))

    def call(self, work: Callable[[], Awaitable[T]]) -> T:
        """Have something done on the loop, and wait for it."""

        async def bounded() -> T:
            with trio.fail_after(60):
                return await work()

        return trio.from_thread.run(bounded, trio_token=self.token)

    def call_sync(self, work: Callable[[], T]) -> T:
        """Have something done on the loop that does not wait."""
        return trio.from_thread.run_sync(work, trio_token=self.token)

    def sync(self) -> None:
        assert self.send() == []

    def send(self) -> list[Trouble]:
        """Bring to the server what can go there; return what cannot."""

        async def wait() -> list[Trouble]:
            with trio.fail_after(60):
                return await self.engine.worker.wait_synced(lambda _: True)

        return trio.from_thread.run(wait, trio_token=self.token)

    def look(self, *folders: str) -> None:
        """List every folder anew, as if its time to live had passed and it were used; or all in some of the root's."""

        async def refresh(ino: Ino) -> None:
            with contextlib.suppress(NotFound):
                await self.engine.lister.refresh(ino)
            for child in self.engine.store.nodes.children(ino):
                if child.folder and child.synced:
                    await refresh(child.ino)

        async def everything() -> None:
            if not folders:
                await refresh(ROOT)
            for folder in folders:
                await refresh((await self.engine.filesystem.lookup(ROOT, os.fsencode(folder))).ino)

        trio.from_thread.run(everything, trio_token=self.token)

    def look_at_root(self) -> None:
        """List the root anew, and nothing below it."""
        trio.from_thread.run(self.engine.lister.refresh, ROOT, trio_token=self.token)

    def restart(self) -> None:
        """End the engine and open it again from what it left on the disk."""
        self.close()
        self.reopen()

    def close(self) -> None:
        trio.from_thread.run_sync(self._stop.set, trio_token=self.token)
        self._thread.join(30)
        if self._failed is not None:
            raise self._failed


class MountStage:
    """The real thing: `cloudfs login`, `cloudfs mount`, system calls."""

    def __init__(
        self,
        home: Path,
        server: Server,
        *,
        settings: str = "",
        user: str = USER,
        password: str = PASSWORD,
        ca_file: Path | None = None,
    ) -> None:
        self.environ = {**os.environ, "CLOUDFS_HOME": str(home), "PYTHONPATH": str(REPOSITORY)}
        self.mount_point = home.with_name(home.name + "-cloud")
        self.mount_point.mkdir()
        self.home = home
        trust = ("--ca-file", str(ca_file)) if ca_file else ()
        self.cloudfs(
            "login", server.url, "--user", user, "--password-stdin", "--account", "a", *trust, stdin=password
        )
        if (
            "cache_keep_free_bytes" not in settings
        ):  # caching does not depend on how full this machine's disk is
            settings = f"cache_keep_free_bytes = 0\n{settings}"
        account = home / "config/accounts/a.toml"
        text = account.read_text()
        if "cache_encrypt" in settings:  # which a login with a keyring says, too
            text = text.replace("cache_encrypt = true\n", "")
        account.write_text(text.replace("[settings]", f"[settings]\n{settings}"))
        self.mount()

    def cloudfs(self, *words: str, stdin: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command of the command line."""
        done = subprocess.run(
            self.command(*words),
            check=False,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=90,
            env=self.environ,
        )
        assert not check or done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done

    @staticmethod
    def command(*words: str) -> list[str]:
        """Return what runs a command of the command line, with `environ`."""
        return [sys.executable, "-m", "cloudfs.cli.main", *words]

    def mount(self) -> None:
        """Mount; returns when it answers."""
        self.cloudfs("mount", "a", str(self.mount_point))

    def status(self) -> dict[str, object]:
        """Return what `status --json` prints."""
        answer = json.loads(self.cloudfs("status", "--json").stdout)
        assert isinstance(answer, dict)
        return answer

    def memory(self, line: str) -> int:
        """Return bytes of the daemon's memory: `VmRSS` now, `VmHWM` the most there ever were."""
        status = Path(f"/proc/{self.status()['pid']}/status").read_text()
        return int(next(it for it in status.splitlines() if it.startswith(line)).split()[1]) * 1024

    def kill(self) -> None:
        """kill -9; the dead mount stays until the next `mount`."""
        pid = self.status()["pid"]
        assert isinstance(pid, int)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not Path(f"/proc/{pid}").exists() or _is_zombie(pid))

    def wait(self, condition: Callable[[], bool]) -> None:
        """Wait for something that the daemon does in the background."""
        wait_until(condition)

    def driver(self, folder: str) -> Driver:
        (self.mount_point / folder).mkdir()
        return OsDriver(self.mount_point / folder)

    def sync(self) -> None:
        self.cloudfs("sync", "--wait", "--timeout", "60")

    def close(self) -> None:
        daemons.complain(self.home)
        try:
            self.cloudfs("unmount", "a", check=False)
        finally:
            subprocess.run(["fusermount3", "-uz", str(self.mount_point)], check=False, capture_output=True)
        assert not os.path.ismount(self.mount_point)


def unhurried(folder: Path, server: StandIn) -> Iterator[VfsStage]:
    """Give a stage that has seen the whole account, and from which nothing goes up by itself: for a fixture."""
    made = VfsStage(folder, server, quiet_s=3600.0)
    made.look()
    yield made
    made.close()


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def wait_until(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(1000):
        if condition():
            return
        pause.wait(0.01)
    message = "waited 10 s in vain"
    raise AssertionError(message)
