"""What every client is asked to do: one small function for each kind of work, cold at its beginning."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from scripts._peers.dataset import FULL, NEEDLE
from scripts._peers.figures import Goal
from scripts._peers.mounts import Curl
from scripts._peers.programs import SAVED_BYTES, STATS
from scripts._peers.turn import Turn, Wrong

__all__ = ["WORKS", "Work"]

_MB = 1_000_000
_LATER_S = 10.0
_HEAD_BYTES = 64 * 1024
_FAR_BLOCK = 200 * _MB // 4096


@dataclass(frozen=True)
class Work:
    """A kind of work, with the goals of its parts."""

    key: str
    title: str
    act: Callable[[Turn], None]
    goals: dict[str, Goal]
    limit: Callable[[Turn, Curl], None] | None = None
    """The same by one request, where that says something."""

    def parts(self) -> list[tuple[str, Goal]]:
        """Return what is measured, as figures call it."""
        return [(f"{self.title}: {part}" if part else self.title, goal) for part, goal in self.goals.items()]


def _expect(what: str, is_: object, wanted: object) -> None:
    if is_ != wanted:
        raise Wrong(f"{what}: {is_} instead of {wanted}")


# Looking


def find(turn: Turn) -> None:
    """Walk through a tree that nobody has seen, and again."""
    turn.begin()

    def walk() -> None:
        lines = turn.run("find", turn.path("tree"), "-ls").splitlines()
        _expect("names found", len(lines), 1 + FULL.tree_folders * (1 + FULL.tree_files))

    with turn.measured("cold"):
        walk()
    with turn.measured("again"):
        walk()
    time.sleep(_LATER_S)
    with turn.measured("after 10 s"):
        walk()


def stats(turn: Turn) -> None:
    """Look at files that are known."""
    turn.begin()
    turn.run("find", turn.path("tree"), "-ls")
    with turn.measured(""):
        took_s = float(turn.own_program("stats", turn.path("tree")))
    # Without the start of Python and its first walk, which are no calls of stat.
    turn.figures[-1] = msgspec.structs.replace(
        turn.figures[-1], seconds=took_s, note=f"{STATS / took_s:,.0f} a second"
    )


def listing(turn: Turn) -> None:
    """List one folder of many files."""
    turn.begin()
    with turn.measured(""):
        _expect("lines", len(turn.run("ls", "-l", turn.path("listed")).splitlines()), 1 + FULL.listed_files)


# Reading


def grep(turn: Turn) -> None:
    """Read many small files, and again."""
    turn.begin()

    def search() -> None:
        lines = turn.run("grep", "-r", NEEDLE, turn.path("texts")).splitlines()
        _expect("files found", len(lines), FULL.text_folders * FULL.text_files)

    with turn.measured("cold"):
        search()
    with turn.measured("again"):
        search()


def seek(turn: Turn) -> None:
    """Read one page far inside a large file."""
    turn.begin()
    with turn.measured(""):
        turn.run(
            "dd", f"if={turn.path('big.bin')}", "of=/dev/null", "bs=4096", f"skip={_FAR_BLOCK}", "count=1"
        )


def stream(turn: Turn) -> None:
    """Read a large file from its beginning to its end, and again."""
    turn.begin()
    for part in ("cold", "again"):
        with turn.measured(part):
            turn.run("dd", f"if={turn.path('big.bin')}", "of=/dev/null", "bs=128K")
        _note_speed(turn, FULL.big_bytes)


def _note_speed(turn: Turn, size: int) -> None:
    last = turn.figures[-1]
    turn.figures[-1] = msgspec.structs.replace(last, note=f"{size / _MB / last.seconds:,.0f} MB/s")


def stream_limit(turn: Turn, curl: Curl) -> None:
    """Get it by one request."""
    with turn.measured("cold"):
        turn.run("curl", "-sSf", "-K", curl.config, "-o", os.devnull, curl.server.address("big.bin"))
    _note_speed(turn, FULL.big_bytes)


def pictures(turn: Turn) -> None:
    """Read the beginnings of many larger files, as who makes thumbnails from what cameras put there."""
    turn.begin()
    files = [turn.path(f"pictures/p{number:03}.jpg") for number in range(FULL.pictures)]
    with turn.measured(""):
        turn.run("sh", "-c", f'head -q -c {_HEAD_BYTES} "$@" > /dev/null', "sh", *files)


# Writing


def copy_in(turn: Turn) -> None:
    """Copy a folder of small files in."""
    folder = turn.own_folder()
    turn.begin()
    with turn.measured("all on the server"):
        with turn.measured("returns"):
            turn.run("cp", "-r", turn.sources / "texts", turn.path(folder))
        turn.sync()
    turn.expect("files on the server", turn.server.count_files(folder), FULL.copied_files)


def copy_big(turn: Turn) -> None:
    """Copy a large file in."""
    folder = turn.own_folder()
    turn.begin()
    with turn.measured("on the server"):
        with turn.measured("returns"):
            turn.run("cp", turn.sources / "copied.bin", turn.path(folder))
        turn.sync()
    turn.expect("bytes on the server", turn.server.size(f"{folder}/copied.bin"), FULL.copied_bytes)
    _note_speed(turn, FULL.copied_bytes)


def copy_big_limit(turn: Turn, curl: Curl) -> None:
    """Send it by one request."""
    folder = turn.own_folder()
    with turn.measured("on the server"):
        turn.run(
            "curl", "-sSf", "-K", curl.config, "-T", turn.sources / "copied.bin",
            curl.server.address(f"{folder}/copied.bin"),
        )  # fmt: skip
    _note_speed(turn, FULL.copied_bytes)


def append(turn: Turn) -> None:
    """Add a little to the end of a large file of which nothing is here."""
    folder = turn.own_folder()
    turn.server.put(f"{folder}/log.bin", turn.sources / "log.bin")
    turn.begin()
    log = turn.path(f"{folder}/log.bin")
    with turn.measured("on the server"):
        with turn.measured("returns"):
            turn.run("sh", "-c", 'head -c 1024 /dev/zero >> "$1"', "sh", log)
        turn.sync()
    turn.expect("bytes on the server", turn.server.size(f"{folder}/log.bin"), FULL.log_bytes + 1024)


def saves(turn: Turn) -> None:
    """Save one document fifty times by a new file that is renamed over the old one."""
    folder = turn.own_folder()
    turn.server.put(f"{folder}/document.txt", turn.sources / "texts/d0/f000.txt")
    before = turn.server.file_id(f"{folder}/document.txt")
    turn.begin()
    with turn.measured("on the server"):
        with turn.measured("returns"):
            turn.own_program("saves", turn.path(f"{folder}/document.txt"))
        turn.sync()
    turn.expect("bytes on the server", turn.server.size(f"{folder}/document.txt"), SAVED_BYTES)
    kept = turn.server.file_id(f"{folder}/document.txt") == before
    note = "file id kept" if kept else "another file id"
    turn.figures[-1] = msgspec.structs.replace(turn.figures[-1], note=note)


def git(turn: Turn) -> None:
    """Begin a repository with a folder of small files."""
    folder = turn.own_folder()
    turn.begin()
    place = turn.path(folder)
    command = "git", "-c", "user.name=bench", "-c", "user.email=bench@example.org", "-C", place
    with turn.measured("all on the server"):
        with turn.measured("returns"):
            turn.run("cp", "-r", turn.sources / "texts", place)
            turn.run(*command, "init", "--quiet")
            turn.run(*command, "add", ".")
            turn.run(*command, "commit", "--quiet", "--message", "all")
        turn.sync()


def remove(turn: Turn) -> None:
    """Remove a folder of small files."""
    folder = turn.own_folder()
    turn.server.copy("texts/d0", f"{folder}/a")
    turn.server.copy("texts/d1", f"{folder}/b")
    turn.server.copy("texts/d2", f"{folder}/c")
    turn.begin()
    turn.run("find", turn.path(folder))  # who removes a folder has seen it
    with turn.measured("gone on the server"):
        with turn.measured("returns"):
            turn.run("rm", "-r", turn.path(folder))
        turn.sync()
    turn.expect("there on the server", turn.server.exists(folder), wanted=False)


WORKS = (
    Work("find", "`find -ls` of 2,000 files in 200 folders", find, {
        "cold": Goal("12 times faster, at most 5 requests", times_faster=12, requests=5),
        "again": Goal("4 times faster, no request", times_faster=4, requests=0),
        "after 10 s": Goal("4 times faster, no request", times_faster=4, requests=0),
    }),
    Work("stat", f"{STATS:,} `stat` of known files", stats, {
        "": Goal("250,000 a second", seconds=STATS / 250_000),
    }),
    Work("ls", "`ls -l` of 1,000 files, cold", listing, {"": Goal("first", times_faster=1)}),
    Work("grep", "`grep -r` in 500 files of 4 KB", grep, {
        "cold": Goal(
            "8 times faster (12 at 40 ms), at most 20 requests", times_faster=8, times_faster_far=12, requests=20
        ),
        "again": Goal("5 times faster", times_faster=5),
    }),
    Work("seek", "4 KB at 200 MB of a file, cold", seek, {
        "": Goal("as fast, under 1 MB", times_faster=1, bytes=_MB),
    }),
    Work("stream", "256 MB from beginning to end", stream, {
        "cold": Goal("curl's speed ± 10 %, half of rclone's CPU", of_limit=0.9, cpu_of=0.5),
        "again": Goal("2,000 MB/s", seconds=FULL.big_bytes / _MB / 2000),
    }, stream_limit),
    Work("pictures", "first 64 KB of each of 100 pictures of 2 MB", pictures, {
        "": Goal("3 times faster, under 15 MB", times_faster=3, bytes=15 * _MB),
    }),
    Work("copy", "`cp -r` of 300 files of 4 KB in", copy_in, {
        "returns": Goal("under 1 s", seconds=1),
        "all on the server": Goal("6 times faster, at most 30 requests", times_faster=6, requests=30),
    }),
    Work("copy-big", "`cp` of 200 MB in", copy_big, {
        "returns": Goal("as fast", times_faster=1),
        "on the server": Goal("as fast as `curl -T` ± 15 %", of_limit=0.85),
    }, copy_big_limit),
    Work("append", "append 1 KB to a cold file of 64 MB", append, {
        "returns": Goal(""),
        "on the server": Goal("5 times faster, under 0.1 MB", times_faster=5, bytes=_MB / 10),
    }),
    Work("saves", "50 editor saves of one file", saves, {
        "returns": Goal("as fast", times_faster=1),
        "on the server": Goal("as fast, at most 4 requests, file id kept", times_faster=1, requests=4),
    }),
    Work("git", "`cp -r`, `git init`, `add`, `commit` of 300 files", git, {
        "returns": Goal("5 s", seconds=5),
        "all on the server": Goal("at most 120 requests", requests=120),
    }),
    Work("rm", "`rm -r` of 300 files", remove, {
        "returns": Goal("under 1 s", seconds=1),
        "gone on the server": Goal("2 s, one request", seconds=2, requests=1),
    }),
)  # fmt: skip
"""In the order of the table."""
