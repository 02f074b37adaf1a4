"""Measures an account of very many files: how long the loop is held at a time, what memory that takes, the start.

    scripts/bench many [--nodes 100000] [--known 200000 1000000] [--where]

A stall is the time between two checkpoints of one task: so long no program is answered. It is told by the wall clock,
and by the CPU time of the loop's thread, which the machine's other work does not lengthen. `--where` names the places.
"""

from __future__ import annotations

import argparse
import gc
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import CoroutineType

import msgspec
import trio

from cloudfs.engine import Engine, EngineConfig, open_engine
from cloudfs.errors import NotFound, Unreachable
from cloudfs.metadata.changes import NullSink
from cloudfs.sync.backlog import count_below
from cloudfs.sync.eagerness import WorkerConfig
from cloudfs.types import ROOT, Ino, Kind, RemoteEntry, RemotePath, RemoteVersion
from cloudfs.vfs.records import RenameMode
from scripts._bench_trees import Tree, edited
from tests.model.account import Account
from tests.model.fake_remote import NEXTCLOUD, FakeRemote

_T0_S = 1_700_000_000
_FOLDERS = 50
_GOAL_S = 0.02
_START_S = 1.0
_MB = 1024 * 1024
_CHILD = "measured"


# What holds the loop


@dataclass(eq=False)
class Stalls(trio.abc.Instrument):
    """The longest step of any task."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    where: str = ""
    _began: tuple[float, float] | None = None

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        del task
        self._began = time.perf_counter(), time.thread_time()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if self._began is None:
            return
        wall_s, cpu_s = time.perf_counter() - self._began[0], time.thread_time() - self._began[1]
        self.wall_s = max(self.wall_s, wall_s)
        if cpu_s > self.cpu_s:
            self.cpu_s, self.where = cpu_s, _place(task)


def _place(task: trio.lowlevel.Task) -> str:
    """Name where a task waits now, at the end of its step."""
    names: list[str] = []
    waiting: object = task.coro
    while isinstance(waiting, CoroutineType) and waiting.cr_frame is not None:
        names.append(f"{waiting.__name__}:{waiting.cr_frame.f_lineno}")
        waiting = waiting.cr_await
    return " ".join(names[-4:]) or f"the end of {task.name}"


async def _stalls(work: Callable[[], Awaitable[object]]) -> tuple[Stalls, float]:
    """Do something; return what held the loop meanwhile, and how long it took."""
    stalls, began = Stalls(), time.perf_counter()
    trio.lowlevel.add_instrument(stalls)
    try:
        await trio.lowlevel.checkpoint()  # the step that began to measure is not measured
        await work()
        await trio.lowlevel.checkpoint()
    finally:
        trio.lowlevel.remove_instrument(stalls)
    return stalls, time.perf_counter() - began


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    value: str
    goal: str = ""
    missed: bool = False
    note: str = ""

    def __str__(self) -> str:
        return f"| {self.what} | {self.value}{' **missed**' * self.missed} | {self.goal} |{self.note}"


def _row(what: str, stalls: Stalls, took_s: float, *, where: bool) -> Row:
    value = f"{stalls.wall_s * 1e3:.1f} ms ({stalls.cpu_s * 1e3:.1f} ms of CPU), {took_s:.2f} s in all"
    return Row(what, value, "20 ms", stalls.cpu_s > _GOAL_S, f" {stalls.where}" if where else "")


# A server that lists what is prepared


@dataclass
class Prepared(FakeRemote):
    """Its listings cost the loop nothing. `away`: it cannot be reached."""

    away: bool = False
    folders: dict[str, tuple[RemoteEntry, list[RemoteEntry]]] = field(default_factory=dict)

    def hold(self, name: str, count: int) -> None:
        """Have a folder in the root with so many files."""
        path = f"/{name}"
        members = [_entry(f"{path}/file {n:06}", f"{name}.{n}") for n in range(count)]
        own = _entry(path, name, folder=True)
        self.folders[path] = own, members
        self._change_root([*self.folders["/"][1], own])

    def take(self, name: str) -> None:
        """Have it no more."""
        del self.folders[f"/{name}"]
        self._change_root([it for it in self.folders["/"][1] if it.name != name])

    def _change_root(self, members: list[RemoteEntry]) -> None:
        root = self.folders["/"][0]
        version = msgspec.structs.replace(root.version, etag=f"{root.version.etag}'")
        self.folders["/"] = msgspec.structs.replace(root, version=version), members

    async def list_folder(self, path: RemotePath) -> tuple[RemoteEntry, list[RemoteEntry]]:
        await trio.sleep(0.001)
        if self.away:
            raise Unreachable("it is away", subject=path)
        if path not in self.folders:
            raise NotFound("it does not exist", subject=path, status=404)
        own, members = self.folders[path]
        return own, list(members)  # which the listing takes apart

    async def delete(self, path: RemotePath, *, expect: RemoteVersion | None = None) -> None:
        del expect
        await trio.sleep(0.001)
        if path.count("/") == 1:
            self.take(path[1:])


def _entry(path: str, number: str, *, folder: bool = False) -> RemoteEntry:
    kind = Kind.FOLDER if folder else Kind.FILE
    version = RemoteVersion(f"etag of {number}", 0 if folder else 4096, _T0_S)
    return RemoteEntry(RemotePath(path), kind, version, number, "RGDNVCK" if folder else "RGDNVW")


def _remote(*, away: bool = False) -> Prepared:
    # Without ETags that tell of what is below nobody looks for changes but us.
    features = msgspec.structs.replace(NEXTCLOUD, deep_etags=False, depth_infinity=False)
    root = RemoteEntry(RemotePath("/"), Kind.FOLDER, RemoteVersion("root", 0, _T0_S), "1", "RGDNVCK")
    return Prepared(features=features, account=Account(lambda: _T0_S), folders={"/": (root, [])}, away=away)


def _config(folder: Path, *, parallel: int = 4) -> EngineConfig:
    return EngineConfig(
        state=folder,
        cache=folder / "cache",
        cache_bytes=64 * _MB,
        cache_keep_free_bytes=0,
        poll_s=0,
        delete_guard=0,
        delete_guard_server=0,
        worker=WorkerConfig(quiet_s=3600.0, parallel=parallel),
    )


# Listings, and what goes


class Measured:
    """One engine with a prepared server."""

    def __init__(self, engine: Engine, remote: Prepared, count: int, *, where: bool) -> None:
        self.engine = engine
        self.remote = remote
        self.count = count
        self._where = where

    async def row(self, what: str, work: Callable[[], Awaitable[object]]) -> Row:
        return _row(what, *await _stalls(work), where=self._where)

    def ino(self, name: str) -> Ino:
        node = self.engine.store.nodes.child(ROOT, name)
        assert node is not None  # noqa: S101  # it was listed
        return node.ino

    async def root(self) -> None:
        await self.engine.lister.refresh(ROOT)

    async def list(self, *names: str) -> None:
        """List folders, two at a time as the watcher does."""
        left = iter([self.ino(name) for name in names])

        async def work() -> None:
            for ino in left:
                await self.engine.lister.refresh(ino)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(work)
            nursery.start_soon(work)

    async def read(self, name: str) -> None:
        """Read a folder as `ls -l` does, page by page."""
        filesystem, after = self.engine.filesystem, 0
        handle = await filesystem.open_folder(self.ino(name))
        while True:
            entries = await filesystem.read_folder(handle, after)
            page = [entry for entry, _ in zip(entries, range(64), strict=False)]
            if not page:
                break
            after += len(page)
            await trio.lowlevel.checkpoint()
        await filesystem.release_folder(handle)

    async def remove(self, name: str) -> None:
        """`rm -r`."""
        filesystem, folder = self.engine.filesystem, self.ino(name)
        for member in self.remote.folders[f"/{name}"][1]:
            await filesystem.unlink(folder, member.name.encode())
            await trio.lowlevel.checkpoint()
        await filesystem.rmdir(ROOT, name.encode())

    async def sent(self) -> None:
        await self.engine.worker.wait_synced(lambda _: True)


async def _listing(folder: Path, count: int, *, where: bool) -> list[Row]:
    remote, rows = _remote(), []
    many = [f"part {n}" for n in range(_FOLDERS)]
    for name in many:
        remote.hold(name, count // _FOLDERS)
    for name in ("big", "gone", "removed", "renamed"):
        remote.hold(name, count)
    async with open_engine(_config(folder), remote, NullSink()) as engine:
        it = Measured(engine, remote, count, where=where)
        await it.root()
        rows.append(await it.row(f"first listing, {count:,} in 50 folders", partial(it.list, *many)))
        rows.append(await it.row(f"the same unchanged, {count:,} in 50 folders", partial(it.list, *many)))
        rows.append(await it.row(f"first listing, {count:,} in one folder", partial(it.list, "big")))
        rows.append(await it.row(f"the same unchanged, {count:,} in one folder", partial(it.list, "big")))
        rows.append(await it.row(f"reading a folder of {count:,}", partial(it.read, "big")))
        await it.list("gone", "removed", "renamed")
        remote.take("gone")
        rows.append(await it.row(f"a folder of {count:,} is gone on the server", it.root))
        renaming = partial(engine.filesystem.rename, ROOT, b"renamed", ROOT, b"renamed~", RenameMode(0))
        rows.append(await it.row(f"`rm -r` of {count:,}", partial(it.remove, "removed")))
        rows.append(await it.row("its removal on the server", it.sent))

        async def rename() -> None:
            await renaming()
            await trio.sleep(1)

        # Last: what is kept of it would be fetched.
        rows.append(await it.row(f"a folder of {count:,} goes to a name of this machine alone", rename))
    return rows


# A backlog


async def _pending(folder: Path, count: int, *, where: bool) -> list[Row]:
    tree = Tree(folder / "state.sqlite", count, synced=True)
    tree.change(edited)
    tree.store.close()
    async with open_engine(_config(folder, parallel=0), _remote(away=True), NullSink()) as engine:
        nodes = engine.store.nodes

        async def status() -> None:
            nodes.count_dirty()
            await trio.lowlevel.checkpoint()
            nodes.bytes_to_send()
            await trio.lowlevel.checkpoint()
            engine.obstacles.all_blocked()
            await trio.lowlevel.checkpoint()
            engine.deletions.removed()
            await trio.lowlevel.checkpoint()
            await count_below(nodes, "/", lambda _: False)

        found, took_s = await _stalls(status)
        return [_row(f"status with {count:,} pending", found, took_s, where=where)]


# Memory and the start, each in a process of its own


def _known(state: Path, files: int) -> None:
    """Print the memory of a process whose kernel knows every file, and how long its start took."""
    trio.run(_know, state, files)


async def _know(state: Path, files: int) -> None:
    import cloudfs.cli.main  # noqa: PLC0415  # what a daemon has loaded

    del cloudfs
    began = time.perf_counter()
    async with open_engine(_config(state), _remote(away=True), NullSink()) as engine:
        started_s = time.perf_counter() - began
        seen = 0
        for folder in engine.store.nodes.child_inos(ROOT):
            for ino in engine.store.nodes.child_inos(Ino(folder)):
                engine.filesystem.remember(Ino(ino))
                seen += 1
            await trio.lowlevel.checkpoint()
        if seen < files:
            raise SystemExit(f"only {seen} of {files} files")
        sys.stdout.write(f"{started_s} {_resident_bytes()}\n")


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _memory(folder: Path, known: int, goal_mb: int | None) -> Iterator[Row]:
    place = folder / f"known {known}"
    place.mkdir()
    Tree(place / "state.sqlite", known, synced=True).store.close()
    command = [sys.executable, "-m", __spec__.name, _CHILD, str(place), str(known)]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # ours
    started_s, resident = map(float, told.split())
    goal = "" if goal_mb is None else f"{goal_mb} MB"
    missed = goal_mb is not None and resident > goal_mb * 1e6
    yield Row(
        f"memory, {known:,} files known here and to the kernel", f"{resident / 1e6:.0f} MB", goal, missed
    )
    yield Row(f"start with {known:,} files", f"{started_s * 1e3:.0f} ms", "1 s", started_s > _START_S)


_GOALS_MB = {200_000: 120, 1_000_000: 250}


def main() -> None:
    """Print the table."""
    if sys.argv[1:2] == [_CHILD]:
        _known(Path(sys.argv[2]), int(sys.argv[3]))
        return
    parser = argparse.ArgumentParser(prog="scripts/bench many", description=__doc__)
    parser.add_argument("--nodes", type=int, default=100_000, help="of a listing, a removal or a backlog")
    parser.add_argument("--known", type=int, nargs="*", default=list(_GOALS_MB), help="files to know")
    parser.add_argument("--where", action="store_true", help="name the place that held the loop longest")
    options = parser.parse_args()
    gc.freeze()  # as the daemon does
    print("| what | longest stall, or else what is said | goal |\n|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="cloudfs-bench-") as name:
        for measure in (_listing, _pending) if options.nodes else ():
            place = Path(name) / measure.__name__
            place.mkdir()
            for row in trio.run(partial(measure, place, options.nodes, where=options.where)):
                print(row, flush=True)
        for known in options.known:
            for row in _memory(Path(name), known, _GOALS_MB.get(known)):
                print(row, flush=True)


if __name__ == "__main__":
    main()
