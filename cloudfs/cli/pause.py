"""`cloudfs pause` and `cloudfs resume`."""

from __future__ import annotations

from cloudfs.cli.common import asking
from cloudfs.cli.output import print_json

__all__ = ["pause", "resume"]


def pause(what: str | None, *, as_json: bool) -> None:
    """Have nothing sent until `resume`."""
    with asking(what) as (name, client):
        paused = client.pause()
    if as_json:
        print_json(paused)
        return
    print(f"Paused {name}: until `cloudfs resume` nothing is sent, nor fetched that no program reads.")
    if paused.pending:
        print(f"{_changes(paused.pending)} here until then.")


def resume(what: str | None, *, as_json: bool) -> None:
    """Have everything go on."""
    with asking(what) as (name, client):
        paused = client.resume()
    if as_json:
        print_json(paused)
        return
    waiting = f" {_changes(paused.pending, 'goes', 'go')} up now." if paused.pending else ""
    print(f"Resumed {name}.{waiting}")


def _changes(count: int, one: str = "waits", many: str = "wait") -> str:
    return f"1 change {one}" if count == 1 else f"{count:,} changes {many}"
