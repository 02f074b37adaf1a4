"""Where the key of an encrypted account is kept, and what happens while it cannot be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from cloudfs.blocks.sealing import Cipher, Keys
from cloudfs.config import Account, Folders, Settings
from cloudfs.errors import ExitCode, UserError
from cloudfs.secrets.protocol import KeyringAway
from cloudfs.vault import keyholding, opening
from cloudfs.vault.keyholding import forget_key, forget_unused, keep_new_key, read_keys, wait_for_keys
from cloudfs.vault.opening import open_account
from cloudfs.vault.place import Place, find, note_keys
from tests.secrets.session import Desktop


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    made = Folders.from_environment({"CLOUDFS_HOME": str(tmp_path)})
    made.create()
    made.account_state("work")
    return made


def account(**settings: object) -> Account:
    return Account(url="https://h.example/dav/", user="jo", settings=Settings(**settings))  # type: ignore[arg-type]


def test_in_the_keyring(folders: Folders, desktop: Desktop) -> None:
    place, keys = trio.run(keep_new_key, folders, "work", "keyring")
    other, _ = trio.run(keep_new_key, folders, "work", "keyring")
    assert len(desktop.secrets()) == 2, "a new key takes no other one's place"
    assert place.check != other.check
    found = trio.run(read_keys, folders, "work", place)
    assert found is not None
    assert found.database == keys.database
    (noted,) = [path for path in folders.state.rglob("*") if path.is_file()]
    assert not any(secret in noted.read_text() for secret in desktop.secrets().values())
    desktop.lock()
    with pytest.raises(KeyringAway):
        trio.run(read_keys, folders, "work", place)
    desktop.unlock()
    trio.run(forget_key, folders, "work", other)
    assert len(desktop.secrets()) == 1


def test_a_locked_keyring_is_waited_for(
    folders: Folders, desktop: Desktop, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = open_account(folders, "work", account(cache_encrypt=True))
    assert opened.keys is not None
    place = find(folders.state / "work")
    assert place.key == "keyring"
    desktop.lock()
    monkeypatch.setattr(keyholding, "_POLL_S", 0.05)
    with monkeypatch.context() as patch:
        patch.setattr(keyholding, "_PATIENCE_S", 0.0)
        with pytest.raises(UserError, match="is encrypted, and its key cannot be read") as refused:
            open_account(folders, "work", account(cache_encrypt=True))
        assert refused.value.code is ExitCode.NOT_DONE
    tries = 0

    async def read(*_: object) -> Keys | None:
        nonlocal tries
        tries += 1
        if tries == 3:
            desktop.unlock()
        return await read_keys(folders, "work", place)

    monkeypatch.setattr(keyholding, "read_keys", read)
    again = wait_for_keys(folders, "work", place, may_prompt=False)
    assert again is not None
    assert again.check == place.check
    assert find(folders.state / "work") == place
    # The unit has nobody who waits for the outcome: no time is too long, and others are told each time.
    desktop.lock()
    told: list[str] = []
    monkeypatch.setattr(keyholding, "_PATIENCE_S", -1.0)
    tries = 0
    assert open_account(folders, "work", account(), waits=told.append).keys is not None
    waiting = "waiting for the keyring, which has the key of what is encrypted here: The keyring is locked."
    assert told == [waiting, waiting, ""]


def test_a_locked_keyring_is_waited_for_at_the_first_mount_too(
    folders: Folders, desktop: Desktop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Failing at once, systemd's unit would use up its tries within a minute of the login."""
    desktop.lock()
    tries = 0

    async def keep(*arguments: Any) -> tuple[Place, Keys]:
        nonlocal tries
        tries += 1
        if tries == 3:
            desktop.unlock()
        return await keep_new_key(*arguments)

    monkeypatch.setattr(keyholding, "_POLL_S", 0.05)
    monkeypatch.setattr(keyholding, "keep_new_key", keep)
    opened = open_account(folders, "work", account(cache_encrypt=True))
    assert (opened.keys is not None, tries) == (True, 3)
    assert len(desktop.secrets()) == 1


@pytest.mark.parametrize("wrong", [None, b"00" * 32, b"no key", b"ab" * 16])
def test_without_its_key_nothing_is_opened_or_changed(folders: Folders, wrong: bytes | None) -> None:
    wanted = account(cache_encrypt=True, cache_key="file")
    opened = open_account(folders, "work", wanted)
    assert opened.folder.name.startswith("sealed-")
    (key,) = (folders.state / "work").glob("cache-key-*")
    assert key.stat().st_mode & 0o777 == 0o600
    key.unlink()
    if wrong is not None:
        key.write_bytes(wrong)
        key.chmod(0o600)
    for setting in (True, False, None):
        with pytest.raises(UserError) as refused:
            open_account(folders, "work", account(cache_encrypt=setting, cache_key="file"))
        assert refused.value.code is ExitCode.BAD_CONFIG
    assert opened.folder.exists()


@pytest.mark.parametrize("cut", ["before the change", "after it", "after it, and it is plain now"])
def test_a_kill_in_a_change_leaves_no_key_that_opens_nothing(
    folders: Folders, monkeypatch: pytest.MonkeyPatch, cut: str
) -> None:
    class Killed(BaseException):
        pass

    async def killed(*_: object) -> None:
        raise Killed

    state = folders.state / "work"
    opened = open_account(folders, "work", account(cache_encrypt=True, cache_key="file"))
    assert opened.keys
    with monkeypatch.context() as patch:
        patch.setattr(opening, "forget_key", killed)
        if cut == "before the change":
            patch.setattr(opening, "change", lambda *_: trio.run(killed))
        with pytest.raises(Killed):
            opening.convert(folders, "work", None if cut.endswith("plain now") else "file")
    assert len(list(state.glob("cache-key-*"))) == (1 if cut.endswith("plain now") else 2)
    again = open_account(folders, "work", account())
    if cut.endswith("plain now"):
        assert again.keys is None
        assert not list(state.glob("cache-key-*")) + list(state.glob("keys.json"))
        return
    assert again.keys
    assert (again.keys.check == opened.keys.check) is (cut == "before the change")
    (key,) = state.glob("cache-key-*")
    assert key.name.endswith(again.keys.check[:8])
    assert not (state / "keys.json").exists()


def test_a_key_that_cannot_be_taken_away_now_is_taken_away_later(folders: Folders, desktop: Desktop) -> None:
    opened = open_account(folders, "work", account(cache_encrypt=True))
    trio.run(keep_new_key, folders, "work", "keyring")  # and killed
    assert len(desktop.secrets()) == 2
    desktop.lock()
    trio.run(forget_unused, folders, "work")
    desktop.unlock()
    assert len(desktop.secrets()) == 2
    trio.run(forget_unused, folders, "work")
    assert len(desktop.secrets()) == 1
    again = open_account(folders, "work", account())
    assert again.keys
    assert opened.keys
    assert again.keys.check == opened.keys.check


def test_an_account_stays_as_it_is_unless_its_file_says_otherwise(folders: Folders) -> None:
    state = folders.state / "work"
    assert open_account(folders, "work", account()).keys is None
    assert find(state) == Place()
    sealed = open_account(folders, "work", account(cache_encrypt=True, cache_key="file"))
    assert open_account(folders, "work", account()).folder == sealed.folder
    assert open_account(folders, "work", account(cache_encrypt=False)).keys is None
    assert not list(state.glob("cache-key-*"))
    assert not sealed.folder.exists()


def test_a_key_that_others_may_have_read_is_not_used_and_the_way_out_is_told(folders: Folders) -> None:
    place, _ = trio.run(keep_new_key, folders, "work", "file")
    (path,) = (folders.state / "work").glob("cache-key-*")
    path.chmod(0o644)
    with pytest.raises(UserError, match="readable by others") as raised:
        trio.run(read_keys, folders, "work", place)
    assert f"`chmod go= {path}`" in raised.value.hint
    assert "`cloudfs cache rekey work`" in raised.value.hint
    path.chmod(0o600)
    assert trio.run(read_keys, folders, "work", place) is not None


def test_systemds_credential(folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    wanted = account(cache_encrypt=True, cache_key="credential")
    with pytest.raises(UserError, match="has not handed out"):
        open_account(folders, "work", wanted)
    (tmp_path / "cloudfs-work-cache-key").write_text("0f" * 32 + "\n")
    opened = open_account(folders, "work", wanted)
    assert opened.keys is not None
    assert opened.keys.check == Keys(b"\x0f" * 32, Cipher(find(folders.state / "work").cipher)).check


def test_a_note_never_has_the_present_key_removed(folders: Folders) -> None:
    """Keys are kept under a part of what they are known by: whatever the note says, that of the present one stays."""
    opened = open_account(folders, "work", account(cache_encrypt=True, cache_key="file"))
    assert opened.keys is not None
    state = folders.state / "work"
    present = find(state)
    note_keys(state, [Place(key="file", cipher=present.cipher, check=present.check[:8] + "0" * 24)])
    trio.run(forget_unused, folders, "work")
    assert list(state.glob("cache-key-*"))
