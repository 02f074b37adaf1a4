"""What another account shares with the mounted one: the same on the stand-in and on a real Nextcloud.

On the real one only with a second account (CLOUDFS_TEST_SHARER). `test_shares` goes further into what is refused here.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import pytest

from tests.functional.drivers import OsDriver
from tests.functional.received import ALL, PretendedShare, Received, real_share
from tests.functional.saves import SAVES, save
from tests.functional.stages import MountStage, wait_until
from tests.servers import StandIn
from tests.tooling.needs import ACCOUNT_VARIABLES

READ, UPDATE, CREATE, DELETE = 1, 2, 4, 8
SETTINGS = "poll_s = 1\nlisting_ttl_s = 1"

pytestmark = [pytest.mark.mount, pytest.mark.shared_engine, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(
    scope="module", params=["standin", pytest.param("nextcloud", marks=pytest.mark.real_nextcloud)]
)
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[MountStage, StandIn | None]]:
    """A mount of the whole account."""
    home = tmp_path_factory.mktemp("received") / "home"
    if request.param == "standin":
        with StandIn() as server:
            made = MountStage(home, server, settings=SETTINGS)
            yield made, server
            made.close()
        return
    url, user, password_file = (os.environ[name] for name in ACCOUNT_VARIABLES)
    made = MountStage(
        home, _Address(url), settings=SETTINGS, user=user, password=Path(password_file).read_text().strip()
    )
    yield made, None
    made.cloudfs("unmount", "a")
    made.cloudfs("logout", "a", "--discard-changes")
    made.close()


class _Address:
    def __init__(self, url: str) -> None:
        self.url = url


@pytest.fixture
def stage(site: tuple[MountStage, StandIn | None]) -> MountStage:
    return site[0]


@pytest.fixture
def share(site: tuple[MountStage, StandIn | None], request: pytest.FixtureRequest) -> Iterator[Received]:
    """Shown by the mount, with all that is in it; what is allowed in it is the parameter, else everything."""
    stage, server = site
    allowed = getattr(request, "param", ALL)
    with real_share(allowed) if server is None else nullcontext(PretendedShare(server, allowed)) as made:
        _show(stage, made)
        yield made


def _show(stage: MountStage, share: Received) -> None:
    folder = stage.mount_point / share.name
    _until(folder.exists)
    assert sorted(os.listdir(folder)) == ["empty", "file", "other", "sub"]
    for inside in ("sub", "empty"):
        os.listdir(folder / inside)


@pytest.fixture
def folder(stage: MountStage, share: Received) -> Path:
    return stage.mount_point / share.name


def _until(condition: object) -> None:
    """A real server on a busy machine takes its time."""
    assert callable(condition)
    for _ in range(5):
        try:
            wait_until(condition)
        except AssertionError:
            continue
        return
    wait_until(condition)


def allow(share: Received, folder: Path, allowed: int) -> None:
    """Have something else be allowed, and wait until files and folders show it."""
    share.allow(allowed)
    file = 0o644 if allowed & UPDATE else 0o444
    inside = 0o755 if allowed & CREATE else 0o555
    wanted = {"file": file, "sub": inside, "sub/file": file}

    def shown() -> bool:
        return {path: (folder / path).stat().st_mode & 0o777 for path in wanted} == wanted

    _until(shown)


@contextmanager
def refused() -> Iterator[None]:
    with pytest.raises(PermissionError) as caught:
        yield
    assert caught.value.errno == errno.EACCES


def attempts(folder: Path, own: Path) -> dict[str, bool]:
    """Do everything that can be done in a share; tell what was not refused."""

    def change() -> None:
        (folder / "file").write_bytes(b"ours, longer")

    def create() -> None:
        (folder / "sub/new").write_bytes(b"new")

    def make() -> None:
        (folder / "sub/made").mkdir()

    def rename() -> None:
        (folder / "other").rename(folder / "renamed")

    def bring() -> None:
        (own / "brought").write_bytes(b"own")
        (own / "brought").rename(folder / "brought")

    def take() -> None:
        (folder / "sub/file").rename(own / "taken")

    def remove() -> None:
        (folder / "empty").rmdir()

    done = {}
    for what in (change, create, make, rename, bring, take, remove):
        try:
            what()
        except PermissionError:
            done[what.__name__] = False
        else:
            done[what.__name__] = True
    return done


@pytest.mark.parametrize(
    "share", [READ, READ | UPDATE, READ | CREATE, READ | UPDATE | CREATE, READ | DELETE, ALL], indirect=True
)
def test_what_is_allowed_is_done_and_the_rest_refused_at_once(
    stage: MountStage, share: Received, folder: Path
) -> None:
    """Nothing that the mount took is refused by the server, and nothing is left waiting."""
    allowed = share.allowed
    own = stage.mount_point / f"own {share.name}"
    own.mkdir()
    expected = {
        "change": bool(allowed & UPDATE),
        "create": bool(allowed & CREATE),
        "make": bool(allowed & CREATE),
        "rename": allowed & (UPDATE | CREATE) == UPDATE | CREATE,
        "bring": bool(allowed & CREATE),
        "take": bool(allowed & DELETE),
        "remove": bool(allowed & DELETE),
    }
    assert attempts(folder, own) == expected
    stage.sync()
    assert share.read("file") == (b"ours, longer" if allowed & UPDATE else b"theirs")
    assert share.read("sub/new") == (b"new" if allowed & CREATE else None)
    assert share.read("renamed") == (b"theirs" if expected["rename"] else None)
    assert share.read("brought") == (b"own" if allowed & CREATE else None)
    assert share.read("sub/file") == (None if allowed & DELETE else b"theirs")
    if allowed & DELETE:
        assert (own / "taken").read_bytes() == b"theirs"
    for left in own.iterdir():
        left.unlink()
    own.rmdir()
    stage.sync()


@pytest.mark.parametrize(
    "share", [READ | UPDATE, READ | UPDATE | CREATE], indirect=True, ids=["no new ones", "no removals"]
)
@pytest.mark.parametrize("how", SAVES)
def test_documents_are_saved_where_nothing_may_be_removed(
    stage: MountStage, share: Received, folder: Path, how: str
) -> None:
    """Or the program hears at once that it may not, and the document is what it shows from then on."""
    shown = b"saved content"
    try:
        save(OsDriver(folder), "file", how, shown)
    except PermissionError:
        shown = (folder / "file").read_bytes()
        assert shown in {b"theirs", b"saved content"}
    assert (folder / "file").read_bytes() == shown
    stage.sync()
    assert share.read("file") == shown
    assert (folder / "file").read_bytes() == shown
    # Else the folder is made again for these names of this machine alone, once the share is gone.
    for left in set(os.listdir(folder)) - {"empty", "file", "other", "sub"}:
        with suppress(PermissionError):
            (folder / left).unlink()
    stage.sync()


def test_rights_that_come_and_go_are_followed(stage: MountStage, share: Received, folder: Path) -> None:
    for allowed in (READ, ALL, READ | UPDATE, READ | CREATE, ALL):
        allow(share, folder, allowed)
    (folder / "file").write_bytes(b"ours")
    stage.sync()
    assert share.read("file") == b"ours"


def test_what_was_written_before_it_was_forbidden_waits_until_it_is_allowed(
    stage: MountStage, share: Received, folder: Path
) -> None:
    stage.cloudfs("pause")
    (folder / "file").write_bytes(b"ours")
    (folder / "sub/new").write_bytes(b"new")
    (folder / "other").unlink()
    share.allow(READ)
    _until(lambda: (folder / "sub/file").stat().st_mode & 0o777 == 0o444)
    stage.cloudfs("resume")
    waited = stage.cloudfs("sync", "--wait", "--timeout", "60", check=False)
    assert waited.returncode
    assert all(f"/{share.name}/{path}" in waited.stderr for path in ("file", "other", "sub/new"))
    assert (folder / "file").read_bytes() == b"ours"
    assert (folder / "sub/new").read_bytes() == b"new"
    assert share.read("file") == share.read("other") == b"theirs"
    share.allow(ALL)
    _until(lambda: (folder / "sub/file").stat().st_mode & 0o777 == 0o644)
    stage.sync()
    assert share.read("file") == b"ours"
    assert share.read("sub/new") == b"new"
    assert share.read("other") is None


@pytest.mark.expect_log("", optional=True)
def test_what_was_written_in_a_share_that_is_withdrawn_is_not_lost(
    stage: MountStage, share: Received, folder: Path
) -> None:
    """The folder is made again for it in our own account, with what is ours and nothing else."""
    stage.cloudfs("pause")
    (folder / "file").write_bytes(b"ours")
    (folder / "sub/new").write_bytes(b"new")
    share.withdraw()
    _until(lambda: not (folder / "other").exists())
    stage.cloudfs("resume")
    stage.sync()
    assert (folder / "file").read_bytes() == b"ours"
    assert (folder / "sub/new").read_bytes() == b"new"
    assert sorted(os.listdir(folder)) == ["file", "sub"]
    assert share.shown_at(f"{share.name}/sub/new")
    for path in ("file", "sub/new"):
        (folder / path).unlink()
    for path in ("sub", ""):
        (folder / path).rmdir()
    stage.sync()


def test_the_root_is_renamed_and_moved_however_little_is_allowed(
    stage: MountStage, share: Received, folder: Path
) -> None:
    allow(share, folder, READ)
    own = stage.mount_point / f"own {share.name}"
    own.mkdir()
    ino = folder.stat().st_ino
    folder.rename(folder.with_name(f"{share.name} renamed"))
    stage.sync()
    assert share.shown_at(f"{share.name} renamed/file")
    folder.with_name(f"{share.name} renamed").rename(own / "moved")
    stage.sync()
    assert share.shown_at(f"{own.name}/moved/sub/file")
    assert (own / "moved").stat().st_ino == ino
    assert (own / "moved/sub/file").read_bytes() == b"theirs"
    with refused():
        (own / "moved/file").unlink()
    share.write("later", b"later")
    _until((own / "moved/later").exists)
    share.withdraw()
    _until(lambda: not (own / "moved").exists())
    own.rmdir()
    stage.sync()
