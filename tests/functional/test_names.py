"""Names as a Nextcloud takes, changes and refuses them: one case for each row of protocol.md §2.4."""

from __future__ import annotations

import errno
import os
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.functional.drivers import VfsDriver
from tests.functional.stages import USER, VfsStage
from tests.servers import Account, StandIn

pytestmark = pytest.mark.shared_engine


@pytest.fixture(scope="module")
def server() -> Iterator[StandIn]:
    with StandIn() as standin:
        yield standin


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, server: StandIn) -> Iterator[VfsStage]:
    made = VfsStage(tmp_path_factory.mktemp("engine") / "engine", server)
    yield made
    made.close()


@pytest.fixture
def account(server: StandIn) -> Account:
    return server.account(USER)


@pytest.fixture
def driver(stage: VfsStage, request: pytest.FixtureRequest, tmp_path: Path) -> VfsDriver:
    del request
    driver = stage.driver(tmp_path.name)
    assert isinstance(driver, VfsDriver)
    return driver


@pytest.fixture
def top(tmp_path: Path) -> str:
    """The folder of the account that `driver` shows."""
    return f"/{tmp_path.name}"


@contextmanager
def refused(code: int) -> Iterator[None]:
    with pytest.raises(OSError) as caught:  # noqa: PT011  # its number is what counts
        yield
    assert caught.value.errno == code


def write(driver: VfsDriver, name: str, content: bytes) -> None:
    handle = driver.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    handle.write(0, content)
    handle.close()


ORDINARY = [
    " a b ", "a.", "100%", "#", "?", "&", "a+b", ";", ":", "<>", '"', "'", "~a", "=", "@", ",", "$", "!", "(1)", "[1]",
    "a*b", "{1}", "^", "|", "`", "\x7f", "😀", "...", ".hidden", "CON", "aux.txt", "Thumbs.db",
    "x.PART", "x.filepart", ".user.ini",
]  # fmt: skip


def test_ordinary_names_go_up_as_they_are(
    driver: VfsDriver, stage: VfsStage, account: Account, top: str
) -> None:
    for name in ORDINARY:
        write(driver, name, name.encode())
    stage.sync()
    assert account.tree(top) == {name: name.encode() for name in ORDINARY}


def test_names_that_differ_in_case_are_two(
    driver: VfsDriver, stage: VfsStage, account: Account, top: str
) -> None:
    write(driver, "case", b"small")
    write(driver, "CASE", b"large")
    stage.sync()
    assert account.tree(top) == {"case": b"small", "CASE": b"large"}


@pytest.mark.parametrize(
    "name", ["a\\b", "a\x01", "a\tb", "a\nb", "a\rb", "\ufffe", "a\uffff", ".htaccess", ".HTAccess", "*"]
)
def test_refused_names_are_refused_here_in_every_way(
    driver: VfsDriver, stage: VfsStage, server: StandIn, name: str
) -> None:
    write(driver, "file", b"")
    driver.mkdir("folder")
    stage.sync()
    server.requests.reset()
    with refused(errno.EINVAL):
        write(driver, name, b"")
    with refused(errno.EINVAL):
        driver.mkdir(name)
    for source in ("file", "folder"):
        with refused(errno.EINVAL):
            driver.rename(source, name)
    stage.sync()
    assert not set(server.requests.methods) & {"PUT", "MKCOL", "MOVE"}


def test_a_name_that_is_no_utf8_is_refused(driver: VfsDriver) -> None:
    """The server would take it for Latin-1, silently."""
    with refused(errno.EILSEQ):
        write(driver, os.fsdecode(b"bad\xff"), b"")


def test_decomposed_names_are_the_composed_ones(
    driver: VfsDriver, stage: VfsStage, account: Account, top: str
) -> None:
    composed, decomposed = (unicodedata.normalize(form, "é.txt") for form in ("NFC", "NFD"))
    assert composed != decomposed
    write(driver, decomposed, b"one")
    write(driver, composed, b"two")
    assert driver.names() == [composed]
    stage.sync()
    assert account.tree(top) == {composed: b"two"}


@pytest.mark.parametrize("part", ["film.mkv.part", "x.part"])
def test_part_files_stay_here_until_they_are_renamed(
    driver: VfsDriver, stage: VfsStage, account: Account, top: str, part: str
) -> None:
    """The server locks such a name for ever, or loses it (protocol.md, rule 12)."""
    write(driver, part, b"half")
    stage.sync()
    assert account.tree(top) == {}
    write(driver, part, b"whole")
    driver.rename(part, "done")
    stage.sync()
    assert account.tree(top) == {"done": b"whole"}


def test_what_is_in_a_part_folder_stays_here_until_it_is_renamed(
    driver: VfsDriver, stage: VfsStage, account: Account, top: str
) -> None:
    driver.mkdir("album.part")
    write(driver, "album.part/one", b"1")
    stage.sync()
    assert account.tree(top) == {}
    driver.rename("album.part", "album")
    stage.sync()
    assert account.tree(top) == {"album": None, "album/one": b"1"}


def test_lengths(driver: VfsDriver, stage: VfsStage, account: Account, top: str) -> None:
    """227 bytes for a new file, 250 for folders and renamed files, which can be written there."""
    for length in (228, 250):
        with refused(errno.ENAMETOOLONG):
            write(driver, "x" * length, b"")
    with refused(errno.ENAMETOOLONG):
        write(driver, "ü" * 114, b"")
    write(driver, "x" * 227, b"longest")
    driver.mkdir("d" * 250)
    write(driver, "short", b"short")
    stage.sync()
    driver.rename("short", "y" * 250)
    for name in ("z" * 251, "z" * 255):
        with refused(errno.ENAMETOOLONG):
            driver.rename("y" * 250, name)
        with refused(errno.ENAMETOOLONG):
            driver.mkdir(name)
    stage.sync()
    write(driver, "y" * 250, b"written there")
    stage.sync()
    assert account.tree(top) == {"x" * 227: b"longest", "d" * 250: None, "y" * 250: b"written there"}


def test_a_new_file_is_not_renamed_to_a_name_that_it_cannot_be_made_under(driver: VfsDriver) -> None:
    write(driver, "new", b"")
    with refused(errno.ENAMETOOLONG):
        driver.rename("new", "n" * 228)


def test_paths_that_the_server_does_not_take_are_refused(
    driver: VfsDriver, stage: VfsStage, top: str
) -> None:
    """And so is what could be made there, but never be removed: in the trash it has a longer one."""
    folder, left = "", 3800 - len(top)
    while left > 100:
        folder, left = f"{folder}{'d' * 100}/", left - 101
        driver.mkdir(folder.rstrip("/"))
    longest = 3900 - len(f"{top}/{folder}")
    write(driver, "file", b"longest")
    for make in (
        lambda path: write(driver, path, b""),
        driver.mkdir,
        lambda path: driver.rename("file", path),
    ):
        with refused(errno.ENAMETOOLONG):
            make(folder + "x" * (longest + 1))
    driver.rename("file", folder + "x" * longest)
    write(driver, folder + "y" * longest, b"longest")
    driver.mkdir(folder + "z" * longest)
    write(driver, f"{folder}.~lock.{'l' * longest}#", b"stays here")
    assert not stage.send()


@pytest.mark.parametrize("name", ["\ufffe", "a\uffffb"])
def test_one_name_that_is_no_xml_does_not_hide_its_folder(
    driver: VfsDriver, stage: VfsStage, account: Account, top: str, name: str
) -> None:
    account.populate({name: b"odd", "plain": b"plain"}, at=top)
    stage.look()
    assert set(driver.names()) == {name, "plain"}
    handle = driver.open(name)
    assert handle.read(0, 10) == b"odd"
    handle.close()
