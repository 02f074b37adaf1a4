"""For each kill point a few steps that lead there, and what may be found after each of them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from cloudfs.vfs.records import RenameMode
from tests.functional.drivers import Driver, write

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
    sends: bool = True
    """Else the process ends in order before anything is sent."""


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


_EDITED = SERVER | {"old": OLD[:1_000_000] + b"edited" + OLD[1_000_006:]}
_NEW = SERVER | {"new": b"content"}
_MADE = SERVER | {"new": b""}
_ONE_NEW = Scenario([lambda driver: write(driver, "new", b"content")], [_NEW], [_MADE])
_ONE_TAIL = Scenario([_append], [SERVER | {"old": OLD + b"tail"}])
_ONE_EDIT = Scenario([_edit], [_EDITED])

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
    "files synced": Scenario(_ONE_NEW.steps, _ONE_NEW.trees, sends=False),
}
"""By kill point, with the passage that kills where it is not the first."""
