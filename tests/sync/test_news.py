"""What people read in the log of what succeeds: a line for each event, however many files it has."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import trio

from cloudfs.blocks.sealing import Cipher, Keys
from cloudfs.sync import news
from cloudfs.types import ROOT, Pin
from tests.model.fake_remote import FakeRemote
from tests.model.world import World
from tests.sync.mount import tell
from tests.sync.test_hydrating import say, stocked

KEEP = Pin.ALWAYS_LOCAL


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    lines = [record.getMessage() for record in caplog.records if record.name == news.__name__]
    caplog.clear()
    return lines


async def quiet(world: World) -> None:
    assert not await world.drain()
    await trio.sleep(news._QUIET_S + 0.1)


def test_one_file_is_named_and_many_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, news.__name__)

    async def story(world: World) -> None:
        await world.mkdir("docs")
        await world.save("docs/{a}.txt", b"twelve bytes")
        await quiet(world)
        assert sorted(said(caplog)) == [
            "/docs, a folder, is on the server",
            "/docs/{a}.txt is on the server (12 bytes)",
        ]
        for number in range(40):
            await world.save(f"docs/{number}", bytes(100))
        await quiet(world)
        assert said(caplog) == ["40 files in /docs are on the server (4.0 kB)"]
        await world.rename("docs/0", "first")
        await world.unlink("docs/1")
        await quiet(world)
        assert said(caplog) == [
            "/docs/0 is /first on the server, too",
            "/docs/1 was removed on the server",
        ]
        for number in range(2, 12):
            await world.unlink(f"docs/{number}")
        await quiet(world)
        assert said(caplog) == ["10 files and folders in /docs were removed on the server"]

    tell(tmp_path, story)


def test_many_folders_are_one_event(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, news.__name__)

    async def story(world: World) -> None:
        await world.mkdir("a")
        for number in range(8):
            await world.mkdir(f"a/{number}")
            await world.save(f"a/{number}/file", b"x")
        await quiet(world)
        told = said(caplog)
        assert "8 files in /a are on the server (8 bytes)" in told
        assert "8 folders in /a are on the server" in told

    tell(tmp_path, story)


def test_what_goes_on_and_on_is_told_of_every_minute(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, news.__name__)

    async def story(world: World) -> None:
        started = trio.current_time()
        while trio.current_time() < started + 3 * news._MOST_S:
            await world.save("f", b"%f" % trio.current_time())
            assert not await world.drain()
            await trio.sleep(1)
        lines = said(caplog)
        assert 2 <= len(lines) <= 4
        assert all(line.endswith(" bytes)") and "files in / are on the server" in line for line in lines)

    tell(tmp_path, story)


def test_of_an_encrypted_account_nothing_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, news.__name__)

    async def story(world: World) -> None:
        await world.mkdir("secret plans")
        await world.save("secret plans/one", b"x")
        world.engine.news.read((await world.lookup("secret plans/one")).ino, "vlc")
        await quiet(world)
        assert sorted(said(caplog)) == [
            "come from the server, as vlc reads them: 1 files (1 bytes)",
            "on the server: 1 files (1 bytes)",
            "on the server: 1 folders",
        ]

    tell(tmp_path, story, keys=Keys(bytes(32), Cipher.CHACHA))


def test_what_failed_is_no_news(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, news.__name__)
    remote = FakeRemote()

    async def story(world: World) -> None:
        await world.walk()
        remote.faults.unreachable_for(60)
        await world.save("f", b"x")
        await trio.sleep(30)
        assert said(caplog) == []
        await trio.sleep(60)
        await quiet(world)
        assert said(caplog) == ["/f is on the server (1 bytes)"]

    tell(tmp_path, story, remote)


def test_what_is_kept_here_and_what_a_program_reads(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, news.__name__)

    async def story(world: World) -> None:
        await world.walk()
        await say(world, "p/in", KEEP)
        await quiet(world)
        assert sorted(line.partition(" came")[0] for line in said(caplog)) == [
            "3 files in /p/in",
            "3 files in /p/in/deep",
        ]
        world.engine.news.read((await world.lookup("q/a")).ino, "vlc")
        world.engine.news.read((await world.lookup("q/in/a")).ino, "")
        world.engine.news.read(ROOT, "vlc")
        await quiet(world)
        told = said(caplog)
        assert told[0].startswith("vlc reads /q/a, which comes from the server (")
        assert any(line.startswith("a program reads /q/in/a, ") for line in told)

    tell(tmp_path, story, stocked())
