"""`cloudfs cache`."""

from __future__ import annotations

from cloudfs.cli.common import account_at, connect, in_units
from cloudfs.cli.output import clear_line, harmless, one_line, print_json
from cloudfs.config import Folders
from cloudfs.control.records import CacheInfo, Checked
from cloudfs.errors import ExitCode, UserError

__all__ = ["clear", "show", "verify"]


def show(what: str | None, *, as_json: bool) -> None:
    """Print what the cache holds."""
    folders = Folders.from_environment()
    with connect(folders, account_at(folders, what)) as client:
        info = client.cache_info()
    if as_json:
        print_json(info)
        return
    for name, value in _facts(info):
        print(f"{name:<10}{value}")


def _facts(info: CacheInfo) -> list[tuple[str, str]]:
    asked = info.hits + info.misses
    facts = [
        ("folder", info.folder),
        (
            "used",
            f"{in_units(info.used_bytes)} of {in_units(info.limit_bytes)}, {_count(info.blocks, 'block', 'blocks')}",
        ),
        (
            "disk",
            f"{in_units(info.disk_free_bytes)} free, {in_units(info.keep_free_bytes)} of it are left alone",
        ),
        (
            "hits",
            f"{info.hits / asked:.0%} of {asked:,} blocks since the mount"
            if asked
            else "nothing was asked for yet",
        ),
        ("on disk", f"encrypted ({info.encrypted})" if info.encrypted else "plain"),
        ("memory", in_units(info.memory_bytes)),
        ("to send", f"{in_units(info.changed_bytes)} of changed files, beside the cache: never cleared"),
    ]
    if info.disk_free_bytes < info.keep_free_bytes:
        facts.append(("note", "the disk is so full that nothing more is kept: free some of it, or lower"))
        facts.append(("", "cache_keep_free_bytes in the account's file"))
    return facts


def clear(what: str | None, *, force: bool, as_json: bool) -> None:
    """Drop everything that the server has, too; offline only when `force`d: it could not be read then."""
    folders = Folders.from_environment()
    name = account_at(folders, what)
    with connect(folders, name) as client:
        state = client.status().state
        if state != "online" and not force:
            raise UserError(
                f"The account {name} is {state}: what is dropped now cannot be read before the server is back.",
                hint="With --force it is dropped all the same.",
                code=ExitCode.NOT_DONE,
            )
        cleared = client.clear_cache()
    if as_json:
        print_json(cleared)
        return
    left = f"; {in_units(cleared.left_bytes)} stay, which changed files need" if cleared.left_bytes else ""
    print(f"Cleared {in_units(cleared.freed_bytes)} of {name}{left}.")


def verify(what: str | None, *, as_json: bool) -> None:
    """Read all of the cache and compare it; UserError NOT_DONE where something was wrong, after saying what."""
    folders = Folders.from_environment()
    name = account_at(folders, what)
    with connect(folders, name) as client:
        try:
            checked = client.verify_cache(_show)
        finally:
            clear_line()
    if as_json:
        print_json(checked)
    else:
        print(_sentence(checked))
        for path in harmless(checked.wrong):
            print(f"  {path}: not what its checksum on the server says")
    wrong = len(checked.wrong) + checked.damaged
    if wrong:
        raise UserError(
            f"{_count(wrong, 'file or block', 'files or blocks')} of {name} not as it should be: dropped.",
            hint="They are fetched again when they are read. If it happens again, check the disk.",
            code=ExitCode.NOT_DONE,
        )


def _show(checked: Checked) -> None:
    one_line(f"{_count(checked.files, 'file')}, {in_units(checked.bytes)}")


def _sentence(checked: Checked) -> str:
    rest = checked.files - checked.compared
    parts = f"; {_count(rest, 'other')} here in parts, or without a checksum" if rest else ""
    files = _count(checked.files, "file")
    compared = f"Compared with the server's checksums: {checked.compared:,}{parts}."
    return f"Read {in_units(checked.bytes)} of {files}. {compared}"


def _count(number: int, one: str, many: str = "") -> str:
    return f"1 {one}" if number == 1 else f"{number:,} {many or one + 's'}"
