"""Every pair of {create, edit, rename, move, delete, change of kind} here and there, and some trickier ones.

After both sides settled, what was written is all there, mount and server are equal, and nothing is left to do. The
table is the one in docs/SEMANTICS.md; each pair is played against the stand-in server, and in memory also for a listing
that came before our change was sent, and for a server without file ids.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.functional.drivers import VfsDriver, tree, write
from tests.functional.matrix import (
    BASE,
    CASES,
    OTHERS,
    Case,
    Change,
    Outcome,
    changes,
    contents,
    in_words,
    wanted,
)
from tests.functional.stages import USER, VfsStage, unhurried
from tests.model.fake_remote import FakeRemote
from tests.servers import Account, StandIn
from tests.sync.mount import World, tell
from tests.sync.plain_remote import PlainRemote

pytestmark = pytest.mark.shared_engine

_COPY = re.compile(r" \(conflicted copy \d{4}-\d\d-\d\d \d{6}( \d+)?\)")
_BEFORE_S, _THEN_S = 1_600_000_000, 1_650_000_000
"""In other seconds than what is done here: within one, a Nextcloud's ETag does not change."""


def name_of(case: Case) -> str:
    about, here, there = case
    return f"{about}: {here}, {there}"


def without_dates(found: dict[str, bytes | None]) -> dict[str, bytes | None]:
    return {_COPY.sub(" (copy)", path.lstrip("/")): data for path, data in found.items()}


def judge(found: dict[str, bytes | None], here: Change, there: Change, outcome: Outcome) -> None:
    left = set(found.values())
    assert contents(here, "ours") | contents(there, "theirs") <= left, "a content is lost"
    assert without_dates(found) == wanted(outcome)


# Against the stand-in server


@pytest.fixture
def account(server: StandIn) -> Account:
    """Another client."""
    made = server.account(USER)
    for path, data in BASE.items():
        if data is None:
            made.mkdir(f"/{path}")
        else:
            made.write(f"/{path}", data, mtime=_BEFORE_S)
    return made


@pytest.fixture
def stage(tmp_path: Path, server: StandIn, account: Account) -> Iterator[VfsStage]:
    del account
    yield from unhurried(tmp_path / "engine", server)


def act_here(driver: VfsDriver, change: Change) -> None:
    for words in in_words(change, "ours"):
        match words:
            case ("write", path, text):
                write(driver, path, text.encode())
            case (call, *paths):
                getattr(driver, call)(*paths)


def act_there(account: Account, change: Change) -> None:
    calls: dict[str, Callable[..., object]] = {
        "write": lambda path, text: account.write(path, text.encode(), mtime=_THEN_S),
        "rename": account.move,
        "mkdir": account.mkdir,
        "unlink": account.delete,
        "rmdir": account.delete,
    }
    for call, path, *more in in_words(change, "theirs"):
        calls[call](f"/{path}", *(more if call == "write" else (f"/{one}" for one in more)))


def settle(stage: VfsStage, driver: VfsDriver, account: Account) -> dict[str, bytes | None]:
    for _ in range(2):
        stage.sync()
        stage.look()
    stage.sync()
    assert stage.engine.store.nodes.dirty() == []
    assert tree(driver) == account.tree()
    return account.tree()


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_a_pair_of_changes(stage: VfsStage, account: Account, case: Case) -> None:
    here, there, outcome = changes(case)
    driver = stage.root()
    tree(driver)
    act_here(driver, here)
    act_there(account, there)
    judge(settle(stage, driver, account), here, there, outcome)


# In memory


def play(
    tmp_path: Path, remote: FakeRemote, here: Change, there: Change, outcome: Outcome, *, seen: bool
) -> None:
    other = remote.other
    for path, data in BASE.items():
        if data is None:
            other.mkdir(f"/{path}")
        else:
            other.write(f"/{path}", data, mtime_s=_BEFORE_S)

    async def story(world: World) -> None:
        await world.tree()
        for words in in_words(here, "ours"):
            match words:
                case ("write", path, text):
                    await world.save(path, text.encode())
                case (call, *paths):
                    await getattr(world, call)(*paths)
        for words in in_words(there, "theirs"):
            match words:
                case ("write", path, text):
                    other.write(f"/{path}", text.encode(), mtime_s=_THEN_S)
                case ("rename", source, target):
                    other.move(f"/{source}", f"/{target}")
                case ("mkdir", path):
                    other.mkdir(f"/{path}")
                case (_, path):
                    other.delete(f"/{path}")
        if seen:
            await world.refresh_all()
        for _ in range(2):
            assert await world.drain() == []
            await world.refresh_all()
        assert await world.drain() == []
        found = other.tree()
        assert await world.tree() == found
        judge(found, here, there, outcome)
        await world.check_nothing_left()

    tell(tmp_path, story, remote)


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_a_pair_of_changes_that_was_seen_before_ours_was_sent(tmp_path: Path, case: Case) -> None:
    play(tmp_path, FakeRemote(), *changes(case), seen=True)


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_a_pair_of_changes_without_file_ids(tmp_path: Path, case: Case) -> None:
    play(tmp_path, PlainRemote(), *changes(case, file_ids=False), seen=False)


@pytest.mark.parametrize("kind", [FakeRemote, PlainRemote], ids=["file ids", "plain"])
@pytest.mark.parametrize("seen", [False, True], ids=["unseen", "seen"])
@pytest.mark.parametrize("case", OTHERS)
def test_a_trickier_pair(tmp_path: Path, case: str, kind: type[FakeRemote], *, seen: bool) -> None:
    play(tmp_path, kind(), *OTHERS[case], seen=seen)


@pytest.mark.parametrize("seen", [False, True], ids=["unseen", "seen"])
def test_a_folder_moved_into_one_that_is_renamed_there(tmp_path: Path, *, seen: bool) -> None:
    """Without file ids the renamed folder is another one, and the old one is made again for what goes into it."""
    here: Change = (("rename", "folder", "box/folder"),)
    there: Change = (("rename", "box", "case"),)
    gone = ("folder", "folder/inside", "folder/other")
    inside = {"folder": None, "folder/inside": "inside", "folder/other": "other"}
    followed = {"case": None} | {f"case/{path}": text for path, text in inside.items()}
    play(tmp_path / "ids", FakeRemote(), here, there, (followed, ("box", *gone)), seen=seen)
    again = {"case": None} | {f"box/{path}": text for path, text in inside.items()}
    play(tmp_path / "plain", PlainRemote(), here, there, (again, gone), seen=seen)
