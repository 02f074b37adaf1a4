"""For each kill point a few steps that lead there, and what may be found after each of them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cloudfs.metadata import spreading
from cloudfs.types import ROOT
from cloudfs.vfs.records import RenameMode
from tests.functional.drivers import Driver, tree, write
from tests.functional.stages import USER, VfsStage
from tests.servers import StandIn

__all__ = ["APPEND_BYTES", "OLD", "SCENARIOS", "SERVER", "Scenario"]

Tree = dict[str, bytes | None]

OLD = b"as it was " * 200_000
APPEND_BYTES = 1_000_000
"""What is added to OLD goes up alone."""
SERVER: Tree = {"old": OLD, "other": b"another", "folder": None, "folder/in": b"inside"}


@dataclass(frozen=True)
class Scenario:
    """What `steps` make of SERVER, one tree for each of them; `midway` may be found where the last one broke off."""

    steps: list[Callable[[Driver], object]]
    trees: list[Tree]
    midway: list[Tree] = field(default_factory=list)
    ending: Callable[[VfsStage], object] = VfsStage.sync
    """What the process does after the steps."""
    before: Callable[[Path, StandIn], object] = lambda *_: None
    """What happened to the account in an earlier life of the engine, and after that life; told where it lives."""
    answered: Callable[[VfsStage], object] = lambda _: None
    """What has to be seen of it after the kill, and what a person then says, before everything can go up."""
    limits: dict[str, int] = field(default_factory=dict)
    """Of the process that is killed. Its successor holds nothing for being much: only what is noted."""


def _without(*names: str) -> Tree:
    return {path: data for path, data in SERVER.items() if path.split("/")[0] not in names}


def _edit(driver: Driver) -> None:
    file = driver.open("old", os.O_RDWR)
    file.write(1_000_000, b"edited")
    file.close()


def _edit_synced(driver: Driver) -> None:
    file = driver.open("old", os.O_RDWR)
    file.write(1_000_000, b"edited")
    file.fsync()


def _append(driver: Driver) -> None:
    file = driver.open("old", os.O_WRONLY)
    file.write(len(OLD), b"tail")
    file.close()


def _unlink_open(driver: Driver) -> None:
    driver.open("old")
    driver.unlink("old")


def _shorten(driver: Driver) -> None:
    write(driver, "new", b"x" * 100_000)
    file = driver.open("new", os.O_RDWR)
    file.truncate(10)
    file.truncate(2_000)
    file.close()


# What waits for somebody


def _remove_folder(driver: Driver) -> None:
    driver.unlink("folder/in")
    driver.rmdir("folder")


def _accept(stage: VfsStage) -> None:
    assert stage.send()
    stage.call_sync(stage.engine.deletions.accept_removed)


def _held_here(stage: VfsStage) -> None:
    assert stage.send()
    waiting = stage.call_sync(stage.engine.deletions.removed)
    assert waiting is not None
    assert waiting.paths == ["/folder"]
    stage.call_sync(stage.engine.deletions.accept_removed)


def _nothing_held(stage: VfsStage) -> None:
    stage.sync()
    assert stage.call_sync(stage.engine.deletions.removed) is None


def _remove_there(home: Path, server: StandIn) -> None:
    """After a life in which all of it was read: what only a server has cannot be kept."""
    stage = VfsStage(home, server)
    stage.call(stage.engine.greet)
    assert tree(stage.root()) == SERVER
    size = sum(len(data) for data in SERVER.values() if data is not None)
    stage.wait(lambda: stage.engine.blocks.statistics().bytes >= size)  # they are written behind the readers
    stage.close()
    server.account(USER).delete("/folder")
    server.account(USER).delete("/other")


def _set_back(home: Path, server: StandIn) -> None:
    _remove_there(home, server)
    server.account(USER).write("/old", b"as it was before", mtime=1_600_000_000)
    server.site.fingerprint = "b0a1c2"


def _missing_there(stage: VfsStage) -> None:
    waiting = stage.call_sync(stage.engine.deletions.vanished)
    assert waiting is not None
    assert {"/folder", "/other"} <= set(waiting.paths)
    outcome = stage.call(stage.engine.deletions.restore_vanished)
    assert outcome.left == 0
    assert stage.call_sync(stage.engine.deletions.vanished) is None


def _older_there(stage: VfsStage) -> None:
    stage.look()
    waiting = stage.call_sync(stage.engine.deletions.vanished)
    assert waiting is not None
    assert (waiting.older, waiting.set_back) == (1, True)
    _missing_there(stage)


def _paused(stage: VfsStage) -> None:
    assert stage.call_sync(lambda: (stage.engine.pause.is_on, stage.engine.pause.sending.is_on)) == (
        True,
        True,
    )
    assert stage.call_sync(stage.engine.store.nodes.count_dirty) == 1
    stage.call_sync(stage.engine.pause.end)


# What is marked in parts

_MANY = 12


def _fill(_: Path, server: StandIn) -> None:
    for number in range(_MANY):
        server.account(USER).write(f"/folder/{number}", b"one of many")


def _set_aside(driver: Driver) -> None:
    spreading._FEW, spreading._SLICE = _MANY // 2, 2  # so few nodes are many, in the process that is killed
    driver.names("folder")
    driver.rename("folder", "folder~")


def _all_marked(stage: VfsStage) -> None:
    nodes = stage.engine.store.nodes

    def marks() -> list[bool]:
        (folder,) = (node for node in nodes.children(ROOT) if node.name == "folder~")
        return [bool(node.local_only) for node in (folder, *nodes.descendants(folder.ino))]

    stage.wait(lambda: marks() == [True] * (_MANY + 2))


_EDITED = SERVER | {"old": OLD[:1_000_000] + b"edited" + OLD[1_000_006:]}
_NEW = SERVER | {"new": b"content"}
_MADE = SERVER | {"new": b""}
_ONE_NEW = Scenario([lambda driver: write(driver, "new", b"content")], [_NEW], [_MADE])
_ONE_TAIL = Scenario([_append], [SERVER | {"old": OLD + b"tail"}])
_ONE_EDIT = Scenario([_edit], [_EDITED])
_ASIDE = _without("folder") | {"folder~": None, "folder~/in": b"inside"}
_ASIDE |= {f"folder~/{number}": b"one of many" for number in range(_MANY)}
_ONE_HERE = {"delete_guard_server": 1}

SCENARIOS: dict[str, Scenario] = {
    "layer noted": _ONE_NEW,
    "bytes written": _ONE_EDIT,
    "flushed": Scenario(
        [_edit_synced, lambda driver: write(driver, "new", b"content")],
        [_EDITED, _EDITED | _NEW | {"old": _EDITED["old"]}],
    ),
    "part of the base copied": _ONE_EDIT,
    "attempt noted": _ONE_NEW,
    "put answered": _ONE_NEW,
    "base copied": _ONE_TAIL,
    "tail sent": _ONE_TAIL,
    "tail answered": _ONE_TAIL,
    "tail hashed": _ONE_TAIL,
    "upload committed": _ONE_EDIT,
    "staging file doomed": _ONE_NEW,
    "make_folder answered": Scenario([lambda driver: driver.mkdir("made")], [SERVER | {"made": None}]),
    "move answered:1": Scenario(
        [lambda driver: driver.rename("folder", "moved")],
        [_without("folder") | {"moved": None, "moved/in": b"inside"}],
    ),
    "set_mtime answered": Scenario(
        [
            lambda driver: driver.utime("other", 1_600_000_000 * 10**9),
            lambda driver: write(driver, "new", b"content"),
        ],
        [SERVER, _NEW],
        [_MADE],
    ),
    "delete answered": Scenario([lambda driver: driver.unlink("other")], [_without("other")]),
    "batch forgotten": Scenario(
        [lambda driver: driver.unlink("folder/in"), lambda driver: driver.rmdir("folder")],
        [{path: data for path, data in SERVER.items() if path != "folder/in"}, _without("folder")],
    ),
    "move answered:2": Scenario(
        [lambda driver: driver.rename("old", "other", RenameMode.EXCHANGE)],
        [SERVER | {"old": b"another", "other": OLD}],
    ),
    "unlinked": Scenario([_unlink_open], [_without("old")]),
    "batch taken over": Scenario([lambda driver: driver.names()], [SERVER]),
    "cut noted": Scenario(
        [_shorten], [SERVER | {"new": b"x" * 10 + bytes(1990)}], [SERVER | {"new": b"x" * 10}]
    ),
    "pieces noted": _ONE_EDIT,
    "pieces removed": Scenario([lambda _: threading.Event().wait(60)], [_without("old")]),
    "files synced": Scenario(_ONE_NEW.steps, _ONE_NEW.trees, ending=lambda _: None),
    "deletions held": Scenario(
        [_remove_folder], [_without("folder")], ending=VfsStage.send, answered=_held_here, limits=_ONE_HERE
    ),
    "deletions accepted": Scenario(
        [_remove_folder], [_without("folder")], ending=_accept, answered=_nothing_held, limits=_ONE_HERE
    ),
    "absence held": Scenario(
        [],
        [SERVER],
        ending=VfsStage.look,
        before=_remove_there,
        answered=_missing_there,
        limits={"delete_guard": 1},
    ),
    "setback noted": Scenario([], [SERVER], ending=VfsStage.look, before=_set_back, answered=_older_there),
    "pause noted": Scenario(
        _ONE_NEW.steps,
        _ONE_NEW.trees,
        ending=lambda stage: stage.call_sync(stage.engine.pause.begin),
        answered=_paused,
    ),
    "part marked": Scenario([_set_aside], [_ASIDE], before=_fill, answered=_all_marked),
}
"""By kill point, with the passage that kills where it is not the first."""
