"""Answers what people ask about what is always kept here: one account's, in the words of the control socket."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial

import msgspec
import trio

from cloudfs.concurrency.slices import slices
from cloudfs.control.methods import Method, Tell, beside, method
from cloudfs.control.pinning import Keep, KeptState, Missing, PinMoved, Pinned, PinRow, Pins, PinWord
from cloudfs.control.records import Nothing
from cloudfs.engine import Engine
from cloudfs.errors import ExitCode, UserError
from cloudfs.paths import mount_path
from cloudfs.store.records import Node
from cloudfs.sync.bringing import Obstruction
from cloudfs.sync.freeing import Freed
from cloudfs.types import Ino, Pin

__all__ = ["Pinning"]

_MOST_TOLD = 20
_PART = 64
"""Files that cannot be brought, looked for below a path between two checkpoints: 3 ms."""
_LOOK_S, _REST_FACTOR = 1.0, 10
"""Who waits has it counted as often as this, and nine tenths of the time not."""

_ROOM_STEP = (
    "free some disk space, have `cloudfs free` give back something else, or have less kept free"
    " (cache_keep_free_bytes in the account's file)"
)
_OTHER_STEP = "it is tried again every ten minutes"


class Pinning:
    """One account's; used on the loop's thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._keeper = engine.keeper
        self._hydrator = engine.hydrator

    def state(self) -> KeptState:
        """Answer at once, from what the last look found."""
        kept, obstructions = self._hydrator.kept, self._hydrator.obstructions()
        return KeptState(
            files=kept.files,
            bytes=kept.bytes,
            missing_files=kept.missing_files,
            missing_bytes=self._hydrator.missing_bytes(),
            unknown_folders=kept.unknown_folders,
            under_way=[self._path(ino) for ino in self._hydrator.under_way()[:_MOST_TOLD]],
            cannot=self._told(obstructions),
            cannot_files=len(obstructions),
            cannot_bytes=sum(it.missing_bytes for it in obstructions),
        )

    @property
    def methods(self) -> Mapping[str, Method]:
        """By the names of the requests."""
        return {"pin": method(Keep, self._pin), "pins": method(Nothing, self._pins)}

    async def _pins(self, _: Nothing, _tell: Tell) -> Pins:
        tree, defaults = self._engine.tree, self._keeper.defaults
        paths = [(tree.path(ino), pin) for ino, pin in self._engine.store.pins.all().items()]
        rows = [PinRow(path, _word(pin)) for path, pin in paths if path is not None]
        return Pins(
            pins=sorted(rows, key=lambda row: row.path),
            defaults=list(defaults.folders),
            defaults_most_bytes=defaults.most_bytes,
        )

    async def _pin(self, wanted: Keep, tell: Tell) -> Pinned:
        freed = Freed(0, 0, 0)

        def told(so_far: Freed) -> None:
            nonlocal freed
            freed = so_far

        async def report() -> None:
            while True:
                await trio.sleep(_LOOK_S)
                await tell(PinMoved(freed.files, freed.bytes))

        answer = await beside(report, partial(self._say, wanted, told))
        if not wanted.wait or answer.here:
            return answer
        waited: Pinned | None = None
        with trio.move_on_after(math.inf if wanted.timeout_s is None else wanted.timeout_s):
            waited = await self._wait(wanted.path, tell)
        if waited is None:
            waited = msgspec.structs.replace(await self._look(wanted.path), timed_out=True)
        counts = {name: getattr(answer, name) for name in ("freed_files", "freed_bytes", "changed")}
        return msgspec.structs.replace(waited, **counts)

    async def _say(self, wanted: Keep, told: Callable[[Freed], None]) -> Pinned:
        """Have a word hold from now on; UserError where there is no such path. What is online only is freed at once."""
        ino = self._node(wanted.path).ino
        self._keeper.say(ino, None if wanted.pin is None else Pin(wanted.pin))
        await self._keeper.save()
        freed = Freed(0, 0, 0)
        if wanted.pin == Pin.ONLINE_ONLY.value:
            freed = await self._hydrator.free(ino, told)
        self._hydrator.wake()
        return await self._answer(wanted.path, freed)

    async def _look(self, path: str) -> Pinned:
        """Tell how it stands with a path; UserError where there is no such path."""
        return await self._answer(path, Freed(0, 0, 0))

    async def _wait(self, path: str, tell: Tell) -> Pinned:
        """Return once all that is to be here at and below a path is, or cannot come; UserError while that is paused."""
        self._hydrator.wake()
        while True:
            began = trio.current_time()
            answer = await self._look(path)
            stuck = answer.cannot_files >= answer.missing_files and not answer.unknown_folders
            if answer.here or (stuck and self._engine.connectivity.online):
                return answer
            if (rest := self._engine.pause.fetching).is_on:
                raise _resting(path, metered=rest.is_metered)
            await tell(PinMoved(answer.missing_files, answer.missing_bytes))
            await trio.sleep(max(_LOOK_S, _REST_FACTOR * (trio.current_time() - began)))

    async def _answer(self, path: str, freed: Freed) -> Pinned:
        node = self._node(path)
        kept = await self._hydrator.count(node.ino)
        stand = self._keeper.stand(node.ino)
        within: list[Obstruction] = []
        for part in slices(self._hydrator.obstructions(), _PART):
            within += [it for it in part if self._engine.tree.is_inside(it.ino, path)]
            await trio.lowlevel.checkpoint()
        room_bytes = await self._engine.blocks.room_bytes()
        return Pinned(
            path=path,
            pin=None if stand is None or stand.said is None else _word(stand.said),
            by=None if stand is None or stand.by is None else self._path(stand.by),
            by_default=stand is not None and stand.said is None and self._keeper.defaults.covers(stand.path),
            files=kept.files,
            bytes=kept.bytes,
            missing_files=kept.missing_files,
            missing_bytes=kept.missing_bytes,
            unknown_folders=kept.unknown_folders,
            short_bytes=max(0, kept.missing_bytes - max(0, room_bytes)),
            freed_files=freed.files,
            freed_bytes=freed.bytes,
            changed=freed.changed,
            cannot=self._told(within),
            cannot_files=len(within),
        )

    def _node(self, path: str) -> Node:
        with contextlib.suppress(ValueError):
            path = mount_path(path)  # as names are stored, however they are typed
        node = self._engine.tree.resolve(path)
        if node is None:
            raise UserError(f"There is no {path} in the mount.", hint="Check the path.", code=ExitCode.USAGE)
        return node

    def _path(self, ino: Ino) -> str:
        return self._engine.tree.path(ino) or f"inode {ino}"

    def _told(self, obstructions: Iterable[Obstruction]) -> list[Missing]:
        largest = sorted(obstructions, key=lambda it: -it.missing_bytes)[:_MOST_TOLD]
        return [
            Missing(
                self._path(it.ino), it.missing_bytes, it.reason, _ROOM_STEP if it.for_room else _OTHER_STEP
            )
            for it in largest
        ]


def _word(pin: Pin) -> PinWord:
    return "always-local" if pin is Pin.ALWAYS_LOCAL else "online-only"


def _resting(path: str, *, metered: bool) -> UserError:
    if metered:
        return UserError(
            f"{path} is not all here: nothing is brought on a metered connection.",
            hint='It comes with another one; `metered = "ignore"` in the account\'s file lets it come now.',
            code=ExitCode.PENDING,
        )
    return UserError(
        f"{path} is not all here: nothing is brought while the account is paused.",
        hint="It stays as was said; `cloudfs resume` lets it come.",
        code=ExitCode.PENDING,
    )
