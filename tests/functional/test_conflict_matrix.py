"""Every pair of {create, edit, rename, move, delete, change of kind} here and there, and some trickier ones.

After both sides settled, what was written is all there, mount and server are equal, what was there before has its file
id and its inode, and nothing is left to do. The table is the one in docs/SEMANTICS.md. Each pair is played against the
stand-in server and, where there is one to test with, a real Nextcloud: one after the other by one engine, and all at
once in one mount; and in memory, also for a server without file ids. Each also for a listing that came before our
change was sent ("seen"). On the real server it is so in the mount alone: each of the two takes it minutes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.functional.drivers import Driver, OsDriver, VfsDriver, tree, write
from tests.functional.matrix import (
    BASE,
    CASES,
    OTHERS,
    Case,
    Change,
    Outcome,
    Pair,
    changes,
    contents,
    in_words,
    same_file,
    same_inode,
    wanted,
)
from tests.functional.sites import Site, StandInSite, real_site
from tests.functional.stages import MountStage, VfsStage
from tests.model.fake_remote import FakeRemote
from tests.servers import StandIn
from tests.sync.mount import World, tell
from tests.sync.plain_remote import PlainRemote

pytestmark = pytest.mark.shared_engine

_COPY = re.compile(r" \(conflicted copy \d{4}-\d\d-\d\d \d{6}( \d+)?\)")
_BEFORE_S, _THEN_S = 1_600_000_000, 1_650_000_000
"""In other seconds than what is done here: within one, a Nextcloud's ETag does not change."""


def name_of(case: Case) -> str:
    about, here, there = case
    return f"{about}: {here}, {there}"


PAIRS: dict[str, Pair] = {**{name_of(case): changes(case) for case in CASES}, **OTHERS}


def without_dates(found: dict[str, bytes | None]) -> dict[str, bytes | None]:
    return {without_date(path): data for path, data in found.items()}


def without_date(path: str) -> str:
    return _COPY.sub(" (copy)", path.lstrip("/"))


def judge(found: dict[str, bytes | None], here: Change, there: Change, outcome: Outcome) -> None:
    left = set(found.values())
    assert contents(here, "ours") | contents(there, "theirs") <= left, "a content is lost"
    assert without_dates(found) == wanted(outcome)


# Against servers


REAL = (pytest.mark.real_nextcloud, pytest.mark.slow)


@pytest.fixture(scope="module")
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    """Another client."""
    if request.param == "nextcloud":
        with real_site() as real:
            yield real
    else:
        with StandIn() as server:
            yield StandInSite(server)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, site: Site) -> Iterator[VfsStage]:
    """One for all pairs; nothing goes up by itself."""
    home = tmp_path_factory.mktemp("matrix") / "engine"
    made = VfsStage(home, site, quiet_s=3600.0, user=site.user, password=site.app_password)
    yield made
    made.close()


class Place:
    """The folder of one pair: what both sides do in it, and what is there then."""

    def __init__(self, site: Site, folder: str) -> None:
        self._site, self.folder = site, folder
        site.mkdir(folder)
        for path, data in BASE.items():
            if data is None:
                site.mkdir(f"{folder}/{path}")
            else:
                site.write(f"{folder}/{path}", data, _BEFORE_S)
        self._ids = {path: self._id(path) for path in BASE}

    def see(self, driver: Driver) -> None:
        """Have all of it known here."""
        self._driver = driver
        assert tree(driver) == BASE
        self._inodes = {path: driver.ino(path) for path in BASE}

    def act(self, here: Change, there: Change) -> None:
        for words in in_words(here, "ours"):
            match words:
                case ("write", path, text):
                    write(self._driver, path, text.encode())
                case (call, *paths):
                    getattr(self._driver, call)(*paths)
        for words in in_words(there, "theirs"):
            match words:
                case ("write", path, text):
                    self._site.write(f"{self.folder}/{path}", text.encode(), _THEN_S)
                case (call, *paths):
                    getattr(self._site, call)(*(f"{self.folder}/{path}" for path in paths))

    def judge(self, pair: Pair) -> None:
        found = self._site.tree(self.folder)
        assert tree(self._driver) == found
        judge(found, *pair)
        ids = {self._id(path): without_date(path) for path in found}
        assert {path: ids[one] for path, one in self._ids.items() if one in ids} == same_file(*pair)
        inodes = {self._driver.ino(path): without_date(path) for path in found}
        kept = same_inode(*pair)
        assert {path: inodes.get(self._inodes[path]) for path in kept} == kept

    def _id(self, path: str) -> str:
        return self._site.file_id(f"{self.folder}/{path}")


def folder_of(request: pytest.FixtureRequest, number: int = 0) -> str:
    return f"{re.sub(r'[^a-z]+', '-', request.node.name)}{number}"


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize(
    ("site", "seen"),
    [
        pytest.param("stand-in", False, id="stand-in, unseen"),
        pytest.param("stand-in", True, id="stand-in, seen"),
        pytest.param("nextcloud", False, id="nextcloud, unseen", marks=REAL),
    ],
    indirect=["site"],
)
def test_a_pair_of_changes(
    request: pytest.FixtureRequest, stage: VfsStage, site: Site, pair: str, *, seen: bool
) -> None:
    here, there, _ = PAIRS[pair]
    place = Place(site, folder_of(request))
    stage.look_at_root()
    stage.look(place.folder)
    place.see(VfsDriver(stage.engine.filesystem, stage.token, place.folder))
    place.act(here, there)
    if seen:
        stage.look(place.folder)
    for _ in range(2):
        stage.sync()
        stage.look(place.folder)
    stage.sync()
    assert stage.engine.store.nodes.dirty() == []
    place.judge(PAIRS[pair])


@pytest.mark.mount
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("site", "seen"),
    [
        pytest.param("stand-in", False, id="stand-in, unseen"),
        pytest.param("stand-in", True, id="stand-in, seen"),
        pytest.param("nextcloud", True, id="nextcloud, seen", marks=REAL),
    ],
    indirect=["site"],
)
def test_all_pairs_at_once_in_a_mount(
    request: pytest.FixtureRequest, tmp_path: Path, site: Site, *, seen: bool
) -> None:
    places = {pair: Place(site, folder_of(request, number)) for number, pair in enumerate(PAIRS)}
    stage = MountStage(
        tmp_path / "home", site, settings="listing_ttl_s = 0.0", user=site.user, password=site.password
    )
    try:
        for place in places.values():
            place.see(OsDriver(stage.mount_point / place.folder))
        stage.cloudfs("pause", "a")
        for pair, place in places.items():
            here, there, _ = PAIRS[pair]
            place.act(here, there)
        if seen:
            look_at_all(stage, places.values())
        stage.cloudfs("resume", "a")
        for _ in range(2):
            stage.sync()
            look_at_all(stage, places.values())
        stage.sync()
        wrong = {}
        for pair, place in places.items():
            try:
                place.judge(PAIRS[pair])
            except AssertionError as error:
                wrong[pair] = str(error)
        assert not wrong
        status = stage.status()
        assert (status["pending"], status["blocked"]) == (0, [])
    finally:
        stage.close()
        stage.cloudfs("logout", "a")


def look_at_all(stage: MountStage, places: Iterable[Place]) -> None:
    """Have every folder listed and every file read."""
    for place in places:
        tree(OsDriver(stage.mount_point / place.folder))


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
