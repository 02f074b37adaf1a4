"""The line that moves on a terminal."""

from __future__ import annotations

import io
import sys

import pytest

from cloudfs.cli.output import Gauge


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_shows_what_is_done_of_the_most_that_was_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    gauge = Gauge()
    for left in (4, 8, 2, 0):
        gauge.show(left, f"{left} left")
    shown = [line.removeprefix("\033[K") for line in terminal.getvalue().split("\r")[1:]]
    assert shown == [
        "[....................]   0% 4 left",
        "[....................]   0% 8 left",
        "[###############.....]  75% 2 left",
        "[####################] 100% 0 left",
    ]


def test_elsewhere_nothing_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", plain := io.StringIO())
    Gauge().show(1, "1 left")
    assert plain.getvalue() == ""
