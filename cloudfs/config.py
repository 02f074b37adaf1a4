"""Folders, account files and secrets on this machine. Everything is private: folders 0700, files 0600.

Layout, with the XDG names in front (CLOUDFS_HOME=/x puts config, state, cache and run under /x):

    config/cloudfs/accounts/NAME.toml   one account: address, user, settings; no secret; people may edit it
    state/cloudfs/NAME/secret           the app password, where the account's file says secret_store = "file"
    state/cloudfs/NAME/                 database, staged bytes, lock, daemon.log
    cache/cloudfs/NAME/                 clean blocks: may be deleted at any time
    runtime/cloudfs/NAME.sock           the daemon's control socket
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from shlex import quote

import msgspec
from platformdirs import PlatformDirs

from cloudfs import accountfile
from cloudfs.errors import ExitCode, UserError
from cloudfs.safe_way import Unsafe, find_unsafe
from cloudfs.settings import Account, Bandwidth, SecretKind, Settings, Trust, published_at

__all__ = [
    "Account",
    "Bandwidth",
    "Folders",
    "SecretKind",
    "Settings",
    "Trust",
    "account_names",
    "check_account_name",
    "load_account",
    "pick_account",
    "private_folder",
    "published_at",
    "read_secret",
    "read_secret_file",
    "remove_account",
    "save_account",
    "sync_folder",
    "write_private",
    "write_secret",
]

SECRET_MAX_BYTES = 4096


class Folders(msgspec.Struct, frozen=True):
    """Where everything lives. Nothing is created before `create`."""

    config: Path
    state: Path
    cache: Path
    runtime: Path

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Folders:
        """Follow CLOUDFS_HOME, else the XDG variables, else their defaults below the home folder."""
        environ = os.environ if environ is None else environ
        home = environ.get("CLOUDFS_HOME")
        if home:
            base = Path(home).expanduser()
            if not base.is_absolute():
                raise _bad(
                    f"CLOUDFS_HOME is not an absolute path: {home}", "Set it to a path that begins with /."
                )
            return cls(base / "config", base / "state", base / "cache", base / "run")
        dirs = PlatformDirs("cloudfs")
        state = dirs.user_state_path
        return cls(dirs.user_config_path, state, dirs.user_cache_path, _runtime(environ, state))

    def create(self) -> None:
        """Create what is missing and verify what is there; raises UserError BAD_CONFIG.

        What a removal has left that was cut off by a kill goes now: nobody would look for it under a name that is gone.
        """
        self.require_safe_way()
        for folder in self.all:
            private_folder(folder)
        self.require_safe_way()  # once more: what was missing may have been made by somebody else before us
        for folder in (self.state, self.cache):
            for aside in folder.glob(f".*{_ASIDE}"):
                shutil.rmtree(aside, ignore_errors=True)

    def require_safe_way(self) -> None:
        """Raise UserError BAD_CONFIG where somebody else could put other folders in the place of these.

        Asked before something is put there, not before something is taken away (a logout, a remote wipe, a rescue).
        """
        for folder in self.all:
            try:
                found = find_unsafe(folder)
            except OSError as error:
                raise _unusable(folder, error) from error
            if found is not None:
                raise _unsafe(folder, found, in_use=self._is_in_use())

    def _is_in_use(self) -> bool:
        try:
            return bool(account_names(self))
        except UserError:
            return True  # nobody can tell

    @property
    def all(self) -> tuple[Path, ...]:
        """All folders, each behind the one that it lies in."""
        return (self.config, self.accounts, self.state, self.cache, self.runtime)

    @property
    def accounts(self) -> Path:
        """Folder of the account files."""
        return self.config / "accounts"

    def account_file(self, name: str) -> Path:
        """Return the account's file."""
        return self.accounts / f"{check_account_name(name)}.toml"

    def account_state(self, name: str) -> Path:
        """Return the account's state folder, created and verified."""
        return private_folder(self.state / check_account_name(name))

    def account_cache(self, name: str) -> Path:
        """Return the account's cache folder, created and verified."""
        return private_folder(self.cache / check_account_name(name))

    def secret_file(self, name: str) -> Path:
        """Return the file of the account's app password."""
        return self.state / check_account_name(name) / "secret"

    def socket_name(self, name: str) -> str:
        """Return the control socket's name inside `runtime`."""
        return f"{check_account_name(name)}.sock"


def _runtime(environ: Mapping[str, str], state: Path) -> Path:
    """XDG_RUNTIME_DIR; where cron or ssh forgot to set it, systemd's folder; else a part of the state.

    One that others may write to is passed over: sockets are no reason to refuse a mount.
    """
    for candidate in (environ.get("XDG_RUNTIME_DIR", ""), f"/run/user/{os.geteuid()}"):
        with suppress(OSError):
            folder = Path(candidate) / "cloudfs"
            if (
                folder.is_absolute()
                and folder.parent.stat().st_uid == os.geteuid()
                and not find_unsafe(folder)
            ):
                return folder
    return state / _SOCKETS


def private_folder(path: Path) -> Path:
    """Create `path` with mode 0700 and return it.

    An existing one must be a real folder of ours and is tightened to 0700. Raises UserError BAD_CONFIG.
    """
    try:
        for missing in reversed([folder for folder in path.parents if not folder.exists()]):
            missing.mkdir(mode=0o700, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if os.path.islink(path):  # noqa: PTH114  # Path's may fail
            raise _bad(
                f"{path} is a symbolic link.", "Remove it, or set CLOUDFS_HOME to the real place."
            ) from error
        raise _unusable(path, error) from error
    try:
        found = os.fstat(descriptor)
        if found.st_uid != os.geteuid():
            raise _bad(f"The folder {path} belongs to another user.", "Remove it, or set CLOUDFS_HOME.")
        if stat.S_IMODE(found.st_mode) != 0o700:
            os.fchmod(descriptor, 0o700)
    finally:
        os.close(descriptor)
    return path


def _unsafe(path: Path, found: Unsafe, *, in_use: bool) -> UserError:
    """Say what is wrong with a place; one that is in use must not be left behind, with changes that were not sent."""
    elsewhere = "choose another place, with CLOUDFS_HOME or the XDG variables."
    if in_use:
        elsewhere = (
            "move all of cloudfs's folders elsewhere, as they are, and name that place with CLOUDFS_HOME or the XDG"
            " variables: changes that were not sent yet are in them."
        )
    if found.is_open:
        who = "" if os.geteuid() in {0, found.owner} else "as its owner, "
        why, hint = "is open to every user", f"{who}`chmod o-w {quote(found.place)}`.\nOr {elsewhere}"
    else:
        why, hint = "belongs to another user", elsewhere
    message = f"{found.place}, on the way to {path}, {why}: other folders could be put in the place of ours."
    return _bad(message, hint[0].upper() + hint[1:])


# --- accounts

_ACCOUNT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_SOCKETS = "run"
"""The folder of control sockets where it has to lie among the accounts': no account can have this name."""


def check_account_name(name: str) -> str:
    """Return `name`, or raise UserError USAGE: it becomes a file name and a part of the mount's name."""
    if not _ACCOUNT_NAME.fullmatch(name) or name == _SOCKETS:
        raise UserError(
            f"{name!r} cannot be the name of an account.",
            hint="Use up to 63 letters, digits, dots, hyphens and underscores, beginning with a letter or digit.",
            code=ExitCode.USAGE,
        )
    return name


def account_names(folders: Folders) -> list[str]:
    """Return the names of the accounts there are, sorted."""
    try:
        names = [path.stem for path in folders.accounts.iterdir() if path.suffix == ".toml"]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _unusable(folders.accounts, error) from error
    return sorted(name for name in names if _ACCOUNT_NAME.fullmatch(name))


def pick_account(folders: Folders, name: str | None) -> str:
    """Return the named account, or the only one there is; raises UserError NO_ACCOUNT."""
    names = account_names(folders)
    if name is not None and check_account_name(name) in names:
        return name
    if name is None and len(names) == 1:
        return names[0]
    if not names:
        raise _no_account("There is no account yet.", "Begin with `cloudfs login URL`.")
    known = ", ".join(names)
    if name is None:
        raise _no_account("There are several accounts.", f"Name one of them: {known}.")
    raise _no_account(f"There is no account {name}.", f"The accounts are: {known}.")


def load_account(folders: Folders, name: str) -> Account:
    """Read an account's file; raises UserError: NO_ACCOUNT, or BAD_CONFIG naming the file and the key."""
    path = folders.account_file(name)
    try:
        return accountfile.parse(path, path.read_bytes())
    except FileNotFoundError as error:
        raise _no_account(f"There is no account {name}.", "Make it with `cloudfs login`.") from error
    except OSError as error:
        raise _bad(f"{path} cannot be read: {error.strerror}.", "Make it a file of yours.") from error


def save_account(folders: Folders, name: str, account: Account) -> None:
    """Write the account's file, atomically."""
    write_private(folders.account_file(name), msgspec.toml.encode(account))


def remove_account(folders: Folders, name: str) -> None:
    """Remove everything of an account: state, cache and file. Nobody may have it mounted.

    Killed in between, it is still listed or wholly gone: no later account of this name finds a part of it. Never fails
    on what is missing. Raises UserError BAD_CONFIG where something cannot be removed.
    """
    try:
        doomed = [_set_aside(folder / check_account_name(name)) for folder in (folders.state, folders.cache)]
        folders.account_file(name).unlink(missing_ok=True)
        (folders.runtime / folders.socket_name(name)).unlink(missing_ok=True)
        for folder in doomed:
            _remove_tree(folder)
    except OSError as error:
        raise _bad(f"{error.filename} cannot be removed: {error.strerror}.", "Remove it by hand.") from error


_ASIDE = ".removed"


def _set_aside(folder: Path) -> Path:
    """Take a folder away in one step, under a name that no account can have; and what an earlier try has left."""
    aside = folder.with_name(f".{folder.name}{_ASIDE}")
    _remove_tree(aside)
    with suppress(FileNotFoundError):
        folder.rename(aside)
    return aside


def _remove_tree(folder: Path) -> None:
    """Remove a folder, maybe beside somebody else who does (`Folders.create`); raises OSError where something stays."""

    def note(_call: object, _path: str, error: tuple[type[BaseException], BaseException, object]) -> None:
        if not isinstance(error[1], FileNotFoundError):
            raise error[1]

    shutil.rmtree(folder, onerror=note)


# --- secrets


def write_secret(folders: Folders, name: str, secret: str) -> None:
    """Keep the account's app password, replacing the old one in one step."""
    folders.account_state(name)
    write_private(folders.secret_file(name), secret.encode() + b"\n")


def read_secret(folders: Folders, name: str) -> str:
    """Return the account's app password.

    Raises UserError BAD_CONFIG when it is missing, not ours, or was readable by others.
    """
    again = f"Log in again: `cloudfs login --account {name}`."
    return read_secret_file(folders.secret_file(name), again, f"{again} Then revoke the old password.")


def read_secret_file(path: Path, again: str, seen: str) -> str:
    """Return what a private file holds; raises as above.

    Next steps: `again` where it holds nothing usable, `seen` where others may have read it.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise _bad(f"The file {path} cannot be read: {error.strerror}.", again) from error
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            raise _bad(f"The file {path} is not a file of yours.", again)
        if stat.S_IMODE(found.st_mode) & 0o077:
            raise _bad(f"The file {path} is readable by others.", seen)
        raw = file.read(SECRET_MAX_BYTES + 1)
    secret = raw.decode(errors="replace").removesuffix("\n")
    if not secret or len(raw) > SECRET_MAX_BYTES or "\ufffd" in secret or "\n" in secret:
        raise _bad(f"The file {path} is damaged.", again)
    return secret


def write_private(path: Path, data: bytes) -> None:
    """Replace `path` by a 0600 file with `data`, in one step and durably; its folder must be private.

    Whatever was planted at `path` is replaced, never followed. Raises UserError BAD_CONFIG.
    """
    temporary = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    try:
        descriptor = os.open(
            temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(descriptor)
            temporary.rename(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
    except OSError as error:
        raise _bad(
            f"{path} cannot be written: {error.strerror}.", "Look at the folder and the disk."
        ) from error


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unusable(folder: Path, error: OSError) -> UserError:
    return _bad(f"The folder {folder} cannot be used: {error.strerror}.", "Make it a folder of yours.")


def _bad(message: str, hint: str) -> UserError:
    return UserError(message, hint=hint, code=ExitCode.BAD_CONFIG)


def _no_account(message: str, hint: str) -> UserError:
    return UserError(message, hint=hint, code=ExitCode.NO_ACCOUNT)
