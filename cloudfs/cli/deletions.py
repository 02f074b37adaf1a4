"""`cloudfs deletions`: the answer to "is so much really meant to go?"."""

from __future__ import annotations

from typing import Literal

from cloudfs.cli.common import account_at, connect
from cloudfs.cli.output import print_json
from cloudfs.config import Folders
from cloudfs.control.protocol import Decide, HeldDeletions, Side
from cloudfs.errors import ExitCode, UserError

__all__ = ["answer", "next_steps", "sentence"]


def sentence(held: HeldDeletions) -> str:
    """Say what waits."""
    if held.set_back:
        return _of_setback(held)
    what = f"{held.count:,} files and folders"
    named = (
        f"{', '.join(held.paths[:3])}{' …' if len(held.paths) > 3 or held.count > len(held.paths) else ''}"
    )
    if held.side == "here":
        return f"the server shows {what} fewer than before ({named}); they stay here until you answer"
    return f"{what} were deleted here ({named}); they stay on the server until you answer"


def _of_setback(held: HeldDeletions) -> str:
    found = [f"{held.count:,} files and folders fewer than before"] if held.count else []
    found += [f"older versions of {held.older:,} files"] if held.older else []
    shown = f"; it shows {' and '.join(found)} ({', '.join(held.paths[:3])} …)" if found else ""
    return (
        f"it seems that a backup was restored on the server{shown}; here all stays as it is,"
        " and nothing is deleted there, until you answer"
    )


def next_steps(held: HeldDeletions) -> list[str]:
    """Say what can be answered."""
    if held.set_back:
        return [
            "`cloudfs deletions accept --side here` takes over the server's state,",
            "`cloudfs deletions restore --side here` sends to the server what is newer here, or missing there",
        ]
    if held.side == "here":
        return [
            "`cloudfs deletions accept` shows them gone here too,",
            "`cloudfs deletions restore` sends back to the server what of them is here in full;",
            "if the server shows them again, this ends by itself",
        ]
    return [
        "`cloudfs deletions accept` deletes them on the server too,",
        "`cloudfs deletions restore` brings them back here",
    ]


def answer(
    decision: Literal["accept", "restore"], what: str | None, side: Side | None, *, as_json: bool
) -> None:
    """Hand the user's answer to the daemon and say what came of it."""
    folders = Folders.from_environment()
    with connect(folders, account_at(folders, what)) as client:
        waiting = client.status().deletions
        sides = [held.side for held in waiting]
        if side is None and len(sides) > 1:
            raise UserError(
                "Deletions wait on both sides.",
                hint="Say which you mean: --side here or --side server (`cloudfs status` lists them).",
                code=ExitCode.USAGE,
            )
        asked = side or (sides[0] if sides else "here")
        set_back = any(held.set_back and held.side == asked for held in waiting)
        decided = client.decide_deletions(Decide(asked, decision))
    done = _SET_BACK[decision] if set_back else _DONE[asked, decision]
    if as_json:
        print_json(decided)
    else:
        print(f"{decided.done:,} files and folders {done}.")
    if decided.left:
        raise UserError(f"{decided.left:,} are left.", hint=_LEFT[asked, decision], code=ExitCode.NOT_DONE)


_DONE: dict[tuple[Side, str], str] = {
    ("here", "accept"): "are gone here too",
    ("here", "restore"): "go up to the server again",
    ("server", "accept"): "are being deleted on the server",
    ("server", "restore"): "are back here",
}
_SET_BACK = {
    "accept": "are as on the server again",
    "restore": "go up to the server, over what is older there",
}
_LEFT: dict[tuple[Side, str], str] = {
    ("here", "accept"): "They go as soon as the server can be asked once more.",
    (
        "here",
        "restore",
    ): "Their contents are not here. Look into the server's trash, or let them go with `accept`.",
    ("server", "restore"): "Something else has their names by now.",
}
