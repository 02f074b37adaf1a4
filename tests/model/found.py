"""Histories that failed once, shrunk, each under the circumstances of its profile and seed, by what went wrong."""

from __future__ import annotations

from typing import NamedTuple

from tests.model.operations import (
    Create,
    Drain,
    Exchange,
    Extend,
    Kill,
    KillSoon,
    Mkdir,
    Open,
    Operation,
    OtherDelete,
    OtherMove,
    OtherMoveSeen,
    OtherReplace,
    OtherRetype,
    OtherRewrite,
    OtherWrite,
    Read,
    ReadFile,
    Refresh,
    Rename,
    RenameNoReplace,
    Restart,
    Rmdir,
    Save,
    SaveByRename,
    SetTime,
    Truncate,
    TruncateFile,
    Unlink,
    Wait,
)

__all__ = ["FOUND", "Found"]


class Found(NamedTuple):
    """One history."""

    profile: str
    seed: int
    history: list[Operation]


FOUND: dict[str, Found] = {
    "folder-kept-here-went-when-the-reply-of-its-removal-was-lost": Found(
        "faults", 359, [Rename("d/e", "a~"), Truncate("a", 1), Drain()]
    ),
    "folder-kept-here-went-when-its-removal-was-cut-by-a-restart": Found(
        "alone",
        10947,
        [Exchange("d/e", "d/b"), RenameNoReplace("d", "a~"), Wait(6.0), Restart()],
    ),
    "folder-kept-here-stayed-on-the-server": Found(
        "alone",
        10776,
        [Wait(6.0), Save("d/e/a", 1), Unlink("d/b"), Kill(), Rename("d/e", "a~"), Restart()],
    ),
    "move-whose-reply-was-lost-made-the-file-vanish-for-a-while": Found(
        "faults", 2071, [ReadFile("a"), RenameNoReplace("a", "d/e/a"), Kill()]
    ),
    "file-came-back-that-was-removed-after-a-move-whose-reply-was-lost": Found(
        "faults",
        2016,
        [Rename("d/b", "d/a"), Restart(), Wait(0.0), Open("a", 2, writes=False), Unlink("d/a")],
    ),
    "rename-was-undone-after-a-move-whose-reply-was-lost": Found(
        "faults", 19, [Exchange("d/b", "d/e"), Kill(), Kill(), RenameNoReplace("d/b", "d/a")]
    ),
    "exchanged-folder-vanished": Found(
        "faults", 3083, [Wait(6.0), Save("d/a", 5), Exchange("d/e", "d/b"), Wait(6.0)]
    ),
    "file-came-back-that-was-removed-while-its-first-upload-failed-again": Found(
        "faults",
        108,
        [
            Wait(6.0),
            Rmdir("d/e"),
            Save("e", 12),
            Create("d/e/a", 1),
            Kill(),
            Kill(),
            Kill(),
            Unlink("e"),
        ],
    ),
    "file-came-back-that-was-removed-during-an-upload-cut-by-a-kill": Found(
        "alone",
        2597,
        [
            SaveByRename("b", 1, "new~"),
            Save("d/a", 1),
            Truncate("d/b", 20),
            ReadFile("d/b"),
            Unlink("d/a"),
            Kill(),
        ],
    ),
    "conflict-with-an-upload-of-our-own-under-the-name-of-a-moved-file": Found(
        "faults", 10964, [Save("d/a", 2), Kill(), Rename("a", "d/a")]
    ),
    "conflict-with-an-upload-of-our-own-after-an-exchange": Found(
        "faults",
        10451,
        [
            Save("d/b", 12),
            Rename("d/b", "e"),
            Save("d/b", 5),
            Wait(1.5),
            Exchange("d/b", "e"),
            Kill(),
        ],
    ),
    "conflict-with-ourselves-after-a-rename-cut-by-a-kill": Found(
        "faults",
        2372,
        [
            Restart(),
            SaveByRename("a~", 1, "new"),
            Rename("a", "b"),
            Wait(1.5),
            Mkdir("d/e/a"),
            Rename("a~", "b"),
            Kill(),
            Exchange("a", "d/a"),
        ],
    ),
    "open-file-could-not-be-read-after-its-time-was-set": Found(
        "alone", 481, [SetTime("d/b", 1_700_000_000), Open("d/b", 2), Drain()]
    ),
    "time-set-after-an-upload-whose-reply-was-lost-never-went-up": Found(
        "faults",
        564,
        [Save("e", 5), SetTime("d/b", 1_600_000_000), Wait(6.0), SetTime("e", 1_700_000_001)],
    ),
    "attempts-stayed-with-a-file-that-was-moved-there": Found(
        "faults", 380, [SaveByRename("d/e/a", 5, "d/new"), Wait(1.5), Rename("d/b", "d/e/a")]
    ),
    "attempts-stayed-without-any-fault": Found(
        "alone",
        2035,
        [RenameNoReplace("d/e", "e"), Drain(), Create("d/e", 1), Kill(), Rename("a", "d/e")],
    ),
    "write-within-the-second-of-our-base-was-overwritten": Found(
        "same-second", 20149, [OtherRewrite("a", 1), Save("a", 2)]
    ),
    "write-within-the-second-of-a-removed-version-went": Found(
        "same-second", 20149, [OtherRewrite("d/b", 1), Unlink("d/b")]
    ),
    "rename-into-what-another-clients-move-took-waited-for-ever": Found(
        "two", 47, [OtherMove("d", "b"), Rename("d/b", "b")]
    ),
    "exchange-of-a-folder-that-another-client-made-a-file-waited-for-ever": Found(
        "two",
        236,
        [Rename("d/e", "e"), Save("a~", 5), OtherRetype("d/e"), Exchange("a~", "e")],
    ),
    "exchange-with-a-folder-that-another-client-moved-into-waited-for-ever": Found(
        "two-faults",
        238,
        [Save("a~", 5), Save("d/a", 2), OtherMove("d/e", "d/a"), Exchange("a~", "d")],
    ),
    "removal-of-a-folder-that-is-a-file-by-now-waited-for-ever": Found(
        "offline", 3216, [Rmdir("d/e"), OtherRetype("d/e")]
    ),
    "removal-of-a-moved-folder-that-is-a-file-by-now-waited-for-ever": Found(
        "two",
        30416,
        [OtherRetype("d/e"), Unlink("d/b"), Rename("d/e", "d/b"), Rmdir("d/b")],
    ),
    "older-layer-of-a-file-that-became-local-only-stayed": Found(
        "alone",
        30175,
        [
            Drain(),
            SaveByRename("e/a", 1, "new"),
            KillSoon(5),
            Wait(6.0),
            SaveByRename("a~", 12, "new"),
        ],
    ),
    "older-layer-stayed-after-a-restart": Found(
        "two-faults",
        30319,
        [SaveByRename("d", 12, "new"), Restart(), Save("b", 5), SaveByRename("a~", 1, "new")],
    ),
    "layer-that-nobody-wrote-into-was-blocked-after-a-kill": Found(
        "same-second",
        20060,
        [
            OtherWrite("d/a", 1),
            Refresh(),
            Drain(),
            KillSoon(5),
            Save("d/a", 5),
            OtherWrite("d/a", 5),
            Rename("d/a", "a"),
        ],
    ),
    "upload-that-was-replaced-meanwhile-was-called-damage": Found(
        "alone",
        50205,
        [
            Create("d/e/a", 1),
            KillSoon(13),
            Truncate("d/b", 8),
            Save("a", 5),
            Rename("a", "e"),
            Save("e", 5),
            Save("a~", 12),
        ],
    ),
    "content-sent-before-the-last-one-was-taken-for-another-clients": Found(
        "doubts",
        104,
        [
            SaveByRename("d/a", 5, "new~"),
            KillSoon(233),
            SaveByRename("a", 5, "new~"),
            Extend("d/a", 5),
            Rename("d/a", "e"),
            Wait(6.0),
            Wait(6.0),
            Wait(6.0),
            Save("d/a", 2),
            SaveByRename("e", 2, "new"),
            SaveByRename("d/a", 1, "new~"),
            Save("a", 12),
            KillSoon(2),
            Extend("d/a", 5),
            Extend("a", 2),
            Wait(6.0),
        ],
    ),
    "old-name-came-back-of-a-file-that-was-renamed-over-another": Found(
        "doubts",
        100096,
        [
            Save("d/a", 2),
            Wait(3.0),
            Save("b", 1),
            Save("d/a", 5),
            Extend("a", 12),
            Wait(1.5),
            Rename("d/a", "a"),
        ],
    ),
    "old-place-was-taken-over-while-a-move-was-in-doubt": Found(
        "doubts",
        100250,
        [Kill(), Rename("a", "d/a"), Save("a", 2), Kill(), SaveByRename("d/a", 12, "d/new")],
    ),
    "exchange-of-two-files-in-doubt-waited-for-ever": Found(
        "doubts",
        100255,
        [
            Wait(3.0),
            KillSoon(34),
            Wait(1.5),
            Rename("a", "f"),
            Save("d/a", 12),
            Wait(1.5),
            Save("a", 1),
            Save("d/a", 2),
            Wait(1.5),
            Rename("d/a", "e"),
            Kill(),
            Exchange("e", "a"),
        ],
    ),
    "file-kept-here-stands-on-an-older-layer": Found(
        "doubts",
        100320,
        [
            Kill(),
            Save("b", 5),
            SaveByRename("d/a", 12, "new"),
            Kill(),
            Extend("d/a", 5),
            Rename("d/a", "a~"),
        ],
    ),
    "file-kept-here-stands-on-an-older-layer-after-a-kill": Found(
        "two-faults",
        100084,
        [SaveByRename("a~", 12, "new"), Wait(1.5), KillSoon(5), Save("a~", 12)],
    ),
    "what-was-seen-of-a-file-stayed-when-its-folder-was-kept-here": Found(
        "doubts",
        100628,
        [
            KillSoon(3),
            Extend("a", 2),
            Save("e", 2),
            Save("d/a", 12),
            KillSoon(55),
            Save("e", 5),
            Extend("b", 5),
            Extend("a", 5),
            Wait(6.0),
            Wait(0.3),
            Save("d/a", 2),
            KillSoon(144),
            Wait(6.0),
            Rename("d", "a~"),
            Exchange("e", "a"),
            Wait(6.0),
        ],
    ),
    "row-of-a-layer-came-back-that-was-given-up-while-it-was-hashed": Found(
        "doubts",
        100793,
        [
            Unlink("e"),
            Save("d/a", 5),
            SaveByRename("e", 2, "d/new"),
            Kill(),
            Wait(0.3),
            Rename("d/a", "a"),
            Save("a", 2),
            Wait(1.0),
            Kill(),
        ],
    ),
    "old-name-came-back-of-what-was-renamed-right-after-a-look-in-vain": Found(
        "late", 200231, [Save("d/a", 12), Kill(), Rename("d/a", "b")]
    ),
    "time-that-was-set-was-lost-when-an-empty-file-was-cut-to-nothing": Found(
        "alone",
        300250,
        [
            Drain(),
            KillSoon(55),
            Restart(),
            Save("a", 2),
            Rename("a", "d/a"),
            Drain(),
            SetTime("d/a", 1_600_000_000),
            Exchange("d/e", "d/a"),
            Truncate("d/e", 0),
        ],
    ),
    "file-came-back-that-was-renamed-before-an-overtaken-upload-of-it-came": Found(
        "late",
        300034,
        [
            Save("e", 2),
            Kill(),
            Rename("a", "d/a"),
            Rename("d/a", "f"),
            Save("d/a", 1),
            KillSoon(2),
            Extend("d/a", 2),
            Extend("d/a", 12),
            Wait(3.0),
            Rename("d/a", "f"),
        ],
    ),
    "move-in-doubt-whose-folder-went-was-tried-for-ever": Found(
        "two-faults", 400164, [OtherReplace("d", "e"), Rename("d/b", "e"), Wait(6.0)]
    ),
    "file-of-a-local-name-that-lost-its-base-was-told-to-nobody": Found(
        "tails-two",
        405,
        [
            Wait(3.0),
            Extend("d/b", 1),
            OtherRewrite("d/e/a", 2),
            Wait(20.0),
            Extend("d/e/a", 5),
            OtherWrite("d/e/a", 1, checksum=False),
            Rename("d/e", "a~"),
        ],
    ),
    "other-client-s-version-of-the-same-second-was-overwritten-after-a-move": Found(
        "tails-two",
        911138,
        [
            Rename("a", "d/a"),
            KillSoon(13),
            OtherRewrite("a", 2),
            Wait(3.0),
            Drain(),
            Save("d/a", 12),
        ],
    ),
    "folder-made-late-stayed-on-the-server": Found(
        "late",
        7033,
        [
            Save("d/a", 5),
            Unlink("b"),
            Kill(),
            SaveByRename("b", 1, "new~"),
            Wait(1.0),
            Mkdir("e"),
            KillSoon(5),
            Rename("a", "d/a"),
            Wait(3.0),
            KillSoon(55),
            Save("d/a", 2),
            SaveByRename("d/a", 2, "new~"),
            Save("a", 5),
            Wait(1.0),
            Rename("d/a", "a"),
            Rename("e", "d/a"),
        ],
    ),
    "save-over-a-file-whose-time-had-just-been-set-became-a-conflict": Found(
        "faults",
        911371,
        [
            SaveByRename("d/a", 1, "new~"),
            Wait(6.0),
            SaveByRename("d/a", 2, "d/new"),
            Wait(6.0),
            SetTime("a", 1_700_000_000),
            SaveByRename("a", 2, "new~"),
            Kill(),
            Wait(6.0),
        ],
    ),
    "full-disk-was-no-answer-where-what-vanished-is-forgotten": Found(
        "full",
        971018,
        [
            OtherReplace("d/e", "a"),
            Save("a~", 5),
            Save("d/a", 5),
            Extend("d/b", 1),
            OtherRewrite("d/b", 5),
            Unlink("d/b"),
            Wait(20.0),
            Wait(20.0),
        ],
    ),
    "file-that-took-a-removed-folder-s-place-in-the-last-moment-was-called-lost": Found(
        "tails-two",
        300140,
        [
            Unlink("d/b"),
            Wait(6.0),
            OtherDelete("d/e"),
            ReadFile("a~"),
            KillSoon(5),
            Rename("d", "a~"),
            Wait(6.0),
            Extend("d/e/a", 12),
            OtherRetype("d", 5),
        ],
    ),
    "other-client-s-version-of-the-same-second-was-removed-from-a-place-that-was-left": Found(
        "full", 971172, [Extend("a", 1), Rename("a", "d/b"), OtherRewrite("a", 2)]
    ),
    "removal-in-a-folder-that-went-meanwhile-never-ended": Found(
        "push",
        600105,
        [
            OtherDelete("d"),
            Save("d/b", 1),
            OtherWrite("e/a", 12, False),
            Rename("d/b", "a"),
            Read(1, 0, 100),
            Wait(1.5),
            OtherMoveSeen("a", "d/a"),
            Save("a", 2),
            OtherMove("e", "a"),
            Wait(1.5),
            OtherWrite("d/e/a", 2),
            TruncateFile(2, 0),
        ],
    ),
}
