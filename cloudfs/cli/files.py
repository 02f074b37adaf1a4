"""`cloudfs ls` and `cloudfs info`."""

from __future__ import annotations

import contextlib
import os
from datetime import datetime

import msgspec

from cloudfs.cli.common import connect, in_units, which_mount
from cloudfs.cli.output import Colour, harmless, paint, print_json
from cloudfs.config import Folders
from cloudfs.control.records import Attached, FileInfo, FileState, State
from cloudfs.errors import ExitCode, UserError

__all__ = ["list_files", "show_info"]

_COLOURS: dict[State, Colour] = {
    "synced": "green",
    "pending": "yellow",
    "sending": "yellow",
    "blocked": "red",
    "conflict": "red",
    "local": "dim",
}
_HERE = {"all": "here", "part": "partly here", "none": "on the server"}


def list_files(paths: list[str], *, as_json: bool) -> None:
    """Print the state of files, and of the members of folders."""
    folders = Folders.from_environment()
    found: list[FileState] = []
    for path in paths:
        account, inside = which_mount(folders, path)
        _have_listed(path)
        with connect(folders, account) as client:
            found += client.list_files(inside)
    if as_json:
        print_json(found)
        return
    for line in map(harmless, found):
        state = paint(f"{line.state:<8}", _COLOURS[line.state])
        name = line.path.rpartition("/")[2] or "/"
        is_file = line.kind == "file"
        size = in_units(line.size) if is_file else ""
        where = _where(line) if is_file else ""
        print(f"{state}  {where:<13}  {size:>9}  {name}{'' if is_file else '/'}")


def _where(line: FileState) -> str:
    if line.here == "part":
        return f"{line.here_bytes / line.size:.0%} here"
    return _HERE[line.here]


def _have_listed(path: str) -> None:
    """Have the mount show the folder: what nobody has looked into yet is not known. Answered within its deadline."""
    if not os.path.lexists(path):
        raise UserError(f"{path} does not exist.", hint="Check the path.", code=ExitCode.USAGE)
    with contextlib.suppress(OSError):  # away: then what is known is told
        os.listdir(path)  # noqa: PTH208  # of a file, too


def show_info(path: str, *, as_json: bool) -> None:
    """Print everything that is known of one file or folder."""
    folders = Folders.from_environment()
    account, inside = which_mount(folders, path)
    if not os.path.lexists(path):
        raise UserError(f"{path} does not exist.", hint="Check the path.", code=ExitCode.USAGE)
    with connect(folders, account) as client:
        info = client.info(inside)
        attached = client.annotations(inside)
    if as_json:
        print_json({**msgspec.to_builtins(info), "annotations": msgspec.to_builtins(attached)})
        return
    info, attached = harmless(info), harmless(attached)
    print(paint(f"{info.file.path}", "bold") + f"  ({info.file.kind} in the account {account})")
    for name, value in [*_facts(info), *_attached(attached)]:
        if value not in {"", None}:
            print(f"  {name:<12}{value}")


def _facts(info: FileInfo) -> list[tuple[str, str | None]]:
    file = info.file
    is_file = file.kind == "file"
    tried = f"{info.tries} times" + (f", again in {info.next_try_s:.0f} s" if info.next_try_s else "")
    return [
        ("state", paint(file.state, _COLOURS[file.state])),
        *(("", sentence) for sentence in info.why),
        ("reason", info.reason),
        ("next step", info.next_step),
        ("tried", tried if info.tries else ""),
        ("conflict", f"with {info.other}" if info.other else ""),
        ("size", f"{file.size:,} bytes" if is_file else ""),
        ("content", f"{_where(file)} ({file.here_bytes:,} bytes)" if is_file else ""),
        ("kept", f"{info.staged_bytes:,} changed bytes until they are sent" if info.staged_bytes else ""),
        ("brought by", _brought(info)),
        ("modified", _time(file.modified)),
        ("open", "by a program, or just being sent" if info.is_open else ""),
        (
            "members",
            None if info.members is None else f"{info.members:,} known, listed {_time(info.listed_at)}",
        ),
        ("server path", info.server_path or "not on the server"),
        ("server size", None if info.server_size is None else f"{info.server_size:,} bytes"),
        ("server time", _time(info.server_modified) if info.server_modified else ""),
        ("file id", info.file_id),
        ("etag", info.etag),
        ("checksum", info.checksum),
        ("allowed", info.permissions),
        ("inode", f"{info.inode}"),
        ("version", f"{info.version} here, {info.synced_version} synced" if is_file else ""),
    ]


def _brought(info: FileInfo) -> str:
    return f"{info.brought_by}, {_time(info.brought_at)}" if info.brought_by else ""


def _attached(attached: Attached) -> list[tuple[str, str | None]]:
    if not attached.told:
        return [("attached", f"not known: {attached.reason}")]
    unread = f", {attached.unread_comments:,} of them unread" if attached.unread_comments else ""
    return [
        ("owner", attached.owner),
        ("favourite", "yes" if attached.favorite else ""),
        ("tags", ", ".join(attached.tags)),
        ("shared with", ", ".join(attached.shared_with)),
        ("comments", f"{attached.comments:,}{unread}" if attached.comments else ""),
    ]


def _time(unix_s: float | None) -> str:
    if unix_s is None:
        return "never"
    return f"{datetime.fromtimestamp(unix_s).astimezone():%Y-%m-%d %H:%M:%S}"
