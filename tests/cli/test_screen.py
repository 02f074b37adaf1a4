"""A status as people read it."""

from __future__ import annotations

import sys

import msgspec
import pytest

from cloudfs.cli.output import harmless, paint
from cloudfs.cli.screen import screen
from cloudfs.control.protocol import Blocked, Status
from cloudfs.control.records import Attached, Space, Transfer
from tests.control.test_server import STATUS


def shown(**changes: object) -> str:
    return "\n".join(screen(msgspec.structs.replace(STATUS, **changes)))


def test_it_begins_with_who_and_where() -> None:
    assert shown(blocked=[]).splitlines()[:3] == [
        "work: jo at https://h/",
        "  mounted at  /m (process 7)",
        "  state       online",
    ]


def test_what_moves() -> None:
    up = Transfer("/a.iso", "up", 250_000, 1_000_000, 50_000.0)
    down = Transfer("/b", "down", 0, 10, 0.0)
    text = shown(transfers=[up, down])
    assert "  sending     [#####...............]  25% of 1.0 MB, 50 kB/s, 15 s left  /a.iso" in text
    assert "  fetching    [....................]   0% of 10 bytes  /b" in text
    assert "and 5 more" in shown(transfers=[down] * 15)


@pytest.mark.parametrize(("left", "said"), [(90, "90 s"), (3000, "50 min"), (9000, "2.5 h")])
def test_how_long_it_takes(left: int, said: str) -> None:
    assert f"{said} left" in shown(transfers=[Transfer("/a", "up", 0, left * 1000, 1000.0)])


def test_the_space_of_the_account_and_of_the_cache() -> None:
    text = shown(space=Space(free=2 * 10**9, used=3 * 10**9), cache_bytes=5 * 10**6, cache_limit_bytes=10**9)
    assert "  space       3.0 GB of 5.0 GB used, 2.0 GB free" in text
    assert "  cache       5.0 MB of 1.0 GB" in text
    assert "  space       3.0 GB used, unlimited" in shown(space=None, used_bytes=3 * 10**9)
    assert "space" not in shown(space=None)


def test_what_needs_a_person() -> None:
    text = shown(conflicts=2, blocked=[Blocked(f"/{i}", "no room", "make some") for i in range(12)])
    assert "  conflicts   2 (see `cloudfs conflicts`)" in text
    assert "  blocked     /9: no room\n              make some" in text
    assert text.endswith("and 2 more (--json names all)")


HOSTILE = "\033[2J\u009b2J\r\n"


def test_no_name_steers_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    status = msgspec.structs.replace(STATUS, blocked=[Blocked(f"/{HOSTILE}x", "no", "")])
    assert harmless(status) == status, "programs get it as it is"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert harmless(status) == msgspec.structs.replace(STATUS, blocked=[Blocked("/?[2J?2J??x", "no", "")])
    tagged = Attached(told=True, tags=(HOSTILE,), owner=HOSTILE)
    assert harmless(tagged) == Attached(told=True, tags=("?[2J?2J??",), owner="?[2J?2J??")
    assert harmless([HOSTILE]) == ["?[2J?2J??"]
    assert harmless("blå\u00a0ü 🙂") == "blå\u00a0ü 🙂"


def test_colours_are_for_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\033" not in shown()
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert paint("x", "red") == "\033[31mx\033[0m"
    monkeypatch.setenv("TERM", "dumb")
    assert paint("x", "red") == "x"
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert paint("x", "red") == "x"


def test_every_field_of_a_status_can_be_left_out_by_an_older_daemon() -> None:
    old = {
        field.name: getattr(STATUS, field.name) for field in msgspec.structs.fields(Status) if field.required
    }
    assert list(screen(Status(**old)))
