"""What others share with this account: files at two places, and what may not be changed."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cloudfs.vfs.records import RenameMode
from tests.functional.drivers import VfsDriver
from tests.functional.stages import USER, VfsStage
from tests.servers import Account, StandIn

pytestmark = pytest.mark.shared_engine


@pytest.fixture
def account(server: StandIn) -> Account:
    return server.account(USER)


@pytest.fixture
def stage(tmp_path: Path, server: StandIn) -> Iterator[VfsStage]:
    made = VfsStage(tmp_path / "engine", server)
    yield made
    made.close()


def test_a_file_id_at_two_places_is_two_inodes(stage: VfsStage, account: Account) -> None:
    """Listed one after the other, in one tree, and after one of them went."""
    account.populate({"direct/file": b"shared", "inside/deep/x": b"x"})
    root = stage.root()
    assert root.names("direct") == ["file"]
    before = root.ino("direct/file")
    account.show_again("/direct/file", "/inside/file")
    account.show_again("/direct/file", "/inside/deep/file")
    inos = {path: root.ino(path) for path in ("direct/file", "inside/file", "inside/deep/file")}
    assert inos["direct/file"] == before
    assert len(set(inos.values())) == 3
    stage.look()
    assert {path: root.ino(path) for path in inos} == inos
    for path in inos:
        handle = root.open(path)
        assert handle.read(0, 100) == b"shared"
        handle.close()
    account.delete("/inside/file")
    stage.look()
    assert root.names("inside") == ["deep"]
    assert {path: root.ino(path) for path in ("direct/file", "inside/deep/file")} == {
        path: inos[path] for path in ("direct/file", "inside/deep/file")
    }


@contextmanager
def refused(code: int = errno.EACCES) -> Iterator[None]:
    with pytest.raises(OSError) as caught:  # noqa: PT011  # its number is what counts
        yield
    assert caught.value.errno == code


def write(driver: VfsDriver, path: str, content: bytes) -> None:
    handle = driver.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CREAT)
    handle.write(0, content)
    handle.close()


@pytest.fixture
def theirs(account: Account) -> None:
    """A read-only share "ro", one to write in "rw", a single file "single", and what is our own; before any look."""
    tree: dict[str, bytes | None] = {
        **{f"{top}/{path}": b"theirs" for top in ("ro", "rw") for path in ("file", "sub/file")},
        "ro/empty": None,
        "rw/empty": None,
        "single": b"single",
        "own/file": b"own",
        "own/empty": None,
    }
    account.populate(tree)
    account.share_root("/ro", "SG")
    account.share_root("/rw", "SRGDNVWCK")
    account.share_root("/single", "SG")


@pytest.fixture
def shared(theirs: None, stage: VfsStage) -> VfsDriver:
    """All of that, known."""
    del theirs
    root = stage.root()
    for folder in ("", "ro", "ro/sub", "ro/empty", "rw", "rw/sub", "rw/empty", "own", "own/empty"):
        root.names(folder)
    return root


def test_modes_show_what_a_share_allows(shared: VfsDriver) -> None:
    modes = {
        "ro": 0o555,
        "ro/sub": 0o555,
        "ro/file": 0o444,
        "single": 0o444,
        "rw": 0o755,
        "rw/file": 0o644,
        "own": 0o755,
        "own/file": 0o644,
    }
    assert {path: shared.mode(path) for path in modes} == modes


def test_a_read_only_share_cannot_be_changed(shared: VfsDriver, stage: VfsStage, server: StandIn) -> None:
    """All of it is refused here and at once: nothing is sent, nothing is pending."""
    server.requests.reset()
    for path in ("ro/file", "single"):
        with refused():
            shared.open(path, os.O_WRONLY)
        with refused():
            shared.truncate(path, 1)
        with refused():
            shared.utime(path, 1_700_000_000 * 10**9)
        with refused():
            shared.rename("own/file", path)
    for path in ("ro", "ro/sub"):
        with refused():
            write(shared, f"{path}/new", b"new")
        with refused():
            shared.mkdir(f"{path}/new")
        with refused():
            shared.utime(path, 1_700_000_000 * 10**9)
        with refused():
            shared.rename("own/file", f"{path}/new")
    with refused():
        shared.unlink("ro/file")
    with refused():
        shared.rmdir("ro/empty")
    for target in ("ro/renamed", "own/moved"):
        with refused():
            shared.rename("ro/file", target)
        with refused():
            shared.rename("ro/sub", target)
    for source, target in (("own/file", "ro/file"), ("ro/file", "own/file"), ("ro/file", "rw/file")):
        with refused():
            shared.rename(source, target, RenameMode.EXCHANGE)
    with refused():
        shared.rename("own/empty", "ro/empty")
    stage.sync()
    assert {record.method for record in server.requests} <= {"PROPFIND"}


def test_a_share_to_write_in_is_like_an_own_folder(
    shared: VfsDriver, stage: VfsStage, account: Account
) -> None:
    write(shared, "rw/file", b"ours")
    write(shared, "rw/sub/new", b"new")
    shared.rename("rw/sub/file", "own/taken")
    shared.rename("own/file", "rw/given")
    shared.rmdir("rw/empty")
    stage.sync()
    assert account.tree("/rw") == {"file": b"ours", "sub": None, "sub/new": b"new", "given": b"own"}
    assert account.read("/own/taken") == b"theirs"


def test_the_root_of_a_share_can_be_renamed_moved_and_left(
    shared: VfsDriver, stage: VfsStage, account: Account
) -> None:
    """By the letters that its parent's listing tells; its own listing hides them."""
    stage.look()
    shared.rename("ro", "called otherwise")
    shared.rename("called otherwise", "own/read only")
    shared.rename("single", "own/single")
    stage.sync()
    assert account.node("/own/read only").mounted
    assert account.node("/own/single").mounted
    shared.unlink("own/single")
    stage.sync()
    assert not account.exists("/own/single")


def test_a_share_cannot_be_moved_into_another_one(shared: VfsDriver, stage: VfsStage) -> None:
    for source, target in (("ro", "rw/ro"), ("single", "rw/sub/single"), ("rw", "rw/sub/rw")):
        with refused(errno.EINVAL if target.startswith(source + "/") else errno.EACCES):
            shared.rename(source, target)
    with refused():
        shared.rename("single", "rw/file", RenameMode.EXCHANGE)
    stage.sync()


ALLOWED = {"SGNVW": set[str](), "SGNVWCK": {"rename", "in"}, "SGD": {"out"}, "SGDCK": {"within", "out", "in"}}
"""As measured: `tests/conformance/test_nextcloud_writing.py` asks the server itself.

A rename without the right to create is refused here all the same.
"""


@pytest.mark.parametrize("letters", ALLOWED)
def test_a_rename_is_a_change_and_a_move_is_a_removal(
    stage: VfsStage, account: Account, letters: str
) -> None:
    """What the server would refuse is refused at once, and what is not refused arrives there."""
    inside = {f"share/{path}": b"theirs" for path in ("other", "leaving", "sub/file")}
    folders = {"share/folder": None, "share/away": None}
    account.populate({**inside, **folders, "own/file": b"own"})
    account.share_root("/share", letters)
    root = stage.root()
    moves = {
        "rename": [("share/other", "share/renamed"), ("share/folder", "share/called otherwise")],
        "within": [("share/sub/file", "share/file")],
        "out": [("share/leaving", "own/leaving"), ("share/away", "own/away")],
        "in": [("own/file", "share/came")],
    }
    for what, pairs in moves.items():
        for source, target in pairs:
            if what in ALLOWED[letters]:
                root.rename(source, target)
            else:
                with refused():
                    root.rename(source, target)
    stage.sync()
    for what, pairs in moves.items():
        for source, target in pairs:
            there, gone = (target, source) if what in ALLOWED[letters] else (source, target)
            assert account.exists(f"/{there}")
            assert not account.exists(f"/{gone}")


def test_modes_follow_what_the_server_allows(shared: VfsDriver, stage: VfsStage, account: Account) -> None:
    account.set_permissions("/ro", "SRGDNVWCK")
    account.set_permissions("/rw", "SG")
    stage.look()
    assert [shared.mode(path) for path in ("ro", "ro/file", "rw", "rw/file")] == [0o755, 0o644, 0o555, 0o444]
    write(shared, "ro/new", b"new")
    stage.sync()
    assert account.read("/ro/new") == b"new"


def test_what_a_share_allows_now_is_found_out_for_all_that_is_in_it(
    shared: VfsDriver, stage: VfsStage, account: Account
) -> None:
    """By a look for changes alone, which lists only what has another ETag: nothing in a share has."""
    account.set_permissions("/ro", "SRGDNVWCK")
    account.set_permissions("/rw", "SG")
    stage.call_sync(stage.engine.watcher.wake)

    def letters(path: str) -> str:
        node = stage.engine.tree.resolve(path)
        assert node is not None
        return node.permissions or ""

    stage.wait(lambda: "W" in letters("/ro/sub/file") and "W" not in letters("/rw/sub/file"))
    assert [shared.mode(path) for path in ("ro/sub", "ro/sub/file", "rw/sub", "rw/sub/file")] == [
        0o755,
        0o644,
        0o555,
        0o444,
    ]
    write(shared, "ro/sub/file", b"ours")
    stage.sync()
    assert account.read("/ro/sub/file") == b"ours"


@pytest.mark.parametrize("listed", ["/ro", "/", "both"])
def test_the_root_of_a_share_keeps_its_letters_however_it_is_listed(
    shared: VfsDriver, stage: VfsStage, listed: str
) -> None:
    del shared
    nodes = stage.engine.store.nodes

    def letters() -> str | None:
        node = stage.engine.tree.resolve("/ro")
        assert node is not None
        return node.permissions

    async def look() -> None:
        for path in ("/", "/ro") if listed == "both" else (listed,):
            node = stage.engine.tree.resolve(path)
            assert node is not None
            await stage.engine.lister.refresh(node.ino)
            assert nodes.get(node.ino) is not None

    for _ in range(2):
        stage.call(look)
        assert stage.call_sync(letters) == "SGDNV"


def test_what_was_written_before_a_share_became_read_only_waits_and_goes_up_later(
    shared: VfsDriver, stage: VfsStage, account: Account
) -> None:
    handle = shared.open("rw/file", os.O_RDWR)
    account.set_permissions("/rw", "SG")
    handle.write(0, b"written here")
    stage.look()
    handle.write(0, b"WRITTEN")
    handle.close()
    (trouble,) = stage.send()
    assert "rw/file" in str(trouble)
    assert shared.open("rw/file").read(0, 100) == b"WRITTEN here"
    account.set_permissions("/rw", "SRGDNVWCK")
    stage.look()
    stage.call_sync(stage.engine.worker.try_all_now)
    stage.sync()
    assert account.read("/rw/file") == b"WRITTEN here"
