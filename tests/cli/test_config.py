"""Folders, account files and secrets: private whatever the umask, deaf to planted links, clear about mistakes."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from cloudfs import config
from cloudfs.config import Account, Bandwidth, Folders, Settings
from cloudfs.errors import ExitCode, UserError

ACCOUNT = Account(url="https://cloud.example.org/dav/", user="jo", features={"name": "X", "nextcloud": True})


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=oct)
def any_umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.fixture
def folders() -> Folders:
    made = Folders.from_environment()
    made.create()
    return made


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def refused(code: ExitCode = ExitCode.BAD_CONFIG) -> pytest.RaisesExc[UserError]:
    return pytest.raises(UserError, check=lambda error: error.code is code and bool(error.hint))


def test_cloudfs_home_holds_everything(tmp_path: Path) -> None:
    folders = Folders.from_environment({"CLOUDFS_HOME": str(tmp_path)})
    assert [folders.config, folders.state, folders.cache, folders.runtime] == [
        tmp_path / name for name in ("config", "state", "cache", "run")
    ]
    with refused():
        Folders.from_environment({"CLOUDFS_HOME": "relative"})


def test_xdg_folders_are_followed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CLOUDFS_HOME")
    for name in ("CONFIG_HOME", "STATE_HOME", "CACHE_HOME", "RUNTIME_DIR"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(f"XDG_{name}", str(tmp_path / name))
    folders = Folders.from_environment()
    assert folders.config == tmp_path / "CONFIG_HOME" / "cloudfs"
    assert folders.state == tmp_path / "STATE_HOME" / "cloudfs"
    assert folders.cache == tmp_path / "CACHE_HOME" / "cloudfs"
    assert folders.runtime == tmp_path / "RUNTIME_DIR" / "cloudfs"


def test_a_missing_runtime_folder_is_replaced(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CLOUDFS_HOME")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "missing"))
    folders = Folders.from_environment()
    assert folders.runtime in {folders.state / "run", Path(f"/run/user/{os.geteuid()}/cloudfs")}


@pytest.mark.usefixtures("any_umask")
def test_everything_is_private(tmp_path: Path) -> None:
    folders = Folders.from_environment()
    folders.create()
    config.write_secret(folders, "work", "secret")
    config.save_account(folders, "work", ACCOUNT)
    folders.account_cache("work")
    found = list((tmp_path / "home").rglob("*"))
    assert len(found) >= 9
    assert {mode_of(path) for path in found if path.is_dir()} == {0o700}
    assert {mode_of(path) for path in found if path.is_file()} == {0o600}


def test_loose_folders_are_tightened(folders: Folders) -> None:
    folders.state.chmod(0o755)
    folders.create()
    assert mode_of(folders.state) == 0o700


def test_planted_folders_are_refused(folders: Folders, tmp_path: Path) -> None:
    folders.cache.rmdir()
    folders.cache.symlink_to(tmp_path)
    with refused():
        folders.create()
    folders.cache.unlink()
    folders.cache.write_text("a file")
    with refused():
        folders.create()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_folders_and_secrets_of_others_are_refused(folders: Folders) -> None:
    config.write_secret(folders, "work", "secret")
    os.chown(folders.secret_file("work"), 1234, -1)
    with refused():
        config.read_secret(folders, "work")
    os.chown(folders.cache, 1234, -1)
    with refused():
        folders.create()


# --- accounts


def test_an_account_comes_back_as_it_was_saved(folders: Folders) -> None:
    account = Account(
        url="http://[::1]:8080/dav/",
        user="Jo Doe@example.org",
        user_id="jo",
        base_url="http://[::1]:8080/",
        ca_file="/etc/ca.pem",
        features={"name": 'N"ame\n', "name_rules": {"forbidden_names": ["a"]}, "depth_infinity": True},
        settings=Settings(cache_size_bytes=2**30, quiet_s=0.5, keep=["/Documents"], keep_max_bytes=5),
        bandwidth=Bandwidth(up="08:00 512k 19:00 off", metered="limit 1 MB/s"),
    )
    config.save_account(folders, "work", account)
    config.save_account(folders, "alpha", ACCOUNT)
    assert config.load_account(folders, "work") == account
    assert config.account_names(folders) == ["alpha", "work"]
    config.remove_account(folders, "work")
    assert config.account_names(folders) == ["alpha"]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('url = "https://a/"\nuser = "u"\ncolour = "red"\n', "colour"),
        ('url = "https://a/"\nuser = "u"\n[settings]\nquiet_s = "long"\n', "settings.quiet_s"),
        (
            'url = "https://a/"\nuser = "u"\n[settings]\nmetrics = 80\n',
            ".toml:4: settings.metrics: 80 is no port",
        ),
        (
            'url = "https://a/"\nuser = "u"\n[settings]\nmetrics = "a.prom"\n',
            "settings.metrics: 'a.prom' is no abs",
        ),
        ('url = "https://a/"\nuser = "u"\n[bandwidth]\nup = 5\n', "bandwidth.up: expected"),
        (
            'url = "https://a/"\nuser = "u"\n[bandwidth]\nup = "fast"\n',
            ".toml:4: bandwidth.up: 'fast' is no speed",
        ),
        (
            'url = "https://a/"\nuser = "u"\n[bandwidth]\nup = "off"\ndown = "08:00 1M 25:00 off"\n',
            ".toml:5: bandwidth.down: 25:00 is no time of day",
        ),
        (
            'url = "https://a/"\nuser = "u"\n[bandwidth]\nmetered = "no"\n',
            ".toml:4: bandwidth.metered: 'no' is none",
        ),
        ('url = "https://a/"\nuser = "u"\n[bandwidth]\nmetered_up = "limit"\n', "bandwidth.metered_up: "),
        ('url = "https://a/"\nuser = "u"\n[bandwidth]\nspeed = "1M"\n', "bandwidth.speed: there is no such"),
        (
            'url = "https://a/"\nuser = "u"\n[settings]\nkeep = ["/a", "../b"]\n',
            "settings.keep: '../b' is no path",
        ),
        ('url = "https://a/"\nuser = "u"\n[settings]\nkeep_max_bytes = -1\n', "settings.keep_max_bytes"),
        (
            'url = "https://a/"\nuser = "u"\n[settings]\nrequest_deadline_s = 60\n',
            "settings.request_deadline_s",
        ),
        ('url = "https://a/"\nuser = "u"\n[settings]\ncache_size_bytes = 5\n', "settings.cache_size_bytes"),
        ('url = "https://a/"\nuser = "u"\n[settings]\nmemory_bytes = -1\n', "settings.memory_bytes"),
        ('url = "https://a/"\n', "user"),
        ('url = "https://a/"\nuser = ""\n', "user"),
        ('url = "ftp://a/"\nuser = "u"\n', "url"),
        ('url = "https://u:p@a/"\nuser = "u"\n', "url"),
        ('url = "https://a:b/"\nuser = "u"\n', "url"),
        ('url = "https://a/"\nuser = "u"\nbase_url = "x"\n', "base_url"),
        ("url = \n", "line 1"),
        ("\udcff", ""),
    ],
)
def test_mistakes_in_the_file_name_file_and_key(folders: Folders, text: str, key: str) -> None:
    path = folders.account_file("work")
    path.write_bytes(text.encode(errors="surrogateescape"))
    with refused() as caught:
        config.load_account(folders, "work")
    assert str(path) in caught.value.message
    assert key in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("lines", "line"),
    [
        (['colour = "red"'], 3),
        (["[settings]", "quiet_s = 1", "  colour = 2"], 5),
        (['secret_store = "clouds"'], 3),
        (["[settings]", "# quiet_s = 3", "quiet_s = 'long'"], 5),
        (["[features]", "[settings]", '"poll_s"=-1'], 5),
        (["settings.memory_bytes = 0"], 3),
        (["settings = { poll_s = -1 }"], 3),
        (["[settings]", "quiet_s = = 1"], 4),
    ],
)
def test_mistakes_name_the_line(folders: Folders, lines: list[str], line: int) -> None:
    path = folders.account_file("work")
    path.write_text("\n".join(['url = "https://a/"', 'user = "u"', *lines, ""]))
    with refused() as caught:
        config.load_account(folders, "work")
    assert caught.value.message.startswith(f"{path}:{line}: ")


def test_every_setting_is_documented_with_its_default() -> None:
    text = (Path(__file__).parents[2] / "docs/CONFIG.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]*?) \|", text, re.MULTILINE))
    fields = msgspec.structs.asdict(Settings()) | msgspec.structs.asdict(Bandwidth())
    account = {field.name for field in msgspec.structs.fields(Account)}
    assert rows.keys() == fields.keys() | account
    for name, default in fields.items():
        shown = rows[name].split()[0].replace(",", "").replace("_", "")
        assert default is None or json.loads(shown) == default, name


@pytest.mark.parametrize(
    "name", ["", "..", "a/b", ".hidden", "-x", "a b", "a\n", "ä", "x" * 64, "a#b", "a,b"]
)
def test_names_that_could_do_harm_are_refused(folders: Folders, name: str) -> None:
    with refused(ExitCode.USAGE):
        folders.account_file(name)
    with refused(ExitCode.USAGE):
        folders.secret_file(name)


def test_what_a_killed_removal_has_left_goes_with_the_next_command(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the contents of an account that is gone would lie there for ever, as nothing asks for its name any more."""
    config.save_account(folders, "work", ACCOUNT)
    (folders.account_state("work") / "state.sqlite").write_bytes(b"names")
    (folders.account_cache("work") / "block").write_bytes(b"content")

    def killed(folder: Path, **_: object) -> None:
        if folder.exists():
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shutil, "rmtree", killed)
        config.remove_account(folders, "work")
    assert config.account_names(folders) == []
    folders.create()
    assert [*folders.state.iterdir(), *folders.cache.iterdir()] == []


def test_the_only_account_needs_no_name(folders: Folders) -> None:
    with refused(ExitCode.NO_ACCOUNT):
        config.pick_account(folders, None)
    config.save_account(folders, "work", ACCOUNT)
    assert config.pick_account(folders, None) == "work"
    with refused(ExitCode.NO_ACCOUNT) as caught:
        config.pick_account(folders, "home")
    assert "work" in caught.value.hint
    config.save_account(folders, "home", ACCOUNT)
    assert config.pick_account(folders, "home") == "home"
    with refused(ExitCode.NO_ACCOUNT):
        config.pick_account(folders, None)


def test_without_any_folder_there_is_no_account() -> None:
    folders = Folders.from_environment()
    assert config.account_names(folders) == []
    with refused(ExitCode.NO_ACCOUNT):
        config.load_account(folders, "work")


# --- secrets


@pytest.mark.parametrize("secret", ["x", "pässwörd with blanks ", "a'\"\\$`"])
def test_secrets_come_back_exactly(folders: Folders, secret: str) -> None:
    config.write_secret(folders, "work", "old")
    config.write_secret(folders, "work", secret)
    assert config.read_secret(folders, "work") == secret
    assert [path.name for path in (folders.state / "work").iterdir()] == ["secret"]


def test_a_planted_link_is_replaced_and_its_target_untouched(folders: Folders, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("precious")
    folders.account_state("work")
    folders.secret_file("work").symlink_to(target)
    with refused():
        config.read_secret(folders, "work")
    config.write_secret(folders, "work", "secret")
    assert target.read_text() == "precious"
    assert not folders.secret_file("work").is_symlink()


def test_unfit_secret_files_are_refused(folders: Folders) -> None:
    with refused():
        config.read_secret(folders, "work")
    config.write_secret(folders, "work", "secret")
    path = folders.secret_file("work")
    path.chmod(0o640)
    with refused() as caught:
        config.read_secret(folders, "work")
    assert "readable by others" in caught.value.message
    path.chmod(0o600)
    for damaged in (b"", b"\n", b"a\nb\n", b"\xff", b"x" * 5000):
        path.write_bytes(damaged)
        with refused():
            config.read_secret(folders, "work")
    path.unlink()
    os.mkfifo(path)
    with refused():
        config.read_secret(folders, "work")


def test_a_failed_write_leaves_the_old_file(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    config.write_secret(folders, "work", "old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with refused() as caught:
        config.write_secret(folders, "work", "new")
    assert "No space left" in caught.value.message
    monkeypatch.undo()
    folders = Folders(folders.config, folders.state, folders.cache, folders.runtime)
    assert config.read_secret(folders, "work") == "old"
    assert [path.name for path in (folders.state / "work").iterdir()] == ["secret"]
