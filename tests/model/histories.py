"""Draws operations and histories: for Hypothesis from its strategies, for `simulate` from a seeded generator.

Few names and small sizes, so that operations meet: what is interesting happens between two of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from hypothesis import strategies as st

from tests.model.operations import (
    Answer,
    Append,
    Chmod,
    Close,
    Create,
    Decide,
    Drain,
    EmptyFor,
    Exchange,
    Extend,
    Flush,
    Forget,
    Fsync,
    Kill,
    KillSoon,
    LogIn,
    LoseLogin,
    Maintenance,
    Mkdir,
    On,
    Open,
    Operation,
    OtherDelete,
    OtherMkdir,
    OtherMove,
    OtherMoveSeen,
    OtherReplace,
    OtherRetype,
    OtherRewrite,
    OtherSetBack,
    OtherShorten,
    OtherWrite,
    PlugIn,
    PushBreaks,
    Read,
    ReadFile,
    Refresh,
    Regret,
    Rename,
    RenameNoReplace,
    Restart,
    Rewrite,
    Rmdir,
    Save,
    SaveByRename,
    SetTime,
    TakeBack,
    Truncate,
    TruncateFile,
    Unlink,
    Unplug,
    Wait,
    Write,
)

__all__ = [
    "SLOTS",
    "Choose",
    "an_operation",
    "answering",
    "breaking",
    "deciding",
    "doubtful",
    "growing",
    "growing_beside",
    "histories",
    "of_two_clients",
    "offline",
    "rough",
    "same_second",
    "unpacking",
    "unpacking_beside",
    "wider",
]

T = TypeVar("T")

SLOTS = (0, 1, 2)
_PATHS = ("a", "b", "d/a", "d/b", "d", "e", "e/a", "d/e", "d/e/a", "a~")
_SHARED = tuple(path for path in _PATHS if "~" not in path)
_OFFSETS = (0, 1, 3, 10)
_SIZES = (1, 2, 5, 12)
_LENGTHS = (0, 1, 4, 8, 20)
_SECONDS = (0.0, 0.3, 1.5, 6.0)


class Choose(Protocol):
    """Picks one of some options; the first ones are the simplest."""

    def __call__(self, options: Sequence[T], /) -> T: ...


_MAKERS: tuple[tuple[int, Callable[[Choose], Operation]], ...] = (
    (10, lambda choose: Save(choose(_PATHS), choose(_SIZES))),
    (6, lambda choose: Write(choose(SLOTS), choose(_OFFSETS), choose(_SIZES))),
    (
        6,
        lambda choose: Open(
            choose(_PATHS), choose(SLOTS), choose((True, False)), choose((False, False, True))
        ),
    ),
    (4, lambda choose: Close(choose(SLOTS))),
    (6, lambda choose: Unlink(choose(_PATHS))),
    (9, lambda choose: Rename(choose(_PATHS), choose(_PATHS))),
    (2, lambda choose: RenameNoReplace(choose(_PATHS), choose(_PATHS))),
    (4, lambda choose: Exchange(choose(_PATHS), choose(_PATHS))),
    (5, lambda choose: Mkdir(choose(_PATHS))),
    (4, lambda choose: Rmdir(choose(_PATHS))),
    (3, lambda choose: Create(choose(_PATHS), choose(SLOTS))),
    (4, lambda choose: SaveByRename(choose(_PATHS), choose(_SIZES), choose(("new", "d/new", "new~")))),
    (3, lambda choose: ReadFile(choose(_PATHS))),
    (2, lambda choose: Read(choose(SLOTS), choose(_OFFSETS), choose(_SIZES))),
    (2, lambda choose: Append(choose(SLOTS), choose(_SIZES))),
    (3, lambda choose: TruncateFile(choose(SLOTS), choose(_LENGTHS))),
    (3, lambda choose: Truncate(choose(_PATHS), choose(_LENGTHS))),
    (1, lambda choose: Flush(choose(SLOTS))),
    (1, lambda choose: Fsync(choose(SLOTS))),
    (2, lambda choose: SetTime(choose(_PATHS), choose((1_600_000_000, 1_700_000_000, 1_700_000_001)))),
    (1, lambda choose: Chmod(choose(_PATHS), choose((0o600, 0o444)))),
    (1, lambda _choose: Forget()),
    (9, lambda choose: Wait(choose(_SECONDS))),
    (3, lambda _choose: Drain()),
    (1, lambda _choose: Restart()),
    (2, lambda _choose: Kill()),
)
_STEPS = (1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233)
_DYING: tuple[tuple[int, Callable[[Choose], Operation]], ...] = (
    *_MAKERS,
    (4, lambda choose: KillSoon(choose(_STEPS))),
)
_NOT_MOUNTED = (Flush, Forget, Wait)
"""What a program cannot ask of a kernel, or what takes real time there."""
_TWO_CLIENTS: tuple[tuple[int, Callable[[Choose], Operation]], ...] = (
    (8, lambda choose: OtherWrite(choose(_SHARED), choose(_SIZES), choose((True, True, False)))),
    (4, lambda choose: OtherDelete(choose(_SHARED))),
    (4, lambda choose: OtherMove(choose(_SHARED), choose(_SHARED))),
    (3, lambda choose: OtherMkdir(choose(_SHARED))),
    (8, lambda choose: Save(choose(_PATHS), choose(_SIZES))),
    (3, lambda choose: SaveByRename(choose(_PATHS), choose(_SIZES), choose(("new", "d/new", "new~")))),
    (3, lambda choose: Open(choose(_PATHS), choose(SLOTS), choose((True, False)))),
    (4, lambda choose: Rewrite(choose(SLOTS), choose(_SIZES))),
    (2, lambda choose: Read(choose(SLOTS), 0, 100)),
    (2, lambda choose: Close(choose(SLOTS))),
    (5, lambda choose: Unlink(choose(_PATHS))),
    (6, lambda choose: Rename(choose(_PATHS), choose(_PATHS))),
    (2, lambda choose: Exchange(choose(_PATHS), choose(_PATHS))),
    (3, lambda choose: Mkdir(choose(_PATHS))),
    (3, lambda choose: Rmdir(choose(_PATHS))),
    (2, lambda choose: ReadFile(choose(_PATHS))),
    (1, lambda choose: SetTime(choose(_PATHS), choose((1_600_000_000, 1_700_000_000)))),
    (1, lambda _choose: Forget()),
    (9, lambda choose: Wait(choose(_SECONDS))),
    (3, lambda _choose: Refresh()),
    (2, lambda _choose: Drain()),
    (1, lambda choose: Unplug(choose((2.0, 30.0)))),
    (1, lambda _choose: Restart()),
    (2, lambda _choose: Kill()),
)


_CASES = (*_SHARED, "A", "d/A", "D")
"""Also names that differ from others in the case of a letter only."""
_WIDER: tuple[tuple[int, Callable[[Choose], Operation]], ...] = (
    *_TWO_CLIENTS,
    (4, lambda choose: Write(choose(SLOTS), choose(_OFFSETS), choose(_SIZES))),
    (2, lambda choose: Append(choose(SLOTS), choose(_SIZES))),
    (2, lambda choose: TruncateFile(choose(SLOTS), choose(_LENGTHS))),
    (3, lambda choose: Rename(choose(_CASES), choose(_CASES))),
    (2, lambda choose: OtherMove(choose(_CASES), choose(_CASES))),
    (2, lambda choose: OtherRetype(choose(_SHARED))),
    (6, lambda choose: OtherMoveSeen(choose(("a", "d/b", "d/e")), choose(("d/a", "e", "b", "d/e/a")))),
    (3, lambda choose: OtherReplace(choose(_CASES), choose(_CASES))),
    (4, lambda choose: KillSoon(choose(_STEPS))),
)
_ROUGH: tuple[tuple[int, Callable[[Choose], Operation]], ...] = (
    *_WIDER,
    (1, lambda choose: Maintenance(choose((5.0, 60.0)))),
    (1, lambda choose: EmptyFor(choose((5.0, 60.0)))),
    (1, lambda _choose: LoseLogin()),
    (2, lambda _choose: LogIn()),
)
_ANSWERING: tuple[tuple[int, Callable[[Choose], Operation]], ...] = (
    *_WIDER,
    (10, lambda choose: Answer(choose((True, False, False)), choose((True, False)))),
    (6, lambda choose: Regret(choose(_PATHS), choose((1.1, 1.3, 2.0)))),
    (6, lambda choose: Unlink(choose(_PATHS))),
    (6, lambda choose: OtherDelete(choose(_SHARED))),
    (2, lambda choose: OtherSetBack(choose(_SHARED), choose(_SIZES))),
)
_DECISIONS = ("keep-mine", "keep-mine", "keep-theirs", "keep-theirs", "keep-both")
_DECIDING: tuple[tuple[int, Callable[[Choose], Operation]], ...] = (
    (12, lambda choose: OtherWrite(choose(("a", "d/b")), choose(_SIZES))),
    (12, lambda choose: Save(choose(("a", "d/b")), choose(_SIZES))),
    (12, lambda choose: Decide(choose((0, 1)), choose(_DECISIONS), choose((0.0, 0.05, 0.3, 1.0)))),
    (5, lambda choose: Wait(choose(_SECONDS))),
    (4, lambda _choose: Drain()),
    (2, lambda _choose: Refresh()),
    (2, lambda choose: Open(choose(("a", "d/b")), choose(SLOTS))),
    (2, lambda choose: Write(choose(SLOTS), choose(_OFFSETS), choose(_SIZES))),
    (1, lambda choose: Close(choose(SLOTS))),
    (2, lambda choose: SaveByRename(choose(("a", "d/b")), choose(_SIZES), choose(("new", "d/new")))),
    (2, lambda choose: Rename(choose(("a", "d/b")), choose(("d/b", "b")))),
    (1, lambda choose: Unlink(choose(("a", "d/b")))),
    (1, lambda choose: OtherDelete(choose(("a", "d/b")))),
    (1, lambda choose: OtherMove(choose(("a", "d/b")), choose(("d/b", "b")))),
    (1, lambda choose: Unplug(choose((2.0, 30.0)))),
    (3, lambda choose: KillSoon(choose(_STEPS))),
)
"""Few names, of which both clients make conflicts."""
_SAME_SECOND: tuple[tuple[int, Callable[[Choose], Operation]], ...] = (
    *_WIDER,
    (8, lambda choose: OtherRewrite(choose(_SHARED), choose(_SIZES))),
)
_OFFLINE: tuple[tuple[int, Callable[[Choose], Operation]], ...] = (
    *_WIDER,
    (3, lambda choose: Unplug(choose((30.0, 10_000.0)))),
    (4, lambda _choose: PlugIn()),
)


_PUSHED: tuple[tuple[int, Callable[[Choose], Operation]], ...] = (
    *_WIDER,
    (8, lambda choose: OtherWrite(choose(_SHARED), choose(_SIZES), choose((True, True, False)))),
    (4, lambda choose: OtherMove(choose(_SHARED), choose(_SHARED))),
    (3, lambda _choose: PushBreaks()),
    (12, lambda choose: Wait(choose((0.1, 0.3, 3.0, 30.0)))),
)


_MOUNTED: tuple[tuple[int, Callable[[Choose], Operation]], ...] = (
    (12, lambda choose: Save(choose(_PATHS), choose(_SIZES))),
    (3, lambda choose: SaveByRename(choose(_PATHS), choose(_SIZES), choose(("new", "d/new", "new~")))),
    (4, lambda choose: Extend(choose(_PATHS), choose(_SIZES))),
    (4, lambda choose: Open(choose(_PATHS), choose(SLOTS), choose((True, False)))),
    (3, lambda choose: Rewrite(choose(SLOTS), choose(_SIZES))),
    (3, lambda choose: Write(choose(SLOTS), choose(_OFFSETS), choose(_SIZES))),
    (1, lambda choose: TruncateFile(choose(SLOTS), choose(_LENGTHS))),
    (2, lambda choose: Read(choose(SLOTS), 0, 100)),
    (3, lambda choose: Close(choose(SLOTS))),
    (6, lambda choose: Unlink(choose(_PATHS))),
    (8, lambda choose: Rename(choose(_CASES), choose(_CASES))),
    (2, lambda choose: Rename(choose(_PATHS), choose(_PATHS))),
    (3, lambda choose: Exchange(choose(_PATHS), choose(_PATHS))),
    (5, lambda choose: Mkdir(choose(_PATHS))),
    (3, lambda choose: Rmdir(choose(_PATHS))),
    (2, lambda choose: ReadFile(choose(_PATHS))),
    (1, lambda choose: SetTime(choose(_PATHS), choose((1_600_000_000, 1_700_000_000)))),
    (1, lambda _choose: Forget()),
    (4, lambda _choose: Refresh()),
    (2, lambda _choose: Drain()),
    (2, lambda choose: Unplug(choose((2.0, 30.0)))),
    (1, lambda _choose: PushBreaks()),
    (1, lambda _choose: Restart()),
    (1, lambda _choose: Kill()),
    (4, lambda choose: KillSoon(choose(_STEPS))),
)


_FEW = ("a", "b", "d/a", "e")
_DOUBTFUL: tuple[tuple[int, Callable[[Choose], Operation]], ...] = (
    (5, lambda choose: Save(choose(_FEW), choose(_SIZES))),
    (5, lambda choose: Extend(choose(_FEW), choose(_SIZES))),
    (2, lambda choose: SaveByRename(choose(_FEW), choose(_SIZES), choose(("new", "d/new", "new~")))),
    (7, lambda choose: Rename(choose(_FEW), choose(_FEW))),
    (2, lambda choose: Exchange(choose(_FEW), choose(_FEW))),
    (2, lambda choose: Rename(choose(("d", "f", "a", "d/a")), choose(("f", "d", "a~")))),
    (1, lambda choose: Rename("a~", choose(_FEW))),
    (2, lambda choose: Unlink(choose(_FEW))),
    (3, lambda choose: TakeBack(choose(_FEW), choose(_SIZES), choose((1.0, 1.5, 3.0)))),
    (1, lambda choose: Mkdir(choose(("d", "f", "e")))),
    (8, lambda choose: Wait(choose((0.3, 1.0, 1.5, 3.0, 6.0)))),
    (2, lambda _choose: Kill()),
    (4, lambda choose: KillSoon(choose(_STEPS))),
)
"""Few names, changed and renamed again and again, and many deaths: what was sent may have stood under any of them."""


_INSIDE = tuple(f"{folder}/{name}" for folder in ("n", "n/m", "e") for name in "abc")
_UNPACKING: tuple[tuple[int, Callable[[Choose], Operation]], ...] = (
    (4, lambda choose: Mkdir(choose(("n", "n/m", "e")))),
    (16, lambda choose: Save(choose(_INSIDE), choose(_SIZES))),
    (3, lambda choose: Extend(choose(_INSIDE), choose(_SIZES))),
    (3, lambda choose: SaveByRename(choose(_INSIDE), choose(_SIZES), choose(("n/new", "new")))),
    (4, lambda choose: Rename(choose(_INSIDE), choose(_INSIDE))),
    (1, lambda choose: Exchange(choose(_INSIDE), choose(_INSIDE))),
    (2, lambda choose: Rename(choose(("n", "n/m", "e")), choose(("e", "o", "n/o")))),
    (2, lambda _choose: Rename("o", "n")),
    (3, lambda choose: Unlink(choose(_INSIDE))),
    (1, lambda choose: SetTime(choose(_INSIDE), choose((1_600_000_000, 1_700_000_000)))),
    (8, lambda choose: Wait(choose((0.3, 1.0, 1.5, 3.0, 12.0)))),
    (1, lambda _choose: Drain()),
    (1, lambda _choose: Restart()),
    (3, lambda choose: KillSoon(choose(_STEPS))),
)


_UNPACKING_BESIDE: tuple[tuple[int, Callable[[Choose], Operation]], ...] = (
    (5, lambda choose: Mkdir(choose(("n", "n/m", "e")))),
    (24, lambda choose: Save(choose(_INSIDE), choose(_SIZES))),
    (3, lambda choose: SaveByRename(choose(_INSIDE), choose(_SIZES), choose(("n/new", "new")))),
    (4, lambda choose: Rename(choose(_INSIDE), choose(_INSIDE))),
    (2, lambda choose: Rename(choose(("n", "n/m", "e")), choose(("e", "o", "n/o")))),
    (3, lambda choose: Unlink(choose(_INSIDE))),
    (6, lambda choose: OtherWrite(choose(_INSIDE), choose(_SIZES), choose((True, True, False)))),
    (2, lambda choose: OtherDelete(choose(_INSIDE))),
    (3, lambda choose: OtherMove(choose(_INSIDE), choose((*_INSIDE, "a", "o")))),
    (1, lambda choose: OtherMkdir(choose(("n", "n/m", "o")))),
    (1, lambda choose: OtherMove(choose(("n", "n/m")), choose(("o", "e/m")))),
    (10, lambda choose: Wait(choose((0.3, 1.0, 1.5, 3.0, 12.0)))),
    (2, lambda choose: OtherMoveSeen(choose(_INSIDE), choose((*_INSIDE, "a", "o")))),
    (1, lambda _choose: Drain()),
    (1, lambda _choose: Restart()),
    (3, lambda choose: KillSoon(choose(_STEPS))),
)
"""As `_UNPACKING`, with another client in the same folders."""


_GROWING: tuple[tuple[int, Callable[[Choose], Operation]], ...] = (
    *_DOUBTFUL,
    (25, lambda choose: Extend(choose(_FEW), choose(_SIZES))),
    (2, lambda choose: Open(choose(_FEW), choose(SLOTS))),
    (4, lambda choose: Append(choose(SLOTS), choose(_SIZES))),
    (2, lambda choose: Write(choose(SLOTS), choose(_OFFSETS), choose(_SIZES))),
    (2, lambda choose: TruncateFile(choose(SLOTS), choose((4, 20, 40)))),
    (3, lambda choose: Close(choose(SLOTS))),
    (3, lambda choose: ReadFile(choose(_FEW))),
    (12, lambda choose: Wait(choose((6.0, 20.0)))),
)
"""As `_DOUBTFUL`, with files that mostly grow."""
_GROWING_BESIDE: tuple[tuple[int, Callable[[Choose], Operation]], ...] = (
    *_SAME_SECOND,
    (50, lambda choose: Extend(choose(("a", "d/b", "d/e/a")), choose(_SIZES))),
    (12, lambda choose: OtherRewrite(choose(("a", "d/b", "d/e/a")), choose(_SIZES))),
    (20, lambda choose: Wait(choose((3.0, 6.0, 20.0)))),
)


_PLAIN: tuple[tuple[int, Callable[[Choose], Operation]], ...] = (
    *_ROUGH,
    (8, lambda choose: Save(choose(_FEW), choose(_LENGTHS[3:]))),
    (8, lambda choose: Extend(choose(_FEW), choose(_SIZES))),
    (8, lambda choose: Rename(choose(_FEW), choose(_FEW))),
    (4, lambda choose: Unlink(choose(_FEW))),
    (6, lambda choose: OtherShorten(choose(_FEW), choose((3, 4, 5, 8)))),
    (9, lambda choose: Wait(choose((1.0, 1.5, 3.0, 70.0)))),
)
"""As `_ROUGH`, with few names that are written, renamed and removed while their uploads break."""


def _weighted(
    makers: tuple[tuple[int, Callable[[Choose], Operation]], ...],
) -> tuple[Callable[[Choose], Operation], ...]:
    return tuple(make for weight, make in makers for _ in range(weight))


_ALONE_WEIGHTED, _TWO_WEIGHTED = _weighted(_MAKERS), _weighted(_TWO_CLIENTS)
_WIDER_WEIGHTED, _ROUGH_WEIGHTED, _OFFLINE_WEIGHTED = map(_weighted, (_WIDER, _ROUGH, _OFFLINE))
_SAME_SECOND_WEIGHTED, _DYING_WEIGHTED = _weighted(_SAME_SECOND), _weighted(_DYING)
_DOUBTFUL_WEIGHTED, _UNPACKING_WEIGHTED = _weighted(_DOUBTFUL), _weighted(_UNPACKING)
_UNPACKING_BESIDE_WEIGHTED = _weighted(_UNPACKING_BESIDE)
_ANSWERING_WEIGHTED, _DECIDING_WEIGHTED = _weighted(_ANSWERING), _weighted(_DECIDING)
_PLAIN_WEIGHTED = _weighted(_PLAIN)
_PUSHED_WEIGHTED, _MOUNTED_WEIGHTED = _weighted(_PUSHED), _weighted(_MOUNTED)
_GROWING_WEIGHTED, _GROWING_BESIDE_WEIGHTED = _weighted(_GROWING), _weighted(_GROWING_BESIDE)


def an_operation(choose: Choose) -> Operation:
    """Draw one operation of a client alone."""
    return choose(_ALONE_WEIGHTED)(choose)


def dying(choose: Choose) -> Operation:
    """Draw as `an_operation`, with sudden deaths in the midst of others."""
    return choose(_DYING_WEIGHTED)(choose)


def mounted(choose: Choose) -> Operation:
    """Draw as `an_operation`, what can be done to a real mount."""
    while True:
        operation = an_operation(choose)
        if not isinstance(operation, _NOT_MOUNTED):
            return operation


def of_two_clients(choose: Choose) -> Operation:
    """Draw one operation of one of two clients."""
    return choose(_TWO_WEIGHTED)(choose)


def wider(choose: Choose) -> Operation:
    """Draw as `of_two_clients`, with partial writes, other types, other cases and sudden deaths."""
    return choose(_WIDER_WEIGHTED)(choose)


def rough(choose: Choose) -> Operation:
    """Draw as `wider`, with times when the whole server is not well."""
    return choose(_ROUGH_WEIGHTED)(choose)


def breaking(choose: Choose) -> Operation:
    """Draw as `rough`, with few names that are written, renamed and removed while their uploads break."""
    return choose(_PLAIN_WEIGHTED)(choose)


def same_second(choose: Choose) -> Operation:
    """Draw as `wider`, with files that change on the server and keep their ETags."""
    return choose(_SAME_SECOND_WEIGHTED)(choose)


def answering(choose: Choose) -> Operation:
    """Draw as `wider`, with a server that is set back, and answers about deletions that wait."""
    return choose(_ANSWERING_WEIGHTED)(choose)


def deciding(choose: Choose) -> Operation:
    """Draw mostly what makes conflicts, and decisions about them while our copy is being written."""
    return choose(_DECIDING_WEIGHTED)(choose)


def doubtful(choose: Choose) -> Operation:
    """Draw what is done with a few files whose uploads and moves may or may not have been carried out."""
    return choose(_DOUBTFUL_WEIGHTED)(choose)


def growing(choose: Choose) -> Operation:
    """Draw as `doubtful`, with files that mostly grow at their ends."""
    return choose(_GROWING_WEIGHTED)(choose)


def growing_beside(choose: Choose) -> Operation:
    """Draw as `same_second`, with files that mostly grow at their ends."""
    return choose(_GROWING_BESIDE_WEIGHTED)(choose)


def unpacking(choose: Choose) -> Operation:
    """Draw mostly new files and new folders, and what is done with them while they go up."""
    return choose(_UNPACKING_WEIGHTED)(choose)


def unpacking_beside(choose: Choose) -> Operation:
    """Draw as `unpacking`, with another client at work in the new folders."""
    return choose(_UNPACKING_BESIDE_WEIGHTED)(choose)


def pushed(choose: Choose) -> Operation:
    """Draw as `wider`, mostly changes by another client, of which the server tells."""
    return choose(_PUSHED_WEIGHTED)(choose)


def on_two_mounts(choose: Choose) -> Operation:
    """Draw what is done on one of two mounts, or nothing for a while."""
    if choose((False, False, False, True)):
        return Wait(choose(_SECONDS))
    return On(choose((0, 1)), choose(_MOUNTED_WEIGHTED)(choose))


def offline(choose: Choose) -> Operation:
    """Draw as `wider`, mostly without network."""
    return choose(_OFFLINE_WEIGHTED)(choose)


def histories(make: Callable[[Choose], T], longest: int) -> st.SearchStrategy[list[T]]:
    """Return the strategy of lists of what `make` draws."""

    @st.composite
    def one(draw: Callable[..., Any]) -> T:
        return make(lambda options: draw(st.sampled_from(options)))

    return st.lists(one(), max_size=longest)
