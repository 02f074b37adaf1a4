"""`cloudfs pause` and `cloudfs resume`."""

from __future__ import annotations

from cloudfs.cli.common import account_at, connect
from cloudfs.cli.output import print_json
from cloudfs.config import Folders

__all__ = ["pause", "resume"]


def pause(what: str | None, *, as_json: bool) -> None:
    """Have nothing sent until `resume`."""
    folders = Folders.from_environment()
    name = account_at(folders, what)
    with connect(folders, name) as client:
        paused = client.pause()
    if as_json:
        print_json(paused)
        return
    print(f"Paused {name}: until `cloudfs resume` nothing is sent, nor fetched that no program reads.")
    if paused.pending:
        print(f"{_changes(paused.pending)} here until then.")


def resume(what: str | None, *, as_json: bool) -> None:
    """Have everything go on."""
    folders = Folders.from_environment()
    name = account_at(folders, what)
    with connect(folders, name) as client:
        paused = client.resume()
    if as_json:
        print_json(paused)
        return
    waiting = f" {_changes(paused.pending, 'goes', 'go')} up now." if paused.pending else ""
    print(f"Resumed {name}.{waiting}")


def _changes(count: int, one: str = "waits", many: str = "wait") -> str:
    return f"1 change {one}" if count == 1 else f"{count:,} changes {many}"
