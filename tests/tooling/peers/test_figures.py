"""Medians, ratios, goals, and how they are shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from lxml import etree

from scripts._peers.chart import chart, place
from scripts._peers.figures import Figure, Figures, Goal
from scripts._peers.table import document, tables
from scripts._peers.works import WORKS

WORK = "`ls -l` of 1,000 files, cold"


@pytest.fixture
def figures(tmp_path: Path) -> Figures:
    made = Figures(tmp_path / "figures")
    for client, times in {
        "cloudfs": (3.0, 1.0, 2.0),
        "rclone": (8.0, 8.0, 80.0),
        "davfs2": (6.0,),
        "curl": (1.0,),
    }.items():
        for seconds in times:
            made.add(Figure(0, WORK, client, seconds, 3, 2_000_000, 500_000, cpu_s=0.5, peak_mib=70.0))
    return made


def test_the_middle_of_the_runs_counts(figures: Figures) -> None:
    ours = figures.cell(0, WORK, "cloudfs")
    assert ours is not None
    assert (ours.seconds, ours.requests, ours.runs) == (2.0, 3, 3)


def test_the_best_peer_is_no_limit_and_not_us(figures: Figures) -> None:
    best = figures.best_peer(0, WORK)
    assert best is not None
    assert best.seconds == 6.0
    assert figures.ratio(0, WORK) == 3.0


def test_what_came_to_no_end_counts_only_where_nothing_else_did(figures: Figures) -> None:
    figures.add(Figure(0, WORK, "davfs2", 0.1, failed="over 0 s"))
    assert figures.ratio(0, WORK) == 3.0
    figures.add(Figure(40, WORK, "cloudfs", 1.0))
    figures.add(Figure(40, WORK, "rclone", 9.0, failed="over 9 s"))
    assert figures.ratio(40, WORK) == 9.0
    figures.add(Figure(40, "other", "cloudfs", 1.0, failed="over 1 s"))
    figures.add(Figure(40, "other", "rclone", 9.0))
    assert figures.ratio(40, "other") is None
    assert figures.missed(40, "other", Goal("")) == ["over 1 s"]


@pytest.mark.parametrize(
    ("goal", "missed"),
    [
        (Goal("", times_faster=3.0), []),
        (Goal("", times_faster=3.1), ["3.0 times"]),
        (Goal("", times_faster=2, times_faster_far=99), []),
        (Goal("", of_limit=0.5), []),
        (Goal("", of_limit=0.6), ["50% of curl"]),
        (Goal("", seconds=1.9, requests=2), ["2.00 s", "3 requests"]),
        (Goal("", requests=0), ["3 requests"]),
        (Goal("", bytes=2_500_000), []),
        (Goal("", bytes=2_499_999), ["2,500,000 bytes"]),
        (Goal("", cpu_of=0.5), ["0.5 s of CPU"]),
        (Goal("", cpu_of=1), []),
    ],
)
def test_a_goal_says_what_was_missed(figures: Figures, goal: Goal, missed: list[str]) -> None:
    assert figures.missed(0, WORK, goal) == missed


def test_another_goal_may_hold_far_away(figures: Figures) -> None:
    figures.add(Figure(40, WORK, "cloudfs", 1.0))
    figures.add(Figure(40, WORK, "rclone", 9.0))
    assert figures.missed(40, WORK, Goal("", times_faster=8, times_faster_far=12)) == ["9.0 times"]


def test_they_are_kept_for_the_next_run(figures: Figures, tmp_path: Path) -> None:
    again = Figures(tmp_path / "figures")
    assert list(tables(again)) == list(tables(figures))
    assert again.clients() == ["cloudfs", "rclone", "davfs2", "curl"]


def test_a_row_says_all_of_it(figures: Figures) -> None:
    figures.add(Figure(0, WORK, "davfs2", 9.0, failed="over 9 s"))
    row = next(line for line in tables(figures) if line.startswith(f"| {WORK}"))
    shown = [cell.strip() for cell in row.strip("|").split("|")]
    assert shown == [
        WORK,
        "2.00 s; 3 requests; 2.00 MB down, 0.50 MB up; CPU 0.50 s",
        "8.00 s; 3 requests; 2.00 MB down, 0.50 MB up; CPU 0.50 s",
        "6.00 s; 3 requests; 2.00 MB down, 0.50 MB up; CPU 0.50 s",
        "1.00 s; 3 requests; 2.00 MB down, 0.50 MB up; CPU 0.50 s",
        "3.0",
        "first",
        "",
    ]


def test_a_client_that_was_given_up_is_shown_as_that(figures: Figures) -> None:
    figures.add(Figure(40, WORK, "cloudfs", 1.0))
    figures.add(Figure(40, WORK, "rclone", 9.0, failed="over 9 s"))
    row = [line for line in tables(figures) if line.startswith(f"| {WORK}")][1]
    assert "| given up: over 9 s |" in row


def test_every_row_has_as_many_cells_as_its_head(figures: Figures) -> None:
    rows = [line for line in tables(figures) if line.startswith("|")]
    assert {line.count("|") for line in rows} == {9}


def test_the_page_names_the_chart_and_the_machine(figures: Figures) -> None:
    page = document(figures, "2 busy cores.", "benchmarks.svg")
    assert "](benchmarks.svg)" in page
    assert "2 busy cores." in page
    assert "- cloudfs: 70 MiB (goal: 114)" in page


def test_the_chart_is_svg_with_a_bar_for_each_ratio(figures: Figures) -> None:
    figures.add(Figure(40, WORK, "cloudfs", 4.0))
    figures.add(Figure(40, WORK, "rclone", 1.0))
    root = etree.fromstring(chart(figures))
    bars = [it for it in root.iter("{http://www.w3.org/2000/svg}rect") if it.get("height") == "11"]
    (faster, slower) = [(float(it.get("x", "")), float(it.get("width", ""))) for it in bars]
    assert faster == pytest.approx((place(1), place(3) - place(1)), abs=0.1)
    assert slower == pytest.approx((place(0.25), place(1) - place(0.25)), abs=0.1)


def test_the_scale_is_logarithmic() -> None:
    assert place(100) - place(10) == pytest.approx(place(10) - place(1))
    assert place(1e9) == place(1000)


def test_every_kind_of_work_has_a_name_of_its_own() -> None:
    names = [name for work in WORKS for name, _ in work.parts()]
    assert len(set(names)) == len(names)
    assert len({work.key for work in WORKS}) == len(WORKS)
