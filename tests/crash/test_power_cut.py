"""A power cut at any moment: what was synced is there, and nothing is there that nobody wrote."""

from __future__ import annotations

import errno
import os
import random
import shutil
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
import trio

from cloudfs.blocks.sealing import Cipher, Keys
from cloudfs.blocks.staging import Staging
from cloudfs.content import hardening
from cloudfs.content.powercut import after_power_cut
from cloudfs.engine import disk as on_disk
from cloudfs.errors import PosixError
from cloudfs.ranges import RangeSet
from cloudfs.store.records import StagedRow
from cloudfs.store.store import Store
from cloudfs.types import ROOT, ContentVersion
from tests.crash.cuts import Disk
from tests.crash.rescued import rescued
from tests.functional.drivers import Driver, OpenFile, read, tree, write
from tests.functional.stages import USER, VfsStage
from tests.servers import Answer, StandIn
from tests.sync.mount import World, tell

pytestmark = [
    pytest.mark.shared_engine,
    pytest.mark.expect_log("was not on the disk when the power went|staging file is missing", optional=True),
]

KEYS = Keys(bytes(range(32)), Cipher.AES)
BOTH = pytest.mark.parametrize("keys", [None, KEYS], ids=["plain", "sealed"])
CUTS = int(os.environ.get("CLOUDFS_TEST_CUTS", "1"))
OLD = b"what the server has " * 5000


class Scenario:
    """A program's steps, and after each of them what a cut may show under each name."""

    def __init__(self, stage: VfsStage) -> None:
        self.stage = stage
        self.driver: Driver = stage.root()
        self.files: dict[str, OpenFile] = {}
        self.may: dict[str, list[bytes | None]] = {"old": [OLD], "other": [OLD]}
        self.holds: dict[str, bytes | None] = {"old": OLD, "other": OLD}

    def open(self, name: str, flags: int = 0) -> None:
        self.files[name] = self.driver.open(name, os.O_RDWR | os.O_CREAT | flags)
        now = self.holds.get(name) or b""
        self._becomes(name, b"" if flags & os.O_TRUNC else now)

    def write(self, name: str, offset: int, data: bytes) -> None:
        self.files[name].write(offset, data)
        now = (self.holds[name] or b"").ljust(offset, b"\0")
        self._becomes(name, now[:offset] + data + now[offset + len(data) :])

    def truncate(self, name: str, size: int) -> None:
        self.files[name].truncate(size)
        self._becomes(name, (self.holds[name] or b"")[:size].ljust(size, b"\0"))

    def close(self, name: str) -> None:
        self.files.pop(name).close()

    def fsync(self, name: str) -> None:
        self.files[name].fsync()
        self.may[name] = [self.holds[name]]

    def rename(self, name: str, new: str) -> None:
        self.driver.rename(name, new)
        self._becomes(new, self.holds[name])
        self._becomes(name, None)
        # What it held before may be found at the new place too.
        self.may[new] += [content for content in self.may[name] if content is not None]

    def harden(self) -> None:
        """What happens half a second later."""
        harden(self.stage)
        for name, now in self.holds.items():
            if name not in self.files:
                self.may[name] = [now]

    def _becomes(self, name: str, content: bytes | None) -> None:
        self.may.setdefault(name, [None]).append(content)
        self.holds[name] = content


def harden(stage: VfsStage) -> None:
    trio.from_thread.run(stage.engine.files.hardening.harden, trio_token=stage.token)


def new_file(run: Scenario) -> list[Callable[[], None]]:
    return [
        lambda: run.open("a"),
        lambda: run.write("a", 0, b"one" * 3000),
        lambda: run.close("a"),
        lambda: run.open("b"),
        lambda: run.write("b", 0, b"two" * 3000),
        lambda: run.fsync("b"),  # takes the other's row to the disk, and not its bytes
        run.harden,
        lambda: run.write("b", 9000, b"more" * 3000),
        lambda: run.close("b"),
        lambda: run.open("c"),
        lambda: run.fsync("c"),
    ]


def edited(run: Scenario) -> list[Callable[[], None]]:
    return [
        lambda: run.open("old"),
        lambda: run.write("old", 50_000, b"edit" * 3000),
        lambda: run.fsync("old"),
        lambda: run.write("old", 100_000, b"appended" * 3000),
        lambda: run.close("old"),
        lambda: run.open("other"),
        lambda: run.fsync("other"),
        run.harden,
    ]


def rewritten(run: Scenario) -> list[Callable[[], None]]:
    return [
        lambda: run.open("a"),
        lambda: run.write("a", 0, b"first" * 3000),
        lambda: run.fsync("a"),
        lambda: run.close("a"),
        lambda: run.open("a", os.O_TRUNC),
        lambda: run.write("a", 0, b"second" * 1000),
        lambda: run.close("a"),
        lambda: run.open("old", os.O_TRUNC),
        lambda: run.fsync("old"),
        lambda: run.write("old", 0, b"third" * 1000),
        lambda: run.close("old"),
        lambda: run.open("other"),
        lambda: run.fsync("other"),
        run.harden,
    ]


def shortened(run: Scenario) -> list[Callable[[], None]]:
    return [
        lambda: run.open("a"),
        lambda: run.write("a", 0, b"first" * 3000),
        lambda: run.fsync("a"),
        lambda: run.truncate("a", 5000),
        lambda: run.truncate("a", 9000),
        lambda: run.fsync("a"),
        lambda: run.truncate("a", 100),
        lambda: run.write("a", 100, b"second" * 1000),
        lambda: run.close("a"),
        lambda: run.open("other"),
        lambda: run.fsync("other"),
        run.harden,
    ]


def saved_by_rename(run: Scenario) -> list[Callable[[], None]]:
    return [
        lambda: run.open("new"),
        lambda: run.write("new", 0, b"saved" * 3000),
        lambda: run.close("new"),
        lambda: run.rename("new", "old"),
        lambda: run.open("other"),
        lambda: run.fsync("other"),
        run.harden,
    ]


SCENARIOS = [new_file, edited, rewritten, shortened, saved_by_rename]
SEALED = SCENARIOS if CUTS > 1 else [rewritten]


@pytest.mark.parametrize("seed", range(CUTS))
@pytest.mark.parametrize(
    ("scenario", "keys"),
    [*((scenario, None) for scenario in SCENARIOS), *((scenario, KEYS) for scenario in SEALED)],
    ids=lambda it: getattr(it, "__name__", "sealed" if it else "plain"),
)
def test_a_cut_at_any_moment(
    tmp_path: Path,
    server: StandIn,
    monkeypatch: pytest.MonkeyPatch,
    scenario: Callable[[Scenario], list[Callable[[], None]]],
    keys: Keys | None,
    seed: int,
) -> None:
    monkeypatch.setattr(hardening, "_GATHER_S", 3600.0)
    choose = random.Random(seed)
    account = server.account(USER)
    for name in ("old", "other"):
        account.write(f"/{name}", OLD)
    cuts: list[tuple[Path, dict[str, list[bytes | None]]]] = []
    stage = VfsStage(tmp_path / "engine", server, quiet_s=3600.0, keys=keys)
    assert tree(stage.root()) == {"old": OLD, "other": OLD}
    with monkeypatch.context() as patch:
        disk = Disk(tmp_path / "engine/state", patch)
        run = Scenario(stage)
        for number, step in enumerate(scenario(run)):
            step()
            disk.cut(tmp_path / f"cut{number}/state", choose)
            cuts.append((tmp_path / f"cut{number}", {name: list(may) for name, may in run.may.items()}))
    stage.close()
    monkeypatch.setattr(on_disk, "boot_id", lambda: "the next life of the machine")
    sent = choose.choice(cuts)  # one of them: it changes the server
    for method in ("PUT", "MOVE", "DELETE", "PROPPATCH"):
        server.faults.add(Answer(403), method=method, times=None)
    for home, may in cuts:
        if home != sent[0]:
            _check(home, may, server, keys)
    server.faults.clear()
    _check(*sent, server, keys, send=True)


@BOTH
def test_what_cannot_be_kept_aside_is_not_given_up(
    tmp_path: Path, server: StandIn, monkeypatch: pytest.MonkeyPatch, keys: Keys | None
) -> None:
    """The disk is full when the machine is back: the start fails, and the next one finds all that there was."""
    monkeypatch.setattr(hardening, "_GATHER_S", 3600.0)
    home = tmp_path / "cut"
    stage = VfsStage(tmp_path / "engine", server, quiet_s=3600.0, keys=keys)
    write(stage.root(), "new", b"doubtful" * 1000)
    shutil.copytree(tmp_path / "engine/state", home / "state")
    stage.close()
    monkeypatch.setattr(on_disk, "boot_id", lambda: "the next life of the machine")

    def full(*_arguments: object, **_more: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(os, "link", full)
            with pytest.RaisesGroup(
                pytest.RaisesExc(PosixError, match="No space left on device: new"), flatten_subgroups=True
            ):
                VfsStage(home, server, quiet_s=3600.0, keys=keys)
    stage = VfsStage(home, server, quiet_s=3600.0, keys=keys)
    assert tree(stage.root()) == {}
    stage.close()
    (kept,) = (home / "state/recovered").iterdir()
    assert rescued(kept, keys) == b"doubtful" * 1000


@BOTH
def test_bytes_that_are_taken_back_from_a_file_that_stays_are_kept_aside(
    tmp_path: Path, server: StandIn, monkeypatch: pytest.MonkeyPatch, keys: Keys | None
) -> None:
    """What was synced is shown again; what was written into the same staging file since is for people to look at."""
    monkeypatch.setattr(hardening, "_GATHER_S", 3600.0)
    home = tmp_path / "cut"
    stage = VfsStage(tmp_path / "engine", server, quiet_s=3600.0, keys=keys)
    file = stage.root().open("new", os.O_RDWR | os.O_CREAT)
    file.write(0, b"synced")
    file.fsync()
    file.write(3, b"THEN MORE")
    file.close()
    shutil.copytree(tmp_path / "engine/state", home / "state")
    stage.close()
    monkeypatch.setattr(on_disk, "boot_id", lambda: "the next life of the machine")
    stage = VfsStage(home, server, quiet_s=3600.0, keys=keys)
    assert len(read(stage.root(), "new")) == 6
    write(stage.root(), "new", b"gone on")
    (kept,) = (home / "state/recovered").iterdir()
    assert rescued(kept, keys) == b"synTHEN MORE"
    stage.close()


def test_what_was_synced_stays_until_what_follows_an_emptying_is_on_the_disk(
    tmp_path: Path, server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row of the emptied file says that nothing is to be lost of it, as nothing is written yet."""
    monkeypatch.setattr(hardening, "_GATHER_S", 3600.0)
    server.account(USER).write("/old", OLD)
    home = tmp_path / "cut"
    with closing(VfsStage(tmp_path / "engine", server, quiet_s=3600.0)) as stage:
        file = stage.root().open("old", os.O_RDWR | os.O_TRUNC)
        file.write(0, b"synced")
        file.fsync()
        file.write(6, b" and more")
        file.close()
        file = stage.root().open("old", os.O_RDWR | os.O_TRUNC)
        harden(stage)
        file.write(0, b"not on the disk")
        file.close()
        shutil.copytree(tmp_path / "engine/state", home / "state")
        newest = max(stage.engine.store.all_staged(), key=lambda row: row.version)
    (lost,) = home.glob(f"state/staging-*/{newest.ino}.{newest.version}")
    os.truncate(lost, 0)
    monkeypatch.setattr(on_disk, "boot_id", lambda: "the next life of the machine")
    with closing(VfsStage(home, server, quiet_s=3600.0)) as stage:
        assert read(stage.root(), "old") == b"synced and more"


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "synced"])
def test_what_is_written_over_bytes_that_were_on_the_disk_is_there_half_a_second_later(
    tmp_path: Path, server: StandIn, monkeypatch: pytest.MonkeyPatch, *, closed: bool
) -> None:
    """The row says the same of the file as before."""
    monkeypatch.setattr(hardening, "_GATHER_S", 3600.0)
    with closing(VfsStage(tmp_path / "engine", server, quiet_s=3600.0)) as stage:
        write(stage.root(), "a", b"one" * 1000)
        harden(stage)
        disk = Disk(tmp_path / "engine/state", monkeypatch)
        file = stage.root().open("a", os.O_RDWR)
        file.write(0, b"two" * 1000)
        if closed:
            file.close()
            harden(stage)
        else:
            file.fsync()
        disk.cut(tmp_path / "cut", random.Random(0))
        (staged,) = tmp_path.glob("cut/staging-*/*")
        assert staged.read_bytes() == b"two" * 1000


def test_a_checksum_from_before_a_cut_is_not_believed(tmp_path: Path) -> None:
    """That it was of other bytes, written over since in their place, may not have reached the disk."""
    store, staging = Store(tmp_path / "state.sqlite"), Staging(tmp_path / "staging")
    try:
        now, version = time.time_ns(), store.nodes.next_version()
        ino = store.nodes.insert(
            parent=ROOT, name="a", folder=0, size=3, mtime_ns=now, ctime_ns=now, version=version
        )
        row = StagedRow(ino, version, 3, RangeSet([(0, 3)]).pack(), ContentVersion(0), 0, None)
        store.put_staged(msgspec.structs.replace(row.made_safe(row.state), checksum="SHA1:of other bytes"))
        for boot, believed in (("one", True), ("one", True), ("two", False)):
            assert not after_power_cut(store, staging, tmp_path / "recovered", boot)
            (kept,) = store.all_staged()
            assert (kept.checksum is not None) == believed
    finally:
        store.close()
        staging.close()


def test_a_file_that_was_emptied_and_never_goes_up_keeps_no_older_bytes(
    tmp_path: Path, server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardening, "_GATHER_S", 3600.0)
    with closing(VfsStage(tmp_path, server, quiet_s=3600.0)) as stage:
        write(stage.root(), "a~", b"older")
        harden(stage)
        write(stage.root(), "a~", b"")
        assert len(stage.engine.store.all_staged()) == 2
        harden(stage)
        (row,) = stage.engine.store.all_staged()
        assert not row.size


def _check(
    home: Path,
    may: dict[str, list[bytes | None]],
    server: StandIn,
    keys: Keys | None,
    *,
    send: bool = False,
) -> None:
    stage = VfsStage(home, server, quiet_s=3600.0, keys=keys)
    try:
        shown = tree(stage.root())
        assert set(shown) <= set(may), home.name
        for name, contents in may.items():
            assert shown.get(name) in contents, f"{home.name}: {name}: {_short(shown.get(name))}"
        if send:
            stage.sync()
            assert server.account(USER).tree() == shown, home.name
    finally:
        stage.close()


def _short(content: bytes | None) -> str:
    return "nothing" if content is None else f"{len(content)} bytes, {content[:20]!r} … {content[-20:]!r}"


@pytest.mark.parametrize("by_rename", [False, True], ids=["over it", "renamed over it"])
def test_what_another_client_wrote_shows_once_a_change_here_is_taken_back(
    tmp_path: Path, by_rename: bool
) -> None:
    """It had been seen, and could not be taken over beside the change: no other listing would have told of it."""

    async def story(world: World) -> None:
        world.remote.other.write("/a", b"before")
        await world.refresh_all()
        await trio.sleep(10)
        assert await world.read_file("a") == b"before"
        await world.save("new" if by_rename else "a", b"ours")
        if by_rename:
            await world.rename("new", "a")
        world.remote.other.write("/a", b"theirs")
        await world.engine.lister.refresh(ROOT)
        world.engine.store.set_boot_id("before the cut")
        await world.kill()
        await trio.sleep(60)
        assert await world.tree() == {"/a": b"theirs"}
        await world.check_nothing_left()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(World, "check_log", lambda _: None)  # it tells of what was taken back
        tell(tmp_path, story)
