"""What people attached to a document is there after it was saved, on a real Nextcloud.

What a save sends is in `test_saves`, and that this keeps the file id; here stands what hangs on that: shares, with a
person and by a link, tags, comments, the mark of a favourite, and the version history. The stand-in has the id alone.
"""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional.attached import Document, People, people
from tests.functional.drivers import OsDriver
from tests.functional.saves import SAVES, save
from tests.functional.stages import MountStage
from tests.tooling.needs import need

pytestmark = [
    pytest.mark.real_nextcloud,
    pytest.mark.mount,
    pytest.mark.shared_engine,
    pytest.mark.slow,
    pytest.mark.timeout(600),
]

FIRST_S, SECOND_S = 1_600_000_000, 1_610_000_000
FIRST, SECOND = b"the first content", b"the second content\n"


@pytest.fixture(scope="module")
def accounts() -> Iterator[People]:
    with people() as both:
        yield both


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, accounts: People) -> Iterator[MountStage]:
    home = tmp_path_factory.mktemp("attached") / "home"
    made = MountStage(home, accounts, settings="poll_s = 1", user=accounts.user, password=accounts.password)
    folder = made.mount_point / f"attached {secrets.token_hex(4)}"
    folder.mkdir()
    made.sync()
    yield made
    folder.rmdir()
    made.sync()
    made.cloudfs("unmount", "a")
    made.cloudfs("logout", "a")
    made.close()


@pytest.fixture
def folder(stage: MountStage) -> Path:
    (only,) = stage.mount_point.glob("attached *")
    return only


@pytest.fixture
def document(stage: MountStage, accounts: People, folder: Path) -> Iterator[Document]:
    """A document with a history, shared, tagged and commented on, as the mount shows it."""
    name = f"doc {secrets.token_hex(4)}.txt"
    made = Document(accounts, f"{folder.name}/{name}")
    made.write(FIRST, FIRST_S)
    made.write(SECOND, SECOND_S)
    made.attach("a comment")
    stage.wait((folder / name).exists)
    yield made
    made.unshare()
    (folder / name).unlink()
    for left in folder.iterdir():
        left.unlink()
    stage.sync()


def save_by_vim(document: Path) -> None:
    """The program itself, with the settings of Debian's package."""
    need("vim")
    command = ["vim", "-es", "-u", "/etc/vim/vimrc", "-c", "normal Gothe third content", "-c", "wq"]
    subprocess.run([*command, str(document)], check=True, timeout=60, capture_output=True)


@pytest.mark.parametrize("how", ["vim itself", *SAVES])
def test_a_save_keeps_what_is_attached(stage: MountStage, folder: Path, document: Document, how: str) -> None:
    (shown,) = folder.iterdir()
    before = document.attached()
    assert {kind for _, kind in before.shares} == {"0", "3"}
    assert (before.tags, before.comments, before.favorite) == (
        frozenset({"cloudfs tests"}),
        ("a comment",),
        True,
    )
    assert document.versions() == {FIRST_S: FIRST, SECOND_S: None}

    if how == "vim itself":
        save_by_vim(shown)
        content = SECOND + b"the third content\n"
    else:
        content = b"the third content, of another length"
        save(OsDriver(folder), shown.name, how, content)
    stage.sync()

    assert document.read() == document.read_by_receiver() == content
    assert document.attached() == before
    (now_s,) = document.versions().keys() - {FIRST_S, SECOND_S}
    assert document.versions() == {FIRST_S: FIRST, SECOND_S: SECOND, now_s: None}
