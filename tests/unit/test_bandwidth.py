"""Speeds and time tables as people write them."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudfs.bandwidth import OFF, Metered, Timetable, parse_metered, parse_rate, parse_timetable

MONDAY = dt.datetime(2026, 11, 30)  # noqa: DTZ001  # tables go by the local time


def at(day: int, hour: int, minute: int = 0) -> dt.datetime:
    return MONDAY + dt.timedelta(days=day, hours=hour, minutes=minute)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("2 MB/s", 2e6),
        ("2MB/s", 2e6),
        ("1.5 MiB/s", 1.5 * 1024**2),
        ("512k", 512 * 1024),
        ("10M", 10 * 1024**2),
        ("1G", 1024**3),
        ("200 kb/s", 200_000),
        ("200 KiB/s", 200 * 1024),
        ("9000 B/s", 9000),
        ("off", None),
        (" OFF ", None),
    ],
)
def test_speeds(text: str, rate: float | None) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize(
    "text", ["", "0", "512", "fast", "-1k", "1 Mbit/s", "1k 2k", "1.k", "1e3k", "7 kB/s", "9999G"]
)
def test_no_speeds(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no speed|less than"):
        parse_rate(text)


def test_one_speed_is_a_table() -> None:
    assert parse_timetable("512k").at(at(3, 12)) == (512 * 1024, None)
    assert parse_timetable("off") == OFF
    assert OFF.at(at(0, 0)) == (None, None)


@pytest.mark.parametrize(
    "text", ["08:00 512k 19:00 off", "19:00,off 08:00,512k", "8:00, 512 KiB/s  19:00 off"]
)
def test_a_day(text: str) -> None:
    table = parse_timetable(text)
    assert table.at(at(0, 8)) == (512 * 1024, at(0, 19))
    assert table.at(at(4, 18, 59)) == (512 * 1024, at(4, 19))
    assert table.at(at(4, 19)) == (None, at(5, 8))
    assert table.at(at(0, 7, 59).replace(second=59)) == (None, at(0, 8))
    # Sunday night goes on with what began on Sunday evening.
    assert table.at(at(6, 23)) == (None, at(7, 8))
    assert table.at(at(7, 1)) == (None, at(7, 8))


def test_a_week() -> None:
    table = parse_timetable("Mon-08:00,512k Friday-18:00,off")
    assert table.at(at(2, 3)) == (512 * 1024, at(4, 18))
    assert table.at(at(5, 0)) == (None, at(7, 8))
    assert table.at(at(0, 7)) == (None, at(0, 8))
    mixed = parse_timetable("08:00 512k sat-00:00 1M")
    assert mixed.at(at(4, 9)) == (512 * 1024, at(5, 0))
    assert mixed.at(at(5, 7)) == (1024**2, at(5, 8))


def test_the_end_is_where_it_really_changes() -> None:
    assert parse_timetable("08:00 1M 12:00 1M 20:00 off").at(at(0, 9)) == (1024**2, at(0, 20))
    assert parse_timetable("08:00 1M 12:00 1M").at(at(0, 9)) == (1024**2, None)


@pytest.mark.parametrize(
    "text",
    [
        "08:00",
        "08:00 fast",
        "24:00 1M",
        "08:60 1M",
        "Moo-08:00 1M",
        "Mo-08:00 1M",
        "08:00 1M 08:00 2M",
        "08:00 1M Mon-08:00 2M",
        "1M 08:00 2M",
        "08:00 1M and 19:00 off",
        "08:00 1M19:00 off",
    ],
)
def test_no_tables(text: str) -> None:
    with pytest.raises(ValueError, match=r"does not begin|is no time|is no day|something else"):
        parse_timetable(text)


TABLES = st.dictionaries(
    st.integers(0, 7 * 1440 - 1), st.none() | st.sampled_from([8e3, 1e6, 2e6]), min_size=1
).map(lambda entries: Timetable(tuple(sorted(entries.items()))))


@given(TABLES, st.datetimes(MONDAY, MONDAY + dt.timedelta(days=1000)))
def test_until_is_the_first_moment_of_another_speed(table: Timetable, now: dt.datetime) -> None:
    rate, until = table.at(now)
    if until is None:
        assert {other for _, other in table.entries} == {rate}
        return
    assert now < until <= now + dt.timedelta(days=7)
    assert table.at(until).rate != rate
    assert table.at(until - dt.timedelta(minutes=1)).rate == rate
    assert table.at(now + (until - now) / 2).rate == rate


def test_metered() -> None:
    assert parse_metered("pause") == Metered("pause")
    assert parse_metered(" Ignore") == Metered("ignore")
    assert parse_metered("limit 200 kB/s") == Metered("limit", 200_000)


@pytest.mark.parametrize("text", ["", "limit", "limit off", "limit fast", "stop", "pause 1k"])
def test_no_word_about_metered(text: str) -> None:
    with pytest.raises(ValueError, match=r"is none of|is no speed"):
        parse_metered(text)


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize(("month", "day"), [(10, 25), (3, 29), (12, 31)])
def test_what_holds_ends_later_also_when_clocks_are_set_back(month: int, day: int) -> None:
    """Else whoever waits for the end would look again without a pause, for half an hour of that night."""
    table = parse_timetable("02:30 512k 03:30 off")
    midnight = dt.datetime(2026, month, day).timestamp()  # noqa: DTZ001  # local time
    for minute in range(0, 30 * 60, 5):
        now = dt.datetime.fromtimestamp(midnight + 60 * minute)  # noqa: DTZ006  # the same
        until = table.at(now).until
        assert until is not None
        assert until.timestamp() > now.timestamp(), now
