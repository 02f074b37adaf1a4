"""What docs/CONTROL.md states as fact is compared with the code."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import get_args

import msgspec
import pytest
import typer.main

from cloudfs.account import answers, pinning, reloading
from cloudfs.cli import (
    accounts,
    conflicts,
    doctor,
    logentries,
    login,
    logout,
    mount,
    sealing,
    service,
    unmount,
)
from cloudfs.cli.completion import words_of
from cloudfs.cli.main import app
from cloudfs.control import pinning as pins
from cloudfs.control import records
from cloudfs.control.protocol import (
    MAX_LINE_BYTES,
    Blocked,
    ConflictPair,
    Damaged,
    Decided,
    HeldDeletions,
    Method,
    Status,
    Unmounted,
)
from cloudfs.control.server import ALIVE_S, HURRY_S, IDLE_S, MAX_CLIENTS, MOST_FOLLOWERS, MOST_WAITING
from cloudfs.daemon import handlers

TEXT = (Path(__file__).parents[2] / "docs/CONTROL.md").read_text()
REQUESTS = TEXT.partition("## Requests\n")[2].partition("\n### ")[0]
ROWS = {
    name: row
    for names, row in re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| (.*) \|$", REQUESTS, re.MULTILINE)
    for name in re.findall(r"`(\w+)`", names)
}


def methods() -> set[str]:
    source = "".join(
        map(inspect.getsource, (answers.Answers, pinning.Pinning, reloading.Reloader, handlers.Handlers))
    )
    return {*get_args(Method), *re.findall(r'"(\w+)": method\(', source)}


def test_every_request_is_listed() -> None:
    assert ROWS.keys() == methods()


@pytest.mark.parametrize(
    ("name", "record"),
    [
        ("list", records.FileState),
        ("info", records.FileInfo),
        ("annotations", records.Attached),
        ("cache", records.CacheInfo),
        ("cache_clear", records.Cleared),
        ("cache_verify", records.Checked),
        ("pause", records.Paused),
        ("resume", records.Paused),
        ("reload", records.Reloaded),
        ("first_answer", records.FirstAnswer),
        ("pin", pins.Pinned),
        ("pins", pins.Pins),
        ("conflicts", ConflictPair),
        ("deletions", Decided),
        ("unmount", Unmounted),
    ],
)
def test_every_field_is_named(name: str, record: type[msgspec.Struct]) -> None:
    assert {field.name for field in msgspec.structs.fields(record)} <= set(re.findall(r"`(\w+)`", ROWS[name]))


@pytest.mark.parametrize(
    ("heading", "record"),
    [
        ("### A status", Status),
        ("### A status", records.Transfer),
        ("### A status", Blocked),
        ("### A status", HeldDeletions),
        ("### A status", Damaged),
        ("### A status", pins.KeptState),
        ("### A status", pins.Missing),
        ("## What `--json` prints", accounts.AccountLine),
        ("## What `--json` prints", login.LoggedIn),
        ("## What `--json` prints", logout.LoggedOut),
        ("## What `--json` prints", mount.Mounted),
        ("## What `--json` prints", unmount.Gone),
        ("## What `--json` prints", conflicts.Done),
        ("## What `--json` prints", sealing.Sealing),
        ("## What `--json` prints", doctor.Line),
        ("## What `--json` prints", service.Unit),
        ("## What `--json` prints", logentries.Entry),
    ],
)
def test_every_field_that_is_printed_is_named(heading: str, record: type[msgspec.Struct]) -> None:
    section = re.split(r"^##+ ", TEXT.partition(f"{heading}\n")[2], flags=re.MULTILINE)[0]
    assert {field.name for field in msgspec.structs.fields(record)} <= set(re.findall(r"`(\w+)`", section))


def test_every_command_that_prints_is_named() -> None:
    section = TEXT.partition("## What `--json` prints\n")[2].partition("\n## ")[0]
    named = {it.removesuffix(" --wait") for it in re.findall(r"`([a-z …-]+)`", section)}
    for words in words_of(typer.main.get_command(app)):
        if any("--json" in option.names for option in words.options):
            group, _, last = words.path.partition(" ")
            whole = {"deletions": "deletions", "conflicts": "conflicts keep-…", "service": "service …"}.get(
                group
            )
            assert named & {words.path, last, whole}, words.path


def test_the_limits_are_named() -> None:
    paragraph = TEXT[TEXT.index("`limits` (also in `status`)") :].partition("\n\n")[0]
    named = set(re.findall(r"`(\w+)`", paragraph))
    assert {field.name for field in msgspec.structs.fields(records.Limits)} <= named


def test_its_numbers() -> None:
    assert f"at most {MAX_LINE_BYTES // 1024} KiB" in TEXT
    assert (MAX_CLIENTS, MOST_FOLLOWERS, MOST_WAITING, IDLE_S, HURRY_S, ALIVE_S) == (
        64,
        64,
        256,
        60.0,
        1.0,
        10.0,
    )


def test_every_state_is_named() -> None:
    for state in (*get_args(records.State), *get_args(records.Here)):
        assert f"`{state}`" in TEXT
    assert "needs-login" in (inspect.getdoc(Status) or "") + TEXT
