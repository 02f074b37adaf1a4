"""What the commands print: colours and a moving line on a terminal, plain text elsewhere, JSON for programs."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, TextIO, TypeVar

import msgspec

__all__ = [
    "Colour",
    "Gauge",
    "bar",
    "clear_line",
    "harmless",
    "is_screen",
    "one_line",
    "paint",
    "print_json",
    "waiting",
]

T = TypeVar("T")
Colour = Literal["red", "yellow", "green", "dim", "bold"]
_CODES: dict[Colour, str] = {"red": "31", "yellow": "33", "green": "32", "dim": "2", "bold": "1"}
_BAR = 20
_CLEAR = "\r\033[K"
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def is_screen(stream: TextIO) -> bool:
    """Tell whether a person looks at it, on a terminal that understands control sequences."""
    return stream.isatty() and os.environ.get("TERM", "") != "dumb"


def paint(text: str, colour: Colour) -> str:
    """Colour a piece of standard output where that is wanted (https://no-color.org: NO_COLOR says no)."""
    if os.environ.get("NO_COLOR") or not is_screen(sys.stdout):
        return text
    return f"\033[{_CODES[colour]}m{text}\033[0m"


def harmless(said: T, stream: TextIO | None = None) -> T:
    """Return a text, a record or a list as it can be shown on `stream` (None: standard output).

    Names come from servers and other people: on a terminal nothing in them may steer it, so that control characters
    are question marks there, as `ls` has it. Elsewhere all is as it is.
    """
    if not (stream or sys.stdout).isatty():
        return said
    return msgspec.convert(_without_control(msgspec.to_builtins(said)), type(said))


def _without_control(said: object) -> object:
    if isinstance(said, str):
        return _CONTROL.sub("?", said)
    if isinstance(said, list | tuple):
        return [_without_control(it) for it in said]
    if isinstance(said, dict):
        return {name: _without_control(it) for name, it in said.items()}
    return said


def print_json(answer: object) -> None:
    """Print it for programs: indented, and at once."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(answer), indent=2).decode() + "\n")
    sys.stdout.flush()


def one_line(text: str) -> None:
    """Show a line that the next one replaces, on standard error, where a person looks at it."""
    if is_screen(sys.stderr):
        sys.stderr.write(_CLEAR + harmless(text, sys.stderr))
        sys.stderr.flush()


def clear_line() -> None:
    """Take such a line away."""
    one_line("")


@contextmanager
def waiting(text: str) -> Iterator[None]:
    """Show such a line for as long as something takes."""
    one_line(text)
    try:
        yield
    finally:
        clear_line()


def bar(part: float) -> str:
    """Return a bar of a fixed width; `part` is from 0 to 1."""
    filled = round(_BAR * part)
    return f"[{'#' * filled}{'.' * (_BAR - filled)}] {part:4.0%}"


class Gauge:
    """A moving line with a bar: of the most that was ever left, so much is done."""

    def __init__(self) -> None:
        self._most = 0

    def show(self, left: int, text: str) -> None:
        """Show how it stands; `left` in whatever unit, in words in `text`."""
        self._most = max(self._most, left)
        one_line(f"{bar(1 - left / self._most) if self._most else bar(1)} {text}")
