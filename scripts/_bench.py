"""Times the engine with many nodes: planning a backlog, merging a listing, answering programs beside a backlog.

No test looks at these figures: they depend on the machine. Goals are for one of two cores of a small server.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio

from cloudfs.engine import Engine, EngineConfig, open_engine
from cloudfs.metadata.changes import NullSink
from cloudfs.metadata.merge import merge_folder
from cloudfs.store.store import Store
from cloudfs.sync.planner import plan, runnable
from cloudfs.types import ROOT, Ino, Kind, RemoteEntry, RemotePath, RemoteVersion
from scripts._bench_trees import FOLDERS, Tree, columns_of, edited, removed, renamed, touched
from tests.model.account import Account
from tests.model.fake_remote import FakeRemote
from tests.model.faults import FaultKind, FaultPlan

_T0_S = 1_700_000_000
_PROBES = 3000


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    took_s: float
    goal_s: float | None = None

    def __str__(self) -> str:
        goal = "" if self.goal_s is None else _readable(self.goal_s)
        missed = "" if self.goal_s is None or self.took_s <= self.goal_s else " **missed**"
        return f"| {self.what} | {_readable(self.took_s)}{missed} | {goal} |"


def _readable(seconds: float) -> str:
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


# Planning and merging


def _planning(folder: Path, count: int) -> Iterator[Row]:
    cases: list[tuple[str, bool, Callable[[int, Ino], dict[str, object]] | None]] = [
        ("new", False, None),
        ("edited", True, edited),
        ("renamed", True, renamed),
        ("removed", True, removed),
        ("touched", True, touched),
    ]
    for name, synced, change in cases:
        tree = Tree(folder / f"{name}.sqlite", count, synced=synced)
        if change is not None:
            tree.change(change)
        nodes = tree.store.nodes

        def plan_all() -> None:
            planned = runnable(plan(nodes.dirty(), nodes))  # noqa: B023  # called in this round
            assert planned  # noqa: S101  # the case is what it says

        yield Row(f"plan for {count:,} {name} files", _best(plan_all), 1.0)
        tree.store.close()


def _merging(folder: Path, count: int) -> Iterator[Row]:
    store = Store(folder / "merge.sqlite")
    with store.transaction():
        place = store.nodes.insert(**columns_of("big", ROOT, folder=True, synced=True, version=0))
        for n in range(count):
            store.nodes.insert(**columns_of(f"file {n}", place, folder=False, synced=True, version=n + 1))
    entries = [
        RemoteEntry(
            RemotePath(f"/big/file {n}"),
            Kind.FILE,
            RemoteVersion(f"etag of file {n}", 4096, _T0_S),
            f"{place}.file {n}",
            "RGDNVW",
        )
        for n in range(count)
    ]

    def merge() -> None:
        local = {child.name: child for child in store.nodes.children(place)}
        changes = merge_folder(entries, store.nodes.synced_children(place), local)
        assert not changes  # noqa: S101  # nothing differs

    yield Row(f"merge an unchanged listing of {count:,} entries", _best(merge), 0.2)
    store.close()


def _best(call: Callable[[], None], times: int = 3) -> float:
    """Return the shortest of some times: the others had the machine's company."""
    took = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        took.append(time.perf_counter() - began)
    return min(took)


# Answering programs beside a backlog


async def _probe(engine: Engine, parent: Ino, files: int) -> tuple[list[float], list[float]]:
    stats, lookups = [], []
    for n in range(_PROBES):
        name = f"file {(n * FOLDERS) % files}".encode()
        began = time.perf_counter()
        found = await engine.filesystem.lookup(parent, name)
        looked = time.perf_counter()
        await engine.filesystem.getattr(found.ino)
        stats.append(time.perf_counter() - looked)
        lookups.append(looked - began)
        await trio.lowlevel.checkpoint()  # others get their turn, as between two requests of the kernel
    return stats, lookups


async def _beside(folder: Path, files: int, *, pending: bool) -> list[tuple[str, float]]:
    tree = Tree(folder / "state.sqlite", files, synced=True)
    if pending:
        tree.change(touched)
    parent = tree.folders[0]
    tree.store.close()
    config = EngineConfig(
        state=folder, cache=folder / "cache", cache_bytes=64 * 1024 * 1024, cache_keep_free_bytes=0
    )
    # Steps end and are planned anew all the time: each request is refused, after a while as of a server near by.
    faults = FaultPlan(probability=1.0, kinds=(FaultKind.LOCKED,))
    remote = FakeRemote(faults=faults, latency_s=0.02, account=Account(lambda: _T0_S))
    began = time.perf_counter()
    async with open_engine(config, remote, NullSink()) as engine:
        opened_s = time.perf_counter() - began
        await trio.sleep(1.5)  # the worker is at its backlog by now
        stats, lookups = await _probe(engine, parent, files)
    return [
        ("start", opened_s),
        ("stat, median", statistics.median(stats)),
        ("lookup, median", statistics.median(lookups)),
        ("lookup, 99 of 100", sorted(lookups)[len(lookups) * 99 // 100]),
        ("lookup, slowest", max(lookups)),
    ]


def _answering(folder: Path, files: int) -> Iterator[Row]:
    for pending in (False, True):
        kind = f"{files:,} pending" if pending else f"none of {files:,} pending"
        place = folder / kind
        place.mkdir()
        for what, took_s in trio.run(partial(_beside, place, files, pending=pending)):
            yield Row(f"{what}, {kind}", took_s)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--nodes", type=int, default=10_000, help="of a backlog or listing")
    parser.add_argument("--pending", type=int, default=100_000, help="nodes that programs ask beside")
    options = parser.parse_args()
    print("| what | took | goal |\n|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="cloudfs-bench-") as name:
        folder = Path(name)
        for rows in (
            _planning(folder, options.nodes),
            _merging(folder, options.nodes),
            _answering(folder, options.pending),
        ):
            for row in rows:
                print(row, flush=True)


if __name__ == "__main__":
    main()
