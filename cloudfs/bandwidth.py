"""Limits of speed as people write them: rates, time tables as rclone's `--bwlimit` takes them, metered connections.

2 MB/s   512k   1.5 MiB/s   off
08:00 512k 12:00 10M 19:00 off                       each day
Mon-08:00,512k Fri-18:00,off                         a week
"""

from __future__ import annotations

import datetime as dt
import re
from typing import Literal, NamedTuple

import msgspec

__all__ = [
    "OFF",
    "Limits",
    "Metered",
    "Now",
    "Rules",
    "Timetable",
    "parse_metered",
    "parse_rate",
    "parse_timetable",
]

LEAST_RATE = 8000
"""Below that a block of a file takes minutes, and no program waits so long."""
MOST_RATE = 10**12

_UNITS = {
    # As in rclone: powers of 1024, and the second left out.
    "k": 1024,
    "m": 1024**2,
    "g": 1024**3,
    "b/s": 1,
    "kb/s": 10**3,
    "mb/s": 10**6,
    "gb/s": 10**9,
    "kib/s": 1024,
    "mib/s": 1024**2,
    "gib/s": 1024**3,
}
_RATE = r"off|\d+(?:\.\d+)?\s*(?:[kmg]i?b/s|b/s|[kmg])"
_ENTRY = re.compile(
    rf"(?:(?P<day>[a-z]+)-)?(?P<hour>\d\d?):(?P<minute>\d\d)[\s,]+(?P<rate>{_RATE})(?:\s+|$)", re.IGNORECASE
)
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_DAY_MINUTES = 24 * 60
_WEEK_MINUTES = 7 * _DAY_MINUTES


class Now(NamedTuple):
    """What a table says at a moment."""

    rate: float | None
    """Bytes per second; None: no limit."""
    until: dt.datetime | None
    """When it says something else; None: never."""


class Timetable(msgspec.Struct, frozen=True):
    """From which minute of the week (local time, from Monday 00:00) on which rate holds; in order, at least one."""

    entries: tuple[tuple[int, float | None], ...]

    def at(self, now: dt.datetime) -> Now:
        """Tell what holds at a local time."""
        minute = now.weekday() * _DAY_MINUTES + now.hour * 60 + now.minute
        begun = [at for at, (start, _) in enumerate(self.entries) if start <= minute]
        index = begun[-1] if begun else len(self.entries) - 1  # last week's last
        rate = self.entries[index][1]
        for step in range(1, len(self.entries)):
            start, other = self.entries[(index + step) % len(self.entries)]
            if other != rate:
                left = (start - minute - 1) % _WEEK_MINUTES + 1
                until = now.replace(second=0, microsecond=0) + dt.timedelta(minutes=left)
                return Now(rate, until.replace(fold=now.fold))  # of an hour that comes twice, the same one
        return Now(rate, None)


OFF = Timetable(((0, None),))


class Metered(msgspec.Struct, frozen=True):
    """What becomes of some traffic on a connection that is paid by what goes through it."""

    policy: Literal["ignore", "pause", "limit"]
    rate: float | None = None


class Limits(msgspec.Struct, frozen=True):
    """The limits in force, in bytes per second; None: none. Times in Unix s; None: until told otherwise."""

    up: float | None = None
    up_until: float | None = None
    down: float | None = None
    down_until: float | None = None
    background: float | None = None
    """A further one, of what is fetched that no program reads."""
    metered: bool = False
    """The connection is paid by what goes through it."""
    fetching_rests: bool = False
    """For that reason nothing is fetched that no program reads,"""
    sending_rests: bool = False
    """and nothing is sent."""


class Rules(msgspec.Struct, frozen=True):
    """The limits of one account."""

    up: Timetable = OFF
    down: Timetable = OFF
    metered: Metered = Metered("pause")
    """Of what is fetched that no program reads."""
    metered_up: Metered = Metered("ignore")
    """Of what is sent."""


def parse_rate(text: str) -> float | None:
    """Return bytes per second, None for "off"; ValueError with a sentence."""
    if not re.fullmatch(_RATE, text.strip(), re.IGNORECASE):
        raise ValueError(f"{text!r} is no speed")
    return _rate(text)


def _rate(text: str) -> float | None:
    text = text.strip().lower()
    if text == "off":
        return None
    number, unit = re.fullmatch(r"([\d.]+)\s*(.*)", text).groups()  # type: ignore[union-attr]  # it matched _RATE
    rate = float(number) * _UNITS[unit]
    if not LEAST_RATE <= rate <= MOST_RATE:
        raise ValueError(f"{text!r} is less than 8 kB/s" if rate < LEAST_RATE else f"{text!r} is no speed")
    return rate


def parse_timetable(text: str) -> Timetable:
    """Return a table, or a single rate as one; ValueError with a sentence."""
    text = text.strip()
    if ":" not in text:
        return Timetable(((0, parse_rate(text)),))
    entries: dict[int, float | None] = {}
    position = 0
    while position < len(text):
        entry = _ENTRY.match(text, position)
        if entry is None:
            raise ValueError(f"{text[position:]!r} does not begin with a time and a speed")
        for minute in _minutes(entry):
            if minute in entries:
                raise ValueError(f"{entry[0].strip()!r} says something else of a time that is there already")
            entries[minute] = _rate(entry["rate"])
        position = entry.end()
    return Timetable(tuple(sorted(entries.items())))


def _minutes(entry: re.Match[str]) -> list[int]:
    """Return the minutes of the week that an entry begins at: one, or that of each day."""
    hour, minute = int(entry["hour"]), int(entry["minute"])
    if hour > 23 or minute > 59:
        raise ValueError(f"{entry['hour']}:{entry['minute']} is no time of day")
    named = (entry["day"] or "").lower()
    days = [at for at, day in enumerate(_DAYS) if not named or (len(named) >= 3 and day.startswith(named))]
    if not days:
        raise ValueError(f"{entry['day']!r} is no day of the week")
    return [day * _DAY_MINUTES + hour * 60 + minute for day in days]


def parse_metered(text: str) -> Metered:
    """Return what "ignore", "pause" or "limit RATE" means; ValueError with a sentence."""
    word, _, rest = text.strip().partition(" ")
    match word.lower(), rest:
        case "ignore", "":
            return Metered("ignore")
        case "pause", "":
            return Metered("pause")
        case "limit", _ if (rate := parse_rate(rest)) is not None:
            return Metered("limit", rate)
    raise ValueError(f'{text!r} is none of "ignore", "pause" and "limit SPEED"')
