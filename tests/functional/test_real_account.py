"""A folder of a real Nextcloud, mounted: every byte is right on both sides, by what another WebDAV client finds there.

Programs on the same server are in `tests/programs`. Only where CLOUDFS_TEST_URL and so on are set.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudfs.errors import ExitCode
from tests.conformance.dav import once
from tests.functional.sites import RealSite, real_site
from tests.functional.stages import MountStage
from tests.programs.conftest import contents

pytestmark = [
    pytest.mark.real_nextcloud,
    pytest.mark.mount,
    pytest.mark.shared_engine,
    pytest.mark.slow,
    pytest.mark.timeout(600),
]

MIB = 1 << 20
SIZES = [0, 1, 4096, MIB - 1, MIB, MIB + 1, 64 * MIB]
MANY = 2000
MANY_FOLDER = f"cloudfs-tests-{MANY}-files"
"""Stays in the account's root: making it takes a minute or more, so one serves all runs."""
BATCH = 100
IDLE_BYTES, MOST_ADDED_BYTES = 80_000_000, 100_000_000


@pytest.fixture(scope="module")
def site() -> Iterator[RealSite]:
    with real_site() as site:
        yield site


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, site: RealSite) -> Iterator[MountStage]:
    made = MountStage(
        tmp_path_factory.mktemp("real") / "home",
        site,
        settings="listing_ttl_s = 0",
        user=site.user,
        password=site.password,
    )
    yield made
    made.close()
    made.cloudfs("logout", "a")


def content(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def digest(data: bytes | None) -> str:
    return "nothing" if data is None else hashlib.sha256(data).hexdigest()


def test_files_go_up(stage: MountStage, site: RealSite) -> None:
    folder = stage.mount_point / "up"
    folder.mkdir()
    for size in SIZES:
        (folder / f"{size}").write_bytes(content(size))
    stage.sync()
    found = site.tree("up")
    assert {name: digest(data) for name, data in found.items()} == {
        f"{size}": digest(content(size)) for size in SIZES
    }


def test_files_come_down(stage: MountStage, site: RealSite) -> None:
    site.dav.mkcol("down")
    for size in SIZES:
        site.dav.put(f"down/{size}", content(size))
    folder = stage.mount_point / "down"
    assert sorted(os.listdir(folder)) == sorted(f"{size}" for size in SIZES)
    for size in SIZES:
        assert (folder / f"{size}").stat().st_size == size
        assert digest((folder / f"{size}").read_bytes()) == digest(content(size))


def pieces(number: int) -> Iterator[bytes]:
    """Yield `number` MiB, none of them like another."""
    yield from (random.Random(index).randbytes(MIB) for index in range(number))


def test_a_gibibyte_goes_up_and_comes_down(stage: MountStage, site: RealSite) -> None:
    path, sent, found, read = (
        stage.mount_point / "gibibyte",
        hashlib.sha256(),
        hashlib.sha256(),
        hashlib.sha256(),
    )
    stage.cloudfs("unmount", "a")
    stage.mount()
    idle = stage.memory("VmRSS")
    assert idle < IDLE_BYTES
    with path.open("wb") as file:
        for piece in pieces(1024):
            sent.update(piece)
            file.write(piece)
    stage.sync()
    assert stage.memory("VmHWM") - idle < MOST_ADDED_BYTES
    with site.dav.client.stream("GET", site.dav.url("gibibyte")) as reply:
        for chunk in reply.raise_for_status().iter_raw():
            found.update(chunk)
    assert found.hexdigest() == sent.hexdigest()
    stage.cloudfs("unmount", "a")
    shutil.rmtree(stage.home / "cache")
    stage.mount()
    idle = stage.memory("VmRSS")
    with path.open("rb") as file:
        while data := file.read(MIB):
            read.update(data)
    assert stage.memory("VmHWM") - idle < MOST_ADDED_BYTES
    assert read.hexdigest() == sent.hexdigest()
    path.unlink()
    stage.sync()


def test_renamed_and_deleted_and_mounted_with_an_empty_cache(stage: MountStage, site: RealSite) -> None:
    root = stage.mount_point / "names"
    (root / "folder/deep").mkdir(parents=True)
    for name in ("first", "second", "folder/third", "folder/deep/fourth"):
        (root / name).write_bytes(content(len(name)))
    stage.sync()
    os.rename(root / "first", root / "folder/größer als 1 %.txt")
    os.rename(root / "folder", root / "moved")
    os.unlink(root / "second")
    stage.sync()
    expected = {
        "moved": None,
        "moved/größer als 1 %.txt": content(len("first")),
        "moved/third": content(len("folder/third")),
        "moved/deep": None,
        "moved/deep/fourth": content(len("folder/deep/fourth")),
    }
    assert site.tree("names") == expected
    stage.cloudfs("unmount", "a")
    shutil.rmtree(stage.home / "cache")
    stage.mount()
    assert contents(root) == expected


@pytest.mark.expect_log("cleared the mount of account a that a killed daemon left", optional=True)
def test_acknowledged_bytes_outlive_a_kill(stage: MountStage, site: RealSite) -> None:
    folder = stage.mount_point / "killed"
    folder.mkdir()
    for size in SIZES[:-1]:
        (folder / f"{size}").write_bytes(content(size))
    stage.kill()
    stage.mount()
    expected = {f"{size}": digest(content(size)) for size in SIZES[:-1]}
    assert {name: digest(data) for name, data in contents(folder).items()} == expected
    stage.sync()
    assert {name: digest(data) for name, data in site.tree("killed").items()} == expected


def test_a_second_mount_is_told_who_has_it(stage: MountStage, tmp_path: Path) -> None:
    refused = stage.cloudfs("mount", "a", str(tmp_path), check=False)
    assert refused.returncode == ExitCode.ALREADY_MOUNTED
    assert f"at {stage.mount_point} by the process {stage.status()['pid']}" in refused.stderr


def test_a_folder_of_2000_files(stage: MountStage, many: str) -> None:
    folder = stage.mount_point / many
    assert {entry.name: entry.stat().st_size for entry in os.scandir(folder)} == {
        f"{number}": len(f"{number}") for number in range(MANY)
    }
    for number in (0, MANY // 2, MANY - 1):
        assert (folder / f"{number}").read_text() == f"{number}"


@pytest.fixture
def many(site: RealSite) -> Iterator[str]:
    """Move that folder into the mount, and back: the server's COPY of so many files leaves some out."""
    kept = f"{site.url.rstrip('/').rpartition('/')[0]}/{MANY_FOLDER}"
    _make_many(site, kept)
    site.move(kept, site.dav.url("many"))
    yield "many"
    site.move(site.dav.url("many"), kept)


def _make_many(site: RealSite, folder_url: str) -> None:
    client = site.dav.client
    client.request("MKCOL", folder_url)
    listed = client.request("PROPFIND", folder_url, headers={"Depth": "1"}).text
    missing = [number for number in range(MANY) if f"/{number}</d:href>" not in listed]
    for begin in range(0, len(missing), BATCH):
        once(  # without cookies: they would end the session (protocol.md §8)
            "POST",
            f"{folder_url.partition('/files/')[0]}/bulk",
            content=b"".join(map(_part, missing[begin : begin + BATCH])) + b"--B--\r\n",
            auth=client.auth,
            headers={"Content-Type": "multipart/related; boundary=B"},
        ).raise_for_status()


def _part(number: int) -> bytes:
    data = b"%d" % number
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
    head = f"X-File-Path: /{MANY_FOLDER}/{number}\r\nX-File-MD5: {md5}\r\nContent-Length: {len(data)}\r\n"
    return b"--B\r\n" + head.encode() + b"\r\n" + data + b"\r\n"
