"""Plays the operations of two mounts of one account, each with a state of its own, and judges what became of them.

To each of them the other one is another client. The ledger is one for both: a content is owed from its acknowledgement
on, by whichever mount, until a user of either replaces or removes exactly that content.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from cloudfs.engine import Engine, EngineConfig, open_engine
from tests.model.fake_remote import FakeRemote
from tests.model.ledger import Contested, Ledger
from tests.model.noticing import expect_noticed
from tests.model.operations import On, Operation
from tests.model.outcome import expect_nothing_lost
from tests.model.rules import Rules
from tests.model.two_clients import ROUNDS, TwoClients
from tests.model.virtual import run_virtually
from tests.model.world import World

__all__ = ["TwoMounts", "play_mounts"]

_MARKS = ("L", "M")


class _World(World):
    """A mount that begins and ends whatever others do: in a task of its own, in a nursery that outlives it."""

    def __init__(self, *args: Any, nursery: trio.Nursery, **more: Any) -> None:
        super().__init__(*args, **more)
        self._nursery = nursery
        self._enough = self._over = trio.Event()

    async def _begin(self, config: EngineConfig) -> Engine:
        self._enough, self._over = trio.Event(), trio.Event()
        engine: Engine = await self._nursery.start(self._hold, config)
        return engine

    async def _hold(self, config: EngineConfig, task_status: trio.TaskStatus[Engine]) -> None:
        enough, over = self._enough, self._over
        try:
            async with open_engine(config, self.remote, self._sink) as engine:
                task_status.started(engine)
                await enough.wait()
        finally:
            over.set()

    async def _end(self) -> None:
        self._enough.set()
        await self._over.wait()


@asynccontextmanager
async def _alone_as_it_is() -> AsyncIterator[None]:
    """Raise the one exception of a nursery's group as it is: failures of one cause are told by their last line."""
    try:
        yield
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            (error,) = error.exceptions
        raise error from None


class TwoMounts:
    """One history on two worlds of one account."""

    def __init__(self, worlds: Sequence[World], *, noticed_within_s: float | None) -> None:
        self._noticed_within_s = noticed_within_s
        self._ledger, contested = Ledger(), Contested()
        self._mounts = [
            TwoClients(world, strict=False, ledger=self._ledger, contested=contested, mark=mark)
            for world, mark in zip(worlds, _MARKS, strict=True)
        ]

    async def stock(self) -> None:
        """Fill the server, and look at it from both."""
        self._mounts[0].fill()
        for mount in self._mounts:
            await mount.look()

    async def play(self, operation: Operation) -> None:
        """Do one operation. It may fail as system calls and requests do; it may not damage anything."""
        which, operation = (operation.mount, operation.what) if isinstance(operation, On) else (0, operation)
        await self._mounts[which].play(operation)
        # A death that was to come to the other one may have come meanwhile, or while this one began anew.
        while any([await mount.come_alive() for mount in self._mounts]):
            pass

    async def finish(self) -> None:
        """Bring all sides together, and look for every content."""
        for mount in self._mounts:
            mount.be_safe()
        for mount in self._mounts:
            await mount.end()
        if self._noticed_within_s is not None:
            for mount in self._mounts:
                await expect_noticed(mount.world, self._noticed_within_s, mount.drain)
        for _ in range(ROUNDS):
            for mount in self._mounts:
                await mount.come_together()
            if all([await mount.is_together() for mount in self._mounts]):
                break
        trees = [await mount.ended() for mount in self._mounts]
        expect_nothing_lost(trees, [mount.world.remote for mount in self._mounts], self._ledger)
        for mount in self._mounts:
            await mount.clear_away()


def play_mounts(
    folder: Path,
    operations: Iterable[Operation],
    *,
    seed: int = 0,
    remotes: tuple[FakeRemote, FakeRemote],
    rules: Rules = Rules(),  # noqa: B008  # frozen
    instruments: Sequence[trio.abc.Instrument] = (),
) -> None:
    """Play a whole history on two new worlds, then bring all sides together and judge."""

    def world(number: int, nursery: trio.Nursery) -> World:
        return _World(
            folder / f"{number}" / "0",
            remotes[number],
            deadline_s=rules.deadline_s,
            together=rules.together,
            append_bytes=rules.append_bytes,
            # Else an account that is emptied waits for an answer.
            delete_guard=0,
            nursery=nursery,
        )

    async def history() -> None:
        async with _alone_as_it_is(), trio.open_nursery() as nursery:
            one, other = world(0, nursery), world(1, nursery)
            other.hear_with(one)
            async with one, other:
                mounts = TwoMounts([one, other], noticed_within_s=rules.noticed_within_s)
                await mounts.stock()
                for operation in operations:
                    remotes[0].trace(f"{trio.current_time():.3f} {operation}")
                    await mounts.play(operation)
                await mounts.finish()

    run_virtually(history, seed, slow_disk=rules.slow_disk, instruments=instruments)
