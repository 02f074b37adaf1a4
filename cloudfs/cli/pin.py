"""What `cloudfs pin`, `unpin` and `free` ask, and how they say what was answered."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from cloudfs.cli.common import asking, connect, in_units, mount_point_of, which_mount
from cloudfs.cli.output import Gauge, clear_line, harmless, one_line, print_json
from cloudfs.config import Folders
from cloudfs.control.pinning import Keep, KeptState, Missing, PinMoved, Pinned, PinWord
from cloudfs.errors import ExitCode, UserError

__all__ = ["free_paths", "kept_lines", "pin_paths", "show_pins", "unpin_paths"]

_MOST_SHOWN = 5

Say = Callable[[Pinned, str], Iterator[str]]


def pin_paths(paths: list[str], *, as_json: bool, wait: bool, timeout_s: float | None) -> None:
    """Have files and folders always be kept here; with `wait` UserError PENDING where not all of them get here."""
    answers = _each(paths, "always-local", _pinned, as_json=as_json, wait=wait, timeout_s=timeout_s)
    late = [answer for answer in answers if wait and not answer.here]
    if late:
        raise UserError(_late(late), hint=_why(late), code=ExitCode.PENDING)


def unpin_paths(paths: list[str], *, as_json: bool) -> None:
    """Have what holds for the folders above hold for them."""
    _each(paths, None, _unpinned, as_json=as_json)


def free_paths(paths: list[str], *, as_json: bool) -> None:
    """Have them be kept on the server only, and give back what they take here."""
    _each(paths, "online-only", _freed, as_json=as_json)


def show_pins(what: str | None, *, as_json: bool) -> None:
    """Print what was said; `what` names the account."""
    with asking(what) as (account, client):
        found = client.pins()
    if as_json:
        print_json(found)
        return
    root, found = mount_point_of(account), harmless(found)
    for row in found.pins:
        print(f"{_MEANING[row.pin]:20}{root}{row.path.rstrip('/')}")
    limit = "" if found.defaults_most_bytes is None else f", up to {in_units(found.defaults_most_bytes)} each"
    for path in found.defaults:
        print(f"{'by default':20}{root}{path.rstrip('/')}{limit}")
    if not (found.pins or found.defaults):
        print("Nothing is pinned. `cloudfs pin PATH` keeps a file or folder here.")


# Asking


def _each(
    paths: list[str],
    word: PinWord | None,
    say: Say,
    *,
    as_json: bool,
    wait: bool = False,
    timeout_s: float | None = None,
) -> list[Pinned]:
    """Ask for each path; go on after one that failed, and end with UserError then."""
    folders = Folders.from_environment()
    answers: list[Pinned] = []
    failed: list[UserError] = []
    for path in paths:
        try:
            answer = _ask(folders, path, word, wait=wait, timeout_s=timeout_s)
        except UserError as error:
            failed.append(error)
            continue
        answers.append(answer)
        if not as_json:
            print("\n".join(say(harmless(answer), harmless(path))))
    if as_json:
        print_json(answers)
    if len(failed) == 1:
        raise failed[0]
    if failed:
        raise UserError(
            f"{len(failed)} of {len(paths)} could not be done.",
            hint="\n".join(f"{error.message} {error.hint}" for error in failed),
            code=ExitCode.NOT_DONE,
        )
    return answers


def _ask(folders: Folders, path: str, word: PinWord | None, *, wait: bool, timeout_s: float | None) -> Pinned:
    account, inside = which_mount(folders, path)
    if not os.path.lexists(path):
        raise UserError(f"{path} does not exist.", hint="Check the path.", code=ExitCode.USAGE)
    gauge = Gauge()

    def show(moved: PinMoved) -> None:
        text = f"{path}: {_amount(moved.files, moved.bytes)}"
        if word != "online-only" and wait:
            gauge.show(moved.bytes, f"{text} to come")
        elif moved.files:
            one_line(f"{text} given back")

    with connect(folders, account) as client:
        try:
            return client.pin(Keep(inside, word, wait, timeout_s), heard=show)
        finally:
            clear_line()


_MEANING: dict[PinWord, str] = {"always-local": "always here", "online-only": "on the server only"}


# Saying


def _pinned(answer: Pinned, path: str) -> Iterator[str]:
    yield f"{path}: always kept here; {_amount(answer.files, answer.bytes)}, {_left(answer)}."
    if answer.short_bytes:
        yield f"  There is no room for {in_units(answer.short_bytes)} of it on the disk; see `cloudfs status`."


def _left(answer: Pinned) -> str:
    if answer.here:
        return "all of it here"
    parts = [f"{in_units(answer.missing_bytes)} of it still to come"] if answer.missing_files else []
    if answer.unknown_folders:
        parts.append(
            f"and what is in {_count(answer.unknown_folders, 'folder')} that nobody has looked into yet"
        )
    return " ".join(parts)


def _unpinned(answer: Pinned, path: str) -> Iterator[str]:
    if answer.pin == "always-local":
        yield f"{path}: still always kept here, since {answer.by} is pinned. `cloudfs free` makes an exception."
    elif answer.pin == "online-only":
        yield f"{path}: kept on the server only, since {answer.by} is."
    elif answer.by_default:
        yield (
            f"{path}: still kept here by the account's settings (keep = ...). `cloudfs free` makes an exception."
        )
    else:
        yield f"{path}: not pinned. What is here stays until its room is wanted."


def _freed(answer: Pinned, path: str) -> Iterator[str]:
    given = _amount(answer.freed_files, answer.freed_bytes)
    yield f"{path}: kept on the server only; {given} given back."
    if answer.changed:
        yield f"  {_count(answer.changed, 'file')} with changes that are not on the server yet stayed as they are."


def _late(answers: list[Pinned]) -> str:
    files = sum(answer.missing_files for answer in answers)
    unknown = sum(answer.unknown_folders for answer in answers)
    what = _count(files, "file") if files else f"what is in {_count(unknown, 'folder')}"
    verb = "is" if files == 1 or not files else "are"
    return f"{what} {verb} not here{' in time' if any(it.timed_out for it in answers) else ''}."


def _why(answers: list[Pinned]) -> str:
    lines = [line for answer in answers for line in _missing_lines(answer.cannot, answer.cannot_files)]
    return "\n".join(lines) or "They come as soon as the server gives them; `cloudfs status` tells more."


def _missing_lines(cannot: list[Missing], count: int) -> Iterator[str]:
    for item in cannot[:_MOST_SHOWN]:
        yield f"{item.path}: {item.reason}, {in_units(item.missing_bytes)} are missing. Next step: {item.next_step}."
    if count > _MOST_SHOWN:
        yield f"... and {_count(count - _MOST_SHOWN, 'file')} more."


def kept_lines(kept: KeptState) -> Iterator[str]:
    """Say for `cloudfs status` what is always kept here; nothing where nothing is."""
    if not (kept.files or kept.unknown_folders):
        return
    left = "all of it here"
    if kept.missing_files:
        left = f"{_amount(kept.missing_files, kept.missing_bytes)} still to come"
    yield f"  kept here   {_amount(kept.files, kept.bytes)}, {left}"
    if kept.unknown_folders:
        yield f"              {_count(kept.unknown_folders, 'folder')} in it nobody has looked into yet"
    for path in kept.under_way[:1]:
        more = f" and {_count(len(kept.under_way) - 1, 'other')}" if len(kept.under_way) > 1 else ""
        yield f"              coming now: {path}{more}"
    for item in kept.cannot[:_MOST_SHOWN]:
        yield f"  not here    {item.path}: {item.reason}, {in_units(item.missing_bytes)} are missing"
        yield f"              {item.next_step}"
    if kept.cannot_files > _MOST_SHOWN:
        yield (
            f"              ... and {_count(kept.cannot_files - _MOST_SHOWN, 'file')} more;"
            f" {in_units(kept.cannot_bytes)} in all"
        )


def _amount(files: int, size_bytes: int) -> str:
    return f"{_count(files, 'file')}, {in_units(size_bytes)}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
