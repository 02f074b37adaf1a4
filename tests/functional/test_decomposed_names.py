"""Names that the server spells in another form than NFC, on a server that compares bytes (docs/SEMANTICS.md, Names)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from unicodedata import normalize

import pytest

from tests.functional.drivers import read, write
from tests.functional.stages import PASSWORD, USER, VfsStage
from tests.servers.plain import WsgidavServer

pytestmark = [pytest.mark.server("wsgidav"), pytest.mark.shared_engine]

FOLDER, FILE = normalize("NFD", "ödir"), normalize("NFD", "é.txt")


@pytest.fixture
def server() -> Iterator[WsgidavServer]:
    made = WsgidavServer()
    made.user, made.password = USER, PASSWORD
    with made:
        (made.root / FOLDER).mkdir()
        (made.root / FOLDER / FILE).write_bytes(b"inside")
        (made.root / FILE).write_bytes(b"content")
        yield made


@pytest.fixture
def stage(tmp_path: Path, server: WsgidavServer) -> Iterator[VfsStage]:
    made = VfsStage(tmp_path / "engine", server)
    yield made
    made.close()


def on_disk(server: WsgidavServer) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(server.root)): path.read_bytes() if path.is_file() else None
        for path in server.root.rglob("*")
    }


def test_they_are_read_and_changed_under_the_servers_own_spelling(
    stage: VfsStage, server: WsgidavServer
) -> None:
    here = stage.root()
    assert set(here.names()) == {"é.txt", "ödir"}
    assert here.names("ödir") == ["é.txt"]
    assert (read(here, "é.txt"), read(here, "ödir/é.txt")) == (b"content", b"inside")
    write(here, "é.txt", b"written here")
    write(here, "ödir/é.txt", b"written inside")
    write(here, "ödir/new", b"new")
    stage.sync()
    assert on_disk(server) == {
        FILE: b"written here",
        FOLDER: None,
        f"{FOLDER}/{FILE}": b"written inside",
        f"{FOLDER}/new": b"new",
    }


def test_they_are_moved_and_removed(stage: VfsStage, server: WsgidavServer) -> None:
    here = stage.root()
    assert (read(here, "é.txt"), read(here, "ödir/é.txt")) == (b"content", b"inside")
    here.rename("é.txt", "plain.txt")
    here.unlink("ödir/é.txt")
    here.rmdir("ödir")
    stage.sync()
    stage.look()
    assert on_disk(server) == {"plain.txt": b"content"}
    assert here.names() == ["plain.txt"]


def test_they_are_found_again_after_a_restart(stage: VfsStage, server: WsgidavServer) -> None:
    assert set(stage.root().names()) == {"é.txt", "ödir"}
    assert stage.root().names("ödir") == ["é.txt"]
    stage.restart()
    stage.look()
    here = stage.root()
    assert (read(here, "é.txt"), read(here, "ödir/é.txt")) == (b"content", b"inside")
    here.unlink("ödir/é.txt")
    stage.sync()
    assert on_disk(server) == {FILE: b"content", FOLDER: None}


def test_a_removal_from_before_a_restart_is_sent(stage: VfsStage, server: WsgidavServer) -> None:
    """Nothing lists the folder again before that: the spelling has to be known all the same."""
    here = stage.root()
    assert here.names("ödir") == ["é.txt"]
    assert read(here, "é.txt") == b"content"
    server.stop()
    here.unlink("ödir/é.txt")
    stage.close()
    server.start()
    stage.reopen()
    stage.sync()
    assert on_disk(server) == {FILE: b"content", FOLDER: None}


def test_they_keep_their_spelling_in_a_folder_that_is_moved(stage: VfsStage, server: WsgidavServer) -> None:
    here = stage.root()
    assert here.names("ödir") == ["é.txt"]
    here.rename("ödir", "moved")
    stage.sync()
    here.unlink("moved/é.txt")
    stage.sync()
    assert on_disk(server) == {FILE: b"content", "moved": None}


def test_a_new_name_in_the_place_of_a_decomposed_one_is_composed(
    stage: VfsStage, server: WsgidavServer
) -> None:
    here = stage.root()
    assert read(here, "é.txt") == b"content"
    here.unlink("é.txt")
    stage.sync()
    write(here, "é.txt", b"new")
    stage.sync()
    assert on_disk(server) == {"é.txt": b"new", FOLDER: None, f"{FOLDER}/{FILE}": b"inside"}


def test_another_spelling_of_the_same_file_is_noticed(stage: VfsStage, server: WsgidavServer) -> None:
    here = stage.root()
    assert here.names("ödir") == ["é.txt"]
    (server.root / FOLDER / FILE).rename(server.root / FOLDER / "é.txt")
    stage.look()
    server.stop()
    here.unlink("ödir/é.txt")
    stage.close()
    server.start()
    stage.reopen()
    stage.sync()
    assert on_disk(server) == {FILE: b"content", FOLDER: None}
